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

/// A server with memory for nearly nothing and a store, and so many items in its pool.
fn full(count: u64) -> (Parent, Shelf) {
    let (mut parent, shelf) = (server(), Shelf::default());
    parent.limit_memory(2000);
    parent.keep_in(Box::new(shelf.clone()));
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
    assert!(shelf.len() > 0 && parent.is_stuck());
    parent.set_aside_unserved(&|_| "nobody".to_owned());
    assert_eq!(parent.aside().len(), 50);
    assert_eq!(shelf.len(), 0);
    assert!(parent.is_done());
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

#[test]
fn a_snapshot_and_the_slots_replay_to_the_same_state() {
    let (parent, shelf) = full(50);
    let mut records = Vec::new();
    parent.snapshot(&mut |record| records.push(record));
    let slots: Vec<u64> = parent.slots().collect();
    assert!(!slots.is_empty());
    for slot in slots {
        records.extend(stored_records(&shelf.get(slot).unwrap()).unwrap());
    }
    let mut again = server();
    for record in records {
        again.replay(record).unwrap();
    }
    assert_eq!(again.counts(), parent.counts());
    assert_eq!(paths(&again), paths(&parent));
}
