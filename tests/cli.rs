//! The real programs: wrong usage, help, and `--serial` against what `find` and `du` say.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An ordinary user, for trees with unreadable directories when the tests run as root.
const NOBODY: u32 = 65534;

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

/// What `find` counts with these tests, by its own types.
fn find(paths: &[&Path], arguments: &[&str]) -> u64 {
    let mut command = Command::new("find");
    command.arg("-H").args(paths).args(arguments);
    let output = command.args(["-printf", "."]).output().unwrap();
    output.stdout.len() as u64
}

fn du(path: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-s", "-B1", "-D"])
        .arg(path)
        .output()
        .unwrap();
    let text = stdout(&output);
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn assert_totals(path: &Path, more: &[&str], find_more: &[&str]) -> Value {
    let output = server()
        .args(["--serial", "--json"])
        .args(more)
        .arg(path)
        .output()
        .unwrap();
    let document = report(&output);
    let totals = &document["totals"];
    let typed = |kind: &str| find(&[path], &[find_more, &["-type", kind]].concat());
    assert_eq!(totals["entries"], find(&[path], find_more));
    assert_eq!(totals["directories"], typed("d"));
    assert_eq!(totals["files"], typed("f"));
    assert_eq!(totals["symlinks"], typed("l"));
    assert_eq!(totals["other"], typed("p,s,c,b"));
    document
}

fn hostile_tree(root: &Path) {
    let names: [&[u8]; 5] = [b"a b", b"new\nline", b"\xff\xfe", b"-rf", b"\x1b[2J"];
    for name in names {
        let dir = root.join(OsStr::from_bytes(name));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(OsStr::from_bytes(name)), vec![b'x'; 5000]).unwrap();
    }
    fs::write(root.join("n".repeat(255)), "").unwrap();
    fs::hard_link(root.join("a b/a b"), root.join("linked")).unwrap();
    symlink("a b", root.join("to-dir")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
}

#[test]
fn wrong_usage_is_one_sentence_and_status_2() {
    let cases: [(&[&str], &str); 14] = [
        (&[], "no path is given"),
        (&["nonsense"], "audit, count, keygen"),
        (&["--no-such", "/"], "--no-such"),
        (&["--grace", "5", "/"], "'5' is not a duration"),
        (&["-E", "a[", "/"], "the glob 'a['"),
        (&["--paths-from", "/no/such/list"], "/no/such/list"),
        (&["--serial", "--clients", "a", "/"], "cannot be used with"),
        (&["--rows", "-", "/"], "--rows cannot be used with audit"),
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
fn keygen_makes_keys_once() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    let keygen = || {
        server()
            .args(["keygen", "--key-dir"])
            .arg(&keys)
            .output()
            .unwrap()
    };
    let first = keygen();
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("client.key"));
    let mode = fs::metadata(keys.join("server.key")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = keygen();
    assert_ne!(second.status.code(), Some(0));
    assert!(
        stderr(&second).contains("server.key"),
        "{}",
        stderr(&second)
    );
}

#[test]
fn a_mistyped_key_directory_was_made_with_keys_in_it() {
    let tmp = tempfile::tempdir().unwrap();
    let typo = tmp.path().join("no-such/keys");
    let client = Command::new(env!("CARGO_BIN_EXE_hydra-client"))
        .args(["--connect", "127.0.0.1:1", "--key-dir"])
        .arg(&typo)
        .output()
        .unwrap();
    let listening = ["--listen=127.0.0.1:0", "--client-timeout", "100ms"];
    let server = server()
        .args(listening)
        .arg("--key-dir")
        .arg(&typo)
        .arg(tmp.path())
        .output()
        .unwrap();
    for (output, part) in [(client, "keys/client.key"), (server, "correct --key-dir")] {
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
}

#[test]
fn a_client_that_cannot_be_reached_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let mut command = server();
    command.args([
        "--clients",
        "127.0.0.1:1",
        "--connect-timeout",
        "100ms",
        "--key-dir",
    ]);
    let output = command
        .arg(tmp.path().join("keys"))
        .arg(tmp.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("127.0.0.1:1"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn serial_counts_what_find_and_du_count() {
    let tmp = tempfile::tempdir().unwrap();
    hostile_tree(tmp.path());
    let document = assert_totals(tmp.path(), &[], &[]);
    let totals = &document["totals"];
    assert_eq!(totals["unique_allocated_bytes"], du(tmp.path()));
    assert_eq!(totals["apparent_bytes"], 6 * 5000 + (1u64 << 30));
    assert_eq!(totals["hard_linked"], 2);
    assert_eq!(document["complete"], true);
    assert_eq!(document["errors"]["count"], 0);
    assert_eq!(document["roots"][0], tmp.path().to_str().unwrap());
}

#[test]
fn serial_follows_the_walk_s_options() {
    let tmp = tempfile::tempdir().unwrap();
    hostile_tree(tmp.path());
    let root = tmp.path().display();
    let (dir, file) = (format!("{root}/a b"), format!("{root}/-rf/-rf"));
    let without = [
        "-path", &dir, "-prune", "-o", "-path", &file, "-prune", "-o",
    ];
    let excludes = ["-E", "a b", "-E", "*/-rf"];
    let output = server()
        .args(["--serial", "--json"])
        .args(excludes)
        .arg(tmp.path())
        .output();
    let document = report(&output.unwrap());
    assert_eq!(document["totals"]["entries"], find(&[tmp.path()], &without));
    assert_eq!(document["skipped"]["excluded"], 2);
    assert_totals(Path::new("/dev"), &["-x"], &["-xdev"]);
}

#[test]
fn the_default_plugin_needs_no_name_and_count_has_no_byte_totals() {
    let tmp = tempfile::tempdir().unwrap();
    hostile_tree(tmp.path());
    let plain = report(
        &server()
            .args(["--serial", "--json"])
            .arg(tmp.path())
            .output()
            .unwrap(),
    );
    let named = server()
        .args(["audit", "--serial", "--json"])
        .arg(tmp.path())
        .output()
        .unwrap();
    assert_eq!(plain["plugin"], "audit");
    assert_eq!(plain["totals"], report(&named)["totals"]);
    let count = server()
        .arg("count")
        .arg(tmp.path())
        .args(["--json", "--serial"])
        .output();
    let count = report(&count.unwrap());
    assert_eq!(count["plugin"], "count");
    assert!(count["count"].is_object());
    assert_eq!(count["totals"]["entries"], plain["totals"]["entries"]);
    for key in [
        "apparent_bytes",
        "allocated_bytes",
        "unique_allocated_bytes",
        "hard_linked",
    ] {
        assert!(count["totals"][key].is_null(), "{key}");
    }
}

#[test]
fn roots_given_twice_or_nested_are_walked_once() {
    let tmp = tempfile::tempdir().unwrap();
    hostile_tree(tmp.path());
    let alone = report(
        &server()
            .args(["--serial", "--json"])
            .arg(tmp.path())
            .output()
            .unwrap(),
    );
    let mut command = server();
    command
        .args(["--serial", "--json", "./a b", "./", "a b/.//"])
        .arg(tmp.path());
    let nested = report(&command.current_dir(tmp.path()).output().unwrap());
    assert_eq!(nested["totals"], alone["totals"]);
    assert_eq!(nested["roots"].as_array().unwrap().len(), 2);
}

#[test]
fn paths_come_from_a_file_too() {
    let tmp = tempfile::tempdir().unwrap();
    let names: [&[u8]; 2] = [b"new\nline", b"\xff"];
    for name in names {
        fs::create_dir(tmp.path().join(OsStr::from_bytes(name))).unwrap();
    }
    let mut command = server();
    command
        .args(["--serial", "--json", "--paths-from", "-", "-0"])
        .current_dir(tmp.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&names.join(&0)).unwrap();
    drop(input);
    let document = report(&child.wait_with_output().unwrap());
    assert_eq!(document["totals"]["directories"], 2);
    assert!(document["roots_b64"][1].is_string(), "{document}");
}

#[test]
fn a_missing_root_shows_in_the_status() {
    let tmp = tempfile::tempdir().unwrap();
    let missing = tmp.path().join("missing");
    let beside = server()
        .args(["--serial", "--json"])
        .arg(tmp.path())
        .arg(&missing)
        .output();
    let beside = beside.unwrap();
    assert_eq!(beside.status.code(), Some(1));
    let document = report(&beside);
    assert_eq!(document["complete"], true);
    assert_eq!(document["errors"]["by_kind"]["ENOENT"], 1);
    let alone = server()
        .args(["--serial", "--json"])
        .arg(&missing)
        .output()
        .unwrap();
    assert_eq!(alone.status.code(), Some(4));
    assert_eq!(report(&alone)["complete"], false);
    let shown = missing.to_str().unwrap();
    let alone = run(&["-q", shown]);
    assert_eq!(alone.status.code(), Some(4));
    assert_eq!(stdout(&alone), "", "a report of zeros");
    let sentence = format!("{shown}: no such file or directory");
    assert!(stderr(&alone).contains(&sentence), "{}", stderr(&alone));
}

#[test]
fn a_slash_at_the_end_of_a_root_meant_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("dir")).unwrap();
    for file in ["file", "dir/below"] {
        fs::write(tmp.path().join(file), "").unwrap();
    }
    for (target, link) in [("dir", "to-dir"), ("file", "to-file"), ("no", "dangling")] {
        symlink(target, tmp.path().join(link)).unwrap();
    }
    let roots = ["dir", "file", "to-dir", "to-file", "dangling"];
    for (name, end) in roots
        .iter()
        .flat_map(|name| [(name, ""), (name, "/"), (name, "/.")])
    {
        let root = tmp.path().join(format!("{name}{end}"));
        let mut found = Command::new("find");
        let found = found
            .arg("-H")
            .arg(&root)
            .args(["-printf", "."])
            .output()
            .unwrap();
        let kind = match stderr(&found) {
            text if text.contains("Not a directory") => "ENOTDIR",
            text if text.contains("No such file") => "ENOENT",
            text => {
                assert_eq!(text, "");
                ""
            }
        };
        for way in [&["--serial"][..], &["--workers", "1"]] {
            let output = server()
                .args(["count", "--json"])
                .args(way)
                .arg(&root)
                .output();
            let document = report(&output.unwrap());
            assert_eq!(
                document["totals"]["entries"],
                found.stdout.len(),
                "{root:?}"
            );
            let errors = &document["errors"]["by_kind"];
            assert_eq!(
                errors[kind].as_u64(),
                (!kind.is_empty()).then_some(1),
                "{root:?}"
            );
            let shown = tmp.path().join(name);
            assert_eq!(document["roots"][0], shown.to_str().unwrap());
        }
    }
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
fn an_absolute_path_is_walked_from_a_directory_that_is_gone() {
    let tmp = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_hydra-server");
    let script = r#"mkdir gone && cd gone && rmdir ../gone && exec "$0" count "$1""#;
    let from_nowhere = |path: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, program, path]);
        shell.current_dir(tmp.path()).output().unwrap()
    };
    let absolute = from_nowhere(tmp.path().to_str().unwrap());
    assert_eq!(absolute.status.code(), Some(0), "{}", stderr(&absolute));
    assert_eq!(from_nowhere("./here").status.code(), Some(2));
}

#[test]
fn a_client_that_dials_said_nothing_at_start() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    let made = server().args(["keygen", "--key-dir"]).arg(&keys).output();
    assert!(made.unwrap().status.success());
    let mut client = Command::new(env!("CARGO_BIN_EXE_hydra-client"))
        .args(["--connect", "127.0.0.1:1", "--connect-timeout", "20ms"])
        .arg("--key-dir")
        .arg(&keys)
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(client.stderr.take().unwrap()).lines();
    let said: Vec<String> = lines.take(2).map(Result::unwrap).collect();
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(
        said[0].contains("dialling the server at 127.0.0.1:1"),
        "{said:?}"
    );
    assert!(
        said[1].contains("nothing listens on 127.0.0.1:1"),
        "{said:?}"
    );
}

