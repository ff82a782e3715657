use super::*;

pub(super) const SERVER: ConnId = ConnId(500);

/// A client with a job and one worker, which has not been granted anything.
pub(super) fn client(acts: bool) -> Relay {
    client_of(spec(acts, 1))
}

/// The same with this job.
pub(super) fn client_of(job: JobSpec) -> Relay {
    let (name, release) = ("c".to_owned(), "1.2.3".to_owned());
    let uplink = UplinkConfig {
        name,
        workers: 1,
        nonce: 5,
        release,
        resumable: true,
        uncut: false,
    };
    let mut relay = Relay::new(RelayConfig {
        uplink,
        secrets: || SECRET,
    });
    relay.server_connected(ms(0), SERVER);
    let welcome = Welcome {
        epoch: epoch(ChildId(0)),
        secret: Secret(SECRET),
        ids: range(1000, 1_000_000_000),
        job,
        forward_logs: false,
        journaled: false,
    };
    relay.server_message(ms(0), SERVER, Down::Welcome(Box::new(welcome)));
    poll(&mut relay);
    relay.ready(vec![RootView::Refused("test".to_owned())]);
    worker(&mut relay, 1);
    sent(&mut relay);
    relay
}

pub(super) fn poll(relay: &mut Relay) -> Vec<RelayAction> {
    std::iter::from_fn(|| relay.poll_action(ms(1))).collect()
}

pub(super) fn sent(relay: &mut Relay) -> Vec<Up> {
    std::iter::from_fn(|| relay.poll_server()).collect()
}

/// The epoch of the nth worker.
pub(super) fn worker_epoch(n: u64) -> Epoch {
    Epoch {
        job: JOB,
        number: n,
    }
}

pub(super) fn worker(relay: &mut Relay, n: u64) -> Vec<RelayAction> {
    relay.worker_message(ms(0), ConnId(n), hello(n, 1));
    let view = RootView::Refused("never looked".to_owned());
    let ready = Ready {
        epoch: Some(worker_epoch(n)),
        roots: vec![view],
    };
    relay.worker_message(ms(0), ConnId(n), Up::Ready(ready));
    poll(relay)
}

pub(super) fn server_grants(relay: &mut Relay, seq: u64, items: Vec<Parcel>) -> Vec<RelayAction> {
    let (epoch, ids) = (epoch(ChildId(0)), IdRange::default());
    let grant = Grant {
        epoch,
        seq,
        items,
        ids,
        careful: false,
    };
    relay.server_message(ms(1), SERVER, Down::Grant(grant));
    poll(relay)
}

pub(super) fn worker_commits(
    relay: &mut Relay,
    n: u64,
    seq: u64,
    change: impl FnOnce(&mut Commit),
) {
    let mut commit = Commit {
        epoch: worker_epoch(n),
        ..commit(ChildId(0), seq)
    };
    change(&mut commit);
    relay.worker_message(ms(1), ConnId(n), Up::Commit(Box::new(commit)));
    poll(relay);
}

pub(super) fn cut(relay: &mut Relay) -> Commit {
    relay.cut(ms(1), None);
    let commit = sent(relay).into_iter().find_map(|message| match message {
        Up::Commit(commit) => Some(*commit),
        _ => None,
    });
    commit.expect("a commit")
}

/// The first id that workers of this client use.
pub(super) const WORKER_ID: u64 = 1000;

#[test]
fn a_worker_serves_what_its_client_serves() {
    let mut relay = client(false);
    let actions = server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    let [
        RelayAction::Worker(Action::Send {
            conn,
            message: Down::Grant(grant),
        }),
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(
        (*conn, &grant.items[..]),
        (ConnId(1), &[dirs(1, "", &["a"])][..])
    );
}

#[test]
fn a_commit_is_the_difference_to_the_record() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    worker_commits(&mut relay, 1, 1, |commit| {
        commit.done = vec![range(1, 2)];
        commit.new = vec![dirs(WORKER_ID, "a", &["x", "y"])];
    });
    worker_commits(&mut relay, 1, 2, |commit| {
        commit.done = vec![range(WORKER_ID, WORKER_ID + 1)]
    });
    let first = cut(&mut relay);
    let open = dirs(WORKER_ID + 1, "a", &["y"]);
    assert_eq!((first.done, first.new), (vec![range(1, 2)], vec![open]));
    worker_commits(&mut relay, 1, 3, |commit| {
        commit.done = vec![range(WORKER_ID + 1, WORKER_ID + 2)];
    });
    assert!(relay.wants_cut(ms(1)), "nothing is left");
    let second = cut(&mut relay);
    assert_eq!(
        (second.done, second.new),
        (vec![range(WORKER_ID + 1, WORKER_ID + 2)], vec![])
    );
}

