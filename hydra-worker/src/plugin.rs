//! The half of a plugin that runs in workers.

use crate::entry::{Dir, Entry};
use crate::errno;
use crate::lease::Lease;
use crate::rows::{COMMIT_ROWS_MAX, ENTRY_ROWS_MAX, Outlet, ROWS_BYTES_MAX};
use hydra_proto::item::Listing;
use hydra_proto::reduce::Summary;
use hydra_proto::segment::Segment;
use hydra_proto::walk::{WalkError, WalkSummary};
use serde::Serialize;
use std::ops::BitOr;
use std::sync::Arc;

/// Which facts the walk must find out about each entry. What is not asked for costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts(u32);

impl Facts {
    /// Only the type, which directories give with the name.
    pub const TYPE: Self = Self(0);
    /// `size`.
    pub const SIZE: Self = Self(1);
    /// `blocks`.
    pub const BLOCKS: Self = Self(1 << 1);
    /// `uid` and `gid`.
    pub const OWNER: Self = Self(1 << 2);
    /// `mode`.
    pub const MODE: Self = Self(1 << 3);
    /// `nlink`, `ino` and `dev`.
    pub const LINKS: Self = Self(1 << 4);
    /// `atime`.
    pub const ATIME: Self = Self(1 << 5);
    /// `mtime`.
    pub const MTIME: Self = Self(1 << 6);
    /// `ctime`.
    pub const CTIME: Self = Self(1 << 7);
    /// All of the above.
    pub const ALL: Self = Self(0xff);

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no system call per entry is needed.
    #[must_use]
    pub const fn is_type_only(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Facts {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a plugin needs from the walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Facts about each entry.
    pub facts: Facts,
    /// Where symbolic links lead.
    pub targets: bool,
    /// The identity of the file system of entries with several links ([`Entry::fs`]).
    pub fs_id: bool,
    /// Never split a directory: all its entries are shown to one visitor, in one piece.
    pub whole_directories: bool,
    /// Call [`Visit::leave`].
    pub leave: bool,
    /// The plugin changes the tree: list each directory to its end before the first of its entries is
    /// shown. Workers act under a lease.
    pub acts: bool,
}

/// What to do with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enter {
    /// Walk it.
    Walk,
    /// Do not read it. It is counted as an entry all the same.
    Skip,
}

/// What is done with each entry: one value lives in each worker, is used by one thread, and may keep
/// buffers. Everything that it finds goes into the [`Sink`].
///
/// For a directory that nothing splits, the calls are `enter`, `entry` for each of its entries, `listed`,
/// `leave`. A split directory gets the same calls, but from several workers: `enter` once, `entry` once for
/// each entry, `listed` once, and `leave` once, after all others.
pub trait Visit: Send + 'static {
    /// What it adds up.
    type Summary: Summary;

    /// What it needs from the walk: the same whenever it is asked.
    fn wants(&self) -> Wants;

    /// A directory is about to be read.
    fn enter(&mut self, _dir: &Dir<'_>, _out: &mut Sink<Self::Summary>) -> Enter {
        Enter::Walk
    }

