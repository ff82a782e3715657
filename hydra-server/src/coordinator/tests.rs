use super::*;
use hydra_link::Connection;
use hydra_proto::ids::{Epoch, Secret};
use hydra_proto::job::RootSpec;
use hydra_proto::message::{
    Busy, Hello, HelloHeader, PROTOCOL_VERSION, Ready, Resume, RootFacts, RootView, Up,
};
use hydra_proto::reduce::Merger;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::Semaphore;

mod journal;
mod quitters;
mod rows;

const NOW: Time = Time::from_secs(100);

/// A server of one root that dials one client, and the far ends of its connections.
struct Server {
    coordinator: Coordinator,
    _events: tokio::sync::mpsc::Receiver<Event>,
    peers: Vec<DuplexStream>,
}

impl Server {
    fn new(has_embedded: bool) -> Self {
        Self::of(has_embedded, |_| {})
    }

    fn of(has_embedded: bool, change: impl FnOnce(&mut Config)) -> Self {
        let (intake, incoming) = Intake::new();
        let mut config = Config {
            job: JobSpec {
                plugin: "test".to_owned(),
                roots: vec![RootSpec::default()],
                ..JobSpec::default()
            },
            clients: vec![HostPort {
                host: "host1".to_owned(),
                port: 8101,
            }],
            listen: None,
            min_clients: 1,
            client_timeout: Duration::from_secs(300),
            timeouts: Timeouts::default(),
            wait: false,
            key: None,
            embedded: None,
            reducer: Box::new(Merger::<()>::default()),
            state: None,
            memory: 1 << 30,
            rows: None,
            rows_dir: None,
            progress: None,
            logs: None,
            release: "test".to_owned(),
        };
        change(&mut config);
        Self {
            coordinator: Coordinator::new(config, has_embedded, NOW, intake),
            _events: incoming,
            peers: Vec::new(),
        }
    }

    fn handle(&mut self, now: Time, event: Event) {
        self.coordinator.handle(now, event).unwrap();
    }

    fn connect(&mut self, now: Time, origin: Origin) -> ConnId {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let conn = ConnId(self.peers.len() as u64);
        self.peers.push(theirs);
        let connection = Connection::plain(ours, &Timeouts::default());
        self.handle(now, Event::Connected(origin, connection));
        conn
    }

    fn say(&mut self, now: Time, conn: ConnId, message: Up) {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        self.handle(now, Event::Message(conn, Box::new(message), room));
    }

    /// A client comes and says what it sees of the root.
    fn join(&mut self, origin: Origin, view: RootView) -> ConnId {
        self.join_as("test", 1, origin, view)
    }

    fn join_as(&mut self, name: &str, workers: u32, origin: Origin, view: RootView) -> ConnId {
        let conn = self.greet(NOW, name, workers, origin);
        let ready = Ready {
            epoch: None,
            roots: vec![view],
        };
        self.say(NOW, conn, Up::Ready(ready));
        conn
    }

    /// A client comes, and looks at the root.
    fn greet(&mut self, now: Time, name: &str, workers: u32, origin: Origin) -> ConnId {
        let conn = self.connect(now, origin);
        let hello = Hello {
            header: header(),
            name: name.to_owned(),
            workers,
            nonce: conn.0,
        };
        self.say(now, conn, Up::Hello(hello));
        conn
    }

    /// The clients that took part, and their workers.
    fn clients(&self) -> Vec<(String, u32)> {
        let runs = self.coordinator.tally.runs().into_iter();
        runs.map(|run| (run.name, run.workers)).collect()
    }

    fn is_to_be_dialled(&self) -> bool {
        let wish = self.coordinator.wishes.first().and_then(Option::as_ref);
        wish.is_some_and(|wish| *wish.borrow() > 0)
    }
}

fn header() -> HelloHeader {
    HelloHeader {
        protocol: PROTOCOL_VERSION,
        release: "test".to_owned(),
    }
}

fn seen() -> RootView {
    RootView::Seen(RootFacts {
        fs_type: "ext4".to_owned(),
        fs_id: String::new(),
        inode: 2,
        directory: true,
        on_system_disk: false,
    })
}