#[test]
fn what_is_not_polled_yet_is_not_committed() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    let mut commit = Commit {
        epoch: worker_epoch(1),
        ..commit(ChildId(0), 1)
    };
    commit.done = vec![range(1, 2)];
    relay.worker_message(ms(1), ConnId(1), Up::Commit(Box::new(commit)));
    assert!(!relay.wants_cut(ms(9999)));
    poll(&mut relay);
    assert!(relay.wants_cut(ms(9999)));
}

#[test]
fn what_this_host_sees_is_said_again_when_the_link_was_lost() {
    let mut relay = client(false);
    relay.server_closed(ms(2), SERVER);
    relay.server_connected(ms(3), ConnId(501));
    sent(&mut relay);
    relay.server_message(ms(3), ConnId(501), Down::Resumed { last_commit: 0 });
    poll(&mut relay);
    assert!(
        sent(&mut relay)
            .iter()
            .any(|message| matches!(message, Up::Ready(_)))
    );
}

#[test]
fn no_timer_runs_while_the_window_is_full() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    let window = u64::from(Timing::default().commit_window);
    for seq in 1..=window + 1 {
        worker_commits(&mut relay, 1, seq, |commit| {
            commit.result = Some(Delta::default())
        });
        if seq <= window {
            cut(&mut relay);
        }
    }
    assert!(!relay.wants_cut(ms(900)));
    assert_eq!(relay.poll_timeout(), Some(ms(0)), "the first beat is due");
    relay.tick(ms(900));
    assert!(relay.poll_timeout() > Some(ms(900)));
    relay.server_message(ms(901), SERVER, Down::Ack { seq: 1 });
    assert!(relay.poll_timeout() <= Some(ms(901)) && relay.wants_cut(ms(901)));
}

fn worker_lease(relay: &mut Relay) -> Time {
    let (epoch, load) = (worker_epoch(1), Load::default());
    let beat = UpBeat {
        epoch,
        number: 1,
        last_grant: 0,
        load,
    };
    relay.worker_message(ms(10), ConnId(1), Up::Beat(beat));
    let lease = poll(relay).into_iter().find_map(|action| match action {
        RelayAction::Worker(Action::Send {
            message: Down::Beat(beat),
            ..
        }) => Some(beat.lease),
        _ => None,
    });
    lease.expect("an answer")
}

#[test]
fn no_worker_acts_before_the_server_has_allowed_it_nor_longer() {
    let mut relay = client(true);
    assert_eq!(worker_lease(&mut relay), ms(0));
    relay.tick(ms(5));
    let answer = DownBeat {
        epoch: epoch(ChildId(0)),
        number: 1,
        lease: ms(100),
    };
    relay.server_message(ms(8), SERVER, Down::Beat(answer));
    assert_eq!(worker_lease(&mut relay), ms(95));
}

#[test]
fn the_end_of_a_directory_that_waits_does_not_still_the_hunger() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["d"])]);
    worker(&mut relay, 2);
    worker_commits(&mut relay, 1, 1, |commit| {
        commit.done = vec![range(1, 2)];
        commit.new = vec![after(WORKER_ID, 7), names(WORKER_ID + 1, Some(7), &["x"])];
        commit.give = vec![range(WORKER_ID, WORKER_ID + 1)];
    });
    assert!(relay.load().hungry);
    assert_eq!(relay.load().held, 1);
    // Nor does it keep the server's request from a worker.
    relay.server_message(ms(2), SERVER, Down::Shed(Shed { id: 4, hungry: 1 }));
    poll(&mut relay);
    assert!(!relay.wants_cut(ms(2)));
}

#[test]
fn the_end_of_a_directory_goes_up_with_its_parts_even_if_it_has_lost_one() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["d"])]);
    worker_commits(&mut relay, 1, 1, |commit| {
        commit.done = vec![range(1, 2)];
        commit.new = vec![
            after(WORKER_ID, 7),
            names(WORKER_ID + 1, Some(7), &["x"]),
            names(WORKER_ID + 2, Some(7), &["y"]),
        ];
        commit.give = vec![
            range(WORKER_ID, WORKER_ID + 1),
            range(WORKER_ID + 2, WORKER_ID + 3),
        ];
        commit.failed = vec![Failure {
            id: ItemId(WORKER_ID + 1),
            reason: "no".to_owned(),
        }];
        commit.load = load(0, false);
    });
    relay.server_message(ms(2), SERVER, Down::Shed(Shed { id: 4, hungry: 1 }));
    poll(&mut relay);
    assert!(relay.wants_cut(ms(2)));
    let up = cut(&mut relay);
    assert_eq!(
        up.give,
        [
            range(WORKER_ID, WORKER_ID + 1),
            range(WORKER_ID + 2, WORKER_ID + 3)
        ]
    );
    let failed: Vec<_> = up.failed.iter().map(|failure| failure.id.0).collect();
    assert_eq!(failed, [WORKER_ID + 1]);
    let parent = relay.workers().expect("a job");
    assert!(parent.is_done() && parent.counts().aside == 0 && parent.counts().balanced());
}

