//! How jobs end: by themselves, by the user, by a signal, by the death of any process. Nobody is left behind.

use super::common::{
    Gate, LIMIT, Lab, Process, forest, lab::listening, pids_with, truth, without_run,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A tree of a few files, of which each waits at a gate when `exec` comes to it.
fn gated(lab: &Lab) -> Gate {
    let tree = lab.path("tree");
    for number in 0..6 {
        fs::create_dir_all(tree.join(format!("d{number}"))).unwrap();
        fs::write(tree.join(format!("d{number}/file")), "").unwrap();
    }
    Gate::new(lab)
}

fn exec_at(lab: &Lab, gate: &Gate) -> Command {
    let mut server = lab.example("exec", &["--json", "--commit-interval", "10ms"]);
    server.args(gate.arguments()).arg("./tree");
    server
}

/// A client for `exec`, with one worker.
fn exec_client(lab: &Lab) -> (Process, String) {
    let mut client = lab.example("exec", &["client", "-v", "--listen", "127.0.0.1:0"]);
    client.args(["--workers", "1", "--allow", "exec"]);
    listening(client)
}

#[test]
fn ctrl_c_reports_what_is_committed_and_says_that_it_is_partial() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--workers", "1"]);
    let server = Process::start(server);
    gate.open(2);
    (0..3).for_each(|_| gate.reached());
    server.signal(Signal::INT);
    let ran = server.finish();
    let report = ran.assert_status(130).report();
    assert_eq!(report["complete"], false);
    assert!(report["totals"]["files"].as_u64().unwrap() <= 2, "{report}");
    lab.assert_nobody_left();
}

#[test]
fn ctrl_c_says_to_people_that_the_report_is_partial() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let mut server = lab.example("exec", &["--workers", "1"]);
    server.args(gate.arguments()).arg("./tree");
    let server = Process::start(server);
    gate.reached();
    server.signal(Signal::INT);
    let ran = server.finish();
    ran.assert_status(130);
    let text = format!("{}{}", ran.stdout, ran.stderr).to_lowercase();
    assert!(
        text.contains("partial") || text.contains("interrupted"),
        "{text}"
    );
    lab.assert_nobody_left();
}

#[test]
fn ctrl_c_twice_ends_at_once_though_a_client_hangs() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let (client, address) = exec_client(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--clients", &address, "--log-level", "hydra_server=trace"]);
    let mut server = Process::start(server);
    gate.reached();
    // It will not let go of the job, so the first interrupt waits for it.
    client.signal(Signal::STOP);
    server.signal(Signal::INT);
    server.line("Stop");
    server.signal(Signal::INT);
    let ran = server.finish();
    ran.assert_status(130);
    assert_eq!(ran.stdout, "");
    client.signal(Signal::CONT);
    drop(client);
    lab.assert_nobody_left();
}

#[test]
fn sigterm_ends_a_server_like_ctrl_c() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--workers", "2"]);
    let server = Process::start(server);
    gate.reached();
    server.signal(Signal::TERM);
    let ran = server.finish();
    assert_eq!(ran.assert_status(130).report()["complete"], false);
    lab.assert_nobody_left();
}

#[test]
fn a_client_that_is_told_to_end_leaves_nobody() {
    for signal in [Signal::TERM, Signal::INT] {
        let lab = Lab::new();
        let gate = gated(&lab);
        let (client, address) = exec_client(&lab);
        let mut server = exec_at(&lab, &gate);
        server.args(["--clients", &address, "--client-timeout", "10ms"]);
        server.args(["--beat", "50ms", "--dead-after", "100ms", "--grace", "0s"]);
        server.args(["--lease", "50ms"]);
        let server = Process::start(server);
        gate.reached();
        client.signal(signal);
        client.finish().assert_status(0);
        let ran = server.finish();
        let report = ran.assert_status(3).report();
        assert_eq!(report["complete"], false);
        let aside = report["errors"]["set_aside"].as_array().unwrap();
        assert!(!aside.is_empty(), "what is missing is named: {report}");
        lab.assert_nobody_left();
    }
}

#[test]
fn a_killed_server_leaves_no_worker_and_nothing_that_it_started() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--workers", "2"]);
    let mut server = Process::start(server);
    gate.reached();
    server.kill();
    lab.assert_nobody_left();
}

