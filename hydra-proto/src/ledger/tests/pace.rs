//! A client at a server that answers late: what it says, and what it does not.

use super::balance::nearly_dry;
use super::relay::{
    SERVER, WORKER_ID, client, client_of, cut, poll, sent, server_grants, worker, worker_commits,
};
use super::*;

/// A beat of the client is on its way for so long before it is answered.
fn answered(relay: &mut Relay, at: u64, took: u64) {
    relay.tick(ms(at));
    let number = sent(relay).into_iter().find_map(|message| match message {
        Up::Beat(beat) => Some(beat.number),
        _ => None,
    });
    answer(relay, at + took, number.expect("a beat is due"));
}

fn answer(relay: &mut Relay, at: u64, number: u64) {
    let answer = DownBeat {
        epoch: epoch(ChildId(0)),
        number,
        lease: ms(8000),
    };
    relay.server_message(ms(at), SERVER, Down::Beat(answer));
}

/// A client whose server has answered one beat in 1 ms and the next in 41 ms: by 2041 ms.
fn late_client(mut relay: Relay) -> Relay {
    answered(&mut relay, 1000, 1);
    answered(&mut relay, 2000, 41);
    relay
}

fn says(relay: &mut Relay, number: u64, load: Load) {
    let beat = UpBeat {
        epoch: relay::worker_epoch(1),
        number,
        last_grant: u64::MAX,
        load,
    };
    relay.worker_message(ms(2000), ConnId(1), Up::Beat(beat));
    poll(relay);
}

/// The numbers of the beats that the client sends.
fn told(relay: &mut Relay, at: u64) -> Vec<u64> {
    relay.balance(ms(at));
    let beats = sent(relay).into_iter().filter_map(|message| match message {
        Up::Beat(beat) => Some(beat.number),
        _ => None,
    });
    beats.collect()
}

#[test]
fn news_of_hunger_queued_behind_older_ones() {
    let mut relay = late_client(client(false));
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    says(&mut relay, 1, nearly_dry());
    assert_eq!(told(&mut relay, 2200), [3]);
    says(&mut relay, 2, load(0, true));
    assert_eq!(told(&mut relay, 2210), [], "the first is not answered");
    answer(&mut relay, 2250, 3);
    assert_eq!(told(&mut relay, 2250), [4]);
}

#[test]
fn hunger_waits_for_nothing_where_answers_are_not_late() {
    let mut relay = client(false);
    answered(&mut relay, 1000, 5);
    answered(&mut relay, 2000, 5);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    says(&mut relay, 1, nearly_dry());
    assert_eq!(told(&mut relay, 2010), [3]);
    says(&mut relay, 2, load(0, true));
    assert_eq!(told(&mut relay, 2011), [4]);
}

#[test]
fn a_grant_was_answered_with_hunger_before_it_could_grow() {
    let mut relay = late_client(client(false));
    let grant = Grant {
        epoch: epoch(ChildId(0)),
        seq: 1,
        items: vec![dirs(1, "", &["a"])],
        ids: IdRange::default(),
        careful: false,
    };
    relay.server_message(ms(2050), SERVER, Down::Grant(grant));
    while relay.poll_action(ms(2050)).is_some() {}
    says(&mut relay, 1, nearly_dry());
    assert_eq!(told(&mut relay, 2060), []);
    assert!(relay.poll_timeout() <= Some(ms(2090)));
    assert_eq!(told(&mut relay, 2090), [3]);
    // Who has nothing left does not wait.
    says(&mut relay, 2, load(0, true));
    answer(&mut relay, 2095, 3);
    assert_eq!(told(&mut relay, 2095), [4]);
}

#[test]
fn hunger_told_before_a_grant_of_ids_came_was_never_told_again() {
    let mut relay = client(false);
    says(&mut relay, 1, load(0, true));
    assert_eq!(told(&mut relay, 2000), [1]);
    let grant = Grant {
        epoch: epoch(ChildId(0)),
        seq: 1,
        items: Vec::new(),
        ids: IdRange {
            start: 1 << 50,
            end: 1 << 51,
        },
        careful: false,
    };
    relay.server_message(ms(2001), SERVER, Down::Grant(grant));
    while relay.poll_action(ms(2001)).is_some() {}
    assert_eq!(told(&mut relay, 2001), [2], "the server has forgotten it");
}

