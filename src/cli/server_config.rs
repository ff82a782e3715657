//! What the server needs to know: the command line with defaults filled in, files read and conflicts found.

use super::environment::Environment;
use super::error::UsageError;
use super::logging::{LogConfig, Usual};
use super::paths;
use super::server_args::{HostArgs, Level, OutputArgs, ServerArgs, TimeArgs, WalkArgs};
use super::values::listen_address;
use crate::registry::AnyPlugin;
use crate::report::escape;
use clap::ArgMatches;
use hydra_link::address::{AddressError, HostPort, parse_hostfile, parse_hosts};
use hydra_proto::job::{JobSpec, Timing, WalkOptions};
use hydra_server::journal::Durability;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The port that servers listen on.
pub(super) const SERVER_PORT: u16 = 8102;
/// The port that clients listen on.
pub(super) const CLIENT_PORT: u16 = 8101;
/// The most roots of a job: what a client says of them all goes in one message.
const ROOTS_MAX: usize = 100_000;
/// The most bytes that roots and globs of a job may take in the message that tells it, each root as it is shown and as
/// it is on a host, where its path may be longer.
const JOB_BYTES_MAX: usize = 12 << 20;
/// Bytes of memory for what is still to be walked.
const FRONTIER_MEMORY: u64 = 1 << 30;

/// A server's job and how to do it.
#[derive(Clone)]
pub struct ServerConfig {
    /// The plugin.
    pub plugin: Arc<dyn AnyPlugin>,
    /// What goes to clients and workers.
    pub job: JobSpec,
    /// Who walks.
    pub mode: Mode,
    /// What comes out.
    pub output: Output,
    /// Where the job's state is kept, if it is to survive this process.
    pub state: Option<StateConfig>,
    /// Which messages are shown.
    pub log: LogConfig,
}

/// Where and how well a job's state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// The directory.
    pub dir: PathBuf,
    /// What counts as durable.
    pub durability: Durability,
}

/// Who walks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One thread of this process.
    Serial,
    /// Clients.
    Clients(Clients),
}

/// Which clients, and how patient to be with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Workers of the client in this process; none if only other hosts walk.
    pub embedded_workers: Option<u32>,
    /// Clients to dial, each once.
    pub hosts: Vec<HostPort>,
    /// Where clients may dial in.
    pub listen: Option<HostPort>,
    /// How many clients must have dialled in before work begins.
    pub min_clients: u32,
    /// How long to try to reach clients.
    pub connect_timeout: Duration,
    /// How long a peer may take to prove its key.
    pub handshake_timeout: Duration,
    /// How long to wait for a client when none is left.
    pub client_timeout: Duration,
    /// Bytes of memory for what is still to be walked.
    pub frontier_memory: u64,
    /// Whether to wait for clients that are busy.
    pub wait: bool,
    /// Where the keys are; none without a home and an option.
    pub key_dir: Option<PathBuf>,
    /// Whether to show the log messages of workers.
    pub forward_logs: bool,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The report's shape on standard output.
    pub report: ReportShape,
    /// Where rows go.
    pub rows: Option<RowsTo>,
    /// Whether colours are welcome, should standard output be a terminal.
    pub color: bool,
}

/// The report's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportShape {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// On standard error, for people: rows have standard output.
    TextAside,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowsTo {
    /// Standard output.
    Stdout,
    /// A file, which is replaced.
    File(PathBuf),
    /// Files in a directory.
    Dir(PathBuf),
}

impl From<Level> for Durability {
    fn from(level: Level) -> Self {
        match level {
            Level::Fsync => Self::Fsync,
            Level::Os => Self::Os,
        }
    }
}

