//! Directories in parts: shared, cut, taken up elsewhere, lost with their worker.

mod common;

use common::*;
use hydra_proto::ids::{ItemId, RootId};
use hydra_proto::item::{Listing, NameList, Names, Parcel, Rest};
use hydra_proto::reduce::Summary;
use hydra_worker::sys::list::{ListBuffer, Lister};
use hydra_worker::sys::slot::Slot;
use hydra_worker::{Entry, Identity, Sink, Visit, Wants};
use rand::{RngExt, SeedableRng};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

fn small_buffer() -> Identity {
    Identity {
        list_buffer: 1,
        ..Identity::default()
    }
}

fn watching_leave() -> Paths {
    Paths {
        wants: Wants {
            leave: true,
            ..Wants::default()
        },
        calls: true,
        ..Paths::default()
    }
}

#[test]
fn a_slow_plugin_shares_a_small_directory_too() {
    let dir = scratch();
    flat(dir.path(), 160);
    let mut cluster = Cluster::new(job(dir.path()));
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(cluster.worker(Paths {
            slow: Duration::from_millis(20),
            ..Paths::default()
        }));
    }
    cluster.finish();
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
    for worker in workers {
        assert!(cluster.entries[&worker] > 10, "{:?}", cluster.entries);
    }
}

#[test]
fn random_requests_neither_lose_nor_double_anything() {
    let dir = scratch();
    tree(dir.path(), 6, 3, 20);
    flat(&dir.path().join("d0"), 3000);
    let expected = oracle(dir.path());
    for seed in 0..8 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut cluster = Cluster::new(job(dir.path()));
        for _ in 0..3 {
            cluster.worker_as(watching_leave(), small_buffer());
        }
        cluster.until(|cluster| {
            for worker in cluster.workers() {
                if random.random_ratio(1, 3) {
                    cluster.shed(worker, random.random_range(1..5));
                }
            }
            cluster.parent.is_done()
        });
        cluster.stop();
        assert_same(&cluster.paths(b'e'), &expected);
        assert_left_last(&cluster);
    }
}

/// Every directory is entered, listed and left once, and left after all its entries.
fn assert_left_last(cluster: &Cluster) {
    let left = cluster.paths(b'o');
    assert_same(&left, &cluster.paths(b'i'));
    assert_same(&left, &cluster.paths(b'l'));
    let mut seen = std::collections::HashSet::new();
    for row in &cluster.rows {
        let path = unhex(&row[1..]);
        match row[0] {
            b'o' => assert!(seen.insert(path), "left twice"),
            b'e' => {
                let parent = Path::new(std::ffi::OsStr::from_bytes(&path)).parent();
                let parent = parent.unwrap().as_os_str().as_bytes();
                assert!(!seen.contains(parent), "an entry after the end");
            }
            _ => {}
        }
    }
    assert_eq!(seen.len() as u64, cluster.walk.directories);
}

#[test]
fn what_a_lost_worker_had_is_done_by_another_exactly_once() {
    let dir = scratch();
    tree(dir.path(), 5, 4, 10);
    flat(&dir.path().join("d1"), 5000);
    let expected = oracle(dir.path());
    for seed in 0..6 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut cluster = Cluster::new(job(dir.path()));
        cluster.worker_as(watching_leave(), small_buffer());
        cluster.worker(watching_leave());
        for kills in 1..4 {
            let enough = random.random_range(0..expected.len() as u64 / 4) * kills;
            cluster.until(|cluster| cluster.walk.entries >= enough || cluster.parent.is_done());
            let workers = cluster.workers();
            cluster.kill(workers[random.random_range(0..workers.len())], None);
            cluster.worker_as(watching_leave(), small_buffer());
        }
        cluster.finish();
        assert_same(&cluster.paths(b'e'), &expected);
        assert_left_last(&cluster);
    }
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// The first `count` names of a directory as it is read, and what reading them says.
fn first_names(path: &Path, count: u64) -> (NameList, Listing) {
    let (fd, mut buffer) = (open(path), ListBuffer::default());
    let mut lister = Lister::new(fd.as_fd(), &mut buffer);
    let mut names = NameList::default();
    for _ in 0..count {
        names.push(lister.next().unwrap().unwrap().name());
    }
    let read = Listing {
        entries: count,
        directories: 0,
        hash: lister.hash(),
    };
    (names, read)
}

fn rest(read: Listing) -> Parcel {
    Parcel::Rest(Rest {
        id: ItemId(0),
        root: RootId(0),
        dir: Vec::new(),
        visit: None,
        read,
    })
}

fn add(cluster: &mut Cluster, mut parcel: Parcel) {
    let id = ItemId(cluster.parent.take_ids(1).unwrap().start);
    match &mut parcel {
        Parcel::Rest(rest) => rest.id = id,
        Parcel::Names(names) => names.id = id,
        _ => unreachable!(),
    }
    cluster.parent.add(vec![parcel], false);
}