fn missing() -> RootView {
    RootView::Missing {
        kind: "ENOENT".to_owned(),
        message: "no such file or directory".to_owned(),
    }
}

#[tokio::test]
async fn a_client_whose_first_connection_broke_was_done_without() {
    let mut server = Server::new(false);
    let conn = server.connect(NOW, Origin::Dialled(0));
    server.handle(NOW, Event::Closed(conn, None));
    assert_eq!(server.coordinator.phase(), Phase::Gathering);
    assert!(server.is_to_be_dialled());
    server.join(Origin::Dialled(0), seen());
    assert_eq!(server.coordinator.phase(), Phase::Walking);
}

#[tokio::test]
async fn a_client_that_came_late_and_looked_at_dead_roots_was_done_without() {
    let mut server = Server::new(false);
    let timeouts = server.coordinator.timeouts();
    let came = NOW + timeouts.connect;
    server.greet(came, "test", 1, Origin::Dialled(0));
    let looked = came + timeouts.handshake + Duration::from_secs(5);
    server.coordinator.tick(looked).unwrap();
    assert_eq!(server.coordinator.phase(), Phase::Gathering);
}

#[tokio::test]
async fn a_client_that_was_stopped_when_its_server_came_back_was_done_without() {
    let mut server = Server::new(false);
    server.coordinator.began_before = true;
    let reason = "it says nothing".to_owned();
    let silent = Event::Unreachable {
        client: 0,
        reason,
        last: false,
    };
    server.handle(NOW, silent);
    assert_eq!(server.coordinator.phase(), Phase::Gathering);
    server.join(Origin::Dialled(0), seen());
    assert_eq!(server.coordinator.phase(), Phase::Walking);
}

#[tokio::test]
async fn a_connection_that_never_said_anything_stayed_for_ever() {
    let mut server = Server::new(true);
    server.join(Origin::Embedded, seen());
    server.connect(NOW, Origin::Dialled(0));
    let late = NOW + server.coordinator.job.timing.dead_after;
    assert!(server.coordinator.poll_timeout() <= Some(late));
    server.coordinator.tick(late).unwrap();
    assert!(server.is_to_be_dialled());
}

#[tokio::test]
async fn a_root_of_a_lost_client_was_given_up_at_once_where_another_client_was_left() {
    let mut server = Server::new(true);
    let local = server.join(Origin::Embedded, missing());
    let lost = server.join(Origin::Dialled(0), seen());
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    server.handle(NOW, Event::Closed(lost, None));
    let timing = server.coordinator.job.timing;
    let fenced = NOW + timing.grace;
    server.say(fenced, local, Up::Log(Vec::new()));
    server.coordinator.tick(fenced).unwrap();
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    assert_eq!(server.coordinator.parent.counts().aside, 0);
    let given_up = fenced + server.coordinator.client_timeout;
    server.say(given_up, local, Up::Log(Vec::new()));
    server.coordinator.tick(given_up).unwrap();
    assert_eq!(server.coordinator.parent.counts().aside, 1);
}

#[tokio::test]
async fn an_embedded_client_that_gave_up_was_waited_for() {
    let mut server = Server::new(true);
    let local = server.connect(NOW, Origin::Embedded);
    server.handle(NOW, Event::Closed(local, Some("it broke".to_owned())));
    let reason = "nothing listens there".to_owned();
    server.handle(
        NOW,
        Event::Unreachable {
            client: 0,
            reason,
            last: true,
        },
    );
    let Err(ServerError::NoClient(reasons)) = server.coordinator.finish() else {
        panic!("without any client nothing is walked");
    };
    assert_eq!(
        reasons,
        ["host1:8101: nothing listens there", "local: it broke"]
    );
}

#[tokio::test]
async fn a_client_that_dials_was_not_told_that_its_earlier_server_is_gone() {
    let mut server = Server::new(true);
    let conn = server.connect(NOW, Origin::Accepted);
    server.say(NOW, conn, resume(true));
    assert!(server.coordinator.conns.is_empty());
    assert_ne!(server.peers[0].read(&mut [0; 64]).await.unwrap(), 0);
}

fn resume(journaled: bool) -> Up {
    Up::Resume(Resume {
        header: header(),
        epoch: Epoch {
            job: JobId(0),
            number: 1,
        },
        secret: Secret([0; 16]),
        attempt: 1,
        last_grant: 0,
        journaled,
    })
}

