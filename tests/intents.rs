//! `purge --intent` with real processes that are killed and stopped while it deletes: every file that has to go is gone
//! and in exactly one row, and nothing else is touched. And `exec --intent`, which says what it may have run twice.
//!
//! `cargo test` builds the examples; with `--test intents` alone, `cargo build --examples` must have come first.

#[path = "shared/pids.rs"]
mod pids;
#[path = "shared/running.rs"]
mod running;

use pids::ends_within;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use running::Running;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(100);
/// Directories with few files; there is one with many.
const DIRECTORIES: usize = 300;
const FILES: usize = 40;
const MANY: usize = 6000;

/// A tree, and what has to become of it.
struct Lab {
    dir: tempfile::TempDir,
    old: BTreeSet<String>,
    young: BTreeSet<String>,
}

impl Lab {
    fn new() -> Self {
        let dir = match fs::metadata("/dev/shm") {
            Ok(_) => tempfile::tempdir_in("/dev/shm"),
            Err(_) => tempfile::tempdir(),
        };
        let mut lab = Self {
            dir: dir.unwrap(),
            old: BTreeSet::new(),
            young: BTreeSet::new(),
        };
        for number in 0..DIRECTORIES {
            lab.fill(&lab.path(&format!("tree/d{}/d{number}", number % 7)), FILES);
        }
        lab.fill(&lab.path("tree/many"), MANY);
        let mut keygen = lab.purge();
        let made = keygen.arg("keygen").arg("--key-dir").arg(lab.path("keys"));
        assert!(made.output().unwrap().status.success());
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes old files, and some young ones between them.
    fn fill(&mut self, dir: &Path, count: usize) {
        fs::create_dir_all(dir).unwrap();
        for number in 0..count {
            let path = dir.join(format!("file-{number}"));
            let shown = path.to_str().unwrap().to_owned();
            File::create(&path).unwrap();
            match number % 10 {
                3 => self.young.insert(shown),
                _ => {
                    age(&path);
                    self.old.insert(shown)
                }
            };
        }
    }

    fn left(&self) -> BTreeSet<String> {
        let entries = walkdir::WalkDir::new(self.path("tree")).into_iter();
        let entries = entries.map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().is_file());
        let shown = |entry: walkdir::DirEntry| entry.path().to_str().unwrap().to_owned();
        files.map(shown).collect()
    }

    fn purge(&self) -> Command {
        self.program("purge")
    }

    fn program(&self, example: &str) -> Command {
        let test = std::env::current_exe().unwrap();
        let target = test.parent().and_then(Path::parent).unwrap();
        let program = target.join("examples").join(example);
        assert!(program.exists(), "cargo build --examples comes first");
        running::program(&program, self.dir.path())
    }

    /// A new job, up to its clients and paths.
    fn server(&self) -> Command {
        let mut command = self.purge();
        command.args([
            "--json",
            "-v",
            "--intent",
            "--older-than",
            "90d",
            "--delete",
        ]);
        for (option, value) in [
            ("--beat", "100ms"),
            ("--dead-after", "1s"),
            ("--grace", "1500ms"),
            ("--lease", "800ms"),
        ] {
            command.args([option, value]);
        }
        command.arg("--rows").arg(self.path("rows"));
        command.arg("--key-dir").arg(self.path("keys"));
        command
    }

    fn resume(&self) -> Command {
        let mut command = self.purge();
        command.args(["resume", "-v"]).arg(self.path("state"));
        command
    }