/// Resolves a parsed command line.
///
/// # Errors
/// When it is wrong usage, in words.
pub(super) fn resolve(
    args: ServerArgs,
    matches: &ArgMatches,
    plugin: &Arc<dyn AnyPlugin>,
    environment: &Environment,
) -> Result<ServerConfig, UsageError> {
    let log = args
        .log
        .resolve(Usual::Warnings, environment.rust_log.clone())?;
    let roots = paths::roots(all_paths(&args, environment)?);
    let walk = walk_options(&args.walk, &**plugin)?;
    let timing = timing(&args.times)?;
    let mode = match args.walk.serial {
        true => Mode::Serial,
        false => Mode::Clients(Clients {
            connect_timeout: args.times.connect_timeout,
            handshake_timeout: args.times.handshake_timeout,
            client_timeout: args.times.client_timeout,
            ..clients(args.hosts, environment)?
        }),
    };
    let output = output(args.output, environment)?;
    if output.rows.is_some() && !plugin.has_rows() {
        let name = plugin.name();
        let option = match output.rows {
            Some(RowsTo::Dir(_)) => "--rows-dir",
            _ => "--rows",
        };
        return Err(UsageError::Options(format!(
            "{option} cannot be used with {name}: it has no rows, only a report (--json)"
        )));
    }
    if args.state.state_dir.is_some() && output.rows == Some(RowsTo::Stdout) {
        let text = "--rows - cannot be used with --state-dir: what is printed cannot be taken back";
        return Err(UsageError::Options(text.to_owned()));
    }
    let job = JobSpec {
        rows: None,
        plugin: plugin.name().to_owned(),
        options: plugin.read_options(matches, environment.now)?,
        acts: plugin.acts(),
        roots,
        walk,
        timing,
    };
    if !matches!(mode, Mode::Serial) {
        check_size(&job)?;
    }
    Ok(ServerConfig {
        plugin: Arc::clone(plugin),
        job,
        mode,
        output,
        state: args.state.state_dir.map(|dir| StateConfig {
            dir,
            durability: args.state.durability.level.into(),
        }),
        log,
    })
}

/// Whether the job can be told to a client in one message, and the client can say what it sees of each root.
fn check_size(job: &JobSpec) -> Result<(), UsageError> {
    let too_large = |what: &str, how: &str| {
        Err(UsageError::Options(format!(
            "{what} are too many for one job: {how}"
        )))
    };
    let roots = job.roots.iter().map(|root| {
        let stops = root.stops.iter().map(|stop| 10 + stop.len());
        20 + root.shown.len() + root.local.len() + stops.sum::<usize>()
    });
    let (roots, count) = (roots.sum::<usize>(), job.roots.len());
    let excludes: usize = job.walk.excludes.iter().map(|glob| 10 + glob.len()).sum();
    if count > ROOTS_MAX || roots > JOB_BYTES_MAX {
        let what = format!("the {count} roots, {} MiB of paths,", roots >> 20);
        let how = "walk the directories that they are in, or some of them at a time";
        return too_large(&what, how);
    }
    if roots + excludes > JOB_BYTES_MAX {
        let what = format!("the {} globs", job.walk.excludes.len());
        return too_large(&what, "leave some out, or make them shorter");
    }
    Ok(())
}

fn all_paths(args: &ServerArgs, environment: &Environment) -> Result<Vec<Vec<u8>>, UsageError> {
    let absolute = |path: &OsStr| match path.as_bytes().starts_with(b"/") {
        // A working directory that is gone does no harm then.
        true => paths::root(path, Path::new("/")),
        false => paths::root(path, environment.cwd()?),
    };
    let mut all = Vec::new();
    for path in &args.paths {
        all.push(absolute(path)?);
    }
    for file in &args.paths_from {
        for path in paths::read_paths(file, args.nul)? {
            all.push(absolute(&path)?);
        }
    }
    match all.is_empty() {
        true => Err(UsageError::NoPath),
        false => Ok(all),
    }
}

