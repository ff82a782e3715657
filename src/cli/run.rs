//! Runs a resolved request to its end, and delivers what comes out.

use super::client_config::ClientConfig;
use super::clients;
use super::host;
use super::interrupt::Interrupt;
use super::logging;
use super::parse::KeygenConfig;
use super::server_config::{Mode, Output, ReportShape, RowsTo, ServerConfig};
use super::state::{self, ResumeConfig};
use crate::exit_codes::Exit;
use crate::keys;
use crate::plugin::ReportContext;
use crate::plugins::format::Style;
use crate::progress::{Progress, Screen, Snapshot, terminal_width};
use crate::registry::Registry;
use crate::report::{self, ClientRun, Ending, Outcome, Run, escape};
use crate::serial::{SerialError, Watch};
use anyhow::Context as _;
use hydra_proto::reduce::ReduceError;
use hydra_proto::walk::WalkSummary;
use hydra_proto::words::words;
use hydra_server::journal::{Durability, StateDir};
use hydra_server::{RowsStore, ServerError};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Nobody reads a report on a terminal that is narrower than that.
const WIDTH_MIN: usize = 40;

/// Does a server's job.
pub(super) fn server(name: &str, registry: &Registry, config: ServerConfig) -> Exit {
    let screen = Screen::new(name);
    logging::start(name, &config.log, &screen);
    match state::create(&config) {
        Ok(state) => serve(name, registry, &config, state, &screen),
        Err(error) => {
            screen.clear();
            complain(name, &told(error.as_ref()));
            Exit::Usage
        }
    }
}

/// Goes on with a job.
pub(super) fn resume(name: &str, registry: &Registry, config: ResumeConfig) -> Exit {
    let screen = Screen::new(name);
    logging::start(name, &config.log, &screen);
    match state::open(config, registry) {
        Ok((config, state)) => serve(name, registry, &config, Some(state), &screen),
        Err(error) => {
            screen.clear();
            complain(name, &told(error.as_ref()));
            Exit::Nothing
        }
    }
}

fn serve(
    name: &str,
    registry: &Registry,
    config: &ServerConfig,
    state: Option<StateDir>,
    screen: &Screen,
) -> Exit {
    let sinks = match open_sinks(config, state) {
        Ok(sinks) => sinks,
        Err(error) => {
            screen.clear();
            complain(name, &told(error.as_ref()));
            return Exit::Usage;
        }
    };
    let stop = Interrupt::watch();
    let outcome = match &config.mode {
        Mode::Serial => serial(config, screen, sinks.rows, &stop),
        Mode::Clients(clients) => {
            clients::walk(name, config, clients, registry, screen, sinks, stop)
        }
    };
    screen.clear();
    match outcome {
        Ok(outcome) => deliver(name, &outcome, &config.output),
        Err(error) if is_broken_pipe(&error) => Exit::Incomplete,
        Err(error) => {
            complain(name, &told(error.as_ref()));
            if let Some(state) = &config.state {
                let dir = escape(state.dir.as_os_str().as_bytes());
                complain(name, &format_args!("go on with: {name} resume {dir}"));
            }
            status_of(&error)
        }
    }
}

/// The status of a job without an outcome: whether it ended before anything was walked.
fn status_of(error: &anyhow::Error) -> Exit {
    let server = error.downcast_ref::<ServerError>();
    let serial = error.downcast_ref::<SerialError>();
    let kept = error.is::<ReduceError>() || error.is::<io::Error>();
    match (server, serial) {
        (
            Some(
                ServerError::Reduce { .. }
                | ServerError::Rows(_)
                | ServerError::RowsDir(_)
                | ServerError::Journal(_)
                | ServerError::PutAway(_),
            ),
            _,
        )
        | (_, Some(SerialError::Reduce(_) | SerialError::Rows(_))) => Exit::Incomplete,
        (_, Some(SerialError::Plugin(_) | SerialError::Glob(_))) => Exit::Usage,
        _ if kept => Exit::Incomplete,
        _ => Exit::Nothing,
    }
}

/// Serves jobs as a client, until it is told to stop.
pub(super) fn client(name: &str, registry: &Registry, config: ClientConfig) -> Exit {
    let screen = Screen::new(name);
    logging::start(name, &config.log, &screen);
    let served = host::serve(registry, config);
    screen.clear();
    match served {
        Ok(()) => Exit::Complete,
        Err(error) => {
            complain(name, &told(error.as_ref()));
            Exit::Nothing
        }
    }
}