#[test]
fn a_suspect_is_not_given_to_the_server() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    relay.worker_died(ms(2), ConnId(1), Some(ItemId(1)), "killed");
    poll(&mut relay);
    relay.server_message(ms(2), SERVER, Down::Shed(Shed { id: 4, hungry: 1 }));
    poll(&mut relay);
    assert!(
        !relay.wants_cut(ms(2)),
        "it would be granted again and kill again, for ever"
    );
}

#[test]
fn the_request_of_a_lost_link_is_forgotten() {
    let mut relay = client(false);
    relay.server_message(ms(2), SERVER, Down::Shed(Shed { id: 4, hungry: 1 }));
    poll(&mut relay);
    relay.server_closed(ms(2), SERVER);
    relay.server_connected(ms(3), ConnId(501));
    relay.server_message(ms(3), ConnId(501), Down::Resumed { last_commit: 0 });
    poll(&mut relay);
    assert!(!relay.wants_cut(ms(4)), "nothing to answer");
}

#[test]
fn a_client_without_workers_gives_what_it_holds() {
    let mut relay = client(false);
    relay.worker_died(ms(1), ConnId(1), None, "killed");
    poll(&mut relay);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    assert!(!relay.load().hungry);
    relay.server_message(ms(2), SERVER, Down::Shed(Shed { id: 4, hungry: 1 }));
    poll(&mut relay);
    assert!(relay.wants_cut(ms(2)));
    let up = cut(&mut relay);
    assert_eq!((up.give, up.answers), (vec![range(1, 2)], Some(4)));
}

#[test]
fn finished_work_of_a_lost_link_is_committed_when_it_is_back() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    relay.server_closed(ms(2), SERVER);
    poll(&mut relay);
    worker_commits(&mut relay, 1, 1, |commit| commit.done = vec![range(1, 2)]);
    assert!(!relay.wants_cut(ms(5000)));
    relay.server_connected(ms(3), ConnId(501));
    relay.server_message(ms(3), ConnId(501), Down::Resumed { last_commit: 0 });
    poll(&mut relay);
    assert!(relay.wants_cut(ms(4)));
    assert_eq!(cut(&mut relay).done, [range(1, 2)]);
}

#[test]
fn epochs_of_workers_differ_between_sessions_also_after_the_server_has_died() {
    let mut relay = client(false);
    let first = server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    relay.server_message(ms(1), SERVER, Down::Refused(Refusal::Fenced));
    poll(&mut relay);
    relay.server_connected(ms(1), ConnId(501));
    let number = (1 << 32) + 1;
    let welcome = Welcome {
        epoch: Epoch { job: JOB, number },
        secret: Secret(SECRET),
        ids: range(1000, 1_000_000_000),
        job: spec(false, 1),
        forward_logs: false,
        journaled: false,
    };
    let welcome = Down::Welcome(Box::new(welcome));
    relay.server_message(ms(1), ConnId(501), welcome);
    poll(&mut relay);
    relay.worker_message(ms(1), ConnId(2), hello(2, 1));
    let greeted = poll(&mut relay)
        .into_iter()
        .find_map(|action| match action {
            RelayAction::Worker(Action::Send {
                message: Down::Welcome(welcome),
                ..
            }) => Some(welcome.epoch),
            _ => None,
        });
    assert_ne!(greeted, Some(worker_epoch(1)), "{first:?}");
}

#[test]
fn a_worker_that_died_when_nothing_else_was_to_be_said_was_not_told_of() {
    let mut relay = client(false);
    relay.worker_died(ms(1), ConnId(1), None, "killed");
    poll(&mut relay);
    assert!(!relay.wants_cut(ms(9999)));
    relay.note_result();
    assert!(relay.wants_cut(ms(9999)));
    cut(&mut relay);
    assert!(!relay.wants_cut(ms(9999)));
}
