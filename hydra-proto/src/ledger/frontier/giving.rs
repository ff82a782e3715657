//! What a worker gives away: the request that waits, what it gets, and what is kept back from it.

use super::{Batch, Cut, Frontier};
use crate::ids::IdRange;
use crate::ledger::work::{Pending, Place, Work};
use crate::message::Shed;

/// One batch of directories in so many is given from, the nearest to the root, and never fewer than these.
const TOP_SHARE: usize = 4;
const TOP_MIN: usize = 2;

/// What a frontier does not give: less and less, the longer a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keeps {
    /// As below, and all that it has as long as that is little.
    Little,
    /// The last rest of a listing, and pieces of listings, as long as it has nothing else.
    Pieces,
    /// The last rest of a listing.
    Rest,
    Nothing,
}

/// Fewer directories than these are little.
const LITTLE: u64 = 16;

impl<P: Place> Frontier<P> {
    /// The parent asks for work. Kept until there is something to give, or nothing at all.
    pub fn ask(&mut self, shed: Shed) {
        self.shed = Some(shed);
        self.keeps = Keeps::Pieces;
    }

    /// The request came soon after another one: little is finished sooner here than it would be elsewhere.
    pub fn keep_little(&mut self) {
        self.keeps = Keeps::Little;
    }

    /// What was little then, and is not finished by now, may be much.
    pub fn yield_little(&mut self) {
        self.keeps = self.keeps.max(Keeps::Pieces);
    }

    /// The request has waited for about as long as it takes to move something: it may have pieces of listings too,
    /// where nothing else is left. Most are finished sooner than they would be elsewhere.
    pub fn yield_pieces(&mut self) {
        self.keeps = self.keeps.max(Keeps::Rest);
    }

    /// The request has waited long: it may take the last rest of a listing too, though whoever gets that has to
    /// read the listing again.
    pub fn yield_rest(&mut self) {
        self.keeps = Keeps::Nothing;
    }

    /// The request that waits for an answer.
    #[must_use]
    pub fn asked(&self) -> Option<Shed> {
        self.shed
    }

    /// Whether a commit cut now could give something away.
    #[must_use]
    pub fn could_give(&self) -> bool {
        self.shed.is_some() && self.held > 1 && !self.keeps_all()
    }

    /// Whether nothing is held but what is kept.
    fn keeps_all(&self) -> bool {
        let is_dirs = |batch: &Batch<P>| matches!(batch.work, Pending::Dirs { .. });
        match self.keeps {
            Keeps::Little if self.held < LITTLE && self.batches.iter().all(is_dirs) => true,
            Keeps::Little | Keeps::Pieces => self.batches.iter().all(|batch| batch.actions() > 0),
            Keeps::Rest | Keeps::Nothing => false,
        }
    }

    /// Gives items that are on record already: possible at any moment, whatever is in hand.
    pub fn give(&mut self) -> Option<Cut> {
        let give = self.answer();
        if give.is_empty() {
            return None;
        }
        self.cuts += 1;
        Some(Cut {
            give,
            load: self.load(),
            answers: self.shed.take().map(|shed| shed.id),
            ..Cut::default()
        })
    }

    /// Takes what the waiting request asks for: of what is on record the same part of every batch, from the front, so
    /// that whoever gives keeps as much of what is large as it can.
    pub(super) fn answer(&mut self) -> Vec<IdRange> {
        let Some(shed) = self.shed.filter(|_| !self.keeps_all()) else {
            return Vec::new();
        };
        let hungry = u64::from(shed.hungry.max(1));
        let keep = u64::from(self.hand.is_none());
        let share = (u128::from(self.held) * u128::from(hungry) / u128::from(hungry + 1)) as u64;
        let left = share.max(1).min(self.held.saturating_sub(keep));
        let mut given = self.take_parts(left, hungry);
        if given.is_empty() && left > 0 && (self.recorded > 1 || self.keeps == Keeps::Nothing) {
            given.extend(self.take_of(0, 1));
        }
        given
    }

    /// Takes `hungry` of `hungry + 1` items of every batch on record, but no rests, until there are as many as `left`. Of
    /// directories only the batches nearest to the root: what lies below is small, costs as much to move, and keeps
    /// this worker busy.
    fn take_parts(&mut self, mut left: u64, hungry: u64) -> Vec<IdRange> {
        let (mut given, mut due, mut index) = (Vec::new(), hungry, 0);
        let mut top = self.recorded.div_ceil(TOP_SHARE).max(TOP_MIN);
        while left > 0 && index < self.recorded {
            let Some(batch) = self.batches.get(index).filter(|batch| !batch.is_rest()) else {
                index += 1;
                continue;
            };
            let len = batch.len() as u64;
            let count = match &batch.work {
                // It lies before its parts, and must not stay where only some of them are.
                Pending::One(Work::After { .. }) => 1,
                Pending::Dirs { .. } if top == 0 => 0,
                _ => {
                    due += len * hungry;
                    let count = (due / (hungry + 1)).min(len).min(left);
                    due -= count * (hungry + 1);
                    count
                }
            };
            top -= usize::from(top > 0 && matches!(batch.work, Pending::Dirs { .. }));
            left -= count;
            given.extend(self.take_of(index, count));
            index += usize::from(count < len);
        }
        given
    }

    /// Takes the first `count` items of a batch on record.
    fn take_of(&mut self, index: usize, count: u64) -> Option<IdRange> {
        let batch = self.batches.get_mut(index).filter(|_| count > 0)?;
        let first = batch.first?;
        let whole = count == batch.len() as u64;
        let actions = batch.actions();
        let start = match &mut batch.work {
            Pending::Dirs { from, .. } => {
                let start = first.0 + *from as u64;
                *from += count as usize;
                start
            }
            Pending::One(_) => first.0,
        };
        self.held -= count;
        self.actions -= actions;
        if whole {
            self.batches.remove(index);
            self.recorded -= 1;
        }
        Some(IdRange {
            start,
            end: start + count,
        })
    }
}
