//! What a client is told when it starts. Nothing here is read from the environment or from files.

use crate::watch::Doing;
use hydra_link::Timeouts;
use hydra_link::address::HostPort;
use hydra_proto::handshake::ClientKey;
use hydra_proto::job::{JobSpec, ROOT_LOOK};
use hydra_proto::message::{LogLine, RootView};
use hydra_proto::reduce::Reduce;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Makes what adds up the results of a job; fails where the plugin is unknown or refuses its options.
pub type MakeReducer = Arc<dyn Fn(&JobSpec) -> Result<Box<dyn Reduce>, String> + Send + Sync>;
/// Looks at a root, given by its local path. May block for ever, on a dead mount say.
pub type LookAtRoot = Arc<dyn Fn(&[u8]) -> RootView + Send + Sync>;
/// Reads from the bytes of a worker's slot what it is doing, or did last.
pub type DecodeSlot = Arc<dyn Fn(&[u8]) -> Option<Doing> + Send + Sync>;
/// Takes the lines of the workers' logs. Must not block.
pub type LogSink = Arc<dyn Fn(&LogLine) + Send + Sync>;
/// Is told where the client listens, once it does.
pub type OnListening = Arc<dyn Fn(SocketAddr) + Send + Sync>;

/// Everything that a client needs to know. [`Config::new`] has the defaults.
#[derive(Clone)]
pub struct Config {
    /// What the client calls itself. No default; the host's name, or `local` for the embedded one.
    pub name: String,
    /// How many workers it runs. Default 1; the command line's is the number of usable CPUs.
    pub workers: u32,
    /// How a worker is started. No default.
    pub worker: WorkerCommand,
    /// How it meets its servers. Default: listening at any address, port 8101. Not used by
    /// [`serve_embedded`](crate::serve_embedded).
    pub mode: Mode,
    /// End after one job. Default false.
    pub once: bool,
    /// The directories below which roots are served, as local paths. Default: empty, which means any.
    pub allow_roots: Vec<PathBuf>,
    /// The directories below which workers may write rows where the server asks for it, as local paths; `None`: anywhere,
    /// for the embedded client, whose own command line asks. Default: nowhere.
    pub allow_rows_dirs: Option<Vec<PathBuf>>,
    /// Which plugins that change the tree or run commands are served. Default: none.
    pub allow_plugins: Allow,
    /// Where the server's paths are on this host; the longest that fits counts. Default: none.
    pub maps: Vec<PathMap>,
    /// Proves to a server that this is its client, and back. Default: none, which only the embedded client
    /// can do without.
    pub key: Option<Arc<ClientKey>>,
    /// How long what may take.
    pub timings: Timings,
    /// Makes what adds up the results of a job. No default.
    pub make_reducer: MakeReducer,
    /// How a process is started that looks at roots, with [`look_at_roots`](crate::look_at_roots). No default.
    pub looker: WorkerCommand,
    /// Looks at roots of local file systems in this process, where the kernel knows the way to them: that needs no other
    /// process. Default: none, then that one looks at all.
    pub look_at_root: Option<LookAtRoot>,
    /// About how many bytes the items of a job may take here, before some go back to the server. Default 256 MiB.
    pub memory: u64,
    /// How large a worker's slot is, in bytes. Default 4096.
    pub slot_bytes: usize,
    /// Reads a worker's slot. No default.
    pub decode_slot: DecodeSlot,
    /// Takes the workers' log. Default: [`print_log_line`](crate::print_log_line).
    pub log_sink: LogSink,
    /// What workers log, in the words of `RUST_LOG`. Default `info`.
    pub log_filter: String,
    /// Called when the client listens. Default: nothing.
    pub on_listening: OnListening,
    /// This build, for people. Default: this crate's version.
    pub release: String,
}

impl Config {
    /// A configuration with the defaults, and what has none.
    #[must_use]
    pub fn new(
        name: String,
        worker: WorkerCommand,
        make_reducer: MakeReducer,
        looker: WorkerCommand,
        decode_slot: DecodeSlot,
    ) -> Self {
        Self {
            name,
            workers: 1,
            worker,
            mode: Mode::Listen(HostPort {
                host: "0.0.0.0".to_owned(),
                port: 8101,
            }),
            once: false,
            allow_roots: Vec::new(),
            allow_rows_dirs: Some(Vec::new()),
            allow_plugins: Allow::Only(Vec::new()),
            maps: Vec::new(),
            key: None,
            timings: Timings::default(),
            make_reducer,
            looker,
            look_at_root: None,
            memory: 256 << 20,
            slot_bytes: 4096,
            decode_slot,
            log_sink: Arc::new(crate::logs::print_log_line),
            log_filter: "info".to_owned(),
            on_listening: Arc::new(|_| {}),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .field("worker", &self.worker)
            .field("mode", &self.mode)
            .field("once", &self.once)
            .field("allow_roots", &self.allow_roots)
            .field("allow_rows_dirs", &self.allow_rows_dirs)
            .field("allow_plugins", &self.allow_plugins)
            .field("maps", &self.maps)
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}

/// How a worker, or what looks at roots, is started: see [`inherit`](crate::inherit) for what it finds.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The program; `/proc/self/exe` is this same build even after an upgrade.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to its environment.
    pub env: Vec<(OsString, OsString)>,
}

/// How a client meets its servers.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Servers dial it; it serves one after the other.
    Listen(HostPort),
    /// It dials the server, again and again until that answers.
    Connect(HostPort),
}

/// Which plugins that act are served.
#[derive(Clone, Debug)]
pub enum Allow {
    /// Any: for the embedded client, whose own command line asks for the plugin.
    All,
    /// Those named here.
    Only(Vec<String>),
}

impl Allow {
    /// Whether this plugin is among them.
    #[must_use]
    pub fn allows(&self, plugin: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| name == plugin),
        }
    }
}

/// A path of the server and where this host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMap {
    /// The path in the server's words.
    pub server: Vec<u8>,
    /// The same directory here.
    pub local: Vec<u8>,
}

/// How long what may take. The session's own periods come from the server with the job.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// For connecting, the handshake, and sending.
    pub link: Timeouts,
    /// For a worker to say Hello after its start. Default 10 s: a loaded host is slow to start programs.
    pub worker_start: Duration,
    /// For workers to end by themselves after they were told to. Default 300 ms; then they are killed.
    pub worker_stop: Duration,
    /// For one of the roots to answer, when they are looked at; for all, [`ROOT_LOOKS`](hydra_proto::job::ROOT_LOOKS)
    /// times as long. Default [`ROOT_LOOK`], which the server counts on.
    pub root_look: Duration,
    /// The longest pause between two tries to reach a server. Default 2 s.
    pub redial_max: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            link: Timeouts::default(),
            worker_start: Duration::from_secs(10),
            worker_stop: Duration::from_millis(300),
            root_look: ROOT_LOOK,
            redial_max: Duration::from_secs(2),
        }
    }
}
