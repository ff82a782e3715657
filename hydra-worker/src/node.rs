//! Directories in memory: links to their parents, so that a path is built only when somebody wants to see it.
//!
//! A node says where a directory is, not what is in it or what has been done about it.

use crate::entry::PATH_START;
use crate::sys::list::End;
use std::sync::{Arc, OnceLock};

/// A directory of the tree, by its name and its parent. Immutable, but for what is learned of its file system; shared
/// freely between threads.
///
/// ```text
///   root 0 ◄── "a" ◄── "b/c" ◄── "d"     what was found here has one component,
///                                        what was granted may have several
/// ```
#[derive(Debug)]
pub struct DirNode {
    parent: Option<Arc<DirNode>>,
    name: Box<[u8]>,
    /// Of the path below the root, in bytes.
    path_len: usize,
    depth: u32,
    root: u32,
    /// The first bytes of a path that is longer than [`PATH_START`], one more than that: shared with all that lies
    /// below.
    start: Option<Arc<Vec<u8>>>,
    end: OnceLock<End>,
}

impl DirNode {
    /// The root with this index among the roots of the job; its depth is 0.
    pub fn root(root: u32) -> Arc<Self> {
        Arc::new(Self {
            parent: None,
            name: Box::default(),
            path_len: 0,
            depth: 0,
            root,
            start: None,
            end: OnceLock::new(),
        })
    }

    /// The directory `path` below `parent`: a name, or several joined by `/`.
    pub fn below(parent: &Arc<Self>, path: &[u8]) -> Arc<Self> {
        let slashes = path.iter().filter(|&&byte| byte == b'/').count();
        let components = u32::try_from(slashes).unwrap_or(u32::MAX).saturating_add(1);
        let mut node = Self {
            parent: Some(Arc::clone(parent)),
            name: path.into(),
            path_len: parent.path_len + usize::from(parent.path_len > 0) + path.len(),
            depth: parent.depth.saturating_add(components),
            root: parent.root,
            start: parent.start.clone(),
            end: OnceLock::new(),
        };
        if node.start.is_none() && node.path_len > PATH_START {
            let mut start = Vec::new();
            node.append_path(&mut start);
            start.truncate(PATH_START + 1);
            start.shrink_to_fit();
            node.start = Some(Arc::new(start));
        }
        Arc::new(node)
    }

    /// The directory above, several levels above where the name has several components; none for a root.
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// The path relative to the parent; empty for a root.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many components lie between the root and here.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The index of its root among the roots of the job.
    pub fn root_index(&self) -> u32 {
        self.root
    }

    /// How the end of its listing is known.
    pub fn end(&self) -> End {
        self.end.get().copied().unwrap_or_default()
    }

    /// Remembers that; what was learned first stays.
    pub fn learn_end(&self, end: End) {
        if end != End::Unknown {
            let _ = self.end.set(end);
        }
    }

    /// The directory right above: its parent, unless its name has several components, which may lead through mounts.
    pub fn right_above(&self) -> Option<&Arc<Self>> {
        let parent = self.parent.as_ref();
        parent.filter(|parent| self.depth == parent.depth + 1)
    }

    /// The length of the path relative to the root, in bytes.
    pub fn path_len(&self) -> usize {
        self.path_len
    }

    /// Replaces `path` by the path relative to the root; empty for the root itself.
    pub fn write_path(&self, path: &mut Vec<u8>) {
        path.clear();
        self.append_path(path);
    }

    /// Appends the path relative to the root; nothing for the root itself.
    pub fn append_path(&self, path: &mut Vec<u8>) {
        let start = path.len();
        path.resize(start + self.path_len, b'/');
        let mut room = path.get_mut(start..).unwrap_or_default();
        for node in self.chain() {
            let Some((before, name)) = room.split_at_mut_checked(room.len() - node.name.len())
            else {
                return;
            };
            name.copy_from_slice(&node.name);
            let slash = before.len().saturating_sub(1);
            room = before.get_mut(..slash).unwrap_or_default();
        }
    }

