//! What may be typed to the server. Defaults, conflicts and meanings are in [`super::server_config`].

use super::logging::LogArgs;
use super::values::{period, size};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The server's command line, without the plugin's options.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// Directories to walk
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
    /// Add the paths in FILE, one a line (-: standard input)
    #[arg(long, value_name = "FILE")]
    pub(super) paths_from: Vec<OsString>,
    /// The paths in --paths-from are separated by NUL
    #[arg(short = '0', requires = "paths_from")]
    pub(super) nul: bool,
    /// What to walk and how.
    #[command(flatten)]
    pub(super) walk: WalkArgs,
    /// Who walks.
    #[command(flatten)]
    pub(super) hosts: HostArgs,
    /// When to give up.
    #[command(flatten)]
    pub(super) times: TimeArgs,
    /// What comes out.
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// What survives.
    #[command(flatten)]
    pub(super) state: StateArgs,
    /// What is said meanwhile.
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// What survives this process.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "State")]
pub(super) struct StateArgs {
    /// Keep the job's state in DIR; should the server die, `resume DIR` goes on
    #[arg(long, value_name = "DIR", conflicts_with = "serial")]
    pub(super) state_dir: Option<PathBuf>,
    /// How well.
    #[command(flatten)]
    pub(super) durability: DurabilityArgs,
}

/// How well a job's state is kept.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "State")]
pub(super) struct DurabilityArgs {
    /// Whether that state survives the machine (fsync) or only the server (os)
    #[arg(
        long = "durability",
        value_name = "LEVEL",
        value_enum,
        default_value = "fsync",
        hide_possible_values = true
    )]
    pub(super) level: Level,
}

/// What durable means.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Level {
    /// The disk has it.
    Fsync,
    /// The operating system has it.
    Os,
}

/// How to walk.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Walk")]
pub(super) struct WalkArgs {
    /// Do not enter other file systems (a bind mount of the same one is entered, and counts again)
    #[arg(short = 'x', long)]
    pub(super) one_file_system: bool,
    /// Leave out what matches, by its path below its root; ** crosses directories
    #[arg(short = 'E', long, value_name = "GLOB")]
    pub(super) exclude: Vec<OsString>,
    /// Leave out what matches a glob in FILE, one a line, # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(super) exclude_from: Vec<OsString>,
    /// Enter snapshot directories (.snapshot, .snapshots, .zfs, .ckpt) too
    #[arg(long)]
    pub(super) enter_snapshots: bool,
    /// Enter the kernel's pseudo file systems (proc, sysfs ...) below a root too
    #[arg(long)]
    pub(super) enter_pseudo: bool,
    /// Let network file systems answer from their caches
    #[arg(long)]
    pub(super) lazy_stat: bool,
    /// Walk a root even on hosts that see something else there than the others do
    #[arg(long)]
    pub(super) trust_roots: bool,
    /// Put what a plugin is about to delete or run on the server's record first: after a crash nothing of that is
    /// unknown
    #[arg(long, conflicts_with = "serial")]
    pub(super) intent: bool,
    /// Walk in one thread of this process, to compare with
    #[arg(long, conflicts_with_all = ["clients", "hostfile", "listen", "workers", "min_clients",
          "wait", "forward_logs", "trust_roots", "lazy_stat", "connect_timeout", "handshake_timeout",
          "client_timeout", "beat", "dead_after", "grace", "lease", "frontier_memory",
          "commit_interval", "stall_timeout", "level"])]
    pub(super) serial: bool,
}

