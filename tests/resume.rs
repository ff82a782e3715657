//! Servers that are killed, again and again, and go on: the report is that of an undisturbed run.

#[path = "shared/pids.rs"]
mod pids;
#[path = "shared/running.rs"]
mod running;

use hydra_server::journal::status;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use running::Running;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const DIRECTORIES: usize = 20_000;
/// Directories in one directory.
const FAN: usize = 20;
/// No server works longer than this.
const RUN_MAX: Duration = Duration::from_secs(100);

/// A tree, keys, and the report of an undisturbed run.
struct Lab {
    dir: tempfile::TempDir,
    reference: Value,
    durability: &'static str,
}

impl Lab {
    fn new(directories: usize) -> Self {
        let dir = match fs::metadata("/dev/shm") {
            Ok(_) => tempfile::tempdir_in("/dev/shm"),
            Err(_) => tempfile::tempdir(),
        };
        let dir = dir.unwrap();
        build(&dir.path().join("tree"), directories);
        let mut lab = Self {
            dir,
            reference: Value::Null,
            durability: "fsync",
        };
        let mut keygen = lab.program(env!("CARGO_BIN_EXE_hydra-server"));
        let made = keygen.arg("keygen").arg("--key-dir").arg(lab.path("keys"));
        assert!(made.output().unwrap().status.success());
        let output = lab.server().arg(lab.path("tree")).output().unwrap();
        lab.reference = report(&output);
        let counted = lab.reference["totals"]["directories"].as_u64();
        assert_eq!(counted, Some(directories as u64 + 1));
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, program: &str) -> Command {
        running::program(Path::new(program), self.dir.path())
    }

