//! Rows that are too many for a commit: whether this host's workers write them where the server has its directory, and
//! the pieces that they send to the server where they do not.

use crate::config::Config;
use crate::roots::map_path;
use hydra_proto::ids::ConnId;
use hydra_proto::message::Rows;
use hydra_proto::segment::{RowsDir, Segment};
use hydra_proto::words::words;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, accessat, openat2};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::thread;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Pieces that may be on their way to the server.
const SENT_MAX: usize = 8;

/// Where workers find the directory for rows, without symbolic links, or why they must not write there. Looked at under
/// the deadline, in a thread of its own.
pub(crate) async fn look(config: &Config, rows: &RowsDir) -> Result<Vec<u8>, String> {
    let local = map_path(&config.maps, &rows.path);
    let (allowed, segments) = (config.allow_rows_dirs.clone(), rows.segments());
    let (sender, found) = oneshot::channel();
    let spawned = thread::Builder::new()
        .name("rows".to_owned())
        .spawn(move || {
            let path = Path::new(OsStr::from_bytes(&local));
            // Nobody listens when it took too long.
            let _ = sender.send(look_at(path, &segments, allowed.as_deref()));
        });
    let limit = config.timings.root_look;
    match (spawned, timeout(limit, found).await) {
        (Ok(_), Ok(Ok(found))) => found,
        _ => Err(format!("its file system does not answer within {limit:?}")),
    }
}

fn look_at(path: &Path, segments: &str, allowed: Option<&[PathBuf]>) -> Result<Vec<u8>, String> {
    let refused = || "this client does not allow it (--allow-rows-dir)".to_owned();
    let real = path.canonicalize();
    if let Some(allowed) = allowed {
        // Nothing about paths that are not served, not even whether they exist.
        let looked_at = real.as_deref().unwrap_or(path);
        let is_below = |top: &PathBuf| {
            let resolved = top.canonicalize();
            looked_at.starts_with(resolved.as_ref().unwrap_or(top))
        };
        if !allowed.iter().any(is_below) {
            return Err(refused());
        }
    }
    let real = real.map_err(|error| words(&error))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = real.join(segments);
    let opened = openat2(
        CWD,
        &inside,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    );
    let dir = opened.map_err(|errno| match errno {
        rustix::io::Errno::NOENT => "what is there is not the server's directory".to_owned(),
        errno => words(&errno.into()),
    })?;
    let access = Access::WRITE_OK | Access::EXEC_OK;
    let writable = accessat(&dir, ".", access, AtFlags::empty());
    writable.map_err(|errno| words(&io::Error::from(errno)))?;
    Ok(real.into_os_string().into_vec())
}

/// Pieces that workers sent and the server has not kept yet. Bounded by what each worker may have on its way.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// In their order, with their worker.
    waiting: VecDeque<(ConnId, Rows)>,
    /// So many of the first are on their way to the server.
    sent: usize,
}

impl Pieces {
    pub(crate) fn add(&mut self, conn: ConnId, rows: Rows) {
        self.waiting.push_back((conn, rows));
    }

    /// The next piece to send.
    pub(crate) fn next(&mut self) -> Option<Rows> {
        let (_, rows) = self
            .waiting
            .get(self.sent)
            .filter(|_| self.sent < SENT_MAX)?;
        self.sent += 1;
        Some(rows.clone())
    }

    /// The server keeps a piece: whose it was. Nobody's, if it was told of twice.
    pub(crate) fn kept(&mut self, segment: &Segment) -> Option<ConnId> {
        let is_it = |(_, rows): &(ConnId, Rows)| {
            let end = rows.at.saturating_add(rows.bytes.len() as u64);
            (rows.worker, rows.number, end) == (segment.worker, segment.number, segment.bytes)
        };
        let index = self.waiting.iter().take(self.sent).position(is_it)?;
        self.sent -= 1;
        self.waiting.remove(index).map(|(conn, _)| conn)
    }

