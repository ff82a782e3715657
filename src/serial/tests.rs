use super::*;
use crate::registry::Registry;
use crate::test_plugin::{Calls, Probe, ProbeOptions, ProbeVisit};
use hydra_proto::job::WalkOptions;
use serde_bytes::ByteBuf;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

struct Found {
    walked: Walked,
    calls: Vec<String>,
}

fn job(roots: &[&Path], walk: WalkOptions) -> JobSpec {
    let root = |path: &&Path| RootSpec {
        shown: path.as_os_str().as_bytes().to_vec(),
        local: path.as_os_str().as_bytes().to_vec(),
        stops: Vec::new(),
    };
    JobSpec {
        plugin: "probe".into(),
        roots: roots.iter().map(root).collect(),
        walk,
        ..JobSpec::default()
    }
}

fn options() -> ProbeOptions {
    ProbeOptions {
        facts: true,
        skip: None,
        panic_at: None,
        older: Duration::ZERO,
        now: 0,
    }
}

/// Walks; paths in the calls stand without the temporary directory's.
fn run(job: &JobSpec, options: ProbeOptions, base: &Path) -> Found {
    let mut total = Calls::default();
    let mut watch = Watch {
        rows: None,
        tick: &mut |_, _| {},
        interrupt: &|| false,
    };
    let walked = walk(job, ProbeVisit(options), &mut watch, &mut |calls: Calls| {
        total.merge(calls);
        Ok(())
    });
    let base = base.to_string_lossy().into_owned();
    let calls = total.0.iter().map(|call| call.replace(&base, ""));
    Found {
        walked: walked.unwrap(),
        calls: calls.collect(),
    }
}

fn dir(path: &Path) {
    fs::create_dir_all(path).unwrap();
}

fn has(calls: &[String], call: &str) -> bool {
    calls.iter().any(|known| known == call)
}

#[test]
fn a_directory_is_shown_whole_before_what_is_below_it() {
    let tmp = tempfile::tempdir().unwrap();
    dir(&tmp.path().join("a"));
    fs::write(tmp.path().join("a/f"), "x").unwrap();
    let result = run(
        &job(&[tmp.path()], WalkOptions::default()),
        options(),
        tmp.path(),
    );
    let expected = [
        "Directory ",
        "enter ",
        "Directory /a",
        "listed  1 1",
        "leave ",
        "enter a",
        "File /a/f",
        "listed a 1 0",
        "leave a",
    ];
    assert_eq!(result.calls, expected);
    let walk = &result.walked.walk;
    assert_eq!((walk.entries, walk.directories, walk.files), (3, 2, 1));
}

#[test]
fn links_are_resolved_beneath_the_root_only() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("root");
    dir(&root.join("d/e"));
    fs::write(root.join("d/f"), "x").unwrap();
    fs::write(tmp.path().join("outside"), "x").unwrap();
    let links = [
        ("to-file", "d/f", "File"),
        ("to-dir", "./d//e/", "Directory"),
        ("to-root", "d/..", "Directory"),
        ("nothing", "d/none", "Dangling"),
        ("file-as-dir", "d/f/x", "Dangling"),
        ("file-slash", "d/f/", "Dangling"),
        ("loop", "loop", "Dangling"),
        ("out", "../outside", "Elsewhere"),
        ("out-and-in", "../root/d/f", "Elsewhere"),
        ("absolute", "/etc/passwd", "Elsewhere"),
        ("chain", "d/back", "File"),
        ("d/back", "../to-file", "File"),
    ];
    for (name, target, _) in links {
        symlink(target, root.join(name)).unwrap();
    }
    let result = run(&job(&[&root], WalkOptions::default()), options(), &root);
    for (name, _, expected) in links {
        let call = format!("Symlink /{name} {expected}");
        assert!(
            has(&result.calls, &call),
            "{call} is not in {:?}",
            result.calls
        );
    }
    assert_eq!(result.walked.walk.error_count(), 0);
}

#[test]
fn roots_are_followed_as_find_does_with_h() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    dir(&at("d/e"));
    fs::write(at("f"), "x").unwrap();
    symlink("d", at("to-dir")).unwrap();
    symlink("f", at("to-file")).unwrap();
    symlink("none", at("to-nothing")).unwrap();
    let names = ["f", "to-dir", "to-file", "to-nothing", "missing"].map(at);
    let paths: Vec<&Path> = names.iter().map(|path| path.as_path()).collect();
    let result = run(&job(&paths, WalkOptions::default()), options(), tmp.path());
    for call in [
        "File /f",
        "Directory /to-dir",
        "Directory /to-dir/e",
        "File /to-file",
        "Symlink /to-nothing Dangling",
    ] {
        assert!(
            has(&result.calls, call),
            "{call} is not in {:?}",
            result.calls
        );
    }
    assert_eq!(result.walked.walk.entries, 5);
    assert_eq!(result.walked.roots_walked, 4);
    let missing = result.walked.walk.first_errors.first().unwrap();
    assert_eq!(missing.kind, "ENOENT");
    assert_eq!(missing.message, "no such file or directory");
}

#[test]
fn excluded_directories_are_not_opened() {
    let tmp = tempfile::tempdir().unwrap();
    dir(&tmp.path().join("keep/x"));
    dir(&tmp.path().join("x/below"));
    dir(&tmp.path().join("deep/er/y"));
    let walk = WalkOptions {
        excludes: vec!["x".into(), "**/y".into()],
        ..WalkOptions::default()
    };
    let result = run(&job(&[tmp.path()], walk), options(), tmp.path());
    assert!(
        has(&result.calls, "Directory /keep/x"),
        "{:?}",
        result.calls
    );
    assert!(!has(&result.calls, "Directory /x"), "{:?}", result.calls);
    assert!(
        !has(&result.calls, "Directory /deep/er/y"),
        "{:?}",
        result.calls
    );
    assert_eq!(result.walked.walk.excluded, 2);
    assert_eq!(result.walked.walk.entries, 5);
}

