//! Where a worker's rows go that are too many for a commit: into segments.
//!
//! ```text
//!   sink ──more than a commit should carry──► segment ──┬── a file in the directory for rows, if this host has it
//!                                                       └── pieces to the server, which writes that file
//!   commit: so many bytes of these segments count
//! ```
//!
//! A commit is cut only when what it names is where it belongs. What a worker wrote and no commit named is nobody's;
//! the server removes it at the end. Which commits are cut, and when, is decided elsewhere.

use crate::shared::{Ledger, Shared};
use crate::sys::slot::{Call, Slot};
use crate::sys::{Errno, retry};
use hydra_proto::frame::FRAME_BYTES_MAX;
use hydra_proto::item::{PARCEL_NAMES_MAX, PATH_BYTES_MAX};
use hydra_proto::message::{Rows, Up};
use hydra_proto::segment::{PIECE_BYTES, RowsDir, SEGMENT_BYTES, Segment, SegmentId};
use hydra_proto::walk::WALK_BYTES_MAX;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fdatasync, fsync, openat, openat2};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

/// More rows than that do not stay in memory, nor go into a commit, where there are segments.
pub(crate) const ROWS_BYTES_MAX: usize = 1 << 20;
/// Fewer rows than that go into the commit even where there are segments.
const ROWS_BYTES_FEW: usize = 64 << 10;
/// What the rows of one entry may come to where there are no segments.
pub(crate) const ENTRY_ROWS_MAX: usize = 8 << 20;
/// The same for all rows of a commit: those of the largest entry behind as many as make a commit due, and some more
/// where it cannot be cut at once.
pub(crate) const COMMIT_ROWS_MAX: usize = 10 << 20;
/// What a commit may have found, rows and summary together. With the walk's own summary, and as much of its lists as
/// travels in the same message (a part of 1 MiB, or one parcel of a path and its names), it must fit into a frame.
pub(crate) const RESULT_BYTES_MAX: usize = 11 << 20;
/// The longest path, and the longest names and what goes with each of them.
const LISTS_BYTES_MAX: usize = PATH_BYTES_MAX + PARCEL_NAMES_MAX * 272;
const _: () = assert!(RESULT_BYTES_MAX + WALK_BYTES_MAX + LISTS_BYTES_MAX < FRAME_BYTES_MAX);
/// Pieces that may be on their way to the server.
const PIECES_MAX: u64 = 2;

/// What becomes of rows before a commit takes them.
#[derive(Debug, Default)]
pub(crate) enum Outlet {
    /// They stay where they are.
    #[default]
    Unlimited,
    /// They stay, up to [`ENTRY_ROWS_MAX`] and [`COMMIT_ROWS_MAX`].
    Commits,
    /// Many go into segments.
    Segments(Box<Segments>),
}

impl Outlet {
    /// How rows of this job leave its worker with this session.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        rows: Option<&RowsDir>,
        slot: Option<Arc<Slot>>,
    ) -> Self {
        let Some(rows) = rows else {
            return Self::Commits;
        };
        let epoch = shared.lock().uplink.epoch();
        let worker = epoch.map_or(0, |epoch| epoch.number);
        Self::Segments(Box::new(Segments {
            shared: Arc::clone(shared),
            place: Place::new(rows, slot),
            worker,
            number: 0,
            at: 0,
            news: Vec::new(),
        }))
    }
}

/// The segments of one worker: one after the other.
pub(crate) struct Segments {
    shared: Arc<Shared>,
    place: Place,
    worker: u64,
    number: u32,
    /// The bytes of the present segment.
    at: u64,
    /// What no commit has named yet.
    news: Vec<Segment>,
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Segments").field(&self.news).finish()
    }
}

/// Who writes segments.
enum Place {
    /// This worker.
    Here(Box<Here>),
    /// The server.
    Server {
        /// Pieces that were sent.
        sent: u64,
    },
}

