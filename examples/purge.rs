//! Deletes old files. Without `--delete` it only says which ones.
//!
//! ```sh
//! purge --older-than 90d --by atime --rows would-delete.ndjson /scratch
//! purge --older-than 90d --by atime --rows deleted.ndjson --delete /scratch
//! purge client --listen --allow purge                  # on other hosts
//! ```
//!
//! Every file is looked at again, by its name in its open directory, right before it is deleted: it must still be
//! the same regular file, and still old. Each outcome is a row:
//!
//! | outcome | meaning |
//! |---|---|
//! | `would delete` | the file is old; nothing was done |
//! | `deleted` | this job deleted it |
//! | `presumed deleted` | it was there, and gone when it was to be deleted: a network file system may have done it and lost the answer, or somebody else was faster. Also: a worker that was lost may have deleted it, see below |
//! | `already gone` | somebody else deleted it after the walk had looked at it |
//! | `changed` | it is another file, no file, or no longer old; it stays |
//! | `failed` | it could not be deleted; also an error of the report |
//!
//! Where a worker dies, its part is done again: deleting is safe to repeat, and nothing counts twice. What it deleted
//! and could not report any more is gone by then. With `--intent` the names of the files to delete were on the server's
//! record before the first of them was deleted, so each that the lost worker may have deleted is `presumed deleted`,
//! with neither size nor age, and every file that was to go is in exactly one row. Without it that holds only if the
//! directory was large, and may be said of a young file that somebody else removed meanwhile; what was in a directory
//! of at most 2048 entries is in no row and no count.
//!
//! Roots are never deleted, nor are directories.

use hydra::cli::values::duration;
use hydra::plugins::format;
use hydra::{
    Again, Entry, Facts, FileType, Hydra, Plugin, PluginReport, ReduceError, ReportContext,
    ShownPath, Sink, Stat, Summary, Visit, Wants,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    Hydra::new().plugin::<Purge>().run()
}

/// What is promised, below the options.
const NOTES: &str = "\
What is promised
  Results are exact: every outcome counts once. Actions are at least once, and
  safe to repeat: every file is looked at again right before it is deleted.
  What a worker deleted that died before it could say so is found gone:

  with --intent     The names of the files to delete are on the server's record
                    before the first of them is deleted. Each file that was to
                    go is in one row: one that such a worker may have deleted
                    as 'presumed deleted', one that somebody else removed as
                    'already gone'. With --state-dir that holds when the server
                    dies, too.
  without --intent  It is 'presumed deleted' if its directory had more than 2048
                    entries (and so may be a young file that somebody else
                    removed meanwhile), and in no row if it had fewer.";

/// The options.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct PurgeOptions {
    /// Delete files that are older than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) older_than: Duration,
    /// What makes a file young again: being read, written, or changed in any way
    #[arg(long, value_name = "TIME", value_enum, default_value_t = By::Mtime)]
    pub(crate) by: By,
    /// Really delete; without this nothing is changed
    #[arg(long)]
    pub(crate) delete: bool,
    /// The start of the job, in seconds since 1970: the same for all workers.
    #[arg(skip)]
    pub(crate) now: i64,
}

/// Which of a file's times counts.
#[derive(Clone, Copy, Debug, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    Atime,
    Mtime,
    Ctime,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Outcome {
    #[serde(rename = "would delete")]
    WouldDelete,
    #[serde(rename = "deleted")]
    Deleted,
    #[serde(rename = "presumed deleted")]
    PresumedDeleted,
    #[serde(rename = "already gone")]
    AlreadyGone,
    #[serde(rename = "changed")]
    Changed,
    #[serde(rename = "failed")]
    Failed,
}

/// A line of the log: a file that was old when the walk found it, or that was gone before anybody knew.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    path: ShownPath,
    size: Option<u64>,
    age_seconds: Option<i64>,
    outcome: Outcome,
}

/// Files and bytes by outcome.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Purged(pub(crate) BTreeMap<Outcome, (u64, u64)>);

impl Purged {
    fn add(&mut self, outcome: Outcome, files: u64, bytes: u64) {
        let sum = self.0.entry(outcome).or_default();
        *sum = (sum.0 + files, sum.1.saturating_add(bytes));
    }
}

impl Summary for Purged {
    fn merge(&mut self, other: Self) {
        for (outcome, (files, bytes)) in other.0 {
            self.add(outcome, files, bytes);
        }
    }
}

/// The half that runs in workers.
pub(crate) struct PurgeVisit(pub(crate) PurgeOptions);

