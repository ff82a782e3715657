//! Workers that hang, and the mounts that they hang on.

use super::Dispatcher;
use crate::breaker::STALLS_MAX;
use crate::crew::Hung;
use crate::mounts::Mounts;
use crate::roots::rest_below;
use crate::watch::Place;
use hydra_proto::ids::ConnId;
use hydra_proto::ledger::Time;
use tracing::{info, warn};

/// Of the end of a path that has fewer names than this, nothing is missing.
const TAIL_NAMES: usize = 8;

impl Dispatcher {
    /// Looks what the workers are doing: those that hang are replaced, and nobody waits for their end.
    pub(super) fn look_around(&mut self, now: Time) {
        let round = self.crew.look_around(now);
        for hung in round.standing {
            self.relay.worker_stands(hung.conn, true);
            self.count(now, &hung, false);
        }
        for conn in round.moving {
            self.relay.worker_stands(conn, false);
            self.moves(conn);
        }
        for conn in round.retired {
            self.put_by.retain(|(from, _)| *from != conn);
            self.relay
                .worker_died(now, conn, None, "it is not needed any more");
        }
        for hung in round.hung {
            self.count(now, &hung, true);
            // What lies on a dead mount is not to blame.
            let in_hand = hung.in_hand.filter(|&id| !self.relay.is_walled(id));
            self.dismiss_for(now, hung.conn, in_hand, &hung.reason);
        }
    }

    /// A worker comes on, or is gone.
    pub(super) fn moves(&mut self, conn: ConnId) {
        if let Some(job) = &mut self.job {
            job.breakers.moves(conn);
        }
    }

    /// Notes on which mount a worker comes no further, or counts that it hangs there.
    fn count(&mut self, now: Time, hung: &Hung, hangs: bool) {
        let (Some(path), Ok(mounts)) = (self.path_of(hung), Mounts::read()) else {
            return;
        };
        let (Some(mount), Some(job)) = (mounts.of(&path), &mut self.job) else {
            return;
        };
        let name = mount.path.escape_ascii();
        let kind = mount.fs_type.escape_ascii();
        let reason = format!(
            "the file system at {name} ({kind}) does not answer: {STALLS_MAX} workers in a row hung there; the last: {}",
            hung.reason
        );
        let walls = mounts.walls(&mount.path, &job.real_roots, &reason);
        let is_news = match hangs {
            true => {
                let opens = job.breakers.stalled(now, &mount.path, hung.conn, walls);
                if opens {
                    warn!(mount = %name, %kind, "it does not answer: no worker is sent there for now");
                }
                true
            }
            false => job.breakers.stands(&mount.path, hung.conn, walls),
        };
        if is_news {
            let held_back = job.breakers.mounts();
            self.relay.set_mounts(held_back);
        }
    }

    /// What it hangs at, as this host sees it. Of long paths a worker tells only the end.
    fn path_of(&self, hung: &Hung) -> Option<Vec<u8>> {
        let end = match &hung.place {
            Place::Path(path) => return Some(path.clone()),
            Place::End(end) => end,
            Place::Name(_) => return None,
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
        let again = job.breakers.answered(&answered);
        let probes = job.breakers.is_due(now) && self.relay.has_other_work();
        if again {
            info!("a file system on which workers hung has answered");
        }
        if probes {
            job.breakers.probe(now);
        }
        if probes || again {
            self.relay.set_mounts(job.breakers.mounts());
        }
    }
}

/// Whether `end` are the last names of a path.
fn ends_with(path: &[u8], end: &[u8]) -> bool {
    let before = path.strip_suffix(end);
    !end.is_empty() && before.is_some_and(|before| before.ends_with(b"/"))
}
