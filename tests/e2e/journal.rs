//! The disk under `--state-dir`: full for a while, or failing.

use super::common::{Lab, Process, forest, is_root, without_run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, unmounted with the test.
struct Memory {
    at: PathBuf,
}

impl Memory {
    /// None, and a word on standard error, where it cannot be had.
    fn new(lab: &Lab, size: &str) -> Option<Self> {
        if !is_root("a file system of a few pages") {
            return None;
        }
        let at = lab.path("small");
        std::fs::create_dir(&at).unwrap();
        if !mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "none"], &at) {
            eprintln!("SKIPPED, as it cannot be mounted: a file system of a few pages");
            return None;
        }
        Some(Self { at })
    }

    fn resize(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}")], &self.at));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn mount(options: &[&str], at: &Path) -> bool {
    let status = Command::new("mount").args(options).arg(at).status();
    status.is_ok_and(|status| status.success())
}

/// An audit with many small commits, all of them on record.
fn audit(lab: &Lab, state: &Path) -> Command {
    let mut server = lab.audit();
    server.args(["--workers", "2", "--commit-interval", "2ms"]);
    server.arg("--state-dir").arg(state).arg(lab.path("tree"));
    server
}

fn resume(lab: &Lab, state: &Path) -> Command {
    let mut server = lab.command(env!("CARGO_BIN_EXE_hydra-server"));
    server.arg("resume").arg(state);
    server
}

#[test]
fn a_full_disk_pauses_the_walk_until_there_is_room() {
    let lab = Lab::in_memory();
    let Some(small) = Memory::new(&lab, "8k") else {
        return;
    };
    let tree = lab.path("tree");
    forest(&tree, 4000);
    let mut server = Process::start(audit(&lab, &small.at.join("state")));
    server.line("the disk of the journal is full: the walk pauses until there is room");
    small.resize("64m");
    server.line("the disk of the journal has room again: the walk goes on");
    let ran = server.finish();
    ran.assert_status(0);
    assert_eq!(without_run(ran.report()), lab.serial(&[], &[&tree]));
    lab.assert_nobody_left();
}

#[test]
fn a_server_that_dies_while_its_disk_is_full_goes_on_when_there_is_room() {
    let lab = Lab::in_memory();
    let Some(small) = Memory::new(&lab, "8k") else {
        return;
    };
    let (tree, state) = (lab.path("tree"), small.at.join("state"));
    forest(&tree, 4000);
    let mut server = Process::start(audit(&lab, &state));
    server.line("the disk of the journal is full");
    server.kill();
    // There is no room for the new beginning of the journal either.
    let ran = lab.run(resume(&lab, &state));
    ran.assert_status(3).assert_says("No space left on device");
    small.resize("64m");
    let ran = lab.run(resume(&lab, &state));
    ran.assert_status(0);
    assert_eq!(without_run(ran.report()), lab.serial(&[], &[&tree]));
    lab.assert_nobody_left();
}

#[test]
fn a_failing_disk_ends_the_server_and_resume_goes_on_from_what_it_has() {
    let lab = Lab::in_memory();
    let (tree, state) = (lab.path("tree"), lab.path("state"));
    forest(&tree, 4000);
    let whole = audit(&lab, &state);
    // No file may grow beyond some blocks; the write that does is cut off and fails, as on a disk that fails.
    let mut limited = lab.command("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 12; exec \"$@\"", "sh"]);
    limited.arg(whole.get_program()).args(whole.get_args());
    let ran = lab.run(limited);
    ran.assert_status(3).assert_says("cannot write");
    ran.assert_says("/state/journal")
        .assert_says("File too large");
    lab.assert_nobody_left();
    let ran = lab.run(resume(&lab, &state));
    ran.assert_status(0);
    assert_eq!(without_run(ran.report()), lab.serial(&[], &[&tree]));
}