#[test]
fn names_and_the_rest_make_the_directory() {
    let dir = scratch();
    flat(dir.path(), 500);
    for identity in [small_buffer(), Identity::default()] {
        for count in [0, 1, 77, 499, 500] {
            let (names, read) = first_names(dir.path(), count);
            let mut cluster = Cluster::empty(job(dir.path()));
            add(&mut cluster, rest(read));
            if count > 0 {
                let types = vec![0; names.len()];
                let names = Names {
                    id: ItemId(0),
                    root: RootId(0),
                    dir: Vec::new(),
                    visit: None,
                    names,
                    types,
                    begun: false,
                };
                add(&mut cluster, Parcel::Names(names));
            }
            let list_buffer = identity.list_buffer;
            let identity = Identity {
                list_buffer,
                ..Identity::default()
            };
            cluster.worker_as(Paths::default(), identity);
            cluster.finish();
            assert_same(&cluster.paths(b'e'), &oracle(dir.path())[1..]);
            assert_eq!(cluster.walk.entries, 500);
        }
    }
}

#[test]
fn a_directory_that_has_changed_under_its_rest_is_an_error() {
    let dir = scratch();
    flat(dir.path(), 100);
    let (_, good) = first_names(dir.path(), 50);
    let other_names = Listing { hash: 1, ..good };
    let fewer_names = Listing {
        entries: 101,
        ..good
    };
    for bad in [other_names, fewer_names] {
        let mut cluster = Cluster::empty(job(dir.path()));
        add(&mut cluster, rest(bad));
        cluster.worker(Paths::default());
        cluster.finish();
        assert_eq!(cluster.walk.errors["CHANGED"], 1);
        assert_eq!(cluster.walk.first_errors.first().unwrap().operation, "list");
        assert_eq!(cluster.walk.entries, 0);
    }
}

#[test]
fn many_subdirectories_are_put_off_and_not_forgotten() {
    let dir = scratch();
    for index in 0..70_000 {
        std::fs::create_dir(dir.path().join(format!("{index}"))).unwrap();
    }
    for workers in 1..3 {
        let mut cluster = Cluster::new(job(dir.path()));
        for _ in 0..workers {
            cluster.worker(Count);
        }
        cluster.finish();
        assert_eq!(cluster.walk.directories, 70_001);
        assert_eq!(cluster.walk.error_count(), 0);
    }
}

#[test]
fn a_frugal_worker_reads_on_when_it_has_done_what_it_found() {
    let dir = scratch();
    for index in 0..5_000 {
        std::fs::create_dir(dir.path().join(format!("{index}"))).unwrap();
    }
    for (memory, found_before) in [(u64::MAX, 5_000..=5_001), (1, 1_024..=1_500)] {
        let mut job = job(dir.path());
        job.timing.commit_interval = PATIENCE;
        let mut cluster = Cluster::new(job);
        cluster.parent.limit_memory(memory);
        let calls = Paths {
            calls: true,
            ..Paths::default()
        };
        cluster.worker_as(calls, small_buffer());
        cluster.finish();
        // The first directory that is entered is the root.
        let mut rows = cluster.rows.iter();
        rows.find(|row| row[0] == b'i').unwrap();
        let found = rows.position(|row| row[0] == b'i').unwrap();
        assert!(found_before.contains(&found), "{found} with {memory}");
        assert_eq!(cluster.walk.directories, 5_001);
    }
}

/// A worker that never comes back from one entry, and the page that tells what it has in hand.
fn poisoned(cluster: &mut Cluster, path: &[u8]) -> (hydra_proto::ids::ConnId, Death) {
    let memfd = page();
    let (told, hears) = std::sync::mpsc::channel();
    let identity = Identity {
        slot: Some(Slot::map(&memfd).unwrap()),
        ..Identity::default()
    };
    let visit = Paths {
        stop_at: Some((path.to_vec(), told)),
        ..Paths::default()
    };
    (cluster.worker_as(visit, identity), Death { memfd, hears })
}

struct Death {
    memfd: OwnedFd,
    hears: std::sync::mpsc::Receiver<()>,
}

impl Death {
    fn item(&self) -> Option<ItemId> {
        item_in(&self.memfd)
    }
}

/// Lets workers die at an entry until the job is done; returns how many did.
fn poison_out(cluster: &mut Cluster, poison: &Path) -> usize {
    let mut deaths = 0;
    while !cluster.parent.is_done() {
        let (conn, death) = poisoned(cluster, poison.as_os_str().as_bytes());
        let mut died = false;
        cluster.until(|cluster| {
            died = death.hears.try_recv().is_ok();
            died || cluster.parent.is_done()
        });
        if died {
            deaths += 1;
            assert!(deaths < 30);
            let item = death.item();
            assert!(item.is_some());
            cluster.kill(conn, item);
        }
    }
    cluster.stop();
    deaths
}

