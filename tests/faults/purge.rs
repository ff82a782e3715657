//! `examples/purge.rs` with `--delete --intent`, telling the harness who is about to delete; a tree of its own for each
//! run; and whether it came out as promised: what had to go is gone and in one row each, and nothing else is gone.

use crate::lab::{Lab, Outcome};
use crate::plugin::connected;
use example::{Purge, PurgeOptions, PurgeVisit};
use hydra::{Plugin, PluginReport, ReduceError, ReportContext, SummaryOf};
use hydra_worker::{Entry, Sink, Visit, Wants};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

#[path = "../../examples/purge.rs"]
#[allow(dead_code)]
mod example;

/// Files to delete between two ticks.
const STRIDE: u64 = 20;
/// Directories with few files; there is one with many.
const DIRECTORIES: usize = 400;
const FILES: usize = 30;
const MANY: usize = 6000;
/// What may become of a file that is to go when nobody else touches it.
const DONE: [&str; 2] = ["deleted", "presumed deleted"];

#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct TickOptions {
    #[command(flatten)]
    purge: PurgeOptions,
    /// Where the harness listens for ticks
    #[arg(long)]
    ticks: Option<PathBuf>,
}

pub(crate) struct TickPurge;

pub(crate) struct TickVisit {
    purge: PurgeVisit,
    ticks: Option<UnixDatagram>,
    shown: u64,
}

impl Plugin for TickPurge {
    const NAME: &'static str = "tick-purge";
    const ABOUT: &'static str = "The purge, telling a harness who is at work";
    const ACTS: bool = true;
    type Options = TickOptions;
    type Visit = TickVisit;
    type Total = <Purge as Plugin>::Total;

    fn prepare(options: &mut TickOptions, now: SystemTime) {
        Purge::prepare(&mut options.purge, now);
    }

    fn visit(options: &TickOptions) -> Result<TickVisit, String> {
        Ok(TickVisit {
            purge: Purge::visit(&options.purge)?,
            ticks: connected(options.ticks.as_ref())?,
            shown: 0,
        })
    }

    fn total(options: &TickOptions) -> Result<Self::Total, String> {
        Purge::total(&options.purge)
    }

    fn report(
        options: &TickOptions,
        total: Self::Total,
        context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        Purge::report(&options.purge, total, context)
    }
}

impl Visit for TickVisit {
    type Summary = SummaryOf<Purge>;

    fn wants(&self) -> Wants {
        self.purge.wants()
    }

    fn intends(&mut self, entry: &Entry<'_>) -> bool {
        self.purge.intends(entry)
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Self::Summary>) {
        if self.purge.intends(entry) {
            self.shown += 1;
            if self.shown.is_multiple_of(STRIDE)
                && let Some(ticks) = &self.ticks
            {
                // The harness may have heard enough.
                let _ = ticks.send(&std::process::id().to_le_bytes());
            }
        }
        self.purge.entry(entry, out);
    }

    fn gone(&mut self, entry: &Entry<'_>, out: &mut Sink<Self::Summary>) {
        self.purge.gone(entry, out);
    }
}

/// A tree of old and young files. Taken away when dropped.
pub(crate) struct Files {
    root: PathBuf,
    young: BTreeSet<PathBuf>,
    directories: usize,
    /// What one thread says that would be deleted.
    expected: Outcome,
}

impl Files {
    pub(crate) fn new(lab: &Lab, seed: u64) -> io::Result<Self> {
        let mut files = Self {
            root: lab.path(&format!("files-{seed}")),
            young: BTreeSet::new(),
            directories: 0,
            expected: Outcome::default(),
        };
        for number in 0..DIRECTORIES {
            files.fill(&format!("d{}/d{number}", number % 7), FILES)?;
        }
        files.fill("many", MANY)?;
        files.directories = files.left()?.1;
        files.expected = lab.oracle_of(&["tick-purge", "--older-than", "90d"], &[&files.root])?;
        Ok(files)
    }

    /// Makes files, of which some are young.
    fn fill(&mut self, dir: &str, count: usize) -> io::Result<()> {
        let dir = self.root.join(dir);
        fs::create_dir_all(&dir)?;
        let long_ago = SystemTime::now() - Duration::from_secs(100 * 86_400);
        let old = FileTimes::new().set_modified(long_ago);
        for number in 0..count {
            let path = dir.join(format!("file-{number}"));
            let file = File::create(&path)?;
            match number % 10 {
                3 => drop(self.young.insert(path)),
                _ => file.set_times(old)?,
            }
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn ticks(&self) -> u64 {
        self.expected.rows.len() as u64 / STRIDE
    }

    /// Files, and how many directories.
    fn left(&self) -> io::Result<(BTreeSet<PathBuf>, usize)> {
        let (mut files, mut directories) = (BTreeSet::new(), 0);
        for entry in walkdir::WalkDir::new(&self.root) {
            let entry = entry?;
            match entry.file_type().is_dir() {
                true => directories += 1,
                false => drop(files.insert(entry.into_path())),
            }
        }
        Ok((files, directories))
    }

    pub(crate) fn check(&self, outcome: &Outcome) -> Result<(), String> {
        let (left, directories) = self.left().map_err(|error| error.to_string())?;
        if left != self.young || directories != self.directories {
            let (left, young) = (left.len(), self.young.len());
            return Err(format!("{left} files are left instead of {young}"));
        }
        if outcome.status != Some(0) || outcome.report["complete"] != true {
            return Err(format!("status {:?}", outcome.status));
        }
        let (ours, outcomes) = named(&outcome.rows)?;
        let (theirs, _) = named(&self.expected.rows)?;
        if let Some(path) = theirs.iter().find(|path| !ours.contains(*path)) {
            let count = theirs.difference(&ours).count();
            return Err(format!("{count} files are in no row, {path} for one"));
        }
        if ours != theirs || outcomes.keys().any(|name| !DONE.contains(&name.as_str())) {
            return Err(format!("other rows: {outcomes:?}"));
        }
        // What is presumed nobody has seen who lived to tell.
        let presumed = outcomes.get(DONE[1]).copied().unwrap_or_default();
        if outcome.directories() != self.expected.directories()
            || outcome.entries() + presumed != self.expected.entries()
        {
            return Err(format!("other totals: {}", outcome.report["totals"]));
        }
        let sums = &outcome.report["tick-purge"]["outcomes"];
        let told = |(name, count): (&String, &u64)| sums[name]["files"].as_u64() == Some(*count);
        match outcomes.iter().all(told) {
            true => Ok(()),
            false => Err(format!("rows {outcomes:?}, in the report {sums}")),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// What rows are about, and how often which outcome is in them. No file is in two.
fn named(rows: &[Vec<u8>]) -> Result<(BTreeSet<String>, BTreeMap<String, u64>), String> {
    let (mut paths, mut outcomes) = (BTreeSet::new(), BTreeMap::new());
    for row in rows {
        let row: Value = serde_json::from_slice(row).map_err(|error| error.to_string())?;
        let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        *outcomes.entry(word("outcome")).or_default() += 1;
        if !paths.insert(word("path")) {
            return Err(format!("{} is in two rows", word("path")));
        }
    }
    Ok((paths, outcomes))
}
