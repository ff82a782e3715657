//! Jobs with intents: a directory that was read to its end is decided upon before anything in it is acted on.
//!
//! ```text
//!   names ─► the plugin does not intend to act: shown at once
//!        └─► it does: a piece of names ─► commit ─► the server's record ─► acknowledged ─► shown, acted on
//! ```
//!
//! What waits for its acknowledgement is passed over in the deque, and other directories are listed meanwhile (the
//! frontier's `pop_ready`). So after a crash whatever was acted on is in a piece that is granted again, and what was
//! not to be acted on is in none.

use super::here::Here;
use super::split::{BATCH_NAMES, Batches};
use super::spool::Spool;
use super::{Left, Walker};
use crate::place::At;
use crate::plugin::Visit;
use hydra_proto::ids::ItemId;
use hydra_proto::ledger::Work;
use hydra_proto::walk::FileType;
use std::sync::Arc;

impl<V: Visit> Walker<V> {
    /// Shows the names of a directory that are not to be acted on, and leaves the others for when they are on record.
    /// Its end is acted on too, so it goes on record in any case.
    pub(super) fn intend(&mut self, here: &Here<'_>, mut visit: Option<ItemId>, mut spool: Spool) {
        if !self.may_split(here.node, &mut visit) {
            // There are no ids at this moment. More are on their way.
            return self.leave_rest(here, visit, spool);
        }
        let mut intended = Vec::new();
        let mut room = self.spool_rules.commit_bytes();
        while !spool.is_empty() && room > 0 && !self.sink.is_full() {
            let batches = match spool.take() {
                Ok(batches) => batches,
                Err(error) => {
                    self.spool_failed(here, &error);
                    break;
                }
            };
            let batches = self.decide(here, &batches);
            room = room.saturating_sub(batches.bytes());
            intended.push(batches);
        }
        self.leave_subdirs(here.node);
        for batches in intended {
            self.leave_names(here.node, visit, batches);
        }
        match spool.is_empty() {
            true => {
                self.listed(here, &spool);
            }
            false => self.leave_rest(here, visit, spool),
        }
    }

    /// The names that the plugin intends to act on.
    fn decide(&mut self, here: &Here<'_>, batches: &Batches) -> Batches {
        let mut intended = Batches::new(here.node, BATCH_NAMES, usize::MAX);
        for (name, file_type) in batches.iter() {
            let leave = |walker: &mut Self, name: &_| {
                walker.entry_unless::<true>(here, name, FileType::from_raw(file_type))
            };
            if self.with_name(name, leave) == Some(true) {
                intended.push(name, file_type);
            }
        }
        intended
    }

    /// Leaves what is not handed out yet for the next turn.
    pub(super) fn leave_rest(&mut self, here: &Here<'_>, visit: Option<ItemId>, spool: Spool) {
        let (dir, read) = (At(Arc::clone(here.node)), spool.out());
        self.left.push(Left::Part(Work::Rest { dir, visit, read }));
        self.spool = Some(spool);
    }
}
