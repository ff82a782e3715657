use super::*;

fn shed(conn: u64, id: u64, hungry: u32) -> Action {
    send(conn, Down::Shed(Shed { id, hungry }))
}

/// A child that owns these directories of a root and is busy with them.
pub(super) fn busy(
    parent: &mut Parent,
    conn: u64,
    root: u32,
    first: u64,
    names: &[&str],
) -> ChildId {
    let child = join(parent, conn, 1);
    parent.add(vec![dirs_of(root, first, "", names)], true);
    beat(parent, ms(1), conn, child, load(names.len() as u64, false));
    drain(parent);
    child
}

/// Two busy children with one directory each, which say that they hold so much.
fn two_busy(parent: &mut Parent, held: [u64; 2]) -> [ChildId; 2] {
    let children = [join(parent, 1, 1), join(parent, 2, 1)];
    parent.add(vec![dirs(1, "", &["a", "b"])], true);
    for (conn, held) in (1..).zip(held) {
        beat(
            parent,
            ms(1),
            conn,
            children[conn as usize - 1],
            load(held, false),
        );
    }
    children
}

#[test]
fn who_became_hungry_a_moment_later_was_not_asked_for() {
    let mut parent = server();
    let children: Vec<ChildId> = (1..=3).map(|conn| join(&mut parent, conn, 1)).collect();
    // None has a worker yet.
    for (conn, &child) in (1..).zip(&children) {
        beat(&mut parent, ms(1), conn, child, load(0, false));
    }
    parent.add(vec![dirs(1, "", &["a"])], true);
    beat(&mut parent, ms(2), 1, children[0], load(0, true));
    beat(&mut parent, ms(3), 1, children[0], load(3, false));
    drain(&mut parent);
    // The second is asked for with the third in mind.
    let asked = beat(&mut parent, ms(4), 2, children[1], load(0, true));
    assert_eq!(asked[1], shed(1, 1, 2));
    assert_eq!(
        beat(&mut parent, ms(4), 3, children[2], load(0, true)).len(),
        1
    );
}

#[test]
fn the_richest_is_asked_and_asked_once() {
    let mut parent = server();
    let [_, rich] = two_busy(&mut parent, [2, 3]);
    let hungry = join(&mut parent, 3, 1);
    assert_eq!(drain(&mut parent), [shed(2, 1, 1)]);
    assert_eq!(beat(&mut parent, ms(2), 3, hungry, load(0, true)).len(), 1);
    // What it gives is granted at once, and nobody is asked any more.
    let mut answer = commit(rich, 1);
    (answer.give, answer.answers) = (vec![range(2, 3)], Some(1));
    let granted = grant(3, hungry, 1, vec![dirs(2, "", &["b"])]);
    assert_eq!(
        say(&mut parent, 2, answer),
        [applied(rich, &[], &[]), ack(2, 1), granted]
    );
}

#[test]
fn one_who_has_nothing_to_give_keeps_the_request_and_the_next_is_asked() {
    let mut parent = server();
    two_busy(&mut parent, [1, 1]);
    let hungry = join(&mut parent, 3, 1);
    assert_eq!(drain(&mut parent), [shed(2, 1, 1)]);
    assert_eq!(
        beat(&mut parent, ms(2), 3, hungry, load(0, true))[1..],
        [shed(1, 2, 1)]
    );
    assert_eq!(beat(&mut parent, ms(2), 3, hungry, load(0, true)).len(), 1);
}

#[test]
fn what_one_gives_goes_to_the_one_who_is_hungry_for_longer() {
    let mut parent = server();
    let first = busy(&mut parent, 1, 0, 1, &["a"]);
    let second = join(&mut parent, 2, 1);
    assert_eq!(drain(&mut parent), [shed(1, 1, 1)]);
    let mut answer = commit(first, 1);
    (answer.give, answer.answers, answer.load) = (vec![range(1, 2)], Some(1), load(0, true));
    let actions = say(&mut parent, 1, answer);
    assert_eq!(actions[2], grant(2, second, 1, vec![dirs(1, "", &["a"])]));
}

