//! What the audit adds up: one value for a commit of a worker, for what a client merges, and for the whole.
//!
//! All sums stop at the largest number instead of overflowing, which keeps them independent of order.

use super::bins::{AGE_BINS, SIZE_BINS};
use super::cells::Cells;
use super::depth::Levels;
use super::extension::Extension;
use super::kept::Record;
use super::links::Links;
use super::table::Table;
use super::top::Top;
use hydra_proto::reduce::Summary;
use hydra_worker::PATH_START;
use serde::{Deserialize, Serialize};

/// Owners, and groups, that are told apart.
pub(super) const OWNERS_MAX: usize = 1 << 17;
/// Owners, and groups, whose largest files are listed.
pub(super) const LISTED_OWNERS_MAX: usize = 1000;
/// Extensions that are told apart.
pub(super) const EXTENSIONS_MAX: usize = 1 << 14;
/// Bytes kept of the path of a large file.
pub(super) const TOP_PATH_MAX: usize = PATH_START;
/// Bytes kept of the path of an owner's or group's large file.
pub(super) const OWNER_PATH_MAX: usize = 1024;
/// Bytes kept of the path of a directory that is extreme.
pub(super) const EXTREME_PATH_MAX: usize = PATH_START;

/// Bins of size within bins of age.
pub(super) type AgeCells = Cells<{ AGE_BINS * SIZE_BINS }>;
/// Sums by owner or by group.
pub(super) type Owners = Table<u32, Usage, OWNERS_MAX>;
/// Largest files by owner or by group.
pub(super) type OwnerTops = Table<u32, Top, LISTED_OWNERS_MAX>;

/// The summary of the audit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AuditSummary {
    /// Plain counters.
    pub(super) totals: Totals,
    /// Regular files by size.
    pub(super) sizes: Cells<SIZE_BINS>,
    /// Regular files by allocated bytes, and their sum of them.
    pub(super) allocated: Cells<SIZE_BINS>,
    /// Regular files by last access, then by size.
    pub(super) atime: AgeCells,
    /// Regular files by last change of the content, then by size.
    pub(super) mtime: AgeCells,
    /// Regular files by last change of the inode, then by size.
    pub(super) ctime: AgeCells,
    /// All entries by owner.
    pub(super) owners: Owners,
    /// All entries by group.
    pub(super) groups: Owners,
    /// Regular files by extension.
    pub(super) extensions: Table<Extension, FileUsage, EXTENSIONS_MAX>,
    /// The largest files.
    pub(super) largest: Top,
    /// The largest files of each owner.
    pub(super) largest_by_owner: OwnerTops,
    /// The largest files of each group.
    pub(super) largest_by_group: OwnerTops,
    /// All entries by depth.
    pub(super) levels: Levels,
    /// Directories that are extreme.
    pub(super) extremes: Extremes,
    /// Hard links that may have other names elsewhere.
    pub(super) links: Links,
}

impl Summary for AuditSummary {
    fn merge(&mut self, other: Self) {
        self.totals.merge(&other.totals);
        self.sizes.merge(other.sizes);
        self.allocated.merge(other.allocated);
        self.atime.merge(other.atime);
        self.mtime.merge(other.mtime);
        self.ctime.merge(other.ctime);
        self.owners.merge(other.owners);
        self.groups.merge(other.groups);
        self.extensions.merge(other.extensions);
        self.largest.merge(other.largest);
        self.largest_by_owner.merge(other.largest_by_owner);
        self.largest_by_group.merge(other.largest_by_group);
        self.levels.merge(other.levels);
        self.extremes.merge(other.extremes);
        self.links.merge(other.links);
    }
}

/// Counters, and the one place that knows how they are added.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) struct $name {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $name {
            /// Adds another one.
            pub(super) fn merge(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

counters! {
    /// Plain counters over the whole tree.
    Totals {
        /// Regular files.
        files,
        /// Sizes of regular files.
        bytes,
        /// Allocated blocks of regular files.
        file_blocks,
        /// Allocated blocks of all entries, each name of a hard link counted.
        blocks,
        /// Allocated blocks of entries that have no other name.
        single_blocks,
        /// Non-directories with several names.
        hard_linked,
        /// Regular files without content.
        empty_files,
        /// Regular files with less space allocated than their size.
        sparse_files,
        /// Sizes of those.
        sparse_bytes,
        /// Allocated blocks of those.
        sparse_blocks,
        /// Directories.
        directories,
        /// Directories that are no root.
        directories_below_roots,
        /// Directories that contain directories.
        parent_directories,
        /// Sum of the depths of all directories.
        directory_depths,
        /// Symbolic links to something below the root that is no directory.
        symlinks_to_files,
        /// Symbolic links to directories below the root.
        symlinks_to_directories,
        /// Symbolic links to nothing.
        symlinks_dangling,
        /// Symbolic links that lead elsewhere.
        symlinks_elsewhere,
        /// Regular files that run with their owner's rights.
        setuid_files,
        /// Regular files that run with their group's rights.
        setgid_files,
        /// Regular files that anybody may change.
        world_writable_files,
        /// Directories that anybody may change, without the sticky bit.
        world_writable_directories,
    }
}

counters! {
    /// What an owner or a group has.
    Usage {
        /// Entries of any type.
        entries,
        /// Regular files among them.
        files,
        /// Sizes of the regular files.
        bytes,
        /// Allocated blocks of all entries.
        blocks,
    }
}

impl Summary for Usage {
    fn merge(&mut self, other: Self) {
        Self::merge(self, &other);
    }
}

counters! {
    /// What regular files of one kind take.
    FileUsage {
        /// How many they are.
        files,
        /// Their sizes.
        bytes,
        /// Their allocated blocks.
        blocks,
    }
}

impl Summary for FileUsage {
    fn merge(&mut self, other: Self) {
        Self::merge(self, &other);
    }
}

/// A directory that is extreme in some way.
pub(super) type Extreme = Record<EXTREME_PATH_MAX>;

/// Directories that are extreme in some way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extremes {
    /// The deepest one.
    pub deepest: Extreme,
    /// The one with the most subdirectories.
    pub widest: Extreme,
    /// The one with the most entries.
    pub fullest: Extreme,
    /// The one with the most non-directories.
    pub most_files: Extreme,
}

impl Extremes {
    fn merge(&mut self, other: Self) {
        self.deepest.merge(other.deepest);
        self.widest.merge(other.widest);
        self.fullest.merge(other.fullest);
        self.most_files.merge(other.most_files);
    }
}