    /// Appends the path relative to the root, or of one longer than [`PATH_START`] only the first bytes, more than
    /// that: for a deep directory far less work than its path.
    pub fn append_start(&self, path: &mut Vec<u8>) {
        match &self.start {
            Some(start) => path.extend_from_slice(start),
            None => self.append_path(path),
        }
    }

    /// Whether `path`, relative to the same root, leads to this directory or through it.
    pub fn is_on_the_way_to(&self, path: &[u8]) -> bool {
        let Some((mut before, after)) = path.split_at_checked(self.path_len) else {
            return false;
        };
        if !after.is_empty() && !after.starts_with(b"/") {
            return false;
        }
        for node in self.chain() {
            let Some(above) = before.strip_suffix(&*node.name) else {
                return false;
            };
            before = above.strip_suffix(b"/").unwrap_or(above);
        }
        before.is_empty()
    }

    /// This directory and those above it, without the root.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |node| node.parent.as_deref())
            .take_while(|node| node.parent.is_some())
    }
}

impl Drop for DirNode {
    /// Lets go of the chain above in a loop: it may be longer than the stack is deep.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            next = node.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(node: &DirNode) -> Vec<u8> {
        let mut path = b"something older and much longer than what comes".to_vec();
        node.write_path(&mut path);
        path
    }

    #[test]
    fn writes_the_path_relative_to_the_root() {
        let root = DirNode::root(3);
        assert_eq!(path_of(&root), b"");
        let a = DirNode::below(&root, b"a\n\xff");
        assert_eq!(path_of(&a), b"a\n\xff");
        let c = DirNode::below(&a, b"b/c");
        let d = DirNode::below(&c, b"d");
        assert_eq!(path_of(&d), b"a\n\xff/b/c/d");
        assert_eq!((d.depth(), d.root_index()), (4, 3));
        assert_eq!(d.path_len(), path_of(&d).len());
    }

    #[test]
    fn only_what_lies_right_below_is_on_the_same_file_system() {
        let root = DirNode::root(0);
        let a = DirNode::below(&root, b"a");
        let far = DirNode::below(&root, b"b/c");
        assert!(
            a.right_above()
                .is_some_and(|above| Arc::ptr_eq(above, &root))
        );
        assert!(far.right_above().is_none() && root.right_above().is_none());
        assert_eq!(a.end(), End::Unknown);
        for end in [End::Unknown, End::Silent, End::Told] {
            a.learn_end(end);
        }
        assert_eq!((a.end(), root.end()), (End::Silent, End::Unknown));
    }

    #[test]
    fn knows_which_paths_lead_through_it() {
        let root = DirNode::root(0);
        let b = DirNode::below(&DirNode::below(&root, b"aa"), b"b/b");
        for path in [&b"aa/b/b"[..], b"aa/b/b/c", b"aa/b/b/c/d"] {
            assert!(b.is_on_the_way_to(path), "{path:?}");
        }
        for path in [
            &b""[..],
            b"aa",
            b"aa/b",
            b"aa/b/bb",
            b"aa/bb/b",
            b"a/ab/b",
            b"xaab/b",
        ] {
            assert!(!b.is_on_the_way_to(path), "{path:?}");
        }
        assert!(root.is_on_the_way_to(b""));
    }

    #[test]
    fn a_long_path_has_a_start_that_is_shared_by_all_below() {
        let mut node = DirNode::root(0);
        let mut starts = std::collections::HashSet::new();
        for number in 0..3 * PATH_START {
            node = DirNode::below(&node, format!("{number}").as_bytes());
            let mut start = b"/".to_vec();
            node.append_start(&mut start);
            if number % 100 == 0 {
                let path = path_of(&node);
                assert_eq!(start[1..], path[..path.len().min(PATH_START + 1)]);
            }
            starts.extend(node.start.as_ref().map(|start| Arc::as_ptr(start).addr()));
        }
        assert_eq!(starts.len(), 1);
    }

    #[test]
    fn drops_a_chain_longer_than_the_stack_is_deep() {
        let mut node = DirNode::root(0);
        for _ in 0..300_000 {
            node = DirNode::below(&node, b"d");
        }
        let other = DirNode::below(&node, b"other");
        drop(node);
        assert_eq!(other.depth(), 300_001);
        drop(other);
    }
}
