//! Every order of events of a tiny cluster, over the real ledgers: two clients, a few directories, crashes, cut links.
//! In each state every directory is committed once or lies under exactly one item, and where nothing is left to happen
//! the job is done. Every order is followed to its end: none is given up on the way.
//!
//! A ledger cannot be copied, so a state is kept as the events that lead to it, and made again from them. States are
//! the same if all that they hold is, by a hash of it: two orders that come to one state are followed once.
//!
//! The world is small where faults strike, since all that they lead to is followed. `cargo test -p hydra-proto --test
//! exhaustive -- --ignored` takes larger ones.

mod world;

use std::collections::HashSet;
use world::{Bounds, Event, Tree, World};

const TWO: Tree = &[("", &["a"]), ("a", &[])];
const THREE: Tree = &[("", &["a", "b"]), ("a", &[]), ("b", &[])];
const FOUR: Tree = &[("", &["a", "b"]), ("a", &["c"]), ("b", &[]), ("a/c", &[])];

#[derive(Debug, Default)]
struct Explored {
    states: u64,
    ends: u64,
    /// Ends after work of somebody who was lost was granted again.
    again: u64,
    /// Ends after a session went on over another connection.
    resumed: u64,
    longest: usize,
}

fn again(bounds: Bounds, path: &[Event]) -> World {
    let mut world = World::new(bounds);
    path.iter().for_each(|&event| world.apply(event));
    world
}

/// Follows every order of events to its end. Panics with the events that lead to a state that must not be.
fn explore(bounds: Bounds) -> Explored {
    let mut explored = Explored::default();
    let first = World::new(bounds);
    let mut known = HashSet::from([first.fingerprint()]);
    // Each state with what happens next there.
    let mut open = vec![(Vec::new(), first.events())];
    while let Some((path, events)) = open.pop() {
        explored.states += 1;
        explored.longest = explored.longest.max(path.len());
        let faults =
            |event: &Event| matches!(event, Event::Crash(_) | Event::Kill(..) | Event::Break(_));
        if events.iter().all(faults) {
            let world = again(bounds, &path);
            let counts = world.server.counts();
            assert!(world.is_over(), "stuck after {path:?}: {counts:?}");
            explored.ends += 1;
            explored.again += u64::from(world.past.granted_again);
            explored.resumed += u64::from(world.past.resumed);
        }
        for event in events {
            let mut longer = path.clone();
            longer.push(event);
            let world = again(bounds, &longer);
            if let Err(what) = world.check() {
                panic!("{what} after {longer:?}");
            }
            if known.insert(world.fingerprint()) {
                open.push((longer, world.events()));
            }
        }
    }
    println!("{bounds:?}: {explored:?}");
    explored
}

fn bounds(tree: Tree, workers: usize, crashes: u32, cuts: u32) -> Bounds {
    Bounds {
        tree,
        workers,
        crashes,
        cuts,
        forgets: false,
    }
}

/// Each client has one worker here, or two: with one its own ledger has nobody else to grant to.
fn explore_faults(tree: Tree, workers: usize, crashes: u32, cuts: u32) {
    let explored = explore(bounds(tree, workers, crashes, cuts));
    assert!(explored.again > 0, "no work was granted again");
    assert!(explored.resumed > 0 || cuts == 0, "no session went on");
}

#[test]
fn every_order_of_events_without_faults() {
    assert!(explore(bounds(FOUR, 2, 0, 0)).ends > 0);
}

#[test]
fn every_order_of_events_with_a_crash() {
    explore_faults(THREE, 1, 1, 0);
    explore_faults(TWO, 2, 1, 0);
}

#[test]
fn every_order_of_events_with_a_cut_link() {
    explore_faults(TWO, 1, 0, 1);
    explore_faults(TWO, 2, 0, 1);
}

#[test]
#[should_panic(expected = "committed 0 times, under 0 items")]
fn results_that_are_forgotten_with_a_link_are_found() {
    let forgets = true;
    explore(Bounds {
        forgets,
        ..bounds(TWO, 2, 0, 1)
    });
}

#[test]
#[ignore = "takes minutes"]
fn every_order_of_events_with_a_crash_among_more_directories() {
    explore_faults(THREE, 2, 1, 0);
    explore_faults(FOUR, 2, 1, 0);
}

#[test]
#[ignore = "takes minutes"]
fn every_order_of_events_with_a_cut_link_among_more_directories() {
    explore_faults(THREE, 1, 0, 1);
    explore_faults(THREE, 2, 0, 1);
}

#[test]
#[ignore = "takes many minutes"]
fn every_order_of_events_with_a_crash_and_a_cut_link() {
    explore_faults(TWO, 2, 1, 1);
    explore_faults(TWO, 1, 1, 1);
}
