//! A table of runs against one that has an entry for each item.

use super::*;
use crate::item::Item;
use crate::ledger::ProtocolError;
use crate::ledger::table::{Owner, Table};
use std::collections::{BTreeMap, BTreeSet};

const CHILDREN: u64 = 3;
const LEASE: IdRange = IdRange {
    start: 1,
    end: 1 << 40,
};

/// What is known of an item.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    owner: Owner,
    giver: Option<ChildId>,
    recorded: bool,
    depth: u32,
    path: Vec<u8>,
}

/// The table, and what it should say.
#[derive(Default)]
struct Twin {
    table: Table,
    open: BTreeMap<ItemId, Known>,
    aside: BTreeSet<ItemId>,
    walls: Vec<Wall>,
    next: u64,
    random: u64,
}

impl Twin {
    /// A number below `below`.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    fn child(&mut self) -> ChildId {
        ChildId(self.draw(CHILDREN) as u32)
    }

    /// A few neighbours out of these, now and then all.
    fn some(&mut self, ids: &[ItemId]) -> Vec<ItemId> {
        let from = self.draw(ids.len() as u64) as usize;
        let most = [1, 3, 8, 1000][self.draw(4) as usize];
        ids.iter().skip(from).take(most).copied().collect()
    }

    fn ids(&self, which: impl Fn(&Known) -> bool) -> Vec<ItemId> {
        let fit = self.open.iter().filter(|(_, known)| which(known));
        fit.map(|(&id, _)| id).collect()
    }

    fn parcel(&mut self) -> Parcel {
        let (dir, len) = (self.draw(4), 1 + self.draw(12));
        let first = self.next;
        self.next += len + self.draw(2);
        let names: Vec<String> = (first..first + len).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        dirs(first, ["", "d", "d/e", "f"][dir as usize], &names)
    }

    fn learn(&mut self, parcel: &Parcel, owner: Owner) {
        for (id, item) in Item::unpack(parcel.clone()) {
            let known = Known {
                owner,
                giver: None,
                recorded: owner == Owner::Pool,
                depth: item.depth() as u32,
                path: item.path(),
            };
            self.open.insert(id, known);
            self.place(id, owner, None);
        }
    }

    fn place(&mut self, id: ItemId, owner: Owner, giver: Option<ChildId>) {
        let known = self.open.get_mut(&id).expect("an open item");
        let is_walled = self.walls.iter().any(|wall| {
            let mut path = known.path.strip_prefix(&*wall.path);
            path = path.filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
            path.is_some()
        });
        (known.owner, known.giver) = (owner, giver);
        if is_walled && matches!(owner, Owner::Pool | Owner::Held) {
            known.owner = Owner::Held;
        }
    }

    fn commit(&mut self) {
        let child = self.child();
        let mut own = self.ids(|known| known.owner == Owner::Child(child));
        let mut commit = commit(child, 1);
        let mut split = |twin: &mut Self| {
            let some = twin.some(&own);
            own.retain(|id| !some.contains(id));
            some
        };
        let (done, give) = (split(self), split(self));
        let failed = match self.draw(8) {
            0 => split(self).into_iter().take(2).collect(),
            _ => Vec::new(),
        };
        commit.new = (0..self.draw(3)).map(|_| self.parcel()).collect();
        (commit.done, commit.give) = (join_ids(done.clone()), join_ids(give.clone()));
        let failure = |&id: &ItemId| Failure {
            id,
            reason: String::new(),
        };
        commit.failed = failed.iter().map(failure).collect();
        self.refuses(child, &commit);
        assert_eq!(self.table.check(child, &commit, &[LEASE]), Ok(()));
        for parcel in commit.new.clone() {
            self.learn(&parcel, Owner::Child(child));
        }
        for id in &done {
            self.open.remove(id);
        }
        for id in give {
            self.place(id, Owner::Pool, Some(child));
        }
        for id in failed {
            self.open.remove(&id);
            self.aside.insert(id);
        }
        self.table.apply(child, commit);
    }

    /// A commit with one thing wrong is not taken.
    fn refuses(&mut self, child: ChildId, good: &Commit) {
        let foreign = self.ids(|known| known.owner != Owner::Child(child));
        let foreign = self.some(&foreign).first().copied();
        let mut bad = good.clone();
        let Some(id) = foreign.or_else(|| self.aside.first().copied()) else {
            return;
        };
        match self.draw(4) {
            0 => bad.done.push(IdRange::one(id)),
            1 => bad.give.push(IdRange::one(id)),
            2 => bad.new.push(dirs(id.0, "g", &["n"])),
            _ => match bad.done.first().copied() {
                Some(ids) => bad.give.push(ids),
                None => bad.done.push(range(id.0, id.0 + 1)),
            },
        }
        let refused = self.table.check(child, &bad, &[LEASE]);
        assert!(
            matches!(
                refused,
                Err(ProtocolError::NotOwned(_) | ProtocolError::Repeated(_))
            ),
            "{refused:?}: {bad:?}"
        );
    }

    fn step(&mut self) {
        match self.draw(10) {
            0 => {
                let parcel = self.parcel();
                self.learn(&parcel, Owner::Pool);
                // What is there already is not added again.
                self.table.add(parcel.clone(), true);
                self.table.add(parcel, true);
            }
            1..=2 => {
                let (pool, child) = (self.ids(|known| known.owner == Owner::Pool), self.child());
                let some = self.some(&pool);
                for &id in &some {
                    self.place(id, Owner::Child(child), None);
                }
                for ids in join_ids(some) {
                    self.table.transfer(ids, Owner::Child(child));
                }
            }
            3 => {
                let all: Vec<ItemId> = self.open.keys().copied().collect();
                for ids in join_ids(self.some(&all)) {
                    let fresh = self.table.record(ids);
                    let is_new = |id: &ItemId| !self.open[id].recorded;
                    let expected: Vec<ItemId> = ids.iter().filter(is_new).collect();
                    assert!(fresh.iter().map(|fresh| fresh.0).eq(expected));
                    ids.iter()
                        .for_each(|id| self.open.get_mut(&id).unwrap().recorded = true);
                }
            }
            4 => {
                let pool = self.ids(|known| matches!(known.owner, Owner::Pool | Owner::Held));
                let some = self.some(&pool);
                self.open.retain(|id, _| !some.contains(id));
                for ids in join_ids(some) {
                    self.table.give_up(ids);
                }
            }
            5 if self.draw(4) == 0 => {
                let child = self.child();
                for id in self.ids(|known| known.owner == Owner::Child(child)) {
                    self.place(id, Owner::Pool, None);
                }
                self.table.reclaim(child, false);
            }
            6 if self.draw(4) == 0 => self.set_walls(),
            _ => self.commit(),
        }
    }

    fn set_walls(&mut self) {
        let (walled, path) = (self.draw(4), self.draw(3));
        let name = format!("n{}", self.next.saturating_sub(3)).into_bytes();
        let path = [b"d".to_vec(), b"d/e".to_vec(), name][path as usize].clone();
        let wall = Wall {
            root: RootId(0),
            path,
            without: Vec::new(),
            reason: String::new(),
        };
        self.walls = (walled > 0).then_some(wall).into_iter().collect();
        let mount = crate::ledger::Mount {
            number: 1,
            walls: self.walls.clone(),
            pass: crate::ledger::Pass::None,
        };
        for id in self.ids(|known| matches!(known.owner, Owner::Pool | Owner::Held)) {
            self.place(id, Owner::Pool, None);
        }
        self.table.set_mounts(vec![mount]);
    }

    fn compare(&self) {
        let table = &self.table;
        for (&id, known) in &self.open {
            let (_, n, run) = table.runs.find(id).expect("an open item");
            let found = Known {
                owner: run.owner,
                giver: run.giver,
                recorded: run.recorded,
                depth: run.item.depth() as u32,
                path: run.item.nth(n).path(),
            };
            assert_eq!((id, &found), (id, known));
        }
        assert_eq!(table.items().count(), self.open.len() + self.aside.len());
        let aside = table.aside().map(|aside| aside.id);
        assert!(self.aside.iter().copied().eq(aside));
        let mut pool = self.ids(|known| known.owner == Owner::Pool);
        pool.sort_by_key(|id| (self.open[id].depth, *id));
        assert_eq!(table.pool().collect::<Vec<_>>(), pool);
        assert_eq!(table.pool_len(), pool.len() as u64);
        let held = self.ids(|known| known.owner == Owner::Held);
        assert_eq!(table.held().collect::<Vec<_>>(), held);
        for child in (0..CHILDREN as u32).map(ChildId) {
            let own = self.ids(|known| known.owner == Owner::Child(child));
            assert_eq!(table.owned(child), own.len() as u64);
            let top = own.iter().map(|id| self.open[id].depth).min();
            assert_eq!(table.top_of(child), top);
        }
        assert!(table.counts().balanced());
    }
}

#[test]
fn a_table_of_runs_is_like_one_of_items() {
    for seed in 1..300 {
        let mut twin = Twin {
            next: 1,
            random: 0x9e37_79b9_7f4a_7c15 ^ seed,
            ..Twin::default()
        };
        for _ in 0..150 {
            twin.step();
            twin.compare();
        }
    }
}

#[test]
fn siblings_take_one_entry_wherever_they_go_together() {
    let (mut table, child) = (Table::default(), ChildId(0));
    let many: Vec<String> = (0..4000).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut commit = commit(child, 1);
    commit.new = vec![dirs(1, "a", &many), dirs(4001, "b", &many)];
    table.apply(child, commit);
    assert_eq!(table.runs.len(), 2);
    table.reclaim(child, false);
    table.record(range(1, 8001));
    assert_eq!((table.runs.len(), table.pool_len()), (2, 8000));
    table.transfer(range(1, 101), Owner::Child(child));
    assert_eq!((table.runs.len(), table.pool_len()), (3, 7900));
    let mut commit = super::commit(child, 2);
    commit.done = vec![range(51, 101)];
    table.apply(child, commit);
    assert_eq!((table.runs.len(), table.owned(child)), (3, 50));
}
