//! A parent's state as records: what a journal keeps, so that a parent that died can go on.
//!
//! ```text
//!   live:    message ──► check ──► Action::Record ──► change of state ──► Action::Send ...
//!   replay:                           Record ───────► change of state
//!   snapshot: state ──► records of kind State, which replay to an equal state
//! ```
//!
//! Live and replayed changes are the same functions. What children say again by themselves when they are back
//! (their load, what they see of the roots, which grants have arrived) is in no record.

use super::parent::{Action, Parent};
use super::runs::Run;
use super::session::{Link, Sent, Session};
use super::table::{Counts, Owner};
use super::{ProtocolError, Time};
use crate::ids::{ChildId, Epoch, IdRange, ItemId, Secret};
use crate::item::{Item, Parcel};
use crate::message::Commit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Items in one record of a snapshot.
const ITEMS_AT_ONCE: usize = 1024;
/// More than any grant has: ranges that hold more were written by nobody.
const GRANT_ITEMS: u64 = 1 << 20;
/// Epochs of one incarnation.
const EPOCHS: u32 = 32;

/// One change of a parent's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// Items came from outside.
    Added {
        /// The items.
        items: Vec<Parcel>,
        /// Whether this parent's own parent knows them.
        recorded: bool,
    },
    /// A session was opened.
    Opened(Opened),
    /// A commit was applied.
    Committed {
        /// Whose.
        child: ChildId,
        /// All of it, the result included.
        commit: Box<Commit>,
    },
    /// Items or ids were granted.
    Granted {
        /// To whom.
        child: ChildId,
        /// What.
        grant: Granted,
    },
    /// A session was given up: nothing more from it counts.
    Fenced {
        /// Its child.
        child: ChildId,
    },
    /// What a session that was given up owned is in the pool again.
    Released {
        /// Its child.
        child: ChildId,
    },
    /// Items were set aside by this parent itself.
    SetAside {
        /// The items.
        ids: Vec<IdRange>,
        /// Why, in words.
        reason: String,
    },
    /// A part of a snapshot.
    State(Box<State>),
}

/// A session at its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its child.
    pub child: ChildId,
    /// The session.
    pub epoch: Epoch,
    /// Proves that a Resume comes from the same child.
    pub secret: Secret,
    /// As the child calls itself.
    pub name: String,
    /// How many workers it has.
    pub workers: u32,
    /// The child's process.
    pub nonce: u64,
    /// Ids for what it finds.
    pub ids: IdRange,
}

/// A grant, by the ids of its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Its number in its session.
    pub seq: u64,
    /// Its items, in their order.
    pub items: Vec<IdRange>,
    /// Ids for what the child finds.
    pub ids: IdRange,
    /// Whether the items are suspected.
    pub careful: bool,
}

/// A part of a snapshot. In the order in which [`Parent::snapshot`] makes them they replay to its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// What is counted up.
    Numbers {
        /// The next child.
        next_child: u32,
        /// The next session.
        next_epoch: u64,
        /// Ids that were not leased yet.
        ids: IdRange,
    },
    /// One session.
    Session {
        /// As it began; the ids are in `leased`.
        opened: Opened,
        /// All ids that it may use.
        leased: Vec<IdRange>,
        /// The last commit that was applied.
        applied: u64,
        /// The last grant that was made.
        granted: u64,
        /// Grants that the child may not have seen.
        unseen: Vec<Granted>,
        /// It works on suspects.
        careful: bool,
        /// It was given up, and what it owns was not released yet.
        fenced: bool,
    },
    /// Open items.
    Items {
        /// Who owns them; the pool if nobody.
        owner: Option<ChildId>,
        /// Whether this parent's own parent knows them.
        recorded: bool,
        /// The items.
        items: Vec<Parcel>,
    },
    /// Split directories that can never be finished.
    Broken(Vec<ItemId>),
    /// Items set aside for one reason.
    Aside {
        /// The items.
        items: Vec<Parcel>,
        /// Why, in words.
        reason: String,
    },
    /// How many items there were.
    Counts {
        /// Items that came from outside.
        added: u64,
        /// Items that children found.
        new: u64,
        /// Items that children finished.
        done: u64,
        /// Items handed to this parent's own parent.
        given_up: u64,
    },
}

