//! The audit: what a tree holds, by size, age, owner, kind and depth. The default plugin.
//!
//! ```text
//!   entry ──▶ visit ──▶ AuditSummary ──▶ (merged by clients) ──▶ AuditTotal ──▶ Findings ──▶ json, text
//!             worker    cells, tables, top, levels, links        + inode table   sorted, named
//! ```
//!
//! Everything in the summary can be merged in any order and takes bounded memory, whatever the tree: see
//! `table` for keys that the tree chooses, `kept` for paths, `depth` for levels and `inodes` for hard links.

mod bins;
mod category;
mod cells;
mod depth;
mod extension;
mod findings;
mod inodes;
mod json;
mod kept;
mod links;
mod names;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod top;
mod visit;

use crate::plugin::{Plugin, PluginReport, ReportContext, Show, Total};
use crate::plugins::format;
use findings::Findings;
use hydra_proto::reduce::{ReduceError, Summary as _};
use hydra_proto::words::words;
use inodes::InodeTable;
use links::Links;
use names::{Names, SystemNames};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub use summary::AuditSummary;
pub use visit::AuditVisit;

/// Hard links in one piece of a saved total.
const LINKS_SAVED_AT_ONCE: usize = 1 << 14;

/// Where hard links go when they are too many for memory, unless told otherwise.
const TEMP_DIR: &str = "/var/tmp";

/// The plugin.
#[derive(Debug)]
pub struct Audit;

/// Options of the audit.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub struct AuditOptions {
    /// List the N largest files
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub top: u32,
    /// List the N largest files of each owner and of each group
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=10))]
    pub top_per_owner: u32,
    /// Tell ages as seen from TIME: seconds since 1970, 2026-11-21 or 2026-11-21T10:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time::parse, allow_hyphen_values = true)]
    pub reference_time: Option<i64>,
    /// Where hard links go when they are too many for memory
    #[arg(long, value_name = "DIR", default_value = TEMP_DIR)]
    pub temp_dir: OsString,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            top: 10,
            top_per_owner: 3,
            reference_time: None,
            temp_dir: TEMP_DIR.into(),
        }
    }
}

/// What the server adds up: summaries, and the table that counts each inode once.
#[derive(Debug)]
pub struct AuditTotal {
    summary: AuditSummary,
    inodes: InodeTable,
}

impl AuditTotal {
    fn new(inodes_in_memory: usize, temp_dir: &Path) -> Self {
        Self {
            summary: AuditSummary::default(),
            inodes: InodeTable::new(inodes_in_memory, temp_dir),
        }
    }

    fn finish(self, reference: i64, names: &dyn Names) -> Result<Findings, ReduceError> {
        let path = self.inodes.directory().display().to_string();
        let linked = self.inodes.finish();
        let linked = linked.map_err(|source| ReduceError::Storage { path, source })?;
        Ok(Findings::new(self.summary, linked, reference, names))
    }
}

impl Total<AuditSummary> for AuditTotal {
    fn add(&mut self, mut summary: AuditSummary) -> Result<(), ReduceError> {
        let (complete, open) = std::mem::take(&mut summary.links).into_parts();
        self.inodes.add_complete(complete);
        for link in open {
            let added = self.inodes.add(link);
            added.map_err(|source| ReduceError::Storage {
                path: self.inodes.directory().display().to_string(),
                source,
            })?;
        }
        self.summary.merge(summary);
        Ok(())
    }

    /// The sums, and then the table of inodes in pieces, those on disk too.
    fn save(&mut self, out: Show<'_, AuditSummary>) -> Result<(), ReduceError> {
        out(&self.summary)?;
        let path = self.inodes.directory().display().to_string();
        let failed = |source| ReduceError::Storage { path, source };
        let mut piece = Links::complete(self.inodes.complete());
        let mut shown = Ok(());
        let read = self.inodes.for_each(&mut |link| {
            piece.push(link);
            if piece.len() >= LINKS_SAVED_AT_ONCE && shown.is_ok() {
                shown = out(&links_only(std::mem::take(&mut piece)));
            }
        });
        read.map_err(failed)?;
        shown?;
        out(&links_only(piece))
    }
}

/// Whether a file can be made there.
fn try_temp_dir(dir: &Path) -> Result<(), String> {
    let unusable = |reason: &dyn Display| {
        let shown = format::terminal(dir.as_os_str().as_bytes());
        format!("--temp-dir {shown} cannot be used: {reason}; name a directory to write to")
    };
    match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => return Err(unusable(&"it is not a directory")),
        Ok(_) => {}
        Err(error) => return Err(unusable(&words(&error))),
    }
    // The error itself names a file that nobody has heard of.
    let made = tempfile::tempfile_in(dir);
    made.map(drop)
        .map_err(|error| unusable(&words(&error.kind().into())))
}

fn links_only(links: Links) -> AuditSummary {
    AuditSummary {
        links,
        ..AuditSummary::default()
    }
}

impl Plugin for Audit {
    const NAME: &'static str = "audit";
    const ABOUT: &'static str = "Report sizes, ages, owners, kinds and depths";
    const ROWS: bool = false;

    type Options = AuditOptions;
    type Visit = AuditVisit;
    type Total = AuditTotal;

    fn prepare(options: &mut AuditOptions, now: SystemTime) {
        let seconds = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs());
        let now = i64::try_from(seconds).unwrap_or(i64::MAX);
        options.reference_time.get_or_insert(now);
    }

    fn visit(options: &AuditOptions) -> Result<AuditVisit, String> {
        let AuditOptions {
            top, top_per_owner, ..
        } = *options;
        let reference = options.reference_time.unwrap_or(0);
        Ok(AuditVisit::new(reference, top, top_per_owner))
    }

    fn total(options: &AuditOptions) -> Result<AuditTotal, String> {
        let temp_dir = Path::new(&options.temp_dir);
        // The default is touched only when it is needed; what somebody asks for is tried at once.
        if options.temp_dir != TEMP_DIR {
            try_temp_dir(temp_dir)?;
        }
        Ok(AuditTotal::new(inodes::MEMORY_MAX, temp_dir))
    }

    fn report(
        options: &AuditOptions,
        total: AuditTotal,
        context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        let reference = options.reference_time.unwrap_or(0);
        let findings = total.finish(reference, &SystemNames)?;
        Ok(PluginReport {
            json: json::report(&findings),
            text: text::report(&findings, context),
            bytes: Some(findings.bytes()),
        })
    }
}
