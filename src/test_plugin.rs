//! A plugin for tests: writes down every call that it gets.

use crate::plugin::{Plugin, PluginReport, ReportContext};
use crate::report::escape;
use hydra_proto::reduce::ReduceError;
use hydra_worker::{Dir, Enter, Entry, Facts, Listing, Sink, Summary, Visit, Wants};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Options of [`Probe`].
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ProbeOptions {
    /// Ask for facts, targets and identities.
    #[arg(long)]
    pub(crate) facts: bool,
    /// Do not enter directories of this name.
    #[arg(long)]
    pub(crate) skip: Option<String>,
    /// Panic at entries of this name.
    #[arg(long)]
    pub(crate) panic_at: Option<String>,
    /// How old.
    #[arg(long, value_parser = crate::cli::values::duration, default_value = "1d")]
    pub(crate) older: Duration,
    /// When the job started.
    #[arg(skip)]
    pub(crate) now: u64,
}

/// Calls in the order in which they came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Calls(pub(crate) Vec<String>);

impl Summary for Calls {
    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Writes down every call.
pub(crate) struct Probe;

/// Acts, and is otherwise the same.
pub(crate) struct ActingProbe;

pub(crate) struct ProbeVisit(pub(crate) ProbeOptions);

impl Visit for ProbeVisit {
    type Summary = Calls;

    fn wants(&self) -> Wants {
        Wants {
            facts: if self.0.facts {
                Facts::ALL
            } else {
                Facts::TYPE
            },
            targets: self.0.facts,
            fs_id: self.0.facts,
            leave: true,
            ..Wants::default()
        }
    }

    fn enter(&mut self, dir: &Dir<'_>, out: &mut Sink<Calls>) -> Enter {
        let path = escape(&dir.relative());
        out.summary.0.push(format!("enter {path}"));
        match &self.0.skip {
            Some(skip) if path.ends_with(skip) => Enter::Skip,
            _ => Enter::Walk,
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Calls>) {
        let name = escape(entry.name);
        assert_ne!(Some(&name), self.0.panic_at.as_ref(), "told to");
        let target = entry
            .target
            .map_or_else(String::new, |target| format!(" {target:?}"));
        let line = format!("{:?} {}{target}", entry.file_type, escape(&entry.shown()));
        out.summary.0.push(line);
    }

    fn listed(&mut self, dir: &Dir<'_>, listing: &Listing, out: &mut Sink<Calls>) {
        let Listing {
            entries,
            directories,
            ..
        } = listing;
        let path = escape(&dir.relative());
        out.summary
            .0
            .push(format!("listed {path} {entries} {directories}"));
    }

    fn leave(&mut self, dir: &Dir<'_>, out: &mut Sink<Calls>) {
        out.summary
            .0
            .push(format!("leave {}", escape(&dir.relative())));
    }
}

fn prepare(options: &mut ProbeOptions, now: SystemTime) {
    let now = now.duration_since(UNIX_EPOCH);
    options.now = now.map_or(0, |now| now.as_secs());
}

fn check(options: &ProbeOptions) -> Result<(), String> {
    match options.older > Duration::from_secs(365 * 86_400) {
        true => Err("nothing is older than a year here".to_owned()),
        false => Ok(()),
    }
}

fn report(total: Calls) -> PluginReport {
    PluginReport {
        json: serde_json::json!(total.0),
        ..PluginReport::default()
    }
}

impl Plugin for Probe {
    const NAME: &'static str = "probe";
    const ABOUT: &'static str = "Write down every call";
    type Options = ProbeOptions;
    type Visit = ProbeVisit;
    type Total = Calls;

    fn prepare(options: &mut ProbeOptions, now: SystemTime) {
        prepare(options, now);
    }

    fn visit(options: &ProbeOptions) -> Result<ProbeVisit, String> {
        check(options)?;
        Ok(ProbeVisit(options.clone()))
    }

    fn total(_options: &ProbeOptions) -> Result<Calls, String> {
        Ok(Calls::default())
    }

    fn report(
        _options: &ProbeOptions,
        total: Calls,
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        Ok(report(total))
    }
}

/// Options of [`ActingProbe`].
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ActingOptions {
    /// Do it.
    #[arg(long)]
    pub(crate) really: bool,
}

impl Plugin for ActingProbe {
    const NAME: &'static str = "act";
    const ABOUT: &'static str = "Would change something";
    const ACTS: bool = true;
    const ROWS: bool = false;
    type Options = ActingOptions;
    type Visit = ProbeVisit;
    type Total = Calls;

    fn visit(_options: &ActingOptions) -> Result<ProbeVisit, String> {
        Err("is only there to be named".to_owned())
    }

    fn total(_options: &ActingOptions) -> Result<Calls, String> {
        Ok(Calls::default())
    }

    fn report(
        _options: &ActingOptions,
        total: Calls,
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        Ok(report(total))
    }
}
