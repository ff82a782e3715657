//! The open directories of one walking thread: a cache under a budget of descriptors.
//!
//! A directory is opened relative to its parent, which is open because its other children are still to come. The
//! cache keeps what its caller hands to [`DirCache::keep`], which is worth it for directories that have
//! subdirectories; it lists nothing and stats nothing.
//!
//! ```text
//!   open(node) ──► parent cached? ──yes──► one call relative to it
//!                       │ no
//!                       ▼
//!                climb to the nearest cached ancestor, or the root; open downwards a stretch of
//!                nodes per call; keep the end of every stretch, so that a walk that climbs back
//!                up a long chain finds the next one within a stretch
//! ```
//!
//! What was granted knows no node above itself but the root. It is reached from the longest way to it that is kept
//! for anything else, by stretches that are kept as well: what is granted together lies close together. Of a directory
//! that is granted piece by piece each piece comes as a node of its own; only the first has to be looked for.
//!
//! An entry is closed when its last subdirectory was opened and nobody else knows it. Entries that only the cache still
//! knows otherwise (nothing is left to do below them, and they are on no way to what was granted) are dropped first when
//! there is no room, then those used longest ago. Making room is done in bulk, so that a use costs one look-up by address.

use std::collections::hash_map;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use rustix::process::{Resource, getrlimit};

use crate::node::DirNode;
use crate::sys::open::{Mounts, OpenError, Opener, Purpose};
use crate::sys::{Errno, PATH_MAX};

/// The most descriptors that are kept unless told otherwise: enough for the depth of ordinary trees many times.
pub const DESCRIPTORS_MAX: usize = 512;

/// How many levels one call opens at most when a chain is opened again.
const STRETCH: usize = 32;

/// How many descriptors the cache of one thread may hold, after the limit of the process, for `threads` caches.
pub fn descriptor_budget(threads: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    (limit / 2 / threads.max(1)).clamp(8, DESCRIPTORS_MAX)
}

/// Open directories by node; see the module.
#[derive(Debug)]
pub struct DirCache {
    opener: Opener,
    ancestors: Mounts,
    roots: Vec<Root>,
    entries: HashMap<usize, Entry>,
    budget: usize,
    uses: u64,
    levels_reopened: u64,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    fd: Option<OwnedFd>,
    /// Device and inode at the first opening, so that a root opened again is the same one.
    identity: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Entry {
    /// Keeps the address, which is the key, from being used again.
    node: Arc<DirNode>,
    fd: OwnedFd,
    used: u64,
    /// It leads to what was granted: what is granted next may lie near it, though nothing here is left to do below.
    way: bool,
}

impl DirCache {
    /// A cache of at most `budget` descriptors over `roots` (absolute paths, by index), none of them opened yet.
    /// `ancestors` says whether directories above an item may lie beyond a mount point of this host.
    pub fn new(opener: Opener, roots: Vec<PathBuf>, budget: usize, ancestors: Mounts) -> Self {
        let roots = roots.into_iter().map(Root::new).collect();
        let budget = budget.max(8);
        Self {
            opener,
            ancestors,
            roots,
            entries: HashMap::with_capacity(budget),
            budget,
            uses: 0,
            levels_reopened: 0,
            scratch: Vec::new(),
        }
    }

    /// Opens `node` to list it, with a descriptor of the caller's own.
    ///
    /// # Errors
    /// [`OpenError::MountPoint`] if `node` itself is a mount point and `mounts` says to detect that; the errno
    /// otherwise, of this directory or of one above it that had to be opened again (`EXDEV`: a mount point in the
    /// way to it).
    pub fn open(&mut self, node: &Arc<DirNode>, mounts: Mounts) -> Result<OwnedFd, OpenError> {
        loop {
            let opener = self.opener;
            let opened = match node.parent() {
                None => self
                    .root_fd(node)
                    .map_err(OpenError::from)
                    .and_then(|root| opener.reopen(root, Purpose::List)),
                Some(_) => self
                    .base(node)
                    .map_err(OpenError::from)
                    .and_then(|(base, name)| opener.open_path(base, name, Purpose::List, mounts)),
            };
            match opened {
                Err(OpenError::Errno(Errno::MFILE | Errno::NFILE)) if self.give_up_half() => {}
                outcome => return outcome,
            }
        }
    }

    /// Keeps `fd`, which is open on `node`, for what is below it.
    pub fn keep(&mut self, node: &Arc<DirNode>, fd: OwnedFd) {
        self.insert(node, fd, false);
    }