/// Who walks.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Hosts")]
pub(super) struct HostArgs {
    /// Workers on this host (default: one for each CPU). With other hosts: walk here too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) workers: Option<u32>,
    /// Dial these clients: host1,host2:8200,node[3-6]
    #[arg(long, value_name = "LIST")]
    pub(super) clients: Vec<String>,
    /// Dial the clients in FILE, one a line, # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(super) hostfile: Vec<OsString>,
    /// Let clients dial in (default address: 0.0.0.0:8102)
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(super) listen: Option<String>,
    /// Begin when N clients have dialled in, or with those that have after --client-timeout (default: one, if nobody
    /// else walks)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) min_clients: Option<u32>,
    /// How much memory directories that are still to be walked may take; what is more goes to a file, in --state-dir or
    /// /var/tmp (default: 1G)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) frontier_memory: Option<u64>,
    /// Wait for clients that are busy with another job: the walk begins with those that are free, and the others
    /// join it as they become free
    #[arg(long)]
    pub(super) wait: bool,
    /// Where the keys are (default: ~/.config/hydra)
    #[arg(long, value_name = "DIR")]
    pub(super) key_dir: Option<PathBuf>,
    /// Show the log messages of the clients' workers here
    #[arg(long)]
    pub(super) forward_logs: bool,
}

/// Periods and time-outs.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Times")]
pub(super) struct TimeArgs {
    /// How long to try to reach the clients of --clients and --hostfile
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "10s")]
    pub(super) connect_timeout: Duration,
    /// How long a peer may take to prove its key
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "3s")]
    pub(super) handshake_timeout: Duration,
    /// How long to wait for a client when none is left, or none has dialled in
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "5m")]
    pub(super) client_timeout: Duration,
    /// How often each side says that it lives (default: 1s, or a fifth of --dead-after if that is less)
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(super) beat: Option<Duration>,
    /// Silence after which a link counts as dead
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "5s")]
    pub(super) dead_after: Duration,
    /// How long a client may come back after that
    #[arg(long, value_name = "TIME", value_parser = super::values::duration, default_value = "15s")]
    pub(super) grace: Duration,
    /// How long a worker may change the tree after the server's last word (default: 8s, or two fifths of --dead-after
    /// and --grace together if that is less)
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(super) lease: Option<Duration>,
    /// The longest time between two commits of a worker
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "200ms")]
    pub(super) commit_interval: Duration,
    /// How long a system call of a worker may take before the worker is taken to hang, and replaced; a mount on which
    /// three in a row hang is left alone for as long, then tried again with pauses that double
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "5m")]
    pub(super) stall_timeout: Duration,
}

/// What comes out.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Print the report as one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// Write the plugin's rows to FILE as lines of JSON (-: standard output, instead of the report)
    #[arg(long, value_name = "FILE")]
    pub(super) rows: Option<PathBuf>,
    /// Write them to files in DIR, with a manifest that says what of them counts; clients that see DIR and were started
    /// with --allow-rows-dir write there themselves
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rows", "serial"])]
    pub(super) rows_dir: Option<PathBuf>,
}

/// The command line of `resume`.
#[derive(Clone, Debug, clap::Parser)]
#[command(about = "Go on with a job whose server died or was interrupted")]
pub(super) struct ResumeArgs {
    /// The job's --state-dir
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Who walks; as before, if nothing of it is said.
    #[command(flatten)]
    pub(super) hosts: HostArgs,
    /// How long to wait for a client when none is left (default: as before)
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(super) client_timeout: Option<Duration>,
    /// Print the report as one JSON document (default: as before)
    #[arg(long)]
    pub(super) json: bool,
    /// How well its state is kept.
    #[command(flatten)]
    pub(super) durability: DurabilityArgs,
    /// What is said meanwhile.
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// The command line of `status`.
#[derive(Clone, Debug, clap::Parser)]
#[command(about = "Say how far a job is, whether its server is running or not")]
pub(super) struct StatusArgs {
    /// The job's --state-dir
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Say it as one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// The command line of `keygen`.
#[derive(Clone, Debug, clap::Parser)]
#[command(about = "Make the keys of a server and its clients")]
pub(super) struct KeygenArgs {
    /// Where to put them (default: ~/.config/hydra)
    #[arg(long, value_name = "DIR")]
    pub(super) key_dir: Option<PathBuf>,
    /// What is said meanwhile.
    #[command(flatten)]
    pub(super) log: LogArgs,
}
