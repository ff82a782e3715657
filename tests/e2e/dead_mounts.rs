//! Mounts that do not answer, among others that do.
//!
//! The dead file system is a FUSE one in this process that keeps some of its answers back. Once it has read a call nobody can
//! kill who waits for it, so workers are left behind; they end when the connection to the kernel is cut.

use super::common::{Lab, Process, forest, is_root};
use hydra_bench::fuse::{Answering, Injected, Kind, Mounted};
use hydra_bench::implicit::{ImplicitTree, TreeArgs};
use hydra_bench::tree::Shape;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Long enough to be no answer.
const NEVER: Duration = Duration::from_secs(100_000);

/// The inode of a root, in the kernel's words.
const ROOT: u64 = 1;

/// A place where the kernel's connections to FUSE file systems can be cut.
struct Control(PathBuf);

impl Control {
    /// None, and a word on standard error, where it cannot be had.
    fn new(lab: &Lab) -> Option<Self> {
        if !is_root("a FUSE file system that does not answer") {
            return None;
        }
        let at = lab.path("control");
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "fusectl", "none"]).arg(&at).status();
        if !mounted.is_ok_and(|status| status.success()) || !Path::new("/dev/fuse").exists() {
            eprintln!("SKIPPED, as it needs FUSE: a file system that does not answer");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A mount that answers no calls of one kind.
struct Dead {
    mounted: Option<Mounted>,
    at: PathBuf,
    abort: PathBuf,
}

impl Dead {
    /// One that answers nobody who lists a directory.
    fn new(lab: &Lab, control: &Control, name: &str) -> Self {
        Self::to(Kind::Readdir, lab, control, name)
    }

    fn to(kind: Kind, lab: &Lab, control: &Control, name: &str) -> Self {
        let at = lab.path(name);
        fs::create_dir(&at).unwrap();
        let mut answering = Answering {
            writable: kind == Kind::Unlink,
            ..Answering::default()
        };
        if kind != Kind::Getattr {
            answering.latency[kind as usize] = NEVER;
        }
        let tree = ImplicitTree::new(&small_tree()).unwrap();
        let mounted = Mounted::new(tree, &answering, &at).expect("a mount");
        let device = fs::metadata(&at).unwrap().dev();
        // Only the root: the test itself has looked at it.
        answering.injections.set(ROOT, kind, Injected::Hang);
        let connection = rustix::fs::minor(device).to_string();
        let abort = control.0.join(connection).join("abort");
        Self {
            mounted: Some(mounted),
            at,
            abort,
        }
    }
}

impl Drop for Dead {
    /// Whoever waits for it gets an error, and it is unmounted.
    fn drop(&mut self) {
        let cut = fs::write(&self.abort, "1");
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        drop(self.mounted.take());
        if let Err(error) = cut {
            eprintln!("{}: {error}", self.abort.display());
        }
    }
}

fn small_tree() -> TreeArgs {
    TreeArgs {
        shape: Shape::Balanced,
        directories: Some(10),
        files: Some(100),
        seed: 1,
    }
}

fn server(lab: &Lab, more: &[&str], paths: &[&Path]) -> Command {
    let mut server = lab.audit();
    server.args(more).args(paths);
    server
}

/// What was set aside: its path, what of it, and why.
fn set_aside(report: &Value) -> Vec<(String, String, String)> {
    let lines = report["errors"]["set_aside"].as_array().unwrap();
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = lines.iter();
    lines
        .map(|line| (text(line, "path"), text(line, "part"), text(line, "reason")))
        .collect()
}

#[test]
fn four_of_five_roots_are_reported_exactly_and_the_dead_one_is_named() {
    let lab = Lab::new();
    let Some(control) = Control::new(&lab) else {
        return;
    };
    let trees = ["a", "b", "c", "d"].map(|name| lab.path(name));
    trees.iter().for_each(|tree| forest(tree, 40));
    let alive: Vec<&Path> = trees.iter().map(PathBuf::as_path).collect();
    let without = lab.alone(&[], &alive);
    for workers in ["1", "3"] {
        let dead = Dead::new(&lab, &control, &format!("dead{workers}"));
        let mut all = alive.clone();
        all.insert(0, &dead.at);
        let ran = Process::start(server(
            &lab,
            &["--stall-timeout", "400ms", "--workers", workers],
            &all,
        ))
        .end();
        let report = ran.assert_status(3).report();
        assert_eq!(report["totals"], without["totals"]);
        assert_eq!(report["complete"], false);
        let aside = set_aside(&report);
        let [(path, part, reason)] = &aside[..] else {
            panic!("{aside:?}");
        };
        assert_eq!((Path::new(path), &part[..]), (&*dead.at, "root"));
        let at = dead.at.display();
        let says = format!("the file system at {at} (fuse) does not answer");
        assert!(reason.contains(&says), "{reason}");
        assert!(reason.contains(&format!("list of {at}")), "{reason}");
        drop(dead);
        lab.assert_nobody_left();
    }
}

#[test]
fn ctrl_c_ends_a_job_whose_mounts_are_all_dead() {
    let lab = Lab::new();
    let Some(control) = Control::new(&lab) else {
        return;
    };
    let dead = ["x", "y"].map(|name| Dead::new(&lab, &control, name));
    let paths = [dead[0].at.as_path(), &dead[1].at];
    // Before anybody has been found hanging, and with workers left behind.
    for (stall, line) in [("1h", "worker started"), ("10s", "worker lost")] {
        let mut server = server(&lab, &["--workers", "2", "-v"], &paths);
        server.args(["--stall-timeout", stall]);
        server.args(["--log-level", "hydra_client=debug"]);
        let mut process = Process::start(server);
        process.line(line);
        process.signal(Signal::INT);
        let report = process.end().assert_status(130).report();
        assert_eq!(report["complete"], false);
    }
    drop(dead);
    lab.assert_nobody_left();
}

#[test]
fn what_does_not_answer_one_client_is_done_by_another() {
    let lab = Lab::new();
    let Some(control) = Control::new(&lab) else {
        return;
    };
    let tree = lab.path("tree");
    forest(&tree, 40);
    let without = lab.alone(&[], &[&tree]);
    let dead = Dead::new(&lab, &control, "dead");
    let more = ["--stall-timeout", "400ms", "--trust-roots", "-v"];
    let mut server = server(&lab, &more, &[&tree]);
    server.args(["--listen=127.0.0.1:0", "--min-clients", "1"]);
    let mut server = Process::start(server);
    let line = server.line("listening for clients");
    let address = line.rsplit('=').next().unwrap();
    let client = |map: Option<&Path>| {
        let mut client = lab.client();
        client.args(["--connect", address, "--once", "--workers", "1"]);
        if let Some(elsewhere) = map {
            let map = format!("{}={}", tree.display(), elsewhere.display());
            client.args(["--map", &map]);
        }
        Process::start(client)
    };
    let mut first = client(Some(&dead.at));
    first.line("it hangs: list of");
    let second = client(None);
    let ran = server.end();
    let report = ran.assert_status(0).report();
    assert_eq!(report["totals"], without["totals"]);
    drop(dead);
    drop((first, second));
    lab.assert_nobody_left();
}

/// The process that hung was in a call of the plugin, not of the walk: nobody saw it, and the job never ended.
#[test]
fn a_purge_whose_unlink_never_returned_was_never_over() {
    let lab = Lab::new();
    let Some(control) = Control::new(&lab) else {
        return;
    };
    let alive = lab.path("alive");
    fs::create_dir(&alive).unwrap();
    let old = SystemTime::now() - Duration::from_secs(100 * 86_400);
    for number in 0..50 {
        let file = fs::File::create(alive.join(number.to_string())).unwrap();
        file.set_modified(old).unwrap();
    }
    let dead = Dead::to(Kind::Unlink, &lab, &control, "dead");
    let mut purge = lab.example("purge", &[]);
    purge.args(["--json", "-v", "--older-than", "90d", "--delete"]);
    purge.args(["--stall-timeout", "400ms", "--workers", "2"]);
    let mut purge = Process::start({
        purge.args([&dead.at, &alive]);
        purge
    });
    purge.line(&format!("it hangs: unlink of {}/", dead.at.display()));
    let ran = purge.end();
    let report = ran.assert_status(3).report();
    assert_eq!(report["purge"]["outcomes"]["deleted"]["files"], 50);
    assert_eq!(fs::read_dir(&alive).unwrap().count(), 0);
    let aside = set_aside(&report);
    assert!(!aside.is_empty());
    for (path, ..) in aside {
        assert!(Path::new(&path).starts_with(&dead.at), "{path}");
    }
    drop(dead);
    lab.assert_nobody_left();
}

/// They were looked at one after the other, so that nobody was ready in time; and one of them alone passed for missing,
/// with status 1.
#[test]
fn dead_roots_stopped_the_walk_of_a_live_one() {
    let lab = Lab::new();
    let Some(control) = Control::new(&lab) else {
        return;
    };
    let alive = lab.path("alive");
    forest(&alive, 40);
    let without = lab.alone(&[], &[&alive]);
    for count in [1, 5] {
        let names = (0..count).map(|number| format!("dead{count}-{number}"));
        let dead: Vec<Dead> = names
            .map(|name| Dead::to(Kind::Getattr, &lab, &control, &name))
            .collect();
        let mut all: Vec<&Path> = dead.iter().map(|dead| dead.at.as_path()).collect();
        all.push(&alive);
        let ran = Process::start(server(&lab, &["--workers", "2"], &all)).end();
        let report = ran.assert_status(3).report();
        assert_eq!(report["totals"], without["totals"]);
        assert_eq!(report["complete"], false);
        let aside = set_aside(&report);
        assert_eq!(aside.len(), count);
        for ((path, part, reason), dead) in aside.iter().zip(&dead) {
            assert_eq!((Path::new(path), &part[..]), (&*dead.at, "root"));
            assert_eq!(reason, "the file system does not answer within 5s");
        }
        drop(dead);
        lab.assert_nobody_left();
    }
}

/// What looks at roots was a part of the process, which could not end before they answered.
#[test]
fn ctrl_c_waited_for_a_root_that_does_not_answer() {
    let lab = Lab::new();
    let Some(control) = Control::new(&lab) else {
        return;
    };
    let dead = Dead::to(Kind::Getattr, &lab, &control, "dead");
    let mut process = Process::start(server(&lab, &["-v"], &[&dead.at]));
    process.line("a job begins");
    process.signal(Signal::INT);
    let report = process.end().assert_status(130).report();
    assert_eq!(report["complete"], false);
    // And all by itself.
    let ran = Process::start(server(&lab, &[], &[&dead.at])).end();
    let report = ran.assert_status(3).report();
    assert_eq!(set_aside(&report).len(), 1);
    drop(dead);
    lab.assert_nobody_left();
}

/// Workers left behind were forgotten with their job: each one a client served left three more.
#[test]
fn a_client_sends_one_worker_where_those_of_its_last_job_hang() {
    let lab = Lab::new();
    let Some(control) = Control::new(&lab) else {
        return;
    };
    let dead = Dead::new(&lab, &control, "dead");
    let (mut client, address) = lab.listen(&["--workers", "1"]);
    for left_behind in [3, 1] {
        let more = ["--stall-timeout", "400ms", "--clients", &address];
        let ran = Process::start(server(&lab, &more, &[&dead.at])).end();
        let report = ran.assert_status(3).report();
        let aside = set_aside(&report);
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert_eq!(Path::new(&aside[0].0), dead.at);
        for _ in 0..left_behind {
            client.line("worker cannot be killed: left behind");
        }
    }
    client.signal(Signal::INT);
    let said = client.end().stderr;
    assert_eq!(said.matches("worker lost").count(), 4, "{said}");
    drop(dead);
    lab.assert_nobody_left();
}
