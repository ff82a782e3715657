use super::relay::{SERVER, WORKER_ID, client, cut, poll, sent, server_grants, worker_commits};
use super::*;
use crate::ledger::table::RUN_BYTES;

/// Memory for so many runs, of a few items each.
fn room(runs: u64) -> u64 {
    runs * (RUN_BYTES + 100)
}

fn frugal(conn: u64, frugal: bool) -> Action {
    send(conn, Down::Frugal(frugal))
}

#[test]
fn children_are_frugal_until_there_is_a_quarter_less_than_the_limit() {
    let mut parent = server();
    parent.limit_memory(room(4));
    let child = join(&mut parent, 1, 1);
    for id in 1..=5 {
        assert!(!drain(&mut parent).contains(&frugal(1, true)));
        parent.add(vec![dirs(id, "", &["a"])], true);
    }
    assert!(drain(&mut parent).contains(&frugal(1, true)));
    // Those who come later are told too.
    parent.handle(ms(0), ConnId(2), hello(2, 1));
    assert_eq!(drain(&mut parent).last(), Some(&frugal(2, true)));
    let mut seq = 0;
    let mut done = |parent: &mut Parent, id| {
        seq += 1;
        let mut commit = commit(child, seq);
        commit.done = vec![range(id, id + 1)];
        say(parent, 1, commit)
    };
    beat(&mut parent, ms(1), 1, child, load(0, true));
    assert!(!done(&mut parent, 1).contains(&frugal(1, false)));
    let actions = done(&mut parent, 2);
    assert_eq!(actions[2..], [frugal(1, false), frugal(2, false)]);
}

#[test]
fn what_is_cut_and_moved_and_done_leaves_no_bytes_behind() {
    let mut parent = server();
    let names: Vec<String> = (0..100).map(|n| "x".repeat(n)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    parent.add(vec![dirs(1, "somewhere/deep", &names)], true);
    let before = parent.table.bytes();
    let child = join(&mut parent, 1, 1);
    for (seq, range) in (1..).zip([range(1, 2), range(50, 60), range(2, 50), range(60, 101)]) {
        let mut commit = commit(child, seq);
        (commit.give, commit.load) = (vec![range], load(0, true));
        say(&mut parent, 1, commit.clone());
    }
    assert!(parent.table.bytes() > before, "cuts cost something");
    let mut commit = commit(child, 5);
    commit.done = vec![range(1, 101)];
    say(&mut parent, 1, commit);
    assert!(parent.is_done());
    assert_eq!(parent.table.bytes(), 0);
}

#[test]
fn a_client_hands_down_that_the_server_wants_it_to_be_frugal() {
    let mut relay = client(false);
    let said = |relay: &mut Relay| -> Vec<RelayAction> {
        let actions = poll(relay).into_iter();
        actions
            .filter(|action| matches!(action, RelayAction::Worker(_)))
            .collect()
    };
    for wanted in [true, false] {
        relay.server_message(ms(1), SERVER, Down::Frugal(wanted));
        assert_eq!(said(&mut relay), [RelayAction::Worker(frugal(1, wanted))]);
        relay.server_message(ms(1), SERVER, Down::Frugal(wanted));
        assert_eq!(said(&mut relay), []);
    }
    // The next server process may not know that it ever wanted that.
    relay.server_message(ms(1), SERVER, Down::Frugal(true));
    relay.server_closed(ms(2), SERVER);
    relay.server_connected(ms(3), ConnId(501));
    poll(&mut relay);
    relay.server_message(ms(3), ConnId(501), Down::Resumed { last_commit: 0 });
    assert!(said(&mut relay).contains(&RelayAction::Worker(frugal(1, false))));
}

#[test]
fn a_client_returns_what_there_is_no_memory_for() {
    let mut relay = client(false);
    let parent = relay.parent.as_mut().expect("a job");
    parent.limit_memory(room(3));
    server_grants(&mut relay, 1, vec![dirs(1, "", &["a"])]);
    worker_commits(&mut relay, 1, 1, |commit| {
        commit.done = vec![range(1, 2)];
        commit.new = (0..6).map(|n| dirs(WORKER_ID + n, "a", &["x"])).collect();
        commit.load = load(6, false);
    });
    assert!(!relay.wants_cut(ms(1)), "the pool is empty");
    relay.balance(ms(1));
    assert_eq!(poll(&mut relay), [], "it was hungry a moment ago");
    relay.tick(ms(2000));
    sent(&mut relay);
    relay.balance(ms(2000));
    let asked = RelayAction::Worker(send(1, Down::Shed(Shed { id: 1, hungry: 1 })));
    assert_eq!(poll(&mut relay), [asked]);
    relay.balance(ms(1));
    assert_eq!(poll(&mut relay), [], "it was asked");
    worker_commits(&mut relay, 1, 2, |commit| {
        commit.give = vec![range(WORKER_ID, WORKER_ID + 4)];
        (commit.answers, commit.load) = (Some(1), load(2, false));
    });
    // Nobody has asked for it, and it goes at once.
    assert!(relay.wants_cut(ms(1)));
    let commit = cut(&mut relay);
    assert_eq!(commit.give, [range(WORKER_ID, WORKER_ID + 4)]);
    assert_eq!(commit.answers, None);
    assert!(!relay.wants_cut(ms(1)), "there is room again");
    let lifted = RelayAction::Worker(frugal(1, false));
    assert!(poll(&mut relay).contains(&lifted));
    assert_eq!(sent(&mut relay), []);
}
