//! Clients that pretend to walk: the real child ledger over an implicit tree.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use hydra_link::address::HostPort;
use hydra_link::{FrameReader, FrameWriter, Timeouts, clock, dial};
use hydra_proto::codec;
use hydra_proto::handshake::{ClientKey, Key};
use hydra_proto::ids::{ConnId, RootId};
use hydra_proto::item::NameList;
use hydra_proto::ledger::{Frontier, Place, Uplink, UplinkConfig, UplinkEvent, Work};
use hydra_proto::message::{Delta, Down, Ready, RootFacts, RootView, Up};
use hydra_proto::walk::FileType;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Settings;
use super::server::Found;
use crate::implicit::{Dir, Entry, ImplicitTree};

/// Connections that one thread makes at once: fewer than a server takes.
const DIALS_AT_ONCE: usize = 8;
/// Every client has one connection.
const CONN: ConnId = ConnId(1);

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    tree: ImplicitTree,
    items_per_commit: usize,
    address: HostPort,
    key: Key,
    next: AtomicUsize,
    /// Clients that have a session.
    pub(super) welcomed: AtomicU64,
    /// Grants that have arrived.
    pub(super) granted: AtomicU64,
    acknowledged: AtomicU64,
    asked: AtomicU64,
    /// Why a client has failed, if one has.
    failure: Mutex<Option<String>>,
    /// A client was welcomed, the first grant has come, or a client has failed.
    news: Condvar,
}

impl Shared {
    pub(super) fn new(settings: &Settings, port: u16, key: ClientKey) -> Self {
        let host = "127.0.0.1".to_owned();
        Self {
            tree: settings.tree,
            items_per_commit: settings.items_per_commit.max(1),
            address: HostPort { host, port },
            key: Key::from(key),
            next: AtomicUsize::new(0),
            welcomed: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            failure: Mutex::new(None),
            news: Condvar::new(),
        }
    }

    /// Commits acknowledged, grants and requests to shed.
    pub(super) fn counts(&self) -> [u64; 3] {
        [&self.acknowledged, &self.granted, &self.asked].map(|count| count.load(Relaxed))
    }

