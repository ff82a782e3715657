//! Does a worker hang? Told from its slot, without its help: what it is doing, and whether it comes on.
//!
//! Only system calls of the walk count. How long a plugin takes is the plugin's affair.

use hydra_proto::ids::ItemId;
use hydra_proto::ledger::Time;
use std::time::Duration;

/// So many looks in a row have to find a worker at the same call. Looks that are late count once only, so that
/// nobody hangs merely because this process, or the whole machine, was stopped.
const LOOKS: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// What the slot of a worker says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// The item in hand.
    pub item: Option<ItemId>,
    /// Grows with everything that is done.
    pub progress: u64,
    /// The system call of the walk that it is in; none while it waits for work or the plugin is at work.
    pub call: Option<&'static str>,
    /// The number of its descriptor of the directory that the call is relative to, if that is known.
    pub directory: Option<u32>,
    /// What the call is about, below that directory.
    pub name: Vec<u8>,
}

/// Watches one worker.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Option<Doing>,
    /// Looks in a row that found the same.
    same: u32,
}

impl Watch {
    /// How often to look, if whoever comes no further for `stall` hangs.
    pub(crate) fn pause(stall: Duration) -> Duration {
        (stall / LOOKS).max(PAUSE_MIN)
    }

    /// Whether the worker hangs.
    pub(crate) fn look(&mut self, doing: Option<Doing>) -> bool {
        let stands = doing
            .as_ref()
            .is_some_and(|doing| doing.item.is_some() && doing.call.is_some());
        self.same = match stands && self.seen == doing {
            true => self.same + 1,
            false => 0,
        };
        self.seen = doing;
        self.same >= LOOKS
    }

    /// What it was found at.
    pub(crate) fn found(&self) -> Option<&Doing> {
        self.seen.as_ref()
    }
}

/// What a worker hangs at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path of this host.
    Path(Vec<u8>),
    /// The end of one.
    End(Vec<u8>),
}

impl Place {
    /// The kernel tells the path of the open directory; no file system is asked.
    pub(crate) fn of(pid: u32, doing: &Doing) -> Self {
        let directory = doing
            .directory
            .and_then(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
        let Some(path) = directory else {
            return Self::End(doing.name.clone());
        };
        let mut path = path.into_os_string().into_encoded_bytes();
        if !doing.name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&doing.name);
        }
        Self::Path(path)
    }
}

/// What a worker hangs at, in words.
pub(crate) fn describe(place: &Place, doing: &Doing, stall: Duration) -> String {
    let (start, path) = match place {
        Place::Path(path) => ("", path),
        Place::End(end) => (".../", end),
    };
    let path = path.escape_ascii();
    let call = doing.call.unwrap_or("call");
    format!("it hangs: {call} of {start}{path} has not answered for {stall:?}")
}

/// When to look at the workers.
#[derive(Debug)]
pub(crate) struct Rounds {
    pause: Duration,
    next: Time,
}

impl Rounds {
    pub(crate) fn new(now: Time, stall: Duration) -> Self {
        let pause = Watch::pause(stall);
        let next = now.saturating_add(pause);
        Self { pause, next }
    }

    /// When the next round is due.
    pub(crate) fn due(&self) -> Time {
        self.next
    }

    /// Whether it is; then the one after it is a pause away.
    pub(crate) fn begin(&mut self, now: Time) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now.saturating_add(self.pause);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(progress: u64, call: Option<&'static str>) -> Option<Doing> {
        let item = Some(ItemId(7));
        Some(Doing {
            item,
            progress,
            call,
            ..Doing::default()
        })
    }

    #[test]
    fn one_that_stays_at_a_call_hangs() {
        let mut watch = Watch::default();
        let looks: Vec<bool> = (0..=LOOKS)
            .map(|_| watch.look(at(1, Some("stat"))))
            .collect();
        assert_eq!(looks, [false, false, false, false, true]);
    }

    #[test]
    fn one_that_comes_on_or_waits_or_is_the_plugin_s_does_not() {
        let mut watch = Watch::default();
        assert!(!(0..20).any(|n| watch.look(at(n, Some("stat")))));
        assert!(!(0..20).any(|_| watch.look(at(1, None))));
        assert!(!(0..20).any(|_| watch.look(None)));
    }
}