    /// A worker is gone: nothing of its that no commit has named counts.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        let sent = self.waiting.iter().take(self.sent);
        self.sent -= sent.filter(|(from, _)| *from == conn).count();
        self.waiting.retain(|(from, _)| *from != conn);
    }

    /// The connection to the server was lost, and with it perhaps what was on its way.
    pub(crate) fn send_again(&mut self) {
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(worker: u64, at: u64) -> Rows {
        let bytes = vec![b'\n'; 10];
        let number = 0;
        Rows {
            worker,
            number,
            at,
            bytes,
        }
    }

    fn end_of(rows: &Rows) -> Segment {
        Segment {
            worker: rows.worker,
            number: rows.number,
            bytes: rows.at + rows.bytes.len() as u64,
        }
    }

    #[test]
    fn pieces_go_once_and_again_after_the_connection_was_lost() {
        let mut pieces = Pieces::default();
        for at in [0, 10, 20] {
            pieces.add(ConnId(1), piece(1, at));
        }
        assert_eq!(pieces.next(), Some(piece(1, 0)));
        assert_eq!(pieces.next(), Some(piece(1, 10)));
        assert_eq!(pieces.kept(&end_of(&piece(1, 0))), Some(ConnId(1)));
        pieces.send_again();
        assert_eq!(pieces.next(), Some(piece(1, 10)));
        assert_eq!(pieces.next(), Some(piece(1, 20)));
        assert_eq!(pieces.next(), None);
        assert_eq!(pieces.kept(&end_of(&piece(1, 10))), Some(ConnId(1)));
        // The server has kept it twice, once for each connection.
        assert_eq!(pieces.kept(&end_of(&piece(1, 10))), None);
        assert_eq!(pieces.kept(&end_of(&piece(1, 20))), Some(ConnId(1)));
    }

    #[test]
    fn what_a_lost_worker_sent_is_forgotten_and_the_others_go_on() {
        let mut pieces = Pieces::default();
        pieces.add(ConnId(1), piece(1, 0));
        pieces.add(ConnId(2), piece(2, 0));
        pieces.add(ConnId(1), piece(1, 10));
        assert!(pieces.next().is_some());
        pieces.forget(ConnId(1));
        assert_eq!(pieces.kept(&end_of(&piece(1, 0))), None);
        assert_eq!(pieces.next(), Some(piece(2, 0)));
        assert_eq!(pieces.next(), None);
    }

    #[test]
    fn no_more_than_a_few_are_on_their_way() {
        let mut pieces = Pieces::default();
        for worker in 0..100 {
            pieces.add(ConnId(worker), piece(worker, 0));
        }
        assert_eq!(std::iter::from_fn(|| pieces.next()).count(), SENT_MAX);
        pieces.kept(&end_of(&piece(3, 0)));
        assert_eq!(pieces.next(), Some(piece(SENT_MAX as u64, 0)));
    }

    #[test]
    fn a_directory_is_written_to_only_where_it_is_allowed_and_the_servers() {
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("rows/segments-1")).unwrap();
        std::os::unix::fs::symlink(top.join("rows"), top.join("link")).unwrap();
        std::fs::create_dir(top.join("other")).unwrap();
        std::os::unix::fs::symlink(top.join("rows/segments-1"), top.join("other/segments-1"))
            .unwrap();
        let rows = top.join("rows").into_os_string().into_vec();
        let found = |name: &str, allowed: Option<&[PathBuf]>| {
            look_at(&top.join(name), "segments-1", allowed)
        };
        assert_eq!(found("rows", None), Ok(rows.clone()));
        assert_eq!(found("link", Some(&[top.join("rows")])), Ok(rows.clone()));
        assert_eq!(found("rows", Some(&[top.join("link")])), Ok(rows));
        let refused = found("rows", Some(&[])).unwrap_err();
        assert!(refused.contains("--allow-rows-dir"), "{refused}");
        assert_eq!(found("missing", Some(&[top.join("rows")])), Err(refused));
        // A name that looks right and leads elsewhere is not followed.
        assert!(found("other", None).is_err());
        let other = look_at(&top.join("rows"), "segments-2", None).unwrap_err();
        assert!(other.contains("not the server's"), "{other}");
    }
}
