use super::relay::{SERVER, client, cut, poll, sent, server_grants, worker, worker_commits};
use super::*;
use serde_bytes::ByteBuf;

fn wall(path: &str) -> Wall {
    Wall {
        root: RootId(0),
        path: path.into(),
        without: vec![ByteBuf::from(b"dead/other".to_vec())],
        reason: "it is dead".to_owned(),
    }
}

fn mount(pass: Pass) -> Vec<Mount> {
    let (number, walls) = (7, vec![wall("dead")]);
    vec![Mount {
        number,
        walls,
        pass,
    }]
}

fn granted(actions: &[RelayAction]) -> Vec<Parcel> {
    let grants = actions.iter().filter_map(|action| match action {
        RelayAction::Worker(Action::Send {
            message: Down::Grant(grant),
            ..
        }) => Some(grant.items.clone()),
        _ => None,
    });
    grants.flatten().collect()
}

fn walls_said(relay: &mut Relay) -> Vec<Vec<Wall>> {
    let walls = sent(relay).into_iter().filter_map(|message| match message {
        Up::Walls(walls) => Some(walls),
        _ => None,
    });
    walls.collect()
}

#[test]
fn what_lies_behind_a_wall_is_given_back_and_nothing_else() {
    let mut relay = client(false);
    relay.set_mounts(mount(Pass::None));
    assert_eq!(walls_said(&mut relay), [[wall("dead")]]);
    let items = vec![
        dirs(1, "dead", &["x"]),
        dirs(2, "dead", &["other"]),
        dirs(3, "", &["dead", "deader"]),
    ];
    let to_worker = granted(&server_grants(&mut relay, 1, items));
    assert_eq!(
        to_worker,
        [dirs(4, "", &["deader"]), dirs(2, "dead", &["other"])]
    );
    assert!(relay.wants_cut(ms(1)));
    assert_eq!(cut(&mut relay).give, [range(1, 2), range(3, 4)]);
    assert!(!relay.wants_cut(ms(1)));
}

#[test]
fn an_item_that_hung_goes_back_to_the_server_when_its_worker_is_gone() {
    let mut relay = client(false);
    server_grants(&mut relay, 1, vec![dirs(1, "dead", &["x"])]);
    assert!(!relay.is_walled(ItemId(1)));
    relay.set_mounts(mount(Pass::None));
    assert!(relay.is_walled(ItemId(1)) && !relay.has_other_work());
    relay.worker_died(ms(1), ConnId(1), None, "it hangs");
    poll(&mut relay);
    worker(&mut relay, 2);
    sent(&mut relay);
    assert_eq!(cut(&mut relay).give, [range(1, 2)]);
}

#[test]
fn one_is_let_through_and_its_end_is_told() {
    let mut relay = client(false);
    relay.set_mounts(mount(Pass::None));
    sent(&mut relay);
    relay.set_mounts(mount(Pass::One));
    assert_eq!(walls_said(&mut relay), [[]]);
    let both = vec![dirs(1, "dead", &["x", "y"])];
    let to_worker = granted(&server_grants(&mut relay, 1, both));
    assert_eq!(to_worker, [dirs(1, "dead", &["x"])]);
    // The server hears of the wall before it has to grant the other one again.
    relay.cut(ms(1), None);
    let said = sent(&mut relay);
    assert!(matches!(&said[..], [Up::Walls(walls), Up::Commit(commit)]
        if walls.len() == 1 && commit.give == [range(2, 3)]));
    assert_eq!(relay.take_answered(), []);
    worker_commits(&mut relay, 1, 1, |commit| commit.done = vec![range(1, 2)]);
    assert_eq!(relay.take_answered(), [7]);
    assert_eq!(relay.take_answered(), []);
    relay.set_mounts(Vec::new());
    assert_eq!(walls_said(&mut relay), [[]]);
}

#[test]
fn the_end_of_a_directory_went_to_and_fro_behind_a_wall_that_lets_one_through() {
    let mut relay = client(false);
    relay.set_mounts(mount(Pass::One));
    let end = vec![Parcel::After(After {
        id: ItemId(1),
        root: RootId(0),
        dir: b"dead".to_vec(),
        visit: ItemId(9),
    })];
    assert_eq!(granted(&server_grants(&mut relay, 1, end.clone())), end);
    assert!(cut(&mut relay).give.is_empty());
    // Nothing is known of the mount by that, and another one is let through.
    worker_commits(&mut relay, 1, 1, |commit| {
        (commit.done, commit.load) = (vec![range(1, 2)], load(0, true));
    });
    assert_eq!(relay.take_answered(), []);
    let next = vec![dirs(2, "dead", &["x"])];
    assert_eq!(granted(&server_grants(&mut relay, 2, next.clone())), next);
}

#[test]
fn a_probe_that_did_not_end_is_held_back_again() {
    let mut relay = client(false);
    relay.set_mounts(mount(Pass::One));
    server_grants(&mut relay, 1, vec![dirs(1, "dead", &["x"])]);
    relay.set_mounts(mount(Pass::None));
    relay.worker_died(ms(1), ConnId(1), None, "it hangs");
    poll(&mut relay);
    sent(&mut relay);
    assert_eq!(cut(&mut relay).give, [range(1, 2)]);
}