impl Segments {
    /// Whether so many rows should be in a segment when a commit is cut.
    pub(crate) fn wants(&self, bytes: usize) -> bool {
        matches!(self.place, Place::Here(_)) && bytes >= ROWS_BYTES_FEW
    }

    /// Writes rows behind those that are there. Waits for the server where that has to write them.
    ///
    /// # Errors
    /// When the worker cannot go on: nobody knows what has become of rows that no commit has named yet.
    pub(crate) fn write(&mut self, rows: &[u8]) -> Result<(), String> {
        if self.at >= SEGMENT_BYTES {
            self.next()?;
        }
        if let Place::Here(here) = &mut self.place {
            match here.write(self.worker, self.number, self.at, rows) {
                Ok(()) => {
                    self.note(rows.len());
                    return Ok(());
                }
                Err(Trouble::Fatal(text)) => return Err(text),
                Err(Trouble::Elsewhere(text)) => {
                    self.warn(&text);
                    self.next()?;
                    self.place = Place::Server { sent: 0 };
                }
            }
        }
        self.send(rows)
    }

    /// Everything that was written is where it belongs. `false` if the session is over.
    ///
    /// # Errors
    /// As [`Segments::write`].
    pub(crate) fn settle(&mut self) -> Result<bool, String> {
        match &mut self.place {
            Place::Here(here) => here.sync().map(|()| true),
            Place::Server { sent } => {
                let sent = *sent;
                let shared = &self.shared;
                Ok(!wait_for(shared, shared.lock(), sent).over)
            }
        }
    }

    /// What the next commit has to name.
    pub(crate) fn take(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.news)
    }

    /// Begins another segment.
    fn next(&mut self) -> Result<(), String> {
        if let Place::Here(here) = &mut self.place {
            here.sync()?;
            here.file = None;
        }
        (self.number, self.at) = (self.number + 1, 0);
        Ok(())
    }

    fn note(&mut self, more: usize) {
        self.at += more as u64;
        let (worker, number, bytes) = (self.worker, self.number, self.at);
        self.news.retain(|segment| segment.number != number);
        self.news.push(Segment {
            worker,
            number,
            bytes,
        });
    }

    fn send(&mut self, rows: &[u8]) -> Result<(), String> {
        for piece in rows.chunks(PIECE_BYTES) {
            let Place::Server { sent } = &mut self.place else {
                return Ok(());
            };
            let shared = Arc::clone(&self.shared);
            let mut ledger = wait_for(
                &shared,
                shared.lock(),
                (*sent + 1).saturating_sub(PIECES_MAX),
            );
            if ledger.over {
                return Ok(());
            }
            *sent += 1;
            ledger.uplink.send(Up::Rows(Rows {
                worker: self.worker,
                number: self.number,
                at: self.at,
                bytes: piece.to_vec(),
            }));
            drop(ledger);
            shared.wake();
            self.note(piece.len());
        }
        Ok(())
    }

    fn warn(&self, text: &str) {
        tracing::warn!("{text}");
        let mut ledger = self.shared.lock();
        ledger.uplink.send(Up::Warning(text.to_owned()));
        drop(ledger);
        self.shared.wake();
    }
}

/// Waits until the server has so many pieces, or the session is over.
fn wait_for<'a>(
    shared: &'a Shared,
    mut ledger: MutexGuard<'a, Ledger>,
    pieces: u64,
) -> MutexGuard<'a, Ledger> {
    while ledger.kept < pieces && !ledger.over {
        ledger = shared.wait(ledger);
    }
    ledger
}

/// Segments that this worker writes itself.
struct Here {
    path: PathBuf,
    session: u64,
    sync: bool,
    slot: Option<Arc<Slot>>,
    dir: Option<OwnedFd>,
    file: Option<OwnedFd>,
    /// Something was written since the last sync.
    dirty: bool,
}

/// Why rows were not written.
enum Trouble {
    /// They may go elsewhere, and all before them is safe.
    Elsewhere(String),
    /// What was written before them may be lost.
    Fatal(String),
}

