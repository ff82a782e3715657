//! Entries by type: the leanest plugin, and the measure of the bare walk.
//!
//! It asks for the type only, which directories give with the name, so no entry is looked at with a system
//! call of its own.

use super::format::{self, Column, Style, Table};
use crate::plugin::{Plugin, PluginReport, ReportContext};
use hydra_proto::reduce::ReduceError;
use hydra_worker::{Entry, Facts, FileType, Sink, Summary, Visit, Wants};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The plugin.
#[derive(Debug)]
pub struct Count;

/// It has no options.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct CountOptions {}

/// Entries by type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountSummary {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Sockets.
    pub sockets: u64,
    /// Character devices.
    pub character_devices: u64,
    /// Block devices.
    pub block_devices: u64,
    /// Entries whose type even `stat` does not know.
    pub unknown: u64,
}

impl CountSummary {
    fn of(&mut self, file_type: FileType) -> &mut u64 {
        match file_type {
            FileType::File => &mut self.files,
            FileType::Directory => &mut self.directories,
            FileType::Symlink => &mut self.symlinks,
            FileType::Fifo => &mut self.fifos,
            FileType::Socket => &mut self.sockets,
            FileType::CharDevice => &mut self.character_devices,
            FileType::BlockDevice => &mut self.block_devices,
            FileType::Unknown => &mut self.unknown,
        }
    }

    /// The counts with their names: for people, and in JSON.
    fn rows(&self) -> [(&'static str, &'static str, u64); 8] {
        [
            ("files", "files", self.files),
            ("directories", "directories", self.directories),
            ("symbolic links", "symlinks", self.symlinks),
            ("named pipes", "fifos", self.fifos),
            ("sockets", "sockets", self.sockets),
            (
                "character devices",
                "character_devices",
                self.character_devices,
            ),
            ("block devices", "block_devices", self.block_devices),
            ("unknown", "unknown", self.unknown),
        ]
    }
}

impl Summary for CountSummary {
    fn merge(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.directories = self.directories.saturating_add(other.directories);
        self.symlinks = self.symlinks.saturating_add(other.symlinks);
        self.fifos = self.fifos.saturating_add(other.fifos);
        self.sockets = self.sockets.saturating_add(other.sockets);
        self.character_devices = self
            .character_devices
            .saturating_add(other.character_devices);
        self.block_devices = self.block_devices.saturating_add(other.block_devices);
        self.unknown = self.unknown.saturating_add(other.unknown);
    }
}

/// The half that runs in workers.
#[derive(Debug)]
pub struct CountVisit;

impl Visit for CountVisit {
    type Summary = CountSummary;

    fn wants(&self) -> Wants {
        Wants {
            facts: Facts::TYPE,
            ..Wants::default()
        }
    }

    #[inline]
    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<CountSummary>) {
        *out.summary.of(entry.file_type) += 1;
    }
}

impl Plugin for Count {
    const NAME: &'static str = "count";
    const ABOUT: &'static str = "Count entries by type";
    const ROWS: bool = false;

    type Options = CountOptions;
    type Visit = CountVisit;
    type Total = CountSummary;

    fn visit(_options: &CountOptions) -> Result<CountVisit, String> {
        Ok(CountVisit)
    }

    fn total(_options: &CountOptions) -> Result<CountSummary, String> {
        Ok(CountSummary::default())
    }

    fn report(
        _options: &CountOptions,
        total: CountSummary,
        context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        let rows = total.rows();
        let mut table = Table::new(&[(Column::Left, ""), (Column::Right, "")]);
        let mut text = String::new();
        // The others are in the totals of every report.
        for (label, _, count) in rows.iter().skip(3).filter(|row| row.2 > 0) {
            table.row([(*label).to_owned(), format::count(*count)]);
            "Other\n".clone_into(&mut text);
        }
        text.push_str(&table.render(context.width, Style::default()));
        let json = rows.iter().map(|&(_, key, count)| (key, json!(count)));
        Ok(PluginReport {
            json: json.collect(),
            text,
            bytes: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::ids::RootId;
    use hydra_proto::job::RootSpec;
    use hydra_worker::{Dir, PathOf, Stat};

    struct AtRoot;

    impl PathOf for AtRoot {
        fn write_path(&self, _out: &mut Vec<u8>) {}
    }

    #[test]
    fn every_type_is_counted_where_it_belongs() {
        let root = RootSpec::default();
        let dir = Dir {
            root: &root,
            root_id: RootId(0),
            depth: 0,
            fd: None,
            path: &AtRoot,
            slot: None,
        };
        let mut sink = Sink::default();
        for (raw, times) in [8, 4, 10, 1, 12, 2, 6].into_iter().zip(1..) {
            let entry = Entry {
                dir: &dir,
                name: b"x",
                file_type: FileType::from_raw(raw),
                stat: &Stat::default(),
                target: None,
                fs: 0,
            };
            (0..times).for_each(|_| CountVisit.entry(&entry, &mut sink));
        }
        let mut total = CountSummary::default();
        total.merge(sink.summary.clone());
        total.merge(sink.summary);
        let context = ReportContext {
            width: 80,
            color: false,
            walk: Default::default(),
        };
        let report = Count::report(&CountOptions {}, total, &context).unwrap();
        assert_eq!(
            report.json,
            json!({
                "files": 2, "directories": 4, "symlinks": 6, "fifos": 8, "sockets": 10,
                "character_devices": 12, "block_devices": 14, "unknown": 0,
            })
        );
        let lines: Vec<_> = report.text.lines().collect();
        assert_eq!(lines.len(), 5, "{}", report.text);
        assert_eq!(lines[1], "  named pipes         8");
        assert!(report.bytes.is_none());
    }
}
