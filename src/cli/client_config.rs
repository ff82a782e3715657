//! What the client needs to know: the command line with defaults filled in and conflicts found.

use super::client_args::ClientArgs;
use super::environment::Environment;
use super::error::UsageError;
use super::logging::{LogConfig, Usual};
use super::paths::absolute;
use super::server_config::{CLIENT_PORT, SERVER_PORT, listen_text};
use super::values::ValueError;
use crate::registry::Registry;
use crate::report::escape;
use hydra_link::address::HostPort;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The longest name of a client, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// How to be a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Who dials.
    pub direction: Direction,
    /// Whether to end after one job.
    pub once: bool,
    /// How many workers to run.
    pub workers: u32,
    /// Bytes of memory for what is still to be walked.
    pub frontier_memory: u64,
    /// What it calls itself.
    pub name: String,
    /// Where the server's paths are found here: (as the server says, as it is here).
    pub maps: Vec<(Vec<u8>, Vec<u8>)>,
    /// Paths below which it serves; empty for all.
    pub allow_roots: Vec<Vec<u8>>,
    /// Paths below which its workers may write rows; empty for none.
    pub allow_rows_dirs: Vec<Vec<u8>>,
    /// Plugins that it serves although they act.
    pub allow_plugins: Vec<String>,
    /// Where the key is; none without a home and an option.
    pub key_dir: Option<PathBuf>,
    /// How long to try to reach the server.
    pub connect_timeout: Duration,
    /// How long a peer may take to prove its key.
    pub handshake_timeout: Duration,
    /// Which messages are shown.
    pub log: LogConfig,
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Servers do.
    Listen(HostPort),
    /// The client does.
    Connect(HostPort),
}

/// Resolves a parsed command line.
///
/// # Errors
/// When it is wrong usage, in words.
pub(super) fn resolve(
    args: ClientArgs,
    registry: &Registry,
    environment: &Environment,
) -> Result<ClientConfig, UsageError> {
    let log = args
        .log
        .resolve(Usual::Events, environment.rust_log.clone())?;
    let direction = match (args.listen, args.connect) {
        (_, Some(host)) => {
            let parsed = HostPort::parse_peer(&host, SERVER_PORT);
            let option = "--connect".to_owned();
            let error = |source| UsageError::Address { option, source };
            Direction::Connect(parsed.map_err(error)?)
        }
        (listen, None) => Direction::Listen(listen_text(&listen.unwrap_or_default(), CLIENT_PORT)?),
    };
    let mut maps = Vec::new();
    for text in &args.map {
        maps.push(mapping(text)?);
    }
    let mut allow_roots = Vec::new();
    for path in &args.allow_root {
        allow_roots.push(absolute(path, environment.cwd()?)?);
    }
    let mut allow_rows_dirs = Vec::new();
    for path in &args.allow_rows_dir {
        allow_rows_dirs.push(absolute(path, environment.cwd()?)?);
    }
    for plugin in &args.allow {
        if registry.get(plugin).is_none() {
            let known: Vec<_> = registry.iter().map(|plugin| plugin.name()).collect();
            let (plugin, known) = (escape(plugin.as_bytes()), known.join(", "));
            let text = format!("--allow: there is no plugin '{plugin}'; there are: {known}");
            return Err(UsageError::Options(text));
        }
    }
    Ok(ClientConfig {
        direction,
        once: args.once,
        workers: args.workers.unwrap_or(environment.cpus),
        frontier_memory: args.frontier_memory,
        name: client_name(args.name.unwrap_or_else(|| environment.host_name.clone()))?,
        maps,
        allow_roots,
        allow_rows_dirs,
        allow_plugins: args.allow,
        key_dir: args.key_dir.or_else(|| environment.key_dir.clone()),
        connect_timeout: args.connect_timeout,
        handshake_timeout: args.handshake_timeout,
        log,
    })
}

fn mapping(text: &OsStr) -> Result<(Vec<u8>, Vec<u8>), UsageError> {
    let bytes = text.as_bytes();
    let wrong = || ValueError::Map(escape(bytes));
    let middle = bytes.iter().position(|&b| b == b'=').ok_or_else(wrong)?;
    let (from, to) = bytes.split_at(middle);
    let clean = |path: &[u8]| match path.starts_with(b"/") {
        true => absolute(OsStr::from_bytes(path), std::path::Path::new("/")),
        false => Err(wrong().into()),
    };
    Ok((clean(from)?, clean(to.get(1..).unwrap_or_default())?))
}

fn client_name(name: String) -> Result<String, UsageError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let text = "--name must be 1 to 255 bytes long, without control characters";
        return Err(UsageError::Options(text.to_owned()));
    }
    Ok(name)
}
