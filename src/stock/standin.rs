//! Stands in for the plugins `audit` and `count`: entries and byte totals, in unbounded memory.

use crate::plugin::{ByteTotals, Plugin, PluginReport, ReportContext};
use hydra_proto::reduce::ReduceError;
use hydra_worker::{Entry, Facts, FileType, Sink, Summary, Visit, Wants};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// No options.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(super) struct NoOptions {}

/// Counts and byte totals.
pub(super) struct Audit;

/// Counts.
pub(super) struct Count;

/// Sums of bytes, and the blocks of inodes with several links.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Bytes {
    apparent: u64,
    allocated: u64,
    unique: u64,
    hard_linked: u64,
    inodes: BTreeMap<(u64, u64), u64>,
}

impl Summary for Bytes {
    fn merge(&mut self, other: Self) {
        self.apparent += other.apparent;
        self.allocated += other.allocated;
        self.unique += other.unique;
        self.hard_linked += other.hard_linked;
        self.inodes.extend(other.inodes);
    }
}

pub(super) struct AuditVisit;

impl Visit for AuditVisit {
    type Summary = Bytes;

    fn wants(&self) -> Wants {
        Wants {
            facts: Facts::SIZE | Facts::BLOCKS | Facts::LINKS,
            fs_id: true,
            ..Wants::default()
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Bytes>) {
        let allocated = entry.stat.blocks * 512;
        let sums = &mut out.summary;
        sums.allocated += allocated;
        if entry.file_type == FileType::File {
            sums.apparent += entry.stat.size;
        }
        match entry.file_type != FileType::Directory && entry.stat.nlink > 1 {
            true => {
                sums.hard_linked += 1;
                sums.inodes.insert((entry.fs, entry.stat.ino), allocated);
            }
            false => sums.unique += allocated,
        }
    }
}

impl Plugin for Audit {
    const NAME: &'static str = "audit";
    const ABOUT: &'static str = "Count entries and bytes";
    type Options = NoOptions;
    type Visit = AuditVisit;
    type Total = Bytes;

    fn visit(_options: &NoOptions) -> Result<AuditVisit, String> {
        Ok(AuditVisit)
    }

    fn total(_options: &NoOptions) -> Result<Bytes, String> {
        Ok(Bytes::default())
    }

    fn report(
        _options: &NoOptions,
        total: Bytes,
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        Ok(PluginReport {
            json: serde_json::json!({}),
            text: String::new(),
            bytes: Some(ByteTotals {
                apparent_bytes: total.apparent,
                allocated_bytes: total.allocated,
                unique_allocated_bytes: total.unique + total.inodes.values().sum::<u64>(),
                hard_linked: total.hard_linked,
            }),
        })
    }
}

pub(super) struct CountVisit;

impl Visit for CountVisit {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn entry(&mut self, _entry: &Entry<'_>, _out: &mut Sink<()>) {}
}

impl Plugin for Count {
    const NAME: &'static str = "count";
    const ABOUT: &'static str = "Count entries by type";
    type Options = NoOptions;
    type Visit = CountVisit;
    type Total = ();

    fn visit(_options: &NoOptions) -> Result<CountVisit, String> {
        Ok(CountVisit)
    }

    fn total(_options: &NoOptions) -> Result<(), String> {
        Ok(())
    }

    fn report(
        _options: &NoOptions,
        _total: (),
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        Ok(PluginReport {
            json: serde_json::json!({}),
            ..PluginReport::default()
        })
    }
}
