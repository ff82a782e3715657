//! The server's side: the library as it is, with one root and a plugin that counts.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hydra_link::Timeouts;
use hydra_link::address::HostPort;
use hydra_proto::handshake::{KEY_BYTES, Key, ServerKey};
use hydra_proto::job::{JobSpec, RootSpec, Timing};
use hydra_proto::reduce::{Merger, Summary};
use hydra_server::Config;
use serde::{Deserialize, Serialize};

/// What the clients' plugin adds up; as large as that of `count`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    /// Sums.
    pub(super) numbers: [u64; 8],
}

impl Summary for Found {
    fn merge(&mut self, other: Self) {
        for (number, other) in self.numbers.iter_mut().zip(other.numbers) {
            *number = number.saturating_add(other);
        }
    }
}

/// A job for `clients` clients that dial. Reads the server's private key and PSK from standard input,
/// prints its port, ends when the input does, and prints how many commits and grants there were.
///
/// # Errors
///
/// When the job fails.
pub fn serve(clients: usize, window: u32) -> anyhow::Result<()> {
    crate::totals::raise_open_files();
    let mut secrets = [[0; KEY_BYTES]; 2];
    let mut input = std::io::stdin();
    for secret in &mut secrets {
        input.read_exact(secret).context("read the key")?;
    }
    let key = Key::from(ServerKey::new(&secrets[0], &secrets[1])?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Given up before the server takes it: the library does not tell which port it was given.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Whatever comes, the end or an error, is the end.
        let _ = std::io::stdin().read(&mut [0]);
        let _ = ended.send(());
    });
    println!("{port}");
    std::io::stdout().flush()?;
    let interrupt = async {
        let _ = end.await;
    };
    let outcome = runtime.block_on(hydra_server::run(
        config(clients, window, port, key),
        interrupt,
    ))?;
    let sum = |number: fn(&hydra_server::ClientRun) -> u64| -> u64 {
        outcome.clients.iter().map(number).sum()
    };
    let report = serde_json::json!({
        "commits": sum(|client| client.commits), "grants": sum(|client| client.grants),
    });
    println!("{report}");
    Ok(())
}

fn config(clients: usize, window: u32, port: u16, key: Key) -> Config {
    let host = "127.0.0.1".to_owned();
    Config {
        job: JobSpec {
            plugin: "bench".to_owned(),
            roots: vec![RootSpec::default()],
            timing: Timing {
                commit_window: window,
                // A server that is asked for all it can do answers late, and that is no reason to give up.
                dead_after: Duration::from_secs(60),
                ..Timing::default()
            },
            ..JobSpec::default()
        },
        clients: Vec::new(),
        listen: Some(HostPort { host, port }),
        min_clients: clients,
        client_timeout: Duration::from_secs(300),
        timeouts: Timeouts {
            handshake: Duration::from_secs(60),
            send: Duration::from_secs(60),
            ..Timeouts::default()
        },
        wait: false,
        key: Some(Arc::new(key)),
        embedded: None,
        reducer: Box::new(Merger::<Found>::default()),
        state: None,
        memory: 1 << 30,
        rows: None,
        rows_dir: None,
        progress: None,
        logs: None,
        release: "bench".to_owned(),
    }
}
