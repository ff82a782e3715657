//! Puts the runs in order.
//!
//! For each tree and work: every command once to read its counts (which also warms the cache), once
//! to watch its memory, and then all of them in turns, beginning with another one in each round, so
//! that a slow minute of the machine falls on all alike.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::machine::{Machine, file_system};
use super::measure::{Ended, Purpose, Sample, run};
use super::report::{Comparison, Report, Row, Tree};
use super::tools::{FLOOR, Installed, Job, Places};
use crate::floor::Plan;
use crate::{Work, totals};

/// What the kernel's caches hold before each timed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Caches {
    /// The floor has just walked the tree.
    Floor,
    /// The command itself has.
    Itself,
    /// Nothing; needs root.
    #[value(skip)]
    Empty,
}

/// What to do.
pub struct Settings {
    /// Timed runs of each command.
    pub runs: usize,
    /// Processes or threads of those that can be told.
    pub procs: usize,
    /// What the kernel's caches hold before each timed run.
    pub caches: Caches,
    /// A command that takes longer is killed and not tried again.
    pub limit: Duration,
    /// Which work is compared.
    pub works: Vec<Work>,
    /// Trees by name.
    pub trees: BTreeMap<String, PathBuf>,
    /// Where the floor's plans are kept meanwhile.
    pub scratch: PathBuf,
}

/// Runs everything; `missing` says what could not take part. `keep` gets the report so far after
/// each tree, so that an interrupted session is not lost.
///
/// # Errors
///
/// When a tree cannot be read, a command not be started, or `keep` fails. A command that fails is
/// shown in the report instead.
pub fn compare(
    settings: &Settings,
    tools: &[Installed],
    missing: Vec<String>,
    keep: impl Fn(&Report) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let mut report = Report {
        machine: Machine::here(),
        runs: settings.runs,
        procs: settings.procs,
        caches: settings.caches,
        versions: tools.iter().filter_map(version).collect(),
        missing,
        trees: Vec::new(),
    };
    for (name, dir) in &settings.trees {
        eprintln!("{name}: counting {}", dir.display());
        let totals = totals::count(dir)?;
        let mut tree = Tree {
            name: name.clone(),
            file_system: file_system(dir),
            totals,
            comparisons: Vec::new(),
        };
        for &work in &settings.works {
            let comparison = Turns::new(settings, tools, dir, work)?.take(&tree)?;
            tree.comparisons.push(comparison);
        }
        report.trees.push(tree);
        keep(&report)?;
    }
    Ok(report)
}

fn version(tool: &Installed) -> Option<(String, String)> {
    if tool.tool.version.is_empty() {
        return None;
    }
    let mut command = vec![tool.program.clone().into_os_string()];
    command.extend(tool.tool.version.iter().map(OsString::from));
    let ended = run(&command, Purpose::Read, Duration::from_secs(10)).ok()?;
    let line = ended.output.first_line()?;
    Some((tool.tool.name.to_owned(), line))
}

/// One command in the comparison.
struct Entrant {
    job: &'static Job,
    command: Vec<OsString>,
    counted: Vec<OsString>,
    row: Row,
}

/// One tree and work.
struct Turns<'a> {
    settings: &'a Settings,
    work: Work,
    entrants: Vec<Entrant>,
}

impl<'a> Turns<'a> {
    fn new(
        settings: &'a Settings,
        tools: &[Installed],
        dir: &Path,
        work: Work,
    ) -> anyhow::Result<Self> {
        let plan = settings.scratch.join(format!("{work}.plan"));
        let bytes = Plan::new(dir, work, settings.procs)?.to_bytes();
        std::fs::write(&plan, bytes).with_context(|| format!("write {}", plan.display()))?;
        let places = Places {
            dir: dir.to_owned(),
            procs: settings.procs,
            plan,
        };
        let entrant = |tool: &Installed| {
            let job = tool.job(work)?;
            let command = tool.command(job.args, &places);
            let counted = tool.command(job.counted.unwrap_or(job.args), &places);
            let row = Row::new(&tool.name(), &command);
            Some(Entrant {
                job,
                command,
                counted,
                row,
            })
        };
        Ok(Turns {
            settings,
            work,
            entrants: tools.iter().filter_map(entrant).collect(),
        })
    }

