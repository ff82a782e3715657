//! Plugins that change the tree: what they are shown, and what is said of what a lost worker did.

mod common;

use common::*;
use hydra_proto::item::Parcel;
use hydra_proto::message::Commit;
use hydra_worker::{Dir, Entry, Facts, FileType, Identity, Listing, Sink, Visit, Wants};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Acts, and tells much of each entry.
struct Verbose(Wants);

impl Visit for Verbose {
    type Summary = ();

    fn wants(&self) -> Wants {
        self.0
    }

    fn entry(&mut self, _: &Entry<'_>, out: &mut Sink<()>) {
        out.row(&"x".repeat(64 << 10));
    }

    fn leave(&mut self, _: &Dir<'_>, out: &mut Sink<()>) {
        out.row(&"left");
    }
}

#[test]
fn rows_of_a_small_directory_were_all_in_one_commit() {
    for leave in [false, true] {
        let dir = scratch();
        flat(dir.path(), 300);
        let mut cluster = Cluster::new(job(dir.path()));
        cluster.keep = true;
        cluster.worker(Verbose(Wants {
            acts: true,
            leave,
            ..Wants::default()
        }));
        cluster.finish();
        assert_eq!(cluster.rows.len(), 301 + usize::from(leave));
        assert_eq!(cluster.walk.error_count(), 0);
        if leave {
            assert_eq!(cluster.rows.last().unwrap(), b"\"left\"");
        }
        let bytes = |commit: &Commit| commit.result.as_ref().map_or(0, |delta| delta.rows.len());
        assert!(cluster.kept.iter().all(|commit| bytes(commit) < 2 << 20));
    }
}

#[test]
fn rows_of_a_directory_in_one_piece_were_an_error_of_each_entry() {
    let dir = scratch();
    flat(dir.path(), 300);
    let mut cluster = Cluster::new(job(dir.path()));
    cluster.worker(Verbose(Wants {
        whole_directories: true,
        ..Wants::default()
    }));
    cluster.finish();
    assert!((150..160).contains(&cluster.rows.len()));
    assert_eq!(cluster.walk.errors.get("EFBIG"), Some(&1));
    let error = cluster.walk.first_errors.first().unwrap();
    assert!(error.message.contains("in one piece"), "{error:?}");
}

/// Removes every file that it is shown.
struct Purge;

impl Visit for Purge {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants {
            acts: true,
            leave: true,
            ..Wants::default()
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        if entry.file_type != FileType::Directory {
            assert!(out.may_act());
            std::fs::remove_file(OsStr::from_bytes(&entry.shown())).unwrap();
        }
    }

    fn leave(&mut self, dir: &Dir<'_>, out: &mut Sink<()>) {
        assert!(out.may_act());
        if dir.depth > 0 {
            std::fs::remove_dir(OsStr::from_bytes(&dir.shown())).unwrap();
        }
    }
}

#[test]
fn a_plugin_that_removes_what_it_sees_sees_everything() {
    for count in [100, 7000] {
        let dir = scratch();
        for sub in ["x", "y"] {
            let sub = dir.path().join(sub);
            std::fs::create_dir(&sub).unwrap();
            flat(&sub, count);
        }
        let mut spec = job(dir.path());
        spec.acts = true;
        let mut cluster = Cluster::new(spec);
        for _ in 0..2 {
            let identity = Identity {
                list_buffer: 1,
                ..Identity::default()
            };
            cluster.worker_as(Purge, identity);
        }
        cluster.finish();
        assert_eq!(cluster.walk.error_count(), 0, "{:?}", cluster.walk);
        assert_eq!(cluster.walk.vanished, 0);
        assert_eq!(cluster.walk.files, 2 * count as u64);
        assert_eq!(oracle(dir.path()).len(), 1);
    }
}

/// Gives every file another name. What it has already renamed, it must never
/// be shown.
struct Rename;

impl Visit for Rename {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants {
            acts: true,
            ..Wants::default()
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        if entry.file_type == FileType::Directory {
            return;
        }
        assert!(out.may_act() && entry.name.starts_with(b"file-"));
        let path = entry.shown();
        let other = [&entry.dir.shown(), &b"/done-"[..], &entry.name[5..]].concat();
        let (path, other) = (OsStr::from_bytes(&path), OsStr::from_bytes(&other));
        std::fs::rename(path, other).unwrap();
    }

    fn listed(&mut self, dir: &Dir<'_>, listing: &Listing, out: &mut Sink<()>) {
        let line = format!("{} {}\n", dir.depth, listing.entries);
        out.rows.extend_from_slice(line.as_bytes());
    }
}

/// A directory with many megabytes of names.
fn long_names(dir: &Path) -> u64 {
    let count = 40_000;
    let first = dir.join("file-");
    std::fs::write(&first, b"").unwrap();
    for index in 1..count {
        let name = dir.join(format!("file-{index:0240}"));
        std::fs::hard_link(&first, name).unwrap();
    }
    count
}

#[test]
fn a_plugin_began_to_act_before_a_long_listing_had_ended() {
    for (spool_bytes, whole) in [(50_000, false), (0, false), (1000, true)] {
        // On a disk, where a listing that goes on shows about half of what was renamed. In memory it shows none.
        let dir = tempfile::tempdir().unwrap();
        let count = long_names(dir.path());
        let mut spec = job(dir.path());
        spec.acts = true;
        let mut cluster = Cluster::new(spec);
        for _ in 0..3 {
            let identity = Identity {
                list_buffer: 1,
                spool_bytes,
                ..Identity::default()
            };
            match whole {
                true => cluster.worker_as(Whole(Rename), identity),
                false => cluster.worker_as(Rename, identity),
            };
        }
        cluster.finish();
        assert_eq!(cluster.walk.error_count(), 0, "{:?}", cluster.walk);
        assert_eq!((cluster.walk.files, cluster.walk.vanished), (count, 0));
        assert_eq!(cluster.rows, [format!("0 {count}").as_bytes()]);
        let mut names = std::fs::read_dir(dir.path()).unwrap();
        assert!(names.all(|entry| entry.unwrap().file_name().as_bytes().starts_with(b"done-")));
    }
}

