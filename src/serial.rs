//! The oracle: the same job in one thread, listed by `walkdir`, for tests, benchmarks and sceptics.
//!
//! It drives the same [`Visit`] as the workers do and follows the same rules (excludes, mounts, snapshot
//! directories, pseudo file systems, nested roots, symbolic links), but shares no code with their walk. It
//! gives up what makes that walk fast: every directory is opened anew from the root (in several steps where
//! its path is longer than the kernel takes, so that a chain of n directories costs n² look-ups), sorted by
//! nothing, and every fact comes from `std::fs`.
//!
//! Not here: leases of plugins that act, and the identity of file systems across hosts ([`Entry::fs`] is
//! the device number).

mod facts;
mod place;
mod rules;
mod target;

use crate::registry::PluginError;
use facts::{describe, io_error, stat_of, type_from, type_of};
use hydra_proto::ids::RootId;
use hydra_proto::item::PATH_BYTES_MAX;
use hydra_proto::job::{JobSpec, RootSpec};
use hydra_proto::reduce::ReduceError;
use hydra_proto::walk::{FileType, WalkError, WalkSummary};
use hydra_proto::words::words;
use hydra_worker::{Dir, Enter, Entry, Listing, PathOf, Sink, Stat, Summary, Target, Visit, Wants};
use place::{Root, child_path};
use rules::{DirRule, Rules};
use std::any::Any;
use std::fs::{File, Metadata};
use std::io;
use std::mem::take;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use walkdir::{DirEntry, WalkDir};

/// How many entries are shown to the plugin before what it found is taken from it.
const BATCH: u64 = 1 << 16;

/// What looks on while the walk runs.
pub struct Watch<'a> {
    /// Where output rows go.
    pub rows: Option<&'a mut dyn io::Write>,
    /// Called for every directory with the entries counted and the directories waiting.
    pub tick: &'a mut dyn FnMut(u64, u64),
    /// Ends the walk when it says so; asked for every directory.
    pub interrupt: &'a dyn Fn() -> bool,
}

/// What a serial walk came to, besides the plugin's total.
#[derive(Debug, Default)]
pub struct Walked {
    /// The walk's own counts.
    pub walk: WalkSummary,
    /// How many of the roots could be looked at.
    pub roots_walked: usize,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

/// Why a serial walk ended early. Errors in the tree are no reason.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// The plugin refuses its options.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The plugin's summary could not be kept.
    #[error(transparent)]
    Reduce(#[from] ReduceError),
    /// The output rows could not be written.
    #[error("the rows cannot be written: {}", words(.0))]
    Rows(#[source] io::Error),
    /// A glob of the job does not parse.
    #[error("the glob {0}")]
    Glob(#[from] globset::Error),
}

/// Walks all roots of `job`, and hands what the plugin adds up to `keep` from time to time.
///
/// # Errors
/// When results cannot be kept or written.
pub fn walk<V: Visit>(
    job: &JobSpec,
    visit: V,
    watch: &mut Watch<'_>,
    keep: &mut dyn FnMut(V::Summary) -> Result<(), ReduceError>,
) -> Result<Walked, SerialError> {
    let mut walker = Walker {
        rules: Rules::new(&job.walk)?,
        wants: visit.wants(),
        visit,
        sink: Sink::default(),
        walked: Walked::default(),
        unflushed: 0,
        keep,
        watch,
    };
    for (index, spec) in job.roots.iter().enumerate() {
        let id = RootId(u32::try_from(index).unwrap_or(u32::MAX));
        walker.root(id, spec)?;
    }
    walker.flush()?;
    Ok(walker.walked)
}

/// A directory that is still to be walked.
struct Pending {
    path: Vec<u8>,
    depth: u32,
    dev: u64,
}

/// A path below a root, as the plugin is shown it.
struct Below<'a>(&'a [u8]);

impl PathOf for Below<'_> {
    fn write_path(&self, out: &mut Vec<u8>) {
        self.0.write_path(out);
    }

    fn write_start(&self, out: &mut Vec<u8>) {
        self.0.write_start(out);
    }
}

struct Walker<'a, 'w, V: Visit> {
    rules: Rules,
    wants: Wants,
    visit: V,
    sink: Sink<V::Summary>,
    walked: Walked,
    unflushed: u64,
    keep: &'a mut dyn FnMut(V::Summary) -> Result<(), ReduceError>,
    watch: &'a mut Watch<'w>,
}

impl<V: Visit> Walker<'_, '_, V> {
    fn root(&mut self, id: RootId, spec: &RootSpec) -> Result<(), SerialError> {
        let (root, metadata) = match Root::open(spec) {
            Ok(opened) => opened,
            Err(error) => {
                self.error(spec.shown.clone(), "open", &error);
                return Ok(());
            }
        };
        self.walked.roots_walked += 1;
        let file_type = type_of(&metadata);
        let directory = file_type == FileType::Directory;
        if spec.should_be_directory() && !directory {
            // Given with a slash and without: the one counts, the other is an error.
            let code = match file_type {
                FileType::Symlink => nix::libc::ENOENT,
                _ => nix::libc::ENOTDIR,
            };
            self.error(
                spec.shown.clone(),
                "open",
                &io::Error::from_raw_os_error(code),
            );
        }
        let target = match file_type {
            FileType::Symlink if self.wants.targets => Some(target::of_root(&spec.local)),
            _ => None,
        };
        let place = Dir {
            root: spec,
            root_id: id,
            depth: 0,
            fd: directory.then(|| root.handle.as_fd()),
            path: &Below(b""),
            slot: None,
        };
        self.show(&place, b"", file_type, Some(&metadata), target);
        if directory {
            let dev = metadata.dev();
            self.tree(id, &root, dev)?;
        }
        Ok(())
    }

