//! The half of the audit that runs in workers: adds every entry to the summary of the next commit.
//!
//! Everything here is paid for each entry, so there is no allocation, no clock and no path unless an entry
//! may get into a list.

use super::bins::{SIZE_BINS, age_bin, size_bin};
use super::depth::row;
use super::extension::Extension;
use super::links::Link;
use super::summary::{AuditSummary, Extreme, OWNER_PATH_MAX, TOP_PATH_MAX};
use super::top::FileFacts;
use hydra_worker::{
    Dir, Entry, Facts, FileType, Listing, PATH_START, Sink, Stat, Target, Visit, Wants,
};

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const WORLD_WRITABLE: u32 = 0o0002;

/// The visitor.
#[derive(Debug)]
pub struct AuditVisit {
    reference: i64,
    top: u32,
    top_per_owner: u32,
    bars: Bars,
    /// A buffer for paths.
    path: Vec<u8>,
}

/// What an entry has to reach to get into a list. What is handed over with one commit counts if what comes with a later
/// one does, so nothing needs to be named again that is less than what was named before.
#[derive(Debug, Default)]
struct Bars {
    top: u64,
    deepest: u64,
    widest: u64,
    fullest: u64,
    most_files: u64,
    /// Of each level.
    largest: Vec<u64>,
}

impl Bars {
    /// Of the largest directory of the level at this depth.
    #[inline]
    fn largest(&self, depth: u32) -> u64 {
        self.largest.get(row(depth)).copied().unwrap_or(0)
    }

    /// They are as high as what was found now.
    fn raise(&mut self, sum: &AuditSummary) {
        let extremes = &sum.extremes;
        for (bar, found) in [
            (&mut self.top, sum.largest.bar()),
            (&mut self.deepest, extremes.deepest.bar()),
            (&mut self.widest, extremes.widest.bar()),
            (&mut self.fullest, extremes.fullest.bar()),
            (&mut self.most_files, extremes.most_files.bar()),
        ] {
            *bar = found.max(*bar);
        }
        let levels = sum.levels.rows();
        if self.largest.len() < levels.len() {
            self.largest.resize(levels.len(), 0);
        }
        for (bar, level) in self.largest.iter_mut().zip(levels) {
            *bar = level.largest.bar().max(*bar);
        }
    }
}

impl AuditVisit {
    /// A visitor that tells ages as seen from `reference`, in seconds since 1970, and lists the `top` largest
    /// files, and `top_per_owner` for each owner and group.
    pub fn new(reference: i64, top: u32, top_per_owner: u32) -> Self {
        Self {
            reference,
            top,
            top_per_owner,
            bars: Bars::default(),
            path: Vec::new(),
        }
    }

    #[inline]
    fn file(&mut self, entry: &Entry<'_>, sum: &mut AuditSummary) {
        let stat = entry.stat;
        count_file(stat, sum);
        let size = size_bin(stat.size);
        let allocated = stat.blocks.saturating_mul(512);
        sum.sizes.add(size, stat.size);
        sum.allocated.add(size_bin(allocated), allocated);
        let bin = |time: (i64, u32)| age_bin(self.reference, time.0) * SIZE_BINS + size;
        sum.atime.add(bin(stat.atime), stat.size);
        sum.mtime.add(bin(stat.mtime), stat.size);
        sum.ctime.add(bin(stat.ctime), stat.size);
        let kind = sum.extensions.at(Extension::of(file_name(entry)));
        kind.files += 1;
        kind.bytes = kind.bytes.saturating_add(stat.size);
        kind.blocks = kind.blocks.saturating_add(stat.blocks);
        self.rank_file(entry, sum);
    }

    #[inline]
    fn rank_file(&mut self, entry: &Entry<'_>, sum: &mut AuditSummary) {
        let (size, per_owner) = (entry.stat.size, self.top_per_owner);
        let mut wanted = size >= self.bars.top && sum.largest.wants(self.top, size);
        if per_owner > 0 {
            let owner = sum.largest_by_owner.at(entry.stat.uid);
            wanted |= owner.wants(per_owner, size);
            let group = sum.largest_by_group.at(entry.stat.gid);
            wanted |= group.wants(per_owner, size);
        }
        if wanted {
            self.list_file(entry, sum);
        }
    }

