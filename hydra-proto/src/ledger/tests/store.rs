use super::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A store that the test can look into.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    kept: BTreeMap<u64, Vec<u8>>,
    next: u64,
    broken: bool,
}

impl Shelf {
    fn set_broken(&self, broken: bool) {
        self.0.lock().unwrap().broken = broken;
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().kept.len()
    }
}

fn error() -> StoreError {
    StoreError("it is broken".to_owned())
}

impl Store for Shelf {
    fn put(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let mut inner = self.0.lock().unwrap();
        if inner.broken {
            return Err(error());
        }
        inner.next += 1;
        let slot = inner.next;
        inner.kept.insert(slot, bytes.to_vec());
        Ok(slot)
    }

    fn get(&self, slot: u64) -> Result<Vec<u8>, StoreError> {
        let inner = self.0.lock().unwrap();
        match inner.broken {
            true => Err(error()),
            false => Ok(inner.kept[&slot].clone()),
        }
    }

    fn forget(&mut self, slot: u64) {
        self.0.lock().unwrap().kept.remove(&slot);
    }
}

/// Directories below `a`, each in a parcel of its own.
fn parcels(root: u32, count: u64) -> Vec<Parcel> {
    let parcel = |n| {
        dirs_of(
            root,
            1 + u64::from(root) * 500 + n,
            "a",
            &[&format!("d{n}")],
        )
    };
    (0..count).map(parcel).collect()
}

/// A server with memory for nearly nothing and a store.
fn small() -> (Parent, Shelf) {
    let (mut parent, shelf) = (server(), Shelf::default());
    parent.limit_memory(2000);
    parent.keep_in(Box::new(shelf.clone()));
    (parent, shelf)
}

/// The same, and so many items in its pool.
fn full(count: u64) -> (Parent, Shelf) {
    let (mut parent, shelf) = small();
    parent.add(parcels(0, count), true);
    (parent, shelf)
}

fn paths(parent: &Parent) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = parent.items().map(|item| item.path()).collect();
    paths.sort();
    paths
}

#[test]
fn what_is_too_much_goes_away_and_comes_back_when_somebody_is_hungry() {
    let (mut parent, shelf) = full(50);
    let all = paths(&parent);
    assert_eq!(all.len(), 50);
    assert!(parent.table.bytes() <= 2000, "{}", parent.table.bytes());
    assert!(shelf.len() > 20);
    assert_eq!(parent.counts().pool, 50);
    assert!(parent.counts().balanced() && !parent.is_done());
    let child = join(&mut parent, 1, 1);
    let mut granted = Vec::new();
    for seq in 1.. {
        let actions = drain(&mut parent);
        let grants = actions.iter().filter_map(|action| match action {
            Action::Send {
                message: Down::Grant(grant),
                ..
            } => Some(grant),
            _ => None,
        });
        let new: Vec<Parcel> = grants.flat_map(|grant| grant.items.clone()).collect();
        if new.is_empty() {
            break;
        }
        let mut commit = commit(child, seq);
        commit.done = new.iter().map(Parcel::ids).collect();
        commit.load = load(0, true);
        granted.extend(new.into_iter().flat_map(crate::item::Item::unpack));
        parent.handle(ms(1), ConnId(1), Up::Commit(Box::new(commit)));
    }
    assert!(parent.is_done());
    assert_eq!(shelf.len(), 0);
    granted.sort_by_key(|&(id, _)| id);
    let ids: Vec<u64> = granted.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, (1..=50).collect::<Vec<u64>>());
    let mut paths: Vec<_> = granted.iter().map(|(_, item)| item.path()).collect();
    paths.sort();
    assert_eq!(paths, all);
}

#[test]
fn a_store_that_takes_nothing_leaves_everything_in_memory_and_is_told_of_once() {
    let (mut parent, shelf) = (server(), Shelf::default());
    shelf.set_broken(true);
    parent.limit_memory(2000);
    parent.keep_in(Box::new(shelf.clone()));
    parent.add(parcels(0, 10), true);
    assert_eq!(drain(&mut parent), [Action::KeptInMemory(error())]);
    parent.add(parcels(1, 1), true);
    assert_eq!(drain(&mut parent), []);
    assert_eq!(paths(&parent).len(), 11);
    // Tried again when there is much more.
    shelf.set_broken(false);
    parent.add(parcels(1, 11), true);
    assert_eq!(drain(&mut parent), []);
    assert!(shelf.len() > 0 && parent.table.bytes() <= 2000);
    assert_eq!(paths(&parent).len(), 21);
}

#[test]
fn what_cannot_be_read_back_stays_in_the_pool() {
    let (mut parent, shelf) = full(50);
    let all = paths(&parent);
    shelf.set_broken(true);
    let child = join(&mut parent, 1, 1);
    drain(&mut parent);
    let owned = parent.counts().owned;
    assert!(owned < 50);
    assert_eq!(
        beat(&mut parent, ms(1), 1, child, load(0, true)).last(),
        Some(&Action::NotReadBack(error()))
    );
    assert_eq!(parent.counts().pool, 50 - owned);
    shelf.set_broken(false);
    assert_eq!(paths(&parent), all);
    beat(&mut parent, ms(2), 1, child, load(0, true));
    assert!(parent.counts().owned > owned);
    assert_eq!(paths(&parent), all);
}