    /// Closes `node` if only the cache knows it, and `others` do who will not ask for it again.
    pub fn release(&mut self, node: &Arc<DirNode>, others: usize) {
        if Arc::strong_count(node) == 1 + others
            && let hash_map::Entry::Occupied(entry) = self.entries.entry(key(node))
            && !entry.get().way
        {
            entry.remove();
        }
    }

    fn insert(&mut self, node: &Arc<DirNode>, fd: OwnedFd, way: bool) {
        if self.entries.len() >= self.budget {
            self.make_room(self.budget - self.budget / 8);
        }
        self.uses += 1;
        let entry = Entry {
            node: Arc::clone(node),
            fd,
            used: self.uses,
            way,
        };
        self.entries.insert(key(node), entry);
    }

    /// A base for calls on the entries of `node`: kept, or opened and kept. Do not list it: its offset is shared.
    ///
    /// # Errors
    /// The errno of the call that failed, here or above; `EXDEV` for a mount point that is not to be crossed.
    pub fn fd(&mut self, node: &Arc<DirNode>) -> Result<BorrowedFd<'_>, Errno> {
        if node.parent().is_none() {
            return self.root_fd(node);
        }
        if !self.touch(node) {
            self.open_down_to(node)?;
        }
        let entry = self.entries.get(&key(node));
        entry.map(|entry| entry.fd.as_fd()).ok_or(Errno::BADF)
    }

    /// As [`DirCache::fd`], with a descriptor of the caller's own.
    ///
    /// # Errors
    /// As there.
    pub fn own_fd(&mut self, node: &Arc<DirNode>) -> Result<OwnedFd, Errno> {
        loop {
            match self.fd(node).and_then(duplicate) {
                Err(Errno::MFILE | Errno::NFILE) if self.give_up_half() => {}
                outcome => return outcome,
            }
        }
    }

