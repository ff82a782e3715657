//! Telling the supervisor what is being done, so that it can see a system call that never returns.

use super::Walker;
use crate::node::DirNode;
use crate::plugin::Visit;
use crate::sys::slot::{Call, SLOT_PATH_MAX};
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many names of a path are told.
const TAIL_NAMES: usize = 8;

impl<V: Visit> Walker<V> {
    /// A directory is about to be opened.
    pub(super) fn tell_open(&mut self, node: &DirNode) {
        let Some(slot) = &self.slot else {
            return;
        };
        slot.advance(1);
        let parent = node.parent().and_then(|parent| self.dirs.kept(parent));
        match parent.filter(|_| node.name().len() <= SLOT_PATH_MAX) {
            Some(parent) => {
                slot.set_directory(u32::try_from(parent.as_raw_fd()).ok());
                slot.set_path(node.name());
            }
            // It has to be opened from further up.
            None => {
                slot.set_directory(None);
                write_tail(node, &mut self.tail);
                slot.set_path(&self.tail);
            }
        }
        slot.set_call(Some(Call::Open));
    }

    /// This directory is in hand.
    pub(super) fn tell_directory(&self, fd: BorrowedFd<'_>) {
        if let Some(slot) = &self.slot {
            slot.set_directory(u32::try_from(fd.as_raw_fd()).ok());
        }
    }

    /// The directory in hand is about to be read.
    #[inline]
    pub(super) fn tell_list(&self) {
        if let Some(slot) = &self.slot {
            slot.set_call(Some(Call::List));
        }
    }

    /// The directory in hand is being read, and reading it comes on.
    #[inline]
    pub(super) fn tell_name(&self) {
        if let Some(slot) = &self.slot {
            slot.advance(1);
        }
    }

    /// An entry of the directory in hand is about to be looked at.
    #[inline]
    pub(super) fn tell_entry(&self, call: Call, name: &[u8]) {
        if let Some(slot) = &self.slot {
            slot.advance(1);
            slot.set_path(name);
            slot.set_call(Some(call));
        }
    }

    /// No system call of the walk is under way.
    #[inline]
    pub(super) fn tell_none(&self) {
        if let Some(slot) = &self.slot {
            slot.advance(1);
            slot.set_call(None);
        }
    }
}

/// The end of a directory's path.
fn write_tail(node: &DirNode, path: &mut Vec<u8>) {
    let mut names = [b"".as_slice(); TAIL_NAMES];
    let mut at = Some(node);
    for name in names.iter_mut().rev() {
        *name = at.map(DirNode::name).unwrap_or_default();
        at = at.and_then(|node| node.parent().map(AsRef::as_ref));
    }
    path.clear();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_path_is_its_last_names() {
        let tail = |node: &DirNode| {
            let mut path = b"what was there before".to_vec();
            write_tail(node, &mut path);
            path
        };
        let root = DirNode::root(0);
        assert_eq!(tail(&root), b"");
        let a = DirNode::below(&root, b"a");
        assert_eq!(tail(&DirNode::below(&a, b"b")), b"a/b");
        let deep = (0..100).fold(a, |node, n| DirNode::below(&node, n.to_string().as_bytes()));
        let expected: Vec<String> = (92..100).map(|n| n.to_string()).collect();
        assert_eq!(tail(&deep), expected.join("/").as_bytes());
    }
}