#[test]
fn clients_whose_server_was_killed_serve_the_next_one_at_once() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    let made = server().args(["keygen", "--key-dir"]).arg(&keys).output();
    assert!(made.unwrap().status.success());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let client = Command::new(env!("CARGO_BIN_EXE_hydra-client"))
        .args(["-v", "--listen", &address, "--key-dir"])
        .arg(&keys)
        .stderr(Stdio::piped())
        .spawn();
    let mut client = client.unwrap();
    let mut lines = BufReader::new(client.stderr.take().unwrap()).lines();
    let serve = || {
        let mut command = server();
        command.args(["-vv", "--clients", &address, "--key-dir"]);
        command.arg(&keys);
        command
    };
    // Begins only when another client has come, so it is killed with a job that its client has taken.
    let mut first = serve();
    first.args(["--listen=127.0.0.1:0", "--min-clients", "1"]);
    let mut first = first.arg(tmp.path()).spawn().unwrap();
    let has_begun = lines.any(|line| line.is_ok_and(|line| line.contains("job begins")));
    let rest = std::thread::spawn(move || lines.count());
    first.kill().unwrap();
    first.wait().unwrap();
    let second = serve().arg(tmp.path()).output();
    client.kill().unwrap();
    client.wait().unwrap();
    rest.join().unwrap();
    let second = second.unwrap();
    assert!(has_begun);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
}

