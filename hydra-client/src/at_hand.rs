//! Which roots can be looked at without a process of their own ([`crate::looker`]), whose start takes as long as the rest
//! of a small job: those on local file systems to which the kernel knows the whole way. It tells both without asking a
//! file system.

use crate::looker::has_dots;
use crate::mounts::Mounts;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

/// File systems that no other machine and no process can keep from answering.
const LOCAL: [&[u8]; 8] = [
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"bcachefs",
    b"tmpfs",
];

/// Whether nobody would have to wait for whoever looks at `path`.
pub(crate) fn is_at_hand(mounts: &Mounts, path: &[u8]) -> bool {
    let mut above = mounts.above(path).peekable();
    let is_local =
        above.peek().is_some() && above.all(|mount| LOCAL.contains(&mount.fs_type.as_slice()));
    is_local && is_known(path)
}

/// Without symbolic links these mounts are all that the way leads through. Fails on Linux before 5.12, too.
fn is_known(path: &[u8]) -> bool {
    let way = ResolveFlags::CACHED | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    !has_dots(path) && openat2(CWD, path, flags, Mode::empty(), way).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_keep_somebody_waiting_is_not_at_hand() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (here, link) = (dir.join("here"), dir.join("link"));
        std::fs::create_dir(&here).unwrap();
        std::os::unix::fs::symlink(&here, &link).unwrap();
        let bytes = |path: &std::path::Path| path.as_os_str().as_encoded_bytes().to_vec();
        let on = |fs_type: &str| {
            let above = format!(
                "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {} rw - {fs_type} x rw\n",
                dir.display()
            );
            Mounts::parse(above.as_bytes())
        };
        // Where the kernel is too old it never is; and once it may not be because something is being mounted elsewhere.
        let local = (0..100).any(|_| is_at_hand(&on("xfs"), &bytes(&here)));
        assert_eq!(local, (0..100).any(|_| is_known(b"/")));
        for remote in ["nfs4", "fuse.sshfs", "lustre", "overlay", "autofs"] {
            assert!(!is_at_hand(&on(remote), &bytes(&here)), "{remote}");
        }
        assert!(!is_at_hand(&on("xfs"), &bytes(&link)));
        assert!(!is_at_hand(&on("xfs"), &bytes(&dir.join("here/../here"))));
        assert!(!is_at_hand(&on("xfs"), &bytes(&dir.join("nowhere"))));
        assert!(!is_at_hand(&Mounts::default(), &bytes(&here)));
    }
}
