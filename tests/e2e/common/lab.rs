//! A place for one test: a directory, keys, and the commands that use them.

use super::oracle::without_run;
use super::process::{LIMIT, Process, Ran};
use crate::pids::{left_over, pids_with};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Ages in all reports are measured from here, so that they can be compared.
pub(crate) const REFERENCE_TIME: &str = "2000000000";
/// What marks the processes of one lab.
const MARK: &str = "HYDRA_LAB";

static LABS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Lab {
    dir: TempDir,
    mark: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// A lab in memory, if there is such a place: for trees that take long to remove from a disk.
    pub(crate) fn in_memory() -> Self {
        Self::on(tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    fn on(dir: TempDir) -> Self {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            dir,
            mark: format!("{MARK}={}-{number}.", std::process::id()),
        };
        let mut keygen = lab.command(env!("CARGO_BIN_EXE_hydra-server"));
        keygen.arg("keygen").arg("--key-dir").arg(lab.keys());
        assert!(keygen.output().unwrap().status.success());
        lab
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.path("keys")
    }

    /// The environment variable that all processes of this lab have, as `NAME=VALUE`.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let (name, value) = self.mark.split_once('=').unwrap();
        command.env(name, value).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// A server without plugin or paths.
    pub(crate) fn server(&self) -> Command {
        let mut server = self.command(env!("CARGO_BIN_EXE_hydra-server"));
        server.arg("--json").arg("--key-dir").arg(self.keys());
        server
    }

    /// A server that audits; paths are missing.
    pub(crate) fn audit(&self) -> Command {
        let mut server = self.server();
        server.args(["--reference-time", REFERENCE_TIME]);
        server
    }

    /// A client without a direction.
    pub(crate) fn client(&self) -> Command {
        let mut client = self.command(env!("CARGO_BIN_EXE_hydra-client"));
        client.args(["-v", "--key-dir"]).arg(self.keys());
        client
    }

    /// A client that listens, and its address.
    pub(crate) fn listen(&self, more: &[&str]) -> (Process, String) {
        let mut client = self.client();
        client.args(["--listen", "127.0.0.1:0"]).args(more);
        if !more.contains(&"--workers") {
            client.args(["--workers", "2"]);
        }
        listening(client)
    }

    /// Several of them, and their addresses as a list for `--clients`.
    pub(crate) fn listen_all(&self, count: usize, more: &[&str]) -> (Vec<Process>, String) {
        let clients = (0..count).map(|_| self.listen(more));
        let (processes, addresses): (Vec<_>, Vec<_>) = clients.unzip();
        (processes, addresses.join(","))
    }

    /// An example that plays a role, with this lab's keys.
    pub(crate) fn example(&self, name: &str, role: &[&str]) -> Command {
        let test = std::env::current_exe().unwrap();
        let target = test.parent().and_then(Path::parent).unwrap();
        let program = target.join("examples").join(name);
        assert!(program.exists(), "cargo build --examples comes first");
        let mut command = self.command(program);
        command.args(role).arg("--key-dir").arg(self.keys());
        command
    }

    /// The report of one thread, without its `run`.
    pub(crate) fn serial(&self, more: &[&str], paths: &[&Path]) -> Value {
        let mut server = self.audit();
        server.arg("--serial").args(more).args(paths);
        without_run(Process::start(server).finish().report())
    }

    /// The report of this host alone, without its `run`.
    pub(crate) fn alone(&self, more: &[&str], paths: &[&Path]) -> Value {
        let mut server = self.audit();
        server.args(["--workers", "3"]).args(more).args(paths);
        without_run(Process::start(server).finish().report())
    }

    pub(crate) fn run(&self, server: Command) -> Ran {
        Process::start(server).finish()
    }

    /// All processes that were started in this lab, and all that they have started, come to an end.
    pub(crate) fn assert_nobody_left(&self) {
        let left = left_over(&self.mark, LIMIT);
        assert!(left.is_empty(), "processes are left over: {left:?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pid in pids_with(&self.mark) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // Some trees are too deep for the recursion of a temporary directory's own removal.
        let _ = Command::new("rm").arg("-rf").arg(self.path("")).status();
    }
}

/// Starts a client that listens, and waits until it does.
pub(crate) fn listening(client: Command) -> (Process, String) {
    let mut process = Process::start(client);
    let line = process.line("listening address=");
    let address = line.rsplit('=').next().unwrap().to_owned();
    (process, address)
}
