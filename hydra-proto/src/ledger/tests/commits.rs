use super::*;

/// A server with one child, which owns the directories 1, 2 and 3.
fn with_work() -> (Parent, ChildId) {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.add(vec![dirs(1, "", &["a", "b", "c"])], true);
    drain(&mut parent);
    (parent, child)
}

#[test]
fn what_is_done_is_replaced_by_what_is_new() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, 2)];
    commit.new = vec![dirs(1000, "a", &["x", "y"])];
    assert_eq!(
        say(&mut parent, 1, commit),
        [applied(child, &[1], &[1000, 1001]), ack(1, 1)]
    );
    let counts = Counts {
        added: 3,
        new: 2,
        done: 1,
        owned: 4,
        ..Counts::default()
    };
    assert_eq!(parent.counts(), counts);
    assert!(parent.counts().balanced() && !parent.is_done());
}

#[test]
fn what_is_given_is_granted_to_the_next_who_is_hungry() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.give = vec![range(2, 4)];
    assert_eq!(
        say(&mut parent, 1, commit),
        [applied(child, &[], &[]), ack(1, 1)]
    );
    assert_eq!(parent.counts().pool, 2);
    let other = join(&mut parent, 2, 9);
    assert_eq!(
        drain(&mut parent)[0],
        grant(2, other, 1, vec![dirs(2, "", &["b", "c"])])
    );
}

#[test]
fn an_empty_ledger_is_a_finished_job() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, 3)];
    commit.failed = vec![Failure {
        id: ItemId(3),
        reason: "because".to_owned(),
    }];
    say(&mut parent, 1, commit);
    assert!(parent.is_done());
    let aside = parent.aside().next().unwrap();
    assert_eq!((aside.id, &*aside.reason), (ItemId(3), "because"));
}

#[test]
fn a_repeat_is_acknowledged_and_ignored() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, 2)];
    say(&mut parent, 1, commit.clone());
    let counts = parent.counts();
    assert_eq!(say(&mut parent, 1, commit), [ack(1, 1)]);
    assert_eq!(parent.counts(), counts);
}

/// `commit` ends the session with `error`, and nothing of it is applied.
#[track_caller]
fn is_refused(parent: &mut Parent, child: ChildId, commit: Commit, error: ProtocolError) {
    let reason = error.to_string();
    let refusal = Refusal::Protocol(reason.clone());
    assert_eq!(
        say(parent, 1, commit),
        [refused(1, refusal), close(1), lost(child, &reason)]
    );
    let counts = Counts {
        added: 3,
        pool: 3,
        ..Counts::default()
    };
    assert_eq!(parent.counts(), counts);
}

#[test]
fn a_gap_ends_the_session() {
    let (mut parent, child) = with_work();
    let gap = ProtocolError::Gap {
        expected: 1,
        got: 2,
    };
    is_refused(&mut parent, child, commit(child, 2), gap);
}

#[test]
fn nobody_finishes_what_he_does_not_own() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, 2), range(7, 8)];
    is_refused(
        &mut parent,
        child,
        commit,
        ProtocolError::NotOwned(ItemId(7)),
    );
}

#[test]
fn nobody_gives_what_he_has_finished() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, 2)];
    commit.give = vec![range(1, 2)];
    is_refused(
        &mut parent,
        child,
        commit,
        ProtocolError::NotOwned(ItemId(1)),
    );
}

#[test]
fn a_range_of_all_ids_costs_nothing() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, u64::MAX)];
    is_refused(
        &mut parent,
        child,
        commit,
        ProtocolError::NotOwned(ItemId(4)),
    );
}

#[test]
fn new_items_have_ids_that_were_leased() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, 2)];
    commit.new = vec![dirs(1999, "a", &["x", "y"])];
    is_refused(
        &mut parent,
        child,
        commit,
        ProtocolError::NotLeased(ItemId(2000)),
    );
}

#[test]
fn new_items_have_ids_of_their_own() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.new = vec![dirs(1000, "a", &["x"]), dirs(1000, "b", &["y"])];
    is_refused(
        &mut parent,
        child,
        commit,
        ProtocolError::Repeated(ItemId(1000)),
    );
}

