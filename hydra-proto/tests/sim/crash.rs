//! The server's death: what it recorded is replayed beside it, and takes its place when it dies.

use super::net::Node;
use super::setup::server;
use super::world::World;
use hydra_proto::codec;
use hydra_proto::ledger::{Parent, Record, State};

impl World {
    /// A record of the server is durable.
    pub(crate) fn recorded(&mut self, record: Record) {
        if let Err(error) = self.mirror.replay(self.coded(record)) {
            self.fail(format!("a record cannot be replayed: {error}"));
        }
        while self.mirror.poll_action().is_some() {}
    }

    /// What was replayed is what lives, but for which grants have arrived: nobody records that.
    pub(crate) fn compare(&mut self) {
        let (live, replayed) = (snapshot(&self.server), snapshot(&self.mirror));
        let same = live.len() == replayed.len()
            && live
                .iter()
                .zip(&replayed)
                .all(|(live, replayed)| like(live, replayed));
        if !same {
            self.fail(format!("replayed:\n{replayed:#?}\nlive:\n{live:#?}"));
        }
    }

    /// The server dies, and another one goes on at once.
    pub(crate) fn kill_server(&mut self) {
        if self.over {
            return;
        }
        self.compare();
        self.incarnation += 1;
        self.say(|| "the server dies".to_owned());
        for index in 0..self.links.len() {
            if self.links[index].parent == Node::Server {
                let link = &mut self.links[index];
                link.late = false;
                self.close_parent(hydra_proto::ids::ConnId(index as u64));
            }
        }
        // A snapshot of what was replayed is as good as it, once and twice.
        let mut next = [
            server(&self.spec, self.lease_ids),
            server(&self.spec, self.lease_ids),
        ];
        for parent in &mut next {
            for record in snapshot(&self.mirror) {
                let mut bytes = Vec::new();
                codec::store(&record, &mut bytes).expect("a record");
                let (record, _) = codec::load(&bytes).expect("a record that was stored");
                parent.replay(record).expect("a snapshot that fits");
            }
        }
        let [mut living, mirror] = next;
        living.revive(self.now, self.incarnation);
        living.keep_records(true);
        (self.server, self.mirror) = (living, mirror);
        self.wakes.remove(&Node::Server);
        self.last_fault = self.last_fault.max(self.now);
        self.pump_server();
    }
}

fn snapshot(parent: &Parent) -> Vec<Record> {
    let mut records = Vec::new();
    parent.snapshot(&mut |record| records.push(record));
    records
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
