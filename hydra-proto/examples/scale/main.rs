//! How far one server goes: clusters of up to 160,000 workers in virtual time, as a Markdown table.
//!
//! `cargo run --release -p hydra-proto --example scale -- T1L 1000 16 1ms 1ms 200ms`: tree, clients, workers of each,
//! latency, cost of a directory, commit interval. With `--slower 2` before them the server takes twice its time for
//! everything. Without arguments it says which trees there are.

mod agenda;
mod cluster;
mod figures;
mod shape;
mod worker;

use cluster::{Cluster, Setup};
use figures::Figures;
use shape::{Kind, Shape};
use std::time::Duration;

const fn geometric(depth: u32) -> Kind {
    Kind::Geometric { mean: 4.0, depth }
}

const fn binomial(children: u32, probability: f64) -> Kind {
    Kind::Binomial {
        root: 2000,
        children,
        probability,
    }
}

/// The trees, their seeds here, and their sizes in the benchmark.
const TREES: [(&str, Kind, u64, u64); 7] = [
    ("T1", geometric(10), 16, 4_130_071),
    ("T1L", geometric(13), 37, 102_181_082),
    ("T1XL", geometric(15), 37, 1_635_119_272),
    ("T1XXL", geometric(15), 0, 4_230_646_601),
    ("T3", binomial(8, 0.124_875), 17, 4_112_897),
    ("T3L", binomial(5, 0.200_014), 0, 111_345_631),
    ("T3XXL", binomial(2, 0.499_995), 0, 2_793_220_501),
];

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["seeds", name, tries] => seeds(name, tries.parse().map_err(|_| "how many tries?")?),
        [] => trees(),
        ["--slower", times, words @ ..] => {
            let slower = times.parse().map_err(|_| "how many times slower?")?;
            words.chunks(6).try_for_each(|words| run(words, slower))
        }
        words => words.chunks(6).try_for_each(|words| run(words, 1)),
    }
}

fn tree(name: &str) -> Result<Shape, String> {
    let found = TREES.iter().find(|tree| tree.0 == name);
    let &(_, kind, seed, _) = found.ok_or_else(|| format!("no such tree: {name}"))?;
    Ok(Shape::new(kind, seed))
}

fn trees() -> Result<(), String> {
    for (name, kind, seed, dirs) in TREES {
        println!("{name}: {kind:?}, seed {seed}; {dirs} directories in the benchmark");
    }
    Ok(())
}

/// Looks for seeds whose trees are about as large as the benchmark's.
fn seeds(name: &str, tries: u64) -> Result<(), String> {
    let found = TREES.iter().find(|tree| tree.0 == name);
    let &(_, kind, _, dirs) = found.ok_or_else(|| format!("no such tree: {name}"))?;
    for seed in 0..tries {
        let total = Shape::new(kind, seed).count(dirs + dirs / 10);
        if let Some(total) = total.filter(|total| total.dirs > dirs - dirs / 10) {
            println!("{name}: seed {seed}: {total:?}");
        }
    }
    Ok(())
}

fn duration(word: &str) -> Result<Duration, String> {
    let bad = || format!("not a time such as 0.2ms or 10us: {word}");
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let (number, unit) = units
        .iter()
        .find_map(|&(unit, seconds)| Some((word.strip_suffix(unit)?, seconds)))
        .ok_or_else(bad)?;
    let number: f64 = number.parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| bad())
}

fn run(words: &[&str], slower: u32) -> Result<(), String> {
    let &[name, clients, workers, latency, cost, interval] = words else {
        return Err("tree, clients, workers, latency, cost, commit interval".to_owned());
    };
    let shape = tree(name)?;
    let total = shape.count(u64::MAX).ok_or("a tree that can be counted")?;
    let setup = Setup {
        shape,
        clients: clients.parse().map_err(|_| "how many clients?")?,
        workers: workers.parse().map_err(|_| "how many workers?")?,
        latency: duration(latency)?,
        cost: duration(cost)?,
        commit_interval: duration(interval)?,
        slower,
    };
    let mut cluster = Cluster::new(setup);
    cluster.figures.weigh_at = total.dirs / 2;
    let figures = cluster.run(total);
    println!(
        "tree | clients × workers | latency | cost | commits every | {}",
        Figures::COLUMNS
    );
    println!(
        "{name} | {clients} × {workers} | {latency} | {cost} | {interval} | {}",
        figures.row()
    );
    eprintln!("{figures:?}");
    Ok(())
}
