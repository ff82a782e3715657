//! What of the pool a hungry child gets.

use super::balance::{busy, grants};
use super::*;

#[test]
fn everybody_gets_his_share_by_the_number_of_his_workers() {
    let mut parent = server();
    parent.add(vec![dirs(1, "", &["a", "b", "c", "d"])], true);
    for conn in [1, 2] {
        parent.handle(ms(0), ConnId(conn), hello(conn, 1 + 2 * (conn as u32 - 1)));
    }
    drain(&mut parent);
    let (small, large) = (ChildId(0), ChildId(1));
    // Nobody is granted anything before it is known what he serves.
    parent.serve(large, vec![false, true]);
    assert_eq!(drain(&mut parent), []);
    parent.serve(small, vec![true, true]);
    assert_eq!(
        drain(&mut parent),
        [grant(1, small, 1, vec![dirs(1, "", &["a"])])]
    );
    parent.serve(large, vec![true, true]);
    let rest = vec![dirs(2, "", &["b", "c", "d"])];
    assert_eq!(drain(&mut parent)[0], grant(2, large, 1, rest));
}

#[test]
fn most_pieces_of_a_huge_directory_went_to_whoever_came_back_first() {
    let mut parent = server();
    let reader = busy(&mut parent, 1, 0, 1, &["d"]);
    for conn in [2, 3] {
        join(&mut parent, conn, 1);
    }
    drain(&mut parent);
    let mut cut = commit(reader, 1);
    cut.done = vec![range(1, 2)];
    cut.new = (0..13).map(|n| names(1000 + n, None, &["n"])).collect();
    cut.give = vec![range(1000, 1012)];
    cut.load = load(2, false);
    let granted = say(&mut parent, 1, cut).into_iter().filter_map(|action| {
        let Action::Send { conn, message } = action else {
            return None;
        };
        match message {
            Down::Grant(grant) => Some((conn.0, grant.items.len())),
            _ => None,
        }
    });
    assert_eq!(granted.collect::<Vec<_>>(), [(2, 6), (3, 6)]);
}

#[test]
fn a_small_tree_was_granted_in_ever_smaller_pieces() {
    let mut parent = server();
    let [first, _] = [1, 2].map(|conn| busy(&mut parent, conn, 0, conn, &["d"]));
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    parent.add(vec![dirs(10, "", &names)], true);
    drain(&mut parent);
    let mut granted = |at: Time| {
        let actions = beat(&mut parent, at, 1, first, load(0, true)).into_iter();
        let items = actions.filter_map(|action| match action {
            Action::Send {
                message: Down::Grant(grant),
                ..
            } => {
                let lens = grant.items.iter().map(|parcel| parcel.ids().len());
                Some(lens.sum::<u64>())
            }
            _ => None,
        });
        items.sum::<u64>()
    };
    let of_pool = granted(ms(10));
    assert_eq!(of_pool, 20, "its share");
    assert_eq!(granted(ms(12)), 10, "its share, since the first one lasted");
    assert_eq!(
        granted(ms(12) + Time::from_micros(600)),
        10,
        "all, since that did not"
    );
}

#[test]
fn what_is_nearest_to_the_root_goes_first() {
    let mut parent = server();
    parent.add(vec![dirs(1, "a/b", &["x"]), dirs(2, "a", &["y"])], true);
    let child = join(&mut parent, 1, 1);
    let items = vec![dirs(2, "a", &["y"]), dirs(1, "a/b", &["x"])];
    assert_eq!(drain(&mut parent), [grant(1, child, 1, items)]);
}

#[test]
fn a_grant_of_long_paths_is_measured_as_it_is_packed() {
    let mut parent = server();
    let long = "x/".repeat(100_000) + "x";
    // Every second directory, so that each brings the long path with it.
    for first in 0..40 {
        parent.add(vec![dirs(1 + 2 * first, &long, &["a"])], true);
    }
    join(&mut parent, 1, 1);
    let items = first_granted(drain(&mut parent));
    let bytes: usize = items.iter().map(Parcel::size).sum();
    assert!(((1 << 20)..(2 << 20)).contains(&bytes), "{bytes}");
}

/// What the first of these grants brings.
fn first_granted(actions: Vec<Action>) -> Vec<Parcel> {
    let granted = actions.into_iter().find_map(|action| match action {
        Action::Send {
            message: Down::Grant(grant),
            ..
        } => Some(grant.items),
        _ => None,
    });
    granted.expect("a grant")
}

#[test]
fn all_that_was_near_the_root_was_granted_to_the_first() {
    let mut parent = server();
    for conn in [1, 2] {
        join(&mut parent, conn, 2);
    }
    let near = ["a", "b", "c", "d"].into_iter().zip(1..);
    let near = near.map(|(name, id)| dirs(2 * id, "", &[name]));
    let deep = dirs(10, "x/y/z", &["e", "f", "g", "h"]);
    parent.add(near.chain([deep]).collect(), true);
    let granted = first_granted(drain(&mut parent));
    let depths = granted.into_iter().flat_map(Item::unpack);
    let depths: Vec<usize> = depths.map(|(_, item)| item.depth()).collect();
    assert_eq!(depths, [0, 0, 3, 3]);
}

#[test]
fn many_siblings_are_dealt_side_by_side() {
    let mut parent = server();
    for conn in [1, 2] {
        join(&mut parent, conn, 1);
    }
    parent.add(vec![dirs(1, "", &["a"; 100])], true);
    let granted = drain(&mut parent);
    let half = vec![dirs(1, "", &["a"; 50])];
    assert_eq!(granted[0], grant(1, ChildId(0), 1, half));
    let rest = vec![dirs(51, "", &["a"; 25])];
    assert_eq!(granted[1], grant(2, ChildId(1), 1, rest));
}

#[test]
fn many_clients_were_granted_one_directory_each_and_asked_for_more_at_once() {
    let mut parent = server();
    let giver = join(&mut parent, 1, 16);
    parent.add(vec![dirs(1, "", &["a"])], true);
    for conn in 2..42 {
        join(&mut parent, conn, 16);
    }
    drain(&mut parent);
    let mut gives = commit(giver, 1);
    gives.new = vec![dirs(1000, "a", &["b"; 20])];
    (gives.done, gives.give) = (vec![range(1, 2)], vec![range(1000, 1020)]);
    let said = say(&mut parent, 1, gives);
    assert_eq!(grants(&said), [(2, 8), (3, 8), (4, 4)]);
}
