//! The server's death: what it recorded is replayed beside it, and takes its place when it dies.

use super::net::Node;
use super::setup::server;
use super::world::{Event, World};
use hydra_proto::codec;
use hydra_proto::item::Item;
use hydra_proto::ledger::{Parent, Record, State};
use std::collections::BTreeMap;
use std::time::Duration;

impl World {
    /// What was replayed is what lives, but for which grants have arrived: nobody records that.
    pub(crate) fn compare(&mut self) {
        let (mut live, mut replayed) = (self.living(), snapshot(&self.mirror));
        if self.memory < u64::MAX {
            // What was put away and brought back is in other parcels than before.
            (live, replayed) = (one_by_one(live), one_by_one(replayed));
        }
        let same = live.len() == replayed.len()
            && live
                .iter()
                .zip(&replayed)
                .all(|(live, replayed)| like(live, replayed));
        if !same {
            let differ = |pair: &(&Record, &Record)| !like(pair.0, pair.1);
            let first = live.iter().zip(&replayed).find(differ);
            let (live, replayed) = (live.len(), replayed.len());
            self.fail(format!(
                "{live} live records, {replayed} replayed; {first:?}"
            ));
        }
    }

    /// The server dies, and what was not durable is lost. Another one goes on after a while.
    pub(crate) fn kill_server(&mut self) {
        if self.over || self.down {
            return;
        }
        self.compare();
        self.say(|| "the server dies".to_owned());
        self.incarnation += 1;
        self.down = true;
        (self.stopped, self.held_since) = (None, None);
        self.thaw(Node::Server);
        self.tear();
        for index in 0..self.links.len() {
            if self.links[index].parent == Node::Server {
                let link = &mut self.links[index];
                link.late = false;
                self.close_parent(hydra_proto::ids::ConnId(index as u64));
            }
        }
        // A snapshot of what was replayed is as good as it, once and twice.
        let records = snapshot(&self.durable);
        let [mut living, mirror, durable] = [(); 3].map(|()| self.replayed(&records));
        living.keep_records(true);
        (self.server, self.mirror, self.durable) = (living, mirror, durable);
        let pause = Duration::from_micros(self.rng.skewed(2_500_000));
        self.last_fault = self.last_fault.max(self.now + pause);
        self.after(pause, Event::ReviveServer);
    }

    fn replayed(&self, records: &[Record]) -> Parent {
        let mut parent = server(&self.spec, self.lease_ids);
        for record in records {
            let mut bytes = Vec::new();
            codec::store(record, &mut bytes).expect("a record");
            let (record, _) = codec::load(&bytes).expect("a record that was stored");
            parent.replay(record).expect("a snapshot that fits");
        }
        parent
    }

    /// The server as it is, with what it has put away.
    fn living(&self) -> Vec<Record> {
        let mut records = snapshot(&self.server);
        let away = self.server.slots();
        records.extend(away.flat_map(|(slot, aside)| self.store.records(slot, aside.as_deref())));
        records
    }

    /// What a journal that is made shorter begins with.
    pub(crate) fn shorter(&self) -> Parent {
        self.replayed(&self.living())
    }

    /// The next server is there.
    pub(crate) fn revive_server(&mut self) {
        self.say(|| "the server is back".to_owned());
        self.down = false;
        self.server.revive(self.now, self.incarnation);
        self.count_store();
        self.limit_memory();
        self.pump_server();
    }
}

fn snapshot(parent: &Parent) -> Vec<Record> {
    let mut records = Vec::new();
    parent.snapshot(&mut |record| records.push(record));
    records
}

/// The same with each open item for itself, in the order of their ids.
fn one_by_one(records: Vec<Record>) -> Vec<Record> {
    let (mut items, mut items_aside) = (BTreeMap::new(), BTreeMap::new());
    let mut others = Vec::new();
    for record in records {
        match record {
            Record::State(state) => match *state {
                State::Items {
                    owner,
                    recorded,
                    items: parcels,
                } => {
                    for (id, item) in parcels.into_iter().flat_map(Item::unpack) {
                        let items_of_one = State::Items {
                            owner,
                            recorded,
                            items: Item::pack([(id, item)]),
                        };
                        items.insert(id, Record::State(Box::new(items_of_one)));
                    }
                }
                State::Aside { items, reason } => {
                    for (id, item) in items.into_iter().flat_map(Item::unpack) {
                        let one = State::Aside {
                            items: Item::pack([(id, item)]),
                            reason: reason.clone(),
                        };
                        items_aside.insert(id, Record::State(Box::new(one)));
                    }
                }
                other => others.push(Record::State(Box::new(other))),
            },
            other => others.push(other),
        }
    }
    others.extend(items.into_values());
    others.extend(items_aside.into_values());
    others
}

fn like(live: &Record, replayed: &Record) -> bool {
    let (Record::State(live), Record::State(replayed)) = (live, replayed) else {
        return live == replayed;
    };
    let mut replayed = State::clone(replayed);
    match (&**live, &mut replayed) {
        (State::Session { unseen: live, .. }, State::Session { unseen, .. }) => {
            let from = unseen.len().saturating_sub(live.len());
            *unseen = unseen.split_off(from);
        }
        // Epochs are counted from the incarnation on, which is no record.
        (
            State::Numbers {
                next_epoch: live, ..
            },
            State::Numbers { next_epoch, .. },
        ) => {
            *next_epoch = *live.max(next_epoch);
        }
        _ => {}
    }
    **live == replayed
}
