//! Between two pieces of work: what was found is handed over, commits are cut, the next piece is taken.

use super::{Left, Walker};
use crate::clock;
use crate::place::At;
use crate::plugin::Visit;
use crate::rows::RESULT_BYTES_MAX;
use crate::shared::{Attention, Ledger, Shared};
use hydra_proto::codec;
use hydra_proto::ledger::{Key, Work};
use hydra_proto::message::Delta;
use std::sync::MutexGuard;
use std::time::Duration;

/// What is not on record takes at most about as much memory and wire as this. A commit is due when it may, and takes at
/// least half of it.
const UNRECORDED_BYTES_MAX: usize = 4 << 20;
/// Cutting commits may take one part in as many of the time.
const CUT_SHARE: u32 = 100;
/// In a job with intents, as many entries may wait until they can be acted on before no more are looked for.
const INTENDED_MAX: u64 = 2048;
/// Yet nothing stays uncommitted for longer, whatever it costs.
const INTERVAL_MAX: Duration = Duration::from_secs(5);

/// What the walker remembers from one turn to the next.
#[derive(Default)]
pub(super) struct Turn {
    /// A piece is in hand.
    in_hand: bool,
    /// Whether it is to be committed as soon as it is finished.
    wary: bool,
    /// Something was found since the last commit.
    has_results: bool,
    /// Roughly the bytes that the items without an id take at most.
    unrecorded: usize,
    /// The item that was in hand last.
    last: Option<u64>,
}

impl<V: Visit> Walker<V> {
    /// Finishes the piece in hand and takes the next; waits for one if need be. `None` when the session is over.
    pub(super) fn next(&mut self, shared: &Shared) -> Result<Option<(Key, Work<At>)>, String> {
        self.sink.check().inspect_err(|_| self.blame(None))?;
        let mut ledger = shared.lock();
        self.hand_over(&mut ledger);
        ledger = self.attend(shared, ledger)?;
        loop {
            if ledger.over {
                return Ok(None);
            }
            if !ledger.paused
                && let Some((key, work)) = self.pop(&mut ledger)
            {
                self.take(&mut ledger, key);
                return Ok(Some((key, work)));
            }
            let news = self.turn.has_results || ledger.frontier.has_news();
            if news && ledger.uplink.has_window() {
                let cut;
                (ledger, cut) = self.cut(shared, ledger)?;
                if cut || ledger.over {
                    continue;
                }
            }
            ledger = self.wait(shared, ledger);
        }
    }

    fn pop(&self, ledger: &mut Ledger) -> Option<(Key, Work<At>)> {
        match self.intents {
            true => {
                let safe = ledger.uplink.safe();
                ledger.frontier.pop_ready(safe, INTENDED_MAX)
            }
            false => ledger.frontier.pop(),
        }
    }

    /// Puts what the piece left behind into the deque.
    fn hand_over(&mut self, ledger: &mut Ledger) {
        if !self.turn.in_hand {
            return;
        }
        self.turn.in_hand = false;
        self.turn.has_results = true;
        for left in self.left.drain(..) {
            match left {
                Left::Dirs(at, names) => {
                    self.turn.unrecorded += path_len(&at) + names.size();
                    ledger.frontier.push_dirs(&at, names);
                }
                Left::Part(work) => {
                    self.turn.unrecorded += work.size(path_len);
                    ledger.frontier.push(work);
                }
            }
        }
        ledger.frontier.finish();
        ledger.steps += 1;
    }