    #[cold]
    fn list_file(&mut self, entry: &Entry<'_>, sum: &mut AuditSummary) {
        let Stat {
            size,
            blocks,
            uid,
            gid,
            ..
        } = *entry.stat;
        let facts = FileFacts {
            blocks,
            uid,
            gid,
            mtime: entry.stat.mtime.0,
        };
        write_shown(entry.dir, entry.name, &mut self.path);
        let (path, per_owner) = (&self.path, self.top_per_owner);
        if size >= self.bars.top && sum.largest.wants(self.top, size) {
            let top = &mut sum.largest;
            top.offer(self.top, TOP_PATH_MAX, size, path, &facts);
        }
        if per_owner == 0 {
            return;
        }
        for top in [sum.largest_by_owner.at(uid), sum.largest_by_group.at(gid)] {
            if top.wants(per_owner, size) {
                top.offer(per_owner, OWNER_PATH_MAX, size, path, &facts);
            }
        }
    }

    #[inline]
    fn directory(&mut self, entry: &Entry<'_>, sum: &mut AuditSummary) {
        let depth = entry.depth();
        let totals = &mut sum.totals;
        totals.directories += 1;
        totals.directories_below_roots += u64::from(depth > 0);
        totals.directory_depths += u64::from(depth);
        let open = entry.stat.mode & (WORLD_WRITABLE | STICKY) == WORLD_WRITABLE;
        totals.world_writable_directories += u64::from(open);
        let depth = u64::from(depth);
        if depth >= self.bars.deepest && sum.extremes.deepest.wants(depth) {
            write_shown(entry.dir, entry.name, &mut self.path);
            sum.extremes.deepest.offer(depth, &self.path);
        }
    }
}

impl Visit for AuditVisit {
    type Summary = AuditSummary;

    fn wants(&self) -> Wants {
        Wants {
            facts: Facts::ALL,
            targets: true,
            fs_id: true,
            ..Wants::default()
        }
    }

    #[inline]
    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<AuditSummary>) {
        let sum = &mut out.summary;
        let stat = entry.stat;
        let is_file = entry.file_type == FileType::File;
        let is_directory = entry.file_type == FileType::Directory;
        sum.totals.blocks = sum.totals.blocks.saturating_add(stat.blocks);
        if stat.nlink > 1 && !is_directory {
            count_link(entry, sum);
        } else {
            let single = &mut sum.totals.single_blocks;
            *single = single.saturating_add(stat.blocks);
        }
        let level = sum.levels.at(entry.depth());
        level.files += u64::from(is_file);
        level.directories += u64::from(is_directory);
        level.other += u64::from(!is_file && !is_directory);
        let file_bytes = if is_file { stat.size } else { 0 };
        level.bytes = level.bytes.saturating_add(file_bytes);
        let file_blocks = if is_file { stat.blocks } else { 0 };
        level.file_blocks = level.file_blocks.saturating_add(file_blocks);
        for usage in [sum.owners.at(stat.uid), sum.groups.at(stat.gid)] {
            usage.entries += 1;
            usage.files += u64::from(is_file);
            usage.bytes = usage.bytes.saturating_add(file_bytes);
            usage.blocks = usage.blocks.saturating_add(stat.blocks);
        }
        match entry.file_type {
            FileType::File => self.file(entry, sum),
            FileType::Directory => self.directory(entry, sum),
            FileType::Symlink => count_symlink(entry, sum),
            _ => {}
        }
    }

    fn listed(&mut self, dir: &Dir<'_>, listing: &Listing, out: &mut Sink<AuditSummary>) {
        let sum = &mut out.summary;
        let Listing {
            entries,
            directories,
            ..
        } = *listing;
        let files = entries.saturating_sub(directories);
        sum.totals.parent_directories += u64::from(directories > 0);
        let level = sum.levels.at(dir.depth);
        level.most_files = level.most_files.max(files);
        let (extremes, bars) = (&mut sum.extremes, &self.bars);
        let wants = |record: &Extreme, number: u64, bar: u64| {
            number > 0 && number >= bar && record.wants(number)
        };
        let fullest = wants(&extremes.fullest, entries, bars.fullest);
        let widest = wants(&extremes.widest, directories, bars.widest);
        let most_files = wants(&extremes.most_files, files, bars.most_files);
        let largest =
            entries > 0 && entries >= bars.largest(dir.depth) && level.largest.wants(entries);
        if !(fullest || largest || widest || most_files) {
            return;
        }
        write_shown(dir, b"", &mut self.path);
        if fullest {
            extremes.fullest.offer(entries, &self.path);
        }
        if largest {
            level.largest.offer(entries, &self.path);
        }
        if widest {
            extremes.widest.offer(directories, &self.path);
        }
        if most_files {
            extremes.most_files.offer(files, &self.path);
        }
    }

    fn flush(&mut self, out: &mut Sink<AuditSummary>) {
        self.bars.raise(&out.summary);
    }
}