/// Why a record does not fit to those before it: the journal is not this parent's, or it is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A record of a session that does not exist.
    #[error("it names a session that does not exist")]
    NoSession,
    /// A commit or a grant is missing.
    #[error("it is not the next one of its session")]
    Gap,
    /// It names an item that does not exist, or that is elsewhere.
    #[error("item {} is not where it should be", .0.0)]
    Misplaced(ItemId),
    /// It moves an item that was put away, and that cannot be read.
    #[error("what was kept in a file to save memory cannot be read back from it")]
    NotReadBack,
    /// It grants more items than a grant can have.
    #[error("it grants more items than there can be")]
    TooMany,
    /// A commit that was never applied.
    #[error(transparent)]
    Commit(#[from] ProtocolError),
}

impl Parent {
    /// From now on each change is told as an [`Action::Record`], before all that follows from it.
    pub fn keep_records(&mut self, keep: bool) {
        self.keeps_records = keep;
    }

    pub(super) fn record(&mut self, make: impl FnOnce() -> Record) {
        if self.keeps_records {
            self.actions.push_back(Action::Record(Box::new(make())));
        }
    }

    /// Repeats a change. What was committed comes out as [`Action::Applied`] once more.
    ///
    /// # Errors
    /// When the record cannot follow those before it. This parent is then of no use any more.
    pub fn replay(&mut self, record: Record) -> Result<(), ReplayError> {
        match record {
            Record::Added { items, recorded } => self.replay_added(items, recorded),
            Record::Opened(opened) => self.replay_opened(&opened),
            Record::Committed { child, commit } => self.replay_commit(child, *commit)?,
            Record::Granted { child, grant } => self.replay_grant(child, grant)?,
            Record::Fenced { child } => {
                let session = self.sessions.get_mut(&child);
                session.ok_or(ReplayError::NoSession)?.link = Link::Fenced { release: Time::MAX };
            }
            Record::Released { child } => match self.sessions.contains_key(&child) {
                true => self.reclaim(child),
                false => return Err(ReplayError::NoSession),
            },
            Record::SetAside { ids, reason } => {
                self.recall(&ids)?;
                let replayed = self.replay_aside(&ids, &reason);
                replayed.map_err(ReplayError::Misplaced)?;
            }
            Record::State(state) => self.replay_state(*state)?,
        }
        self.make_room();
        Ok(())
    }

    fn replay_added(&mut self, items: Vec<Parcel>, recorded: bool) {
        for parcel in items {
            self.use_ids(parcel.ids());
            self.table.add(parcel, recorded);
        }
    }

    fn use_ids(&mut self, ids: IdRange) {
        if !ids.is_empty() {
            self.config.ids.start = self.config.ids.start.max(ids.end);
        }
    }

    fn replay_opened(&mut self, opened: &Opened) {
        self.use_ids(opened.ids);
        self.next_child = self.next_child.max(opened.child.0.saturating_add(1));
        self.next_epoch = self.next_epoch.max(opened.epoch.number.saturating_add(1));
        let link = Link::Down { since: Time::ZERO };
        let session = Session::new(opened, link);
        self.sessions.insert(opened.child, session);
    }

    fn replay_commit(&mut self, child: ChildId, commit: Commit) -> Result<(), ReplayError> {
        if !self.sessions.contains_key(&child) {
            return Err(ReplayError::NoSession);
        }
        match self.is_due(child, &commit)? {
            true => {}
            false => return Err(ReplayError::Gap),
        }
        Ok(self.apply(child, commit)?)
    }

