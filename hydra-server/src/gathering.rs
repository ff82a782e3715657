//! When does the work begin? When everybody who is expected is there, or the time to connect is over.
//!
//! Clients that are waited for while they serve another job hold it up only as long as nobody else is there: two
//! servers that each held some clients and waited for those of the other would wait for ever.

use hydra_proto::ids::ChildId;
use hydra_proto::ledger::Time;
use std::collections::BTreeSet;

/// Who is expected, and who is there.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// Clients that were dialled, and the embedded one.
    expected: Vec<Expected>,
    /// How many clients that dial are waited for.
    wanted: usize,
    /// Those of them that have come and not gone again.
    came: BTreeSet<ChildId>,
    /// When to begin without the others.
    deadline: Time,
}

/// What has become of an expected client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// Not here yet; why the last try came to nothing, if there was one.
    Awaited(Option<String>),
    Here,
    /// It serves another job, and comes when that is over.
    Busy,
    /// It will not come.
    Failed(String),
}

/// Whether the work can begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Somebody may still come.
    Wait,
    /// Everybody is here, or late.
    Begin,
    /// Nobody will come.
    Hopeless,
}

impl Gathering {
    pub(crate) fn new(expected: usize, wanted: usize, deadline: Time) -> Self {
        Self {
            expected: vec![Expected::Awaited(None); expected],
            wanted,
            came: BTreeSet::new(),
            deadline,
        }
    }

    /// Waits for those who are not here until then.
    pub(crate) fn wait_until(&mut self, deadline: Time) {
        self.deadline = deadline;
    }

    /// An expected client has said what it sees of the roots.
    pub(crate) fn arrived(&mut self, client: usize) {
        if let Some(state) = self.expected.get_mut(client) {
            *state = Expected::Here;
        }
    }

    /// An expected client will not come.
    pub(crate) fn failed(&mut self, client: usize, reason: String) {
        if let Some(state) = self.expected.get_mut(client)
            && *state != Expected::Here
        {
            *state = Expected::Failed(reason);
        }
    }

    /// An expected client went away before it was ready, and is dialled again.
    pub(crate) fn put_off(&mut self, client: usize, reason: String) {
        if let Some(state @ Expected::Awaited(_)) = self.expected.get_mut(client) {
            *state = Expected::Awaited(Some(reason));
        }
    }

    /// An expected client serves another job, and is worth waiting for, however long that takes.
    pub(crate) fn busy(&mut self, client: usize) {
        if let Some(state) = self.expected.get_mut(client)
            && *state != Expected::Here
        {
            *state = Expected::Busy;
        }
    }

    /// A client that dialled has said what it sees of the roots.
    pub(crate) fn came(&mut self, child: ChildId) {
        self.came.insert(child);
    }

    /// Its session is over.
    pub(crate) fn left(&mut self, child: ChildId) {
        self.came.remove(&child);
    }

    /// Whether any client has come.
    pub(crate) fn has_somebody(&self) -> bool {
        self.expected.contains(&Expected::Here) || !self.came.is_empty()
    }

    /// When it is too late for those who are not here; never, as long as all who can come are busy.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let for_ever = !self.has_somebody() && self.expected.contains(&Expected::Busy);
        (!for_ever).then_some(self.deadline)
    }

    pub(crate) fn readiness(&self, now: Time) -> Readiness {
        let here = self.has_somebody();
        let turned_out = |state: &Expected| !matches!(state, Expected::Awaited(_));
        let settled = self.expected.iter().all(turned_out) && self.came.len() >= self.wanted;
        match (settled || now >= self.deadline, here) {
            (false, _) => Readiness::Wait,
            (true, true) => Readiness::Begin,
            (true, false) if self.expected.contains(&Expected::Busy) => Readiness::Wait,
            (true, false) if now < self.deadline && self.wanted > 0 => Readiness::Wait,
            (true, false) => Readiness::Hopeless,
        }
    }

    /// How many clients that dial have come, and how many were waited for, if more.
    pub(crate) fn too_few(&self) -> Option<(usize, usize)> {
        let came = self.came.len();
        (came < self.wanted).then_some((came, self.wanted))
    }

    /// The clients that are not here and are not waited for, by number, and why.
    pub(crate) fn missing(&self) -> Vec<(usize, String)> {
        let reason = |state: &Expected| match state {
            Expected::Here | Expected::Busy => None,
            Expected::Failed(reason) | Expected::Awaited(Some(reason)) => Some(reason.clone()),
            Expected::Awaited(None) => Some("it did not connect in time".to_owned()),
        };
        let clients = self.expected.iter().enumerate();
        clients
            .filter_map(|(client, state)| Some((client, reason(state)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Time = Duration::from_secs(1);
    const LATE: Time = Duration::from_secs(10);

    #[test]
    fn the_work_begins_when_all_are_there() {
        let mut gathering = Gathering::new(2, 1, LATE);
        gathering.arrived(0);
        gathering.came(ChildId(7));
        assert_eq!(gathering.readiness(NOW), Readiness::Wait);
        gathering.arrived(1);
        assert_eq!(gathering.readiness(NOW), Readiness::Begin);
    }

    #[test]
    fn those_that_are_late_are_named() {
        let mut gathering = Gathering::new(2, 0, LATE);
        gathering.arrived(1);
        assert_eq!(gathering.readiness(NOW), Readiness::Wait);
        assert_eq!(gathering.readiness(LATE), Readiness::Begin);
        assert_eq!(gathering.missing().len(), 1);
        assert_eq!(gathering.missing()[0].0, 0);
    }

    #[test]
    fn a_client_that_came_twice_was_counted_twice() {
        let mut gathering = Gathering::new(0, 2, LATE);
        gathering.came(ChildId(0));
        gathering.left(ChildId(0));
        gathering.came(ChildId(1));
        assert_eq!(gathering.readiness(NOW), Readiness::Wait);
        gathering.came(ChildId(2));
        assert_eq!(gathering.readiness(NOW), Readiness::Begin);
    }

    #[test]
    fn servers_that_held_some_clients_waited_for_those_of_each_other() {
        let mut gathering = Gathering::new(2, 0, LATE);
        gathering.busy(0);
        assert_eq!(gathering.readiness(NOW), Readiness::Wait);
        gathering.arrived(1);
        assert_eq!(gathering.readiness(NOW), Readiness::Begin);
        assert!(gathering.missing().is_empty());
    }

    #[test]
    fn where_all_are_busy_the_work_waits_without_a_timer() {
        let mut gathering = Gathering::new(2, 0, LATE);
        gathering.busy(0);
        gathering.failed(1, "nothing listens there".to_owned());
        assert_eq!(gathering.deadline(), None);
        assert_eq!(gathering.readiness(LATE), Readiness::Wait);
        gathering.failed(0, "nothing listens there".to_owned());
        assert_eq!(gathering.readiness(LATE), Readiness::Hopeless);
    }

    #[test]
    fn without_anybody_there_is_no_work() {
        let mut gathering = Gathering::new(1, 0, LATE);
        gathering.failed(0, "nothing listens there".to_owned());
        assert_eq!(gathering.readiness(NOW), Readiness::Hopeless);
    }
}
