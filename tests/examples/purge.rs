//! Purge: what is deleted, what stays, and what is said of it.

#[path = "../../examples/purge.rs"]
#[allow(dead_code)]
mod example;

use super::{ACTING_WAYS, DAY, age, command, finish, names, program, run, set_mode, write};
use example::{By, Outcome, PurgeOptions, PurgeVisit};
use hydra::{Dir, Entry, FileType, RootId, RootSpec, Sink, Stat, Visit};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// An ordinary user, for what root may do and others may not.
const NOBODY: u32 = 65534;

/// A tree with two old files, and much that must stay.
pub(crate) fn purgeable() -> TempDir {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    write(root.join("new"), "n", 1);
    write(root.join("d/old"), "oo", 100);
    write(root.join("d/e/-rf \n\x1b[2J"), "ooo", 100);
    fs::create_dir(root.join("old-dir")).unwrap();
    age(root.join("old-dir"), 100);
    symlink("d/old", root.join("link")).unwrap();
    tmp
}

/// What must stay of it.
pub(crate) const STAYS: [&str; 5] = ["d", "e", "link", "new", "old-dir"];

#[test]
fn purge_deletes_what_is_old_when_it_is_told_and_nothing_else() {
    for way in ACTING_WAYS {
        let tmp = purgeable();
        let before = names(tmp.path());
        let dry = run("purge", way, &["--older-than", "90d"], tmp.path());
        assert_eq!(dry.status, Some(0), "{}", dry.stderr);
        assert_eq!(names(tmp.path()), before);
        let would = json!({"would delete": {"files": 2, "bytes": 5}});
        assert_eq!(dry.report["purge"]["outcomes"], would);
        assert_eq!(dry.rows.len(), 2);

        let arguments = ["--older-than", "90d", "--delete"];
        let said = run("purge", way, &arguments, tmp.path());
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        assert_eq!(names(tmp.path()), STAYS);
        let deleted = json!({"deleted": {"files": 2, "bytes": 5}});
        assert_eq!(said.report["purge"]["outcomes"], deleted);
        assert_eq!(said.by_name("outcome")["old"], "deleted");
        assert_eq!(said.by_name("outcome")["-rf \n\x1b[2J"], "deleted");

        let again = run("purge", way, &arguments, tmp.path());
        assert_eq!(again.status, Some(0));
        assert_eq!(again.report["purge"]["outcomes"], json!({}));
        assert_eq!((again.rows.len(), names(tmp.path()).len()), (0, 5));
    }
}

#[test]
fn purge_empties_a_large_directory() {
    for way in ACTING_WAYS {
        let tmp = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            write(tmp.path().join(format!("d/{number}")), "", 100);
        }
        let arguments = ["--older-than", "90d", "--delete"];
        let said = run("purge", way, &arguments, tmp.path());
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        assert_eq!(names(tmp.path()), ["d"]);
        assert_eq!(
            (said.by_name("outcome").len(), said.rows.len()),
            (3000, 3000)
        );
        assert_eq!(said.report["totals"]["files"], 3000);
    }
}

#[test]
fn purge_goes_by_the_time_that_is_asked_for() {
    let tmp = purgeable();
    let would = |by: &str, than: &str| {
        let arguments = ["--older-than", than, "--by", by];
        let said = run("purge", &[], &arguments, tmp.path());
        said.report["purge"]["outcomes"]["would delete"]["files"].clone()
    };
    // Nobody can set the time of the last change of an inode: it is new.
    assert_eq!(would("ctime", "90d"), Value::Null);
    let read = fs::FileTimes::new().set_accessed(SystemTime::now());
    let file = File::open(tmp.path().join("d/old")).unwrap();
    file.set_times(read).unwrap();
    assert_eq!(would("atime", "90d"), 1);
    assert_eq!(would("mtime", "90d"), 2);
    assert_eq!(would("mtime", "99d"), 2);
    assert_eq!(would("mtime", "101d"), Value::Null);
}

#[test]
fn purge_never_deletes_a_root() {
    let tmp = purgeable();
    let old = tmp.path().join("d/old");
    for way in ACTING_WAYS {
        let said = run("purge", way, &["--older-than", "90d", "--delete"], &old);
        assert_eq!((said.status, said.rows.len()), (Some(0), 0));
        assert!(old.exists());
    }
}

#[test]
fn purge_reports_what_it_may_not_delete() {
    for way in ACTING_WAYS {
        let tmp = purgeable();
        set_mode(tmp.path(), 0o755);
        set_mode(&tmp.path().join("d"), 0o555);
        // The program must be where an ordinary user can reach it.
        let copy = tempfile::tempdir().unwrap();
        set_mode(copy.path(), 0o755);
        let copied = copy.path().join("purge");
        fs::copy(program("purge"), &copied).unwrap();
        let mut purge = command(&copied);
        if tmp.path().metadata().unwrap().uid() == 0 {
            std::os::unix::fs::chown(tmp.path().join("d/e"), Some(NOBODY), None).unwrap();
            purge.uid(NOBODY).gid(NOBODY);
        }
        purge.args(way).args(["--older-than", "90d", "--delete"]);
        let said = finish(&mut purge, tmp.path());
        set_mode(&tmp.path().join("d"), 0o755);
        assert_eq!(said.status, Some(1), "{}", said.stderr);
        assert_eq!(said.by_name("outcome")["old"], "failed");
        assert_eq!(said.kinds(), json!({"EACCES": 1}));
        let outcomes = &said.report["purge"]["outcomes"];
        assert_eq!(outcomes["failed"], json!({"files": 1, "bytes": 2}));
        assert_eq!(outcomes["deleted"], json!({"files": 1, "bytes": 3}));
    }
}

