//! A worker's ledger: its depth-first deque, and the item in hand.
//!
//! ```text
//!   front (tail of the work, near the root)                          back (where the walk is)
//!   ┌──────────────┬──────────────┬─────────────┬───────────────┐
//!   │ a/ {b c d e} │ a/f/ {g h}   │ a/f/i/ {j}  │ a/f/i/k/ {l m}│ ──pop──► in hand
//!   └──────────────┴──────────────┴─────────────┴───────────────┘ ◄─push── what it finds
//!     ◄─give        ── recorded ──┘└── unrecorded: no id yet ───┘
//! ```
//!
//! Depth first, because a breadth-first frontier of a wide tree does not fit into memory. What moves to others
//! is taken from the front: close to the root, and so large. Items get their ids when a commit is cut; what is
//! found and finished between two commits never has one. Grants go to the front, so that the recorded
//! batches always lie before the unrecorded ones.

use super::work::{Key, Pending, Place, Work, pack, unpack};
use crate::ids::{IdRange, ItemId, join_ids};
use crate::item::{NameList, PARCEL_NAMES_MAX, Parcel};
use crate::message::{Delta, Failure, Grant, Load, Shed};
use std::collections::VecDeque;

mod giving;

use giving::Keeps;

/// No commit has this number.
const UNCUT: u64 = u64::MAX;

/// Items with one parent directory.
#[derive(Debug)]
struct Batch<P> {
    /// The id of the first of them, if they are on record.
    first: Option<ItemId>,
    origin: ItemId,
    careful: bool,
    wary: bool,
    /// The commit that must be safe with the parent before anything of this is acted on, if it has to wait for any;
    /// [`UNCUT`] as long as that is not cut.
    waits_for: Option<u64>,
    work: Pending<P>,
}

impl<P> Batch<P> {
    fn len(&self) -> usize {
        match &self.work {
            Pending::Dirs { names, from, .. } => names.len() - from,
            Pending::One(_) => 1,
        }
    }

    fn is_rest(&self) -> bool {
        matches!(self.work, Pending::One(Work::Rest { .. }))
    }

    /// How much of it a plugin may act on; none of what has to be listed first.
    fn actions(&self) -> u64 {
        match &self.work {
            Pending::One(Work::Names { names, .. }) => names.len() as u64,
            Pending::One(Work::After { .. }) => 1,
            _ => 0,
        }
    }

    /// Whether it may be acted on when the commits up to `safe` are with the parent.
    fn is_ready(&self, safe: u64) -> bool {
        self.waits_for.is_none_or(|commit| commit <= safe)
    }
}

/// What a commit says, before its session stamps it.
#[derive(Debug, Default, PartialEq)]
pub struct Cut {
    /// Items that are finished.
    pub done: Vec<IdRange>,
    /// Items that are new.
    pub new: Vec<Parcel>,
    /// Items that go back.
    pub give: Vec<IdRange>,
    /// Items that cannot be finished.
    pub failed: Vec<Failure>,
    /// What was found.
    pub result: Option<Delta>,
    /// What is left.
    pub load: Load,
    /// The shed that this answers.
    pub answers: Option<u64>,
    /// What of that which goes back a worker that was lost may have acted on.
    pub begun: Vec<IdRange>,
}

/// The ledger of a worker.
#[derive(Debug)]
pub struct Frontier<P> {
    batches: VecDeque<Batch<P>>,
    /// How many batches at the front are on record.
    recorded: usize,
    held: u64,
    hand: Option<Key>,
    done: Vec<ItemId>,
    failed: Vec<Failure>,
    ids: VecDeque<IdRange>,
    shed: Option<Shed>,
    /// What is kept back from it.
    keeps: Keeps,
    /// The part in hand can be split further, though the deque holds nothing of it yet.
    splittable: bool,
    /// What may be acted on has to be on the parent's record first.
    intents: bool,
    /// What is in hand is on record, and so is every part of it.
    hand_ready: bool,
    /// How much in the deque may be acted on, now or when it is on record.
    actions: u64,
    /// Commits that were cut.
    cuts: u64,
}

impl<P: Place> Frontier<P> {
    /// An empty frontier whose new items get ids from `ids`.
    #[must_use]
    pub fn new(ids: IdRange) -> Self {
        Self {
            batches: VecDeque::new(),
            recorded: 0,
            held: 0,
            hand: None,
            done: Vec::new(),
            failed: Vec::new(),
            ids: VecDeque::from([ids]),
            shed: None,
            keeps: Keeps::Pieces,
            splittable: false,
            intents: false,
            hand_ready: false,
            actions: 0,
            cuts: 0,
        }
    }

