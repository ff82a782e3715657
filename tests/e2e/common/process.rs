//! A process that is watched: what it says, when it ends, and that it does end.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, Seek};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// A running process. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: File,
    lines: Receiver<String>,
    said: String,
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts it with its standard output in a file and its standard error watched.
    pub(crate) fn start(command: Command) -> Self {
        let stdout = tempfile::tempfile().unwrap();
        let theirs = stdout.try_clone().unwrap();
        Self::start_into(command, theirs.into(), stdout)
    }

    /// The same with its standard output in a pipe, which nobody reads but the caller.
    pub(crate) fn start_piped(command: Command) -> (Self, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let process = Self::start_into(command, writer.into(), tempfile::tempfile().unwrap());
        (process, reader)
    }

    fn start_into(mut command: Command, into: Stdio, stdout: File) -> Self {
        command.stdout(into).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{error}: {command:?}"));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdout,
            lines,
            said: String::new(),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it says something with `part` in it, from now on.
    pub(crate) fn line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.next_line(deadline) {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => panic!("it ended without {part:?}: {}", tail(&self.said)),
            }
        }
    }

    fn next_line(&mut self, deadline: Instant) -> Option<String> {
        let rest = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(rest) {
            Ok(line) => {
                self.said.push_str(&line);
                self.said.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("nothing within {LIMIT:?}: {}", tail(&self.said))
            }
        }
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Waits for its end, and for the end of all that it said.
    pub(crate) fn finish(mut self) -> Ran {
        let deadline = Instant::now() + LIMIT;
        // Who holds its standard error still, has outlived it.
        while self.next_line(deadline).is_some() {}
        self.end()
    }

    /// Waits for its end, and not for those that it has left behind.
    pub(crate) fn end(mut self) -> Ran {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        let timeout = Timespec::try_from(LIMIT).unwrap();
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout));
        assert_eq!(ended, Ok(1), "it does not end: {}", tail(&self.said));
        let status = self.child.wait().unwrap();
        for line in self.lines.try_iter() {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        let mut stdout = Vec::new();
        self.stdout.rewind().unwrap();
        self.stdout.read_to_end(&mut stdout).unwrap();
        let ran = Ran {
            status: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: std::mem::take(&mut self.said),
        };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("RUST_BACKTRACE"), "{}", ran.stderr);
        ran
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// The one JSON document on standard output.
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }

    pub(crate) fn assert_status(&self, status: i32) -> &Self {
        assert_eq!(
            self.status,
            Some(status),
            "{}{}",
            tail(&self.stderr),
            self.stdout
        );
        self
    }

    pub(crate) fn assert_says(&self, part: &str) -> &Self {
        assert!(
            self.stderr.contains(part),
            "{part:?} in: {}",
            tail(&self.stderr)
        );
        self
    }
}

/// The end of a long log.
fn tail(log: &str) -> String {
    let lines = log.lines().rev().take(20);
    let mut lines: Vec<String> = lines.map(|line| line.chars().take(300).collect()).collect();
    lines.reverse();
    lines.join("\n")
}