    /// An entry of a directory, or a root. Directories are shown here too, before they are entered.
    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Self::Summary>);

    /// For plugins that act, where intents are put on record (`--intent`): whether the plugin is going to act on this
    /// entry. Those of which it says so are put on the server's record, and are shown to [`Visit::entry`] only when
    /// they are there, with their facts as they are by then; the others at once, and the plugin may not act on them.
    /// Must depend on nothing but the entry and the options.
    fn intends(&mut self, _entry: &Entry<'_>) -> bool {
        true
    }

    /// For plugins that act: an entry that is on record by its name, and that is gone now. [`Sink::again`] says whether
    /// a worker may have acted on it that was lost before it could say so; if not, then somebody else removed it, and
    /// the plugin has said that it intends to act on it. All that is known is the name, and the type as the directory
    /// gave it, which may be unknown. Counted as vanished, whatever the plugin does.
    fn gone(&mut self, _entry: &Entry<'_>, _out: &mut Sink<Self::Summary>) {}

    /// The listing of a directory has been read to its end.
    fn listed(&mut self, _dir: &Dir<'_>, _listing: &Listing, _out: &mut Sink<Self::Summary>) {}

    /// All entries of a directory have been shown (not those of its subdirectories).
    fn leave(&mut self, _dir: &Dir<'_>, _out: &mut Sink<Self::Summary>) {}

    /// A commit is about to be cut: what was kept in buffers must go into the sink now. What this visitor handed over
    /// with earlier commits counts whenever what it hands over with later ones does.
    fn flush(&mut self, _out: &mut Sink<Self::Summary>) {}
}

/// Why rows were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Those of one entry are too many.
    Entry,
    /// Those of one commit are, which could not be cut before.
    Commit,
}

/// Takes what a plugin finds until the next commit.
#[derive(Debug, Default)]
pub struct Sink<S> {
    /// The plugin's summary since the last commit.
    pub summary: S,
    /// The walk's own counts since the last commit.
    pub walk: WalkSummary,
    /// Rows since the last commit: lines of JSON.
    pub rows: Vec<u8>,
    lease: Option<Arc<Lease>>,
    again: bool,
    barred: bool,
    outlet: Outlet,
    /// Where the rows of the call in progress begin.
    begun: usize,
    /// Rows were left out, and nobody has been told yet.
    overflow: Option<Overflow>,
    /// No more rows go into this commit.
    crowded: bool,
    /// Why rows cannot be kept.
    failure: Option<String>,
}

impl<S> Sink<S> {
    /// Adds an output row, which is written when the commit that carries it has been applied. A row that
    /// cannot be written as JSON is counted as an error of its plugin.
    pub fn row<T: Serialize>(&mut self, row: &T) {
        let start = self.rows.len();
        match serde_json::to_writer(&mut self.rows, row) {
            Ok(()) => {
                self.rows.push(b'\n');
                self.relieve();
            }
            Err(error) => {
                self.rows.truncate(start);
                let message = error.to_string();
                self.walk.fail(WalkError::new(b"", "row", "JSON", &message));
            }
        }
    }

    /// Reports that `operation` failed on the entry that results show as `path`. Counted, listed, and seen
    /// in the exit status; the walk goes on.
    pub fn fail(&mut self, path: Vec<u8>, operation: &str, error: &std::io::Error) {
        match error.raw_os_error() {
            Some(code) => self.fail_as(path, operation, &errno::name(code), errno::message(code)),
            None => self.fail_as(path, operation, "OTHER", error.to_string()),
        }
    }

    /// The same for what is no error of the operating system: `kind` is a fixed word, which reports count by. Of a long
    /// path or message its beginning is kept.
    pub fn fail_as(&mut self, path: Vec<u8>, operation: &str, kind: &str, message: String) {
        let error = WalkError::new(&path, operation, kind, &message);
        self.walk.fail(error);
    }

    /// To be called before each change to the tree. Waits while this worker's lease has run out; `false` means
    /// that it must not act now: because it will never act again, or because what is shown is not on record as
    /// something to act on (`--intent`).
    #[must_use]
    pub fn may_act(&self) -> bool {
        !self.barred && self.lease.as_ref().is_none_or(|lease| lease.wait())
    }

    /// Whether a worker that was lost may have acted on this entry already. Without `--intent` that is known only in
    /// large directories, and `false` says nothing elsewhere.
    #[must_use]
    pub fn again(&self) -> bool {
        self.again
    }

    /// Where rows go that are too many for a commit.
    pub(crate) fn set_outlet(&mut self, outlet: Outlet) {
        self.outlet = outlet;
    }

    /// Whether there are so many rows that a commit is due.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() > ROWS_BYTES_MAX
    }

    /// Moves rows out of memory, or leaves some out, where they are too many. Says whether some were left out since
    /// [`Sink::take_overflow`].
    #[inline]
    pub(crate) fn relieve(&mut self) -> bool {
        if self.rows.len() > ROWS_BYTES_MAX {
            self.move_rows();
        }
        self.overflow.is_some()
    }

    /// The plugin is about to be called for the next entry.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.begun = self.rows.len();
    }

    #[cold]
    fn move_rows(&mut self) {
        match &mut self.outlet {
            Outlet::Unlimited => {}
            Outlet::Commits if self.crowded => self.rows.truncate(self.begun),
            Outlet::Commits => {
                let entry = self.begun + ENTRY_ROWS_MAX;
                if self.rows.len() > entry.min(COMMIT_ROWS_MAX) {
                    self.cut_rows(entry.min(COMMIT_ROWS_MAX));
                    self.crowded = COMMIT_ROWS_MAX < entry;
                    if self.crowded {
                        self.begun = self.rows.len();
                    }
                    self.overflow = Some(match self.crowded {
                        true => Overflow::Commit,
                        false => Overflow::Entry,
                    });
                }
            }
            Outlet::Segments(segments) => {
                if self.failure.is_none() {
                    self.failure = segments.write(&self.rows).err();
                }
                self.rows.clear();
                self.begun = 0;
            }
        }
    }

    /// Keeps whole rows of so many bytes.
    fn cut_rows(&mut self, most: usize) {
        let kept = self.rows.get(..most).unwrap_or_default();
        let whole = kept.iter().rposition(|&byte| byte == b'\n');
        self.rows.truncate(whole.map_or(0, |last| last + 1));
    }

    pub(crate) fn take_overflow(&mut self) -> Option<Overflow> {
        self.overflow.take()
    }

    /// The rows that a commit takes along.
    pub(crate) fn take_rows(&mut self) -> Vec<u8> {
        (self.begun, self.crowded) = (0, false);
        std::mem::take(&mut self.rows)
    }

    /// # Errors
    /// When rows could not be kept: the worker cannot go on.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// A commit is about to be cut: what it will name of segments is where it belongs. `false` if the session is over.
    ///
    /// # Errors
    /// As [`Sink::check`].
    pub(crate) fn settle(&mut self) -> Result<bool, String> {
        self.check()?;
        let Outlet::Segments(segments) = &mut self.outlet else {
            return Ok(true);
        };
        if segments.wants(self.rows.len()) {
            segments.write(&self.rows)?;
            self.rows.clear();
            self.begun = 0;
        }
        segments.settle()
    }

    /// What the commit names.
    pub(crate) fn take_segments(&mut self) -> Vec<Segment> {
        match &mut self.outlet {
            Outlet::Segments(segments) => segments.take(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn set_again(&mut self, again: bool) {
        self.again = again;
    }

    /// Says whether what is shown from now on must not be acted on; returns what was said before.
    pub(crate) fn bar(&mut self, barred: bool) -> bool {
        std::mem::replace(&mut self.barred, barred)
    }

    pub(crate) fn set_lease(&mut self, lease: Arc<Lease>) {
        self.lease = Some(lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_no_json_leaves_nothing_behind() {
        let mut sink = Sink::<()>::default();
        sink.row(&"good");
        let bad = std::collections::BTreeMap::from([((1, 2), 3)]);
        sink.row(&bad);
        assert_eq!(sink.rows, b"\"good\"\n");
        assert_eq!(sink.walk.errors["JSON"], 1);
    }

    /// Adds so many bytes of rows in one call.
    fn add(sink: &mut Sink<()>, bytes: usize) -> Option<Overflow> {
        sink.begin();
        for _ in 0..bytes >> 10 {
            sink.row(&"x".repeat((1 << 10) - 3));
        }
        sink.take_overflow()
    }

    fn limited() -> Sink<()> {
        let mut sink = Sink::default();
        sink.set_outlet(Outlet::Commits);
        sink
    }

    #[test]
    fn rows_of_many_entries_added_up_to_the_limit_of_one() {
        let mut sink = limited();
        assert_eq!(add(&mut sink, 5 << 20), None);
        assert_eq!(add(&mut sink, 5 << 20), None);
        assert_eq!(sink.rows.len(), COMMIT_ROWS_MAX);
    }

    #[test]
    fn an_entry_with_too_many_rows_keeps_as_many_as_it_may_have() {
        let mut sink = limited();
        assert_eq!(add(&mut sink, 1 << 20), None);
        assert_eq!(add(&mut sink, 30 << 20), Some(Overflow::Entry));
        assert_eq!(sink.rows.len(), (1 << 20) + ENTRY_ROWS_MAX);
        assert_eq!(add(&mut sink, 1 << 10), None);
    }

    #[test]
    fn a_commit_that_is_full_is_one_error_until_it_is_cut() {
        let mut sink = limited();
        assert_eq!(add(&mut sink, 7 << 20), None);
        assert_eq!(add(&mut sink, 7 << 20), Some(Overflow::Commit));
        assert_eq!(add(&mut sink, 7 << 20), None);
        assert_eq!(sink.take_rows().len(), COMMIT_ROWS_MAX);
        assert_eq!(add(&mut sink, 7 << 20), None);
        assert_eq!(sink.rows.len(), 7 << 20);
    }

    #[test]
    fn errors_of_system_calls_have_names() {
        let mut sink = Sink::<()>::default();
        sink.fail(
            b"/x".to_vec(),
            "unlink",
            &std::io::Error::from_raw_os_error(13),
        );
        assert_eq!(sink.walk.errors["EACCES"], 1);
    }
}