    /// Entries that are found, and the ends of split directories, must be with the parent before anybody acts on them:
    /// take work with [`Frontier::pop_ready`], and send every [`Cut`] in its turn as the only commits.
    pub fn wait_for_record(&mut self) {
        self.intents = true;
    }

    /// Takes what the parent grants.
    pub fn accept(&mut self, grant: Grant) {
        if !grant.ids.is_empty() {
            self.ids.push_back(grant.ids);
        }
        for parcel in grant.items {
            let batch = Batch {
                first: Some(ItemId(parcel.ids().start)),
                origin: ItemId(parcel.ids().start),
                careful: grant.careful,
                wary: grant.careful,
                waits_for: None,
                work: unpack(parcel),
            };
            self.held += batch.len() as u64;
            self.actions += batch.actions();
            self.batches.push_front(batch);
            self.recorded += 1;
        }
    }

    /// Takes the next piece of work in hand. What was in hand must be finished.
    pub fn pop(&mut self) -> Option<(Key, Work<P>)> {
        self.pop_at(self.batches.len().checked_sub(1)?)
    }

    /// As [`Frontier::pop`], but nothing that may be acted on and is not on record: only the commits up to `safe` are
    /// with the parent. So that there is always something that is, other directories are listed meanwhile, as long as
    /// there is less than `ahead` to act on.
    pub fn pop_ready(&mut self, safe: u64, ahead: u64) -> Option<(Key, Work<P>)> {
        // The rest of a listing comes before what was read of it: to act there would change it.
        if self.batches.back().is_some_and(Batch::is_rest) {
            return self.pop();
        }
        let to_list = |batch: &Batch<P>| batch.actions() == 0;
        let found = match self.actions < ahead {
            true => self.batches.iter().rposition(to_list),
            false => None,
        };
        let found = found.or_else(|| self.find_ready(safe));
        // The end of a directory may wait for the rest of its listing, and for nothing else.
        let rest = || self.batches.iter().rposition(Batch::is_rest);
        self.pop_at(found.or_else(rest)?)
    }

    /// The last that may be acted on now. The end of a directory is behind all of its parts.
    fn find_ready(&self, safe: u64) -> Option<usize> {
        let mut waiting = Vec::new();
        let ready = |batch: &Batch<P>| {
            let Pending::One(work) = &batch.work else {
                return false;
            };
            let (part_of, ready) = match work {
                Work::Names { visit, .. } => (*visit, batch.is_ready(safe)),
                Work::Rest { visit, .. } => (*visit, false),
                Work::After { visit, .. } => {
                    return batch.is_ready(safe) && !waiting.contains(visit);
                }
                Work::Dir { .. } => return false,
            };
            waiting.extend(part_of.filter(|_| !ready));
            ready
        };
        self.batches.iter().rposition(ready)
    }

    fn pop_at(&mut self, at: usize) -> Option<(Key, Work<P>)> {
        debug_assert!(self.hand.is_none());
        let batch = self.batches.get_mut(at)?;
        let actions = batch.actions();
        let index = batch.len() as u64 - 1;
        let (id, work) = match &mut batch.work {
            Pending::Dirs {
                parent,
                names,
                from,
            } => {
                let id = batch
                    .first
                    .map(|first| ItemId(first.0 + *from as u64 + index));
                let name = names.get(names.len() - 1).unwrap_or_default().to_vec();
                let parent = parent.clone();
                names.pop();
                (id, Work::Dir { parent, name })
            }
            Pending::One(work) => (batch.first, work.clone()),
        };
        let key = Key {
            id,
            origin: id.unwrap_or(batch.origin),
            careful: batch.careful,
            wary: batch.wary,
        };
        if index == 0 {
            self.batches.remove(at);
            self.recorded -= usize::from(at < self.recorded);
        }
        self.held -= 1;
        self.actions -= actions;
        self.hand_ready = actions > 0;
        self.hand = Some(key);
        Some((key, work))
    }

    /// The piece in hand is finished, or replaced by what was pushed since.
    pub fn finish(&mut self) {
        self.splittable = false;
        if let Some(Key { id: Some(id), .. }) = self.hand.take() {
            self.done.push(id);
        }
    }

    /// The piece in hand cannot be finished. Only a piece on record can be said to have failed.
    pub fn fail(&mut self, reason: String) {
        self.splittable = false;
        if let Some(Key { id: Some(id), .. }) = self.hand.take() {
            self.failed.push(Failure { id, reason });
        }
    }

    /// Adds directories found in the piece in hand.
    pub fn push_dirs(&mut self, parent: &P, names: NameList) {
        if names.len() <= PARCEL_NAMES_MAX {
            self.push_batch(parent, names);
            return;
        }
        let mut part = NameList::default();
        for name in names.iter() {
            part.push(name);
            if part.len() == PARCEL_NAMES_MAX {
                self.push_batch(parent, std::mem::take(&mut part));
            }
        }
        self.push_batch(parent, part);
    }

