//! The client with real worker processes: this test program, started again.

mod support;

use hydra_client::{Allow, ClientError, Config, Mode, PathMap, run, serve_embedded};
use hydra_link::address::HostPort;
use hydra_link::{Connection, Timeouts, dial};
use hydra_proto::handshake::{Key, ServerKey};
use hydra_proto::ids::JobId;
use hydra_proto::message::{RootView, Up};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::server::{Peer, Server};
use support::{Lines, PATIENCE, SLOW, Tree, config, exists, is_alive, job, root};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// No test: the worker that the others start.
#[test]
fn fake_worker() {
    if let Ok(mood) = std::env::var(support::worker::MOOD) {
        support::worker::run(&mood);
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

/// Waits for the end of a process that is not this one's own child.
async fn assert_dies(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} lives on");
        sleep(Duration::from_millis(5)).await;
    }
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
    assert_all_gone(lines, 3).await;
    assert!(server.lines.iter().any(|line| line.starts_with("walked")));
}

#[tokio::test]
async fn a_killed_worker_is_replaced_and_its_work_done_again() {
    let (config, mut lines) = config(2, "parent");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    let (_, grandchild) = tokio::join!(server.finish(&mut connection), async {
        let line = lines.wait("child").await;
        lines.wait("walked").await;
        signal(line.pid, Signal::SIGKILL);
        line.text["child ".len()..].parse::<u32>().unwrap()
    });
    assert_whole(&server, SLOW);
    assert_eq!(server.lost_workers, 1);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
    assert_dies(grandchild).await;
}

#[test]
fn a_runtime_that_is_dropped_leaves_no_process() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let dropped = runtime();
    let (config, mut lines) = config(1, "parent");
    let (pid, grandchild) = dropped.block_on(async {
        let (_client, mut connection) = embed(config);
        let mut server = Server::new(1, job(SLOW));
        let line = tokio::select! {
            line = lines.wait("child") => line,
            _ = server.talk(&mut connection, |_| false) => panic!("the client left"),
        };
        signal(line.pid, Signal::SIGSTOP);
        (line.pid, line.text["child ".len()..].parse().unwrap())
    });
    drop(dropped);
    runtime().block_on(async {
        assert_dies(pid).await;
        assert_dies(grandchild).await;
    });
}

#[tokio::test]
async fn a_stopped_worker_is_killed_and_its_work_done_again() {
    let (config, mut lines) = config(2, "");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    tokio::join!(server.finish(&mut connection), async {
        let line = lines.wait("walked").await;
        signal(line.pid, Signal::SIGSTOP);
    });
    assert_whole(&server, SLOW);
    assert_eq!(server.lost_workers, 1);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
}

#[tokio::test]
async fn an_item_that_kills_its_worker_is_set_aside_and_the_rest_is_walked() {
    let (config, lines) = config(2, "poison");
    let tree = Tree {
        width: 2,
        depth: 5,
        pause: Duration::ZERO,
    };
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(tree));
    server.finish(&mut connection).await;
    // 1/1/1, 0/1/1/1, 1/1/1/1 and all that end so down to depth 5: none is walked, nor what is below.
    assert!(!server.parent.aside().is_empty());
    assert!(server.walk.directories < tree.directories());
    let reason = &server.parent.aside().values().next().unwrap().reason;
    assert!(reason.contains("exited with status 9"), "{reason}");
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
}

#[tokio::test]
async fn a_worker_that_hangs_in_a_system_call_and_lives_was_waited_for_for_ever() {
    let (config, lines) = config(2, "stuck");
    let tree = Tree {
        width: 2,
        depth: 5,
        pause: Duration::ZERO,
    };
    let (client, mut connection) = embed(config);
    let mut spec = job(tree);
    spec.timing.stall = Duration::from_millis(200);
    // Its silence is not what gives it away.
    spec.timing.dead_after = Duration::from_secs(600);
    let mut server = Server::new(1, spec);
    server.finish(&mut connection).await;
    assert!(server.walk.directories < tree.directories());
    let reason = &server.parent.aside().values().next().unwrap().reason;
    assert!(reason.contains("hangs: stat of"), "{reason}");
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
}

#[tokio::test]
async fn nobody_worked_in_the_place_of_one_that_came_no_further() {
    let (config, mut lines) = config(1, "stuck");
    let tree = Tree {
        width: 2,
        depth: 5,
        pause: Duration::ZERO,
    };
    let (client, mut connection) = embed(config);
    let mut spec = job(tree);
    // It is not given up.
    spec.timing.stall = Duration::from_secs(600);
    spec.timing.dead_after = Duration::from_secs(600);
    let mut server = Server::new(1, spec);
    let two_start = async {
        let first = lines.wait("started").await.pid;
        (first, lines.wait("started").await.pid)
    };
    tokio::select! {
        _ = server.talk(&mut connection, |_| false) => panic!("it ended"),
        (first, second) = two_start => assert!(first != second && is_alive(first)),
    }
    drop(connection);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 2).await;
}

