//! `bench-run TREE...`: Hydra, the floor and every installed peer on the same trees, in turns.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use hydra_bench::Work;
use hydra_bench::runner::report::Report;
use hydra_bench::runner::session::{Caches, Settings, compare};
use hydra_bench::runner::tools::{self, Installed};

/// Compare Hydra with the floor and with its peers
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The trees, each `NAME=DIR` or a directory that is its own name
    #[arg(required = true)]
    trees: Vec<OsString>,
    /// The program `hydra-server`; by default the one beside this program
    #[arg(long)]
    hydra: Option<PathBuf>,
    /// Run Hydra with a journal too, to see what that costs
    #[arg(long)]
    journal: bool,
    /// A program that runs the Python Hydra: called with `list` or `stat`, the tree and the number of
    /// workers, it prints JSON with `entries` and its own `seconds`
    #[arg(long)]
    python_hydra: Option<PathBuf>,
    /// The program `bench-floor`; by default the one beside this program
    #[arg(long)]
    floor: Option<PathBuf>,
    /// Only these peers, instead of all that are installed
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<String>>,
    /// Which work to compare
    #[arg(long, value_delimiter = ',', default_value = "list,stat")]
    work: Vec<Work>,
    /// Timed runs of each command
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Processes or threads of those that can be told; by default as many as there are processors
    #[arg(long)]
    procs: Option<usize>,
    /// Run those that can be told with so many processes or threads, too
    #[arg(long, value_delimiter = ',', value_name = "PROCS")]
    also: Vec<usize>,
    /// Empty the kernel's caches before each timed run; needs root
    #[arg(long)]
    cold: bool,
    /// Who walks the tree, untimed, before each timed run
    #[arg(long, default_value = "floor", conflicts_with = "cold")]
    warmed_by: Caches,
    /// Seconds after which a command is given up
    #[arg(long, default_value_t = 120)]
    limit: u64,
    /// Where to write report.json and report.md
    #[arg(long, default_value = "bench/out")]
    out: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let (tools, missing) = take_part(&args)?;
    for missing in &missing {
        eprintln!("SKIPPED: {missing}");
    }
    let scratch = args.out.join("plans");
    std::fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let settings = Settings {
        runs: args.runs,
        procs: match args.procs {
            Some(procs) => procs,
            None => std::thread::available_parallelism()?.get(),
        },
        caches: if args.cold {
            Caches::Empty
        } else {
            args.warmed_by
        },
        limit: Duration::from_secs(args.limit),
        works: args.work,
        trees: args
            .trees
            .iter()
            .map(named)
            .collect::<anyhow::Result<BTreeMap<_, _>>>()?,
        scratch: scratch.clone(),
    };
    let report = compare(&settings, &tools, missing, |report| {
        write(&args.out, report)
    })?;
    std::fs::remove_dir_all(&scratch).context("remove the plans")?;
    print!("{}", report.markdown());
    let wrong = report.disagreements();
    for wrong in &wrong {
        eprintln!("WRONG: {wrong}");
    }
    Ok(ExitCode::from(u8::from(!wrong.is_empty())))
}

/// All tools that are there, and what is not.
fn take_part(args: &Args) -> anyhow::Result<(Vec<Installed>, Vec<String>)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (mut tools, mut missing) = tools::installed(&path);
    if let Some(only) = &args.only {
        let known = |name: &&String| tools::PEERS.iter().any(|tool| tool.name == name.as_str());
        if let Some(unknown) = only.iter().find(|name| !known(name)) {
            bail!("no peer is called {unknown}");
        }
        tools.retain(|tool| only.iter().any(|name| name == tool.tool.name));
        missing.retain(|line| {
            let name = line.split(' ').next();
            only.iter().any(|only| Some(only.as_str()) == name)
        });
    }
    let beside = |name: &str| std::env::current_exe().map(|exe| exe.with_file_name(name));
    let floor = match &args.floor {
        Some(floor) => floor.clone(),
        None => beside("bench-floor")?,
    };
    let built = Some(beside("hydra-server")?).filter(|program| program.is_file());
    let hydra = args.hydra.clone().or(built);
    let ours = [
        (&tools::FLOOR, Some(floor)),
        (&tools::HYDRA, hydra.clone()),
        (&tools::PYTHON_HYDRA, args.python_hydra.clone()),
    ];
    for (tool, program) in ours.into_iter().rev() {
        match program {
            None => missing.push(format!("{} was not given (--{})", tool.name, tool.name)),
            Some(program) => tools.insert(0, given(tool, &program)?),
        }
    }
    if let Some(program) = hydra.filter(|_| args.journal) {
        tools.push(given(&tools::HYDRA_JOURNAL, &program)?);
    }
    let more = args.also.iter();
    let more = more.flat_map(|&procs| tools.iter().filter_map(move |tool| tool.with_procs(procs)));
    let more: Vec<_> = more.collect();
    tools.extend(more);
    Ok((tools, missing))
}

fn given(tool: &'static tools::Tool, program: &Path) -> anyhow::Result<Installed> {
    let program = std::path::absolute(program)?;
    if !program.is_file() {
        bail!("{} is not a program: build it first", program.display());
    }
    Ok(Installed {
        tool,
        program,
        procs: None,
    })
}

fn named(tree: &OsString) -> anyhow::Result<(String, PathBuf)> {
    let text = tree
        .to_str()
        .context("a tree's argument that is not UTF-8")?;
    let (name, dir) = text.split_once('=').unwrap_or((text, text));
    let dir = std::path::absolute(dir)?;
    Ok((name.to_owned(), dir))
}

fn write(out: &Path, report: &Report) -> anyhow::Result<()> {
    let files = [
        ("report.json", serde_json::to_string_pretty(report)?),
        ("report.md", report.markdown()),
    ];
    for (name, text) in files {
        let file = out.join(name);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
