//! The client with real worker processes: this test program, started again.

mod faults;
mod roots;
mod support;

use hydra_client::{ClientError, Config, Mode, look_at_roots, run, serve_embedded};
use hydra_link::address::HostPort;
use hydra_link::{Connection, Timeouts, dial};
use hydra_proto::handshake::{Key, ServerKey};
use hydra_proto::ids::JobId;
use hydra_proto::message::Up;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::server::{Peer, Server};
use support::{Lines, PATIENCE, SLOW, Tree, config, exists, job};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// No test: the worker that the others start.
#[test]
fn fake_worker() {
    if let Ok(mood) = std::env::var(support::worker::MOOD) {
        support::worker::run(&mood);
    }
}

/// No test: what looks at roots for the others. Those that begin with `/dead` never answer.
#[test]
fn fake_looker() {
    if std::env::var(support::LOOKER).is_ok() {
        let look = |path: &[u8]| match path.starts_with(b"/dead") {
            true => loop {
                std::thread::park();
            },
            false => support::seen(),
        };
        look_at_roots(Arc::new(look)).unwrap();
        std::process::exit(0);
    }
}

type Ended = JoinHandle<Result<(), ClientError>>;

/// An embedded client, and the server's end of its connection.
fn embed(config: Config) -> (Ended, Peer) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let timeouts = Timeouts::default();
    let theirs = Connection::plain(theirs, &timeouts);
    let client = tokio::spawn(serve_embedded(theirs, config, pending()));
    (client, Peer::new(Connection::plain(ours, &timeouts)))
}

/// A listening client.
struct Listening {
    client: Ended,
    address: HostPort,
    key: Key,
    stop: Option<oneshot::Sender<()>>,
}

impl Listening {
    async fn start(mut config: Config) -> Self {
        let key = ServerKey::generate().unwrap();
        config.key = Some(Arc::new(key.client_key()));
        config.mode = Mode::Listen(HostPort::parse("127.0.0.1:0", 0).unwrap_or(HostPort {
            host: "127.0.0.1".to_owned(),
            port: 0,
        }));
        let (sender, address) = oneshot::channel();
        let sender = Mutex::new(Some(sender));
        config.on_listening = Arc::new(move |address: SocketAddr| {
            let _ = sender.lock().unwrap().take().unwrap().send(address);
        });
        let (stop, stopped) = oneshot::channel();
        let client = tokio::spawn(run(config, async {
            let _ = stopped.await;
        }));
        let address: SocketAddr = address.await.unwrap();
        Self {
            client,
            address: HostPort {
                host: address.ip().to_string(),
                port: address.port(),
            },
            key: Key::Server(key),
            stop: Some(stop),
        }
    }

    async fn dial(&self) -> Peer {
        let dialled = dial(&self.address, &self.key, &Timeouts::default()).await;
        Peer::new(dialled.unwrap())
    }

    async fn stop(mut self) -> Result<(), ClientError> {
        let _ = self.stop.take().unwrap().send(());
        self.end().await
    }

    async fn end(self) -> Result<(), ClientError> {
        let _stop = self.stop;
        timeout(PATIENCE, self.client).await.unwrap().unwrap()
    }
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

async fn assert_all_gone(lines: Lines, at_least: usize) {
    let pids = lines.pids().await;
    assert!(pids.len() >= at_least, "{pids:?}");
    let left: Vec<&u32> = pids.iter().filter(|&&pid| exists(pid)).collect();
    assert!(left.is_empty(), "processes are left: {left:?}");
}

fn assert_whole(server: &Server, tree: Tree) {
    assert_eq!(server.walk.entries, tree.entries());
    assert_eq!(server.walk.directories, tree.directories());
}

#[tokio::test]
async fn a_whole_job_is_walked_exactly_and_leaves_no_process() {
    let (config, lines) = config(3, "");
    let tree = Tree {
        width: 5,
        depth: 4,
        pause: Duration::ZERO,
    };
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(tree));
    server.finish(&mut connection).await;
    assert_whole(&server, tree);
    assert_eq!(server.lost_workers, 0);
    assert!(client.await.unwrap().is_ok());
    // The job may be over before the others have begun.
    assert_all_gone(lines, 1).await;
    assert!(server.lines.iter().any(|line| line.starts_with("walked")));
}

#[tokio::test]
async fn a_server_that_acknowledges_nothing_stops_the_walk_and_loses_nothing() {
    let (config, lines) = config(3, "");
    let (client, mut connection) = embed(config);
    let mut spec = job(SLOW);
    spec.timing.commit_window = 2;
    let mut server = Server::new(1, spec);
    server.held = Some(Vec::new());
    server
        .talk(&mut connection, |server| server.commits >= 2)
        .await;
    let beats = server.beats + 5;
    server
        .talk(&mut connection, |server| server.beats >= beats)
        .await;
    assert_eq!(server.commits, 2);
    assert!(!server.parent.is_done());
    server.release(&mut connection).await;
    server.finish(&mut connection).await;
    assert_whole(&server, SLOW);
    assert_eq!(server.lost_workers, 0);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
}