#[test]
fn paths_that_lead_elsewhere_end_the_session() {
    let (mut parent, child) = with_work();
    let mut commit = commit(child, 1);
    commit.new = vec![dirs(1000, "..", &["x"])];
    let error = ProtocolError::BadItem("an item's path is not a plain relative path");
    is_refused(&mut parent, child, commit, error);
}

#[test]
fn parts_are_applied_with_their_commit() {
    let (mut parent, child) = with_work();
    let mut part = commit(child, 1);
    part.done = vec![range(1, 2)];
    part.new = vec![dirs(1000, "a", &["x"])];
    parent.handle(ms(1), ConnId(1), Up::Part(Box::new(part)));
    assert_eq!(drain(&mut parent), []);
    assert_eq!(parent.counts().done, 0);
    let mut last = commit(child, 1);
    last.new = vec![dirs(1001, "a", &["y"])];
    assert_eq!(
        say(&mut parent, 1, last),
        [applied(child, &[1], &[1000, 1001]), ack(1, 1)]
    );
}

#[test]
fn parts_are_forgotten_with_their_connection() {
    let (mut parent, child) = with_work();
    let mut part = commit(child, 1);
    part.done = vec![range(1, 2)];
    parent.handle(ms(1), ConnId(1), Up::Part(Box::new(part.clone())));
    parent.handle(ms(2), ConnId(2), resume(child, 1, 1));
    drain(&mut parent);
    parent.handle(ms(2), ConnId(2), Up::Part(Box::new(part)));
    let last = commit(child, 1);
    assert_eq!(
        say(&mut parent, 2, last),
        [applied(child, &[1], &[]), ack(2, 1)]
    );
}

#[test]
fn parts_without_end_end_the_session() {
    let (mut parent, child) = with_work();
    let mut part = commit(child, 1);
    let name = "x".repeat(1 << 20);
    part.new = vec![dirs(1000, "a", &[&name]); 16];
    let part = Up::Part(Box::new(part));
    let refused = (0..17).any(|_| {
        parent.handle(ms(1), ConnId(1), part.clone());
        !drain(&mut parent).is_empty()
    });
    assert!(refused && parent.children().next().is_none());
}

fn low(ids: u64) -> Load {
    Load {
        ids,
        ..load(1, false)
    }
}

fn ids(conn: u64, child: ChildId, seq: u64, ids: IdRange) -> Action {
    let (epoch, items) = (epoch(child), Vec::new());
    send(
        conn,
        Down::Grant(Grant {
            epoch,
            seq,
            items,
            ids,
            careful: false,
        }),
    )
}

#[test]
fn more_ids_come_before_the_last_are_used_and_not_twice() {
    let (mut parent, child) = with_work();
    let mut first = commit(child, 1);
    first.load = low(499);
    let actions = say(&mut parent, 1, first);
    assert_eq!(
        actions[1..],
        [ack(1, 1), ids(1, child, 2, range(2000, 3000))]
    );
    let mut second = commit(child, 2);
    second.load = low(400);
    assert_eq!(say(&mut parent, 1, second)[1..], [ack(1, 2)]);
    // A beat that has seen the grant and still has too few gets more.
    let actions = beat(&mut parent, ms(2), 1, child, low(300));
    assert_eq!(actions[1..], [ids(1, child, 3, range(3000, 4000))]);
}

#[test]
fn ids_of_the_first_lease_stay_good_after_many_more() {
    let (mut parent, child) = with_work();
    for _ in 0..5 {
        beat(&mut parent, ms(2), 1, child, low(0));
    }
    let mut commit = commit(child, 1);
    commit.done = vec![range(1, 2)];
    commit.new = vec![dirs(1000, "a", &["x"]), dirs(5999, "a", &["y"])];
    assert_eq!(
        say(&mut parent, 1, commit)[0],
        applied(child, &[1], &[1000, 5999])
    );
}