#[inline]
fn count_file(stat: &Stat, sum: &mut AuditSummary) {
    let totals = &mut sum.totals;
    totals.files += 1;
    totals.bytes = totals.bytes.saturating_add(stat.size);
    totals.file_blocks = totals.file_blocks.saturating_add(stat.blocks);
    totals.empty_files += u64::from(stat.size == 0);
    if stat.blocks.saturating_mul(512) < stat.size {
        totals.sparse_files += 1;
        totals.sparse_bytes = totals.sparse_bytes.saturating_add(stat.size);
        totals.sparse_blocks = totals.sparse_blocks.saturating_add(stat.blocks);
    }
    if stat.mode & (SETUID | SETGID | WORLD_WRITABLE) != 0 {
        totals.setuid_files += u64::from(stat.mode & SETUID != 0);
        totals.setgid_files += u64::from(stat.mode & SETGID != 0);
        totals.world_writable_files += u64::from(stat.mode & WORLD_WRITABLE != 0);
    }
}

fn count_link(entry: &Entry<'_>, sum: &mut AuditSummary) {
    sum.totals.hard_linked += 1;
    sum.links.push(Link {
        fs: entry.fs,
        ino: entry.stat.ino,
        nlink: entry.stat.nlink,
        seen: 1,
        blocks: entry.stat.blocks,
    });
}

fn count_symlink(entry: &Entry<'_>, sum: &mut AuditSummary) {
    let totals = &mut sum.totals;
    match entry.target {
        Some(Target::File) => totals.symlinks_to_files += 1,
        Some(Target::Directory) => totals.symlinks_to_directories += 1,
        Some(Target::Dangling) => totals.symlinks_dangling += 1,
        Some(Target::Elsewhere) | None => totals.symlinks_elsewhere += 1,
    }
}

/// The name of an entry; for a root the last part of its path.
#[inline]
fn file_name<'a>(entry: &Entry<'a>) -> &'a [u8] {
    if entry.is_root() {
        let shown = entry.dir.root.path();
        shown.rsplit(|&byte| byte == b'/').next().unwrap_or(shown)
    } else {
        entry.name
    }
}

/// Writes the path of `name` in `dir` as results show it; that of `dir` itself if there is no name. Of a path longer
/// than [`PATH_START`], which is as much as is kept of any, it writes more than that, but perhaps not all: in a long
/// chain every directory ties with the one above it, and its path is as long as the chain.
fn write_shown(dir: &Dir<'_>, name: &[u8], path: &mut Vec<u8>) {
    path.clear();
    path.extend_from_slice(dir.root.path());
    let root = path.len();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    let below = path.len();
    dir.path.write_start(path);
    let is_root = path.len() == below;
    if name.is_empty() && is_root {
        path.truncate(root);
    } else if !name.is_empty() && path.len() <= PATH_START {
        if !is_root {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::ids::RootId;
    use hydra_proto::job::RootSpec;
    use hydra_worker::PathOf;

    struct Below(&'static str);

    impl PathOf for Below {
        fn write_path(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.as_bytes());
        }
    }

    #[test]
    fn paths_are_those_of_the_entry_itself() {
        for shown in ["/data", "/", "rel"] {
            let root = RootSpec {
                shown: shown.into(),
                ..RootSpec::default()
            };
            for below in ["", "a", "a/b"] {
                let dir = Dir {
                    root: &root,
                    root_id: RootId(0),
                    depth: 0,
                    fd: None,
                    path: &Below(below),
                };
                let mut path = Vec::new();
                write_shown(&dir, b"", &mut path);
                assert_eq!(path, dir.shown());
                let entry = Entry {
                    dir: &dir,
                    name: b"n",
                    file_type: FileType::File,
                    stat: &Stat::default(),
                    target: None,
                    fs: 0,
                };
                write_shown(&dir, b"n", &mut path);
                assert_eq!(path, entry.shown());
            }
        }
    }
}