/// A visitor that deletes.
fn purger() -> PurgeVisit {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    PurgeVisit(PurgeOptions {
        older_than: Duration::from_secs(90 * DAY),
        by: By::Mtime,
        delete: true,
        now: now.unwrap().as_secs().try_into().unwrap(),
    })
}

/// The rows that were written, as name and outcome.
fn outcomes<S>(out: &Sink<S>) -> Vec<(String, String)> {
    let lines = out.rows.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let rows = lines.map(|line| {
        let row: Value = serde_json::from_slice(line).unwrap();
        let word = |key: &str| row[key].as_str().unwrap().to_owned();
        (word("path"), word("outcome"))
    });
    rows.collect()
}

/// Shows a visitor the file `name` in `dir` as it is now, lets `meanwhile` happen, and returns what came of it. There
/// is one row for it, or none.
fn purged_after(dir: &Path, name: &str, meanwhile: impl FnOnce()) -> Option<Outcome> {
    let found = fs::symlink_metadata(dir.join(name)).unwrap();
    let open = File::open(dir).unwrap();
    let (major, minor) = (
        rustix::fs::major(found.dev()),
        rustix::fs::minor(found.dev()),
    );
    let stat = Stat {
        size: found.size(),
        ino: found.ino(),
        dev: u64::from(major) << 32 | u64::from(minor),
        mtime: (found.mtime(), 0),
        ..Stat::default()
    };
    meanwhile();
    let dir = Dir {
        root: &RootSpec::default(),
        root_id: RootId(0),
        depth: 0,
        fd: Some(open.as_fd()),
        path: &Vec::new(),
        slot: None,
    };
    let entry = Entry {
        dir: &dir,
        name: name.as_bytes(),
        file_type: FileType::File,
        stat: &stat,
        target: None,
        fs: 0,
    };
    let mut out = Sink::default();
    purger().entry(&entry, &mut out);
    let outcome = out.summary.0.keys().next().copied();
    let words: Vec<_> = outcome.iter().map(|outcome| json!(outcome)).collect();
    let said = outcomes(&out).into_iter().map(|(_, word)| json!(word));
    assert_eq!(said.collect::<Vec<_>>(), words);
    outcome
}

#[test]
fn purge_presumed_of_a_name_that_is_gone_what_nobody_can_have_done() {
    let root = RootSpec::default();
    let dir = Dir {
        root: &root,
        root_id: RootId(0),
        depth: 0,
        fd: None,
        path: &Vec::new(),
        slot: None,
    };
    let mut out = Sink::default();
    let types = [FileType::File, FileType::Unknown, FileType::Directory];
    for (name, file_type) in ["f", "u", "d"].into_iter().zip(types) {
        let entry = Entry {
            dir: &dir,
            name: name.as_bytes(),
            file_type,
            stat: &Stat::default(),
            target: None,
            fs: 0,
        };
        purger().gone(&entry, &mut out);
    }
    // No worker was lost.
    let gone = |name: &str| (format!("/{name}"), "already gone".to_owned());
    assert_eq!(outcomes(&out), [gone("f"), gone("u")]);
    assert_eq!(out.summary.0[&Outcome::AlreadyGone], (2, 0));
    assert_eq!(out.summary.0.len(), 1);
}

#[test]
fn purge_leaves_alone_what_took_a_files_place() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    let old = || write(root.join("d/f"), "old", 100);
    write(root.join("other"), "other", 100);
    let after = |meanwhile: &dyn Fn()| {
        let _ = fs::remove_file(root.join("d/f"));
        old();
        purged_after(&root.join("d"), "f", meanwhile)
    };
    assert_eq!(after(&|| ()), Some(Outcome::Deleted));
    assert!(!root.join("d/f").exists());

    assert_eq!(after(&|| age(root.join("d/f"), 1)), Some(Outcome::Changed));
    assert!(root.join("d/f").exists(), "it is young again");
    let swap = || {
        fs::copy(root.join("other"), root.join("copy")).unwrap();
        age(root.join("copy"), 100);
        fs::rename(root.join("copy"), root.join("d/f")).unwrap();
    };
    assert_eq!(after(&swap), Some(Outcome::Changed));
    assert_eq!(fs::read(root.join("d/f")).unwrap(), b"other");
    let link = || {
        fs::remove_file(root.join("d/f")).unwrap();
        symlink("../other", root.join("d/f")).unwrap();
    };
    assert_eq!(after(&link), Some(Outcome::Changed));
    assert!(root.join("d/f").is_symlink() && root.join("other").exists());
    let gone = || fs::remove_file(root.join("d/f")).unwrap();
    assert_eq!(after(&gone), Some(Outcome::AlreadyGone));
}

#[test]
fn purge_stays_in_a_directory_that_was_moved_away() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    write(root.join("d/f"), "old", 100);
    write(root.join("precious/f"), "old", 100);
    let swap = || {
        fs::rename(root.join("d"), root.join("moved")).unwrap();
        symlink("precious", root.join("d")).unwrap();
    };
    let outcome = purged_after(&root.join("d"), "f", swap);
    assert_eq!(outcome, Some(Outcome::Deleted));
    assert!(root.join("precious/f").exists() && !root.join("moved/f").exists());
}
