//! A server's job done by clients: joins the configuration, the keys and the plugin with `hydra-server`.

use super::host;
use super::interrupt::Interrupt;
use super::run::{Sinks, report_context};
use super::sentence::severity;
use super::server_config::{Clients, ServerConfig};
use crate::keys;
use crate::progress::{Progress, Screen, Snapshot};
use crate::registry::{Registry, lend};
use crate::report::{Outcome, Run, escape};
use anyhow::Context as _;
use hydra_link::{Connection, Timeouts};
use hydra_proto::handshake::Key;
use hydra_proto::message::LogLine;
use std::sync::Arc;
use tokio::net::UnixStream;
use tracing::Level;

/// Has clients do the job of the program `name`.
pub(super) fn walk(
    name: &str,
    config: &ServerConfig,
    clients: &Clients,
    registry: &Registry,
    screen: &Screen,
    sinks: Sinks,
    interrupt: Interrupt,
) -> anyhow::Result<Outcome> {
    let (reducer, lent) = lend(config.plugin.reducer(&config.job.options)?);
    let mut job = config.job.clone();
    job.rows = sinks.rows_dir.as_ref().map(|dir| dir.spec().clone());
    let server = hydra_server::Config {
        job,
        clients: clients.hosts.clone(),
        listen: clients.listen.clone(),
        min_clients: usize::try_from(clients.min_clients)?,
        client_timeout: clients.client_timeout,
        timeouts: Timeouts {
            connect: clients.connect_timeout,
            handshake: clients.handshake_timeout,
            ..Timeouts::default()
        },
        wait: clients.wait,
        key: match clients.hosts.is_empty() && clients.listen.is_none() {
            true => None,
            false => Some(key(clients)?),
        },
        embedded: None,
        reducer,
        state: sinks.state,
        memory: clients.frontier_memory,
        rows: sinks.rows,
        rows_dir: sinks.rows_dir,
        progress: Some(progress(config, screen)),
        logs: clients.forward_logs.then(|| logs(name, config, screen)),
        release: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("the server cannot start")?;
    let outcome = runtime.block_on(serve(server, config, clients, registry, interrupt));
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    let outcome = outcome?;
    let report = lent.report(&report_context(config, &outcome.walk));
    Ok(Outcome {
        plugin: config.job.plugin.clone(),
        roots: config
            .job
            .roots
            .iter()
            .map(|root| root.path().to_vec())
            .collect(),
        roots_walked: outcome.roots_walked,
        roots_silent: outcome.roots_silent,
        ending: outcome.ending,
        walk: outcome.walk,
        report: report.context("the report cannot be made")?,
        set_aside: outcome.set_aside,
        set_aside_count: outcome.set_aside_count,
        run: Run {
            elapsed: outcome.elapsed,
            clients: outcome.clients,
            warnings: outcome.warnings,
        },
    })
}

/// Runs the server, and beside it the client of this host, if it has one.
async fn serve(
    mut server: hydra_server::Config,
    config: &ServerConfig,
    clients: &Clients,
    registry: &Registry,
    interrupt: Interrupt,
) -> anyhow::Result<hydra_server::Outcome> {
    let Some(workers) = clients.embedded_workers else {
        return Ok(hydra_server::run(server, interrupt.told()).await?);
    };
    let (ours, theirs) = UnixStream::pair().context("the embedded client cannot be connected")?;
    server.embedded = Some(Connection::plain(ours, &server.timeouts));
    let connection = Connection::plain(theirs, &server.timeouts);
    let client = host::embedded(workers, clients.frontier_memory, registry, &config.log);
    let walking = hydra_client::serve_embedded(connection, client, std::future::pending());
    let serving = hydra_server::run(server, interrupt.told());
    let (walked, outcome) = tokio::join!(walking, serving);
    if let Err(error) = walked {
        tracing::debug!("the embedded client: {error}");
    }
    Ok(outcome?)
}

fn key(clients: &Clients) -> anyhow::Result<Arc<Key>> {
    let dir = clients.key_dir.as_deref();
    let dir =
        dir.context("there is no home directory to keep keys in: say where with --key-dir")?;
    let (key, is_new) = keys::load_or_generate(dir)?;
    if is_new {
        let client = keys::CLIENT_KEY_FILE;
        let made = escape(dir.join(client).as_os_str().as_encoded_bytes());
        tracing::warn!("made new keys: copy {made} to every client's ~/.config/hydra/{client}");
    }
    Ok(Arc::new(key.into()))
}

fn progress(config: &ServerConfig, screen: &Screen) -> hydra_server::ProgressSink {
    let mut progress = Progress::new(screen, !config.log.quiet);
    Box::new(move |now| {
        progress.update(&Snapshot {
            entries: now.entries,
            open_directories: now.frontier,
            busy: now.busy,
            workers: now.workers,
        });
    })
}

fn logs(name: &str, config: &ServerConfig, screen: &Screen) -> hydra_server::LogSink {
    let (name, detailed, screen) = (name.to_owned(), config.log.detailed, screen.clone());
    Box::new(move |client, line| {
        let line = log_line(client, line, detailed);
        screen.message(&format!("{name}: {line}"));
    })
}

fn log_line(client: &str, line: &LogLine, detailed: bool) -> String {
    let level = match line.level {
        0 | 1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let LogLine { worker, pid, .. } = line;
    let (client, target) = (escape(client.as_bytes()), escape(line.target.as_bytes()));
    let text = escape(line.text.as_bytes());
    let whose = format!("client {client}, worker {worker} (pid {pid}):");
    match detailed {
        true => format!("{level} {whose} {target}: {text}"),
        false => format!("{}{whose} {text}", severity(level)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_s_log_line_says_whose_it_is_and_does_no_harm() {
        let line = LogLine {
            worker: 3,
            pid: 77,
            level: 2,
            target: "hydra_worker".into(),
            text: "slow: /a\x1b[2J".into(),
        };
        assert_eq!(
            log_line("host1", &line, false),
            "warning: client host1, worker 3 (pid 77): slow: /a\\x1b[2J"
        );
        assert_eq!(
            log_line("host1", &line, true),
            "WARN client host1, worker 3 (pid 77): hydra_worker: slow: /a\\x1b[2J"
        );
    }
}
