//! Jobs with intents: what is on record before it is acted on, and what is said of it when a worker is lost.

mod common;

use common::*;
use hydra_proto::item::Parcel;
use hydra_worker::{Dir, Entry, Facts, FileType, Identity, Sink, Visit, Wants};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Removes all files but those called `keep`, and says so.
#[derive(Default)]
struct Removes {
    /// Nothing may be acted on before this is set.
    released: Option<Arc<AtomicBool>>,
    /// Removes so many; then it says so and waits.
    left: Option<(usize, Sender<()>, Receiver<()>)>,
    leaves: bool,
}

fn is_due(entry: &Entry<'_>) -> bool {
    entry.file_type == FileType::File && !entry.name.starts_with(b"keep")
}

fn tell(out: &mut Sink<()>, what: u8, entry: &Entry<'_>) {
    out.rows.push(what);
    out.rows.extend_from_slice(&entry.relative());
    out.rows.push(b'\n');
}

impl Visit for Removes {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants {
            facts: Facts::LINKS,
            acts: true,
            leave: self.leaves,
            ..Wants::default()
        }
    }

    fn intends(&mut self, entry: &Entry<'_>) -> bool {
        is_due(entry)
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        if !is_due(entry) {
            assert!(entry.is_root() || !out.may_act());
            return;
        }
        let early = |released: &Arc<AtomicBool>| !released.load(Ordering::SeqCst);
        assert!(!self.released.as_ref().is_some_and(early), "too early");
        if let Some((left, tell, end)) = &mut self.left {
            if *left == 0 {
                let _ = tell.send(());
                let _ = end.recv();
            }
            *left = left.saturating_sub(1);
        }
        if out.may_act() {
            entry.unlink().unwrap();
            tell(out, b'-', entry);
        }
    }

    fn gone(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        assert!(is_due(entry));
        tell(out, if out.again() { b'?' } else { b'g' }, entry);
    }

    fn leave(&mut self, dir: &Dir<'_>, out: &mut Sink<()>) {
        let early = |released: &Arc<AtomicBool>| !released.load(Ordering::SeqCst);
        assert!(!self.released.as_ref().is_some_and(early), "too early");
        if dir.depth > 0 && out.may_act() {
            std::fs::remove_dir(OsStr::from_bytes(&dir.shown())).unwrap();
        }
    }
}

fn with_intents(root: &Path) -> Cluster {
    let mut spec = job(root);
    spec.acts = true;
    spec.walk.intents = true;
    spec.timing.beat = Duration::from_millis(10);
    Cluster::new(spec)
}

/// Three directories with so many files each.
fn three(root: &Path, files: usize) {
    for name in ["a", "b", "c"] {
        let sub = root.join(name);
        std::fs::create_dir(&sub).unwrap();
        flat(&sub, files);
    }
}

/// Names that were put on record.
fn on_record(cluster: &Cluster) -> usize {
    let parcels = cluster.kept.iter().flat_map(|commit| &commit.new);
    let names = parcels.map(|parcel| match parcel {
        Parcel::Names(names) => names.names.len(),
        _ => 0,
    });
    names.sum()
}

fn names(cluster: &Cluster, kind: u8) -> BTreeSet<Vec<u8>> {
    let rows = cluster.rows.iter().filter(|row| row[0] == kind);
    rows.map(|row| row[1..].to_vec()).collect()
}

#[test]
fn a_plugin_acted_before_what_it_intends_was_on_record() {
    for leaves in [false, true] {
        let dir = scratch();
        three(dir.path(), 300);
        let mut cluster = with_intents(dir.path());
        cluster.keep = true;
        cluster.hold_acks = true;
        let released = Arc::new(AtomicBool::new(false));
        cluster.worker(Removes {
            released: Some(Arc::clone(&released)),
            leaves,
            ..Removes::default()
        });
        // All three are listed while the first waits. Then nothing is left but to wait.
        cluster.until(|cluster| on_record(cluster) == 900);
        let then = cluster.beats;
        cluster.until(|cluster| cluster.beats > then + 20);
        assert_eq!(oracle(dir.path()).len(), 904);
        released.store(true, Ordering::SeqCst);
        cluster.release_acks();
        cluster.finish();
        assert_eq!(cluster.walk.error_count(), 0, "{:?}", cluster.walk);
        assert_eq!(names(&cluster, b'-').len(), 900);
        assert_eq!(oracle(dir.path()).len(), if leaves { 1 } else { 4 });
        assert_eq!(cluster.walk.entries, 904);
    }
}