    /// A new job, up to its clients and paths.
    fn server(&self) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_hydra-server"));
        command.args(["--json", "-v", "--reference-time", "2000000000"]);
        for (option, value) in [
            ("--beat", "100ms"),
            ("--dead-after", "1s"),
            ("--grace", "20s"),
            ("--commit-interval", "20ms"),
        ] {
            command.args([option, value]);
        }
        command.arg("--key-dir").arg(self.path("keys"));
        command
    }

    fn resume(&self) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_hydra-server"));
        command.args(["resume", "-v", "--durability", self.durability]);
        command.arg(self.path("state"));
        command
    }

    fn status(&self) -> Value {
        let mut command = self.program(env!("CARGO_BIN_EXE_hydra-server"));
        let output = command.args(["status", "--json"]).arg(self.path("state"));
        let output = output.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Directories in directories, with two files in each.
fn build(root: &Path, directories: usize) {
    fs::create_dir(root).unwrap();
    let mut parents = vec![root.to_owned()];
    let mut made = 0;
    while made < directories {
        let mut next = Vec::new();
        for parent in parents {
            for name in 0..FAN.min(directories - made) {
                let dir = parent.join(format!("d{name}"));
                fs::create_dir(&dir).unwrap();
                fs::write(dir.join("a"), "x".repeat(name)).unwrap();
                fs::write(dir.join("b"), "").unwrap();
                made += 1;
                next.push(dir);
            }
        }
        parents = next;
    }
}

fn report(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report.as_object_mut().unwrap().remove("run");
    report
}

fn start(lab: &Lab, command: Command) -> Running {
    Running::start(lab.dir.path(), "server", command)
}

/// A client with one worker, and its port.
fn client(lab: &Lab, name: &str) -> (Running, u16) {
    let mut command = lab.program(env!("CARGO_BIN_EXE_hydra-client"));
    command
        .args(["-v", "--listen", "127.0.0.1:0", "--workers", "1"])
        .arg("--key-dir")
        .arg(lab.path("keys"));
    let client = Running::start(lab.dir.path(), name, command);
    let port = client.port();
    (client, port)
}

/// Kills the server of `first` somewhere on its way, and each one that goes on, until one has come to its end. Says
/// how many were killed, and in how many of them clients came back.
fn kill_again_and_again(lab: &Lab, first: Command, rng: &mut StdRng) -> (Value, u32, u32) {
    let state = lab.path("state");
    let total = lab.reference["totals"]["entries"].as_u64().unwrap();
    let mut server = start(lab, first);
    let (mut kills, mut back, mut from) = (0, 0, 0);
    loop {
        let goal = from + rng.random_range(0..total / 3);
        loop {
            if server.ends_within(Duration::from_millis(3)) {
                back += u32::from(server.log().contains("its connection is back"));
                return (report(&server.finish(RUN_MAX)), kills, back);
            }
            // Killed before it is known to have gone on, a server would not be one of those that did.
            let now = status(&state).ok().filter(|status| status.resumed == kills);
            let committed = now.map_or(0, |status| status.walk.entries);
            if kills < 20 && committed > goal {
                from = committed;
                break;
            }
        }
        server.kill();
        back += u32::from(server.log().contains("its connection is back"));
        kills += 1;
        assert_ne!(lab.status()["state"], "running");
        server = start(lab, lab.resume());
    }
}

#[test]
fn a_server_with_clients_is_killed_again_and_again() {
    let lab = Lab::new(DIRECTORIES);
    let (_one, first) = client(&lab, "one");
    let (_two, second) = client(&lab, "two");
    let mut command = lab.server();
    command
        .arg("--clients")
        .arg(format!("127.0.0.1:{first},127.0.0.1:{second}"))
        .arg("--state-dir")
        .arg(lab.path("state"))
        .arg(lab.path("tree"));
    let mut rng = StdRng::seed_from_u64(1);
    let (report, kills, back) = kill_again_and_again(&lab, command, &mut rng);
    println!("{kills} kills; clients came back in {back} servers");
    assert_eq!(report, lab.reference);
    assert!(kills > 0 && back > 0, "{kills} kills, {back} times back");
    let status = lab.status();
    assert_eq!(status["state"], "done");
    assert_eq!(status["entries"], report["totals"]["entries"]);
    assert_eq!(status["resumed"], kills);
}

#[test]
fn a_server_without_clients_is_killed_again_and_again() {
    let lab = Lab::new(DIRECTORIES);
    for seed in 0..3 {
        let mut command = lab.server();
        command
            .args(["--workers", "2", "--state-dir"])
            .arg(lab.path("state"))
            .arg(lab.path("tree"));
        let mut rng = StdRng::seed_from_u64(seed);
        let (report, kills, _) = kill_again_and_again(&lab, command, &mut rng);
        println!("{kills} kills");
        assert_eq!(report, lab.reference);
    }
}

#[test]
fn a_server_that_leaves_the_disk_to_the_machine_is_killed_again_and_again() {
    let mut lab = Lab::new(DIRECTORIES);
    lab.durability = "os";
    let mut command = lab.server();
    command
        .args(["--workers", "2", "--durability", "os", "--state-dir"])
        .arg(lab.path("state"))
        .arg(lab.path("tree"));
    let mut rng = StdRng::seed_from_u64(9);
    let (report, kills, _) = kill_again_and_again(&lab, command, &mut rng);
    assert_eq!(report, lab.reference);
    assert!(kills > 0);
}

#[test]
fn a_job_that_is_done_shows_its_report_again() {
    let lab = Lab::new(50);
    let mut command = lab.server();
    command.arg("--state-dir").arg(lab.path("state"));
    let output = command.arg(lab.path("tree")).output().unwrap();
    assert_eq!(report(&output), lab.reference);
    assert_eq!(report(&lab.resume().output().unwrap()), lab.reference);
}

#[test]
fn a_running_job_has_a_status_and_no_second_server() {
    let lab = Lab::new(50);
    let mut command = lab.server();
    command
        .args(["--listen=127.0.0.1:0", "--state-dir"])
        .arg(lab.path("state"))
        .arg(lab.path("tree"));
    // Nobody comes, so it stays.
    let server = start(&lab, command);
    let journal = lab.path("state/journal");
    let mut waited = 0;
    while !journal.exists() {
        waited += 1;
        assert!(waited < 1000 && !server.ends_within(Duration::from_millis(10)));
    }
    assert_eq!(lab.status()["state"], "running");
    let second = lab.resume().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(4), "{said}");
    assert!(said.contains("another server is using"), "{said}");
    let mut anew = lab.server();
    anew.arg("--state-dir").arg(lab.path("state"));
    let anew = anew.arg(lab.path("tree")).output().unwrap();
    assert_eq!(anew.status.code(), Some(2));
    drop(server);
    assert_eq!(lab.status()["state"], "stopped");
    let mut anew = lab.server();
    anew.arg("--state-dir").arg(lab.path("state"));
    let anew = anew.arg(lab.path("tree")).output().unwrap();
    let said = String::from_utf8_lossy(&anew.stderr).into_owned();
    assert!(said.contains("not finished"), "{said}");
}