    /// The descriptor of `node`, if it is kept.
    pub fn kept(&self, node: &Arc<DirNode>) -> Option<BorrowedFd<'_>> {
        let fd = match node.parent() {
            None => {
                let index = usize::try_from(node.root_index()).ok()?;
                self.roots.get(index)?.fd.as_ref()
            }
            Some(_) => self.entries.get(&key(node)).map(|entry| &entry.fd),
        };
        fd.map(AsFd::as_fd)
    }

    /// How many descriptors are kept, roots included.
    pub fn held(&self) -> usize {
        self.entries.len() + self.roots.iter().filter(|root| root.fd.is_some()).count()
    }

    /// How many levels lay on the ways that were opened because a base was not kept: the cost of a miss.
    pub fn levels_reopened(&self) -> u64 {
        self.levels_reopened
    }

    /// Closes what only the cache still knows, but the ways to what was granted.
    fn sweep(&mut self) {
        let done = self.entries.iter().filter(|(_, entry)| entry.is_done());
        let done: Vec<usize> = done.map(|(&key, _)| key).collect();
        for lowest in done {
            let mut next = Some(lowest);
            // An entry that goes may be all that kept the one above it.
            while let Some(key) = next
                && let hash_map::Entry::Occupied(entry) = self.entries.entry(key)
                && entry.get().is_done()
            {
                next = entry.get().node.parent().map(self::key);
                entry.remove();
            }
        }
    }

    /// Closes everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        for root in &mut self.roots {
            root.fd = None;
        }
    }

    /// The descriptor of the root of `node`.
    ///
    /// # Errors
    /// The errno of opening it; `ESTALE` where something else stands in its place by now.
    pub fn root_fd(&mut self, node: &DirNode) -> Result<BorrowedFd<'_>, Errno> {
        let index = usize::try_from(node.root_index()).unwrap_or(usize::MAX);
        let closed = matches!(self.roots.get(index), Some(Root { fd: None, .. }));
        if closed {
            self.open_root(index)?;
        }
        let fd = self.roots.get(index).and_then(|root| root.fd.as_ref());
        fd.map(AsFd::as_fd).ok_or(Errno::NOENT)
    }

    /// The device of the root of `node`, if that was ever opened.
    pub fn root_dev(&self, node: &DirNode) -> Option<u64> {
        let index = usize::try_from(node.root_index()).ok()?;
        self.roots.get(index)?.identity.map(|(dev, _)| dev)
    }

    fn open_root(&mut self, index: usize) -> Result<(), Errno> {
        let open = self.roots.iter().filter(|root| root.fd.is_some()).count();
        if open >= self.budget / 2 {
            let other = self.roots.iter_mut().find(|root| root.fd.is_some());
            other.into_iter().for_each(|root| root.fd = None);
        }
        let opener = self.opener;
        loop {
            let root = self.roots.get_mut(index).ok_or(Errno::NOENT)?;
            match root.open(opener) {
                Err(Errno::MFILE | Errno::NFILE) if self.give_up_half() => {}
                outcome => return outcome,
            }
        }
    }

    /// Marks `node` as used; false if it is not kept.
    #[inline]
    fn touch(&mut self, node: &Arc<DirNode>) -> bool {
        self.uses += 1;
        match self.entries.get_mut(&key(node)) {
            Some(entry) => {
                entry.used = self.uses;
                true
            }
            None => false,
        }
    }

    /// What is open above `node`, and the name of `node` in it.
    fn base<'n>(&mut self, node: &'n Arc<DirNode>) -> Result<(BorrowedFd<'_>, &'n [u8]), Errno> {
        let parent = node.parent().ok_or(Errno::INVAL)?;
        let (way, name) = split_name(node.name());
        // Only what was granted has several components, and it lies right below the root.
        if way.is_empty() || parent.parent().is_some() {
            return Ok((self.fd(parent)?, node.name()));
        }
        let base = match self.way_to(node, way)? {
            Some(above) => self.entries.get(&key(&above)).map(|kept| kept.fd.as_fd()),
            None => Some(self.root_fd(node)?),
        };
        Ok((base.ok_or(Errno::BADF)?, name))
    }

    /// Opens and keeps `node` and one node per stretch between it and the nearest one that is kept.
    fn open_down_to(&mut self, node: &Arc<DirNode>) -> Result<(), Errno> {
        let mut missing = vec![node];
        let mut base = None;
        while let Some(above) = missing.last().and_then(|last| last.parent()) {
            if above.parent().is_none() {
                break;
            }
            if self.touch(above) {
                base = Some(above);
                break;
            }
            missing.push(above);
        }
        if base.is_none()
            && let Some(granted) = missing.pop()
        {
            self.open_granted(granted)?;
            base = Some(granted);
        }
        missing.reverse();
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            let (stretch, tail) = rest.split_at(stretch_len(rest));
            let Some(end) = stretch.last() else { break };
            self.levels_reopened += stretch.len() as u64;
            let mut path = std::mem::take(&mut self.scratch);
            join_names(stretch, &mut path);
            let opened = self.open_from(base, end, &path);
            self.scratch = path;
            self.keep(end, opened?);
            base = Some(end);
            rest = tail;
        }
        Ok(())
    }

    /// Opens and keeps a node right below the root: what was granted has its whole path for a name.
    fn open_granted(&mut self, node: &Arc<DirNode>) -> Result<(), Errno> {
        let (way, name) = split_name(node.name());
        let twin = self.nearest_kept(node, node.name());
        let twin = twin.filter(|twin| twin.path_len() == node.path_len());
        let fd = match twin.and_then(|twin| self.entries.get(&key(&twin))) {
            Some(twin) => duplicate(twin.fd.as_fd())?,
            None => {
                let above = self.way_to(node, way)?;
                self.levels_reopened += 1;
                self.open_from(above.as_ref(), node, name)?
            }
        };
        self.insert(node, fd, !way.is_empty());
        Ok(())
    }

    /// The directory at `path` below the root of `node`, from the longest way to it that is kept, in stretches
    /// that are kept, too; none for the root itself.
    fn way_to(&mut self, node: &Arc<DirNode>, path: &[u8]) -> Result<Option<Arc<DirNode>>, Errno> {
        let mut above = self.nearest_kept(node, path);
        loop {
            let done = above.as_ref().map_or(0, |above| above.path_len());
            let rest = path.get(done..).unwrap_or_default();
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            if rest.is_empty() {
                return Ok(above);
            }
            let (stretch, levels) = path_stretch(rest);
            let next = match above.as_ref().or(node.parent()) {
                Some(parent) => DirNode::below(parent, stretch),
                None => return Ok(None),
            };
            self.levels_reopened += levels as u64;
            let fd = self.open_from(above.as_ref(), &next, stretch)?;
            self.insert(&next, fd, true);
            above = Some(next);
        }
    }

    /// The lowest kept directory that `path`, below the root of `node`, leads to or through.
    fn nearest_kept(&mut self, node: &DirNode, path: &[u8]) -> Option<Arc<DirNode>> {
        let root = node.root_index();
        let kept = self.entries.values_mut();
        let leads_on = kept
            .filter(|entry| entry.node.root_index() == root && entry.node.is_on_the_way_to(path));
        let nearest = leads_on.max_by_key(|entry| entry.node.path_len())?;
        self.uses += 1;
        nearest.used = self.uses;
        Some(Arc::clone(&nearest.node))
    }

    /// Opens `path` as a base, relative to `base`, or to the root of `node`.
    fn open_from(
        &mut self,
        base: Option<&Arc<DirNode>>,
        node: &DirNode,
        path: &[u8],
    ) -> Result<OwnedFd, Errno> {
        let opener = self.opener;
        let ancestors = self.ancestors;
        loop {
            let kept = base.and_then(|base| self.entries.get(&key(base)));
            let dir = match (kept, base) {
                (Some(entry), _) => entry.fd.as_fd(),
                (None, None) => self.root_fd(node)?,
                (None, Some(_)) => return Err(Errno::MFILE),
            };
            match opener.open_path(dir, path, Purpose::Base, ancestors) {
                Ok(fd) => return Ok(fd),
                Err(OpenError::MountPoint) => return Err(Errno::XDEV),
                Err(OpenError::Errno(Errno::MFILE | Errno::NFILE)) if self.give_up_half() => {}
                Err(OpenError::Errno(errno)) => return Err(errno),
            }
        }
    }

    /// After the process ran out of descriptors: closes half; false if there is nothing to close.
    fn give_up_half(&mut self) -> bool {
        let before = self.entries.len();
        self.make_room(before / 2);
        before > 0
    }

    /// Drops entries until at most `left` are left.
    fn make_room(&mut self, left: usize) {
        self.sweep();
        let excess = self.entries.len().saturating_sub(left);
        if excess == 0 {
            return;
        }
        let mut used: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
        let (_, &mut youngest_to_go, _) = used.select_nth_unstable(excess - 1);
        self.entries.retain(|_, entry| entry.used > youngest_to_go);
    }
}