#[test]
fn the_first_commit_after_a_grant_came_at_once() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a", "b"])]);
    worker_commits(&mut relay, 1, 1, |commit| commit.done = vec![range(1, 2)]);
    relay.balance(ms(2));
    assert!(!relay.wants_cut(ms(2)));
    assert!(relay.wants_cut(ms(1) + Timing::default().commit_interval));
}

/// A late client that holds four directories on the server's record, and two that it found since.
fn asked_client(relay: Relay) -> Relay {
    let mut relay = late_client(relay);
    relay.worker_died(ms(2041), ConnId(1), None, "killed");
    poll(&mut relay);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a", "b", "c", "d"])]);
    worker(&mut relay, 2);
    relay.worker_message(
        ms(2041),
        ConnId(2),
        Up::Commit(Box::new(Commit {
            epoch: relay::worker_epoch(2),
            done: vec![range(1, 2)],
            new: vec![dirs(lease(2), "a", &["x", "y"])],
            give: vec![range(2, 5)],
            load: load(2, false),
            ..commit(ChildId(0), 1)
        })),
    );
    poll(&mut relay);
    sent(&mut relay);
    let shed = Shed { id: 4, hungry: 1 };
    relay.server_message(ms(2042), SERVER, Down::Shed(shed));
    poll(&mut relay);
    relay
}

/// The first id of the nth worker.
fn lease(n: u64) -> u64 {
    WORKER_ID + (n - 1) * ((1_000_000_000 - 1000) / (1 << 16))
}

fn commits(relay: &mut Relay) -> Vec<Commit> {
    let commits = sent(relay).into_iter().filter_map(|message| match message {
        Up::Commit(commit) => Some(*commit),
        _ => None,
    });
    commits.collect()
}

#[test]
fn an_answer_to_a_busy_server_put_all_that_was_found_on_record() {
    let mut relay = asked_client(client(false));
    relay.balance(ms(2200));
    let answers = commits(&mut relay);
    let [up] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(up.answers, Some(4));
    assert!(up.done.is_empty() && up.new.is_empty() && !up.give.is_empty());
    // The next commit says the rest.
    let rest = cut(&mut relay);
    assert_eq!(rest.done, [range(1, 2)]);
    assert_eq!(rest.new, [dirs(lease(2), "a", &["x", "y"])]);
}

#[test]
fn with_intents_every_commit_says_everything() {
    let mut job = spec(false, 1);
    job.walk.intents = true;
    let mut relay = asked_client(client_of(job));
    relay.balance(ms(2200));
    assert_eq!(commits(&mut relay), []);
    assert!(relay.wants_cut(ms(2200)));
}

#[test]
fn a_request_got_what_was_left_over_and_the_workers_were_not_asked() {
    let mut relay = client(false);
    worker(&mut relay, 2);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a", "b"])]);
    for n in [1, 2] {
        worker_commits(&mut relay, n, 1, |commit| {
            commit.load = load(20, false);
            commit.new = vec![dirs(lease(n), "a", &["x", "y"])];
            commit.done = vec![range(n, n + 1)];
            commit.give = vec![range(lease(n), lease(n) + n - 1)];
        });
    }
    let shed = Shed { id: 4, hungry: 1 };
    relay.server_message(ms(11), SERVER, Down::Shed(shed));
    poll(&mut relay);
    relay.balance(ms(11));
    let is_shed = |action: &RelayAction| {
        matches!(
            action,
            RelayAction::Worker(Action::Send {
                message: Down::Shed(_),
                ..
            })
        )
    };
    let asked = poll(&mut relay).into_iter().filter(is_shed);
    assert_eq!(asked.count(), 2);
}
