//! Jobs that survive their server: what has to be remembered to go on with one, and what can be said of one.

use super::environment::Environment;
use super::error::UsageError;
use super::logging::{LogConfig, Usual};
use super::run::{complain, told};
use super::server_args::ResumeArgs;
use super::server_config::{
    self, Clients, Mode, Output, ReportShape, RowsTo, ServerConfig, StateConfig,
};
use crate::exit_codes::Exit;
use crate::registry::Registry;
use crate::report::{AsideLine, escape, missing_part};
use anyhow::{Context as _, bail};
use hydra_link::address::HostPort;
use hydra_proto::codec;
use hydra_server::journal::{self, Durability, StateDir, Status};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to go on with a job.
#[derive(Clone, Debug)]
pub struct ResumeConfig {
    /// Its state directory.
    pub dir: PathBuf,
    /// What counts as durable.
    pub durability: Durability,
    /// Who walks from now on; those who did before, if nobody is named.
    pub clients: Option<Clients>,
    /// Bytes of memory for what is still to be walked, if not as before.
    pub frontier_memory: Option<u64>,
    /// Whether to print the report as JSON even if that was not asked for before.
    pub json: bool,
    /// How long to wait for a client when none is left, if not as before.
    pub client_timeout: Option<Duration>,
    /// Whether colours are welcome.
    pub color: bool,
    /// Which messages are shown.
    pub log: LogConfig,
}

/// What to say of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusConfig {
    /// Its state directory.
    pub dir: PathBuf,
    /// Whether to say it as JSON.
    pub json: bool,
}

/// What a journal keeps for this module: everything of a [`ServerConfig`] that clients are not told.
#[derive(Serialize, Deserialize)]
struct Note {
    embedded_workers: Option<u32>,
    hosts: Vec<(String, u16)>,
    listen: Option<(String, u16)>,
    min_clients: u32,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    client_timeout: Duration,
    frontier_memory: u64,
    wait: bool,
    key_dir: Option<Vec<u8>>,
    forward_logs: bool,
    json: bool,
    rows: Option<Vec<u8>>,
}

/// Resolves the command line of `resume`.
pub(super) fn resolve(
    args: ResumeArgs,
    environment: &Environment,
) -> Result<ResumeConfig, UsageError> {
    let hosts = &args.hosts;
    let says_who =
        !hosts.clients.is_empty() || !hosts.hostfile.is_empty() || hosts.listen.is_some();
    let frontier_memory = hosts.frontier_memory;
    let clients = match says_who || hosts.workers.is_some() {
        true => Some(server_config::clients(args.hosts, environment)?),
        false => None,
    };
    Ok(ResumeConfig {
        dir: args.dir,
        durability: args.durability.level.into(),
        clients,
        frontier_memory,
        json: args.json,
        client_timeout: args.client_timeout,
        color: !environment.no_color,
        log: args
            .log
            .resolve(Usual::Warnings, environment.rust_log.clone())?,
    })
}

/// Makes the state directory of a new job, if it shall have one.
pub(super) fn create(config: &ServerConfig) -> anyhow::Result<Option<StateDir>> {
    let (Some(state), Mode::Clients(clients)) = (&config.state, &config.mode) else {
        return Ok(None);
    };
    let mut note = Vec::new();
    codec::store(&note_of(clients, &config.output)?, &mut note)?;
    let created = StateDir::create(&state.dir, state.durability, note);
    Ok(Some(created.context("--state-dir")?))
}

/// Opens the state directory of a job to go on with.
pub(super) fn open(
    config: ResumeConfig,
    registry: &Registry,
) -> anyhow::Result<(ServerConfig, StateDir)> {
    let state = StateDir::open(&config.dir, config.durability)?;
    let job = state.job().context("the journal names no job")?.clone();
    let Some(plugin) = registry.get(&job.plugin) else {
        let plugin = escape(job.plugin.as_bytes());
        bail!("this program has no plugin '{plugin}', which the job is done with");
    };
    let (note, _) = codec::load::<Note>(state.note()).context("the journal is of another build")?;
    let mut output = note.output(config.json, config.color);
    if let Some(rows) = &job.rows {
        let path = OsStr::from_bytes(&rows.path);
        output.rows = Some(RowsTo::Dir(path.into()));
    }
    let before = note.clients();
    let clients = Clients {
        connect_timeout: before.connect_timeout,
        handshake_timeout: before.handshake_timeout,
        client_timeout: config.client_timeout.unwrap_or(before.client_timeout),
        frontier_memory: config.frontier_memory.unwrap_or(before.frontier_memory),
        ..config.clients.unwrap_or(before)
    };
    let server = ServerConfig {
        plugin: plugin.clone(),
        job,
        mode: Mode::Clients(clients),
        output,
        state: Some(StateConfig {
            dir: config.dir,
            durability: config.durability,
        }),
        log: config.log,
    };
    Ok((server, state))
}

/// Opens the file for rows without touching what is in it: the journal knows how much of it counts.
pub(super) fn open_rows(path: &Path) -> anyhow::Result<File> {
    let shown = escape(path.as_os_str().as_bytes());
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = opened.with_context(|| format!("--rows: cannot write {shown}"))?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => bail!("--rows: with --state-dir rows need a plain file, and {shown} is none"),
    }
}

