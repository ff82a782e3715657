//! Does a worker hang? Told from its slot, without its help: what it is doing, and whether it comes on.
//!
//! Only system calls of the walk count. How long a plugin takes is the plugin's affair.

use hydra_proto::ids::ItemId;
use hydra_proto::ledger::Time;
use std::time::Duration;

/// So many looks in a row have to find a worker at the same call, or more. Looks that are late count once only, so
/// that nobody hangs merely because this process, or the whole machine, was stopped.
const LOOKS: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// After so many looks that find it at the same call, others are at work for a worker.
const STANDS: u32 = 2;

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
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Option<Doing>,
    /// Looks in a row that found the same.
    same: u32,
    /// With so many it hangs.
    looks: u32,
}

impl Watch {
    /// How often to look, if whoever comes no further for `stall` hangs.
    fn pause(stall: Duration) -> Duration {
        (stall / LOOKS).clamp(PAUSE_MIN, PAUSE_MAX)
    }

    /// One for a worker that hangs when it comes no further for `stall`.
    pub(crate) fn new(stall: Duration) -> Self {
        let looks = stall.as_millis().div_ceil(Self::pause(stall).as_millis());
        Self {
            seen: None,
            same: 0,
            looks: u32::try_from(looks).unwrap_or(u32::MAX).max(LOOKS),
        }
    }

    /// Whether the worker hangs.
    pub(crate) fn look(&mut self, doing: Option<Doing>) -> bool {
        let stands = doing
            .as_ref()
            .is_some_and(|doing| doing.item.is_some() && doing.call.is_some());
        self.same = match stands && self.seen == doing {
            true => self.same.saturating_add(1),
            false => 0,
        };
        self.seen = doing;
        self.same >= self.looks
    }

    /// Whether it has been at the same call for a while.
    pub(crate) fn stands(&self) -> bool {
        self.same >= STANDS
    }

    /// Whether it was found with nothing in hand.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = |doing: &Doing| doing.item.is_none() && doing.call.is_none();
        self.seen.as_ref().is_some_and(idle)
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
    /// The end of the path of a directory that is being opened.
    End(Vec<u8>),
    /// A name in a directory that cannot be told.
    Name(Vec<u8>),
}

impl Place {
    /// The kernel tells the path of the open directory; no file system is asked.
    pub(crate) fn of(pid: u32, doing: &Doing) -> Self {
        let directory = doing.directory.and_then(|fd| path_of(pid, fd));
        let Some(mut path) = directory else {
            return match doing.call {
                Some("open") => Self::End(doing.name.clone()),
                Some("write") => Self::Path(doing.name.clone()),
                _ => Self::Name(doing.name.clone()),
            };
        };
        if !doing.name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&doing.name);
        }
        Self::Path(path)
    }
}

/// The path of a descriptor. The thread that walks may have descriptors of its own: the others are asked after it.
fn path_of(pid: u32, fd: u32) -> Option<Vec<u8>> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut threads: Vec<_> = threads.flatten().map(|thread| thread.path()).collect();
    threads.sort_by_key(|thread| thread.ends_with(pid.to_string()));
    let fd = fd.to_string();
    let mut paths = threads.iter().filter_map(|thread| {
        let link = std::fs::read_link(thread.join("fd").join(&fd)).ok()?;
        Some(link.into_os_string().into_encoded_bytes())
    });
    paths.find(|path| path.starts_with(b"/"))
}

/// What a worker hangs at, in words.
pub(crate) fn describe(place: &Place, doing: &Doing, stall: Duration) -> String {
    let (start, path) = match place {
        Place::Path(path) => ("", path),
        Place::End(end) if end.is_empty() => ("a root", end),
        Place::End(end) | Place::Name(end) => (".../", end),
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
    use std::os::fd::AsRawFd;

    const STALL: Duration = Duration::from_secs(2);

    #[test]
    fn the_longer_it_may_take_the_more_looks_there_are() {
        let millis = [1, 200, 4000, 4001, 300_000].map(Duration::from_millis);
        let looks = millis.map(|stall| Watch::new(stall).looks);
        assert_eq!(looks, [4, 4, 8, 9, 600]);
        assert_eq!(Watch::pause(millis[1]), PAUSE_MIN);
        assert_eq!(Watch::pause(millis[4]), PAUSE_MAX);
    }

    #[test]
    fn one_that_stays_at_a_call_for_a_while_stands_until_it_comes_on() {
        let mut watch = Watch::new(STALL);
        let mut stands = |progress| {
            watch.look(at(progress, Some("stat")));
            watch.stands()
        };
        assert_eq!(
            [1, 1, 1, 2, 2].map(&mut stands),
            [false, false, true, false, false]
        );
    }

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
    fn the_kernel_tells_the_path_of_a_descriptor() {
        let file = tempfile::tempdir().unwrap();
        let open = std::fs::File::open(file.path()).unwrap();
        let fd = u32::try_from(open.as_raw_fd()).unwrap();
        let path = path_of(std::process::id(), fd).unwrap();
        assert_eq!(path, file.path().as_os_str().as_encoded_bytes());
        assert_eq!(path_of(std::process::id(), u32::MAX), None);
    }

    #[test]
    fn one_that_stays_at_a_call_hangs() {
        let mut watch = Watch::new(STALL);
        let looks: Vec<bool> = (0..=LOOKS)
            .map(|_| watch.look(at(1, Some("stat"))))
            .collect();
        assert_eq!(looks, [false, false, false, false, true]);
    }

    #[test]
    fn one_that_comes_on_or_waits_or_is_the_plugin_s_does_not() {
        let mut watch = Watch::new(STALL);
        assert!(!(0..20).any(|n| watch.look(at(n, Some("stat")))));
        assert!(!(0..20).any(|_| watch.look(at(1, None))));
        assert!(!(0..20).any(|_| watch.look(None)));
    }
}
