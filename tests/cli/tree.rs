//! What is walked, against what `find` and `du` say.

use super::{report, run, server, stderr, stdout};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// An ordinary user, for trees with unreadable directories when the tests run as root.
const NOBODY: u32 = 65534;

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
fn a_nested_root_that_could_not_be_walked_took_an_entry_away() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir_all(tmp.path().join("dir/sub")).unwrap();
    fs::write(tmp.path().join("dir/file"), "").unwrap();
    for (target, link) in [
        ("dir", "to-dir"),
        ("dir/file", "to-file"),
        ("no", "dangling"),
    ] {
        symlink(target, tmp.path().join(link)).unwrap();
    }
    let cases: [&[&str]; 12] = [
        &[".", "./dir/file/"],
        &[".", "./dir/file/."],
        &["./dir/file/", "./dir", "./"],
        &[".", "./dangling/"],
        &[".", "./to-file/"],
        &[".", "./dir/"],
        &[".", "./dir/", "./dir/sub/", "./dir/sub/none/"],
        &[".", "./to-dir/", "./to-dir/file/"],
        &["./dir/file/", "./dir/file"],
        &["./dir/file", "./dir/file/", "."],
        &["./dangling", "./dangling/"],
        &["./to-dir", "./to-dir/"],
    ];
    for roots in cases {
        let mut found = Command::new("find");
        found.arg("-H").args(roots).args(["-printf", "%p %y\n"]);
        let found = found.current_dir(tmp.path()).output().unwrap();
        // As often as it is given, a path counts once; a link and the directory behind it are two.
        let lines = stdout(&found).replace("/. ", " ").replace("/ ", " ");
        let lines = lines.replace("./", "");
        let entries: std::collections::HashSet<_> = lines.lines().collect();
        for way in [&["--serial"][..], &["--workers", "1"]] {
            let mut command = server();
            command.args(["--json", "count"]).args(way).args(roots);
            let document = report(&command.current_dir(tmp.path()).output().unwrap());
            assert_eq!(
                document["totals"]["entries"],
                entries.len(),
                "{roots:?} {way:?}"
            );
            let errors = stderr(&found).lines().count();
            assert_eq!(document["errors"]["count"], errors, "{roots:?} {way:?}");
        }
    }
}

#[test]
fn a_message_about_a_root_did_not_show_its_slash() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("file"), "").unwrap();
    for way in ["--serial", "--workers=1"] {
        let run = |roots: &[&str]| {
            let mut command = server();
            command.args(["-q", "count", way]).args(roots);
            command.current_dir(tmp.path()).output().unwrap()
        };
        let (alone, both) = (run(&["./file/"]), run(&["./file/", "./file"]));
        assert_eq!(alone.status.code(), Some(4));
        let text = stderr(&alone);
        assert!(text.contains("/file/: not a directory"), "{text}");
        assert_eq!(both.status.code(), Some(1));
        let text = stdout(&both);
        assert!(text.contains("/file/: open: not a directory"), "{text}");
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