#[test]
fn ids_that_are_away_are_in_use() {
    let (mut parent, _) = full(50);
    let away = parent.table.away.slots().next().map(|(slot, _)| slot);
    assert_eq!(away, Some(1));
    // The deepest and latest go first.
    assert_eq!(parent.table.get(ItemId(50)).map(|entry| entry.owner), None);
    parent.add(parcels(0, 50), true);
    assert_eq!(parent.counts().pool, 50);
    assert_eq!(parent.table.first_known(range(50, 51)), Some(ItemId(50)));
}

#[test]
fn what_nobody_serves_is_set_aside_from_the_store_too() {
    let (mut parent, shelf) = full(50);
    join_serving(&mut parent, 1, 1, &[false, true]);
    let before = shelf.len();
    assert!(before > 0 && parent.is_stuck());
    parent.set_aside_unserved(&|_| "nobody".to_owned());
    assert_eq!(parent.counts().aside, 50);
    // It is where it was, and nothing of it was brought back.
    assert_eq!(shelf.len(), before);
    assert!(parent.is_done() && parent.table.bytes() <= 2000);
    let mut ids: Vec<u64> = parent.aside().map(|aside| aside.id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<u64>>());
    assert!(parent.aside().all(|aside| &*aside.reason == "nobody"));
    assert_eq!(parent.table.first_known(range(50, 51)), Some(ItemId(50)));
}

#[test]
fn only_what_the_hungry_may_be_granted_is_brought_back() {
    let (mut parent, shelf) = full(50);
    join_serving(&mut parent, 1, 1, &[false, true]);
    let before = shelf.len();
    parent.add(parcels(1, 30), true);
    let mut actions = drain(&mut parent);
    actions.retain(|action| {
        matches!(
            action,
            Action::Send {
                message: Down::Grant(_),
                ..
            }
        )
    });
    assert_eq!(actions.len(), 1);
    assert!(shelf.len() >= before && !parent.is_stuck());
}

#[test]
fn children_give_back_what_can_be_put_away() {
    let (mut parent, shelf) = (server(), Shelf::default());
    parent.limit_memory(2000);
    let child = join(&mut parent, 1, 1);
    parent.add(parcels(0, 20), true);
    drain(&mut parent);
    beat(&mut parent, ms(5000), 1, child, load(20, false));
    assert!(parent.is_frugal());
    parent.keep_in(Box::new(shelf.clone()));
    let asked = send(1, Down::Shed(Shed { id: 1, hungry: 1 }));
    assert_eq!(drain(&mut parent), [asked]);
    let mut answer = commit(child, 1);
    (answer.give, answer.answers) = (vec![range(1, 20)], Some(1));
    say(&mut parent, 1, answer);
    assert!(shelf.len() > 0 && !parent.is_frugal());
    assert_eq!(paths(&parent).len(), 20);
}

/// What a snapshot and the slots replay to.
fn copy(parent: &Parent, shelf: &Shelf) -> Parent {
    copy_to(server(), parent, shelf)
}

fn copy_to(mut again: Parent, parent: &Parent, shelf: &Shelf) -> Parent {
    let mut records = Vec::new();
    parent.snapshot(&mut |record| records.push(record));
    for (slot, aside) in parent.slots() {
        let bytes = shelf.get(slot).unwrap();
        records.extend(stored_records(&bytes, aside.as_deref()).unwrap());
    }
    for record in records {
        again.replay(record).unwrap();
    }
    again
}

#[test]
fn a_snapshot_and_the_slots_replay_to_the_same_state() {
    let (parent, shelf) = full(50);
    assert!(parent.slots().next().is_some());
    let again = copy(&parent, &shelf);
    assert_eq!(again.counts(), parent.counts());
    assert_eq!(paths(&again), paths(&parent));
}

#[test]
fn all_that_was_put_away_came_back_to_memory_when_a_journal_was_replayed() {
    let (mut parent, shelf) = full(100);
    let child = join(&mut parent, 1, 1);
    let (mirror, kept) = small();
    let mut mirror = copy_to(mirror, &parent, &shelf);
    assert!(kept.len() > 20);
    parent.keep_records(true);
    for seq in 1.. {
        let mut new = Vec::new();
        for action in drain(&mut parent) {
            match action {
                Action::Record(record) => mirror.replay(*record).unwrap(),
                Action::Send {
                    message: Down::Grant(grant),
                    ..
                } => new.extend(grant.items),
                _ => {}
            }
            assert!(mirror.table.bytes() <= 2000, "{}", mirror.table.bytes());
        }
        assert_eq!(mirror.counts(), parent.counts());
        assert_eq!(paths(&mirror), paths(&parent));
        if new.is_empty() {
            break;
        }
        let mut commit = commit(child, seq);
        commit.done = new.iter().map(Parcel::ids).collect();
        commit.load = load(0, true);
        parent.handle(ms(1), ConnId(1), Up::Commit(Box::new(commit)));
    }
    assert!(parent.is_done() && mirror.is_done());
    assert_eq!(kept.len(), 0);
}

