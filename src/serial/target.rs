//! Where symbolic links lead: followed name by name, beneath the root, across no mount.

use super::Pending;
use super::place::{Root, child_path, proc_path};
use hydra_worker::Target;
use rustix::fs::{AtFlags, StatxFlags, makedev, statx};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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
    let mount = mount_of(&root.open_base(&dir)?, b"")?;
    let mut names = vec![name.to_vec()];
    let mut links = 0;
    while let Some(name) = names.pop() {
        match &*name {
            b"" | b"." => continue,
            b".." if dir.is_empty() => return Ok(Target::Elsewhere),
            b".." => {
                let parent = dir.iter().rposition(|&b| b == b'/').unwrap_or(0);
                dir.truncate(parent);
                if mount_of(&root.open_base(&dir)?, b"")? != mount {
                    return Ok(Target::Elsewhere);
                }
                continue;
            }
            _ => {}
        }
        let base = root.open_base(&dir)?;
        let path = proc_path(&base).join(OsStr::from_bytes(&name));
        let metadata = std::fs::symlink_metadata(&path)?;
        if mount_of(&base, &name)? != mount {
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

/// The mount that `name` in `base`, or `base` itself, is on. Where the kernel does not say, its device stands for it.
fn mount_of(base: &File, name: &[u8]) -> io::Result<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let found = statx(base, name, flags, StatxFlags::TYPE | StatxFlags::MNT_ID)?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    Ok(match known {
        true => found.stx_mnt_id,
        false => makedev(found.stx_dev_major, found.stx_dev_minor),
    })
}
