//! The runner measures real commands, notices wrong counts, and gives up on what does not end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use hydra_bench::runner::measure::{Purpose, run};
use hydra_bench::totals::count;
use hydra_bench::tree::{Shape, build};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

const RUNNER: &str = env!("CARGO_BIN_EXE_bench-run");

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a temporary directory");
        build(Shape::Skewed, &dir.path().join("tree"), 1, 0.01).expect("a tree");
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program that says of every tree that it holds `entries` and `bytes`.
    fn stub(&self, entries: u64, bytes: u64) -> PathBuf {
        let json =
            format!(r#"{{"totals":{{"entries":{entries},"unique_allocated_bytes":{bytes}}}}}"#);
        self.script("hydra-stub", &format!("echo '{json}'"))
    }

    fn script(&self, name: &str, body: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let file = self.path(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).expect("a script");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("a mode");
        file
    }

    fn run(&self, more: &[&str], hydra: &Path) -> Output {
        Command::new(RUNNER)
            .arg(format!("small={}", self.path("tree").display()))
            .args(["--runs", "2", "--only", "find,du,pdu", "--out"])
            .arg(self.path("out"))
            .arg("--hydra")
            .arg(hydra)
            .args(more)
            .output()
            .expect("the runner")
    }

    fn report(&self) -> Value {
        let text = std::fs::read(self.path("out/report.json")).expect("a report");
        serde_json::from_slice(&text).expect("JSON")
    }
}

/// The row of a tool in `list` (0) or `stat` (1).
fn row<'a>(report: &'a Value, work: usize, tool: &str) -> &'a Value {
    let rows = report["trees"][0]["comparisons"][work]["rows"].as_array();
    let rows = rows.expect("rows");
    rows.iter().find(|row| row["tool"] == tool).expect("a row")
}

#[test]
fn all_that_count_right_agree() {
    let bench = Bench::new();
    let totals = count(&bench.path("tree")).expect("totals");
    let hydra = bench.stub(totals.entries, totals.unique_allocated_bytes);
    let done = bench.run(&[], &hydra);
    assert!(done.status.success(), "{done:?}");
    let report = bench.report();
    for (work, tool) in [
        (0, "floor"),
        (0, "hydra"),
        (0, "find"),
        (1, "floor"),
        (1, "hydra"),
        (1, "find"),
        (1, "du"),
    ] {
        let row = row(&report, work, tool);
        let checks = row["checks"].as_array().expect("checks");
        assert!(!checks.is_empty(), "{row}");
        assert!(checks.iter().all(|c| c["got"] == c["expected"]), "{row}");
        assert_eq!(row["samples"].as_array().map(Vec::len), Some(2), "{row}");
        assert!(row["to_floor"].is_f64() && row["to_fastest_peer"].is_f64());
        assert!(row["memory"]["peak_sum"].is_u64(), "{row}");
    }
    let markdown = std::fs::read_to_string(bench.path("out/report.md")).expect("Markdown");
    assert!(markdown.contains("| hydra |") && markdown.contains("agree"));
}

#[test]
fn a_wrong_count_is_noticed() {
    let bench = Bench::new();
    let totals = count(&bench.path("tree")).expect("totals");
    let hydra = bench.stub(totals.entries - 1, totals.unique_allocated_bytes);
    let done = bench.run(&["--work", "list"], &hydra);
    assert_eq!(done.status.code(), Some(1));
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(text.contains("WRONG: hydra"), "{text}");
    assert_eq!(
        row(&bench.report(), 0, "hydra")["checks"][0]["got"],
        totals.entries - 1
    );
}

#[test]
fn a_failing_command_is_noticed() {
    let bench = Bench::new();
    let hydra = bench.script("broken", "exit 9");
    let done = bench.run(&["--work", "list"], &hydra);
    assert_eq!(done.status.code(), Some(1));
    assert!(row(&bench.report(), 0, "hydra")["failed"].is_string());
}

#[test]
fn what_is_missing_is_said_aloud() {
    let bench = Bench::new();
    let done = Command::new(RUNNER)
        .arg(bench.path("tree"))
        .args(["--runs", "1", "--work", "list", "--out"])
        .arg(bench.path("out"))
        .env("PATH", "/nowhere")
        .output()
        .expect("the runner");
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    for missing in ["find", "dust", "dwalk"] {
        assert!(text.contains(&format!("SKIPPED: {missing} ")), "{text}");
    }
    assert!(
        text.contains("SKIPPED: python-hydra was not given"),
        "{text}"
    );
}

#[test]
fn what_does_not_end_is_killed_with_its_children() {
    let bench = Bench::new();
    let pid_file = bench.path("pid");
    let body = format!("tail -f /dev/null & echo $! > {}; wait", pid_file.display());
    let script = bench.script("endless", &body);
    let mut limit = Duration::from_millis(100);
    // The script needs to come as far as writing the number; a slow machine gets more time.
    let ended = loop {
        let ended = run(&[OsString::from(&script)], Purpose::Watch, limit).expect("a run");
        if std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')) {
            break ended;
        }
        limit *= 2;
    };
    assert!(ended.status.is_none());
    let pid = std::fs::read_to_string(&pid_file).expect("a number");
    let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process");
    // No such process, or one about to end: it never ends by itself.
    if let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) {
        let deadline = Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        };
        let ended = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&deadline));
        assert_eq!(ended, Ok(1), "the child of a killed command goes on");
    }
}

#[test]
fn memory_of_children_counts() {
    let bench = Bench::new();
    let script = bench.script("family", "cat /dev/zero | head -c 300000000 | wc -c");
    let ended = run(
        &[OsString::from(script)],
        Purpose::Watch,
        Duration::from_secs(60),
    );
    let memory = ended.expect("a run").memory.expect("memory");
    assert!(memory.processes >= 2, "{memory:?}");
    assert!(memory.sum_of_peaks > memory.peak_single, "{memory:?}");
}
