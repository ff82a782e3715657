//! `bench-floor list|stat|plan …`: the time that the necessary system calls take.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use hydra_bench::Work;
use hydra_bench::floor::{Plan, race};

/// Walk a tree with the necessary system calls only, divided beforehand
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Only read the directories
    List(Walk),
    /// Ask about the size of each entry as well
    Stat(Walk),
    /// Divide a tree among processes and keep the division in a file
    Plan {
        work: Work,
        dir: PathBuf,
        #[arg(long, default_value_t = 2)]
        procs: usize,
        /// Where to write it
        #[arg(long)]
        out: PathBuf,
    },
    /// One process of a walk; started by the others
    #[command(hide = true)]
    Part { work: Work, dir: PathBuf },
}

#[derive(Args)]
struct Walk {
    dir: PathBuf,
    /// How many processes; a plan from a file says it itself
    #[arg(long, default_value_t = 2, conflicts_with = "plan")]
    procs: usize,
    /// A division made before by `bench-floor plan`; otherwise one is made first, outside the clock
    #[arg(long)]
    plan: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Sub::List(args) => walk(Work::List, &args),
        Sub::Stat(args) => walk(Work::Stat, &args),
        Sub::Part { work, dir } => race::run_part(&dir, work),
        Sub::Plan {
            work,
            dir,
            procs,
            out,
        } => {
            let plan = Plan::new(&dir, work, procs)?;
            std::fs::write(&out, plan.to_bytes())
                .with_context(|| format!("write {}", out.display()))
        }
    }
}

fn walk(work: Work, args: &Walk) -> anyhow::Result<()> {
    let plan = match &args.plan {
        Some(file) => read_plan(file)?,
        None => Plan::new(&args.dir, work, args.procs)?,
    };
    ensure!(plan.work == work, "the plan is for {}", plan.work);
    let outcome = race::race(&std::env::current_exe()?, &args.dir, &plan)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn read_plan(file: &Path) -> anyhow::Result<Plan> {
    let context = || format!("read {}", file.display());
    let bytes = std::fs::read(file).with_context(context)?;
    Plan::from_bytes(&bytes).with_context(context)
}