    fn replay_grant(&mut self, child: ChildId, grant: Granted) -> Result<(), ReplayError> {
        let session = self.sessions.get(&child).ok_or(ReplayError::NoSession)?;
        if grant.seq != session.granted + 1 {
            return Err(ReplayError::Gap);
        }
        grant.check()?;
        self.recall(&grant.items)?;
        let missing = |id: &ItemId| !self.table.is_in_pool(*id);
        let items: Vec<ItemId> = grant.items.iter().flat_map(|range| range.iter()).collect();
        if let Some(&id) = items.iter().find(|&id| missing(id)) {
            return Err(ReplayError::Misplaced(id));
        }
        self.use_ids(grant.ids);
        self.assign(child, &items, grant.ids, grant.careful);
        Ok(())
    }

    fn replay_state(&mut self, state: State) -> Result<(), ReplayError> {
        match state {
            State::Numbers {
                next_child,
                next_epoch,
                ids,
            } => {
                (self.next_child, self.next_epoch) = (next_child, next_epoch);
                self.config.ids = ids;
            }
            State::Session { .. } => self.replay_session(state)?,
            State::Items {
                owner,
                recorded,
                items,
            } => {
                if owner.is_some_and(|child| !self.sessions.contains_key(&child)) {
                    return Err(ReplayError::NoSession);
                }
                let owner = owner.map_or(Owner::Pool, Owner::Child);
                self.table.restore(items, owner, recorded);
            }
            State::Broken(visits) => self.table.restore_broken(&visits),
            State::Aside { items, reason } => self.table.restore_aside(items, &reason),
            State::Counts {
                added,
                new,
                done,
                given_up,
            } => self.table.restore_counts(Counts {
                added,
                new,
                done,
                given_up,
                ..Counts::default()
            }),
        }
        Ok(())
    }

    fn replay_session(&mut self, state: State) -> Result<(), ReplayError> {
        let State::Session {
            opened,
            leased,
            applied,
            granted,
            unseen,
            careful,
            fenced,
        } = state
        else {
            return Ok(());
        };
        unseen.iter().try_for_each(Granted::check)?;
        let link = match fenced {
            true => Link::Fenced { release: Time::MAX },
            false => Link::Down { since: Time::ZERO },
        };
        let mut session = Session::new(&opened, link);
        let leasing = unseen.iter().rev().find(|grant| !grant.ids.is_empty());
        session.leasing = leasing.map(|grant| grant.seq);
        session.unseen = unseen.into_iter().map(Sent::from).collect();
        (session.leased, session.careful) = (leased, careful);
        (session.applied, session.granted) = (applied, granted);
        self.sessions.insert(opened.child, session);
        Ok(())
    }

    /// Ends a replay: from `now` on children may come back, as if all links had been lost at this moment.
    /// `incarnation` counts how often this parent was brought back; it goes into every new epoch, so that no
    /// two incarnations ever open the same session.
    pub fn revive(&mut self, now: Time, incarnation: u32) {
        let first = u64::from(incarnation) << EPOCHS;
        self.next_epoch = self.next_epoch.max(first + 1);
        self.next_shed = self.next_shed.max(first + 1);
        // Nobody knows what leases the last beats have brought.
        let timing = self.config.spec.timing;
        for session in self.sessions.values_mut() {
            session.hungry = false;
            session.may_act(now, timing.lease);
            session.link = match session.link {
                Link::Fenced { .. } if self.config.spec.acts => Link::Fenced {
                    release: session.acts_until,
                },
                Link::Fenced { .. } => Link::Fenced { release: now },
                Link::Up { .. } | Link::Down { .. } => Link::Down { since: now },
            };
        }
        self.find_deadline();
        self.actions.clear();
    }