#[test]
fn an_alternative_with_nothing_in_it_was_left_out() {
    let tmp = tempfile::tempdir().unwrap();
    for name in ["core", "core.1", "cores"] {
        fs::write(tmp.path().join(name), "x").unwrap();
    }
    let walk = WalkOptions {
        excludes: vec!["core{,.*}".into()],
        ..WalkOptions::default()
    };
    let result = run(&job(&[tmp.path()], walk), options(), tmp.path());
    assert_eq!(result.walked.walk.excluded, 2);
    assert_eq!(result.walked.walk.files, 1);
}

#[test]
fn the_outer_of_two_roots_stops_at_the_inner() {
    let tmp = tempfile::tempdir().unwrap();
    dir(&tmp.path().join("a/b/c"));
    let inner = tmp.path().join("a/b");
    let mut job = job(&[tmp.path(), &inner], WalkOptions::default());
    job.roots[0].stops.push(ByteBuf::from("a/b"));
    let result = run(&job, options(), tmp.path());
    assert_eq!(result.walked.walk.entries, 4);
    let shown = result.calls.iter().filter(|call| *call == "Directory /a/b");
    assert_eq!(shown.count(), 1);
}

#[test]
fn snapshot_directories_are_counted_and_not_entered() {
    let tmp = tempfile::tempdir().unwrap();
    dir(&tmp.path().join("a/.snapshot/old"));
    let default = run(
        &job(&[tmp.path()], WalkOptions::default()),
        options(),
        tmp.path(),
    );
    assert_eq!(default.walked.walk.entries, 3);
    assert_eq!(default.walked.walk.skipped_snapshots, 1);
    let walk = WalkOptions {
        snapshots: true,
        ..WalkOptions::default()
    };
    let all = run(&job(&[tmp.path()], walk), options(), tmp.path());
    assert_eq!(all.walked.walk.entries, 4);
    let itself = tmp.path().join("a/.snapshot");
    let root = run(
        &job(&[&itself], WalkOptions::default()),
        options(),
        tmp.path(),
    );
    assert_eq!(
        root.walked.walk.entries, 2,
        "a root is entered whatever its name"
    );
}

#[test]
fn a_plugin_may_skip_a_directory() {
    let tmp = tempfile::tempdir().unwrap();
    dir(&tmp.path().join("a/b"));
    let skip = ProbeOptions {
        skip: Some("a".into()),
        ..options()
    };
    let result = run(
        &job(&[tmp.path()], WalkOptions::default()),
        skip,
        tmp.path(),
    );
    assert_eq!(result.walked.walk.entries, 2);
    assert!(!has(&result.calls, "leave a"));
}

#[test]
fn a_panic_costs_one_entry() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("bad"), "").unwrap();
    fs::write(tmp.path().join("good"), "").unwrap();
    let panicking = ProbeOptions {
        panic_at: Some("bad".into()),
        ..options()
    };
    let result = run(
        &job(&[tmp.path()], WalkOptions::default()),
        panicking,
        tmp.path(),
    );
    assert!(has(&result.calls, "File /good"));
    assert_eq!(result.walked.walk.entries, 3);
    let error = result.walked.walk.first_errors.first().unwrap();
    assert_eq!(
        (error.kind.as_str(), error.path.bytes.ends_with(b"/bad")),
        ("PANIC", true)
    );
    assert!(error.message.contains("told to"));
}

#[test]
fn chains_longer_than_a_path_may_be_are_walked() {
    let tmp = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let mut at = rustix::fs::open(tmp.path(), rustix::fs::OFlags::PATH, 0.into()).unwrap();
    for _ in 0..50 {
        rustix::fs::mkdirat(&at, &name, 0o700.into()).unwrap();
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::PATH, 0.into()).unwrap();
    }
    rustix::fs::symlinkat("../..", &at, "up").unwrap();
    let result = run(
        &job(&[tmp.path()], WalkOptions::default()),
        options(),
        tmp.path(),
    );
    assert_eq!(result.walked.walk.directories, 51);
    assert_eq!(result.walked.walk.error_count(), 0);
    let link = result
        .calls
        .iter()
        .find(|call| call.starts_with("Symlink"))
        .unwrap();
    assert!(link.ends_with("/up Directory"));
}

#[test]
fn an_interrupt_ends_the_walk() {
    let tmp = tempfile::tempdir().unwrap();
    dir(&tmp.path().join("a"));
    let registry = Registry::new().with::<Probe>();
    let mut job = job(&[tmp.path()], WalkOptions::default());
    job.options = serde_json::to_vec(&options()).unwrap();
    let mut watch = Watch {
        rows: None,
        tick: &mut |_, _| {},
        interrupt: &|| true,
    };
    let plugin = registry.default_plugin().unwrap();
    let (walked, _) = plugin.walk_serially(&job, &mut watch).unwrap();
    assert!(walked.interrupted);
    assert_eq!(walked.walk.entries, 1);
}

#[test]
fn one_thread_told_a_failing_disk_in_other_words_than_workers() {
    for code in [5, 13, 116, 99_999] {
        let (kind, message) = describe(&io::Error::from_raw_os_error(code));
        assert_eq!(kind, hydra_worker::errno::name(code));
        assert_eq!(message, hydra_worker::errno::message(code));
    }
}
