//! Rows that nobody takes: the walk pauses, clients live on, Ctrl-C works, and whoever reads at last finds each row once.

use crate::Test;
use crate::common::{Lab, Process, is_root, lab::listening};
use crate::mount::Mount;
use crate::plugin::row;
use rustix::process::Signal;
use std::fs;
use std::io::{PipeReader, Read};
use std::path::Path;
use std::process::Command;

pub(crate) const TESTS: &[Test] = &[
    (
        "rows_that_nobody_read_stopped_the_server_and_clients_were_lost",
        rows_that_nobody_read_stopped_the_server_and_clients_were_lost,
    ),
    (
        "ctrl_c_did_nothing_while_nobody_read_the_rows",
        ctrl_c_did_nothing_while_nobody_read_the_rows,
    ),
    (
        "ctrl_c_did_nothing_when_only_rows_were_left",
        ctrl_c_did_nothing_when_only_rows_were_left,
    ),
    (
        "a_reader_that_stops_reading_and_goes_away_ends_the_job",
        a_reader_that_stops_reading_and_goes_away_ends_the_job,
    ),
    (
        "a_full_disk_of_the_rows_ended_the_job",
        a_full_disk_of_the_rows_ended_the_job,
    ),
];

/// Bytes of a row.
const BYTES: usize = 60_000;
const NOBODY: &str = "nobody reads the rows: the walk pauses until somebody does";

/// A tree with so many files, each with ten rows, and all of these, sorted.
fn tree(lab: &Lab, files: usize) -> Vec<String> {
    let mut rows = Vec::new();
    for number in 0..files {
        let dir = lab.path(format!("tree/{}/{number}", number % 7));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("rows-10");
        fs::write(&file, "").unwrap();
        let shown = file.to_str().unwrap();
        rows.extend((0..10).map(|number| row(shown, number, BYTES)));
    }
    rows.sort_unstable();
    rows
}

fn this_program(lab: &Lab) -> Command {
    let mut command = lab.command(std::env::current_exe().unwrap());
    command.arg("--key-dir").arg(lab.keys());
    command
}

/// A server over the tree with two workers of its own, or with clients, whose rows go to standard output, or elsewhere.
fn server(lab: &Lab, more: &[&str]) -> Command {
    let mut server = this_program(lab);
    server.args(more);
    if !more.contains(&"--clients") {
        server.args(["--workers", "2"]);
    }
    if !more.contains(&"--rows") {
        server.args(["--rows", "-"]);
    }
    // Who is silent is given up much sooner than it is told that nobody reads.
    server.args(["--beat", "50ms", "--dead-after", "1s"]);
    server.args(["--grace", "500ms", "--lease", "250ms"]);
    server.args(["--commit-interval", "10ms"]);
    server.args(["do", "--bytes", &BYTES.to_string()]);
    server.arg(lab.path("tree"));
    server
}

fn client(lab: &Lab) -> (Process, String) {
    let mut client = lab.command(std::env::current_exe().unwrap());
    client.args(["client", "-v", "--workers", "2", "--key-dir"]);
    client.arg(lab.keys()).args(["--listen", "127.0.0.1:0"]);
    listening(client)
}

/// The lines that come out of a pipe until its end, sorted.
fn lines(mut pipe: PipeReader) -> Vec<String> {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    sorted(&text)
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Not `assert_eq`: they are long.
fn assert_same(found: &[String], expected: &[String]) {
    let short = |rows: &[String]| rows.iter().map(String::len).sum::<usize>();
    let both = (found.len(), short(found), expected.len(), short(expected));
    assert!(found == expected, "other rows: {both:?}");
}

fn rows_that_nobody_read_stopped_the_server_and_clients_were_lost() {
    let lab = Lab::new();
    let expected = tree(&lab, 100);
    let clients = [client(&lab), client(&lab)];
    let addresses = clients.each_ref().map(|(_, address)| address.as_str());
    let addresses = addresses.join(",");
    let more = ["--clients", &addresses, "--log-level", "hydra_server=debug"];
    let (mut server, pipe) = Process::start_piped(server(&lab, &more));
    server.line(NOBODY);
    let found = std::thread::spawn(|| lines(pipe));
    let ran = server.finish();
    ran.assert_status(0).assert_says("the walk goes on");
    assert_same(&found.join().unwrap(), &expected);
    for word in ["is given up", "connection lost"] {
        assert!(!ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    for (client, _) in clients {
        client.signal(Signal::TERM);
        let ran = client.finish();
        assert!(!ran.stderr.contains("is lost"), "{}", ran.stderr);
    }
    lab.assert_nobody_left();
}

fn ctrl_c_did_nothing_while_nobody_read_the_rows() {
    let lab = Lab::new();
    tree(&lab, 100);
    let (mut server, pipe) = Process::start_piped(server(&lab, &[]));
    server.line(NOBODY);
    server.signal(Signal::INT);
    let ran = server.finish();
    ran.assert_status(130).assert_says("bytes of rows are lost");
    drop(pipe);
    lab.assert_nobody_left();
}

fn ctrl_c_did_nothing_when_only_rows_were_left() {
    let lab = Lab::new();
    let expected = tree(&lab, 10);
    const WAITS: &str = "nobody reads the rows: the job waits until somebody does";
    let (mut stopped, pipe) = Process::start_piped(server(&lab, &[]));
    stopped.line(WAITS);
    stopped.signal(Signal::INT);
    stopped.finish().assert_status(130);
    drop(pipe);
    let (mut server, pipe) = Process::start_piped(server(&lab, &[]));
    server.line(WAITS);
    let found = std::thread::spawn(|| lines(pipe));
    server.finish().assert_status(0);
    assert_same(&found.join().unwrap(), &expected);
    lab.assert_nobody_left();
}

fn a_reader_that_stops_reading_and_goes_away_ends_the_job() {
    let lab = Lab::new();
    tree(&lab, 100);
    let (mut server, pipe) = Process::start_piped(server(&lab, &[]));
    server.line(NOBODY);
    drop(pipe);
    server.finish().assert_status(3);
    lab.assert_nobody_left();
}

/// Needs root, for a file system of its own.
fn a_full_disk_of_the_rows_ended_the_job() {
    if !is_root("a disk for rows that is full") {
        return;
    }
    let lab = Lab::new();
    let expected = tree(&lab, 30);
    let Some(small) = Mount::memory(lab.path("small"), "2m") else {
        eprintln!("SKIPPED, as it cannot be mounted: a disk for rows that is full");
        return;
    };
    let rows = small.at.join("rows");
    let more = ["--json", "--rows", rows.to_str().unwrap()];
    let mut server = Process::start(server(&lab, &more));
    server.line("the disk of the rows is full: the walk pauses until there is room");
    assert!(small.resize("64m"));
    let ran = server.finish();
    ran.assert_status(0).assert_says("has room again");
    assert_eq!(ran.report()["totals"]["files"], 30);
    assert_same(&sorted(&read(&rows)), &expected);
    lab.assert_nobody_left();
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
