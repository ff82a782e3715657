//! Exec: what is run, and what is kept of it.

use super::{ACTING_WAYS, run, write};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

#[test]
fn exec_keeps_status_and_output_together() {
    let tmp = tempfile::tempdir().unwrap();
    let script = "cat; printf %s \"$1\"; echo oops >&2; test ! -s \"$1\" || exit 3";
    write(tmp.path().join("$(id) '\n-x"), "", 0);
    write(tmp.path().join("d/full"), "x", 0);
    let arguments = [
        "--command",
        "sh",
        "--arg",
        "-c",
        "--arg",
        script,
        "--arg",
        "sh",
    ];
    for way in ACTING_WAYS {
        let said = run("exec", way, &arguments, tmp.path());
        assert_eq!(said.status, Some(1), "{}", said.stderr);
        let runs = json!({"succeeded": 1, "failed": 1});
        assert_eq!(said.report["exec"]["runs"], runs);
        assert_eq!(said.report["errors"]["first"][0]["operation"], "exec");
        assert_eq!(said.kinds(), json!({"EXIT": 1}));
        assert_eq!(said.rows.len(), 2);
        for row in &said.rows {
            assert_eq!(row["stdout"], json!({"text": row["path"], "cut": false}));
            assert_eq!(row["stderr"], json!({"text": "oops\n", "cut": false}));
        }
        assert_eq!(said.by_name("exit_status")["full"], 3);
        assert_eq!(said.by_name("exit_status")["$(id) '\n-x"], 0);
    }
}

#[test]
fn exec_puts_the_path_where_the_braces_are() {
    let tmp = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"\xff {}");
    fs::create_dir(tmp.path().join(name)).unwrap();
    write(tmp.path().join("no-directory"), "", 0);
    let arguments = [
        "--each",
        "dir",
        "--command",
        "printf",
        "--arg",
        "%s|%s",
        "--arg",
        "<{}>{}",
        "--arg",
        "end",
    ];
    for way in ACTING_WAYS {
        let said = run("exec", way, &arguments, &tmp.path().join(name));
        assert_eq!(said.rows.len(), 1, "{}", said.stderr);
        let row = &said.rows[0];
        let path = row["path"].as_str().unwrap();
        assert_eq!(row["stdout"]["text"], format!("<{path}>{path}|end"));
        assert!(row["stdout"]["b64"].is_string() && row["path_b64"].is_string());
        let all = run("exec", way, &arguments, tmp.path());
        assert_eq!(all.rows.len(), 2, "the root and the directory in it");
    }
}

#[test]
fn exec_cuts_long_output_and_ends_long_runs() {
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path().join("f"), "", 0);
    let shell = |script, more: [&str; 2]| {
        let arguments = [&["--command", "sh", "--arg=-c", "--arg", script], &more[..]].concat();
        run("exec", &[], &arguments, tmp.path())
    };
    let said = shell("head -c 300000 /dev/zero; exit 0", ["--output-max", "2"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert_eq!(said.rows[0]["stdout"], json!({"text": "\0\0", "cut": true}));

    let said = shell("echo begun; exec sleep 600", ["--timeout", "200ms"]);
    assert_eq!(said.status, Some(1));
    assert_eq!(said.rows[0]["outcome"], "timed out");
    assert_eq!(said.kinds(), json!({"TIMEOUT": 1}));
    assert_eq!(said.rows[0]["stdout"]["text"], "begun\n");

    let said = shell("kill -9 $$", ["--timeout", "1m"]);
    assert_eq!(said.kinds(), json!({"SIGNAL": 1}));
    assert_eq!(
        (&said.rows[0]["signal"], &said.rows[0]["exit_status"]),
        (&json!(9), &Value::Null)
    );
}

#[test]
fn exec_reports_a_command_that_cannot_be_run() {
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path().join("f"), "", 0);
    for way in ACTING_WAYS {
        let said = run("exec", way, &["--command", "/no/such"], tmp.path());
        assert_eq!(said.status, Some(1));
        assert_eq!(said.kinds(), json!({"ENOENT": 1}));
        assert_eq!(said.by_name("outcome")["f"], "not run");
    }
}

/// What a command leaves running in the background neither holds up the walk nor outlives its worker.
#[test]
fn exec_leaves_nothing_behind() {
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path().join("f"), "", 0);
    let arguments = [
        "--command",
        "sh",
        "--arg=-c",
        "--arg",
        "sleep 600 & echo $!",
    ];
    let said = run("exec", &["--workers", "2"], &arguments, tmp.path());
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let pid = said.rows[0]["stdout"]["text"].as_str().unwrap().trim();
    assert!(ends(pid.parse().unwrap()), "{pid} is still there");
}

/// Whether a process ends soon. It was killed, which takes the kernel a moment on a busy machine.
fn ends(pid: i32) -> bool {
    let pid = Pid::from_raw(pid).unwrap();
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) == Ok(1)
}
