//! A client that runs dry, or holds much: what it tells the server, and when.

use super::relay::*;
use super::*;

#[test]
fn a_client_says_that_it_is_hungry_and_again_that_it_starves() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a", "b"])]);
    relay.tick(ms(1));
    sent(&mut relay);
    let says = |relay: &mut Relay, seq, load| {
        worker_commits(relay, 1, seq, |commit| commit.load = load);
        relay.balance(ms(2));
        let hungry = |message: &Up| matches!(message, Up::Beat(beat) if beat.load.hungry);
        sent(relay).iter().filter(|message| hungry(message)).count()
    };
    let nearly = Load {
        busy: 1,
        ..load(0, true)
    };
    assert_eq!(says(&mut relay, 1, nearly), 1);
    assert_eq!(says(&mut relay, 2, nearly), 0);
    assert_eq!(says(&mut relay, 3, load(0, true)), 1);
    assert_eq!(says(&mut relay, 4, load(0, true)), 0);
}

#[test]
fn what_workers_have_in_hand_is_not_held() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    assert_eq!(relay.load().held, 1);
    worker_commits(&mut relay, 1, 1, |commit| commit.load = load(0, false));
    assert_eq!(relay.load().held, 0);
}

#[test]
fn a_client_says_that_it_has_enough_again() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    let dry = UpBeat {
        epoch: worker_epoch(1),
        number: 1,
        last_grant: 1,
        load: load(0, true),
    };
    relay.worker_message(ms(1), ConnId(1), Up::Beat(dry));
    poll(&mut relay);
    let told = |relay: &mut Relay, at: u64| {
        relay.balance(ms(at));
        let beats = sent(relay).into_iter().filter_map(|message| match message {
            Up::Beat(beat) => Some(beat.load.hungry),
            _ => None,
        });
        beats.collect::<Vec<bool>>()
    };
    assert_eq!(told(&mut relay, 2), [true]);
    let busy = UpBeat {
        number: 2,
        load: load(9, false),
        ..dry
    };
    relay.worker_message(ms(2), ConnId(1), Up::Beat(busy));
    poll(&mut relay);
    assert_eq!(told(&mut relay, 1000), [false]);
}

#[test]
fn a_slow_acknowledgement_makes_commits_rarer() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a", "b", "c", "d"])]);
    let interval = spec(false, 1).timing.commit_interval;
    worker_commits(&mut relay, 1, 1, |commit| commit.done = vec![range(1, 2)]);
    relay.cut(ms(1), None);
    let late = ms(1) + interval;
    relay.server_message(late, SERVER, Down::Ack { seq: 1 });
    worker_commits(&mut relay, 1, 2, |commit| commit.done = vec![range(2, 3)]);
    relay.cut(late, None);
    worker_commits(&mut relay, 1, 3, |commit| commit.done = vec![range(3, 4)]);
    assert!(!relay.wants_cut(late + 2 * interval));
    assert!(relay.wants_cut(late + 20 * interval));
}

/// What the server is told of what this client holds.
fn told_held(relay: &mut Relay, at: u64) -> Vec<u64> {
    relay.balance(ms(at));
    let beats = sent(relay).into_iter().filter_map(|message| match message {
        Up::Beat(beat) => Some(beat.load.held),
        _ => None,
    });
    beats.collect()
}

#[test]
fn the_server_asked_those_who_had_been_rich_a_commit_ago() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    let mut number = 0;
    let mut holds = |relay: &mut Relay, held| {
        number += 1;
        let beat = UpBeat {
            epoch: worker_epoch(1),
            number,
            last_grant: 1,
            load: load(held, false),
        };
        relay.worker_message(ms(1), ConnId(1), Up::Beat(beat));
        poll(relay);
    };
    holds(&mut relay, 8);
    assert_eq!(told_held(&mut relay, 1000), []);
    holds(&mut relay, 100);
    assert_eq!(told_held(&mut relay, 2000), [100]);
    holds(&mut relay, 60);
    assert_eq!(told_held(&mut relay, 3000), []);
    holds(&mut relay, 40);
    assert_eq!(told_held(&mut relay, 4000), [40]);
    holds(&mut relay, 0);
    assert_eq!(told_held(&mut relay, 5000), [0]);
    holds(&mut relay, 3);
    assert_eq!(told_held(&mut relay, 6000), []);
}

#[test]
fn the_server_got_what_one_of_many_workers_could_spare() {
    let mut relay = client(false);
    worker(&mut relay, 2);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a", "b"])]);
    let lease = (1_000_000_000 - 1000) / (1 << 16);
    for n in [1, 2] {
        worker_commits(&mut relay, n, 1, |commit| {
            commit.load = load(10, false);
            commit.new = vec![dirs(1000 + (n - 1) * lease, "a", &["x", "y"])];
            commit.done = vec![range(n, n + 1)];
        });
    }
    cut(&mut relay);
    relay.server_message(ms(11), SERVER, Down::Ack { seq: 1 });
    relay.server_message(ms(11), SERVER, Down::Shed(Shed { id: 4, hungry: 1 }));
    poll(&mut relay);
    relay.balance(ms(11));
    let asked = poll(&mut relay).into_iter().filter(|action| {
        matches!(
            action,
            RelayAction::Worker(Action::Send {
                message: Down::Shed(_),
                ..
            })
        )
    });
    assert_eq!(asked.count(), 2);
    worker_commits(&mut relay, 1, 2, |commit| {
        commit.give = vec![range(1000, 1001)];
        commit.answers = Some(0);
        commit.load = load(9, false);
    });
    assert!(!relay.wants_cut(ms(5)), "the other one may give too");
    assert!(relay.wants_cut(ms(100)), "it is not waited for in vain");
    let due = relay.poll_timeout().expect("a time");
    assert!(
        due <= ms(16),
        "half as long as an acknowledgement takes: {due:?}"
    );
}