/// The same, never split.
struct Whole<V>(V);

impl<V: Visit> Visit for Whole<V> {
    type Summary = V::Summary;

    fn wants(&self) -> Wants {
        Wants {
            whole_directories: true,
            ..self.0.wants()
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<V::Summary>) {
        self.0.entry(entry, out);
    }

    fn listed(&mut self, dir: &Dir<'_>, listing: &Listing, out: &mut Sink<V::Summary>) {
        self.0.listed(dir, listing, out);
    }
}

#[test]
fn names_that_find_no_room_are_an_error_of_their_directory() {
    let dir = scratch();
    let (large, small) = (dir.path().join("large"), dir.path().join("small"));
    for (path, count) in [(&large, 100), (&small, 3)] {
        std::fs::create_dir(path).unwrap();
        flat(path, count);
    }
    let mut spec = job(dir.path());
    spec.acts = true;
    let mut cluster = Cluster::new(spec);
    let identity = Identity {
        spool_dir: dir.path().join("missing"),
        spool_bytes: 200,
        ..Identity::default()
    };
    cluster.worker_as(Purge, identity);
    cluster.finish();
    assert_eq!(cluster.walk.error_count(), 1);
    let error = &cluster.walk.first_errors.first().unwrap();
    assert_eq!(error.path.bytes, large.as_os_str().as_bytes());
    assert_eq!(
        (error.operation.as_str(), error.kind.as_str()),
        ("temporary file", "ENOENT")
    );
    assert_eq!(std::fs::read_dir(&large).unwrap().count(), 100);
    assert!(!small.exists());
}

/// Removes what it is shown and says so, until it has removed so many; then it waits.
struct Removes {
    left: Option<(usize, Sender<()>, Receiver<()>)>,
}

impl Removes {
    fn tell(out: &mut Sink<()>, what: u8, entry: &Entry<'_>) {
        out.rows.push(what);
        out.rows.extend_from_slice(entry.name);
        out.rows.push(b'\n');
    }
}

impl Visit for Removes {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants {
            facts: Facts::LINKS,
            acts: true,
            ..Wants::default()
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        if entry.is_root() {
            return;
        }
        if let Some((left, tell, end)) = &mut self.left {
            if *left == 0 {
                let _ = tell.send(());
                let _ = end.recv();
            }
            *left = left.saturating_sub(1);
        }
        if out.may_act() {
            entry.unlink().unwrap();
            Self::tell(out, b'-', entry);
        }
    }

    fn gone(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        assert_eq!(entry.file_type, FileType::File);
        Self::tell(out, b'?', entry);
    }
}

#[test]
fn what_a_lost_worker_removed_was_told_nowhere() {
    const COUNT: usize = 5000;
    // Fewer than the last piece holds, which is the first to be shown.
    const REMOVED: usize = 500;
    let dir = scratch();
    flat(dir.path(), COUNT);
    let mut spec = job(dir.path());
    spec.acts = true;
    spec.timing.commit_interval = PATIENCE;
    let mut cluster = Cluster::new(spec);
    let ((tell, told), (end, ended)) = (channel(), channel());
    let first = cluster.worker(Removes {
        left: Some((REMOVED, tell, ended)),
    });
    // The directory was counted in the commit that put its names on record.
    let mut waits = false;
    cluster.until(|cluster| {
        waits |= told.try_recv().is_ok();
        waits && cluster.walk.directories == 1
    });
    cluster.kill(first, None);
    cluster.worker(Removes { left: None });
    cluster.until(|cluster| cluster.parent.is_done());
    // Only now: its thread might act before it hears that it is dead.
    drop(end);
    cluster.finish();
    let rows = |kind| {
        cluster
            .rows
            .iter()
            .filter(move |row| row[0] == kind)
            .count()
    };
    assert_eq!((rows(b'?'), rows(b'-')), (REMOVED, COUNT - REMOVED));
    let names: std::collections::HashSet<_> = cluster.rows.iter().map(|row| &row[1..]).collect();
    assert_eq!(names.len(), COUNT);
    assert_eq!(cluster.walk.vanished, REMOVED as u64);
    assert_eq!(cluster.walk.files, (COUNT - REMOVED) as u64);
}

#[test]
fn others_acted_while_the_names_of_a_directory_were_put_on_record_bit_by_bit() {
    const COUNT: usize = 5000;
    let dir = scratch();
    flat(dir.path(), COUNT);
    let mut spec = job(dir.path());
    spec.acts = true;
    let mut cluster = Cluster::new(spec);
    cluster.keep = true;
    let identity = Identity {
        spool_bytes: 10_000,
        ..Identity::default()
    };
    cluster.worker_as(Removes { left: None }, identity);
    cluster.finish();
    let names = |commit: &Commit| {
        let names = commit.new.iter().map(|parcel| match parcel {
            Parcel::Names(names) => names.names.len(),
            Parcel::Rest(_) => {
                panic!("a rest, which a worker's death would leave to somebody else")
            }
            _ => 0,
        });
        names.sum::<usize>()
    };
    let on_record = cluster.kept.iter().map(names).find(|&count| count > 0);
    assert_eq!(on_record, Some(COUNT));
}
