//! `bench-coordinator`: what one server can do for thousands of clients.

use std::time::Duration;

use clap::Parser;
use hydra_bench::coordinator::{Settings, measure, serve};
use hydra_bench::implicit::{DIRECTORIES_MAX, ImplicitTree, TreeArgs};
use hydra_bench::tree::Shape;

/// Drive one server with clients that only pretend to walk
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How many clients
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(2..=20_000))]
    clients: u64,
    /// How many seconds to count
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Directories that a client walks between two commits
    #[arg(long, default_value_t = 4)]
    items_per_commit: usize,
    /// Commits of one client that may be on their way
    #[arg(long, default_value_t = 4)]
    window: u32,
    /// Threads for the clients
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The tree that they pretend to walk
    #[arg(long, value_enum, default_value = "balanced")]
    shape: Shape,
    /// Directories of that tree: the fewer, the sooner clients run out of work; it must outlast the run
    #[arg(long, value_name = "N", default_value_t = DIRECTORIES_MAX)]
    directories: u64,
    /// This process is the server
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.serve {
        return serve(args.clients as usize, args.window);
    }
    let settings = Settings {
        tree: ImplicitTree::new(&TreeArgs {
            shape: args.shape,
            directories: Some(args.directories),
            files: Some(args.directories * 10),
            seed: 1,
        })?,
        clients: args.clients as usize,
        period: Duration::from_secs(args.seconds),
        items_per_commit: args.items_per_commit,
        window: args.window,
        threads: args.threads,
    };
    let server = [
        "--serve".to_owned(),
        format!("--clients={}", args.clients),
        format!("--window={}", args.window),
    ];
    let outcome = measure(&settings, &std::env::current_exe()?, &server)?;
    println!("{}", serde_json::to_string_pretty(&outcome)?);
    Ok(())
}