/// Prints how far a job is.
pub(super) fn status(name: &str, config: &StatusConfig) -> Exit {
    let status = match journal::status(&config.dir) {
        Ok(status) => status,
        Err(error) => {
            complain(name, &told(&error));
            return Exit::Nothing;
        }
    };
    let text = match config.json {
        true => format!("{:#}\n", json(&status)),
        false => text(&status),
    };
    // Who closed standard output does not want to know.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Exit::Complete
}

fn note_of(clients: &Clients, output: &Output) -> anyhow::Result<Note> {
    let pair = |host: &HostPort| (host.host.clone(), host.port);
    let absolute = |path: &PathBuf| -> anyhow::Result<Vec<u8>> {
        Ok(std::path::absolute(path)?.into_os_string().into_vec())
    };
    Ok(Note {
        embedded_workers: clients.embedded_workers,
        hosts: clients.hosts.iter().map(pair).collect(),
        listen: clients.listen.as_ref().map(pair),
        min_clients: clients.min_clients,
        connect_timeout: clients.connect_timeout,
        handshake_timeout: clients.handshake_timeout,
        client_timeout: clients.client_timeout,
        frontier_memory: clients.frontier_memory,
        wait: clients.wait,
        key_dir: clients.key_dir.as_ref().map(absolute).transpose()?,
        forward_logs: clients.forward_logs,
        json: output.report == ReportShape::Json,
        rows: match &output.rows {
            Some(RowsTo::File(path)) => Some(absolute(path)?),
            // The journal says where that is.
            Some(RowsTo::Dir(_) | RowsTo::Stdout) | None => None,
        },
    })
}

impl Note {
    fn clients(self) -> Clients {
        let host = |(host, port)| HostPort { host, port };
        Clients {
            embedded_workers: self.embedded_workers,
            hosts: self.hosts.into_iter().map(host).collect(),
            listen: self.listen.map(host),
            min_clients: self.min_clients,
            connect_timeout: self.connect_timeout,
            handshake_timeout: self.handshake_timeout,
            client_timeout: self.client_timeout,
            frontier_memory: self.frontier_memory,
            wait: self.wait,
            key_dir: self.key_dir.map(|dir| OsString::from_vec(dir).into()),
            forward_logs: self.forward_logs,
        }
    }

    fn output(&self, json: bool, color: bool) -> Output {
        let rows = self.rows.as_deref().map(OsStr::from_bytes);
        Output {
            report: match json || self.json {
                true => ReportShape::Json,
                false => ReportShape::Text,
            },
            rows: rows.map(|path| RowsTo::File(path.into())),
            color,
        }
    }
}

fn state_of(status: &Status) -> &'static str {
    match (status.done, status.running) {
        (true, _) => "done",
        (false, true) => "running",
        (false, false) => "stopped",
    }
}

fn json(status: &Status) -> serde_json::Value {
    let shown = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    let sessions = status.sessions.iter();
    let aside = status.set_aside.iter();
    serde_json::json!({
        "job": format!("{:016x}", status.job),
        "plugin": status.plugin,
        "roots": status.roots.iter().map(shown).collect::<Vec<_>>(),
        "state": state_of(status),
        "resumed": status.resumed,
        "entries": status.walk.entries,
        "directories": status.walk.directories,
        "errors": status.walk.error_count(),
        "items": { "done": status.items.done, "open": status.items.pool + status.items.owned,
                   "pool": status.items.pool, "owned": status.items.owned, "aside": status.items.aside },
        "clients": sessions.map(|session| serde_json::json!({
            "name": session.client, "items": session.items })).collect::<Vec<_>>(),
        "set_aside": aside.map(AsideLine::new).collect::<Vec<_>>(),
        "journal_bytes": status.journal_bytes,
    })
}

fn text(status: &Status) -> String {
    let roots: Vec<String> = status.roots.iter().map(|root| escape(root)).collect();
    let mut text = format!(
        "{} {}: {}\n",
        status.plugin,
        roots.join(" "),
        state_of(status)
    );
    let open = status.items.pool + status.items.owned;
    // Writing to a string cannot fail.
    let _ = writeln!(text, "entries    {}", status.walk.entries);
    let _ = writeln!(text, "errors     {}", status.walk.error_count());
    let _ = writeln!(
        text,
        "items      {} done, {open} open ({} with clients), {} set aside",
        status.items.done, status.items.owned, status.items.aside
    );
    let _ = writeln!(text, "resumed    {} times", status.resumed);
    let _ = writeln!(text, "journal    {} bytes", status.journal_bytes);
    for session in &status.sessions {
        let name = escape(session.client.as_bytes());
        let _ = writeln!(text, "client     {name}: {} items", session.items);
    }
    for aside in &status.set_aside {
        let _ = writeln!(text, "set aside  {}", missing_part(aside));
    }
    let more = status
        .items
        .aside
        .saturating_sub(status.set_aside.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "set aside  ... and {more} more");
    }
    text
}