#[test]
fn a_replay_that_cannot_read_what_it_put_away_says_so() {
    let (mut parent, shelf) = full(100);
    let child = join(&mut parent, 1, 1);
    let (mirror, kept) = small();
    let mut mirror = copy_to(mirror, &parent, &shelf);
    kept.set_broken(true);
    let replayed = mirror.replay(Record::Granted {
        child,
        grant: Granted {
            seq: 2,
            items: vec![range(100, 101)],
            ids: range(0, 0),
            careful: false,
        },
    });
    assert_eq!(replayed, Err(ReplayError::NotReadBack));
}

/// A child whose walls enclose all of root 0, or what lies at `path`.
fn shut(parent: &mut Parent, conn: u64, path: &str) {
    let wall = Wall {
        root: RootId(0),
        path: path.into(),
        without: Vec::new(),
        reason: "it is dead".to_owned(),
    };
    join(parent, conn, 1);
    parent.handle(ms(1), ConnId(conn), Up::Walls(vec![wall]));
}

/// What a child that owns something says when it gives all of it back.
fn give_back(parent: &mut Parent, conn: u64, child: ChildId, seq: u64) {
    let owned = parent.table.runs.iter();
    let own = owned.filter(|(_, run)| run.owner == crate::ledger::table::Owner::Child(child));
    let give = own.map(|(first, run)| run.ids(first)).collect();
    let mut commit = commit(child, seq);
    (commit.give, commit.load) = (give, load(0, true));
    parent.handle(ms(1), ConnId(conn), Up::Commit(Box::new(commit)));
}

#[test]
fn nothing_was_put_away_while_any_child_had_walls() {
    let (mut parent, shelf) = (server(), Shelf::default());
    parent.limit_memory(4000);
    shut(&mut parent, 1, "a/d3");
    parent.keep_in(Box::new(shelf.clone()));
    parent.serve(ChildId(0), vec![false, false]);
    parent.add(parcels(0, 100), true);
    assert!(shelf.len() > 0);
    assert!(parent.table.bytes() <= 4000, "{}", parent.table.bytes());
    // What lies behind the wall stays.
    assert_eq!(
        parent.table.get(ItemId(4)).map(|e| e.item.path()),
        Some(b"a/d3".to_vec())
    );
    assert_eq!(paths(&parent).len(), 100);
}

#[test]
fn all_of_a_pool_came_back_to_memory_when_its_mount_died() {
    let (mut parent, shelf) = full(200);
    shut(&mut parent, 1, "");
    give_back(&mut parent, 1, ChildId(0), 1);
    assert!(parent.table.bytes() <= 2000, "{}", parent.table.bytes());
    assert!(parent.is_stuck());
    let before = shelf.len();
    let mut mirror = copy(&parent, &shelf);
    drain(&mut parent);
    parent.keep_records(true);
    parent.set_aside_unserved(&|wall| format!("{:?}", wall.map(|wall| wall.1)));
    assert!(parent.is_done() && parent.counts().balanced());
    assert!(parent.table.bytes() <= 2000, "{}", parent.table.bytes());
    let mut ids: Vec<u64> = parent.aside().map(|aside| aside.id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=200).collect::<Vec<u64>>());
    assert!(
        parent
            .aside()
            .all(|aside| &*aside.reason == r#"Some("it is dead")"#)
    );
    // Whoever goes on has it all, from the log and from a snapshot.
    let mut sets = 0;
    for action in drain(&mut parent) {
        if let Action::Record(record) = action {
            sets += usize::from(matches!(&*record, Record::SetAside { .. }));
            mirror.replay(*record).unwrap();
        }
    }
    assert!(sets <= before + 1, "{sets} records for {before} pieces");
    let again = copy(&parent, &shelf);
    for other in [&mirror, &again] {
        assert_eq!(other.counts(), parent.counts());
        assert_eq!(paths(other), paths(&parent));
        assert!(
            other
                .aside()
                .all(|aside| &*aside.reason == r#"Some("it is dead")"#)
        );
    }
}

#[test]
fn all_of_a_pool_came_back_to_memory_when_no_child_was_left() {
    let (mut parent, shelf) = full(200);
    let before = shelf.len();
    // Nothing is even read.
    shelf.set_broken(true);
    parent.abandon(ms(1), "nobody was left");
    assert_eq!((parent.counts().aside, shelf.len()), (200, before));
    assert!(parent.is_done() && parent.table.bytes() <= 2000);
    shelf.set_broken(false);
    assert!(
        parent
            .aside()
            .all(|aside| &*aside.reason == "nobody was left")
    );
    assert_eq!(parent.aside().count(), 200);
}
