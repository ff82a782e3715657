//! What jobs need: a tree, keys, commands, and file systems of their own.

use crate::job::{Outcome, told};
use crate::mount::{self, Mount};
use crate::plugin::{row, rows_of};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A tree, keys, and a place for jobs.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    exe: PathBuf,
}

impl Lab {
    pub(crate) fn new() -> io::Result<Self> {
        let lab = Self {
            dir: tempfile::tempdir()?,
            exe: std::env::current_exe()?,
        };
        let mut keygen = lab.command();
        let made = keygen
            .arg("keygen")
            .arg("--key-dir")
            .arg(lab.path("keys"))
            .output()?;
        match made.status.success() {
            true => Ok(lab),
            false => Err(io::Error::other("no keys")),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// Makes directories with files, each of which has so many rows.
    pub(crate) fn fill(&self, directories: usize, files: usize, rows: usize) -> Outcome {
        for directory in 0..directories {
            let dir = self.path(&format!("tree/{}/{directory}", directory % 5));
            fs::create_dir_all(&dir).map_err(told)?;
            for file in 0..files {
                File::create(dir.join(format!("{file}-{rows}"))).map_err(told)?;
            }
        }
        Ok(())
    }

    /// All rows of the tree, sorted.
    pub(crate) fn rows(&self, bytes: usize) -> BTreeSet<Vec<u8>> {
        let entries = walkdir::WalkDir::new(self.path("tree")).into_iter();
        let files = entries
            .flatten()
            .filter(|entry| entry.file_type().is_file());
        let names = files.map(|entry| entry.path().to_string_lossy().into_owned());
        let rows = names.flat_map(|name| {
            let numbers = 0..rows_of(&name);
            numbers.map(move |number| row(&name, number, bytes))
        });
        rows.collect()
    }

    pub(crate) fn client(&self, port: u16, sees: Sees, rows: &Path) -> Command {
        let mut client = self.command();
        let listen = format!("127.0.0.1:{port}");
        client.args(["client", "--listen", &listen, "--workers", "2", "--key-dir"]);
        client.arg(self.path("keys"));
        match sees {
            Sees::NotAllowed => {}
            Sees::Writable => {
                client.arg("--allow-rows-dir").arg(rows);
            }
            Sees::ReadOnly => {
                let there = rows.with_file_name(READ_ONLY);
                let map = format!("{}={}", rows.display(), there.display());
                client.arg("--allow-rows-dir").arg(there);
                client.args(["--map", &map]);
            }
        }
        client
    }
}

/// What a client has of the directory for rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sees {
    /// It may write there.
    Writable,
    /// It was not told that it may.
    NotAllowed,
    /// Elsewhere, and it can only be read there. Needs root.
    ReadOnly,
}

/// Where the directory can only be read.
const READ_ONLY: &str = "read-only";

/// The directory once more, to be read only.
pub(crate) fn read_only(rows: &Path) -> io::Result<Mount> {
    fs::create_dir(rows)?;
    let mount = Mount::new(
        rows.with_file_name(READ_ONLY),
        &["--bind", &mount::text(rows)],
    );
    let is_so = |mount: &Mount| {
        let at = mount::text(&mount.at);
        mount::run("mount", &["-o", "remount,bind,ro", &at])
    };
    let told = "nothing can be mounted to be read only";
    mount.filter(is_so).ok_or_else(|| io::Error::other(told))
}
