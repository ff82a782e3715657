//! What is handed to nobody, because the mount that it lies on does not answer.
//!
//! Who decides that a mount is dead, and when to try it again, is outside. Here items behind its walls are held
//! back, one of them is let through where that is asked for, and it is noticed when something there gets finished.

use super::parent::Parent;
use super::record::runs;
use super::runs::Run;
use super::session::{Link, Session};
use super::table::{Owner, Table};
use super::{ProtocolError, Relay};
use crate::ids::{ChildId, IdRange, ItemId, RootId};
use crate::item::{Item, Parcel};
use crate::message::{Up, Wall};

/// Where so many children got no answer, no other is sent.
const TRIED_MAX: usize = 3;
/// The most walls that one child may have, and the bytes that they may take.
const WALLS_MAX: usize = 4096;
const WALLS_BYTES_MAX: usize = 4 << 20;

/// What of a mount is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Everything.
    All,
    /// One item, as a probe.
    One,
    /// Nothing.
    None,
}

/// A mount that has not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What the caller calls it.
    pub number: u64,
    /// Where it is in the job's roots.
    pub walls: Vec<Wall>,
    /// What of it is handed out.
    pub pass: Pass,
}

impl Mount {
    fn holds(&self, item: &Item) -> bool {
        self.walls.iter().any(|wall| wall.holds(item))
    }
}

#[derive(Debug)]
struct Guarded {
    mount: Mount,
    /// The item that was let through.
    probe: Option<ItemId>,
    /// Something there was finished.
    answered: bool,
}

#[derive(Debug, Default)]
pub(super) struct Walls(Vec<Guarded>);

impl Walls {
    pub(super) fn set(&mut self, mounts: Vec<Mount>) {
        let before = std::mem::take(&mut self.0);
        self.0 = mounts
            .into_iter()
            .map(|mount| {
                let same =
                    |g: &&Guarded| g.mount.number == mount.number && g.mount.pass == mount.pass;
                let probe = before.iter().find(same).and_then(|guarded| guarded.probe);
                let answered = false;
                Guarded {
                    mount,
                    probe,
                    answered,
                }
            })
            .collect();
    }

    /// Whether an item of the pool may be handed out. The first one behind a wall that lets one through is that one.
    pub(super) fn admit(&mut self, id: ItemId, item: &Item) -> bool {
        self.0.iter_mut().all(|guarded| match guarded.mount.pass {
            Pass::All => true,
            _ if !guarded.mount.holds(item) => true,
            Pass::One => *guarded.probe.get_or_insert(id) == id,
            Pass::None => false,
        })
    }

    /// Whether an item is held back, or is the one that was let through.
    fn hold(&self, item: &Item) -> bool {
        let shut = self.0.iter().filter(|g| g.mount.pass != Pass::All);
        shut.into_iter().any(|guarded| guarded.mount.holds(item))
    }

    fn is_probe(&self, id: ItemId) -> bool {
        self.0.iter().any(|guarded| guarded.probe == Some(id))
    }

    /// Whether there are none, as nearly always.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Items were finished.
    pub(super) fn note_done(&mut self, run: &Run) {
        // The end of a directory may ask nothing of its file system.
        if !matches!(run.item.parcel(), Parcel::After(_)) {
            let there = self.0.iter_mut().filter(|guarded| {
                let mut items = (0..run.len).map(|n| run.item.nth(n));
                items.any(|item| guarded.mount.holds(&item))
            });
            there.for_each(|guarded| guarded.answered = true);
        }
    }

    /// Items are gone.
    pub(super) fn forget(&mut self, ids: IdRange) {
        let is_gone = |g: &&mut Guarded| g.probe.is_some_and(|probe| ids.contains(probe));
        let probed = self.0.iter_mut().filter(is_gone);
        probed.for_each(|guarded| guarded.probe = None);
    }

    /// The walls that nothing more is let through.
    fn shut(&self) -> Vec<Wall> {
        let is_shut = |g: &&Guarded| match g.mount.pass {
            Pass::All => false,
            Pass::One => g.probe.is_some(),
            Pass::None => true,
        };
        let shut = self.0.iter().filter(is_shut);
        shut.flat_map(|guarded| guarded.mount.walls.iter().cloned())
            .collect()
    }

    fn take_answered(&mut self) -> Vec<u64> {
        let answered = self.0.iter_mut().filter(|guarded| guarded.answered);
        answered
            .map(|guarded| {
                guarded.answered = false;
                guarded.mount.number
            })
            .collect()
    }
}

impl Table {
    /// Holds back what lies behind these walls, and nothing else.
    pub(super) fn set_mounts(&mut self, mounts: Vec<Mount>) {
        self.walls.set(mounts);
        let ids = self.pool().chain(self.held());
        for ids in runs(&ids.collect::<Vec<ItemId>>()) {
            self.transfer(ids, Owner::Pool);
        }
    }
}

/// Leaves no more walls than a parent takes.
fn limit(mounts: &mut [Mount]) {
    let (mut walls, mut bytes) = (0, 0);
    for mount in mounts {
        mount.walls.retain(|wall| {
            walls += 1;
            bytes += wall.size();
            walls <= WALLS_MAX && bytes <= WALLS_BYTES_MAX
        });
    }
}

/// A client's half.
impl Relay {
    /// These mounts have not answered lately: holds back what is not to be handed out, and returns it to the server.
    /// Beyond what the server takes of them there are no walls: what lies there is handed out as elsewhere.
    pub fn set_mounts(&mut self, mut mounts: Vec<Mount>) {
        limit(&mut mounts);
        if let Some(parent) = &mut self.parent {
            parent.table.set_mounts(mounts);
            parent.rebalance();
        }
        self.say_walls(false);
    }