    /// How often each outcome is in the rows. Each file that was old is in one of them, and nothing else is.
    fn outcomes(&self) -> BTreeMap<String, usize> {
        let mut outcomes = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for line in fs::read_to_string(self.path("rows")).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let path = row["path"].as_str().unwrap().to_owned();
            assert!(self.old.contains(&path), "{path} was not old: {line}");
            assert!(!seen.contains(&path), "{path} is in two rows: {line}");
            seen.insert(path);
            let outcome = row["outcome"].as_str().unwrap().to_owned();
            *outcomes.entry(outcome).or_default() += 1;
        }
        let untold = self.old.difference(&seen).collect::<Vec<_>>();
        assert!(
            untold.is_empty(),
            "{} in no row: {:?}",
            untold.len(),
            untold[0]
        );
        outcomes
    }

    /// Whether a worker, which is stopped, has a directory open of which some files are deleted and others are not.
    fn is_amid(&self, worker: Pid) -> bool {
        // Its walking thread has descriptors of its own.
        let tasks = fs::read_dir(format!("/proc/{}/task", worker.as_raw_nonzero()));
        let tasks = tasks.into_iter().flatten().flatten();
        let fds = tasks.filter_map(|task| fs::read_dir(task.path().join("fd")).ok());
        let open = fds.flatten().flatten();
        let open = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        let amid = |dir: PathBuf| {
            let prefix = format!("{}/file-", dir.display());
            let files = self.old.range(prefix.clone()..);
            let files = files.take_while(|path| path.starts_with(&prefix));
            let (left, gone): (Vec<_>, Vec<_>) = files.partition(|path| Path::new(path).exists());
            !left.is_empty() && !gone.is_empty()
        };
        let deep = |path: &PathBuf| path.starts_with(self.path("tree")) && !path.ends_with("many");
        open.filter(deep).any(amid)
    }

    /// A file in the middle of the tree, as far as workers come by.
    fn some(&self, rng: &mut StdRng) -> &str {
        let index = rng.random_range(0..self.old.len());
        self.old.iter().nth(index).unwrap()
    }
}

fn signal(pids: &[Pid], signal: Signal) {
    for &pid in pids {
        // One that has died meanwhile is no worker any more.
        let _ = kill_process(pid, signal);
    }
}

/// Gives a file a time long ago.
fn age(path: &Path) {
    let then = SystemTime::now() - Duration::from_secs(100 * 86_400);
    let times = fs::FileTimes::new().set_accessed(then).set_modified(then);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_times(times)
        .unwrap();
}

/// The processes that a process has started.
fn children_of(pid: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    for task in tasks.into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let pids = list.split_whitespace().filter_map(|word| word.parse().ok());
        children.extend(pids.filter_map(Pid::from_raw));
    }
    children
}

fn start(lab: &Lab, name: &str, command: Command) -> Running {
    Running::start(lab.dir.path(), name, command)
}

/// A client with two workers, and where it listens.
fn client(lab: &Lab, name: &str) -> (Running, String) {
    let mut command = lab.purge();
    command
        .args(["client", "--allow", "purge", "-v", "--workers", "2"])
        .args(["--listen", "127.0.0.1:0", "--key-dir"])
        .arg(lab.path("keys"));
    let client = start(lab, name, command);
    let address = format!("127.0.0.1:{}", client.port());
    (client, address)
}

/// Waits until `path` is gone; `false` if the process ends before.
fn deletes(server: &Running, path: &str) -> bool {
    while Path::new(path).exists() {
        if server.ends_within(Duration::from_millis(1)) {
            return false;
        }
    }
    true
}

fn finish(server: Running) {
    let output = server.finish(PATIENCE);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// What is left of the tree is what was young, and every file that was old is in one row. Says how many of them nobody
/// could tell about.
fn check(lab: &Lab) -> usize {
    assert_eq!(lab.left(), lab.young);
    let outcomes = lab.outcomes();
    println!("{outcomes:?}");
    let known = ["deleted", "presumed deleted"];
    assert!(
        outcomes.keys().all(|name| known.contains(&name.as_str())),
        "{outcomes:?}"
    );
    outcomes.get("presumed deleted").copied().unwrap_or(0)
}

#[test]
fn what_killed_workers_had_deleted_was_in_no_row() {
    let mut presumed = 0;
    for seed in 0..4 {
        let lab = Lab::new();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut command = lab.server();
        command.args(["--workers", "3"]).arg(lab.path("tree"));
        let server = start(&lab, "server", command);
        for _ in 0..4 {
            if !deletes(&server, lab.some(&mut rng)) {
                break;
            }
            let workers = children_of(server.pid());
            if let Some(&worker) = workers.get(rng.random_range(0..workers.len().max(1))) {
                let _ = kill_process(worker, Signal::KILL);
            }
        }
        finish(server);
        presumed += check(&lab);
    }
    assert!(presumed > 0, "nobody died at the wrong moment");
}

#[test]
fn what_killed_clients_had_deleted_was_in_no_row() {
    let mut presumed = 0;
    for seed in 0..3 {
        let lab = Lab::new();
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut first, one) = client(&lab, "one");
        let (_second, two) = client(&lab, "two");
        let mut command = lab.server();
        command.args(["--clients", &format!("{one},{two}")]);
        let server = start(&lab, "server", {
            command.arg(lab.path("tree"));
            command
        });
        if deletes(&server, lab.some(&mut rng)) {
            // Its workers end with it.
            first.kill();
        }
        finish(server);
        presumed += check(&lab);
    }
    assert!(presumed > 0, "nobody died at the wrong moment");
}

