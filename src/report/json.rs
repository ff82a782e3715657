//! The report as one JSON document. The order of the keys is part of the format.

use super::{ClientRun, Outcome, Part, SetAside};
use crate::exit_codes::Exit;
use crate::plugin::ByteTotals;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hydra_proto::kept::KeptPath;
use hydra_proto::walk::{WalkError, WalkSummary};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Names the format of the document.
pub const SCHEMA: &str = "hydra.report/1";

/// Writes the document and a newline.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_json(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Document(outcome))?;
    out.write_all(b"\n")
}

struct Document<'a>(&'a Outcome);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcome = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", SCHEMA)?;
        map.serialize_entry("plugin", &outcome.plugin)?;
        let roots: Vec<_> = outcome.roots.iter().map(|root| lossy(root)).collect();
        map.serialize_entry("roots", &roots)?;
        if outcome.roots.iter().any(|root| exact(root).is_some()) {
            let exact: Vec<_> = outcome.roots.iter().map(|root| exact(root)).collect();
            map.serialize_entry("roots_b64", &exact)?;
        }
        map.serialize_entry("complete", &Exit::decide(outcome).is_complete())?;
        map.serialize_entry("totals", &Totals::new(&outcome.walk, outcome.report.bytes))?;
        map.serialize_entry("errors", &Errors::new(outcome))?;
        map.serialize_entry("skipped", &Skipped::new(&outcome.walk))?;
        map.serialize_entry(&outcome.plugin, &outcome.report.json)?;
        map.serialize_entry("run", &Run::new(outcome))?;
        map.end()
    }
}

#[derive(Serialize)]
struct Totals {
    entries: u64,
    directories: u64,
    files: u64,
    symlinks: u64,
    other: u64,
    apparent_bytes: Option<u64>,
    allocated_bytes: Option<u64>,
    unique_allocated_bytes: Option<u64>,
    hard_linked: Option<u64>,
}

impl Totals {
    fn new(walk: &WalkSummary, bytes: Option<ByteTotals>) -> Self {
        Self {
            entries: walk.entries,
            directories: walk.directories,
            files: walk.files,
            symlinks: walk.symlinks,
            other: walk.other,
            apparent_bytes: bytes.map(|bytes| bytes.apparent_bytes),
            allocated_bytes: bytes.map(|bytes| bytes.allocated_bytes),
            unique_allocated_bytes: bytes.map(|bytes| bytes.unique_allocated_bytes),
            hard_linked: bytes.map(|bytes| bytes.hard_linked),
        }
    }
}

#[derive(Serialize)]
struct Errors {
    count: u64,
    by_kind: BTreeMap<String, u64>,
    vanished: u64,
    first: Vec<ErrorLine>,
    set_aside: Vec<AsideLine>,
    set_aside_count: u64,
}

impl Errors {
    fn new(outcome: &Outcome) -> Self {
        let errors = &outcome.walk;
        Self {
            count: errors.error_count(),
            by_kind: errors.errors.clone(),
            vanished: errors.vanished,
            first: errors.first_errors.iter().map(ErrorLine::new).collect(),
            set_aside: outcome.set_aside.iter().map(AsideLine::new).collect(),
            set_aside_count: outcome.set_aside_count,
        }
    }
}

#[derive(Serialize)]
struct ErrorLine {
    #[serde(flatten)]
    path: PathLine,
    operation: String,
    error: String,
    message: String,
}

impl ErrorLine {
    fn new(error: &WalkError) -> Self {
        Self {
            path: PathLine::new(&error.path),
            operation: error.operation.clone(),
            error: error.kind.clone(),
            message: error.message.clone(),
        }
    }
}

/// What could not be finished.
#[derive(Serialize)]
pub(crate) struct AsideLine {
    #[serde(flatten)]
    path: PathLine,
    part: Part,
    reason: String,
}

impl AsideLine {
    pub(crate) fn new(aside: &SetAside) -> Self {
        Self {
            path: PathLine::new(&aside.path),
            part: aside.part,
            reason: aside.reason.clone(),
        }
    }
}

#[derive(Serialize)]
struct PathLine {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    path_cut: bool,
}

impl PathLine {
    fn new(path: &KeptPath) -> Self {
        Self {
            path: lossy(&path.bytes),
            path_b64: exact(&path.bytes),
            path_cut: path.cut,
        }
    }
}

#[derive(Serialize)]
struct Skipped<'a> {
    snapshots: u64,
    pseudo: &'a BTreeMap<String, u64>,
    mounts: u64,
    excluded: u64,
}

impl<'a> Skipped<'a> {
    fn new(walk: &'a WalkSummary) -> Self {
        Self {
            snapshots: walk.skipped_snapshots,
            pseudo: &walk.skipped_pseudo,
            mounts: walk.skipped_mounts,
            excluded: walk.excluded,
        }
    }
}

#[derive(Serialize)]
struct Run<'a> {
    seconds: f64,
    entries_per_second: f64,
    clients: Vec<ClientLine<'a>>,
    warnings: &'a [String],
}

impl<'a> Run<'a> {
    fn new(outcome: &'a Outcome) -> Self {
        let run = &outcome.run;
        Self {
            seconds: run.elapsed.as_secs_f64(),
            entries_per_second: super::text::rate(outcome.walk.entries, run.elapsed),
            clients: run.clients.iter().map(ClientLine::new).collect(),
            warnings: &run.warnings,
        }
    }
}

#[derive(Serialize)]
struct ClientLine<'a> {
    name: &'a str,
    workers: u32,
    entries: u64,
    commits: u64,
    grants: u64,
    sheds: u64,
    lost_workers: u64,
}

impl<'a> ClientLine<'a> {
    fn new(client: &'a ClientRun) -> Self {
        Self {
            name: &client.name,
            workers: client.workers,
            entries: client.entries,
            commits: client.commits,
            grants: client.grants,
            sheds: client.sheds,
            lost_workers: client.lost_workers,
        }
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn exact(path: &[u8]) -> Option<String> {
    match std::str::from_utf8(path) {
        Ok(_) => None,
        Err(_) => Some(BASE64_STANDARD.encode(path)),
    }
}