    /// The numbers of the mounts where something was finished since they were asked for.
    #[must_use]
    pub fn take_answered(&mut self) -> Vec<u64> {
        let parent = self.parent.as_mut();
        parent.map_or_else(Vec::new, |parent| parent.table.walls.take_answered())
    }

    /// An item that workers own, or that is in the pool.
    #[must_use]
    pub fn item(&self, id: ItemId) -> Option<Item> {
        Some(self.parent.as_ref()?.table.get(id)?.item)
    }

    /// Whether an item lies on a mount that does not answer.
    #[must_use]
    pub fn is_walled(&self, id: ItemId) -> bool {
        let parent = self.parent.as_ref();
        parent.is_some_and(|parent| parent.is_walled(id))
    }

    /// Whether there is anything to do elsewhere than on such mounts.
    #[must_use]
    pub fn has_other_work(&self) -> bool {
        let parent = self.parent.as_ref();
        parent.is_some_and(|parent| {
            let runs = parent.table.runs.iter();
            let mut items = runs.flat_map(|(first, run)| run.items(first));
            items.any(|(_, item)| !parent.table.walls.hold(&item))
        })
    }

    /// Tells the server where nothing is to be granted, if that is news or it may have forgotten.
    pub(super) fn say_walls(&mut self, again: bool) {
        let Some(parent) = &self.parent else {
            return;
        };
        let walls = parent.table.walls.shut();
        let is_news = match &self.walls {
            Some(said) => *said != walls || again,
            None => !walls.is_empty(),
        };
        if is_news {
            self.uplink.send(Up::Walls(walls.clone()));
            self.walls = Some(walls);
        }
    }
}

impl Parent {
    fn is_walled(&self, id: ItemId) -> bool {
        let entry = self.table.get(id);
        entry.is_some_and(|entry| self.table.walls.hold(&entry.item))
    }

    /// Whether anything is held back.
    pub(super) fn has_held(&self) -> bool {
        self.table.has_held()
    }

    /// What is held back, for this parent's own parent.
    pub(super) fn pick_held(&self, most: u64) -> Vec<ItemId> {
        self.table.held().take(most as usize).collect()
    }

    pub(super) fn is_probe(&self, id: ItemId) -> bool {
        self.table.walls.is_probe(id)
    }

    /// A child gets no answer in these parts of the tree, and in no others.
    pub(super) fn wall(&mut self, child: ChildId, walls: Vec<Wall>) -> Result<(), ProtocolError> {
        let bytes: usize = walls.iter().map(Wall::size).sum();
        if walls.len() > WALLS_MAX || bytes > WALLS_BYTES_MAX {
            return Err(ProtocolError::Unexpected("too many walls"));
        }
        let Some(session) = self.sessions.get_mut(&child) else {
            return Ok(());
        };
        if session.walls != walls {
            self.turns += 1;
            self.try_to_put_away();
        }
        match walls.is_empty() {
            true => self.walled.remove(&child),
            false => self.walled.insert(child),
        };
        if let Some(session) = self.sessions.get_mut(&child) {
            session.walls = walls;
        }
        Ok(())
    }

    /// The children that get no answer where this item lies, with what they say of it.
    pub(super) fn walls_before<'a>(
        &'a self,
        item: &'a Item,
    ) -> impl Iterator<Item = (ChildId, &'a str)> {
        let walled = self
            .walled
            .iter()
            .filter_map(|child| self.sessions.get(child));
        let live = walled.filter(|session| !matches!(session.link, Link::Fenced { .. }));
        live.filter_map(|session| Some((session.child, session.wall_before(item)?.reason.as_str())))
    }

    /// Whether enough children have tried in vain to do this item.
    pub(super) fn is_tried(&self, item: &Item) -> bool {
        self.walled.len() >= TRIED_MAX && self.walls_before(item).nth(TRIED_MAX - 1).is_some()
    }
}

impl Parent {
    /// The same for all that lies under a root.
    pub(super) fn is_root_tried(&self, root: RootId) -> bool {
        let walled = self
            .walled
            .iter()
            .filter_map(|child| self.sessions.get(child));
        let live = walled.filter(|session| !matches!(session.link, Link::Fenced { .. }));
        live.filter(|session| session.is_shut(root))
            .nth(TRIED_MAX - 1)
            .is_some()
    }

    /// Whether some of these items, but not all that lies under their root, is behind a wall.
    pub(super) fn is_near_wall(&self, run: &Run) -> bool {
        let root = run.item.root();
        let walled = self
            .walled
            .iter()
            .filter_map(|child| self.sessions.get(child));
        let mut walls = walled.flat_map(|session| &session.walls);
        walls.any(|wall| {
            let mut items = (0..run.len).map(|n| run.item.nth(n));
            wall.root == root && !wall.is_whole() && items.any(|item| wall.holds(&item))
        })
    }
}

impl Session {
    /// Whether this child gets no answer from anything under a root.
    pub(super) fn is_shut(&self, root: RootId) -> bool {
        let mut walls = self.walls.iter();
        walls.any(|wall| wall.root == root && wall.is_whole())
    }

    /// What keeps this child from the item.
    pub(super) fn wall_before(&self, item: &Item) -> Option<&Wall> {
        self.walls.iter().find(|wall| wall.holds(item))
    }
}