    fn take(mut self, tree: &Tree) -> anyhow::Result<Comparison> {
        for entrant in &mut self.entrants {
            eprintln!("{} {}: {}", tree.name, self.work, entrant.row.tool);
            entrant.prepare(tree, self.settings.limit)?;
        }
        let floor = self.entrants.iter().find(|one| one.row.tool == FLOOR.name);
        let floor = floor.map(|one| one.command.clone());
        let number = self.entrants.len();
        for round in 0..self.settings.runs {
            for turn in 0..number {
                let entrant = &mut self.entrants[(round + turn) % number];
                if entrant.row.gave_up.is_some() {
                    continue;
                }
                match self.settings.caches {
                    Caches::Empty => drop_caches()?,
                    Caches::Floor => warm(floor.as_deref(), self.settings.limit)?,
                    Caches::Itself => warm(Some(&entrant.command), self.settings.limit)?,
                }
                entrant.time(self.settings.limit)?;
            }
        }
        let rows = self.entrants.into_iter().map(|entrant| entrant.row);
        Ok(Comparison::new(self.work, rows.collect()))
    }
}

impl Entrant {
    fn prepare(&mut self, tree: &Tree, limit: Duration) -> anyhow::Result<()> {
        let counted = run(&self.counted, Purpose::Read, limit)?;
        self.note_end(&counted, limit);
        if self.row.gave_up.is_some() {
            return Ok(());
        }
        self.row.checks = counted.output.check(self.job.readings, &tree.totals);
        for check in self.row.checks.iter().filter(|check| !check.agrees()) {
            eprintln!("  COUNTS DIFFER: {}: {check:?}", self.row.tool);
        }
        let watched = run(&self.command, Purpose::Watch, limit)?;
        self.note_end(&watched, limit);
        self.row.memory = watched.memory;
        Ok(())
    }

    fn time(&mut self, limit: Duration) -> anyhow::Result<()> {
        // A report on its own clock is one line, and reading it costs nothing.
        let purpose = match self.job.own_clock {
            true => Purpose::Read,
            false => Purpose::Time,
        };
        let ended = run(&self.command, purpose, limit)?;
        self.note_end(&ended, limit);
        if self.row.gave_up.is_none() {
            if let Some(own) = self.job.own_clock.then(|| own_sample(&ended)).flatten() {
                self.row.own_samples.push(own);
            }
            self.row.samples.push(ended.sample);
        }
        Ok(())
    }

    fn note_end(&mut self, ended: &Ended, limit: Duration) {
        let Some(status) = ended.status else {
            self.row.gave_up = Some(format!("over {} s", limit.as_secs()));
            eprintln!("  GAVE UP: {} took over {limit:?}", self.row.tool);
            return;
        };
        let ok = |code| code == 0 || self.job.also_ok.contains(&code);
        if !status.code().is_some_and(ok) && self.row.failed.is_none() {
            self.row.failed = Some(status.to_string());
            eprintln!("  FAILED: {}: {status}", self.row.tool);
        }
    }
}

/// The time by the command's own clock; its processor time is not divided.
fn own_sample(ended: &Ended) -> Option<Sample> {
    let json = ended.output.json().ok()?;
    let number = |key| json.get(key).and_then(serde_json::Value::as_f64);
    let measured = &ended.sample;
    Some(Sample {
        seconds: number("seconds")?,
        user_seconds: 0.0,
        system_seconds: number("cpu_seconds")
            .unwrap_or(measured.user_seconds + measured.system_seconds),
    })
}

/// Lets somebody walk the tree before a run that is timed: what a slow command has just done, and what
/// the kernel took from the caches meanwhile, is not the next one's to pay.
fn warm(command: Option<&[OsString]>, limit: Duration) -> anyhow::Result<()> {
    if let Some(command) = command {
        run(command, Purpose::Read, limit)?;
    }
    Ok(())
}

/// Empties the kernel's caches.
///
/// # Errors
///
/// Where that is not allowed.
pub fn drop_caches() -> anyhow::Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("empty the caches (needs root)")
}
