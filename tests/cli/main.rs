//! The real programs: wrong usage and help, what is said when, and how they end.

mod peers;
mod tree;

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

fn server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-server"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    server().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", stdout(output), stderr(output)))
}

#[test]
fn wrong_usage_is_one_sentence_and_status_2() {
    let cases: [(&[&str], &str); 15] = [
        (&[], "no path is given"),
        (&["nonsense"], "audit, count, keygen"),
        (&["--no-such", "/"], "--no-such"),
        (&["--grace", "5", "/"], "'5' is not a duration"),
        (&["-E", "a[", "/"], "the glob 'a['"),
        (&["--paths-from", "/no/such/list"], "/no/such/list"),
        (&["--serial", "--clients", "a", "/"], "cannot be used with"),
        (&["--rows", "-", "/"], "--rows cannot be used with audit"),
        (
            &["--rows-dir", "x", "/"],
            "--rows-dir cannot be used with audit",
        ),
        (
            &["count", "--rows", "x", "/"],
            "--rows cannot be used with count",
        ),
        (
            &["--serial", "--temp-dir", "/no/such", "/"],
            "--temp-dir /no/such cannot be used",
        ),
        (&["--temp-dir", "/etc/passwd", "/"], "it is not a directory"),
        (&["--clients", "host:0", "/"], "--clients: \"host:0\""),
        (&["--listen=127.0.0.1:99999", "/"], "up to 65535"),
        (&["--listen=127.0.0.1:-1", "/"], "up to 65535"),
    ];
    for (arguments, part) in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let text = stderr(&output);
        assert!(text.contains(part), "{arguments:?}: {text}");
        assert!(
            !text.contains("panicked") && !text.contains("backtrace"),
            "{text}"
        );
    }
}

#[test]
fn a_value_that_is_no_text_was_told_without_its_option() {
    let bad = |text: &[u8]| OsStr::from_bytes(text).to_owned();
    let cases = [
        ([bad(b"--clients"), bad(b"h\xff")], "--clients: 'h\\xff'"),
        (
            [bad(b"--log-level=\xff"), bad(b"-x")],
            "--log-level: '\\xff'",
        ),
        (
            [bad(b"--rows=\xff"), bad(b"--grace=\xfe")],
            "--grace: '\\xfe'",
        ),
    ];
    for (arguments, part) in cases {
        let output = server().args(&arguments).arg("/").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = stderr(&output);
        assert!(text.contains(part), "{text}");
    }
    let output = server().env("RUST_LOG", "x=y=z").arg("/").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("RUST_LOG"), "{}", stderr(&output));
}

#[test]
fn help_that_could_not_be_written_was_no_error() {
    for word in ["--help", "--version"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = server().arg(word).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{word}");
        let text = stderr(&output);
        assert!(text.contains("no space left"), "{text}");
    }
}

#[test]
fn messages_had_the_words_and_numbers_of_the_language_s_library() {
    let tmp = tempfile::tempdir().unwrap();
    let missing = tmp.path().join("none/x");
    let missing = missing.to_str().unwrap();
    let cases: [&[&str]; 4] = [
        &["--temp-dir", missing, "."],
        &["--rows", missing, "."],
        &["--paths-from", missing],
        &["status", missing],
    ];
    for arguments in cases {
        let text = stderr(&run(arguments));
        assert!(!text.is_empty() && !text.contains("os error"), "{text}");
    }
    let script = r#"mkdir gone && cd gone && rmdir ../gone && exec "$0" count ./here"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_hydra-server")]);
    let output = shell.current_dir(tmp.path()).output().unwrap();
    assert!(!stderr(&output).contains("entity"), "{}", stderr(&output));
}

#[test]
fn a_walk_in_one_thread_was_told_to_have_a_worker_on_serial() {
    let tmp = tempfile::tempdir().unwrap();
    let output = run(&["--serial", tmp.path().to_str().unwrap()]);
    let text = stdout(&output);
    assert!(text.contains("in one thread, without workers"), "{text}");
}