#[test]
fn what_was_deleted_for_a_server_that_died_was_in_no_row() {
    let mut presumed = 0;
    for seed in 0..3 {
        let lab = Lab::new();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut command = lab.server();
        command.args(["--workers", "2", "--state-dir"]);
        command.arg(lab.path("state")).arg(lab.path("tree"));
        let mut server = start(&lab, "server", command);
        for _ in 0..3 {
            if !deletes(&server, lab.some(&mut rng)) {
                break;
            }
            // The client inside it and its workers end with it.
            server.kill();
            server = start(&lab, "server", lab.resume());
        }
        finish(server);
        presumed += check(&lab);
    }
    assert!(presumed > 0, "nobody died at the wrong moment");
}

#[test]
fn a_host_that_was_stopped_acted_again_without_a_fresh_lease() {
    let lab = Lab::new();
    let (first, one) = client(&lab, "one");
    let (_second, two) = client(&lab, "two");
    let mut command = lab.server();
    command.args(["--clients", &format!("{one},{two}")]);
    command.arg(lab.path("tree"));
    let server = start(&lab, "server", command);
    // All of its processes stop, one in the middle of a directory, and others do their work.
    let mut stopped = Vec::new();
    loop {
        assert!(!server.ends_within(Duration::from_millis(1)), "too late");
        stopped.extend(children_of(first.pid()));
        if stopped.len() == 2 {
            signal(&stopped, Signal::STOP);
            if stopped.iter().any(|&worker| lab.is_amid(worker)) {
                break;
            }
            signal(&stopped, Signal::CONT);
        }
        stopped.clear();
    }
    // The client last: without it they would soon have nothing to do.
    stopped.push(first.pid());
    signal(&stopped, Signal::STOP);
    finish(server);
    check(&lab);
    // Files of the same names, as old as the others: who believes that they are his deletes them.
    for path in &lab.old {
        File::create(path).unwrap();
        age(Path::new(path));
    }
    signal(&stopped, Signal::CONT);
    for &worker in &stopped[..2] {
        assert!(ends_within(worker, PATIENCE), "{}", first.log());
    }
    // Each may have been about to make a call that it was allowed to make when it was stopped.
    let all: BTreeSet<String> = lab.old.union(&lab.young).cloned().collect();
    let left = lab.left();
    let lost: Vec<_> = all.difference(&left).collect();
    assert!(left.is_subset(&all) && lost.len() <= 2, "{lost:?}");
}

#[test]
fn what_a_command_ran_for_twice_was_not_said() {
    let lab = Lab::new();
    let (tree, ran) = (lab.path("few"), lab.path("ran"));
    for dir in 0..12 {
        fs::create_dir_all(tree.join(format!("d{dir}"))).unwrap();
        for file in 0..50 {
            File::create(tree.join(format!("d{dir}/f{file}"))).unwrap();
        }
    }
    File::create(&ran).unwrap();
    let runs = || fs::read_to_string(&ran).unwrap();
    let mut command = lab.program("exec");
    command.args([
        "--json",
        "-v",
        "--intent",
        "--workers",
        "2",
        "--command",
        "sh",
    ]);
    let script = format!("echo \"$0\" >> {}", ran.display());
    command.args(["--arg", "-c", "--arg", &script, "--rows"]);
    let server = start(&lab, "exec", {
        command.arg(lab.path("rows")).arg(&tree);
        command
    });
    for kill in 1..6 {
        while runs().lines().count() < 80 * kill {
            assert!(
                !server.ends_within(Duration::from_millis(1)),
                "{}",
                server.log()
            );
        }
        if let Some(&worker) = children_of(server.pid()).first() {
            let _ = kill_process(worker, Signal::KILL);
        }
    }
    finish(server);
    let mut times = BTreeMap::<String, usize>::new();
    for path in runs().lines() {
        *times.entry(path.to_owned()).or_default() += 1;
    }
    let rows = fs::read_to_string(lab.path("rows")).unwrap();
    assert_eq!((rows.lines().count(), times.len()), (600, 600));
    let mut twice = 0;
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let times = times.remove(row["path"].as_str().unwrap());
        twice += usize::from(times > Some(1));
        assert!(
            times == Some(1) || row["again"] == true,
            "{times:?}: {line}"
        );
        assert_eq!(row["outcome"], "succeeded");
    }
    assert!(twice > 0, "nobody died at the wrong moment");
}
