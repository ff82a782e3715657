//! Dialled clients that leave the job again and again: it is no use to dial them once more.

use hydra_proto::ids::ChildId;
use std::collections::{BTreeMap, BTreeSet};

/// A client is given up when so many of its sessions in a row ended by its own doing, and had found nothing.
pub(super) const QUITS_MAX: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Quitters {
    /// Sessions that have found something.
    useful: BTreeSet<ChildId>,
    /// How many sessions of a client in a row were of no use.
    useless: BTreeMap<usize, u32>,
}

impl Quitters {
    /// A session has found something. Returns whether that is news.
    pub(super) fn found(&mut self, session: ChildId) -> bool {
        self.useful.insert(session)
    }

    /// So has this client.
    pub(super) fn forgive(&mut self, client: usize) {
        self.useless.remove(&client);
    }

    /// A session is over.
    pub(super) fn lost(&mut self, session: ChildId) {
        self.useful.remove(&session);
    }

    /// A client leaves its session, if it has one, or breaks the protocol in it. Returns whether that is often enough.
    pub(super) fn quits(&mut self, client: usize, session: Option<ChildId>) -> bool {
        if session.is_some_and(|session| self.useful.contains(&session)) {
            return false;
        }
        let times = self.useless.entry(client).or_default();
        *times += 1;
        *times >= QUITS_MAX
    }
}