impl Entry {
    /// Nothing is left to do below it, and it is on no way to what was granted.
    fn is_done(&self) -> bool {
        Arc::strong_count(&self.node) == 1 && !self.way
    }
}

impl Root {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            fd: None,
            identity: None,
        }
    }

    fn open(&mut self, opener: Opener) -> Result<(), Errno> {
        let opened = opener.open_root(&self.path)?;
        let identity = (opened.stat.dev, opened.stat.ino);
        if *self.identity.get_or_insert(identity) != identity {
            return Err(Errno::STALE);
        }
        self.fd = Some(opened.fd);
        Ok(())
    }
}

/// How many of `nodes` one call opens: half of them, so that ever more are kept towards the end, where a walk that
/// climbs up needs them soonest; but neither more than a stretch nor more than fit into a path.
fn stretch_len(nodes: &[&Arc<DirNode>]) -> usize {
    let mut bytes = 0;
    let fitting = nodes.iter().take(STRETCH.min(nodes.len() / 2));
    let fitting = fitting.take_while(|node| {
        bytes += node.name().len() + 1;
        bytes <= PATH_MAX
    });
    fitting.count().max(1)
}

/// The first part of `path` that one call opens, and of how many levels it is: half of them, as above.
fn path_stretch(path: &[u8]) -> (&[u8], usize) {
    let levels = 1 + path.iter().filter(|&&byte| byte == b'/').count();
    let taken = (levels / 2).clamp(1, STRETCH);
    let mut slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
    let end = slashes.nth(taken - 1).map_or(path.len(), |(end, _)| end);
    (path.get(..end).unwrap_or_default(), taken)
}

/// The path above, empty where there is none, and the last component.
fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (
            path.get(..slash).unwrap_or_default(),
            path.get(slash + 1..).unwrap_or_default(),
        ),
        None => (b"", path),
    }
}

fn join_names(nodes: &[&Arc<DirNode>], path: &mut Vec<u8>) {
    path.clear();
    for node in nodes {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(node.name());
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

fn key(node: &Arc<DirNode>) -> usize {
    Arc::as_ptr(node).addr()
}

#[cfg(test)]
mod tests;