#[test]
fn nobody_is_asked_for_what_the_hungry_may_not_be_granted() {
    let mut parent = server();
    busy(&mut parent, 1, 1, 1, &["a", "b"]);
    join_serving(&mut parent, 2, 1, &[true, false]);
    assert_eq!(drain(&mut parent), []);
    join_serving(&mut parent, 3, 1, &[false, true]);
    assert_eq!(drain(&mut parent), [shed(1, 1, 2)]);
}

#[test]
fn one_who_gave_in_vain_is_not_asked_at_once() {
    let mut parent = server();
    let rich = busy(&mut parent, 1, 0, 1, &["a", "b"]);
    parent.add(vec![dirs_of(1, 11, "", &["c"])], true);
    beat(&mut parent, ms(1), 1, rich, load(0, true));
    beat(&mut parent, ms(1), 1, rich, load(3, false));
    let picky = join_serving(&mut parent, 2, 1, &[false, true]);
    assert_eq!(drain(&mut parent), [shed(1, 1, 1)]);
    // He gives what the other does not serve, and is hungry himself.
    let mut answer = commit(rich, 1);
    (answer.give, answer.answers, answer.load) = (vec![range(1, 2)], Some(1), load(2, true));
    let back = grant(1, rich, 3, vec![dirs(1, "", &["a"])]);
    assert_eq!(say(&mut parent, 1, answer)[1..], [ack(1, 1), back]);
    assert_eq!(beat(&mut parent, ms(2), 2, picky, load(0, true)).len(), 1);
    let at_once = beat(&mut parent, ms(15), 1, rich, load(3, false));
    assert_eq!(at_once.len(), 1);
    assert_eq!(
        beat(&mut parent, ms(20), 1, rich, load(3, false))[1..],
        [shed(1, 2, 1)]
    );
}

#[test]
fn one_without_hunger_gets_nothing_though_he_owns_nothing() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    beat(&mut parent, ms(1), 1, child, load(0, false));
    parent.add(vec![dirs(1, "", &["a"])], true);
    assert_eq!(drain(&mut parent), []);
    let granted = grant(1, child, 1, vec![dirs(1, "", &["a"])]);
    assert_eq!(
        beat(&mut parent, ms(2), 1, child, load(0, true))[1..],
        [granted]
    );
}

#[test]
fn one_whose_link_was_lost_is_asked_again() {
    let mut parent = server();
    let [_, rich] = two_busy(&mut parent, [2, 3]);
    join(&mut parent, 3, 1);
    assert_eq!(drain(&mut parent), [shed(2, 1, 1)]);
    parent.handle(ms(2), ConnId(4), resume(rich, 1, 1));
    assert_eq!(drain(&mut parent).last(), Some(&shed(4, 2, 1)));
}

/// A child that has nothing but what is in hand.
pub(super) fn nearly_dry() -> Load {
    Load {
        busy: 1,
        ..load(0, true)
    }
}

#[test]
fn the_last_thing_that_one_holds_does_not_go_to_and_fro_between_the_busy() {
    let mut parent = server();
    let [first, _] = two_busy(&mut parent, [0, 1]);
    drain(&mut parent);
    assert_eq!(beat(&mut parent, ms(2), 1, first, nearly_dry()).len(), 1);
    // For one who has run dry it is asked for.
    assert_eq!(
        beat(&mut parent, ms(2), 1, first, load(0, true))[1..],
        [shed(2, 1, 1)]
    );
}

#[test]
fn one_who_starves_goes_before_one_who_is_hungry_for_longer() {
    let mut parent = server();
    let [first, second] = two_busy(&mut parent, [1, 1]);
    drain(&mut parent);
    beat(&mut parent, ms(2), 1, first, nearly_dry());
    beat(&mut parent, ms(3), 2, second, load(0, true));
    parent.add(vec![dirs(5, "", &["x"])], true);
    let granted = grant(2, second, 2, vec![dirs(5, "", &["x"])]);
    assert!(drain(&mut parent).contains(&granted));
}

