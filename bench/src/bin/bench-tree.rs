//! `bench-tree SHAPE DIR`: builds a tree, counts it again and prints what it holds as JSON.

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use hydra_bench::{totals, tree};

/// Build a tree to measure on; the same seed gives the same tree
#[derive(Parser)]
#[command(version)]
struct Args {
    /// What kind of tree
    shape: tree::Shape,
    /// Where; must be empty or not exist
    dir: PathBuf,
    /// Another seed gives another tree of the same shape
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Size as a multiple of the full one
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // The tree's modes are the same whoever builds it.
    rustix::process::umask(rustix::fs::Mode::empty());
    let start = Instant::now();
    tree::build(args.shape, &args.dir, args.seed, args.scale)?;
    let built = start.elapsed().as_secs_f64();
    let report = serde_json::json!({
        "shape": args.shape, "seed": args.seed, "scale": args.scale,
        "build_seconds": built, "totals": totals::count(&args.dir)?,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
