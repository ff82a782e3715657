//! A job's stages: gathering, walking, ending.

use super::{Conn, Coordinator, LETTING_GO, Phase};
use crate::connection::Origin;
use crate::gathering::Readiness;
use crate::journal::Entry;
use crate::outcome::{Ending, Listed, Outcome, Part, ServerError};
use crate::roots::Trouble;
use hydra_proto::ids::{ChildId, ItemId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::ledger::Time;
use hydra_proto::message::Delta;
use hydra_proto::walk::{WalkError, WalkSummary};
use std::time::Duration;

impl Coordinator {
    pub(super) fn gather(&mut self, now: Time) -> Result<(), ServerError> {
        match self.gathering.readiness(now) {
            // The others may come later: what was granted before goes on without them.
            Readiness::Wait if self.began_before && self.gathering.has_somebody() => {
                return self.begin(now);
            }
            Readiness::Wait => {}
            Readiness::Begin => return self.begin(now),
            Readiness::Hopeless if self.began_before => self.nobody_came_back(now),
            Readiness::Hopeless => {
                self.hopeless = true;
                self.end(now, Ending::Incomplete("no client can be used".to_owned()));
            }
        }
        Ok(())
    }

    /// The job was begun, and its clients are not here: they may be inside their grace time still, or on their way up.
    fn nobody_came_back(&mut self, now: Time) {
        let is_late = self.gathering.deadline().is_none_or(|late| now >= late);
        if self.may_come() && !is_late {
            return;
        }
        for (client, reason) in self.gathering.missing() {
            let client = self.client_name(client);
            self.warn(format!("client {client} has not come back: {reason}"));
        }
        self.end(
            now,
            Ending::Incomplete("no client has come back".to_owned()),
        );
    }

    fn begin(&mut self, now: Time) -> Result<(), ServerError> {
        let missing = match self.began_before {
            true => Vec::new(),
            false => self.gathering.missing(),
        };
        for (client, reason) in missing {
            let client = self.client_name(client);
            self.warn(format!("going on without client {client}: {reason}"));
        }
        if let Some((came, wanted)) = self.gathering.too_few().filter(|_| !self.began_before) {
            self.warn(format!(
                "going on with {came} of {wanted} clients that dial in (--min-clients)"
            ));
        }
        self.phase = Phase::Walking;
        self.began = now;
        self.note(&Entry::Began)?;
        if !self.open_roots() {
            self.serve_all();
        }
        for (root, reason) in self.book.disputes() {
            let root = self.shown(root).escape_ascii().to_string();
            self.warn(format!("{root} is not walked: {reason}"));
        }
        self.note_roots()?;
        self.watch(now);
        Ok(())
    }

    /// Puts roots into the pool that can be walked now. Returns whether there were any: then it is settled anew
    /// who serves what.
    pub(super) fn open_roots(&mut self) -> bool {
        let settled = self.book.settle();
        if settled.is_empty() {
            return false;
        }
        self.serve_all();
        for root in settled {
            let Some(ids) = self.parent.take_ids(1) else {
                continue;
            };
            let first = ItemId(ids.start);
            let names = NameList::from_iter([b"".as_slice()]);
            let dir = Vec::new();
            let item = Parcel::Dirs(Dirs {
                first,
                root,
                dir,
                names,
            });
            self.parent.add(vec![item], false);
        }
        true
    }

    fn serve_all(&mut self) {
        let children: Vec<ChildId> = self.parent.children().map(|view| view.child).collect();
        for child in children {
            if self.book.has(child) {
                self.serve(child);
            }
        }
    }

    pub(super) fn serve(&mut self, child: ChildId) {
        let (serves, mut warnings) = self.book.serves(child);
        if self.clients.is_empty() && !self.listens {
            // On one machine the report says it all.
            warnings.clear();
        }
        for (root, reason) in warnings {
            let client = self.tally.name(child);
            let root = self.shown(root).escape_ascii().to_string();
            self.warn(format!(
                "client {client} is not granted root {root}: {reason}"
            ));
        }
        self.parent.serve(child, serves);
    }

    fn shown(&self, root: RootId) -> Vec<u8> {
        self.job
            .root(root)
            .map(|root| root.shown.clone())
            .unwrap_or_default()
    }

    /// Is the job over, or can nobody go on with it?
    pub(super) fn watch(&mut self, now: Time) {
        if self.parent.is_done() {
            return self.end(now, Ending::Done);
        }
        let alone = !self.parent.children().any(|child| child.connected);
        let stuck = self.parent.is_stuck();
        if !alone && !stuck {
            return self.note_company(now);
        }
        self.company = None;
        let since = *self.lonely.get_or_insert(now);
        let patience = match self.may_come() {
            true => self.client_timeout,
            false => Duration::ZERO,
        };
        if now < since + patience {
            return;
        }
        match alone {
            true => self.end(now, Ending::Incomplete("no client is left".to_owned())),
            false => {
                let (tally, alone) = (&self.tally, self.clients.is_empty() && !self.listens);
                self.parent.set_aside_unserved(&|wall| match wall {
                    Some((_, why)) if alone => why.to_owned(),
                    Some((child, why)) => format!("client {}: {why}", tally.name(child)),
                    None => "no client serves this root".to_owned(),
                });
                self.lonely = None;
                self.watch(now);
            }
        }
    }

    /// Somebody is there who may go on. That nobody was is forgotten when it has lasted: somebody may come again and again,
    /// and do nothing.
    fn note_company(&mut self, now: Time) {
        let since = *self.company.get_or_insert(now);
        if now >= since + self.company_lasts() {
            self.lonely = None;
        }
    }

    /// How long somebody must be there without having done anything. A link on which nothing large arrives is given up after
    /// `dead_after`, counted from when the last small thing did.
    fn company_lasts(&self) -> Duration {
        self.job.timing.dead_after * 2
    }

    /// When to look next whether somebody is there.
    pub(super) fn lonely_timeout(&self) -> Option<Time> {
        let since = self.lonely?;
        Some(match self.company {
            Some(company) => company + self.company_lasts(),
            None => since + self.client_timeout,
        })
    }

    /// A commit is applied. If something was found, the job goes on.
    pub(super) fn note_found(&mut self, child: ChildId, result: Option<&Delta>) {
        // That a worker was lost is told by a commit, too.
        if result.is_none_or(|delta| delta.walk == WalkSummary::default()) {
            return;
        }
        self.lonely = None;
        if self.quitters.found(child) {
            let mut conns = self.conns.values();
            let conn = conns.find(|state| state.child == Some(child));
            if let Some(Origin::Dialled(client)) = conn.map(|state| state.origin) {
                self.quitters.forgive(client);
            }
        }
    }

    /// Whether some client that is connected has not said yet what it sees of the roots.
    fn is_looking(&self) -> bool {
        let mut children = self.parent.children();
        children.any(|view| view.connected && !self.book.has(view.child))
    }

    /// Whether a client that is not here, or has not said what it sees, may still make a difference.
    fn may_come(&self) -> bool {
        let is_here = |state: &&Conn| {
            let ready = state.child.is_some_and(|child| self.book.has(child));
            ready && matches!(state.origin, Origin::Dialled(_))
        };
        let here = self.conns.values().filter(is_here).count();
        self.listens || self.is_looking() || self.wishes.iter().flatten().count() > here
    }

    pub(crate) fn end(&mut self, now: Time, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        self.ended = now;
        if matches!(ending, Ending::Incomplete(_)) {
            // Not for ever: whoever goes on with the journal finds it as it was.
            self.parent.keep_records(false);
            // Named, so that the user knows what is missing.
            self.parent.abandon(now, "no client was left to walk it");
        }
        self.ending = Some(ending);
        self.wishes.clear();
        self.parent.stop();
        self.phase = Phase::Ending(now + LETTING_GO);
    }

    /// Whether the job has ended, and work is left.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.ending, Some(Ending::Incomplete(_)))
    }

    /// Whether everybody has let go, everything is durable and all rows are written. A full disk holds up the end, unless
    /// the job goes on another time; so does who does not read rows, unless the user wants it to stop.
    pub(super) fn is_over(&self, now: Time, deadline: Time) -> bool {
        let late = now >= deadline;
        if self.ends_rows() {
            return late && self.ending == Some(Ending::Interrupted);
        }
        let written = self.has_written_rows();
        match self.ending {
            Some(Ending::Done) => (self.conns.is_empty() || late) && self.is_settled() && written,
            Some(Ending::Interrupted) => {
                // What waits for the directory of rows is dealt with before the end of that.
                let given_up = written || self.rows.is_some() || self.has_given_rows_up(now);
                late || (self.conns.is_empty() && self.is_settled() && given_up)
            }
            _ => (late || (self.conns.is_empty() && self.is_settled())) && written,
        }
    }

    /// When to look next whether it is over.
    pub(super) fn end_timeout(&self, deadline: Time) -> Option<Time> {
        let is_settled = self.is_settled() && self.has_written_rows();
        match self.ending {
            Some(Ending::Interrupted) if self.rows.is_some() => Some(deadline),
            Some(Ending::Interrupted) if self.conns.is_empty() && self.is_settled() => {
                let rows = self.rows_stuck_at();
                Some(rows.map_or(deadline, |at| at.min(deadline)))
            }
            Some(Ending::Interrupted) => Some(deadline),
            // What is late then is a disk, or a reader, which answers by itself.
            Some(Ending::Done) if !is_settled => None,
            _ if !self.has_written_rows() => None,
            _ => Some(deadline),
        }
    }

    /// What came out of it.
    ///
    /// # Errors
    /// When nobody could walk anything.
    pub(crate) fn finish(mut self) -> Result<Outcome, ServerError> {
        if self.hopeless {
            let missing = self.gathering.missing().into_iter();
            let reasons =
                missing.map(|(client, why)| format!("{}: {why}", self.client_name(client)));
            return Err(ServerError::NoClient(reasons.collect()));
        }
        self.tell_rows_lost();
        let mut set_aside = Listed::of(&self.parent, &self.job);
        for (root, trouble) in self.book.unwalked() {
            let path = self.shown(root);
            match trouble {
                Some(Trouble::Missing { kind, message }) => {
                    let error = WalkError::new(&path, "open", &kind, &message);
                    self.tally.walk.fail(error);
                }
                Some(
                    Trouble::Refused(reason) | Trouble::Silent(reason) | Trouble::Disputed(reason),
                ) => {
                    set_aside.add(&path, Part::Root, &reason);
                }
                None => {}
            }
        }
        let (set_aside, set_aside_count) = set_aside.end();
        Ok(Outcome {
            ending: self.ending.unwrap_or(Ending::Done),
            roots_walked: self.book.walked(),
            roots_silent: self.book.silent(),
            clients: self.tally.runs(),
            walk: self.tally.walk,
            reducer: self.tally.reducer,
            set_aside,
            set_aside_count,
            warnings: self.warnings,
            elapsed: self.ended.saturating_sub(self.began),
        })
    }
}
