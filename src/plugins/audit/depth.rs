//! Sums for each level below the root.

use super::kept::Record;
use hydra_proto::reduce::Summary;
use serde::{Deserialize, Serialize};

/// Levels that have a row of their own. What lies deeper shares one more row: chains of directories can be
/// as long as the tree likes.
pub(super) const LEVELS_MAX: usize = 1024;
/// Bytes kept of the path of a level's largest directory.
const PATH_MAX: usize = 1024;

/// One level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Level {
    /// Directories on it.
    pub directories: u64,
    /// Regular files on it.
    pub files: u64,
    /// All other entries on it.
    pub other: u64,
    /// Sizes of its regular files.
    pub bytes: u64,
    /// Allocated blocks of its regular files.
    pub file_blocks: u64,
    /// The directory on it with the most entries.
    pub largest: Record<PATH_MAX>,
    /// The most non-directories in one directory on it.
    pub most_files: u64,
}

impl Level {
    fn merge(&mut self, other: Self) {
        self.directories = self.directories.saturating_add(other.directories);
        self.files = self.files.saturating_add(other.files);
        self.other = self.other.saturating_add(other.other);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.file_blocks = self.file_blocks.saturating_add(other.file_blocks);
        self.largest.merge(other.largest);
        self.most_files = self.most_files.max(other.most_files);
    }
}

/// The number of the row for a depth.
#[inline]
pub(super) fn row(depth: u32) -> usize {
    (depth as usize).min(LEVELS_MAX)
}

/// All levels, from the root down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Levels(Vec<Level>);

impl Levels {
    /// The row for a depth.
    #[inline]
    pub(super) fn at(&mut self, depth: u32) -> &mut Level {
        let row = row(depth);
        if row >= self.0.len() {
            self.0.resize_with(row + 1, Level::default);
        }
        &mut self.0[row]
    }

    /// The rows; the one behind [`LEVELS_MAX`] holds all that lies deeper.
    pub(super) fn rows(&self) -> &[Level] {
        &self.0
    }
}

impl Summary for Levels {
    fn merge(&mut self, other: Self) {
        for (depth, level) in (0..).zip(other.0) {
            self.at(depth).merge(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_deep_shares_the_last_row() {
        let mut levels = Levels::default();
        levels.at(u32::MAX).files += 1;
        levels.at(LEVELS_MAX as u32).files += 1;
        levels.at(LEVELS_MAX as u32 - 1).files += 1;
        levels.merge(levels.clone());
        assert_eq!(levels.rows().len(), LEVELS_MAX + 1);
        assert_eq!(levels.rows()[LEVELS_MAX].files, 4);
        assert_eq!(levels.rows()[LEVELS_MAX - 1].files, 2);
    }
}