    /// Waits until it is so, a client fails, or `limit` is over. Returns whether it is so.
    ///
    /// # Errors
    ///
    /// When a client has failed.
    pub(super) fn wait(&self, limit: Duration, is_so: impl Fn() -> bool) -> anyhow::Result<bool> {
        let waits = |failure: &mut Option<String>| failure.is_none() && !is_so();
        let waited = self.news.wait_timeout_while(self.failure(), limit, waits);
        let (failure, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(failure) => bail!("a client failed: {failure}"),
            None => Ok(is_so()),
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits. Under the lock: nobody is between looking and waiting then.
    fn tell(&self) {
        let _failure = self.failure();
        self.news.notify_all();
    }

    fn fail(&self, error: &anyhow::Error) {
        self.failure().get_or_insert(format!("{error:#}"));
        self.tell();
    }
}

/// Threads with clients.
pub(super) struct Crowd(Vec<JoinHandle<()>>);

impl Crowd {
    /// Starts `clients` clients on `threads` threads.
    pub(super) fn start(
        shared: &Arc<Shared>,
        threads: usize,
        clients: usize,
    ) -> anyhow::Result<Self> {
        let threads = threads.max(1);
        let start = |thread| {
            let share = clients / threads + usize::from(thread < clients % threads);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let shared = Arc::clone(shared);
            anyhow::Ok(std::thread::spawn(move || {
                if let Err(error) = runtime.block_on(run_all(&shared, share)) {
                    shared.fail(&error);
                }
            }))
        };
        Ok(Self((0..threads).map(start).collect::<Result<_, _>>()?))
    }

    /// Waits until the server has let all of them go.
    pub(super) fn join(self) -> anyhow::Result<()> {
        for thread in self.0 {
            thread.join().map_err(|_| anyhow!("a client panicked"))?;
        }
        Ok(())
    }
}

async fn run_all(shared: &Arc<Shared>, clients: usize) -> anyhow::Result<()> {
    let dials = Arc::new(tokio::sync::Semaphore::new(DIALS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (shared, dials) = (Arc::clone(shared), Arc::clone(&dials));
        tasks.spawn(async move {
            let permit = dials.acquire().await?;
            let client = Client::dial(shared).await?;
            drop(permit);
            client.run().await
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a client panicked")??;
    }
    Ok(())
}

/// A directory's place: its path, and which it is once that is known.
#[derive(Clone, Debug)]
struct At {
    path: Arc<[u8]>,
    dir: Option<Dir>,
}

impl Place for At {
    fn at(_: RootId, path: &[u8]) -> Self {
        Self {
            path: path.into(),
            dir: None,
        }
    }

    fn root(&self) -> RootId {
        RootId(0)
    }

    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.path);
    }
}

struct Client {
    shared: Arc<Shared>,
    reader: FrameReader,
    writer: FrameWriter,
    uplink: Uplink,
    frontier: Option<Frontier<At>>,
    /// The last commit that was acknowledged.
    acknowledged: u64,
    over: bool,
}

impl Client {
    async fn dial(shared: Arc<Shared>) -> anyhow::Result<Self> {
        let number = shared.next.fetch_add(1, Relaxed);
        let connection = dial(&shared.address, &shared.key, &Timeouts::default()).await?;
        let (reader, writer) = connection.split();
        let uplink = Uplink::new(UplinkConfig {
            name: format!("client{number}"),
            workers: 1,
            nonce: number as u64,
            release: "bench".to_owned(),
            resumable: true,
        });
        Ok(Self {
            shared,
            reader,
            writer,
            uplink,
            frontier: None,
            acknowledged: 0,
            over: false,
        })
    }

    /// Until the server ends the job.
    async fn run(mut self) -> anyhow::Result<()> {
        self.uplink.connected(clock::now(), CONN);
        while !self.over {
            self.work()?;
            self.send().await?;
            let now = clock::now();
            let wait = self
                .uplink
                .poll_timeout()
                .unwrap_or(now)
                .saturating_sub(now);
            match timeout(wait, self.reader.next()).await {
                Ok(Ok(Some(frame))) => self.heard(&codec::decode(&frame)?)?,
                Ok(Ok(None)) => return Err(anyhow!("the server hung up")),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    let load = self.frontier.as_ref().map(Frontier::load);
                    self.uplink.tick(clock::now(), load.unwrap_or_default());
                }
            }
            while let Some(event) = self.uplink.poll_event() {
                self.happened(event)?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        while let Some(message) = self.uplink.poll_send() {
            let frame = codec::encode::<Up>(&message)?;
            self.writer.queue(&frame).await?;
        }
        Ok(self.writer.flush().await?)
    }

    fn heard(&mut self, message: &Down) -> anyhow::Result<()> {
        if let Down::Ack { seq } = message {
            let news = seq.saturating_sub(self.acknowledged);
            self.acknowledged += news;
            self.shared.acknowledged.fetch_add(news, Relaxed);
        }
        self.uplink.handle(clock::now(), CONN, message.clone());
        Ok(())
    }

    fn happened(&mut self, event: UplinkEvent) -> anyhow::Result<()> {
        match event {
            UplinkEvent::Started(welcome) => {
                self.frontier = Some(Frontier::new(welcome.ids));
                self.uplink.send(Up::Ready(Ready {
                    epoch: Some(welcome.epoch),
                    roots: vec![RootView::Seen(facts())],
                }));
                self.shared.welcomed.fetch_add(1, Relaxed);
                self.shared.tell();
            }
            UplinkEvent::Granted(grant) => {
                if self.shared.granted.fetch_add(1, Relaxed) == 0 {
                    self.shared.tell();
                }
                self.frontier.as_mut().context("no session")?.accept(grant);
            }
            UplinkEvent::Asked(shed) => {
                self.shared.asked.fetch_add(1, Relaxed);
                self.frontier.as_mut().context("no session")?.ask(shed);
            }
            UplinkEvent::Over(None) => self.over = true,
            UplinkEvent::Paused(_) | UplinkEvent::Frugal(_) => {}
            other => return Err(anyhow!("unexpected: {other:?}")),
        }
        Ok(())
    }

    /// Walks and commits as far as the window allows.
    fn work(&mut self) -> anyhow::Result<()> {
        let Some(frontier) = &mut self.frontier else {
            return Ok(());
        };
        while self.uplink.has_window() && (!frontier.is_dry() || frontier.asked().is_some()) {
            let mut delta = Delta::default();
            for _ in 0..self.shared.items_per_commit {
                walk_one(&self.shared.tree, frontier, &mut delta)?;
            }
            let walk = &delta.walk;
            let found = Found {
                numbers: [walk.files, walk.directories, 0, 0, 0, 0, 0, 0],
            };
            delta.plugin = codec::encode(&found)?;
            let cut = frontier.cut(Some(delta)).context("no ids are left")?;
            self.uplink.commit(cut);
        }
        Ok(())
    }
}

/// Takes the next directory, if there is one, and pushes those in it.
fn walk_one(
    tree: &ImplicitTree,
    frontier: &mut Frontier<At>,
    delta: &mut Delta,
) -> anyhow::Result<()> {
    let Some((_, work)) = frontier.pop() else {
        return Ok(());
    };
    let Work::Dir { parent, name } = work else {
        return Err(anyhow!("a part of a directory, though none is ever split"));
    };
    let mut path = parent.path.to_vec();
    if !path.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(&name);
    let dir = match parent.dir {
        Some(parent) => below(tree, parent, &name),
        None => path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(tree.root(), |dir, name| below(tree, dir, name)),
    };
    let dir = dir.with_context(|| format!("no directory {:?}", path.escape_ascii().to_string()))?;
    let mut names = NameList::default();
    let mut name = Vec::new();
    for number in 0..tree.subdirectories(dir) {
        name.clear();
        tree.write_name(&Entry::Dir(dir), number, &mut name);
        names.push(&name);
    }
    let place = At {
        path: path.into(),
        dir: Some(dir),
    };
    frontier.push_dirs(&place, names);
    frontier.finish();
    delta.walk.count(FileType::Directory);
    let files = u64::from(tree.files(dir));
    delta.walk.files += files;
    delta.walk.entries += files;
    Ok(())
}

fn below(tree: &ImplicitTree, dir: Dir, name: &[u8]) -> Option<Dir> {
    match tree.find(dir, name)? {
        Entry::Dir(dir) => Some(dir),
        Entry::File { .. } => None,
    }
}

fn facts() -> RootFacts {
    RootFacts {
        fs_type: "implicit".to_owned(),
        fs_id: String::new(),
        inode: 1,
        directory: true,
        on_system_disk: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::implicit::TreeArgs;
    use crate::tree::Shape;
    use hydra_proto::ids::{IdRange, ItemId};
    use hydra_proto::item::{Dirs, Parcel};

    #[test]
    fn a_pretended_walk_meets_every_directory() {
        let tree = ImplicitTree::new(&TreeArgs {
            shape: Shape::Skewed,
            directories: Some(2_000),
            files: Some(5_000),
            seed: 3,
        })
        .unwrap();
        let mut frontier = Frontier::new(IdRange {
            start: 2,
            end: 1 << 40,
        });
        frontier.accept(hydra_proto::message::Grant {
            epoch: hydra_proto::ids::Epoch {
                job: hydra_proto::ids::JobId(1),
                number: 1,
            },
            seq: 1,
            items: vec![Parcel::Dirs(Dirs {
                first: ItemId(1),
                root: RootId(0),
                dir: Vec::new(),
                names: NameList::from_iter([&b""[..]]),
            })],
            ids: IdRange::default(),
            careful: false,
        });
        let mut delta = Delta::default();
        while !frontier.is_dry() {
            walk_one(&tree, &mut frontier, &mut delta).unwrap();
        }
        let counts = tree.count();
        assert_eq!(delta.walk.directories, counts.directories);
        assert_eq!(delta.walk.files, counts.files);
    }
}
