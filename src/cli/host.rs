//! The client on this host, embedded or on its own: joins the configuration, the plugins and the worker's looks
//! at roots with `hydra-client`.

use super::client_config::{ClientConfig, Direction};
use super::interrupt::Signals;
use super::logging::LogConfig;
use crate::keys;
use crate::registry::Registry;
use crate::worker::{LOOKER_ARGUMENT, WORKER_ARGUMENT};
use anyhow::Context as _;
use hydra_client::{Allow, Config, Doing, Mode, PathMap, WorkerCommand};
use hydra_proto::ids::ItemId;
use hydra_proto::message::{RootFacts, RootView};
use hydra_worker::errno;
use hydra_worker::sys::mount;
use hydra_worker::sys::open::Opener;
use hydra_worker::sys::slot::{self, Call, SLOT_BYTES};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

/// The client inside a server may have so much less memory for what is still to be walked than the server.
const EMBEDDED_SHARE: u64 = 4;

/// The client inside a server: allows what the server's own command line asks for.
pub(super) fn embedded(
    workers: u32,
    frontier_memory: u64,
    registry: &Registry,
    log: &LogConfig,
) -> Config {
    let mut config = client("local".to_owned(), workers, registry);
    config.allow_plugins = Allow::All;
    config.allow_rows_dirs = None;
    config.memory = frontier_memory / EMBEDDED_SHARE;
    config.log_filter.clone_from(&log.filter);
    config
}

/// Runs a client on its own, until it is interrupted or, with `--once`, a job is over.
pub(super) fn serve(registry: &Registry, config: ClientConfig) -> anyhow::Result<()> {
    let dir = config.key_dir.as_deref();
    let dir =
        dir.context("there is no home directory to keep keys in: say where with --key-dir")?;
    let key = keys::load_client(dir)?;
    let mut client = client(config.name, config.workers, registry);
    client.key = Some(Arc::new(key));
    client.mode = match config.direction {
        Direction::Listen(address) => Mode::Listen(address),
        Direction::Connect(address) => Mode::Connect(address),
    };
    client.once = config.once;
    client.memory = config.frontier_memory;
    client.maps = config
        .maps
        .into_iter()
        .map(|(server, local)| PathMap { server, local })
        .collect();
    let roots = config.allow_roots.into_iter();
    client.allow_roots = roots.map(|root| OsString::from_vec(root).into()).collect();
    let dirs = config.allow_rows_dirs.into_iter();
    client.allow_rows_dirs = Some(dirs.map(|dir| OsString::from_vec(dir).into()).collect());
    client.allow_plugins = Allow::Only(config.allow_plugins);
    client.timings.link.connect = config.connect_timeout;
    client.timings.link.handshake = config.handshake_timeout;
    client.log_filter = config.log.filter;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("the client cannot start")?;
    let outcome = runtime.block_on(async { hydra_client::run(client, stop()).await });
    // A mount that does not answer must not hold up the end.
    runtime.shutdown_background();
    Ok(outcome?)
}

/// Is ready when the program is told to stop, by the user or by the system.
async fn stop() {
    match Signals::new() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// How a client of this program starts workers, adds up and looks at roots.
pub(super) fn client(name: String, workers: u32, registry: &Registry) -> Config {
    let plugins = registry.clone();
    let make_reducer = move |job: &hydra_proto::job::JobSpec| match plugins.get(&job.plugin) {
        Some(plugin) => plugin.merger(job).map_err(|error| error.to_string()),
        None => Err(format!(
            "this client has no plugin '{}': it is not the same build as the server",
            job.plugin
        )),
    };
    let started = |role: &str| WorkerCommand {
        program: "/proc/self/exe".into(),
        args: vec![role.into()],
        env: Vec::new(),
    };
    let mut config = Config::new(
        name,
        started(WORKER_ARGUMENT),
        Arc::new(make_reducer),
        started(LOOKER_ARGUMENT),
        Arc::new(decode_slot),
    );
    config.look_at_root = Some(Arc::new(look_at_root));
    config.workers = workers;
    config.slot_bytes = SLOT_BYTES;
    config.release = env!("CARGO_PKG_VERSION").to_owned();
    config
}

fn decode_slot(bytes: &[u8]) -> Option<Doing> {
    let view = slot::decode(bytes)?;
    let about_name = !matches!(view.call, None | Some(Call::List));
    // Rows lie elsewhere than what is walked.
    let directory = view.directory.filter(|_| view.call != Some(Call::Write));
    let name = view.path.filter(|_| about_name);
    Some(Doing {
        item: view.item.map(ItemId),
        progress: view.progress,
        call: view.call.map(Call::name),
        directory,
        name: name.map(|path| path.bytes).unwrap_or_default(),
    })
}

/// What a root is, for the process that looks at roots.
pub(super) fn look_at_root(path: &[u8]) -> RootView {
    match look(Path::new(OsStr::from_bytes(path))) {
        Ok(facts) => RootView::Seen(facts),
        Err(code) => RootView::Missing {
            kind: errno::name(code),
            message: errno::message(code),
        },
    }
}

fn look(path: &Path) -> Result<RootFacts, i32> {
    let opener = Opener::probe().map_err(|_| rustix::io::Errno::NOSYS.raw_os_error())?;
    let facts = mount::root_facts(&opener, path).map_err(|errno| errno.raw_os_error())?;
    let system = mount::root_facts(&opener, Path::new("/"));
    Ok(RootFacts {
        on_system_disk: system.is_ok_and(|system| system.file_system == facts.file_system),
        fs_type: facts.file_system.kind,
        fs_id: String::from_utf8_lossy(&facts.file_system.id).into_owned(),
        inode: facts.ino,
        directory: facts.kind == rustix::fs::FileType::Directory,
    })
}