    /// Does what the parent or the clock asks for.
    fn attend<'a>(
        &mut self,
        shared: &'a Shared,
        mut ledger: MutexGuard<'a, Ledger>,
    ) -> Result<MutexGuard<'a, Ledger>, String> {
        // What was done to the tree is told as soon as a directory is finished: nobody could find it out later. Where
        // intents are on record that can be found out, and the acknowledgements take longer.
        let must = self.turn.wary
            || (self.wants.acts && !self.intents)
            || self.has_much_unrecorded(&ledger)
            || self.sink.is_full();
        while must && !ledger.uplink.has_window() && !ledger.over {
            ledger = self.wait(shared, ledger);
        }
        if !ledger.uplink.has_window() {
            return Ok(ledger);
        }
        if ledger.frontier.could_give()
            && let Some(cut) = ledger.frontier.give()
        {
            ledger.send_gift(cut);
            shared.wake();
        }
        let asked = ledger.frontier.could_give();
        if (must || ledger.commit_due || asked || self.intents) && self.turn.has_results {
            let mut cut;
            (ledger, cut) = self.cut(shared, ledger)?;
            // There are no ids at this moment. Without rows the walk could go on meanwhile.
            while !cut && self.sink.is_full() && !ledger.over {
                ledger = self.wait(shared, ledger);
                (ledger, cut) = self.cut(shared, ledger)?;
            }
        }
        if shared.wants(Attention::Soon) {
            let waits = ledger.frontier.asked().is_some() || ledger.commit_due;
            shared.ask_for(if waits {
                Attention::Soon
            } else {
                Attention::None
            });
        }
        Ok(ledger)
    }

    /// Whether what is not on record takes much memory and wire. Of what was found since the last commit most was taken up
    /// again: in a chain of directories all of it, and its paths are long.
    fn has_much_unrecorded(&mut self, ledger: &Ledger) -> bool {
        if self.turn.unrecorded <= UNRECORDED_BYTES_MAX {
            return false;
        }
        self.turn.unrecorded = ledger.frontier.unrecorded_bytes(path_len);
        self.turn.unrecorded > UNRECORDED_BYTES_MAX / 2
    }

    fn wait<'a>(
        &mut self,
        shared: &'a Shared,
        mut ledger: MutexGuard<'a, Ledger>,
    ) -> MutexGuard<'a, Ledger> {
        if let Some(slot) = &self.slot {
            slot.set_item(None);
        }
        ledger.idle = true;
        let mut ledger = shared.wait(ledger);
        ledger.idle = false;
        ledger
    }

    fn take(&mut self, ledger: &mut Ledger, key: Key) {
        self.turn.in_hand = true;
        self.shared.set_lasts(false);
        self.turn.wary = key.wary;
        self.note_hunger(ledger);
        self.turn.last = Some(key.origin.0);
        if let Some(slot) = &self.slot {
            slot.set_item(Some(key.origin.0));
            slot.advance(1);
        }
    }

    /// This worker cannot go on because of this item, though it may have waited since; or because of none.
    fn blame(&self, item: Option<u64>) {
        if let Some(slot) = &self.slot {
            slot.set_item(item);
        }
    }

    /// Has the parent told, if it must know that this worker is about to run dry, or is no longer.
    pub(super) fn note_hunger(&self, ledger: &mut Ledger) {
        if ledger.frontier.load().hungry != ledger.told_hungry && !ledger.hunger_noted {
            ledger.hunger_noted = true;
            self.shared.wake();
        }
    }

    /// Says that what is in hand can be divided.
    pub(super) fn say_divisible(&self) {
        self.shared.set_lasts(false);
        let mut ledger = self.shared.lock();
        ledger.frontier.set_splittable(true);
        self.note_hunger(&mut ledger);
    }

    /// Cuts a commit; `false` if there are not enough ids for what is new, or the session is over.
    fn cut<'a>(
        &mut self,
        shared: &'a Shared,
        ledger: MutexGuard<'a, Ledger>,
    ) -> Result<(MutexGuard<'a, Ledger>, bool), String> {
        // The plugin must not keep the talker waiting. Nothing is in hand, so only grants can change the deque.
        drop(ledger);
        let begun = clock::now();
        self.call(Vec::new, |visit, out| visit.flush(out));
        let settled = self.sink.settle().inspect_err(|_| self.blame(None));
        let settled = settled?;
        let mut ledger = shared.lock();
        if !settled {
            return Ok((ledger, false));
        }
        let Some(mut cut) = ledger.frontier.cut(None) else {
            return Ok((ledger, false));
        };
        if self.turn.has_results {
            let delta = self.take_delta();
            cut.result = Some(delta.inspect_err(|_| self.blame(self.turn.last))?);
        }
        self.turn.has_results = false;
        self.turn.unrecorded = 0;
        ledger.told_hungry = cut.load.hungry;
        ledger.uplink.commit(cut);
        ledger.note_cut(self.turn.last);
        ledger.commit_due = false;
        ledger.last_commit = clock::now();
        let spent = ledger.last_commit.saturating_sub(begun);
        let affordable = (spent * CUT_SHARE).min(INTERVAL_MAX);
        ledger.interval = self.job.timing.commit_interval.max(affordable);
        shared.wake();
        Ok((ledger, true))
    }

    fn take_delta(&mut self) -> Result<Delta, String> {
        let summary = std::mem::take(&mut self.sink.summary);
        let plugin = codec::encode(&summary).map_err(|error| error.to_string())?;
        let rows = self.sink.take_rows();
        let bytes = plugin.len() + rows.len();
        if bytes > RESULT_BYTES_MAX {
            return Err(format!(
                "what was found takes {bytes} bytes, more than the limit of {RESULT_BYTES_MAX} for a commit"
            ));
        }
        Ok(Delta {
            walk: std::mem::take(&mut self.sink.walk),
            plugin,
            rows,
            lost_workers: 0,
            segments: self.sink.take_segments(),
        })
    }
}

fn path_len(at: &At) -> usize {
    at.0.path_len()
}
