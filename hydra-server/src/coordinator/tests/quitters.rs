//! Clients that come again and again, and do nothing.

use super::*;
use hydra_proto::message::{BEING_STOPPED, Delta};
use hydra_proto::walk::FileType;

impl Server {
    /// The dialled client comes and says that it sees the root.
    fn come(&mut self, now: Time) -> ConnId {
        let conn = self.greet(now, "test", 1, Origin::Dialled(0));
        let ready = Ready {
            epoch: None,
            roots: vec![seen()],
        };
        self.say(now, conn, Up::Ready(ready));
        conn
    }

    /// It comes, says this, and goes.
    fn come_and_say(&mut self, now: Time, message: Up) {
        let conn = self.come(now);
        self.say(now, conn, message);
        self.handle(now, Event::Closed(conn, None));
    }

    /// Its session has found an entry.
    fn found(&mut self, conn: ConnId) {
        let child = self.coordinator.conns[&conn].child.unwrap();
        let mut delta = Delta::default();
        delta.walk.count(FileType::File);
        self.coordinator.note_found(child, Some(&delta));
    }

    fn is_given_up(&self) -> bool {
        let told = |text: &String| text.contains("is not dialled again");
        let is_told = self.coordinator.warnings.iter().any(told);
        let wishes = &self.coordinator.wishes;
        assert_eq!(is_told, wishes.first().is_none_or(Option::is_none));
        is_told
    }
}

fn leaves() -> Up {
    Up::Leave("its workers cannot run".to_owned())
}

#[tokio::test]
async fn a_listening_client_that_gave_up_was_dialled_for_ever() {
    let mut server = Server::new(false);
    for _ in 0..2 {
        server.come_and_say(NOW, leaves());
        assert!(!server.is_given_up());
        assert_eq!(server.coordinator.phase(), Phase::Walking);
    }
    server.come_and_say(NOW, leaves());
    assert!(server.is_given_up());
    let warnings = &server.coordinator.warnings;
    let why = "3 times in a row and had found nothing; the last time: its workers cannot run";
    assert!(
        warnings.iter().any(|text| text.ends_with(why)),
        "{warnings:?}"
    );
    // Nobody else may come.
    let outcome = server.coordinator.finish().unwrap();
    let ending = Ending::Incomplete("no client is left".to_owned());
    assert_eq!(outcome.ending, ending);
}

#[tokio::test]
async fn a_client_that_broke_the_protocol_was_dialled_for_ever() {
    let mut server = Server::new(false);
    for times in 1..=3 {
        assert!(!server.is_given_up());
        let conn = server.come(NOW);
        let hello = Hello {
            header: header(),
            name: "test".to_owned(),
            workers: 1,
            nonce: times,
        };
        server.say(NOW, conn, Up::Hello(hello));
    }
    assert!(server.is_given_up());
}

#[tokio::test]
async fn a_client_that_finds_something_now_and_then_is_dialled_again() {
    let mut server = Server::new(false);
    for _ in 0..3 {
        server.come_and_say(NOW, leaves());
        server.come_and_say(NOW, leaves());
        let conn = server.come(NOW);
        server.found(conn);
        server.say(NOW, conn, leaves());
        server.handle(NOW, Event::Closed(conn, None));
    }
    assert!(!server.is_given_up());
}

#[tokio::test]
async fn a_client_that_is_stopped_and_started_again_is_dialled_again() {
    let mut server = Server::new(false);
    for _ in 0..9 {
        server.come_and_say(NOW, Up::Leave(BEING_STOPPED.to_owned()));
    }
    assert!(!server.is_given_up());
}

#[tokio::test]
async fn a_client_that_came_and_went_for_ever_kept_the_job_from_ending() {
    let mut server = Server::new(false);
    let timing = server.coordinator.job.timing;
    let end = NOW + server.coordinator.client_timeout + timing.dead_after * 3;
    let mut now = NOW;
    while server.coordinator.phase() != Phase::Over {
        assert!(now < end, "{:?}", server.coordinator.lonely);
        let conn = server.come(now);
        now += timing.dead_after;
        server.handle(now, Event::Closed(conn, None));
        now += Duration::from_millis(500);
        server.coordinator.tick(now).unwrap();
    }
    assert!(now >= NOW + server.coordinator.client_timeout);
}

#[tokio::test]
async fn a_client_that_lasts_or_finds_something_is_company() {
    for finds in [false, true] {
        let mut server = Server::new(false);
        let conn = server.come(NOW);
        server.handle(NOW, Event::Closed(conn, None));
        assert!(server.coordinator.lonely.is_some());
        let conn = server.come(NOW);
        assert!(server.coordinator.lonely.is_some());
        match finds {
            true => server.found(conn),
            false => {
                let late = server.coordinator.lonely_timeout().unwrap();
                assert!(late < NOW + server.coordinator.client_timeout);
                server.say(late, conn, Up::Log(Vec::new()));
            }
        }
        assert!(server.coordinator.lonely.is_none());
        assert_eq!(server.coordinator.lonely_timeout(), None);
    }
}