/// Makes keys, and says where they are and what to do with them.
pub(super) fn keygen(name: &str, config: KeygenConfig) -> Exit {
    logging::start(name, &config.log, &Screen::new(name));
    let Some(dir) = config.key_dir else {
        let text = "there is no home directory to keep keys in: say where with --key-dir";
        complain(name, &text);
        return Exit::Usage;
    };
    if let Err(error) = keys::generate(&dir) {
        complain(name, &told(&error));
        return Exit::Nothing;
    }
    let client = keys::CLIENT_KEY_FILE;
    let [ours, theirs] =
        [keys::SERVER_KEY_FILE, client].map(|file| escape(dir.join(file).as_os_str().as_bytes()));
    // Who closed standard output does not want to know.
    let _ = writeln!(
        io::stdout(),
        "{ours} stays on this host.\nCopy {theirs} to every client's ~/.config/hydra/{client}."
    );
    Exit::Complete
}

/// Runs as a worker of a client.
pub(super) fn worker(registry: &Registry) -> Exit {
    match crate::worker::run_worker(registry) {
        Ok(()) => Exit::Complete,
        Err(error) => {
            complain("hydra-worker", &told(&error));
            Exit::Nothing
        }
    }
}

/// Looks at roots for a client.
pub(super) fn looker() -> Exit {
    match hydra_client::look_at_roots(Arc::new(super::host::look_at_root)) {
        Ok(()) => Exit::Complete,
        Err(error) => {
            complain(
                "hydra-client",
                &format_args!("the roots: {}", words(&error)),
            );
            Exit::Nothing
        }
    }
}

/// Prints what was asked for instead of a job: help, or the version.
pub(super) fn print_help(name: &str, text: &clap::Error) -> Exit {
    let printed = text.print().and_then(|()| io::stdout().flush());
    match printed {
        // Who closes the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let why = words(&error);
            complain(name, &format_args!("the help cannot be written: {why}"));
            Exit::Usage
        }
        _ => Exit::Complete,
    }
}

/// Says on standard error what is wrong. Where nobody can hear it, nothing is said.
pub(super) fn complain(name: &str, error: &dyn std::fmt::Display) {
    let text = error.to_string();
    let begin = format!("{name}: ");
    // A plugin may be called as its program, and have said so.
    let text = text.strip_prefix(&begin).unwrap_or(&text);
    // In one write: several processes may share standard error.
    let _ = io::stderr().write_all(format!("{begin}{text}\n").as_bytes());
}

/// An error with its causes, each told once: some tell the next one themselves. What the operating system says is told
/// in words, without its number.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let mut said = cause.to_string();
        if let Some(system) = cause.downcast_ref::<io::Error>() {
            let words = words(system);
            text = text.replace(&said, &words);
            said = words;
        }
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

fn serial(
    config: &ServerConfig,
    screen: &Screen,
    rows: Option<File>,
    stop: &Interrupt,
) -> anyhow::Result<Outcome> {
    stop.begin();
    let mut rows = rows.map(BufWriter::new);
    let start = Instant::now();
    let mut progress = Progress::new(screen, !config.log.quiet);
    let mut tick = |entries, open_directories| {
        progress.update(&Snapshot {
            entries,
            open_directories,
            busy: 1,
            workers: 1,
        });
    };
    let mut watch = Watch {
        rows: rows.as_mut().map(|rows| rows as &mut dyn Write),
        tick: &mut tick,
        interrupt: &|| stop.is_told(),
    };
    let (walked, reducer) = config.plugin.walk_serially(&config.job, &mut watch)?;
    // What is still in a buffer belongs to the results.
    rows.map_or(Ok(()), |mut rows| rows.flush())?;
    let elapsed = start.elapsed();
    drop(progress);
    let context = report_context(config, &walked.walk);
    let client = ClientRun {
        name: report::SERIAL.to_owned(),
        workers: 1,
        entries: walked.walk.entries,
        ..ClientRun::default()
    };
    Ok(Outcome {
        plugin: config.job.plugin.clone(),
        roots: config
            .job
            .roots
            .iter()
            .map(|root| root.path().to_vec())
            .collect(),
        ending: match walked.interrupted {
            true => Ending::Interrupted,
            false => Ending::Done,
        },
        report: reducer
            .report(&context)
            .context("the report cannot be made")?,
        walk: walked.walk,
        roots_walked: walked.roots_walked,
        roots_silent: 0,
        set_aside: Vec::new(),
        set_aside_count: 0,
        run: Run {
            elapsed,
            clients: vec![client],
            warnings: Vec::new(),
        },
    })
}

/// What the plugin's report may depend on besides its total.
pub(super) fn report_context(config: &ServerConfig, walk: &WalkSummary) -> ReportContext {
    let (width, color) = look(&config.output);
    ReportContext {
        width,
        color,
        walk: walk.clone(),
    }
}

/// How wide the report may be, and whether it may have colours: as the terminal that it goes to.
fn look(output: &Output) -> (usize, bool) {
    let (width, is_terminal) = match output.report {
        ReportShape::TextAside => (terminal_width(io::stderr()), io::stderr().is_terminal()),
        _ => (terminal_width(io::stdout()), io::stdout().is_terminal()),
    };
    let width = width.unwrap_or(80).max(WIDTH_MIN);
    (width, output.color && is_terminal)
}

