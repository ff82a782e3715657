//! Jobs with intents: nothing is acted on before the server has it on record.

use super::frontier::{At, at, granted, list};
use super::relay::{
    SERVER, WORKER_ID, client, client_of, cut, poll, server_grants, worker, worker_commits,
    worker_epoch,
};
use super::*;

/// A worker that has the directories `a`, `b` and `c` in its root, and waits for the record.
fn frontier() -> Frontier<At> {
    let mut frontier = Frontier::new(range(100, 200));
    frontier.wait_for_record();
    frontier.accept(granted(vec![dirs(1, "", &["a", "b", "c"])], false));
    frontier
}

fn part(dir: &str, visit: Option<ItemId>, names: &[&str]) -> Work<At> {
    Work::Names {
        dir: at(dir),
        visit,
        names: list(names),
        types: vec![8; names.len()],
        begun: false,
    }
}

/// What can be taken in hand when the commits up to `safe` are with the parent.
fn pop(frontier: &mut Frontier<At>, safe: u64) -> Option<String> {
    let (_, work) = frontier.pop_ready(safe, 3)?;
    let name = match work {
        Work::Dir { name, .. } => name,
        Work::Names { names, .. } => names.iter().collect::<Vec<_>>().join(&b' '),
        Work::Rest { .. } => b"rest".to_vec(),
        Work::After { .. } => b"after".to_vec(),
    };
    Some(String::from_utf8(name).expect("plain names"))
}

/// Lists the next directory, in which these names are.
fn lists(frontier: &mut Frontier<At>, safe: u64, names: &[&str]) -> String {
    let dir = pop(frontier, safe).expect("a directory");
    frontier.push(part(&dir, None, names));
    frontier.finish();
    dir
}

#[test]
fn names_were_acted_on_before_they_were_with_the_parent() {
    let mut frontier = frontier();
    assert_eq!(lists(&mut frontier, 0, &["x"]), "c");
    frontier.cut(None).expect("commit 1");
    // There is little to act on yet: others are listed meanwhile.
    assert_eq!(lists(&mut frontier, 0, &["y", "z"]), "b");
    assert_eq!(pop(&mut frontier, 0), None);
    frontier.cut(None).expect("commit 2");
    assert_eq!(pop(&mut frontier, 0), None);
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("x"));
    frontier.finish();
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("a"));
    frontier.finish();
    assert_eq!(pop(&mut frontier, 1), None);
    assert_eq!(pop(&mut frontier, 2).as_deref(), Some("y z"));
}

#[test]
fn what_is_left_of_names_on_record_need_not_wait() {
    let mut frontier = frontier();
    lists(&mut frontier, 0, &["x", "y", "z"]);
    frontier.cut(None).expect("commit 1");
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("x y z"));
    frontier.push(part("c", None, &["y", "z"]));
    frontier.push(part("c", None, &["w"]));
    frontier.finish();
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("w"));
}

#[test]
fn what_is_granted_need_not_wait() {
    let mut frontier = Frontier::<At>::new(range(100, 200));
    frontier.wait_for_record();
    frontier.accept(granted(vec![names(1, None, &["x"])], false));
    assert_eq!(pop(&mut frontier, 0).as_deref(), Some("x"));
}

#[test]
fn the_end_of_a_directory_came_before_parts_of_it_that_were_not_on_record() {
    let mut frontier = frontier();
    pop(&mut frontier, 0);
    let visit = frontier.take_id();
    let after = |visit| Work::After {
        dir: at("c"),
        visit,
    };
    frontier.push(after(visit.expect("an id")));
    frontier.push(part("c", visit, &["x", "y"]));
    let rest = Work::Rest {
        dir: at("c"),
        visit,
        read: Listing::default(),
    };
    frontier.push(rest);
    frontier.finish();
    frontier.cut(None).expect("commit 1");
    // The rest of the listing comes first, whatever there is to act on.
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("rest"));
    frontier.push(part("c", visit, &["z"]));
    frontier.finish();
    frontier.cut(None).expect("commit 2");
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("x y"));
    frontier.finish();
    // There is room to list others; then nothing but the end and the last part is left.
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("b"));
    frontier.finish();
    assert_eq!(pop(&mut frontier, 1).as_deref(), Some("a"));
    frontier.finish();
    assert_eq!(pop(&mut frontier, 1), None);
    assert_eq!(pop(&mut frontier, 2).as_deref(), Some("z"));
    frontier.finish();
    assert_eq!(pop(&mut frontier, 2).as_deref(), Some("after"));
}

#[test]
fn the_end_of_a_directory_came_before_the_rest_of_its_listing() {
    let mut frontier = frontier();
    pop(&mut frontier, 0);
    let visit = frontier.take_id();
    let (after, rest) = (
        Work::After {
            dir: at("c"),
            visit: visit.expect("an id"),
        },
        Work::Rest {
            dir: at("c"),
            visit,
            read: Listing::default(),
        },
    );
    for work in [after, rest, part("c", visit, &["x", "y"])] {
        frontier.push(work);
    }
    frontier.push(part("c", None, &["z"]));
    frontier.finish();
    frontier.cut(None).expect("commit 1");
    let mut pop = |ahead| {
        let (_, work) = frontier.pop_ready(1, ahead)?;
        frontier.finish();
        Some(work)
    };
    for expected in ["z", "x y"] {
        let Some(Work::Names { names, .. }) = pop(1) else {
            panic!("{expected} comes next");
        };
        assert_eq!(names, list(&expected.split(' ').collect::<Vec<_>>()));
    }
    assert!(matches!(pop(1), Some(Work::Rest { .. })));
    assert!(matches!(pop(1), Some(Work::After { .. })));
}

