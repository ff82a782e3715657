//! A server of one job for one client at a time, over the real ledger.

use super::PATIENCE;
use hydra_link::{Connection, LinkError};
use hydra_proto::codec;
use hydra_proto::ids::{ConnId, IdRange, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Action, Parent, ParentConfig};
use hydra_proto::message::{Down, RootView, Up};
use hydra_proto::reduce::Summary;
use hydra_proto::walk::WalkSummary;
use std::time::{Duration, Instant};
use tokio::time::timeout;

pub(crate) struct Server {
    pub(crate) parent: Parent,
    pub(crate) walk: WalkSummary,
    pub(crate) lost_workers: u32,
    pub(crate) views: Vec<RootView>,
    /// Why sessions were lost.
    pub(crate) lost: Vec<String>,
    /// How often a session came back.
    pub(crate) back: u32,
    pub(crate) lines: Vec<String>,
    /// Commits that were applied, and beats that came.
    pub(crate) commits: u64,
    pub(crate) beats: u64,
    /// Acknowledgements that are held back, if they are.
    pub(crate) held: Option<Vec<Down>>,
    since: Instant,
}

/// The server's end of a connection.
pub(crate) struct Peer {
    conn: ConnId,
    connection: Connection,
}

impl Peer {
    pub(crate) fn new(connection: Connection) -> Self {
        let conn = ConnId(rand::random());
        Self { conn, connection }
    }
}

impl Server {
    pub(crate) fn new(job: u64, spec: JobSpec) -> Self {
        let mut parent = Parent::new(ParentConfig {
            job: JobId(job),
            spec: spec.clone(),
            ids: IdRange {
                start: 1,
                end: u64::MAX,
            },
            lease_ids: 1 << 40,
            resumable: true,
            forward_logs: true,
            release: "test".to_owned(),
            secrets: Box::new(rand::random),
        });
        let ids = parent.take_ids(spec.roots.len() as u64).unwrap();
        let roots = ids.iter().zip(0..).map(|(first, root)| {
            Parcel::Dirs(Dirs {
                first,
                root: RootId(root),
                dir: Vec::new(),
                names: NameList::from_iter([b"".as_slice()]),
            })
        });
        parent.add(roots.collect(), false);
        Self {
            parent,
            walk: WalkSummary::default(),
            lost_workers: 0,
            views: Vec::new(),
            lost: Vec::new(),
            back: 0,
            lines: Vec::new(),
            commits: 0,
            beats: 0,
            held: None,
            since: Instant::now(),
        }
    }

    /// Talks to a client until `enough`, or until it hangs up. Returns what it said that is no session's.
    pub(crate) async fn talk(
        &mut self,
        peer: &mut Peer,
        enough: impl Fn(&Self) -> bool,
    ) -> Option<Up> {
        let conn = peer.conn;
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            assert!(Instant::now() < deadline, "no end in sight");
            let frame = timeout(Duration::from_millis(50), peer.connection.next()).await;
            let now = self.since.elapsed();
            match frame {
                Ok(Ok(Some(frame))) => match codec::decode(&frame).unwrap() {
                    busy @ Up::Busy(_) => return Some(busy),
                    message => {
                        self.commits += u64::from(matches!(message, Up::Commit(_)));
                        self.beats += u64::from(matches!(message, Up::Beat(_)));
                        self.parent.handle(now, conn, message);
                    }
                },
                Ok(Ok(None) | Err(LinkError::Cut | LinkError::Io(_))) => {
                    self.parent.closed(now, conn);
                    self.act(peer).await;
                    return None;
                }
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => self.parent.tick(now),
            }
            if !self.act(peer).await {
                return None;
            }
        }
        None
    }

    /// Walks everything with this client, ends the job, and waits until the client lets go.
    pub(crate) async fn finish(&mut self, peer: &mut Peer) {
        self.talk(peer, |server| server.parent.is_done()).await;
        assert!(self.parent.is_done(), "the client left: {:?}", self.lost);
        assert!(self.parent.counts().balanced());
        self.parent.stop();
        self.act(peer).await;
        self.talk(peer, |_| false).await;
    }

    /// Sends the acknowledgements that were held back.
    pub(crate) async fn release(&mut self, peer: &mut Peer) {
        for ack in self.held.take().unwrap_or_default() {
            peer.connection
                .send(&codec::encode(&ack).unwrap())
                .await
                .unwrap();
        }
    }

    /// False once the connection was closed.
    async fn act(&mut self, peer: &mut Peer) -> bool {
        let mut open = true;
        while let Some(action) = self.parent.poll_action() {
            match action {
                Action::Send { conn, .. } if conn != peer.conn => {}
                Action::Send {
                    message: ack @ Down::Ack { .. },
                    ..
                } if self.held.is_some() => {
                    self.held.get_or_insert_default().push(ack);
                }
                Action::Send { message, .. } => {
                    // A client that is gone is noticed when it is read.
                    let _ = peer
                        .connection
                        .send(&codec::encode(&message).unwrap())
                        .await;
                }
                Action::Close { conn } => open &= conn != peer.conn,
                Action::Sees { child, roots } => {
                    let seen = |view: &RootView| matches!(view, RootView::Seen(_));
                    self.parent.serve(child, roots.iter().map(seen).collect());
                    self.views = roots;
                }
                Action::Applied {
                    result: Some(delta),
                    ..
                } => {
                    self.walk.merge(delta.walk);
                    self.lost_workers += delta.lost_workers;
                }
                Action::Lost { reason, .. } => self.lost.push(reason),
                Action::Back { .. } => self.back += 1,
                Action::Log { lines, .. } => self.lines.extend(lines.into_iter().map(|l| l.text)),
                Action::Joined { .. }
                | Action::Applied { .. }
                | Action::Warning { .. }
                | Action::Rows { .. }
                | Action::Record(_) => {}
                Action::KeptInMemory(_) | Action::NotReadBack(_) => unreachable!(),
            }
        }
        open
    }
}