/// What a job writes besides its report.
pub(super) struct Sinks {
    /// The file or pipe for rows.
    pub(super) rows: Option<File>,
    /// Takes the rows too, if there is one.
    pub(super) state: Option<StateDir>,
    /// Where rows go that are too many for a commit.
    pub(super) rows_dir: Option<RowsStore>,
}

fn open_sinks(config: &ServerConfig, state: Option<StateDir>) -> anyhow::Result<Sinks> {
    let rows = config.output.rows.as_ref();
    if let Some(RowsTo::Dir(path)) = rows {
        return open_rows_dir(config, state, path);
    }
    Ok(match (state, rows) {
        (Some(state), Some(RowsTo::File(path))) => Sinks {
            rows: None,
            state: Some(state.with_rows(state::open_rows(path)?)),
            rows_dir: None,
        },
        (state, rows) => Sinks {
            rows: open_rows(rows)?,
            state,
            rows_dir: None,
        },
    })
}

/// The directory for rows, made for a new job, or as the journal says.
fn open_rows_dir(
    config: &ServerConfig,
    state: Option<StateDir>,
    path: &Path,
) -> anyhow::Result<Sinks> {
    let is_remote = match &config.mode {
        Mode::Clients(clients) => !clients.hosts.is_empty() || clients.listen.is_some(),
        Mode::Serial => false,
    };
    let durability = config.state.as_ref().map(|state| state.durability);
    // Other hosts see what one has written when it has told its disk, or the file server.
    let sync = is_remote || durability == Some(Durability::Fsync);
    let opened = match &config.job.rows {
        Some(spec) => RowsStore::open(spec),
        None => RowsStore::create(&std::path::absolute(path)?, sync),
    };
    let rows_dir = opened.context("--rows-dir")?;
    // Without a journal to be written behind they are written there like all others.
    let state = match state {
        Some(state) => Some(state.with_rows(rows_dir.streamed().context("--rows-dir")?)),
        None => None,
    };
    Ok(Sinks {
        rows: None,
        state,
        rows_dir: Some(rows_dir),
    })
}

fn open_rows(rows: Option<&RowsTo>) -> anyhow::Result<Option<File>> {
    Ok(match rows {
        None | Some(RowsTo::Dir(_)) => None,
        // A copy: who waits for the reader has no lock of the original.
        Some(RowsTo::Stdout) => Some(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        Some(RowsTo::File(path)) => {
            let shown = escape(path.as_os_str().as_bytes());
            let file =
                File::create(path).with_context(|| format!("--rows: cannot write {shown}"))?;
            Some(file)
        }
    })
}

/// Prints the report and decides the status.
fn deliver(name: &str, outcome: &Outcome, output: &Output) -> Exit {
    let exit = Exit::decide(outcome);
    if exit == Exit::Nothing && output.report != ReportShape::Json {
        // A report of zeros would hide why.
        let warned = tracing::enabled!(target: "hydra_server", tracing::Level::WARN);
        complain(name, &report::nothing(outcome, warned));
        return exit;
    }
    match exit {
        Exit::Interrupted if output.report == ReportShape::Json => {
            complain(name, &report::interrupted(outcome));
        }
        Exit::Incomplete if output.report == ReportShape::Json => {
            complain(name, &report::incomplete(outcome));
        }
        _ => {}
    }
    let mut text = Vec::new();
    let made = match output.report {
        ReportShape::Json => report::write_json(outcome, &mut text),
        ReportShape::Text | ReportShape::TextAside => {
            let (width, color) = look(output);
            report::write_text(outcome, width, Style { color }, &mut text)
        }
    };
    let written = made.and_then(|()| match output.report {
        ReportShape::TextAside => io::stderr().write_all(&text),
        ReportShape::Text | ReportShape::Json => {
            let mut out = io::stdout().lock();
            out.write_all(&text).and_then(|()| out.flush())
        }
    });
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let why = words(&error);
            complain(name, &format_args!("the report cannot be written: {why}"));
            Exit::Incomplete
        }
        _ => exit,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut errors = error
        .chain()
        .filter_map(|error| error.downcast_ref::<io::Error>());
    errors.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_in_the_message_already_is_not_told_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot listen: {0}")]
        struct Listen(#[source] io::Error);
        let error = anyhow::Error::new(Listen(io::Error::other("no"))).context("the start failed");
        assert_eq!(told(error.as_ref()), "the start failed: cannot listen: no");
    }

    #[test]
    fn errors_of_the_operating_system_were_told_with_their_numbers() {
        let error = anyhow::Error::new(io::Error::from_raw_os_error(nix::libc::ENOENT));
        let error = error.context("--rows: cannot write /x");
        assert_eq!(
            told(error.as_ref()),
            "--rows: cannot write /x: no such file or directory"
        );
    }
}