#[test]
fn a_beat_from_before_the_grant_does_not_make_hungry_again() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.add(vec![dirs(1, "", &["a"])], true);
    drain(&mut parent);
    let (epoch, load) = (epoch(child), load(0, true));
    let late = UpBeat {
        epoch,
        number: 1,
        last_grant: 0,
        load,
    };
    parent.handle(ms(1), ConnId(1), Up::Beat(late));
    drain(&mut parent);
    parent.add(vec![dirs(2, "", &["b"])], true);
    assert_eq!(drain(&mut parent), []);
}

#[test]
fn what_the_own_parent_waits_for_is_not_fed_to_those_who_still_work() {
    let mut parent = over_workers();
    let child = join(&mut parent, 1, 1);
    parent.reserve(true);
    beat(&mut parent, ms(1), 1, child, nearly_dry());
    parent.add(vec![dirs(1, "", &["a"])], true);
    assert_eq!(drain(&mut parent), []);
    parent.reserve(false);
    parent.rebalance();
    assert_eq!(
        drain(&mut parent),
        [grant(1, child, 1, vec![dirs(1, "", &["a"])])]
    );
}

#[test]
fn nobody_is_asked_for_one_that_works_on_suspects() {
    let mut parent = over_workers();
    parent.add(vec![dirs(1, "", &["bad"])], true);
    for conn in [1, 2] {
        join(&mut parent, conn, 1);
        parent.died(ms(1), ConnId(conn), Some(ItemId(1)), "killed");
    }
    let careful = join(&mut parent, 3, 1);
    busy(&mut parent, 4, 0, 11, &["a", "b", "c"]);
    drain(&mut parent);
    assert_eq!(beat(&mut parent, ms(2), 3, careful, load(0, true)).len(), 1);
}

#[test]
fn a_client_that_would_be_hungry_itself_is_not_asked_for_one_that_works() {
    let mut parent = server();
    let client = join(&mut parent, 1, 3);
    parent.add(vec![dirs(1, "", &["a", "b", "c"])], true);
    drain(&mut parent);
    let all_busy = |held| Load {
        held,
        busy: 3,
        ..load(held, false)
    };
    beat(&mut parent, ms(1), 1, client, all_busy(5));
    let other = join(&mut parent, 2, 1);
    // For one who starves it is asked, and not again for the same one who works and is hungry.
    assert_eq!(drain(&mut parent), [shed(1, 1, 1)]);
    let mut answer = commit(client, 1);
    (answer.give, answer.answers, answer.load) = (vec![range(1, 2)], Some(1), all_busy(5));
    say(&mut parent, 1, answer);
    assert_eq!(beat(&mut parent, ms(2), 2, other, nearly_dry()).len(), 1);
    let actions = beat(&mut parent, ms(2), 1, client, all_busy(6));
    assert_eq!(actions[1..], [shed(1, 2, 1)]);
}

#[test]
fn others_were_asked_for_a_client_whose_workers_could_share_what_they_hold() {
    let mut parent = server();
    let rich = join(&mut parent, 1, 3);
    let other = join(&mut parent, 2, 3);
    parent.add(vec![dirs(1, "", &["a", "b", "c", "d", "e", "f"])], true);
    drain(&mut parent);
    let at_work = |held, busy, hungry| Load {
        busy,
        ..load(held, hungry)
    };
    beat(&mut parent, ms(1), 1, rich, at_work(5, 3, false));
    let shares = beat(&mut parent, ms(2), 2, other, at_work(1, 2, true));
    assert_eq!(shares.len(), 1, "{shares:?}");
    let starves = beat(&mut parent, ms(3), 2, other, at_work(0, 2, true));
    assert_eq!(starves[1..], [shed(1, 1, 1)]);
}

