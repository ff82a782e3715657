//! Workers that a plugin brings down, and how many of them there may be.

use crate::Test;
use crate::common::{Lab, Process};
use serde_json::Value;
use std::fs;
use std::process::Command;

pub(crate) const TESTS: &[Test] = &[
    (
        "a_panic_s_message_went_past_the_log",
        a_panic_s_message_went_past_the_log,
    ),
    (
        "a_worker_that_ends_itself_is_tried_thrice_and_named",
        a_worker_that_ends_itself_is_tried_thrice_and_named,
    ),
    (
        "workers_were_as_few_as_the_soft_limit_of_open_files_allows",
        workers_were_as_few_as_the_soft_limit_of_open_files_allows,
    ),
    (
        "a_hard_limit_of_open_files_is_told",
        a_hard_limit_of_open_files_is_told,
    ),
];

/// A tree of 40 directories with a file each; in some of them another one.
fn tree(lab: &Lab, others: &[&str]) {
    for number in 0..40 {
        let dir = lab.path(format!("tree/{}/{number}", number % 4));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("plain"), "").unwrap();
        if let Some(other) = others.get(number / 10).filter(|_| number % 10 == 5) {
            fs::write(dir.join(other), "").unwrap();
        }
    }
}

fn server(lab: &Lab, workers: &str) -> Command {
    let mut server = lab.command(std::env::current_exe().unwrap());
    server.args(["--json", "--workers", workers, "do"]);
    server.arg(lab.path("tree"));
    server
}

fn named(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|error| error["path"].as_str().unwrap()).collect()
}

fn a_panic_s_message_went_past_the_log() {
    let lab = Lab::new();
    tree(&lab, &["panic"]);
    let ran = Process::start(server(&lab, "2")).finish();
    let report = ran.assert_status(1).report();
    let error = &report["errors"]["first"][0];
    assert_eq!(error["error"], "PANIC", "{report}");
    assert_eq!(error["message"], "it was told to");
    ran.assert_says("a panic at tests/custom/plugin.rs:");
    let mut lines = ran.stderr.lines();
    let is_logged = |line: &str| line.contains("worker") && line.contains("it was told to");
    assert!(lines.all(is_logged), "{}", ran.stderr);
    lab.assert_nobody_left();
}

fn a_worker_that_ends_itself_is_tried_thrice_and_named() {
    let lab = Lab::new();
    tree(&lab, &["exit", "abort"]);
    let ran = Process::start(server(&lab, "2")).finish();
    let report = ran.assert_status(3).report();
    let aside = &report["errors"]["set_aside"];
    let names = named(aside);
    let expected = ["1/5/exit", "3/15/abort"].map(|file| lab.path(format!("tree/{file}")));
    let expected = expected.map(|path| path.to_str().unwrap().to_owned());
    assert_eq!(names, expected, "{report}");
    for named in aside.as_array().unwrap() {
        assert_eq!(named["part"], "entry", "{report}");
    }
    let reasons = aside.to_string();
    assert!(reasons.contains("exited with status 7"), "{reasons}");
    assert!(reasons.contains("killed by signal 6"), "{reasons}");
    // Each of the two was tried three times; all else is there.
    let lost = report["run"]["clients"][0]["lost_workers"]
        .as_u64()
        .unwrap();
    assert!(lost >= 6, "{report}");
    assert_eq!(report["totals"]["files"], 40, "{report}");
    lab.assert_nobody_left();
}

/// A job of forty workers under a limit of open files, hard or soft.
fn limited(lab: &Lab, limit: &str) -> Command {
    tree(lab, &[]);
    let whole = server(lab, "40");
    let mut limited = lab.command("bash");
    limited.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
    limited.arg(whole.get_program()).args(whole.get_args());
    limited
}

fn workers(report: &Value) -> u64 {
    report["run"]["clients"][0]["workers"].as_u64().unwrap()
}

fn workers_were_as_few_as_the_soft_limit_of_open_files_allows() {
    let lab = Lab::new();
    let ran = Process::start(limited(&lab, "-Sn 100")).finish();
    assert_eq!(workers(&ran.assert_status(0).report()), 40);
    assert_eq!(ran.stderr, "");
    lab.assert_nobody_left();
}

fn a_hard_limit_of_open_files_is_told() {
    let lab = Lab::new();
    let ran = Process::start(limited(&lab, "-n 100")).finish();
    assert_eq!(workers(&ran.assert_status(0).report()), 18);
    ran.assert_says("18 workers run here instead of 40");
    ran.assert_says("ulimit -n");
    lab.assert_nobody_left();
}
