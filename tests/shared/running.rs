//! A process whose output and messages are in files, so that it can be killed and looked at in peace.

use crate::pids::ends_within;
use rustix::process::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A command that runs in `dir`, and takes nothing from whoever runs the tests.
pub(crate) fn program(path: &Path, dir: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .current_dir(dir);
    command
}

/// A running process. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Running {
    /// Starts it. Its files are `name.out` and `name.log` in `dir`; what an earlier one has written there is gone.
    pub(crate) fn start(dir: &Path, name: &str, mut command: Command) -> Self {
        let [out, log] = ["out", "log"].map(|end| dir.join(format!("{name}.{end}")));
        let child = command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}: {command:?}"));
        Self { child, out, log }
    }

    /// The port at which it says that it listens, on this host.
    pub(crate) fn port(&self) -> u16 {
        for _ in 0..10_000 {
            let log = self.log();
            let address = log.split_once("listening address=127.0.0.1:");
            if let Some((port, _)) = address.and_then(|(_, rest)| rest.split_once('\n')) {
                return port.trim().parse().unwrap();
            }
            assert!(!self.ends_within(Duration::from_millis(10)), "{log}");
        }
        panic!("it does not listen");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        ends_within(self.pid(), time)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it leaves when it ends, which it does in this time.
    pub(crate) fn finish(mut self, limit: Duration) -> Output {
        assert!(self.ends_within(limit), "no end: {}", self.log());
        Output {
            status: self.child.wait().unwrap(),
            stdout: fs::read(&self.out).unwrap(),
            stderr: self.log().into_bytes(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, where all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