#[test]
fn a_killed_client_leaves_no_worker_and_nothing_that_it_started() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let (mut client, address) = exec_client(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--clients", &address]);
    let mut server = Process::start(server);
    gate.reached();
    client.kill();
    server.kill();
    lab.assert_nobody_left();
}

#[test]
fn a_client_outlives_its_server_and_serves_the_next_one() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let (client, address) = exec_client(&lab);
    let server = |more: &[&str]| {
        let mut server = exec_at(&lab, &gate);
        server.args(["--clients", &address, "--wait"]).args(more);
        server.args(["--beat", "50ms", "--dead-after", "200ms"]);
        server.args(["--grace", "100ms", "--lease", "100ms"]);
        Process::start(server)
    };
    let mut first = server(&[]);
    gate.reached();
    first.kill();
    let second = server(&[]);
    gate.reached();
    gate.open(6);
    let ran = second.finish();
    assert_eq!(ran.assert_status(0).report()["totals"]["files"], 6);
    client.signal(Signal::TERM);
    client.finish().assert_status(0);
    lab.assert_nobody_left();
}

#[test]
fn the_only_client_that_comes_back_gets_its_work_again_and_nothing_is_set_aside() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let (mut client, address) = exec_client(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--clients", &address]);
    server.args(["--beat", "50ms", "--dead-after", "200ms"]);
    server.args(["--grace", "0s", "--lease", "50ms"]);
    let mut server = Process::start(server);
    gate.reached();
    client.kill();
    server.line("is given up");
    let mut again = lab.example("exec", &["client", "-v", "--listen", &address]);
    again.args(["--workers", "1", "--allow", "exec"]);
    let (_client, _) = listening(again);
    gate.reached();
    gate.open(6);
    let ran = server.finish();
    assert_eq!(ran.assert_status(0).report()["totals"]["files"], 6);
}

/// The workers of a lab: those whose first argument says so.
fn workers(lab: &Lab) -> Vec<Pid> {
    let mut pids = pids_with(lab.mark());
    pids.retain(|pid| {
        let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        let line = fs::read(path).unwrap_or_default();
        line.split(|&b| b == 0).nth(1) == Some(b"__hydra-worker")
    });
    pids
}

#[test]
fn a_killed_worker_takes_with_it_what_it_started_and_is_replaced() {
    let lab = Lab::new();
    let gate = gated(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--workers", "1"]);
    let server = Process::start(server);
    gate.reached();
    let before = pids_with(lab.mark());
    let [worker] = workers(&lab)[..] else {
        panic!()
    };
    kill_process(worker, Signal::KILL).unwrap();
    // The command of the first one has died at the gate, so all of these are for the second.
    gate.reached();
    let after = pids_with(lab.mark());
    let stays = |pid: &&Pid| after.contains(pid) && **pid != server.pid();
    assert_eq!(before.iter().find(stays), None, "{before:?} {after:?}");
    gate.open(6);
    let ran = server.finish();
    let report = ran.assert_status(0).report();
    assert_eq!(report["totals"]["files"], 6);
    assert_eq!(report["run"]["clients"][0]["lost_workers"], 1);
    lab.assert_nobody_left();
}

#[test]
fn an_empty_directory_is_one_entry() {
    let lab = Lab::new();
    fs::create_dir(lab.path("empty")).unwrap();
    let report = lab.alone(&[], &[&lab.path("empty")]);
    assert_eq!(report["totals"], truth(&lab.path("empty")));
    assert_eq!(report["totals"]["entries"], 1);
    assert_eq!(report, lab.serial(&[], &[&lab.path("empty")]));
    lab.assert_nobody_left();
}

#[test]
fn standard_output_has_one_document_and_standard_error_nothing() {
    let lab = Lab::new();
    forest(&lab.path("tree"), 50);
    let mut server = lab.audit();
    server.arg("./tree");
    let ran = lab.run(server);
    let mut documents = serde_json::Deserializer::from_str(&ran.stdout).into_iter::<Value>();
    assert!(documents.next().is_some_and(|document| document.is_ok()));
    assert!(documents.next().is_none());
    assert_eq!(ran.stderr, "", "no progress where there is no terminal");

    let mut server = lab.audit();
    server.args(["-vv", "./tree"]);
    let loud = lab.run(server);
    assert!(!loud.stderr.is_empty());
    assert_eq!(without_run(loud.report()), without_run(ran.report()));
}

/// Reads until `part` was read, or everything.
fn read_until(source: &mut fs::File, part: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(part) {
        let timeout = Timespec::try_from(LIMIT).unwrap();
        let ready = poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&timeout));
        assert_eq!(ready, Ok(1), "{text:?}");
        // The end of a terminal is an error.
        match source.read(&mut buffer) {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            _ => return text,
        }
    }
    text
}