#[test]
fn unreadable_directories_are_errors_with_their_paths() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("root");
    for name in ["closed", "unsearchable"] {
        fs::create_dir_all(root.join(name).join("below")).unwrap();
    }
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let as_root = fs::metadata(tmp.path()).unwrap().uid() == 0;
    set_mode(tmp.path(), 0o755).unwrap();
    // The program must be where an ordinary user can reach it.
    let program = tmp.path().join("hydra-server");
    fs::copy(env!("CARGO_BIN_EXE_hydra-server"), &program).unwrap();
    set_mode(&root.join("closed"), 0o000).unwrap();
    set_mode(&root.join("unsearchable"), 0o744).unwrap();
    if as_root {
        for path in [root.clone(), root.join("closed")] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let mut command = Command::new(program);
    command.args(["--serial", "--json"]).arg(&root);
    if as_root {
        use std::os::unix::process::CommandExt;
        command.uid(NOBODY).gid(NOBODY);
    } else {
        set_mode(&root.join("unsearchable"), 0o444).unwrap();
    }
    let output = command.output().unwrap();
    for name in ["closed", "unsearchable"] {
        set_mode(&root.join(name), 0o755).unwrap();
    }
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let document = report(&output);
    assert_eq!(document["totals"]["entries"], 4);
    assert_eq!(document["errors"]["by_kind"]["EACCES"], 2);
    let first = &document["errors"]["first"];
    assert_eq!(first[0]["path"], root.join("closed").to_str().unwrap());
    assert_eq!(first[0]["operation"], "open");
    assert_eq!(first[0]["message"], "permission denied");
    assert_eq!(
        first[1]["path"],
        root.join("unsearchable/below").to_str().unwrap()
    );
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
fn dots_are_paths_without_a_slash() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("below")).unwrap();
    for (dots, entries) in [(".", 1), ("..", 2)] {
        let mut server = server();
        server.args(["count", "--json"]).arg(dots);
        let ran = server
            .current_dir(tmp.path().join("below"))
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", stderr(&ran));
        let mut bare = self::server();
        let ran_bare = bare
            .args(["--json", dots])
            .current_dir(tmp.path().join("below"));
        let report: serde_json::Value =
            serde_json::from_slice(&ran_bare.output().unwrap().stdout).unwrap();
        assert_eq!(report["totals"]["entries"], entries);
    }
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