#[test]
fn walls_that_fell_while_the_link_was_down_stood_for_ever() {
    let mut relay = client(false);
    relay.set_mounts(mount(Pass::None));
    sent(&mut relay);
    relay.server_closed(ms(1), SERVER);
    relay.set_mounts(Vec::new());
    relay.server_connected(ms(1), ConnId(501));
    relay.server_message(ms(1), ConnId(501), Down::Resumed { last_commit: 0 });
    poll(&mut relay);
    assert_eq!(walls_said(&mut relay), [[]]);
}

#[test]
fn a_new_link_hears_of_the_walls() {
    let mut relay = client(false);
    relay.set_mounts(mount(Pass::None));
    sent(&mut relay);
    relay.server_closed(ms(1), SERVER);
    relay.server_connected(ms(1), ConnId(501));
    relay.server_message(ms(1), ConnId(501), Down::Resumed { last_commit: 0 });
    poll(&mut relay);
    assert_eq!(walls_said(&mut relay), [[wall("dead")]]);
}

/// A server with so many children, and those that say that they get no answer from root 0.
fn with_walls(children: u64, walled: u64) -> Parent {
    let mut parent = server();
    for conn in 1..=children {
        join(&mut parent, conn, 1);
    }
    for conn in 1..=walled {
        parent.handle(ms(1), ConnId(conn), Up::Walls(vec![wall("dead")]));
    }
    drain(&mut parent);
    parent
}

#[test]
fn what_one_child_gets_no_answer_from_is_granted_to_another() {
    let mut parent = with_walls(2, 1);
    parent.add(vec![dirs(1, "dead", &["x"])], false);
    let item = vec![dirs(1, "dead", &["x"])];
    assert_eq!(drain(&mut parent)[0], grant(2, ChildId(1), 1, item));
}

#[test]
fn what_nobody_gets_an_answer_from_is_set_aside_with_the_reason() {
    let mut parent = with_walls(2, 2);
    parent.add(vec![dirs(1, "dead", &["x"])], false);
    assert_eq!(drain(&mut parent), []);
    assert!(parent.is_stuck());
    let reason = |wall: NoAnswer<'_>| format!("{wall:?}");
    parent.set_aside_unserved(&reason);
    assert!(parent.is_done());
    let aside = parent.aside().next().unwrap();
    assert_eq!(aside.id, ItemId(1));
    assert_eq!(&*aside.reason, r#"Some((ChildId(0), "it is dead"))"#);
}

#[test]
fn after_some_have_tried_nobody_else_is_sent_there() {
    let mut parent = with_walls(4, 3);
    parent.add(vec![dirs(1, "dead", &["x"])], false);
    assert_eq!(drain(&mut parent), []);
    assert!(parent.is_stuck());
    // One that gets an answer again is asked.
    parent.handle(ms(2), ConnId(2), Up::Walls(Vec::new()));
    let item = vec![dirs(1, "dead", &["x"])];
    assert_eq!(drain(&mut parent)[0], grant(2, ChildId(1), 1, item));
}

#[test]
fn a_client_with_many_roots_on_a_dead_mount_was_sent_away() {
    let many = |reason: &str| -> Vec<Wall> {
        let wall = |root| Wall {
            root: RootId(root),
            path: Vec::new(),
            without: Vec::new(),
            reason: reason.to_owned(),
        };
        (0..9000).map(wall).collect()
    };
    for reason in ["dead", &"very ".repeat(1000)] {
        let mut relay = client(false);
        let walls = many(reason);
        let (number, pass) = (7, Pass::None);
        relay.set_mounts(vec![Mount {
            number,
            walls: walls.clone(),
            pass,
        }]);
        let said = walls_said(&mut relay).remove(0);
        assert!(said.len() < walls.len() && walls.starts_with(&said));
        let mut parent = with_walls(1, 0);
        parent.handle(ms(1), ConnId(1), Up::Walls(said));
        let sent_away = |action: &Action| matches!(action, Action::Close { .. });
        assert!(!drain(&mut parent).iter().any(sent_away));
    }
    // What has no wall is not given back, again and again.
    let mut relay = client(false);
    let mut walls = many("dead");
    walls.retain(|wall| wall.root != RootId(0));
    walls.push(wall("dead"));
    relay.set_mounts(vec![Mount {
        number: 7,
        walls,
        pass: Pass::None,
    }]);
    let item = vec![dirs(1, "dead", &["x"])];
    assert_eq!(granted(&server_grants(&mut relay, 1, item.clone())), item);
}

#[test]
fn a_child_with_too_many_walls_is_sent_away() {
    let mut parent = with_walls(1, 0);
    let walls = vec![wall("dead"); 5000];
    parent.handle(ms(1), ConnId(1), Up::Walls(walls));
    let refusal = Refusal::Protocol("unexpected message: too many walls".to_owned());
    assert!(drain(&mut parent).contains(&refused(1, refusal)));
}
