//! The disk under `--state-dir`: full for a while, or failing.

use super::common::{Lab, Process, forest, is_root, without_run};
use super::mount::{Mount, run, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// None, and a word on standard error, where it cannot be had.
fn or_skipped<T>(found: impl FnOnce() -> Option<T>) -> Option<T> {
    if !is_root("a disk that is full or fails") {
        return None;
    }
    let found = found();
    if found.is_none() {
        eprintln!("SKIPPED, as it cannot be made or mounted: a disk that is full or fails");
    }
    found
}

/// A file system in memory.
fn memory(lab: &Lab, size: &str) -> Option<Mount> {
    or_skipped(|| Mount::memory(lab.path("memory"), size))
}

/// A disk whose blocks are in a file.
fn disk(lab: &Lab, image: &Path) -> Option<Mount> {
    or_skipped(|| Mount::new(lab.path("disk"), &["-o", "loop", &text(image)]))
}

/// Makes a disk in this memory that fails as soon as the memory has given out.
fn image(memory: &Mount) -> Option<PathBuf> {
    or_skipped(|| {
        let image = memory.at.join("image");
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        run("mkfs.ext4", &["-q", &text(&image)]).then_some(image)
    })
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
    let Some(small) = memory(&lab, "8k") else {
        return;
    };
    let tree = lab.path("tree");
    forest(&tree, 4000);
    let mut server = Process::start(audit(&lab, &small.at.join("state")));
    server.line("the disk of the journal is full: the walk pauses until there is room");
    assert!(small.resize("64m"));
    server.line("the disk of the journal has room again: the walk goes on");
    let ran = server.finish();
    ran.assert_status(0);
    assert_eq!(without_run(ran.report()), lab.serial(&[], &[&tree]));
    lab.assert_nobody_left();
}

#[test]
fn a_server_that_dies_while_its_disk_is_full_goes_on_when_there_is_room() {
    let lab = Lab::in_memory();
    let Some(small) = memory(&lab, "8k") else {
        return;
    };
    let (tree, state) = (lab.path("tree"), small.at.join("state"));
    forest(&tree, 4000);
    let mut server = Process::start(audit(&lab, &state));
    server.line("the disk of the journal is full");
    server.kill();
    // There is no room for the new beginning of the journal either.
    let ran = lab.run(resume(&lab, &state));
    ran.assert_status(3).assert_says("no space left on device");
    assert!(small.resize("64m"));
    let ran = lab.run(resume(&lab, &state));
    ran.assert_status(0);
    assert_eq!(without_run(ran.report()), lab.serial(&[], &[&tree]));
    lab.assert_nobody_left();
}

#[test]
fn a_disk_that_does_not_sync_ends_the_server_and_resume_goes_on_from_what_it_has() {
    let lab = Lab::in_memory();
    let Some(memory) = memory(&lab, "64m") else {
        return;
    };
    let Some(image) = image(&memory) else {
        return;
    };
    let Some(disk) = disk(&lab, &image) else {
        return;
    };
    let (tree, state) = (lab.path("tree"), disk.at.join("state"));
    forest(&tree, 4000);
    let mut server = lab.audit();
    server.args(["-v", "--listen=127.0.0.1:0", "--min-clients", "2"]);
    server.args(["--commit-interval", "2ms", "--grace", "1s"]);
    server.arg("--state-dir").arg(&state).arg(&tree);
    let mut server = Process::start(server);
    let line = server.line("listening for clients");
    let address = line.rsplit('=').next().unwrap();
    let dial = || {
        let mut client = lab.client();
        client.args(["--connect", address, "--workers", "1"]);
        Process::start(client)
    };
    let mut first = dial();
    first.line("a job begins");
    // The journal has begun. From here on nothing new fits.
    assert!(memory.close());
    let second = dial();
    let ran = server.finish();
    ran.assert_status(3).assert_says("cannot sync");
    ran.assert_says("/state/journal: input/output error");
    ran.assert_says("go on with: hydra-server resume");
    drop((first, second));
    lab.assert_nobody_left();
    // The disk as it is after a repair.
    assert!(run("umount", &[&text(&disk.at)]));
    assert!(memory.resize("64m"));
    assert!(run(
        "mount",
        &["-o", "loop", &text(&image), &text(&disk.at)]
    ));
    let mut again = resume(&lab, &state);
    again.args(["--workers", "2"]);
    let ran = lab.run(again);
    ran.assert_status(0);
    assert_eq!(without_run(ran.report()), lab.serial(&[], &[&tree]));
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
        .assert_says("file too large");
    lab.assert_nobody_left();
    let ran = lab.run(resume(&lab, &state));
    ran.assert_status(0);
    assert_eq!(without_run(ran.report()), lab.serial(&[], &[&tree]));
}