impl Place {
    fn new(rows: &RowsDir, slot: Option<Arc<Slot>>) -> Self {
        if rows.path.is_empty() {
            return Self::Server { sent: 0 };
        }
        Self::Here(Box::new(Here {
            path: Path::new(OsStr::from_bytes(&rows.path)).join(rows.segments()),
            session: rows.session,
            sync: rows.sync,
            slot,
            dir: None,
            file: None,
            dirty: false,
        }))
    }
}

impl Here {
    fn write(&mut self, worker: u64, number: u32, at: u64, rows: &[u8]) -> Result<(), Trouble> {
        self.tell(Some(Call::Write));
        let written = self.try_write(worker, number, at, rows);
        self.tell(None);
        written
    }

    fn try_write(&mut self, worker: u64, number: u32, at: u64, rows: &[u8]) -> Result<(), Trouble> {
        if self.file.is_none() {
            let id = SegmentId {
                session: self.session,
                worker,
                number,
            };
            let made = self.create(&id.file_name());
            let made = made.map_err(|errno| Trouble::Elsewhere(self.elsewhere("made", errno)))?;
            self.file = Some(made);
            self.sync_names().map_err(Trouble::Fatal)?;
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut done = 0;
        while let Some(rest) = rows.get(done..).filter(|rest| !rest.is_empty()) {
            match retry(|| rustix::io::pwrite(file, rest, at + done as u64)) {
                Ok(0) => return Err(Trouble::Fatal(self.failed("write", Errno::IO))),
                Ok(count) => done += count,
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                    return Err(Trouble::Elsewhere(self.elsewhere("written", errno)));
                }
                Err(errno) => return Err(Trouble::Fatal(self.failed("write", errno))),
            }
        }
        self.dirty = true;
        Ok(())
    }

    /// Nothing that is there already is written to, and no link is followed.
    fn create(&mut self, name: &str) -> Result<OwnedFd, Errno> {
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => open_dir(&self.path)?,
        };
        let dir = self.dir.insert(dir);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        retry(|| openat(&*dir, name, flags, Mode::RUSR | Mode::WUSR))
    }

    fn sync_names(&self) -> Result<(), String> {
        let Some(dir) = self.dir.as_ref().filter(|_| self.sync) else {
            return Ok(());
        };
        retry(|| fsync(dir)).map_err(|errno| self.failed("sync", errno))
    }

    fn sync(&mut self) -> Result<(), String> {
        let dirty = std::mem::take(&mut self.dirty);
        let Some(file) = self.file.as_ref().filter(|_| dirty && self.sync) else {
            return Ok(());
        };
        self.tell(Some(Call::Write));
        let synced = retry(|| fdatasync(file));
        self.tell(None);
        synced.map_err(|errno| self.failed("sync", errno))
    }

    /// Tells the supervisor that this call is about the directory for rows.
    fn tell(&self, call: Option<Call>) {
        if let Some(slot) = &self.slot {
            slot.advance(1);
            if call.is_some() {
                slot.set_path(self.path.as_os_str().as_bytes());
            }
            slot.set_call(call);
        }
    }

    fn elsewhere(&self, what: &str, errno: Errno) -> String {
        let (path, why) = (self.shown(), words(errno));
        format!("a segment in {path} cannot be {what}: {why}; rows go through the connection")
    }

    fn failed(&self, operation: &str, errno: Errno) -> String {
        let (path, why) = (self.shown(), words(errno));
        format!("rows cannot be kept: {operation} in {path}: {why}")
    }

    fn shown(&self) -> String {
        self.path.as_os_str().as_bytes().escape_ascii().to_string()
    }
}

fn words(errno: Errno) -> String {
    hydra_proto::words::words(&errno.into())
}

/// Opens the directory of segments. Its path has no symbolic links; one that is put there since is not followed.
fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS))
}