#[test]
fn the_progress_line_is_shown_on_a_terminal_and_not_when_quiet() {
    let lab = Lab::new();
    let gate = gated(&lab);
    for quiet in [false, true] {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut server = exec_at(&lab, &gate);
        server.args(["--workers", "1"]).args(quiet.then_some("-q"));
        server.stdout(Stdio::null()).stderr(Stdio::from(pty.slave));
        let mut child = server.spawn().unwrap();
        drop(server);
        let mut terminal = fs::File::from(pty.master);
        if !quiet {
            let text = read_until(&mut terminal, "workers busy");
            assert!(text.contains("entries"), "{text:?}");
        }
        gate.open(6);
        let text = read_until(&mut terminal, "never said");
        assert!(child.wait().unwrap().success());
        if quiet {
            assert_eq!(text, "");
        }
    }
}

#[test]
fn a_log_that_nobody_reads_held_up_the_walk() {
    let lab = Lab::new();
    forest(&lab.path("tree"), 50);
    let mut server = lab.command(env!("CARGO_BIN_EXE_hydra-server"));
    server.args(["--json", "--log-level", "trace", "./tree"]);
    server.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = server.spawn().unwrap();
    let mut stdout = fs::File::from(OwnedFd::from(child.stdout.take().unwrap()));
    let report: Value = serde_json::from_str(&read_until(&mut stdout, "never said")).unwrap();
    assert_eq!(report["complete"], true);
    // Until now standard error was open, and is full.
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn where_no_thread_could_be_made_the_program_panicked() {
    let lab = Lab::new();
    forest(&lab.path("tree"), 2);
    fs::set_permissions(lab.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = lab.command("bash");
    server.args(["-c", "ulimit -u 1 && exec \"$0\" \"$@\""]);
    server.args([env!("CARGO_BIN_EXE_hydra-server"), "--json", "./tree"]);
    if rustix::process::geteuid().is_root() {
        // Root has no such limit.
        server.uid(65534).gid(65534);
    }
    let ran = Process::start(server).finish();
    if ran.status == Some(126) {
        eprintln!("not tested: this program cannot be started by another user");
        return;
    }
    ran.assert_status(3).assert_says("ulimit -u");
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn more_workers_than_are_started_at_once_all_work() {
    const WORKERS: usize = 40;
    let lab = Lab::new();
    for number in 0..WORKERS {
        fs::create_dir_all(lab.path(format!("tree/d{number}"))).unwrap();
        fs::write(lab.path(format!("tree/d{number}/file")), "").unwrap();
    }
    let gate = Gate::new(&lab);
    let mut server = exec_at(&lab, &gate);
    server.args(["--workers", &WORKERS.to_string()]);
    let server = Process::start(server);
    (0..WORKERS).for_each(|_| gate.reached());
    gate.open(WORKERS);
    let ran = server.finish();
    assert_eq!(ran.assert_status(0).report()["totals"]["files"], WORKERS);
    lab.assert_nobody_left();
}

#[test]
fn a_closed_pipe_ends_a_job_quietly() {
    let lab = Lab::new();
    forest(&lab.path("tree"), 50);
    for arguments in [&["--json"][..], &[]] {
        let mut server = lab.command(env!("CARGO_BIN_EXE_hydra-server"));
        server.args(arguments).arg("./tree");
        let (server, pipe) = Process::start_piped(server);
        drop(pipe);
        let ran = server.finish();
        assert_eq!(ran.assert_status(0).stderr, "");
    }
    lab.assert_nobody_left();
}