#[tokio::test]
async fn a_client_whose_killed_server_kept_no_journal_was_busy_for_the_grace_time() {
    let mut server = Server::new(false);
    let conn = server.connect(NOW, Origin::Dialled(0));
    server.say(NOW, conn, resume(false));
    assert_eq!(server.coordinator.phase(), Phase::Gathering);
    assert!(server.is_to_be_dialled());
}

#[tokio::test]
async fn a_client_that_waits_for_a_server_with_a_journal_is_busy() {
    let mut server = Server::new(false);
    let conn = server.connect(NOW, Origin::Dialled(0));
    server.say(NOW, conn, resume(true));
    assert!(!server.is_to_be_dialled());
    let Err(ServerError::NoClient(reasons)) = server.coordinator.finish() else {
        panic!("without any client nothing is walked");
    };
    assert!(reasons[0].contains("busy"), "{reasons:?}");
}

#[tokio::test]
async fn messages_that_waited_for_the_coordinator_had_no_limit_in_bytes() {
    let (intake, _events) = Intake::new();
    let limit = 64 << 20;
    let first = intake.room(limit).await.unwrap();
    let second = intake.room(1);
    tokio::pin!(second);
    let waiting =
        tokio::select! { biased; _ = &mut second => false, () = std::future::ready(()) => true };
    assert!(waiting);
    drop(first);
    assert!(second.await.is_some());
}

#[tokio::test]
async fn clients_of_one_name_were_one_client_in_the_report() {
    let mut server = Server::new(false);
    server.join_as("vm", 2, Origin::Accepted, seen());
    server.join_as("vm", 1, Origin::Accepted, seen());
    server.join_as("vm (2)", 4, Origin::Accepted, seen());
    assert_eq!(
        server.clients(),
        [
            ("vm".to_owned(), 2),
            ("vm (2)".to_owned(), 1),
            ("vm (2) (2)".to_owned(), 4)
        ]
    );
}

#[tokio::test]
async fn a_client_that_named_itself_like_a_dialled_one_or_local_took_its_place() {
    let mut server = Server::new(true);
    server.join_as("host1:8101", 9, Origin::Accepted, seen());
    server.join_as("local", 8, Origin::Accepted, seen());
    server.join_as("vm", 2, Origin::Dialled(0), seen());
    server.join_as("vm", 1, Origin::Embedded, seen());
    assert_eq!(
        server.clients(),
        [
            ("host1:8101".to_owned(), 2),
            ("host1:8101 (2)".to_owned(), 9),
            ("local".to_owned(), 1),
            ("local (2)".to_owned(), 8)
        ]
    );
}

#[tokio::test]
async fn a_client_that_was_started_again_keeps_its_name() {
    let mut server = Server::new(false);
    let conn = server.join_as("vm", 2, Origin::Accepted, seen());
    server.handle(NOW, Event::Closed(conn, None));
    server.join_as("vm", 3, Origin::Accepted, seen());
    let conn = server.join_as("vm", 1, Origin::Dialled(0), seen());
    server.handle(NOW, Event::Closed(conn, None));
    server.join_as("vm", 4, Origin::Dialled(0), seen());
    assert_eq!(
        server.clients(),
        [("host1:8101".to_owned(), 4), ("vm".to_owned(), 3)]
    );
}

#[tokio::test]
async fn a_client_whose_name_was_taken_while_it_was_away_shared_it() {
    let mut server = Server::new(false);
    let conn = server.join_as("vm", 2, Origin::Accepted, seen());
    server.handle(NOW, Event::Closed(conn, None));
    server.join_as("vm", 1, Origin::Accepted, seen());
    let conn = server.connect(NOW, Origin::Accepted);
    server.coordinator.back(ChildId(0), conn).unwrap();
    assert_eq!(
        server.clients(),
        [("vm".to_owned(), 1), ("vm (2)".to_owned(), 2)]
    );
}