#[test]
fn a_name_that_was_never_to_be_removed_was_presumed_removed() {
    const COUNT: usize = 100;
    let dir = scratch();
    flat(dir.path(), COUNT);
    let at = |name: &str| dir.path().join(name);
    for name in ["keep-me", "keep-not"] {
        std::fs::write(at(name), b"").unwrap();
    }
    let mut cluster = with_intents(dir.path());
    cluster.keep = true;
    let ((told, tells), (end, ended)) = (channel(), channel());
    let first = cluster.worker(Removes {
        left: Some((40, told, ended)),
        ..Removes::default()
    });
    cluster.until(|_| tells.try_recv().is_ok());
    // What the rest of them say: neither of these two was removed by a worker.
    std::fs::remove_file(at("keep-not")).unwrap();
    let left = oracle(dir.path());
    let other = left
        .iter()
        .rfind(|path| path.windows(5).any(|part| part == b"file-"));
    std::fs::remove_file(OsStr::from_bytes(other.unwrap())).unwrap();
    let before = names(&cluster, b'-').len();
    cluster.kill(first, None);
    cluster.worker(Removes::default());
    cluster.until(|cluster| cluster.parent.is_done());
    // Only now: its thread might act before it hears that it is dead.
    drop(end);
    cluster.finish();
    let (removed, presumed) = (names(&cluster, b'-'), names(&cluster, b'?'));
    // 40 by the first worker, as far as that was not told, and one by somebody else, who may have been faster.
    assert_eq!(presumed.len(), 40 - before + 1);
    assert_eq!(removed.len() + presumed.len(), COUNT);
    assert!(removed.is_disjoint(&presumed) && names(&cluster, b'g').is_empty());
    assert!(
        removed
            .iter()
            .chain(&presumed)
            .all(|name| name.starts_with(b"file-"))
    );
    assert_eq!(oracle(dir.path()).len(), 2);
    assert_eq!(cluster.rows.len(), COUNT);
}

#[test]
fn what_somebody_else_removed_was_presumed_removed_though_no_worker_was_lost() {
    let dir = scratch();
    flat(dir.path(), 100);
    let mut cluster = with_intents(dir.path());
    cluster.keep = true;
    cluster.hold_acks = true;
    cluster.worker(Removes::default());
    cluster.until(|cluster| on_record(cluster) == 100);
    std::fs::remove_file(dir.path().join("file-7")).unwrap();
    cluster.release_acks();
    cluster.finish();
    let gone = names(&cluster, b'g');
    assert_eq!(gone.into_iter().collect::<Vec<_>>(), [b"file-7".to_vec()]);
    assert_eq!(names(&cluster, b'-').len(), 99);
    assert!(names(&cluster, b'?').is_empty());
}

#[test]
fn names_of_a_directory_that_is_gone_were_in_no_row() {
    let dir = scratch();
    three(dir.path(), 10);
    let mut cluster = with_intents(dir.path());
    cluster.keep = true;
    cluster.hold_acks = true;
    cluster.worker(Removes::default());
    cluster.until(|cluster| on_record(cluster) == 30);
    std::fs::remove_dir_all(dir.path().join("b")).unwrap();
    cluster.release_acks();
    cluster.finish();
    assert_eq!(names(&cluster, b'g').len(), 10);
    assert_eq!(names(&cluster, b'-').len(), 20);
    assert_eq!(cluster.walk.vanished, 10);
}

#[test]
fn workers_share_what_is_on_record() {
    // The second one puts a directory on record in several commits.
    for spool_bytes in [0, 1000] {
        let dir = scratch();
        three(dir.path(), 5000);
        let mut cluster = with_intents(dir.path());
        for _ in 0..3 {
            let visit = Removes {
                leaves: true,
                ..Removes::default()
            };
            let identity = Identity {
                spool_bytes,
                ..Identity::default()
            };
            cluster.worker_as(visit, identity);
        }
        cluster.finish();
        assert_eq!(cluster.walk.error_count(), 0, "{:?}", cluster.walk);
        assert_eq!(names(&cluster, b'-').len(), 15_000);
        assert_eq!((cluster.walk.entries, cluster.walk.vanished), (15_004, 0));
        assert_eq!(oracle(dir.path()).len(), 1);
    }
}
