//! What blocks: a thread that writes pieces of segments for workers that cannot, and the manifest, and clears up.

use super::manifest::Manifest;
use super::{RowsError, STREAMED, Store, failed, outflow};
use hydra_proto::ids::{ConnId, JobId};
use hydra_proto::segment::{Segment, SegmentId};
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, fdatasync, fstat, fsync, ftruncate, openat, unlinkat,
};
use rustix::io::{Errno, pwrite};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Pieces that are synced together, at most.
const PIECES_AT_ONCE: usize = 64;
/// How often a full disk is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// What there is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Write a piece of a segment.
    Piece(Piece),
    /// Write rows that came inside a commit.
    Append(Vec<u8>),
    /// Say how much of these counts.
    Publish(Vec<(String, u64)>),
    /// The job is over.
    End(End),
}

/// A piece of a segment, and who sent it.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) conn: ConnId,
    pub(super) id: SegmentId,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// How a job has ended.
#[derive(Debug)]
pub(super) struct End {
    /// What counts of each file.
    pub(super) counts: BTreeMap<String, u64>,
    /// Whether everything was walked.
    pub(super) complete: bool,
    /// Whether nobody will go on with it: then what does not count is removed.
    pub(super) for_good: bool,
}

/// What was done.
#[derive(Debug)]
pub(crate) enum Done {
    /// A piece is kept.
    Kept(ConnId, Segment),
    /// Rows that came inside a commit are written.
    Appended,
    /// The manifest says what it was told.
    Published,
    /// The manifest says that the job has ended, unless there was no room and nobody wanted to wait for it.
    Ended {
        /// Whether it does.
        is_done: bool,
        /// Bytes of rows that came inside commits and were not written for the same reason.
        lost: u64,
    },
    /// There is no room; it is tried again and again.
    Full,
    /// There is room again.
    RoomAgain,
    /// The thread cannot go on.
    Failed(RowsError),
    /// The file or pipe takes no more.
    Unwritable(io::Error),
}

/// Starts the thread. It ends when nobody can send orders any more.
pub(super) fn start(
    store: Store,
    job: JobId,
    sync: bool,
    manifest: Manifest,
    orders: mpsc::Receiver<Order>,
    done: tokio::sync::mpsc::UnboundedSender<Done>,
    stop: Arc<AtomicBool>,
) -> Result<(), RowsError> {
    let path = store.path.clone();
    let scribe = Scribe {
        store,
        job,
        sync,
        manifest,
        done,
        stop,
        streamed: None,
        lost: 0,
        is_full: false,
    };
    let spawned = thread::Builder::new()
        .name("rows".to_owned())
        .spawn(move || scribe.run(&orders));
    spawned
        .map(drop)
        .map_err(|error| failed("begin to write to", &path, error))
}

struct Scribe {
    store: Store,
    job: JobId,
    sync: bool,
    manifest: Manifest,
    done: tokio::sync::mpsc::UnboundedSender<Done>,
    stop: Arc<AtomicBool>,
    /// The file of rows that came inside commits, if it is written here, and its length.
    streamed: Option<(OwnedFd, u64)>,
    /// Bytes that are missing in it, since there was no room and the job was stopped.
    lost: u64,
    is_full: bool,
}