#[tokio::test]
async fn fewer_clients_than_were_to_dial_in_were_passed_over_in_silence() {
    let mut server = Server::of(true, |config| {
        config.clients.clear();
        config.listen = Some(HostPort {
            host: "127.0.0.1".to_owned(),
            port: 0,
        });
        config.min_clients = 3;
    });
    server.join(Origin::Embedded, seen());
    server.join(Origin::Accepted, seen());
    assert_eq!(server.coordinator.phase(), Phase::Gathering);
    let late = NOW + server.coordinator.client_timeout;
    server.say(late, ConnId(0), Up::Log(Vec::new()));
    server.coordinator.tick(late).unwrap();
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    assert_eq!(
        server.coordinator.warnings,
        ["going on with 1 of 3 clients that dial in (--min-clients)"]
    );
}

#[tokio::test]
async fn the_work_of_the_last_client_was_said_to_go_to_others() {
    let mut server = Server::new(true);
    let local = server.join(Origin::Embedded, seen());
    let last = server.join(Origin::Dialled(0), seen());
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    server.handle(NOW, Event::Closed(local, None));
    let grace = server.coordinator.job.timing.grace;
    server.handle(NOW + grace, Event::Closed(last, None));
    server.coordinator.tick(NOW + grace).unwrap();
    server.coordinator.tick(NOW + grace * 2).unwrap();
    let warnings = &server.coordinator.warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].ends_with("its work goes to others"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].ends_with("no other client is left"),
        "{warnings:?}"
    );
}

/// A server of two clients.
fn of_two(wait: bool) -> Server {
    Server::of(false, |config| {
        config.clients.push(HostPort {
            host: "host2".to_owned(),
            port: 8101,
        });
        config.wait = wait;
    })
}

fn busy_with(job: Option<JobId>) -> Up {
    Up::Busy(Busy {
        header: header(),
        server: "host9:999".to_owned(),
        job,
    })
}

#[tokio::test]
async fn one_client_of_two_names_was_waited_for_without_end() {
    for wait in [false, true] {
        let mut server = of_two(wait);
        let job = server.coordinator.job_id;
        server.join(Origin::Dialled(0), seen());
        let other = server.connect(NOW, Origin::Dialled(1));
        server.say(NOW, other, busy_with(None));
        assert_eq!(server.coordinator.phase(), Phase::Gathering);
        let other = server.connect(NOW, Origin::Dialled(1));
        server.say(NOW, other, busy_with(Some(job)));
        assert_eq!(server.coordinator.phase(), Phase::Walking);
        assert_eq!(
            server.coordinator.warnings,
            ["going on without client host2:8101: it serves this job under another name"]
        );
    }
}

#[tokio::test]
async fn a_client_that_has_not_noticed_that_its_connection_is_gone_is_dialled_again() {
    let mut server = Server::new(false);
    let job = server.coordinator.job_id;
    let conn = server.join(Origin::Dialled(0), seen());
    server.handle(NOW, Event::Closed(conn, None));
    let again = server.connect(NOW, Origin::Dialled(0));
    server.say(NOW, again, busy_with(Some(job)));
    assert!(server.is_to_be_dialled());
}

#[tokio::test]
async fn two_servers_that_wait_begin_with_what_each_has() {
    let mut server = of_two(true);
    let busy = server.connect(NOW, Origin::Dialled(0));
    server.say(NOW, busy, busy_with(Some(JobId(0))));
    assert_eq!(server.coordinator.phase(), Phase::Gathering);
    server.join(Origin::Dialled(1), seen());
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    assert!(server.is_to_be_dialled());
    server.join(Origin::Dialled(0), seen());
    let names = ["host1:8101", "host2:8101"].map(|name| (name.to_owned(), 1));
    assert_eq!(server.clients(), names);
}

#[tokio::test]
async fn the_client_in_a_server_that_was_held_up_was_lost() {
    let mut server = Server::of(true, |config| config.clients.clear());
    let local = server.connect(NOW, Origin::Embedded);
    let late = NOW + server.coordinator.job.timing.dead_after * 2;
    server.coordinator.tick(late).unwrap();
    assert!(server.coordinator.conns.contains_key(&local));
    server.join(Origin::Embedded, seen());
    server.coordinator.tick(late).unwrap();
    assert!(
        server
            .coordinator
            .parent
            .children()
            .all(|view| view.connected)
    );
    assert_eq!(server.coordinator.phase(), Phase::Walking);
}
