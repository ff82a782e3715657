//! A server whose report is in a file, and whose messages are in another, behind those of the servers before it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command};

/// Starts it, with `out` and `log` in `dir`.
pub(crate) fn spawn(mut server: Command, dir: &Path) -> io::Result<Child> {
    let log = File::options()
        .append(true)
        .create(true)
        .open(dir.join("log"))?;
    server
        .stdout(File::create(dir.join("out"))?)
        .stderr(log)
        .spawn()
}