    fn tree(&mut self, id: RootId, root: &Root<'_>, dev: u64) -> Result<(), SerialError> {
        let path = Vec::new();
        let mut stack = vec![Pending {
            path,
            depth: 0,
            dev,
        }];
        while let Some(next) = stack.pop() {
            if (self.watch.interrupt)() {
                self.walked.interrupted = true;
                return Ok(());
            }
            self.directory(id, root, &next, &mut stack);
            self.after_directory(stack.len() as u64)?;
        }
        Ok(())
    }

    fn directory(&mut self, id: RootId, root: &Root<'_>, at: &Pending, stack: &mut Vec<Pending>) {
        if at.path.len() > PATH_BYTES_MAX {
            let error = io::Error::from_raw_os_error(nix::libc::ENAMETOOLONG);
            return self.fail(root, &at.path, "open", &error);
        }
        let file = match root.open_dir(&at.path) {
            Ok(file) => file,
            Err(error) => return self.fail(root, &at.path, "open", &error),
        };
        let dir = Dir {
            root: root.spec,
            root_id: id,
            depth: at.depth,
            fd: Some(file.as_fd()),
            path: &Below(&at.path),
            slot: None,
        };
        match self.guarded(|visit, sink| visit.enter(&dir, sink)) {
            Ok(Enter::Walk) => {}
            Ok(Enter::Skip) => return,
            Err(panic) => return self.panicked(dir.shown(), &*panic),
        }
        let found = stack.len();
        if let Some(listing) = self.entries(root, at, &dir, &file, stack) {
            self.leave(&dir, &listing);
        }
        // What was found first is walked first.
        stack[found..].reverse();
    }

