//! What all runs share: a tree, keys, and the report of an undisturbed run.

use crate::plugin::STRIDE;
use crate::tree;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What came of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) status: Option<i32>,
    /// The report without its `run`.
    pub(crate) report: Value,
    /// Rows as lines. None of them may come twice.
    pub(crate) rows: Vec<Vec<u8>>,
}

impl Outcome {
    pub(crate) fn entries(&self) -> u64 {
        self.report["totals"]["entries"].as_u64().unwrap_or(0)
    }

    pub(crate) fn directories(&self) -> u64 {
        self.report["totals"]["directories"].as_u64().unwrap_or(0)
    }

    /// Says how this one differs from what was expected.
    pub(crate) fn check(&self, expected: &Self) -> Result<(), String> {
        if self.report != expected.report {
            let entries = (self.entries(), expected.entries());
            return Err(format!(
                "another report: {} entries instead of {}",
                entries.0, entries.1
            ));
        }
        if self.status != expected.status {
            return Err(format!(
                "status {:?} instead of {:?}",
                self.status, expected.status
            ));
        }
        let once: BTreeSet<&Vec<u8>> = self.rows.iter().collect();
        let all: BTreeSet<&Vec<u8>> = expected.rows.iter().collect();
        match once == all && once.len() == self.rows.len() {
            true => Ok(()),
            false => Err(format!(
                "other rows: {}, {} of them different, instead of {}",
                self.rows.len(),
                once.len(),
                all.len()
            )),
        }
    }
}

pub(crate) struct Lab {
    dir: TempDir,
    exe: PathBuf,
    reference: Outcome,
    tree: PathBuf,
}

impl Lab {
    /// What an audit is told, with each directory in a row.
    pub(crate) const AUDIT: [&str; 4] = ["--reference-time", "2000000000", "tick-audit", "--each"];

    /// With a tree of its own.
    pub(crate) fn new(directories: usize) -> io::Result<Self> {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let tree = dir.path().join("tree");
        tree::build(&tree, directories)?;
        let lab = Self::with(dir, tree)?;
        match lab.reference.directories() == directories as u64 + 2 {
            true => Ok(lab),
            false => Err(io::Error::other("the undisturbed run counts wrongly")),
        }
    }

    /// With a tree that is there already, and stays as it is.
    pub(crate) fn on(tree: &Path) -> io::Result<Self> {
        Self::with(tempfile::tempdir()?, tree.to_owned())
    }

    fn with(dir: TempDir, tree: PathBuf) -> io::Result<Self> {
        let mut lab = Self {
            dir,
            exe: std::env::current_exe()?,
            reference: Outcome::default(),
            tree,
        };
        let mut keygen = lab.command();
        let keys = keygen.arg("keygen").arg("--key-dir").arg(lab.path("keys"));
        let keys = keys.output()?;
        if !keys.status.success() {
            let said = String::from_utf8_lossy(&keys.stderr).into_owned();
            return Err(io::Error::other(said));
        }
        lab.reference = lab.oracle(&[&lab.tree])?;
        Ok(lab)
    }

    /// What one thread says of these paths.
    pub(crate) fn oracle(&self, paths: &[&Path]) -> io::Result<Outcome> {
        self.oracle_of(&Self::AUDIT, paths)
    }

    /// What one thread says with another plugin.
    pub(crate) fn oracle_of(&self, plugin: &[&str], paths: &[&Path]) -> io::Result<Outcome> {
        let mut server = self.server();
        server
            .arg("--serial")
            .arg("--rows")
            .arg(self.path("oracle"));
        let output = server.args(plugin).args(paths).output()?;
        let report = serde_json::from_slice(&output.stdout).map_err(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            io::Error::other(format!("{error}: {said}"))
        })?;
        Ok(Outcome {
            status: output.status.code(),
            report: without_run(report),
            rows: lines(&fs::read(self.path("oracle"))?),
        })
    }

    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    pub(crate) fn reference(&self) -> &Outcome {
        &self.reference
    }

    /// Ticks of an undisturbed run over so many directories.
    pub(crate) fn ticks(expected: &Outcome) -> u64 {
        expected.directories() / STRIDE
    }

    /// Keeps a report, and says where.
    pub(crate) fn keep(name: &str, report: &Value) -> String {
        let path = std::env::temp_dir().join(format!("hydra-fault-{name}.json"));
        match fs::write(&path, format!("{report:#}")) {
            Ok(()) => path.display().to_string(),
            Err(error) => error.to_string(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command.env_remove("RUST_LOG");
        command
    }

    /// A server with the usual patience.
    pub(crate) fn server(&self) -> Command {
        let mut command = self.command();
        command
            .arg("--json")
            .arg("--key-dir")
            .arg(self.path("keys"));
        command
    }

    /// A client without a direction.
    pub(crate) fn client(&self) -> Command {
        let mut command = self.command();
        command.args(["client", "-v", "--workers", "2", "--key-dir"]);
        command.arg(self.path("keys"));
        command
    }
}

/// A report without what differs from run to run.
pub(crate) fn without_run(mut report: Value) -> Value {
    if let Some(report) = report.as_object_mut() {
        report.remove("run");
    }
    report
}

pub(crate) fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}