fn walk_options(args: &WalkArgs, plugin: &dyn AnyPlugin) -> Result<WalkOptions, UsageError> {
    if args.lazy_stat && plugin.acts() {
        let name = plugin.name();
        return Err(UsageError::Options(format!(
            "--lazy-stat cannot be used with {name}: what changes the tree must see it as it is"
        )));
    }
    if args.intent && !plugin.acts() {
        let name = plugin.name();
        return Err(UsageError::Options(format!(
            "--intent cannot be used with {name}: it does nothing that could be put on record before"
        )));
    }
    let mut excludes = Vec::new();
    for glob in &args.exclude {
        excludes.push(glob_text(glob)?);
    }
    for file in &args.exclude_from {
        for glob in paths::read_lines("--exclude-from", file)? {
            excludes.push(glob_text(OsStr::new(&glob))?);
        }
    }
    check_globs(&excludes)?;
    Ok(WalkOptions {
        one_file_system: args.one_file_system,
        excludes,
        snapshots: args.enter_snapshots,
        pseudo: args.enter_pseudo,
        lazy_stat: args.lazy_stat,
        trust_roots: args.trust_roots,
        intents: args.intent,
    })
}

/// Checks a glob. A slash at its end, as people write for directories, is dropped, and a `./` before it: paths have
/// none there.
fn glob_text(glob: &OsStr) -> Result<String, UsageError> {
    let wrong = |reason: String| UsageError::Glob {
        glob: escape(glob.as_bytes()),
        reason,
    };
    let text = glob
        .to_str()
        .ok_or_else(|| wrong("it is not UTF-8".to_owned()))?;
    let trimmed = text.trim_end_matches('/').trim_start_matches("./");
    if trimmed.is_empty() {
        return Err(wrong("it matches nothing".to_owned()));
    }
    if trimmed.starts_with('/') {
        let reason = "paths are compared without the root, so it cannot begin with '/'";
        return Err(wrong(reason.to_owned()));
    }
    if let Some(name) = unmatched_name(trimmed) {
        let reason = match name {
            "" => "it matches nothing: no path has two slashes side by side".to_owned(),
            name => format!("it matches nothing: no path has '{name}' in it"),
        };
        return Err(wrong(reason));
    }
    let parsed = parse_glob(trimmed);
    parsed.map_err(|error| wrong(error.kind().to_string()))?;
    Ok(trimmed.to_owned())
}

/// A name in `glob`, outside of braces, that no path below a root has: paths have no `.`, no `..` and no empty names.
fn unmatched_name(glob: &str) -> Option<&str> {
    let mut before = String::new();
    glob.split('/').find(|name| {
        let within = before.matches(['{', '[']).count() > before.matches(['}', ']']).count();
        before.push_str(name);
        !within && matches!(*name, "" | "." | "..")
    })
}

fn parse_glob(glob: &str) -> Result<globset::Glob, globset::Error> {
    let mut builder = globset::GlobBuilder::new(glob);
    builder.literal_separator(true).empty_alternates(true);
    builder.build()
}

/// Whether these globs, each of them good, can be looked for at once.
fn check_globs(globs: &[String]) -> Result<(), UsageError> {
    let mut set = globset::GlobSetBuilder::new();
    for glob in globs.iter().filter_map(|glob| parse_glob(glob).ok()) {
        set.add(glob);
    }
    match set.build() {
        Ok(_) => Ok(()),
        Err(_) => Err(UsageError::Options(format!(
            "the {} globs of --exclude and --exclude-from are too many or too long to be looked for at once: leave \
             some out, or make them shorter",
            globs.len()
        ))),
    }
}

fn timing(args: &TimeArgs) -> Result<Timing, UsageError> {
    let wrong = |text: String| Err(UsageError::Options(text));
    let usual = Timing::default();
    let beat = args.beat.unwrap_or(usual.beat.min(args.dead_after / 5));
    if args.dead_after <= beat {
        return wrong(format!(
            "--dead-after ({:?}) must be longer than --beat ({beat:?}), or every link counts as dead",
            args.dead_after
        ));
    }
    let given_up = args.dead_after.saturating_add(args.grace);
    let lease = args.lease.unwrap_or(usual.lease.min(given_up * 2 / 5));
    if lease >= given_up {
        return wrong(format!(
            "--lease ({lease:?}) must be shorter than --dead-after and --grace together ({given_up:?}), or a lost \
             worker could still act on what another has got"
        ));
    }
    Ok(Timing {
        beat,
        dead_after: args.dead_after,
        grace: args.grace,
        lease,
        commit_interval: args.commit_interval,
        stall: args.stall_timeout,
        ..Timing::default()
    })
}

