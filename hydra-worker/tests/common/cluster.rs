//! A parent over real sockets, with workers in threads of this process.

use super::{PATIENCE, unhex};
use hydra_proto::codec;
use hydra_proto::frame::{self, FRAME_BYTES_MAX, FrameDecoder};
use hydra_proto::ids::{ConnId, IdRange, ItemId, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec, Timing};
use hydra_proto::ledger::{Action, Parent, ParentConfig, Time};
use hydra_proto::message::{Commit, Down, Up};
use hydra_proto::reduce::Summary;
use hydra_proto::walk::WalkSummary;
use hydra_worker::sys::slot;
use hydra_worker::{Identity, Session, Visit, WorkerError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

struct Conn {
    stream: UnixStream,
    decoder: FrameDecoder,
    thread: JoinHandle<Result<(), WorkerError>>,
    entries: u64,
    commits: u64,
}

/// A parent and its workers.
pub struct Cluster {
    pub parent: Parent,
    conns: BTreeMap<ConnId, Conn>,
    gone: Vec<JoinHandle<Result<(), WorkerError>>>,
    next_conn: u64,
    begun: Instant,
    pub walk: WalkSummary,
    pub rows: Vec<Vec<u8>>,
    /// Entries of each worker, by connection.
    pub entries: BTreeMap<ConnId, u64>,
    pub commits: u64,
    pub gives: u64,
    /// Every commit as it came, when asked for.
    pub keep: bool,
    pub kept: Vec<Commit>,
    /// Whether workers may be lost.
    pub tolerant: bool,
    pub lost: Vec<String>,
    /// Keeps acknowledgements back.
    pub hold_acks: bool,
    held_acks: Vec<(ConnId, Down)>,
    /// The pages of workers, read when they say that they cannot go on.
    pub pages: BTreeMap<ConnId, OwnedFd>,
    /// Beats of all workers.
    pub beats: u64,
    spec: JobSpec,
}

pub fn job(root: &Path) -> JobSpec {
    let bytes = root.as_os_str().as_bytes().to_vec();
    JobSpec {
        plugin: "test".to_owned(),
        roots: vec![RootSpec {
            shown: bytes.clone(),
            local: bytes,
            stops: Vec::new(),
        }],
        timing: Timing {
            commit_interval: Duration::from_millis(5),
            ..Timing::default()
        },
        ..JobSpec::default()
    }
}

impl Cluster {
    pub fn new(spec: JobSpec) -> Self {
        let mut cluster = Self::empty(spec);
        for root in 0..cluster.spec.roots.len() {
            let first = ItemId(cluster.parent.take_ids(1).unwrap().start);
            let dirs = Dirs {
                first,
                root: RootId(root as u32),
                dir: Vec::new(),
                names: NameList::from_iter([&b""[..]]),
            };
            cluster.parent.add(vec![Parcel::Dirs(dirs)], false);
        }
        cluster
    }

    /// With nothing to do yet.
    pub fn empty(spec: JobSpec) -> Self {
        let parent = Parent::new(ParentConfig {
            job: JobId(7),
            spec: spec.clone(),
            ids: IdRange {
                start: 1,
                end: u64::MAX / 2,
            },
            lease_ids: 1 << 20,
            resumable: false,
            forward_logs: false,
            release: "test".to_owned(),
            secrets: Box::new(|| [7; 16]),
        });
        Self {
            parent,
            conns: BTreeMap::new(),
            gone: Vec::new(),
            next_conn: 0,
            begun: Instant::now(),
            walk: WalkSummary::default(),
            rows: Vec::new(),
            entries: BTreeMap::new(),
            commits: 0,
            gives: 0,
            keep: false,
            kept: Vec::new(),
            tolerant: false,
            lost: Vec::new(),
            hold_acks: false,
            held_acks: Vec::new(),
            pages: BTreeMap::new(),
            beats: 0,
            spec,
        }
    }

    fn now(&self) -> Time {
        self.begun.elapsed()
    }

    pub fn worker<V: Visit>(&mut self, visit: V) -> ConnId {
        self.worker_as(visit, Identity::default())
    }

    pub fn worker_as<V: Visit>(&mut self, visit: V, mut identity: Identity) -> ConnId {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        identity.nonce = 1000 + conn.0;
        identity.name = format!("worker {}", conn.0);
        let thread = std::thread::spawn(move || {
            let session = Session::open(OwnedFd::from(theirs), identity)?;
            session.run(visit)
        });
        let conn_state = Conn {
            stream: ours,
            decoder: FrameDecoder::new(FRAME_BYTES_MAX),
            thread,
            entries: 0,
            commits: 0,
        };
        self.conns.insert(conn, conn_state);
        conn
    }

    /// Closes the connection to a worker, which the parent takes for its death.
    pub fn kill(&mut self, conn: ConnId, in_hand: Option<ItemId>) {
        if let Some(state) = self.conns.remove(&conn) {
            self.gone.push(state.thread);
            drop(state.stream);
            let now = self.now();
            self.parent.died(now, conn, in_hand, "killed");
            self.actions();
        }
    }

    /// Runs until the job is done, then stops the workers and waits for them.
    pub fn finish(&mut self) {
        self.until(|cluster| cluster.parent.is_done());
        let aside: Vec<_> = self.parent.aside().collect();
        assert!(aside.is_empty(), "{aside:?}");
        self.stop();
    }

    pub fn stop(&mut self) {
        self.parent.stop();
        self.actions();
        for (_, conn) in std::mem::take(&mut self.conns) {
            drop(conn.stream);
            self.gone.push(conn.thread);
        }
        for thread in self.gone.drain(..) {
            let outcome = thread.join().unwrap();
            assert!(
                matches!(outcome, Ok(()) | Err(WorkerError::Refused(_))),
                "{outcome:?}"
            );
        }
    }

    pub fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        self.actions();
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "stuck: {:?} {:?}",
                self.parent.counts(),
                self.parent.children().collect::<Vec<_>>()
            );
            self.step();
        }
    }

    /// Waits for one message or timer.
    pub fn step(&mut self) {
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        let mut fds: Vec<PollFd<'_>> = self
            .conns
            .values()
            .map(|conn| PollFd::new(&conn.stream, PollFlags::IN))
            .collect();
        let now = self.now();
        let timer = self.parent.poll_timeout().map(|at| at.saturating_sub(now));
        let wait = timer.unwrap_or(PATIENCE).min(Duration::from_millis(200));
        let wait = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let _ = poll(&mut fds, Some(&wait));
        let ready: Vec<ConnId> = ids
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(id, _)| id)
            .collect();
        drop(fds);
        for conn in ready {
            self.receive(conn);
        }
        let now = self.now();
        self.parent.tick(now);
        self.actions();
    }

    fn receive(&mut self, conn: ConnId) {
        let mut buffer = vec![0; 1 << 16];
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let count = state.stream.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            let state = self.conns.remove(&conn).unwrap();
            let outcome = state.thread.join().unwrap();
            panic!("worker {} is gone: {outcome:?}", conn.0);
        }
        let mut bytes = &buffer[..count];
        let mut messages = Vec::new();
        while let Some(payload) = state.decoder.decode(&mut bytes).unwrap() {
            messages.push(codec::decode::<Up>(&payload).unwrap());
        }
        for message in messages {
            self.beats += u64::from(matches!(message, Up::Beat(_)));
            if let Up::Commit(commit) = &message {
                self.commits += 1;
                self.gives += u64::from(!commit.give.is_empty());
                let result = commit.result.as_ref();
                *self.entries.entry(conn).or_default() += result.map_or(0, |r| r.walk.entries);
                if self.keep {
                    self.kept.push((**commit).clone());
                }
            }
            let now = self.now();
            match (message, self.pages.get(&conn)) {
                (Up::Leave(reason), Some(page)) => {
                    self.parent.died(now, conn, item_in(page), &reason);
                }
                (message, _) => self.parent.handle(now, conn, message),
            }
            self.actions();
        }
    }

    fn actions(&mut self) {
        while let Some(action) = self.parent.poll_action() {
            match action {
                Action::Send { conn, message } => match message {
                    Down::Ack { .. } if self.hold_acks => self.held_acks.push((conn, message)),
                    message => self.send(conn, &message),
                },
                Action::Close { conn } => {
                    if let Some(state) = self.conns.remove(&conn) {
                        self.gone.push(state.thread);
                    }
                }
                Action::Sees { child, roots } => {
                    assert_eq!(roots.len(), self.spec.roots.len());
                    self.parent.serve(child, vec![true; roots.len()]);
                }
                Action::Applied {
                    result: Some(delta),
                    ..
                } => {
                    self.walk.merge(delta.walk);
                    let lines = delta.rows.split(|&byte| byte == b'\n');
                    let lines = lines.filter(|line| !line.is_empty());
                    self.rows.extend(lines.map(<[u8]>::to_vec));
                }
                Action::Lost { reason, .. } if reason != "killed" => {
                    assert!(self.tolerant, "lost: {reason}");
                    self.lost.push(reason);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, conn: ConnId, message: &Down) {
        if let Some(state) = self.conns.get_mut(&conn) {
            let mut bytes = Vec::new();
            frame::encode(&codec::encode(message).unwrap(), &mut bytes).unwrap();
            let _ = state.stream.write_all(&bytes);
        }
    }

    /// Sends the acknowledgements that were kept back.
    pub fn release_acks(&mut self) {
        self.hold_acks = false;
        for (conn, message) in std::mem::take(&mut self.held_acks) {
            self.send(conn, &message);
        }
    }

    /// Asks a worker for work, though nobody is hungry.
    pub fn shed(&mut self, conn: ConnId, hungry: u32) {
        let shed = hydra_proto::message::Shed {
            id: u64::MAX,
            hungry,
        };
        self.send(conn, &Down::Shed(shed));
    }

    pub fn pause(&mut self, pause: bool) {
        self.parent.pause(pause);
        self.actions();
    }

    pub fn workers(&self) -> Vec<ConnId> {
        self.conns.keys().copied().collect()
    }

    /// The paths that were shown, sorted.
    pub fn paths(&self, kind: u8) -> Vec<Vec<u8>> {
        let of_kind = |row: &&Vec<u8>| row[0] == kind;
        let rows = self.rows.iter().filter(of_kind);
        let mut paths: Vec<_> = rows.map(|row| unhex(&row[1..])).collect();
        paths.sort();
        paths
    }
}

/// A page that tells what a worker has in hand.
pub fn page() -> OwnedFd {
    let memfd = rustix::fs::memfd_create("slot", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    slot::prepare(&memfd).unwrap();
    memfd
}

/// What it tells.
pub fn item_in(page: &OwnedFd) -> Option<ItemId> {
    let file = File::from(page.try_clone().unwrap());
    let mut page = vec![0; slot::SLOT_BYTES];
    file.read_exact_at(&mut page, 0).unwrap();
    slot::decode(&page).unwrap().item.map(ItemId)
}
