//! The result of a session, as JSON and as Markdown.

use std::ffi::OsString;
use std::fmt::Write;

use serde::Serialize;

use super::machine::Machine;
use super::measure::Sample;
use super::memory::Memory;
use super::reading::Check;
use super::session::Caches;
use super::tools::{FLOOR, HYDRA};
use crate::Work;
use crate::totals::Totals;

/// A whole session.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Timed runs of each command.
    pub runs: usize,
    /// Processes or threads of those that can be told.
    pub procs: usize,
    /// What the kernel's caches held before each timed run.
    pub caches: Caches,
    /// The first line that each tool says of its version.
    pub versions: Vec<(String, String)>,
    /// What could not take part, and why.
    pub missing: Vec<String>,
    /// What was walked.
    pub trees: Vec<Tree>,
}

/// One tree.
#[derive(Debug, Serialize)]
pub struct Tree {
    /// What the user calls it.
    pub name: String,
    /// The type of the file system that it lies on.
    pub file_system: String,
    /// What it holds, by the oracle.
    pub totals: Totals,
    /// List and stat.
    pub comparisons: Vec<Comparison>,
}

/// All commands that did one work on one tree.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The work.
    pub work: Work,
    /// The floor, Hydra and the peers, the fastest first.
    pub rows: Vec<Row>,
}

/// One command.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name of the tool.
    pub tool: String,
    /// Its command line.
    pub command: String,
    /// The timed runs.
    pub samples: Vec<Sample>,
    /// The same runs by the command's own clock, for those that have one.
    pub own_samples: Vec<Sample>,
    /// Median of what counts: the floor's own clock, everybody else's whole process. In seconds.
    pub median_seconds: Option<f64>,
    /// The median divided by that of the floor.
    pub to_floor: Option<f64>,
    /// The median divided by that of the fastest peer: all but the floor and Hydra.
    pub to_fastest_peer: Option<f64>,
    /// Peak memory.
    pub memory: Option<Memory>,
    /// Its counts beside the true ones.
    pub checks: Vec<Check>,
    /// Why it was not measured to the end.
    pub gave_up: Option<String>,
    /// An exit status that means failure.
    pub failed: Option<String>,
}

impl Row {
    pub(super) fn new(tool: &str, command: &[OsString]) -> Row {
        let command: Vec<_> = command.iter().map(|arg| arg.to_string_lossy()).collect();
        Row {
            tool: tool.to_owned(),
            command: command.join(" "),
            samples: Vec::new(),
            own_samples: Vec::new(),
            median_seconds: None,
            to_floor: None,
            to_fastest_peer: None,
            memory: None,
            checks: Vec::new(),
            gave_up: None,
            failed: None,
        }
    }

    /// The runs that count.
    fn counting(&self) -> &[Sample] {
        if self.tool == FLOOR.name {
            &self.own_samples
        } else {
            &self.samples
        }
    }

    fn is_peer(&self) -> bool {
        let ours = [FLOOR.name, HYDRA.name];
        let is = |name: &&str| self.tool == **name || self.tool.starts_with(&format!("{name}-"));
        !ours.iter().any(is)
    }

    /// Whether all its counts are right; none if it has none.
    fn agrees(&self) -> Option<bool> {
        (!self.checks.is_empty()).then(|| self.checks.iter().all(Check::agrees))
    }
}

impl Comparison {
    pub(super) fn new(work: Work, mut rows: Vec<Row>) -> Comparison {
        for row in &mut rows {
            row.median_seconds = median(row.counting().iter().map(|sample| sample.seconds));
        }
        let floor = rows.iter().find(|row| row.tool == FLOOR.name);
        let floor = floor.and_then(|row| row.median_seconds);
        // One that failed or counted wrong has not done the work.
        let did_it = |row: &&Row| row.failed.is_none() && row.agrees() != Some(false);
        let peers = rows.iter().filter(|row| row.is_peer()).filter(did_it);
        let fastest = peers.filter_map(|row| row.median_seconds);
        let fastest = fastest.min_by(f64::total_cmp);
        for row in &mut rows {
            let ratio = |to: Option<f64>| Some(row.median_seconds? / to?);
            (row.to_floor, row.to_fastest_peer) = (ratio(floor), ratio(fastest));
        }
        let key = |row: &Row| row.median_seconds.unwrap_or(f64::INFINITY);
        rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
        Comparison { work, rows }
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values[middle - 1] + upper) / 2.0)
}