#[tokio::test]
async fn a_session_goes_on_after_its_link_was_cut() {
    let (config, lines) = config(2, "");
    let client = Listening::start(config).await;
    let mut server = Server::new(1, job(SLOW));
    let mut connection = client.dial().await;
    server
        .talk(&mut connection, |server| server.walk.entries > 100)
        .await;
    drop(connection);
    let mut connection = client.dial().await;
    // The client may not have noticed yet.
    while server
        .talk(&mut connection, |server| server.walk.entries > 200)
        .await
        .is_some()
    {
        connection = client.dial().await;
    }
    assert!(server.walk.entries > 200, "{:?}", server.lost);
    server.finish(&mut connection).await;
    assert_whole(&server, SLOW);
    assert_eq!((server.back, server.lost.len()), (1, 0));
    assert_eq!(server.lost_workers, 0);
    drop(connection);
    client.stop().await.unwrap();
    assert_all_gone(lines, 2).await;
}

#[tokio::test]
async fn a_client_whose_session_is_unknown_starts_empty() {
    let (config, lines) = config(2, "");
    let client = Listening::start(config).await;
    let mut connection = client.dial().await;
    let mut first = Server::new(1, job(SLOW));
    first
        .talk(&mut connection, |server| server.walk.entries > 100)
        .await;
    drop(connection);
    // The server was started anew: it knows nothing of the session that the client resumes.
    let mut second = Server::new(2, job(SLOW));
    let deadline = Instant::now() + PATIENCE;
    while !second.parent.is_done() {
        assert!(Instant::now() < deadline);
        let mut connection = client.dial().await;
        second
            .talk(&mut connection, |server| server.parent.is_done())
            .await;
    }
    assert_whole(&second, SLOW);
    client.stop().await.unwrap();
    assert_all_gone(lines, 3).await;
}

#[tokio::test]
async fn a_listening_client_serves_job_after_job() {
    let (config, lines) = config(1, "");
    let client = Listening::start(config).await;
    let tree = Tree {
        width: 3,
        depth: 3,
        pause: Duration::ZERO,
    };
    for number in 1..=2 {
        let mut connection = client.dial().await;
        let mut server = Server::new(number, job(tree));
        server.finish(&mut connection).await;
        assert_whole(&server, tree);
    }
    client.stop().await.unwrap();
    assert_all_gone(lines, 2).await;
}

#[tokio::test]
async fn once_ends_after_one_job() {
    let (mut config, lines) = config(1, "");
    config.once = true;
    let client = Listening::start(config).await;
    let mut connection = client.dial().await;
    let mut server = Server::new(1, job(SLOW));
    server.finish(&mut connection).await;
    client.end().await.unwrap();
    assert_all_gone(lines, 1).await;
}

#[tokio::test]
async fn a_second_server_is_told_by_whom_the_client_is_busy() {
    let (config, _lines) = config(1, "");
    let client = Listening::start(config).await;
    let mut connection = client.dial().await;
    let mut server = Server::new(77, job(SLOW));
    server
        .talk(&mut connection, |server| server.walk.entries > 0)
        .await;
    let mut second = client.dial().await;
    let said = Server::new(78, job(SLOW))
        .talk(&mut second, |_| false)
        .await;
    let Some(Up::Busy(busy)) = said else {
        panic!("the client did not say that it is busy: {said:?}");
    };
    assert_eq!(busy.job, Some(JobId(77)));
    assert!(busy.server.starts_with("127.0.0.1:"), "{}", busy.server);
    server.finish(&mut connection).await;
    assert_whole(&server, SLOW);
    client.stop().await.unwrap();
}

#[tokio::test]
async fn a_connecting_client_finds_its_server() {
    let key = ServerKey::generate().unwrap();
    let any = HostPort {
        host: "127.0.0.1".to_owned(),
        port: 0,
    };
    let (mut config, lines) = config(2, "");
    config.key = Some(Arc::new(key.client_key()));
    config.once = true;
    let mut listener =
        hydra_link::Listener::bind(&any, Arc::new(Key::Server(key)), Timeouts::default())
            .await
            .unwrap();
    let port = listener.local_address().unwrap().port();
    config.mode = Mode::Connect(HostPort { port, ..any });
    let client = tokio::spawn(run(config, pending()));
    let mut server = Server::new(1, job(SLOW));
    let mut connection = Peer::new(listener.accept().await.0);
    server
        .talk(&mut connection, |server| server.walk.entries > 100)
        .await;
    drop(connection);
    let mut connection = Peer::new(listener.accept().await.0);
    server.finish(&mut connection).await;
    assert_whole(&server, SLOW);
    assert_eq!(server.back, 1);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 2).await;
}

#[tokio::test]
async fn shutdown_in_the_middle_of_a_job_leaves_no_process() {
    let (config, mut lines) = config(3, "");
    let client = Listening::start(config).await;
    let mut connection = client.dial().await;
    let mut server = Server::new(1, job(SLOW));
    let (_, ended) = tokio::join!(server.talk(&mut connection, |_| false), async {
        let line = lines.wait("walked").await;
        // One that cannot end by itself.
        signal(line.pid, Signal::SIGSTOP);
        client.stop().await
    });
    ended.unwrap();
    assert_eq!(server.lost, ["the client is being stopped"]);
    assert_all_gone(lines, 1).await;
}
