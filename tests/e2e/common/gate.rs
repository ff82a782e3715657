//! A place in the middle of a job where workers wait until the test lets them go on.

use super::lab::Lab;
use super::process::LIMIT;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Two pipes with names: who reaches the gate writes a line to one and reads a line from the other.
pub(crate) struct Gate {
    reached: OwnedFd,
    open: OwnedFd,
    paths: [PathBuf; 2],
}

impl Gate {
    pub(crate) fn new(lab: &Lab) -> Self {
        let paths = [lab.path("reached"), lab.path("open")];
        let [reached, open] = [&paths[0], &paths[1]].map(|path| {
            mkfifoat(CWD, path, Mode::RWXU).unwrap();
            // Held open for both, so that nobody waits for the other side to be opened.
            open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
        });
        Self {
            reached,
            open,
            paths,
        }
    }

    /// Arguments of the example `exec`: its command waits at the gate.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let [reached, open] = [&self.paths[0], &self.paths[1]].map(|path| path.display());
        let script = format!("echo > '{reached}'; read x < '{open}'");
        let words = ["--command", "sh", "--arg", "-c", "--arg", &script];
        words.map(str::to_owned).to_vec()
    }

    /// Waits until one more command is at the gate.
    pub(crate) fn reached(&self) {
        let timeout = Timespec::try_from(LIMIT).unwrap();
        let mut fds = [PollFd::new(&self.reached, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timeout));
        assert_eq!(ready, Ok(1), "nobody came to the gate");
        assert_eq!(rustix::io::read(&self.reached, &mut [0; 1]), Ok(1));
    }

    /// Lets as many through.
    pub(crate) fn open(&self, count: usize) {
        assert_eq!(
            rustix::io::write(&self.open, &vec![b'\n'; count]),
            Ok(count)
        );
    }
}
