//! The rig for the coordinator: one real server, and thousands of clients that only pretend to walk.
//!
//! ```text
//!   hydra_server::run, one thread,        loopback, Noise        threads with many clients each:
//!   in a process of its own        ◄─────────────────────────►   the real child ledger over an
//!   (CPU and memory from /proc)                                  implicit tree, no workers
//! ```
//!
//! Clients speak the whole protocol: Hello, Ready, beats, grants taken, items shed, commits no faster
//! than the window allows. The journal is off. What a client does between two commits is arithmetic, so
//! the server is asked for as much as it can do.

mod client;
mod server;
mod usage;

pub use server::serve;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hydra_proto::handshake::{KEY_BYTES, ServerKey};
use serde::Serialize;
use serde_json::Value;

use crate::implicit::ImplicitTree;
use client::{Crowd, Shared};
use usage::Usage;

/// How long to wait after the last client has come, before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long clients may take to get anywhere.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The tree that the clients pretend to walk.
    pub tree: ImplicitTree,
    /// How many clients.
    pub clients: usize,
    /// How long to count.
    pub period: Duration,
    /// Directories that a client walks between two commits.
    pub items_per_commit: usize,
    /// Commits of one client that may be on their way.
    pub window: u32,
    /// Threads for the clients.
    pub threads: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Clients that took part.
    pub clients: usize,
    /// Directories that a client walked between two commits.
    pub items_per_commit: usize,
    /// Commits acknowledged in a second.
    pub commits_per_second: f64,
    /// Grants that reached clients in a second.
    pub grants_per_second: f64,
    /// Requests to shed that reached clients in a second.
    pub sheds_per_second: f64,
    /// User and system time of the server for one commit, in microseconds.
    pub server_cpu_microseconds_per_commit: f64,
    /// Commits that one core would do, if the server had nothing to wait for.
    pub commits_per_core_second: f64,
    /// Cores that the server used; near 1 it was the limit.
    pub server_cores: f64,
    /// Cores that the clients used; near their number of threads they were the limit.
    pub client_cores: f64,
    /// Memory of the server before any client came, in bytes.
    pub server_bytes_at_start: u64,
    /// What a client costs that is connected and has no work yet, in bytes.
    pub server_bytes_per_idle_client: u64,
    /// What a client costs at the end of the run, its items on record included, in bytes.
    pub server_bytes_per_busy_client: u64,
    /// The time from the first dial until all clients but one were welcomed, in seconds.
    pub joining_seconds: f64,
}

/// Starts a server (`program` with `arguments`, which must end up in [`serve`]) and drives it.
///
/// # Errors
///
/// When the server or a client fails, or the tree ends before the period does.
pub fn measure(
    settings: &Settings,
    program: &Path,
    arguments: &[String],
) -> anyhow::Result<Outcome> {
    crate::totals::raise_open_files();
    let key = ServerKey::generate().context("make a key")?;
    let mut server = Server::start(program, arguments, &key)?;
    let at_start = Usage::of(server.pid())?;
    let shared = Arc::new(Shared::new(settings, server.port, key.client_key()));
    let began = Instant::now();
    // All but one: before the last has come no work is granted.
    let first = settings.clients - 1;
    let crowd = Crowd::start(&shared, settings.threads, first)?;
    wait(&shared, || shared.welcomed.load(Relaxed) >= first as u64)?;
    let joining = began.elapsed();
    let idle = Usage::of(server.pid())?;
    let last = Crowd::start(&shared, 1, 1)?;
    wait(&shared, || shared.granted.load(Relaxed) > 0)?;
    pause(&shared, WARM_UP)?;

    let before = (shared.counts(), Usage::of(server.pid())?, Usage::own()?);
    let start = Instant::now();
    pause(&shared, settings.period)?;
    let after = (shared.counts(), Usage::of(server.pid())?, Usage::own()?);
    let seconds = start.elapsed().as_secs_f64();

    let [commits, grants, sheds] = [0, 1, 2].map(|index| (after.0[index] - before.0[index]) as f64);
    ensure!(commits > 0.0, "no commit was acknowledged");
    let server_cpu = after.1.cpu_seconds - before.1.cpu_seconds;
    let each = |bytes: u64, clients: usize| {
        bytes.saturating_sub(at_start.resident_bytes) / clients.max(1) as u64
    };
    server.end(&shared)?;
    crowd.join()?;
    last.join()?;
    Ok(Outcome {
        clients: settings.clients,
        items_per_commit: settings.items_per_commit,
        commits_per_second: commits / seconds,
        grants_per_second: grants / seconds,
        sheds_per_second: sheds / seconds,
        server_cpu_microseconds_per_commit: server_cpu * 1e6 / commits,
        commits_per_core_second: commits / server_cpu,
        server_cores: server_cpu / seconds,
        client_cores: (after.2.cpu_seconds - before.2.cpu_seconds) / seconds,
        server_bytes_at_start: at_start.resident_bytes,
        server_bytes_per_idle_client: each(idle.resident_bytes, first),
        server_bytes_per_busy_client: each(after.1.resident_bytes, settings.clients),
        joining_seconds: joining.as_secs_f64(),
    })
}

/// Waits until it is so.
fn wait(shared: &Shared, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    ensure!(shared.wait(PATIENCE, is_so)?, "the clients do not get on");
    Ok(())
}

/// Lets `period` pass, unless something fails meanwhile.
fn pause(shared: &Shared, period: Duration) -> anyhow::Result<()> {
    shared.wait(period, || false).map(drop)
}

/// The server's process. Killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(program: &Path, arguments: &[String], key: &ServerKey) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the server")?;
        let mut server = Self { child, port: 0 };
        let input = server.child.stdin.as_mut().context("the server's input")?;
        let secrets: [&[u8; KEY_BYTES]; 2] = [key.private(), key.psk()];
        for secret in secrets {
            input.write_all(secret).context("give the server its key")?;
        }
        let output = server
            .child
            .stdout
            .as_mut()
            .context("the server's output")?;
        let mut line = String::new();
        BufReader::with_capacity(1, output)
            .read_line(&mut line)
            .context("read the server's port")?;
        server.port = line.trim().parse().context("the server's port")?;
        Ok(server)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts the job, and compares what the server added up with what clients know.
    fn end(&mut self, shared: &Shared) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let output = self.child.stdout.take().context("the server's output")?;
        let report: Value = serde_json::from_reader(output).context("read what the server did")?;
        let commits = report["commits"].as_u64().unwrap_or_default();
        let acknowledged = shared.counts()[0];
        ensure!(
            commits >= acknowledged,
            "the server knows of {commits} commits, and has acknowledged {acknowledged}"
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