#[test]
fn names_in_messages_cannot_move_the_cursor() {
    let output = run(&["\x1b[2Jaudit"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("\\x1b[2Jaudit"));
    assert!(!stderr(&output).contains('\x1b'));
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [
        &["--help"][..],
        &["audit", "--help"],
        &["--version"],
        &["keygen", "--help"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains("hydra-server"), "{arguments:?}");
        assert_eq!(stderr(&output), "");
    }
    let client = env!("CARGO_BIN_EXE_hydra-client");
    let output = Command::new(client).arg("--help").output().unwrap();
    assert!(
        stdout(&output).contains("Usage: hydra-client"),
        "{}",
        stdout(&output)
    );
    let output = Command::new(client).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_job_that_ends_before_all_workers_have_begun_says_nothing_of_it() {
    let tmp = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        let output = server()
            .args(["--workers", "8"])
            .arg(tmp.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn the_document_has_the_documented_keys_and_types() {
    let tmp = tempfile::tempdir().unwrap();
    let document = report(
        &server()
            .args(["--serial", "--json"])
            .arg(tmp.path())
            .output()
            .unwrap(),
    );
    assert_eq!(document["schema"], "hydra.report/1");
    let numbers = [
        "/totals/entries",
        "/totals/directories",
        "/totals/files",
        "/totals/symlinks",
        "/totals/other",
        "/totals/apparent_bytes",
        "/totals/allocated_bytes",
        "/totals/unique_allocated_bytes",
        "/totals/hard_linked",
        "/errors/count",
        "/errors/vanished",
        "/run/seconds",
        "/run/entries_per_second",
        "/run/clients/0/workers",
        "/run/clients/0/entries",
        "/run/clients/0/commits",
        "/run/clients/0/grants",
        "/run/clients/0/sheds",
        "/run/clients/0/lost_workers",
    ];
    for pointer in numbers {
        assert!(
            document.pointer(pointer).is_some_and(Value::is_number),
            "{pointer}"
        );
    }
    for pointer in [
        "/errors/first",
        "/errors/set_aside",
        "/run/clients",
        "/run/warnings",
        "/roots",
    ] {
        assert!(
            document.pointer(pointer).is_some_and(Value::is_array),
            "{pointer}"
        );
    }
    assert!(document["errors"]["by_kind"].is_object());
    assert!(document["audit"].is_object());
}

#[test]
fn the_report_for_people_names_the_tree_and_its_totals() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("f"), "x").unwrap();
    let output = server().arg("--serial").arg(tmp.path()).output().unwrap();
    let text = stdout(&output);
    for line in ["entries", "directories", "files", "allocated"] {
        let times = text
            .lines()
            .filter(|shown| shown.trim_start().starts_with(line));
        assert_eq!(times.count(), 1, "{line} in {text}");
    }
    assert!(text.contains(tmp.path().to_str().unwrap()), "{text}");
    assert_eq!(
        stderr(&output),
        "",
        "no progress where there is no terminal"
    );
}

#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in [&["--serial", "--json", "/usr/bin"][..], &["--help"]] {
        let mut command = server();
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

/// Runs a program, and interrupts it as soon as it can bear that.
fn interrupt_at_once(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let catches_interrupts = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() & 0b10 != 0
    };
    while !catches_interrupts() {
        std::thread::yield_now();
    }
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn an_interrupt_ended_a_serial_walk_without_its_report() {
    let output = interrupt_at_once(server().args(["--serial", "--json", "/usr"]));
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(report(&output)["complete"], false);
}

#[test]
fn an_interrupt_before_anything_was_committed_did_not_say_so() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    // Nobody comes to walk.
    let alone = |more: &[&str]| {
        let mut server = server();
        server
            .args(["--listen=127.0.0.1:0", "--key-dir"])
            .arg(&keys);
        interrupt_at_once(server.args(more).arg(tmp.path()))
    };
    let text = alone(&[]);
    let said = "PARTIAL: interrupted before anything was committed";
    assert!(stdout(&text).contains(said), "{}", stdout(&text));
    let json = alone(&["--json"]);
    assert_eq!(report(&json)["totals"]["entries"], 0);
    let said = "hydra-server: interrupted before anything was committed";
    assert!(stderr(&json).contains(said), "{}", stderr(&json));
    assert_eq!(
        (text.status.code(), json.status.code()),
        (Some(130), Some(130))
    );
}

#[test]
fn secrets_of_sessions_stood_in_the_most_talkative_log() {
    let tmp = tempfile::tempdir().unwrap();
    let ran = server()
        .args(["-vvv", "count"])
        .arg(tmp.path())
        .output()
        .unwrap();
    assert!(stderr(&ran).contains("Welcome"), "it says little");
    assert!(!stderr(&ran).contains("secret: ["));
}