/// A grant goes from one who gave to another: not back to the first, though he is hungry for longer.
#[test]
fn what_one_gives_does_not_come_back_while_another_may_have_it() {
    let mut parent = server();
    let [giver, _] = two_busy(&mut parent, [4, 4]);
    beat(&mut parent, ms(2), 1, giver, nearly_dry());
    join(&mut parent, 3, 1);
    drain(&mut parent);
    let mut gives = commit(giver, 1);
    gives.give = vec![range(1, 2)];
    gives.load = nearly_dry();
    let said = say(&mut parent, 1, gives);
    let is_grant = |conn| move |action: &Action| matches!(action, Action::Send { conn: to, message: Down::Grant(_) } if *to == ConnId(conn));
    assert!(said.iter().any(is_grant(3)), "{said:?}");
    assert!(!said.iter().any(is_grant(1)), "{said:?}");
}

#[test]
fn who_owns_what_is_near_the_root_is_asked_before_who_holds_more() {
    let mut parent = server();
    let near = busy(&mut parent, 1, 0, 1, &["a"]);
    let deep = join(&mut parent, 2, 1);
    parent.add(vec![dirs(2, "a/b/c", &["d"])], true);
    drain(&mut parent);
    let mut answer = commit(near, 1);
    (answer.answers, answer.load) = (Some(1), load(5, false));
    say(&mut parent, 1, answer);
    beat(&mut parent, ms(1), 2, deep, load(50, false));
    join(&mut parent, 3, 1);
    assert_eq!(drain(&mut parent), [shed(1, 2, 1)]);
}

#[test]
fn a_request_to_one_that_comes_no_further_kept_others_from_being_asked() {
    let mut parent = server();
    two_busy(&mut parent, [5, 3]);
    join(&mut parent, 3, 1);
    assert_eq!(drain(&mut parent), [shed(1, 1, 1)]);
    parent.note_standing(ConnId(1), true);
    assert_eq!(drain(&mut parent), [shed(2, 2, 1)]);
    // It answers after all: who is hungry gets it.
    parent.note_standing(ConnId(1), false);
    assert_eq!(drain(&mut parent), []);
}

#[test]
fn a_child_that_serves_no_root_took_a_share_from_the_others() {
    let mut parent = server();
    join_serving(&mut parent, 1, 3, &[false, false]);
    let child = join(&mut parent, 2, 1);
    join(&mut parent, 3, 1);
    let some = ["a", "b", "c", "d", "e", "f", "g", "h"];
    parent.add(vec![dirs(1, "", &some)], true);
    assert_eq!(child, ChildId(1));
    assert_eq!(grants(&drain(&mut parent))[0], (2, 4));
}

#[test]
fn a_child_that_serves_no_root_counted_among_those_who_need_work() {
    let mut parent = server();
    join_serving(&mut parent, 1, 1, &[false, false]);
    busy(&mut parent, 2, 0, 1, &["a", "b", "c", "d"]);
    join(&mut parent, 3, 1);
    assert_eq!(drain(&mut parent), [shed(2, 1, 1)]);
}

/// What was granted: to whom, and how much.
pub(super) fn grants(actions: &[Action]) -> Vec<(u64, u64)> {
    let granted = actions.iter().filter_map(|action| match action {
        Action::Send {
            conn,
            message: Down::Grant(grant),
        } => Some((
            conn.0,
            grant.items.iter().map(|items| items.ids().len()).sum(),
        )),
        _ => None,
    });
    granted.collect()
}

#[test]
fn all_rich_children_were_asked_at_once() {
    let mut parent = server();
    let many = 100;
    for conn in 1..=many {
        let child = join(&mut parent, conn, 1);
        parent.add(vec![dirs(conn, "", &["a"])], true);
        beat(&mut parent, ms(1), conn, child, load(9, false));
    }
    for conn in 1..=many {
        join(&mut parent, many + conn, 1);
    }
    let asked = parent.sessions.values().filter(|one| one.shed.is_some());
    assert_eq!(asked.count(), 64);
}