    /// Shows the entries of a directory; nothing if the listing failed on the way.
    fn entries(
        &mut self,
        root: &Root<'_>,
        at: &Pending,
        dir: &Dir<'_>,
        file: &File,
        stack: &mut Vec<Pending>,
    ) -> Option<Listing> {
        let mut listing = Listing::default();
        let mut list = WalkDir::new(place::proc_path(file))
            .min_depth(1)
            .max_depth(1);
        if self.wants.acts {
            // What is sorted is read to its end first.
            list = list.sort_by_file_name();
        }
        for entry in list {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.fail(root, &at.path, "list", &io_error(&error));
                    return None;
                }
            };
            listing.entries += 1;
            listing.directories += u64::from(entry.file_type().is_dir());
            if let Some(below) = self.one(root, at, dir, &entry) {
                stack.push(below);
            }
        }
        Some(listing)
    }

    /// Shows one entry. Returns the directory to walk, if it is one.
    fn one(
        &mut self,
        root: &Root<'_>,
        at: &Pending,
        dir: &Dir<'_>,
        entry: &DirEntry,
    ) -> Option<Pending> {
        let name = entry.file_name().as_bytes();
        let path = child_path(&at.path, name);
        let listed = type_from(entry.file_type());
        if root.spec.stops_at(&path, listed == FileType::Directory) {
            return None;
        }
        if self.rules.excludes(&path) {
            self.sink.walk.excluded += 1;
            return None;
        }
        let metadata = match self.metadata(entry, listed) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.unreadable(root, &path, listed, &error);
                return None;
            }
        };
        let file_type = metadata.as_ref().map_or(listed, type_of);
        let target = match file_type {
            FileType::Symlink if self.wants.targets => match target::of(root, at, name) {
                Ok(target) => Some(target),
                Err(error) => {
                    self.fail(root, &path, "readlink", &error);
                    Some(Target::Elsewhere)
                }
            },
            _ => None,
        };
        self.show(dir, name, file_type, metadata.as_ref(), target);
        let metadata = metadata.filter(|_| file_type == FileType::Directory)?;
        self.below(root, at, path, &metadata)
    }

    /// The facts, where the plugin or the rules need any.
    fn metadata(&self, entry: &DirEntry, listed: FileType) -> io::Result<Option<Metadata>> {
        let wanted = !self.wants.facts.is_type_only() || self.wants.fs_id;
        if !wanted && !matches!(listed, FileType::Directory | FileType::Unknown) {
            return Ok(None);
        }
        entry.metadata().map(Some).map_err(|error| io_error(&error))
    }

    /// Counts an entry whose facts could not be read.
    fn unreadable(&mut self, root: &Root<'_>, path: &[u8], listed: FileType, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            self.sink.walk.vanished += 1;
            return;
        }
        self.sink.walk.count(listed);
        // A plugin that wants no facts hears of such a directory when it cannot be opened.
        let operation = match self.wants.facts.is_type_only() {
            true => "open",
            false => "stat",
        };
        self.fail(root, path, operation, error);
    }

    /// Whether to walk a directory that was found.
    fn below(
        &mut self,
        root: &Root<'_>,
        at: &Pending,
        path: Vec<u8>,
        metadata: &Metadata,
    ) -> Option<Pending> {
        let mounted = metadata.dev() != at.dev;
        let fs_type = || root.open_dir(&path).and_then(|dir| rules::fs_type(&dir));
        match self.rules.directory(&path, mounted, fs_type) {
            DirRule::Walk => Some(Pending {
                path,
                depth: at.depth.saturating_add(1),
                dev: metadata.dev(),
            }),
            DirRule::Mount => {
                self.sink.walk.skipped_mounts += 1;
                None
            }
            DirRule::Snapshot => {
                self.sink.walk.skipped_snapshots += 1;
                None
            }
            DirRule::Pseudo(kind) => {
                let count = &mut self.sink.walk.skipped_pseudo;
                *count.entry(kind.to_owned()).or_default() += 1;
                None
            }
        }
    }

    /// Counts an entry and shows it to the plugin.
    fn show(
        &mut self,
        dir: &Dir<'_>,
        name: &[u8],
        file_type: FileType,
        metadata: Option<&Metadata>,
        target: Option<Target>,
    ) {
        self.unflushed += 1;
        self.sink.walk.count(file_type);
        let stat = metadata.map_or_else(Stat::default, |metadata| {
            stat_of(metadata, self.wants.facts)
        });
        let linked = metadata.filter(|metadata| self.wants.fs_id && metadata.nlink() > 1);
        let entry = Entry {
            dir,
            name,
            file_type,
            stat: &stat,
            target,
            fs: linked.map_or(0, MetadataExt::dev),
        };
        if let Err(panic) = self.guarded(|visit, sink| visit.entry(&entry, sink)) {
            self.panicked(entry.shown(), &*panic);
        }
    }

    fn leave(&mut self, dir: &Dir<'_>, listing: &Listing) {
        if let Err(panic) = self.guarded(|visit, sink| visit.listed(dir, listing, sink)) {
            self.panicked(dir.shown(), &*panic);
        }
        if self.wants.leave
            && let Err(panic) = self.guarded(|visit, sink| visit.leave(dir, sink))
        {
            self.panicked(dir.shown(), &*panic);
        }
    }

    fn guarded<T>(
        &mut self,
        call: impl FnOnce(&mut V, &mut Sink<V::Summary>) -> T,
    ) -> Result<T, Box<dyn Any + Send>> {
        let (visit, sink) = (&mut self.visit, &mut self.sink);
        catch_unwind(AssertUnwindSafe(|| call(visit, sink)))
    }

    fn panicked(&mut self, path: Vec<u8>, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = text.unwrap_or("the plugin panicked");
        let error = WalkError::new(&path, "visit", "PANIC", message);
        self.sink.walk.fail(error);
    }

    fn fail(&mut self, root: &Root<'_>, path: &[u8], operation: &str, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            self.sink.walk.vanished += 1;
            return;
        }
        self.error(root.spec.show(path), operation, error);
    }

    fn error(&mut self, path: Vec<u8>, operation: &str, error: &io::Error) {
        let (kind, message) = describe(error);
        let error = WalkError::new(&path, operation, &kind, &message);
        self.sink.walk.fail(error);
    }

    fn after_directory(&mut self, waiting: u64) -> Result<(), SerialError> {
        if self.unflushed >= BATCH || !self.sink.rows.is_empty() {
            self.flush()?;
        }
        let counted = self.walked.walk.entries + self.sink.walk.entries;
        (self.watch.tick)(counted, waiting);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SerialError> {
        self.unflushed = 0;
        self.visit.flush(&mut self.sink);
        self.walked.walk.merge(take(&mut self.sink.walk));
        (self.keep)(take(&mut self.sink.summary))?;
        let rows = take(&mut self.sink.rows);
        match &mut self.watch.rows {
            Some(out) => out.write_all(&rows).map_err(SerialError::Rows),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