/// A client of a job with intents, whose worker has listed a directory.
fn client_with_names() -> Relay {
    let mut job = spec(true, 1);
    job.walk.intents = true;
    let mut relay = client_of(job);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["d", "e"])]);
    worker_commits(&mut relay, 1, 1, |commit| {
        commit.done = vec![range(1, 2)];
        commit.new = vec![names(WORKER_ID, None, &["x"])];
    });
    relay
}

/// What workers are told.
fn told(relay: &mut Relay) -> Vec<(ConnId, Down)> {
    let said = poll(relay).into_iter().filter_map(|action| match action {
        RelayAction::Worker(Action::Send { conn, message }) => Some((conn, message)),
        _ => None,
    });
    said.collect()
}

#[test]
fn a_client_acknowledged_what_the_server_did_not_have() {
    let mut relay = client_with_names();
    assert!(relay.wants_cut(ms(1)), "a worker waits for it");
    let commit = cut(&mut relay);
    assert_eq!(commit.new, [names(WORKER_ID, None, &["x"])]);
    assert_eq!(told(&mut relay), []);
    relay.server_message(ms(2), SERVER, Down::Ack { seq: commit.seq });
    assert_eq!(told(&mut relay), [(ConnId(1), Down::Ack { seq: 1 })]);
}

#[test]
fn without_intents_a_client_acknowledges_at_once() {
    let mut relay = client(true);
    server_grants(&mut relay, 1, vec![dirs(1, "", &["d", "e"])]);
    let mut commit = commit(ChildId(0), 1);
    commit.epoch = worker_epoch(1);
    commit.done = vec![range(1, 2)];
    relay.worker_message(ms(1), ConnId(1), Up::Commit(Box::new(commit)));
    assert_eq!(told(&mut relay), [(ConnId(1), Down::Ack { seq: 1 })]);
}

#[test]
fn names_were_granted_to_another_worker_before_the_server_had_them() {
    let mut relay = client_with_names();
    relay.worker_died(ms(1), ConnId(1), None, "killed");
    let commit_first = |relay: &mut Relay| worker(relay, 2);
    // Both the unread directory and the names are free; a grant with names in it waits.
    let actions = commit_first(&mut relay);
    let is_grant = |action: &RelayAction| {
        matches!(
            action,
            RelayAction::Worker(Action::Send {
                message: Down::Grant(_),
                ..
            })
        )
    };
    // The lease of the dead worker is over with it, so what it had is in the pool.
    assert!(!actions.iter().any(is_grant), "{actions:?}");
    let commit = cut(&mut relay);
    relay.server_message(ms(2), SERVER, Down::Ack { seq: commit.seq });
    let grants = told(&mut relay);
    let [(ConnId(2), Down::Grant(grant))] = &grants[..] else {
        panic!("{grants:?}");
    };
    let begun = grant.items.iter().find_map(|parcel| match parcel {
        Parcel::Names(names) => Some(names.begun),
        _ => None,
    });
    assert_eq!(begun, Some(true), "who had them may have acted on them");
}

#[test]
fn what_a_lost_child_had_listed_is_said_to_be_begun_in_jobs_that_act_only() {
    for acts in [false, true] {
        let mut parent = Parent::new(config(false, acts));
        join(&mut parent, 1, 1);
        let listed = [names(1, None, &["x"]), dirs(2, "", &["e"])];
        parent.add(listed.to_vec(), true);
        drain(&mut parent);
        assert_eq!(parent.counts().owned, 2);
        parent.died(ms(1), ConnId(1), None, "killed");
        let mut begun = names(1, None, &["x"]);
        if let Parcel::Names(names) = &mut begun {
            names.begun = acts;
        }
        let mut items: Vec<_> = parent.items().map(|item| item.parcel().clone()).collect();
        items.sort_by_key(|parcel| parcel.ids().start);
        assert_eq!(items[0], begun);
        let ids = parent.pick_for_parent(9);
        let begun = if acts { vec![ItemId(1)] } else { Vec::new() };
        assert_eq!(parent.begun_of(&ids), begun);
    }
}

#[test]
fn what_a_lost_worker_had_begun_was_fresh_at_another_client() {
    let mut relay = client_with_names();
    worker_commits(&mut relay, 1, 2, |commit| commit.done = vec![range(2, 3)]);
    relay.worker_died(ms(1), ConnId(1), None, "killed");
    poll(&mut relay);
    let shed = Shed { id: 3, hungry: 1 };
    relay.server_message(ms(1), SERVER, Down::Shed(shed));
    poll(&mut relay);
    let up = cut(&mut relay);
    assert_eq!(up.begun, [range(WORKER_ID, WORKER_ID + 1)]);

    let mut server = Parent::new(config(true, true));
    let child = join(&mut server, 1, 1);
    server.add(vec![names(1, None, &["x"])], true);
    drain(&mut server);
    let mut back = commit(child, 1);
    back.give = vec![range(1, 2)];
    back.begun = vec![range(1, 2)];
    back.load = load(0, false);
    say(&mut server, 1, back);
    let begun =
        |item: crate::item::Item| matches!(item.parcel(), Parcel::Names(names) if names.begun);
    assert!(server.items().all(begun));
}

#[test]
fn more_begun_than_given_is_no_commit() {
    let mut server = Parent::new(config(true, true));
    let child = join(&mut server, 1, 1);
    server.add(vec![names(1, None, &["x"])], true);
    let mut back = commit(child, 1);
    back.begun = vec![range(0, u64::MAX)];
    let said = say(&mut server, 1, back);
    let refused = |action: &Action| {
        matches!(
            action,
            Action::Send {
                message: Down::Refused(Refusal::Protocol(_)),
                ..
            }
        )
    };
    assert!(said.iter().any(refused), "{said:?}");
}
