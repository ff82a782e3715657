//! Where symbolic links lead: followed name by name, beneath the root, across no mount.

use super::Pending;
use super::place::{Root, child_path, proc_path};
use hydra_worker::Target;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How many links the kernel follows before it calls them a loop.
const LINKS_MAX: usize = 40;

/// Where the link `name` in the directory `at` leads.
pub(super) fn of(root: &Root<'_>, at: &Pending, name: &[u8]) -> io::Result<Target> {
    match follow(root, at, name) {
        Ok(target) => Ok(target),
        Err(error) => match error.raw_os_error() {
            Some(
                nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::ELOOP | nix::libc::ENAMETOOLONG,
            ) => Ok(Target::Dangling),
            Some(nix::libc::EACCES) => Ok(Target::Elsewhere),
            _ => Err(error),
        },
    }
}

/// Where a root leads that is a link which cannot be followed.
pub(super) fn of_root(path: &[u8]) -> Target {
    match std::fs::metadata(Path::new(OsStr::from_bytes(path))) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EACCES) => Target::Elsewhere,
        _ => Target::Dangling,
    }
}

fn follow(root: &Root<'_>, at: &Pending, name: &[u8]) -> io::Result<Target> {
    // The directory reached so far, which is real, and the names still to follow, the next one last.
    let mut dir = at.path.clone();
    let mut names = vec![name.to_vec()];
    let mut links = 0;
    while let Some(name) = names.pop() {
        match &*name {
            b"" | b"." => continue,
            b".." if dir.is_empty() => return Ok(Target::Elsewhere),
            b".." => {
                let parent = dir.iter().rposition(|&b| b == b'/').unwrap_or(0);
                dir.truncate(parent);
                if root.open_base(&dir)?.metadata()?.dev() != at.dev {
                    return Ok(Target::Elsewhere);
                }
                continue;
            }
            _ => {}
        }
        let base = root.open_base(&dir)?;
        let path = proc_path(&base).join(OsStr::from_bytes(&name));
        let metadata = std::fs::symlink_metadata(&path)?;
        if metadata.dev() != at.dev {
            return Ok(Target::Elsewhere);
        }
        if metadata.is_symlink() {
            links += 1;
            let text = std::fs::read_link(&path)?.into_os_string().into_vec();
            if text.starts_with(b"/") {
                return Ok(Target::Elsewhere);
            }
            if links > LINKS_MAX {
                return Ok(Target::Dangling);
            }
            names.extend(text.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
        } else if metadata.is_dir() {
            dir = child_path(&dir, &name);
        } else {
            return Ok(match names.is_empty() {
                true => Target::File,
                false => Target::Dangling,
            });
        }
    }
    Ok(Target::Directory)
}