    /// The whole state, as records that replay to it in a new parent of the same configuration. Equal states
    /// give equal records. What was put away is missing: see [`Parent::slots`].
    pub fn snapshot(&self, out: &mut dyn FnMut(Record)) {
        let mut tell = |state| out(Record::State(Box::new(state)));
        tell(State::Numbers {
            next_child: self.next_child,
            next_epoch: self.next_epoch,
            ids: self.config.ids,
        });
        self.sessions
            .values()
            .map(session_state)
            .for_each(&mut tell);
        self.snapshot_items(&mut tell);
        let broken = self.table.broken();
        if !broken.is_empty() {
            tell(State::Broken(broken));
        }
        self.snapshot_aside(&mut tell);
        let counts = self.table.counts();
        tell(State::Counts {
            added: counts.added,
            new: counts.new,
            done: counts.done,
            given_up: counts.given_up,
        });
    }

    fn snapshot_aside(&self, tell: &mut dyn FnMut(State)) {
        let mut aside = self.table.aside().peekable();
        while let Some(first) = aside.next() {
            let mut items = vec![(first.id, first.item)];
            while items.len() < ITEMS_AT_ONCE
                && let Some(next) = aside.next_if(|next| next.reason == first.reason)
            {
                items.push((next.id, next.item));
            }
            tell(State::Aside {
                items: Item::pack(items),
                reason: first.reason.as_ref().to_owned(),
            });
        }
    }

    /// Ends of split directories come last: whether they wait is seen from the parts that are there.
    fn snapshot_items(&self, tell: &mut dyn FnMut(State)) {
        type Group<'a> = Vec<(ItemId, &'a Run)>;
        let mut groups: BTreeMap<(bool, Option<ChildId>, bool), Group<'_>> = BTreeMap::new();
        for (first, run) in self.table.runs.iter() {
            let is_end = matches!(run.item.parcel(), Parcel::After(_));
            let owner = match run.owner {
                Owner::Child(child) => Some(child),
                Owner::Pool | Owner::Waiting | Owner::Held => None,
            };
            let group = groups.entry((is_end, owner, run.recorded));
            group.or_default().push((first, run));
        }
        for ((_, owner, recorded), runs) in groups {
            let mut items = runs.iter().flat_map(|(first, run)| run.items(*first));
            loop {
                let items = Item::pack(items.by_ref().take(ITEMS_AT_ONCE));
                if items.is_empty() {
                    break;
                }
                tell(State::Items {
                    owner,
                    recorded,
                    items,
                });
            }
        }
    }
}

fn session_state(session: &Session) -> State {
    State::Session {
        opened: Opened {
            child: session.child,
            epoch: session.epoch,
            secret: session.secret,
            name: session.name.clone(),
            workers: u32::try_from(session.weight).unwrap_or(u32::MAX),
            nonce: session.nonce,
            ids: IdRange::default(),
        },
        leased: session.leased.clone(),
        applied: session.applied,
        granted: session.granted,
        unseen: session.unseen.iter().map(Granted::from).collect(),
        careful: session.careful,
        fenced: matches!(session.link, Link::Fenced { .. }),
    }
}

impl Granted {
    /// Whether its items can be listed one by one.
    fn check(&self) -> Result<(), ReplayError> {
        let lengths = self.items.iter().map(IdRange::len);
        match lengths.fold(0, u64::saturating_add) <= GRANT_ITEMS {
            true => Ok(()),
            false => Err(ReplayError::TooMany),
        }
    }
}

impl From<&Sent> for Granted {
    fn from(sent: &Sent) -> Self {
        Self {
            seq: sent.seq,
            items: runs(&sent.items),
            ids: sent.ids,
            careful: sent.careful,
        }
    }
}

impl From<Granted> for Sent {
    fn from(grant: Granted) -> Self {
        Self {
            seq: grant.seq,
            items: grant.items.iter().flat_map(|range| range.iter()).collect(),
            ids: grant.ids,
            careful: grant.careful,
        }
    }
}

/// Joins neighbours and keeps the order.
pub(super) fn runs(ids: &[ItemId]) -> Vec<IdRange> {
    let mut runs: Vec<IdRange> = Vec::new();
    for &id in ids {
        match runs.last_mut() {
            Some(last) if last.end == id.0 => last.end += 1,
            _ => runs.push(IdRange::one(id)),
        }
    }
    runs
}
