//! Workers that hang, and the mounts that they hang on.

use super::Dispatcher;
use crate::crew::Hung;
use crate::mounts::Mounts;
use crate::roots::rest_below;
use crate::watch::Place;
use hydra_proto::ledger::Time;
use tracing::{info, warn};

/// Of the end of a path that has fewer names than this, nothing is missing.
const TAIL_NAMES: usize = 8;

impl Dispatcher {
    /// Replaces the workers that hang. Nobody waits for their end.
    pub(super) fn dismiss_hung(&mut self, now: Time) {
        for hung in self.crew.look_around(now) {
            let is_dead = self.count_stall(now, &hung);
            // What lies on a dead mount is not to blame.
            let in_hand = hung.in_hand.filter(|&id| !self.relay.is_walled(id));
            if is_dead {
                self.crew.excuse(hung.conn);
            }
            self.dismiss_for(now, hung.conn, in_hand, &hung.reason);
        }
    }

    /// Counts it against its mount. Says whether that is taken to be dead.
    fn count_stall(&mut self, now: Time, hung: &Hung) -> bool {
        let Some(path) = self.path_of(hung) else {
            return false;
        };
        let Ok(mounts) = Mounts::read() else {
            return false;
        };
        let (Some(mount), Some(job)) = (mounts.of(&path), &mut self.job) else {
            return false;
        };
        let name = mount.path.escape_ascii();
        let kind = mount.fs_type.escape_ascii();
        let reason = format!(
            "the file system at {name} ({kind}) does not answer; of its workers {}",
            hung.reason
        );
        let walls = mounts.walls(&mount.path, &job.real_roots, &reason);
        let is_dead = job.breakers.stalled(now, &mount.path, hung.conn, walls);
        if is_dead {
            warn!(mount = %name, %kind, "it does not answer: its part of the job is left to others for now");
        }
        let held_back = job.breakers.mounts();
        self.relay.set_mounts(held_back);
        is_dead
    }

    /// What it hangs at, as this host sees it. Of long paths a worker tells only the end.
    fn path_of(&self, hung: &Hung) -> Option<Vec<u8>> {
        let end = match &hung.place {
            Place::Path(path) => return Some(path.clone()),
            Place::End(end) => end,
        };
        let item = self.relay.item(hung.in_hand?)?;
        let root = self.job.as_ref()?.real_roots.get(item.root().0 as usize)?;
        let path = item.path();
        let names = end.split(|&byte| byte == b'/').count();
        let below = match path == *end || ends_with(&path, end) {
            true => path,
            false if names < TAIL_NAMES && rest_below(&path, end).is_some() => end.clone(),
            false => return None,
        };
        Some([root.as_slice(), b"/", &below].concat())
    }

    /// Sees which mounts have answered, and sends somebody where the pause is over: as long as there is something
    /// else to do, so that no job goes on for the sake of a dead mount.
    pub(super) fn look_at_mounts(&mut self, now: Time) {
        let Some(job) = &mut self.job else {
            return;
        };
        let answered = self.relay.take_answered();
        let probes = job.breakers.is_due(now) && self.relay.has_other_work();
        if !answered.is_empty() {
            info!("a file system on which workers hung has answered");
            job.breakers.answered(&answered);
        }
        if probes {
            job.breakers.probe(now);
        }
        if probes || !answered.is_empty() {
            self.relay.set_mounts(job.breakers.mounts());
        }
    }
}

/// Whether `end` are the last names of a path.
fn ends_with(path: &[u8], end: &[u8]) -> bool {
    let before = path.strip_suffix(end);
    !end.is_empty() && before.is_some_and(|before| before.ends_with(b"/"))
}
