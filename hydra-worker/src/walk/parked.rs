//! Directories whose listing was interrupted, still open where it stopped.
//!
//! A directory is only ever parked between two buffers, so its offset and what was read say everything.

use crate::node::DirNode;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The most directories that are kept open; beyond that, the longest parked is closed and will be read again.
const PARKED_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Parked(VecDeque<(Arc<DirNode>, u64, OwnedFd)>);

impl Parked {
    /// Keeps `fd`, which stands behind the first `entries` names of `node`.
    pub(super) fn put(&mut self, node: &Arc<DirNode>, entries: u64, fd: OwnedFd) {
        if self.0.len() >= PARKED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((Arc::clone(node), entries, fd));
    }

    /// The directory, if it is here and stands there.
    pub(super) fn take(&mut self, node: &Arc<DirNode>, entries: u64) -> Option<OwnedFd> {
        let same = |parked: &(Arc<DirNode>, u64, OwnedFd)| {
            Arc::ptr_eq(&parked.0, node) && parked.1 == entries
        };
        let index = self.0.iter().rposition(same)?;
        self.0.remove(index).map(|(_, _, fd)| fd)
    }
}