/// Who walks, with no patience yet.
pub(super) fn clients(args: HostArgs, environment: &Environment) -> Result<Clients, UsageError> {
    let hosts = hosts(&args)?;
    let listen = args
        .listen
        .map(|text| listen_text(&text, SERVER_PORT))
        .transpose()?;
    let network = !hosts.is_empty() || listen.is_some();
    if args.min_clients.is_some() && listen.is_none() {
        let text = "--min-clients counts clients that dial in: add --listen";
        return Err(UsageError::Options(text.to_owned()));
    }
    if args.wait && hosts.is_empty() {
        let text = "--wait waits for clients that are dialled and busy: add --clients";
        return Err(UsageError::Options(text.to_owned()));
    }
    let embedded_workers = match network {
        true => args.workers,
        false => Some(args.workers.unwrap_or(environment.cpus)),
    };
    // Where others walk as well, nobody need dial in.
    let needed = u32::from(listen.is_some() && hosts.is_empty() && embedded_workers.is_none());
    Ok(Clients {
        embedded_workers,
        hosts,
        listen,
        min_clients: args.min_clients.unwrap_or(needed),
        connect_timeout: Duration::ZERO,
        handshake_timeout: Duration::ZERO,
        client_timeout: Duration::ZERO,
        frontier_memory: args.frontier_memory.unwrap_or(FRONTIER_MEMORY),
        wait: args.wait,
        key_dir: args.key_dir.or_else(|| environment.key_dir.clone()),
        forward_logs: args.forward_logs,
    })
}

/// The clients to dial, in the order in which they were named.
fn hosts(args: &HostArgs) -> Result<Vec<HostPort>, UsageError> {
    let mut hosts = Vec::new();
    let mut seen = HashSet::new();
    let mut add = |option: String, parsed: Result<Vec<HostPort>, AddressError>| {
        let parsed = parsed.map_err(|source| UsageError::Address { option, source })?;
        hosts.extend(parsed.into_iter().filter(|host| seen.insert(host.clone())));
        Ok::<_, UsageError>(())
    };
    for list in &args.clients {
        add("--clients".to_owned(), parse_hosts(list, CLIENT_PORT))?;
    }
    for file in &args.hostfile {
        let text = paths::read_text("--hostfile", file)?;
        let option = format!("--hostfile {}", escape(file.as_bytes()));
        add(option, parse_hostfile(&text, CLIENT_PORT))?;
    }
    Ok(hosts)
}

/// The value of `--listen`, which is empty where none was written.
pub(super) fn listen_text(text: &str, port: u16) -> Result<HostPort, UsageError> {
    let address = match text {
        "" => SocketAddr::from(([0, 0, 0, 0], port)),
        text => listen_address(text, port)?,
    };
    Ok(HostPort {
        host: address.ip().to_string(),
        port: address.port(),
    })
}

fn output(args: OutputArgs, environment: &Environment) -> Result<Output, UsageError> {
    let rows = args.rows.map(|path| match path.as_os_str().as_bytes() {
        b"-" => RowsTo::Stdout,
        _ => RowsTo::File(path),
    });
    let rows = rows.or(args.rows_dir.map(RowsTo::Dir));
    let report = match (args.json, &rows) {
        (true, Some(RowsTo::Stdout)) => {
            let text = "--json and --rows - both want standard output: write the rows to a file";
            return Err(UsageError::Options(text.to_owned()));
        }
        (true, _) => ReportShape::Json,
        (false, Some(RowsTo::Stdout)) => ReportShape::TextAside,
        (false, _) => ReportShape::Text,
    };
    Ok(Output {
        report,
        rows,
        color: !environment.no_color,
    })
}