#[tokio::test]
async fn workers_that_end_at_once_end_the_job_with_a_reason() {
    let (config, _lines) = config(2, "exit");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server.talk(&mut connection, |_| false).await;
    let said = server.lost.first().expect("the client did not leave");
    assert!(said.contains("workers do not work here"), "{said}");
    assert!(said.contains("exited with status 7"), "{said}");
    let error = client.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::GaveUp(_)), "{error}");
}

#[tokio::test]
async fn workers_that_refuse_the_job_end_it_and_are_not_started_for_ever() {
    let (config, lines) = config(2, "unwilling");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server.talk(&mut connection, |_| false).await;
    let said = server.lost.first().expect("the client did not leave");
    assert!(said.contains("no such plugin"), "{said}");
    drop(connection);
    assert!(client.await.unwrap().is_err());
    assert_all_gone(lines, 5).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_ends_the_job_with_its_name() {
    let (mut config, _lines) = config(1, "");
    config.worker.program = "/no/such/program".into();
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server.talk(&mut connection, |_| false).await;
    let error = client.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("cannot start /no/such/program"), "{error}");
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
    assert_all_gone(lines, 4).await;
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

#[tokio::test]
async fn workers_get_the_roots_where_this_host_has_them() {
    let (mut config, mut lines) = config(1, "");
    config.maps = vec![PathMap {
        server: b"/data".to_vec(),
        local: b"/mnt/a".to_vec(),
    }];
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    let (_, line) = tokio::join!(server.finish(&mut connection), lines.wait("root"));
    assert_eq!(line.text, "root /mnt/a");
    assert!(client.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_root_outside_the_allowed_ones_is_refused() {
    let (mut config, lines) = config(1, "");
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/usr", here.path().join("way-out")).unwrap();
    config.allow_roots = vec![here.path().to_owned()];
    let (client, mut connection) = embed(config);
    let mut spec = job(SLOW);
    let here = here.path().to_str().unwrap();
    spec.roots = [
        here,
        "/usr",
        &format!("{here}/way-out"),
        &format!("{here}/../{}", "x"),
        &format!("{here}/nothing"),
    ]
    .map(root)
    .to_vec();
    let mut server = Server::new(1, spec);
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    let kinds: Vec<&str> = server
        .views
        .iter()
        .map(|view| match view {
            RootView::Seen(_) => "seen",
            RootView::Missing { kind, .. } => kind,
            RootView::Refused(_) => "refused",
        })
        .collect();
    assert_eq!(kinds, ["seen", "refused", "refused", "refused", "ENOENT"]);
    drop(connection);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 0).await;
}

#[tokio::test]
async fn a_plugin_that_acts_must_be_allowed() {
    let mut spec = job(SLOW);
    spec.plugin = "purge".to_owned();
    spec.acts = true;
    let (mut allowing, _lines) = config(1, "");
    allowing.allow_plugins = Allow::Only(vec!["purge".to_owned()]);
    let (client, mut connection) = embed(allowing);
    let mut server = Server::new(1, spec.clone());
    server.finish(&mut connection).await;
    assert_whole(&server, SLOW);
    assert!(client.await.unwrap().is_ok());

    let (refusing, lines) = config(1, "");
    let (client, mut connection) = embed(refusing);
    let mut server = Server::new(1, spec);
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    let [RootView::Refused(reason)] = &server.views[..] else {
        panic!("not refused: {:?}", server.views);
    };
    assert!(reason.contains("--allow purge"), "{reason}");
    drop(connection);
    assert!(client.await.unwrap().is_ok());
    assert!(lines.pids().await.is_empty());
}

#[tokio::test]
async fn a_mount_that_does_not_answer_holds_up_nothing_else() {
    let (mut config, _lines) = config(1, "");
    config.timings.root_look = Duration::from_millis(100);
    config.look_at_root = Arc::new(|path| {
        if path == b"/dead" {
            loop {
                std::thread::park();
            }
        }
        support::seen()
    });
    let (client, mut connection) = embed(config);
    let mut spec = job(SLOW);
    spec.roots = ["/data", "/dead", "/more"].map(root).to_vec();
    let mut server = Server::new(1, spec);
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    assert!(matches!(server.views[0], RootView::Seen(_)));
    assert!(matches!(&server.views[1], RootView::Missing { kind, .. } if kind == "ETIMEDOUT"));
    assert!(matches!(server.views[2], RootView::Seen(_)));
    drop(connection);
    assert!(client.await.unwrap().is_ok());
}
