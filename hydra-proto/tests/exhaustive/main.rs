//! Every order of events of a tiny cluster, over the real ledgers: two clients with two workers each, a handful of
//! directories, one crash, one cut link. In each state every directory is committed once or lies under exactly one
//! item, and where nothing is left to happen the job is done.
//!
//! A ledger cannot be copied, so a state is kept as the events that lead to it, and made again from them. States are
//! the same if all that they hold is: two orders that come to one state are followed once. A path ends when it has
//! had so many messages of the server that work goes to and fro without being done; how many paths ended like that
//! is printed.
//!
//! `cargo test -p hydra-proto --test exhaustive -- --ignored` goes further.

mod world;

use std::collections::HashSet;
use world::{Bounds, Event, TREE, World};

#[derive(Debug, Default)]
struct Explored {
    states: u64,
    ends: u64,
    bounded: u64,
    longest: usize,
}

fn again(bounds: Bounds, path: &[Event]) -> World {
    let mut world = World::new(bounds);
    path.iter().for_each(|&event| world.apply(event));
    world
}

/// Follows every order of events. Panics with the events that lead to a state that must not be.
fn explore(bounds: Bounds, states_max: u64) -> Explored {
    let mut explored = Explored::default();
    let mut known = HashSet::from([World::new(bounds).fingerprint()]);
    let mut open: Vec<Vec<Event>> = vec![Vec::new()];
    while let Some(path) = open.pop() {
        explored.states += 1;
        assert!(
            explored.states <= states_max,
            "more states than expected: {explored:?}"
        );
        explored.longest = explored.longest.max(path.len());
        let events = again(bounds, &path).events();
        let faults =
            |event: &Event| matches!(event, Event::Crash(_) | Event::Kill(..) | Event::Break(_));
        if events.iter().all(faults) {
            let world = again(bounds, &path);
            let done = world.server.is_done() && world.seen == [1; TREE.len()];
            assert!(done, "stuck after {path:?}: {:?}", world.server.counts());
            explored.ends += 1;
        }
        for event in events {
            let mut longer = path.clone();
            longer.push(event);
            let world = again(bounds, &longer);
            if let Err(what) = world.check() {
                panic!("{what} after {longer:?}");
            }
            if world.bounds.messages == 0 {
                explored.bounded += 1;
            } else if known.insert(world.fingerprint()) {
                open.push(longer);
            }
        }
    }
    println!("{bounds:?}: {explored:?}");
    explored
}

fn bounds(workers: usize, crashes: u32, cuts: u32, messages: u32) -> Bounds {
    Bounds {
        workers,
        crashes,
        cuts,
        messages,
        forgets: false,
    }
}

#[test]
fn every_order_of_events_without_faults() {
    let explored = explore(bounds(2, 0, 0, u32::MAX), 20_000);
    assert!(explored.ends > 0 && explored.bounded == 0);
}

#[test]
fn every_order_of_events_with_a_crash() {
    assert!(explore(bounds(2, 1, 0, 2), 60_000).states > 1000);
}

#[test]
fn every_order_of_events_with_a_cut_link() {
    assert!(explore(bounds(2, 0, 1, 2), 60_000).states > 1000);
}

#[test]
#[should_panic(expected = "committed 0 times, under 0 items")]
fn results_that_are_forgotten_with_a_link_are_found() {
    let forgets = true;
    explore(
        Bounds {
            forgets,
            ..bounds(2, 0, 1, 2)
        },
        60_000,
    );
}

#[test]
#[ignore = "takes many minutes"]
fn every_order_of_events_with_a_crash_and_a_cut_link() {
    let explored = explore(bounds(2, 1, 1, 4), u64::MAX);
    assert!(explored.ends > 0);
}