impl Scribe {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            let mut next = Some(order);
            let mut pieces = Vec::new();
            while let Some(Order::Piece(piece)) = next {
                pieces.push(piece);
                next = match pieces.len() < PIECES_AT_ONCE {
                    true => orders.try_recv().ok(),
                    false => None,
                };
            }
            let written = self.pieces(pieces);
            let said = written.and_then(|()| match next {
                Some(Order::Publish(news)) => self.publish(&news),
                Some(Order::Append(rows)) => self.append(&rows),
                Some(Order::End(end)) => self.end(end),
                Some(Order::Piece(_)) | None => Ok(()),
            });
            if let Err(error) = said {
                self.tell(Done::Failed(error));
                return;
            }
        }
    }

    fn tell(&self, done: Done) {
        // The server may have ended meanwhile.
        let _ = self.done.send(done);
    }

    fn pieces(&mut self, pieces: Vec<Piece>) -> Result<(), RowsError> {
        let mut files = BTreeMap::new();
        for piece in &pieces {
            self.again(|scribe| scribe.piece(piece, &mut files))?;
        }
        if self.sync && !files.is_empty() {
            for (id, file) in &files {
                let synced = fdatasync(file);
                synced.map_err(|errno| self.failed("sync", &id.file_name(), errno))?;
            }
            fsync(&self.store.segments).map_err(|errno| self.failed("sync", "", errno))?;
        }
        if self.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        for piece in pieces {
            let segment = Segment {
                worker: piece.id.worker,
                number: piece.id.number,
                bytes: piece.at + piece.bytes.len() as u64,
            };
            self.tell(Done::Kept(piece.conn, segment));
        }
        Ok(())
    }

    fn piece(
        &self,
        piece: &Piece,
        files: &mut BTreeMap<SegmentId, OwnedFd>,
    ) -> Result<(), RowsError> {
        let name = piece.id.file_name();
        let file = match files.entry(piece.id) {
            Entry::Occupied(opened) => opened.into_mut(),
            Entry::Vacant(place) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let opened = openat(&self.store.segments, &name, flags, mode);
                place.insert(opened.map_err(|errno| self.failed("open", &name, errno))?)
            }
        };
        let written = write_all_at(file, &piece.bytes, piece.at);
        written.map_err(|errno| self.failed("write", &name, errno))
    }

    fn append(&mut self, rows: &[u8]) -> Result<(), RowsError> {
        let is_written = self.again(|scribe| {
            let store = &scribe.store;
            let (file, at) = match &mut scribe.streamed {
                Some(streamed) => streamed,
                none => none.insert((store.streamed()?.into(), 0)),
            };
            let written = write_all_at(file, rows, *at);
            written.map_err(|errno| failed("write", &store.path_of(STREAMED), errno))?;
            *at += rows.len() as u64;
            Ok(())
        })?;
        if !is_written {
            self.lost += rows.len() as u64;
        }
        self.tell(Done::Appended);
        Ok(())
    }

    fn publish(&mut self, news: &[(String, u64)]) -> Result<(), RowsError> {
        // It would count rows that are lost.
        if self.lost == 0 {
            self.again(|scribe| scribe.manifest.say(&scribe.store, news))?;
        }
        self.tell(Done::Published);
        Ok(())
    }

    fn end(&mut self, mut end: End) -> Result<(), RowsError> {
        if let Some(streamed) = end.counts.get_mut(STREAMED) {
            *streamed = streamed.saturating_sub(self.lost);
        }
        let is_done = self.again(|scribe| scribe.say_the_end(&end))?;
        let lost = self.lost;
        self.tell(Done::Ended { is_done, lost });
        Ok(())
    }

    /// Does something until there is room for it. Returns whether it is done: not, if there is no room and the job was
    /// stopped.
    fn again(
        &mut self,
        mut act: impl FnMut(&mut Self) -> Result<(), RowsError>,
    ) -> Result<bool, RowsError> {
        loop {
            match act(self) {
                Err(error) if is_full(&error) => {
                    if self.stop.load(Ordering::Acquire) {
                        return Ok(false);
                    }
                    if !std::mem::replace(&mut self.is_full, true) {
                        self.tell(Done::Full);
                    }
                    thread::park_timeout(AGAIN);
                }
                outcome => {
                    if outcome.is_ok() && std::mem::take(&mut self.is_full) {
                        self.tell(Done::RoomAgain);
                    }
                    return outcome.map(|()| true);
                }
            }
        }
    }

    fn say_the_end(&self, end: &End) -> Result<(), RowsError> {
        let mut missing: Vec<&String> = Vec::new();
        for (name, bytes) in &end.counts {
            if *bytes > 0 && !self.check(name, *bytes)? {
                missing.push(name);
            }
        }
        if let Some(name) = missing.first() {
            let expected = end.counts.get(*name).copied().unwrap_or(0);
            return Err(RowsError::Lost {
                path: self.store.path_of(name),
                found: 0,
                expected,
            });
        }
        if end.for_good {
            self.clear_up(&end.counts)?;
        }
        let mut counts = end.counts.clone();
        counts.retain(|_, bytes| *bytes > 0);
        Manifest::end(&self.store, self.job, &counts, end.complete)
    }

    /// Whether a file is there with what counts of it.
    fn check(&self, name: &str, expected: u64) -> Result<bool, RowsError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Opened, so that a network file system says how long it is now.
        let found = match openat(&self.store.segments, name, flags, Mode::empty()) {
            Ok(file) => fstat(&file).map_err(|errno| self.failed("look at", name, errno))?,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.failed("open", name, errno)),
        };
        let found = u64::try_from(found.st_size).unwrap_or(0);
        match found < expected {
            true => Err(RowsError::Lost {
                path: self.store.path_of(name),
                found,
                expected,
            }),
            false => Ok(true),
        }
    }

    /// Removes what does not count: segments that no commit has named, and ends of others.
    fn clear_up(&self, counts: &BTreeMap<String, u64>) -> Result<(), RowsError> {
        let listed = Dir::read_from(&self.store.segments);
        let listed = listed.map_err(|errno| self.failed("read", "", errno))?;
        for entry in listed {
            let entry = entry.map_err(|errno| self.failed("read", "", errno))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_ours = name == STREAMED || SegmentId::parse(name.as_bytes()).is_some();
            match counts.get(&name).copied().unwrap_or(0) {
                _ if !is_ours => {}
                0 => self.remove(&name)?,
                bytes => self.cut(&name, bytes)?,
            }
        }
        fsync(&self.store.segments).map_err(|errno| self.failed("sync", "", errno))
    }

    fn remove(&self, name: &str) -> Result<(), RowsError> {
        match unlinkat(&self.store.segments, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    fn cut(&self, name: &str, bytes: u64) -> Result<(), RowsError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let cut = openat(&self.store.segments, name, flags, Mode::empty()).and_then(|file| {
            match u64::try_from(fstat(&file)?.st_size).unwrap_or(0) > bytes {
                true => ftruncate(&file, bytes),
                false => Ok(()),
            }
        });
        cut.map_err(|errno| self.failed("cut", name, errno))
    }

    fn failed(&self, operation: &'static str, name: &str, errno: Errno) -> RowsError {
        failed(operation, &self.store.path_of(name), errno)
    }
}

fn is_full(error: &RowsError) -> bool {
    match error {
        RowsError::Io { source, .. } => outflow::is_full(source),
        _ => false,
    }
}

/// Writes all of it.
pub(super) fn write_all_at(file: &OwnedFd, bytes: &[u8], at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match pwrite(file, rest, at + done as u64) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
