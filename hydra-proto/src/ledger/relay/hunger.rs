//! A client's hunger: how much its workers have, and when the server is told.

use super::{Hunger, Relay};
use crate::ledger::Time;
use crate::message::Load;

/// Into how many parts the commit interval is divided to get the shortest time in which a client says again that it
/// has enough, or how much it holds.
const PLENTY_SHARE: u32 = 64;

/// A client says again that it has enough, or how much it holds, after so many times the time that messages wait at the
/// server.
const TELL_LATE_SHARE: u32 = 10;

/// Messages that wait no longer than this at the server wait for nobody.
const SLOW: Time = Time::from_millis(1);

/// Items for each worker that are too few to choose by.
const FEW_EACH: u64 = 8;

impl Relay {
    /// How much this client has to do, as far as its workers have said.
    #[must_use]
    pub fn load(&self) -> Load {
        let Some(parent) = &self.parent else {
            return Load::default();
        };
        let (mut held, mut busy) = (parent.pool_len(), 0);
        for load in parent.loads() {
            // What a worker has in hand it cannot give, unless it says that it holds one more: that can be divided.
            held += load.held;
            busy += load.busy.min(1);
        }
        let workers = u64::from(self.config.uplink.workers.max(1));
        Load {
            held,
            busy,
            ids: parent.ids_left(),
            hungry: !parent.has_for_parent() && held < 2 * workers && parent.has_hungry(),
        }
    }

    /// Tells the server when the workers begin to run dry, or do so no longer, and asks the workers for what the
    /// server wants: at once where the server answers at once, and the rarer the longer that takes. Call after each
    /// event, before [`Relay::wants_cut`].
    pub fn balance(&mut self, now: Time) {
        self.tell(now);
        self.plan_commit(now);
        self.ask_workers();
        self.give_recorded(now);
    }

    fn ask_workers(&mut self) {
        let more = self.wants_more() && !self.asked_workers;
        let Some(parent) = self
            .parent
            .as_mut()
            .filter(|parent| more || !parent.has_for_parent())
        else {
            return;
        };
        self.asked_workers |= more;
        match self.shed {
            Some(shed) if !parent.has_asked() => parent.ask_for_parent(shed.hungry),
            None if parent.is_over() => parent.ask_back(),
            _ => {}
        }
    }

    fn tell(&mut self, now: Time) {
        let load = self.load();
        let hunger = self.hunger(load);
        self.owes_load = false;
        if !self.uplink.is_open() {
            return;
        }
        let late = self.late(now);
        let at = match hunger > self.told {
            // What was granted may grow, if it is given time.
            true if load.busy > 0 => self.digests_until,
            true => now,
            // That there is enough again may change soon, and is told less eagerly; so is how much there is.
            false if hunger < self.told || self.differs(load.held) => self.may_tell,
            false => return,
        };
        // Behind a beat that waits at the server, another one would only wait, too.
        let waits = self.uplink.unanswered().is_some() && late > SLOW;
        if waits || now < at {
            self.owes_load = !waits;
            self.says_at = at;
            return;
        }
        self.told = hunger;
        self.told_held = load.held;
        self.may_tell = now + (self.commit_interval / PLENTY_SHARE).max(late * TELL_LATE_SHARE);
        self.uplink.beat(now, load);
    }

    /// How long messages wait at the server, as far as can be told from here.
    pub(super) fn late(&self, now: Time) -> Time {
        let unanswered = self.uplink.unanswered();
        let waited = unanswered.map_or(Time::ZERO, |sent| now.saturating_sub(sent));
        let late = self.acks.late(now).max(self.beats.late(now));
        late.max(self.beats.late_by(waited))
    }

    /// Whether the server would choose otherwise if it knew that so much is held. How little there is does not matter.
    fn differs(&self, held: u64) -> bool {
        let few = FEW_EACH * u64::from(self.config.uplink.workers.max(1));
        let (now, told) = (held.max(few), self.told_held.max(few));
        now > told.saturating_mul(2) || now < told / 2
    }

    pub(super) fn hunger(&self, load: Load) -> Hunger {
        match load.hungry {
            // Those who have nothing get of what the others hold, sooner than from elsewhere.
            true if u64::from(load.busy) + load.held < u64::from(self.config.uplink.workers) => {
                Hunger::Starving
            }
            true => Hunger::Hungry,
            false => Hunger::None,
        }
    }
}
