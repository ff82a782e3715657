//! The largest files.

use super::kept::{KeptPath, clip};
use hydra_proto::reduce::Summary;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A large file. The larger one is less, and of equals the one whose path is: best first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LargeFile {
    /// Size in bytes.
    pub size: Reverse<u64>,
    /// Its path.
    pub path: KeptPath,
    /// The rest of what reports show of it.
    pub facts: FileFacts,
}

/// What reports show of a large file besides size and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileFacts {
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content, in seconds since 1970.
    pub mtime: i64,
}

/// The largest files that were shown, at most as many as asked for. Empty files are none of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Top {
    /// Travels along, because whoever merges does not know the options.
    limit: u32,
    files: BinaryHeap<LargeFile>,
}

impl Top {
    /// Whether a file of this size may be among the `limit` largest, so that its path is worth finding out.
    #[inline]
    pub(super) fn wants(&self, limit: u32, size: u64) -> bool {
        if self.files.len() < limit as usize {
            return size > 0;
        }
        limit > 0
            && self
                .files
                .peek()
                .is_some_and(|worst| size >= worst.size.0 && size > 0)
    }

    /// Shows a file to the list of the `limit` largest; `path_max` bytes of its path are kept.
    pub(super) fn offer(
        &mut self,
        limit: u32,
        path_max: usize,
        size: u64,
        path: &[u8],
        facts: &FileFacts,
    ) {
        self.limit = limit;
        if self.files.len() >= limit as usize {
            let Some(worst) = self.files.peek() else {
                return;
            };
            let kept = (worst.path.bytes.as_slice(), worst.path.cut);
            let new = (Reverse(size), clip(path, path_max), *facts);
            if new >= (worst.size, kept, worst.facts) {
                return;
            }
        }
        self.files.push(LargeFile {
            size: Reverse(size),
            path: KeptPath::new(path, path_max),
            facts: *facts,
        });
        self.trim();
    }

    /// The size that another file has to reach.
    pub(super) fn bar(&self) -> u64 {
        match self.files.len() < self.limit as usize {
            true => 0,
            false => self.files.peek().map_or(0, |worst| worst.size.0),
        }
    }

    /// The files, largest first.
    pub(super) fn into_sorted(self) -> Vec<LargeFile> {
        self.files.into_sorted_vec()
    }

    fn trim(&mut self) {
        while self.files.len() > self.limit as usize {
            self.files.pop();
        }
    }
}

impl Summary for Top {
    fn merge(&mut self, other: Self) {
        self.limit = self.limit.max(other.limit);
        self.files.extend(other.files);
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: FileFacts = FileFacts {
        blocks: 0,
        uid: 0,
        gid: 0,
        mtime: 0,
    };

    fn show(top: &mut Top, limit: u32, size: u64, path: &[u8]) {
        if top.wants(limit, size) {
            top.offer(limit, 100, size, path, &FACTS);
        }
    }

    fn names(top: Top) -> Vec<(u64, Vec<u8>)> {
        let sorted = top.into_sorted().into_iter();
        sorted.map(|file| (file.size.0, file.path.bytes)).collect()
    }

    #[test]
    fn ties_go_by_path_whatever_the_order() {
        let files: [(u64, &[u8]); 6] = [
            (5, b"e"),
            (5, b"a"),
            (9, b"z"),
            (5, b"c"),
            (1, b"b"),
            (0, b"0"),
        ];
        for rotation in 0..files.len() {
            let (mut one, mut two) = (Top::default(), Top::default());
            for (index, (size, path)) in files.iter().enumerate() {
                let top = if index < rotation { &mut one } else { &mut two };
                show(top, 3, *size, path);
            }
            one.merge(two);
            let expected = vec![(9, b"z".to_vec()), (5, b"a".to_vec()), (5, b"c".to_vec())];
            assert_eq!(names(one), expected, "split at {rotation}");
        }
    }

    #[test]
    fn empty_files_and_empty_lists() {
        let mut top = Top::default();
        show(&mut top, 0, 10, b"a");
        show(&mut top, 2, 0, b"b");
        assert!(names(top).is_empty());
    }
}
