//! In a job with intents: what workers hear only when what it follows from is on the server's record.
//!
//! A worker acts on names that its client has acknowledged, or granted. So both wait here until the server has
//! acknowledged a commit that holds all that this client knew by then.

use crate::ids::ConnId;
use crate::item::Parcel;
use crate::ledger::parent::Action;
use crate::message::Down;
use std::collections::VecDeque;

/// Messages to workers, in their order, each with the commit that it waits for.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: bool,
    kept: VecDeque<(u64, Action)>,
}

impl Gate {
    /// One that keeps something back, or lets everything pass.
    pub(super) fn new(closed: bool) -> Self {
        Self {
            closed,
            kept: VecDeque::new(),
        }
    }

    /// Whether anything has to wait for a commit.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next that may pass, now that the server has the commits up to `safe`.
    pub(super) fn pass(&mut self, safe: u64) -> Option<Action> {
        match self.kept.front() {
            Some((commit, _)) if *commit <= safe => self.kept.pop_front().map(|(_, action)| action),
            _ => None,
        }
    }

    /// Keeps what has to wait for `commit`, and returns what need not.
    pub(super) fn keep(&mut self, action: Action, commit: u64, safe: u64) -> Option<Action> {
        if let Action::Close { conn } = action {
            self.kept.retain(|(_, kept)| conn_of(kept) != Some(conn));
        }
        let waits = self.closed
            && match &action {
                Action::Send { conn, message } => match message {
                    Down::Ack { .. } => commit > safe,
                    Down::Grant(grant) => {
                        let acts = grant.items.iter().any(may_be_acted_on);
                        (acts && commit > safe) || self.has_grant_for(*conn)
                    }
                    _ => false,
                },
                _ => false,
            };
        if !waits {
            return Some(action);
        }
        self.kept.push_back((commit, action));
        None
    }

    /// Whether anything waits for this commit.
    pub(super) fn waits_for(&self, commit: u64) -> bool {
        self.kept.front().is_some_and(|(first, _)| *first >= commit)
    }

    /// Grants come in their order.
    fn has_grant_for(&self, to: ConnId) -> bool {
        let is_grant = |action: &Action| matches!(action, Action::Send { conn, message: Down::Grant(_) } if *conn == to);
        self.kept.iter().any(|(_, kept)| is_grant(kept))
    }
}

fn conn_of(action: &Action) -> Option<ConnId> {
    match action {
        Action::Send { conn, .. } => Some(*conn),
        _ => None,
    }
}

fn may_be_acted_on(parcel: &Parcel) -> bool {
    matches!(parcel, Parcel::Names(_) | Parcel::After(_))
}