#[test]
fn an_entry_that_kills_its_worker_is_set_aside_alone() {
    let dir = scratch();
    flat(dir.path(), 3000);
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    flat(&dir.path().join("sub"), 100);
    let poison = dir.path().join("file-1234");
    let mut cluster = Cluster::new(job(dir.path()));
    let deaths = poison_out(&mut cluster, &poison);
    assert!(deaths < 8);
    let aside: Vec<_> = cluster.parent.aside().collect();
    assert_eq!(aside.len(), 1);
    let Parcel::Names(names) = aside[0].item.parcel() else {
        panic!("{aside:?}");
    };
    let names: Vec<_> = names.names.iter().collect();
    assert_eq!(names, [b"file-1234"]);
    let mut expected = oracle(dir.path());
    expected.retain(|path| path != poison.as_os_str().as_bytes());
    assert_same(&cluster.paths(b'e'), &expected);
}

#[test]
fn what_killed_workers_deep_in_a_chain_was_reached_by_one_death_for_each_level() {
    let dir = scratch();
    let mut deep = dir.path().to_owned();
    for _ in 0..12 {
        deep.push("d");
        std::fs::create_dir(&deep).unwrap();
    }
    flat(&deep, 3);
    let poison = deep.join("file-1");
    let mut job = job(dir.path());
    job.timing.commit_interval = PATIENCE;
    let mut cluster = Cluster::new(job);
    let deaths = poison_out(&mut cluster, &poison);
    assert!(deaths <= 6, "{deaths}");
    let aside: Vec<_> = cluster.parent.aside().collect();
    let names = aside.iter().map(|aside| aside.item.parcel());
    assert!(
        matches!(&names.collect::<Vec<_>>()[..], [Parcel::Names(names)] if names.names.iter().eq([&b"file-1"[..]])),
        "{aside:?}"
    );
}

/// A sum that becomes too large for a message at one entry.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Heap(#[serde(with = "serde_bytes")] Vec<u8>);

impl Summary for Heap {
    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Where it finds too much.
#[derive(Clone, Copy)]
enum Hoard {
    Sum(Wants),
    /// The walk's own counts, which the worker does not measure.
    Walk(Wants),
}

impl Visit for Hoard {
    type Summary = Heap;

    fn wants(&self) -> Wants {
        match self {
            Self::Sum(wants) | Self::Walk(wants) => *wants,
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Heap>) {
        match self {
            _ if entry.name != b"file-42" => {}
            Self::Sum(_) => out.summary.0 = vec![0; 20 << 20],
            Self::Walk(_) => {
                let long = "x".repeat(20 << 20);
                out.walk.skipped_pseudo.insert(long, 1);
            }
        }
    }
}

#[test]
fn a_sum_that_no_message_holds_killed_workers_without_end() {
    costs_what_is_to_blame(Hoard::Sum);
}

#[test]
fn a_commit_that_fits_into_no_frame_was_nobodys_fault() {
    costs_what_is_to_blame(Hoard::Walk);
}

fn costs_what_is_to_blame(hoard: impl Fn(Wants) -> Hoard) {
    for whole_directories in [true, false] {
        let dir = scratch();
        flat(dir.path(), 100);
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        flat(&dir.path().join("sub"), 10);
        let mut cluster = Cluster::new(job(dir.path()));
        cluster.tolerant = true;
        let wants = Wants {
            whole_directories,
            ..Wants::default()
        };
        let mut workers = 0;
        while !cluster.parent.is_done() {
            workers += 1;
            assert!(workers < 9, "{:?}", cluster.lost);
            let page = page();
            let identity = Identity {
                slot: Some(Slot::map(&page).unwrap()),
                ..Identity::default()
            };
            let conn = cluster.worker_as(hoard(wants), identity);
            cluster.pages.insert(conn, page);
            let lost = cluster.lost.len();
            cluster.until(|cluster| cluster.lost.len() > lost || cluster.parent.is_done());
        }
        assert!(cluster.lost[0].contains("limit"), "{:?}", cluster.lost);
        assert_eq!(cluster.parent.counts().aside, 1);
        let aside = cluster.parent.aside().next().unwrap();
        match aside.item.parcel() {
            Parcel::Dirs(_) if whole_directories => {}
            Parcel::Names(names) if !whole_directories => {
                let names: Vec<_> = names.names.iter().collect();
                assert_eq!(names, [b"file-42"]);
            }
            parcel => panic!("{parcel:?}"),
        }
    }
}