impl PurgeVisit {
    fn facts(&self) -> Facts {
        let time = match self.0.by {
            By::Atime => Facts::ATIME,
            By::Mtime => Facts::MTIME,
            By::Ctime => Facts::CTIME,
        };
        time | Facts::SIZE | Facts::LINKS
    }

    fn age_seconds(&self, stat: &Stat) -> i64 {
        let (seconds, _) = match self.0.by {
            By::Atime => stat.atime,
            By::Mtime => stat.mtime,
            By::Ctime => stat.ctime,
        };
        self.0.now.saturating_sub(seconds)
    }

    fn is_old(&self, stat: &Stat) -> bool {
        let age = u64::try_from(self.age_seconds(stat)).unwrap_or(0);
        Duration::from_secs(age) > self.0.older_than
    }

    /// Whether this is a file that is old enough.
    fn is_due(&self, entry: &Entry<'_>) -> bool {
        !entry.is_root() && entry.file_type == FileType::File && self.is_old(entry.stat)
    }

    /// Deletes the entry if it is still what it was.
    fn delete(&self, entry: &Entry<'_>) -> io::Result<Outcome> {
        match entry.again(self.facts())? {
            Again::Gone => return Ok(Outcome::AlreadyGone),
            Again::Same(now) if self.is_old(&now) => {}
            Again::Same(_) | Again::Other => return Ok(Outcome::Changed),
        }
        match entry.unlink() {
            Ok(()) => Ok(Outcome::Deleted),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Outcome::PresumedDeleted),
            Err(error) => Err(error),
        }
    }
}

impl Visit for PurgeVisit {
    type Summary = Purged;

    fn wants(&self) -> Wants {
        Wants {
            facts: self.facts(),
            acts: self.0.delete,
            ..Wants::default()
        }
    }

    fn intends(&mut self, entry: &Entry<'_>) -> bool {
        self.is_due(entry)
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Purged>) {
        if !self.is_due(entry) {
            return;
        }
        let outcome = if !self.0.delete {
            Outcome::WouldDelete
        } else if out.may_act() {
            self.delete(entry).unwrap_or_else(|error| {
                out.fail(entry.shown(), "delete", &error);
                Outcome::Failed
            })
        } else {
            // This worker is to end, and another one will be shown the entry.
            return;
        };
        let size = entry.stat.size;
        out.row(&Row {
            path: entry.shown().into(),
            size: Some(size),
            age_seconds: Some(self.age_seconds(entry.stat)),
            outcome,
        });
        out.summary.add(outcome, 1, size);
    }

    fn gone(&mut self, entry: &Entry<'_>, out: &mut Sink<Purged>) {
        if !matches!(entry.file_type, FileType::File | FileType::Unknown) {
            return;
        }
        let outcome = match out.again() {
            true => Outcome::PresumedDeleted,
            false => Outcome::AlreadyGone,
        };
        out.row(&Row {
            path: entry.shown().into(),
            size: None,
            age_seconds: None,
            outcome,
        });
        out.summary.add(outcome, 1, 0);
    }
}

/// The plugin.
pub(crate) struct Purge;

impl Plugin for Purge {
    const NAME: &'static str = "purge";
    const ABOUT: &'static str = "Delete old files";
    const NOTES: &'static str = NOTES;
    const ACTS: bool = true;
    type Options = PurgeOptions;
    type Visit = PurgeVisit;
    type Total = Purged;

    fn prepare(options: &mut PurgeOptions, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        options.now = now.as_secs().try_into().unwrap_or(i64::MAX);
    }

    fn visit(options: &PurgeOptions) -> Result<PurgeVisit, String> {
        Ok(PurgeVisit(options.clone()))
    }

    fn total(_: &PurgeOptions) -> Result<Purged, String> {
        Ok(Purged::default())
    }

    fn report(
        options: &PurgeOptions,
        total: Purged,
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        let mut text = match total.0.is_empty() {
            true => "No file is that old.\n".to_owned(),
            false => "       files      bytes  outcome\n".to_owned(),
        };
        let mut outcomes = serde_json::Map::new();
        for (outcome, (files, bytes)) in &total.0 {
            let name = serde_json::json!(outcome);
            let name = name.as_str().unwrap_or_default();
            let (shown, size) = (format::count(*files), format::bytes(*bytes));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{shown:>12} {size:>10}  {name}");
            let sums = serde_json::json!({"files": files, "bytes": bytes});
            outcomes.insert(name.to_owned(), sums);
        }
        if !options.delete {
            text.push_str("Nothing was deleted: that takes --delete.\n");
        }
        Ok(PluginReport {
            json: serde_json::json!({"delete": options.delete, "outcomes": outcomes}),
            text,
            bytes: None,
        })
    }
}
