//! A tiny version of the scale runs: `examples/scale` says what they are.

#[path = "../examples/scale/agenda.rs"]
mod agenda;
#[path = "../examples/scale/cluster/mod.rs"]
mod cluster;
#[path = "../examples/scale/figures.rs"]
mod figures;
#[path = "../examples/scale/shape.rs"]
mod shape;
#[path = "../examples/scale/worker.rs"]
mod worker;

use cluster::{Cluster, Setup};
use shape::{Kind, Shape};
use std::time::Duration;

fn run(kind: Kind, clients: u32) -> figures::Figures {
    let shape = Shape::new(kind, 16);
    let total = shape.count(u64::MAX).expect("a tree that can be counted");
    let setup = Setup {
        shape,
        clients,
        workers: 2,
        latency: Duration::from_micros(200),
        cost: Duration::from_millis(1),
        commit_interval: Duration::from_millis(200),
        slower: 1,
    };
    let figures = Cluster::new(setup).run(total);
    println!("{}", figures::Figures::COLUMNS);
    println!("{}", figures.row());
    figures
}

/// Virtual time is the same each time: what this says cannot depend on the machine.
#[test]
fn work_is_spread_over_a_hundred_clients() {
    let (mean, depth) = (4.0, 9);
    let figures = run(Kind::Geometric { mean, depth }, 100);
    assert!(figures.efficiency() > 90.0, "{figures:?}");
}

#[test]
fn a_deep_and_narrow_tree_is_walked_whole() {
    let kind = Kind::Binomial {
        root: 200,
        children: 8,
        probability: 0.12,
    };
    assert!(run(kind, 10).dirs > 1000);
}