impl Report {
    /// The counts of Hydra and the floor that are wrong; those of peers stand in the tables only.
    #[must_use]
    pub fn disagreements(&self) -> Vec<String> {
        let comparisons = self
            .trees
            .iter()
            .flat_map(|tree| tree.comparisons.iter().map(move |c| (tree, c)));
        comparisons
            .flat_map(|(tree, comparison)| comparison.rows.iter().map(move |row| (tree, row)))
            .filter(|(_, row)| !row.is_peer())
            .filter(|(_, row)| {
                row.agrees() == Some(false) || row.failed.is_some() || row.gave_up.is_some()
            })
            .map(|(tree, row)| format!("{} on {}: {}", row.tool, tree.name, row.command))
            .collect()
    }

    /// Tables for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, to: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(
            to,
            "{}, {} processors ({}), {:.0} GiB memory, load {} at the start. Cache {}, medians of {} \
             alternating runs, {} processes or threads where a command can be told.\n",
            machine.kernel,
            machine.processors,
            machine.processor,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.load,
            match self.caches {
                Caches::Empty => "cold",
                Caches::Floor => "warmed by the floor",
                Caches::Itself => "warmed by each command itself",
            },
            self.runs,
            self.procs,
        )?;
        for missing in &self.missing {
            writeln!(to, "- **Skipped:** {missing}")?;
        }
        for (tool, version) in &self.versions {
            writeln!(to, "- {tool}: {version}")?;
        }
        for tree in &self.trees {
            tree.write_markdown(to)?;
        }
        Ok(())
    }
}

impl Tree {
    fn write_markdown(&self, to: &mut String) -> std::fmt::Result {
        let totals = &self.totals;
        writeln!(
            to,
            "\n## {}\n\n{} directories, {} files, {} others, depth {}, on {}",
            self.name,
            totals.directories,
            totals.files,
            totals.symlinks + totals.other,
            totals.depth,
            self.file_system,
        )?;
        for comparison in &self.comparisons {
            writeln!(
                to,
                "\n| {} | median s | min–max | CPU user+sys s | to floor | to fastest peer | \
                 memory MiB, all | largest | counts |\n\
                 |---|---|---|---|---|---|---|---|---|",
                comparison.work
            )?;
            for row in &comparison.rows {
                row.write_markdown(to)?;
            }
            writeln!(to)?;
            for row in &comparison.rows {
                writeln!(to, "- {}: `{}`", row.tool, row.command.replace('`', "'"))?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn write_markdown(&self, to: &mut String) -> std::fmt::Result {
        let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |v| format!("{v:.2}"));
        let seconds = || self.counting().iter().map(|sample| sample.seconds);
        let range = (
            seconds().min_by(f64::total_cmp),
            seconds().max_by(f64::total_cmp),
        );
        let cpu = |of: fn(&Sample) -> f64| number(median(self.counting().iter().map(of)));
        let cpu = if self.tool == FLOOR.name {
            cpu(|sample| sample.system_seconds)
        } else {
            let (user, system) = (cpu(|s| s.user_seconds), cpu(|s| s.system_seconds));
            format!("{user}+{system}")
        };
        let mib = |of: fn(&Memory) -> u64| {
            let bytes = self.memory.as_ref().map(of);
            bytes.map_or_else(|| "–".into(), |b| format!("{:.1}", b as f64 / 1_048_576.0))
        };
        let median = match &self.gave_up {
            Some(why) => why.clone(),
            None => number(self.median_seconds),
        };
        writeln!(
            to,
            "| {}{} | {median} | {}–{} | {cpu} | {} | {} | {} | {} | {} |",
            self.tool,
            self.own_clock_note(),
            number(range.0),
            number(range.1),
            number(self.to_floor),
            number(self.to_fastest_peer),
            mib(|memory| memory.peak_sum),
            mib(|memory| memory.peak_single),
            self.verdict(),
        )
    }

    fn own_clock_note(&self) -> String {
        let own = median(self.own_samples.iter().map(|sample| sample.seconds));
        match own {
            Some(own) if self.tool != FLOOR.name => format!(" (own clock {own:.2} s)"),
            _ => String::new(),
        }
    }

    fn verdict(&self) -> String {
        let mut verdict = match self.agrees() {
            None => "none to compare".to_owned(),
            Some(true) => "agree".to_owned(),
            Some(false) => "**differ**".to_owned(),
        };
        for check in self.checks.iter().filter(|check| !check.agrees()) {
            let got = check
                .got
                .map_or_else(|| "nothing".into(), |n| n.to_string());
            let _ = write!(verdict, ": {:?} {got} for {}", check.what, check.expected);
        }
        if let Some(failed) = &self.failed {
            let _ = write!(verdict, ", failed: {failed}");
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
