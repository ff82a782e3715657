//! What is mounted where, in the kernel's words. No file system is asked: one that is dead would not answer.

use crate::roots::rest_below;
use hydra_proto::ids::RootId;
use hydra_proto::message::Wall;
use serde_bytes::ByteBuf;
use std::io;

/// Other mounts below a mount that are told apart from it; more are taken to be a part of it.
const WITHOUT_MAX: usize = 64;

/// Where one file system is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The mount point.
    pub(crate) path: Vec<u8>,
    /// The type of the file system.
    pub(crate) fs_type: Vec<u8>,
}

/// All mounts of this process, those that cover others behind them.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    /// Reads the words of `proc_pid_mountinfo(5)`; lines that are no such words are left out.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let lines = text.split(|&byte| byte == b'\n');
        Self(lines.filter_map(parse_line).collect())
    }

    /// The mount that a path lies on.
    pub(crate) fn of(&self, path: &[u8]) -> Option<&Mount> {
        self.above(path).max_by_key(|mount| mount.path.len())
    }

    /// The mounts that the way to a path leads through, and those that are covered there.
    pub(crate) fn above(&self, path: &[u8]) -> impl Iterator<Item = &Mount> {
        self.0
            .iter()
            .filter(move |mount| at_or_below(&mount.path, path))
    }

    /// Where a mount is in the roots, which are at these paths.
    pub(crate) fn walls(&self, mount: &[u8], roots: &[Vec<u8>], reason: &str) -> Vec<Wall> {
        let wall = |(root, number): (&Vec<u8>, u32)| {
            let path = match self.of(root) {
                Some(own) if own.path == mount => Vec::new(),
                _ => rest_below(root, mount)
                    .filter(|rest| !rest.is_empty())?
                    .to_vec(),
            };
            let others = self.0.iter().map(|other| &other.path);
            let others = others.filter(|other| *other != mount && at_or_below(mount, other));
            let below = others.filter_map(|other| rest_below(root, other));
            let below = below.filter(|rest| !rest.is_empty() && *rest != path);
            Some(Wall {
                root: RootId(number),
                without: below.take(WITHOUT_MAX).map(ByteBuf::from).collect(),
                path,
                reason: reason.to_owned(),
            })
        };
        roots.iter().zip(0..).filter_map(wall).collect()
    }
}

fn at_or_below(top: &[u8], path: &[u8]) -> bool {
    rest_below(top, path).is_some()
}

/// `36 35 98:0 /root /mount/point options - type source super-options`, some options before the hyphen.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let path = unescape(words.nth(4)?);
    let mut words = words.skip_while(|word| *word != b"-");
    let fs_type = words.nth(1)?.to_vec();
    Some(Mount { path, fs_type })
}

/// The kernel writes spaces, tabs, newlines and backslashes as a backslash and three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.first_chunk::<3>().filter(|_| first == b'\\');
        let value = digits.and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        path.push(value.unwrap_or(first));
        rest = match value {
            Some(_) => after.get(3..).unwrap_or_default(),
            None => after,
        };
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
        30 21 0:30 / /mnt/nfs rw,relatime shared:5 master:2 - nfs4 host:/x rw\n\
        31 30 0:31 / /mnt/nfs/inner rw - tmpfs tmpfs rw\n\
        32 21 0:32 / /mnt/two\\040words\\134 rw - fuse.sshfs a:/b rw\n\
        damaged\n";

    fn mounts() -> Mounts {
        Mounts::parse(TEXT)
    }

    fn of(path: &[u8]) -> Vec<u8> {
        mounts().of(path).unwrap().path.clone()
    }

    fn walls(mount: &[u8], roots: &[&[u8]]) -> Vec<(u32, Vec<u8>, Vec<ByteBuf>)> {
        let roots: Vec<Vec<u8>> = roots.iter().map(|root| root.to_vec()).collect();
        let walls = mounts().walls(mount, &roots, "");
        let parts = walls.into_iter().map(|w| (w.root.0, w.path, w.without));
        parts.collect()
    }

    #[test]
    fn the_longest_mount_point_above_a_path_is_its_mount() {
        assert_eq!(of(b"/"), b"/");
        assert_eq!(of(b"/mnt/nfsx/inner"), b"/");
        assert_eq!(of(b"/mnt/nfs"), b"/mnt/nfs");
        assert_eq!(of(b"/mnt/nfs/a/b"), b"/mnt/nfs");
        assert_eq!(of(b"/mnt/nfs/inner/b"), b"/mnt/nfs/inner");
        assert_eq!(of(b"/mnt/two words\\/x"), b"/mnt/two words\\");
        assert_eq!(
            mounts().of(b"/mnt/two words\\").unwrap().fs_type,
            b"fuse.sshfs"
        );
        assert_eq!(mounts().of(b"relative"), None);
    }

    #[test]
    fn a_mount_is_all_of_a_root_or_a_part_of_it_without_other_mounts() {
        let inner = vec![ByteBuf::from(b"nfs/inner".to_vec())];
        assert_eq!(
            walls(
                b"/mnt/nfs",
                &[b"/mnt", b"/home", b"/mnt/nfs/deep", b"/mnt/nfs/inner/x"]
            ),
            [(0, b"nfs".to_vec(), inner), (2, Vec::new(), Vec::new())]
        );
        let inner = vec![ByteBuf::from(b"inner".to_vec())];
        assert_eq!(
            walls(b"/mnt/nfs", &[b"/mnt/nfs/"]),
            [(0, Vec::new(), inner)]
        );
        let all = walls(b"/", &[b"/"]);
        assert_eq!((all.len(), all[0].2.len()), (1, 3));
    }
}