    fn push_batch(&mut self, parent: &P, names: NameList) {
        if !names.is_empty() {
            let parent = parent.clone();
            self.push_pending(Pending::Dirs {
                parent,
                names,
                from: 0,
            });
        }
    }

    /// Adds a part of the piece in hand. The end of a directory goes in before its parts.
    pub fn push(&mut self, work: Work<P>) {
        self.push_pending(Pending::One(work));
    }

    fn push_pending(&mut self, work: Pending<P>) {
        let suspect = self.hand.filter(|key| key.careful);
        // Pieces of a suspect are suspects; directories found in it are not.
        let careful = suspect.is_some() && matches!(work, Pending::One(_));
        let mut batch = Batch {
            first: None,
            origin: self.hand.map_or(ItemId(0), |key| key.origin),
            careful,
            wary: self.hand.is_some_and(|key| key.wary),
            waits_for: None,
            work,
        };
        // Parts of what is on record are on record with it.
        let waits = self.intents && batch.actions() > 0 && !self.hand_ready;
        batch.waits_for = waits.then_some(UNCUT);
        self.held += batch.len() as u64;
        self.actions += batch.actions();
        self.batches.push_back(batch);
    }

    /// Says whether the piece in hand could be split further if somebody were hungry.
    pub fn set_splittable(&mut self, splittable: bool) {
        self.splittable = splittable;
    }

    /// An id for the visit of a directory that is about to be split.
    pub fn take_id(&mut self) -> Option<ItemId> {
        self.take_ids(1).map(|range| ItemId(range.start))
    }

    fn take_ids(&mut self, count: u64) -> Option<IdRange> {
        while self.ids.len() > 1 && self.ids.front().is_some_and(|range| range.len() < count) {
            self.ids.pop_front();
        }
        self.ids.front_mut()?.take(count)
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            held: self.held + u64::from(self.splittable),
            hungry: self.held == 0 && !self.splittable,
            busy: u32::from(self.hand.is_some() || self.held > 0),
            ids: self.ids.iter().map(IdRange::len).sum(),
        }
    }

    /// Items in the deque.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether nothing is left, in the deque or in hand.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.held == 0 && self.hand.is_none()
    }

    /// Whether there is anything that a commit would say.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.done.is_empty() || !self.failed.is_empty() || self.recorded < self.batches.len()
    }

    /// Roughly the bytes that what has no id yet takes in memory and on the wire; `path` are those of a place. Looks at
    /// all of it.
    pub fn unrecorded_bytes(&self, path: impl Fn(&P) -> usize) -> usize {
        let unrecorded = self.batches.iter().skip(self.recorded);
        unrecorded.map(|batch| batch.work.size(&path)).sum()
    }

    /// Whether [`Frontier::cut`] can cut now: nothing is in hand, and there are ids for what was found.
    #[must_use]
    pub fn can_cut(&self) -> bool {
        let unrecorded = self.batches.iter().skip(self.recorded);
        let count: u64 = unrecorded.map(|batch| batch.len() as u64).sum();
        self.hand.is_none() && self.has_ids(count)
    }

    /// Cuts a commit: everything that changed since the last one, and what is given away. `None`, and
    /// `result` lost, where [`Frontier::can_cut`] says no: ask it before the result is taken.
    pub fn cut(&mut self, result: Option<Delta>) -> Option<Cut> {
        if !self.can_cut() {
            return None;
        }
        self.cuts += 1;
        let new = self.record();
        let give = self.answer();
        let answers = match give.is_empty() && self.held > 0 {
            true => None,
            false => self.shed.take().map(|shed| shed.id),
        };
        Some(Cut {
            done: join_ids(std::mem::take(&mut self.done)),
            new,
            give,
            failed: std::mem::take(&mut self.failed),
            result,
            load: self.load(),
            answers,
            begun: Vec::new(),
        })
    }

    /// Whether ids for this many items are at hand, in one range.
    fn has_ids(&self, count: u64) -> bool {
        self.ids.iter().any(|range| range.len() >= count)
    }

    /// Gives ids to all batches that have none.
    fn record(&mut self) -> Vec<Parcel> {
        let mut new = Vec::new();
        for index in self.recorded..self.batches.len() {
            let count = self
                .batches
                .get(index)
                .map_or(0, |batch| batch.len() as u64);
            let Some(range) = self.take_ids(count) else {
                break;
            };
            if let Some(batch) = self.batches.get_mut(index) {
                batch.first = Some(ItemId(range.start));
                batch.waits_for = batch.waits_for.map(|commit| commit.min(self.cuts));
                new.push(pack(&batch.work, ItemId(range.start)));
            }
            self.recorded = index + 1;
        }
        new
    }
}
