//! File systems that are there for one test, and can be full. Needs root.

// Each test that has this module uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mount that is gone when it is dropped.
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
}

impl Mount {
    /// None where it cannot be had.
    pub(crate) fn new(at: PathBuf, options: &[&str]) -> Option<Self> {
        fs::create_dir(&at).ok()?;
        let mounted = run("mount", &[options, &[&text(&at)]].concat());
        mounted.then_some(Self { at })
    }

    /// A file system in memory.
    pub(crate) fn memory(at: PathBuf, size: &str) -> Option<Self> {
        let size = format!("size={size}");
        Self::new(at, &["-t", "tmpfs", "-o", &size, "none"])
    }

    /// Makes one in memory larger or smaller.
    pub(crate) fn resize(&self, size: &str) -> bool {
        let options = format!("remount,size={size}");
        run("mount", &["-o", &options, &text(&self.at)])
    }

    /// Leaves no room for anything new in one in memory. Says whether that could be done.
    pub(crate) fn close(&self) -> bool {
        // It may be used while its use is looked at, and is never made smaller than that.
        (0..100).any(|_| {
            rustix::fs::statvfs(&self.at).is_ok_and(|now| {
                let used = (now.f_blocks - now.f_bfree) * now.f_frsize;
                self.resize(&used.to_string())
            })
        })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l", &text(&self.at)]);
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether the command could be run, and went well.
pub(crate) fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}
