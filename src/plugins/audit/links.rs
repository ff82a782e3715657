//! Names of hard-linked inodes on their way to the server, which alone can tell whether another worker has
//! met the same inode.

use hydra_proto::reduce::Summary;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// An inode with several names, and how many of them were met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    /// The file system, named as on every host.
    pub fs: u64,
    /// The inode on it.
    pub ino: u64,
    /// Names that it has.
    pub nlink: u32,
    /// Names that were met.
    pub seen: u32,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
}

impl Link {
    /// Adds names that were met elsewhere.
    pub(super) fn join(&mut self, other: &Self) {
        self.nlink = self.nlink.max(other.nlink);
        self.blocks = self.blocks.max(other.blocks);
        self.seen = self.seen.saturating_add(other.seen);
    }

    /// Takes out what is complete. An inode counts once for each time that all its names were met: more
    /// names than it has turn up where a tree shows it in two places, as bind mounts do.
    pub(super) fn settle(&mut self) -> Inodes {
        let times = u64::from(self.seen / self.nlink.max(1));
        self.seen %= self.nlink.max(1);
        Inodes::new(times, self.blocks.saturating_mul(times))
    }
}

/// Inodes, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inodes {
    /// How many.
    pub count: u64,
    /// Their allocated blocks of 512 bytes.
    pub blocks: u64,
}

impl Inodes {
    /// That many inodes with so many blocks in all.
    pub(super) fn new(count: u64, blocks: u64) -> Self {
        Self { count, blocks }
    }

    /// Adds others.
    pub(super) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.blocks = self.blocks.saturating_add(other.blocks);
    }
}

/// Links met by one worker or one client since its last commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// Inodes of which all names were met.
    complete: Inodes,
    open: Vec<Link>,
    /// Length of `open` from which joining equal ones is worth the time.
    crowded: usize,
}

/// From this many links on, equal ones are joined.
const CROWDED: usize = 1 << 16;

impl Links {
    /// Adds one name.
    #[inline]
    pub(super) fn push(&mut self, link: Link) {
        self.open.push(link);
        if self.open.len() >= self.crowded.max(CROWDED) {
            self.join();
        }
    }

    /// Only inodes of which all names were met.
    pub(super) fn complete(complete: Inodes) -> Self {
        Self {
            complete,
            ..Self::default()
        }
    }

    /// How many inodes are open, each counted as often as it was met.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The inodes that are complete, and the others.
    pub(super) fn into_parts(self) -> (Inodes, Vec<Link>) {
        (self.complete, self.open)
    }

    #[cold]
    fn join(&mut self) {
        self.open.sort_unstable_by_key(|link| (link.fs, link.ino));
        self.open.dedup_by(|next, kept| {
            let same = (next.fs, next.ino) == (kept.fs, kept.ino);
            if same {
                kept.join(next);
            }
            same
        });
        for link in &mut self.open {
            self.complete.add(link.settle());
        }
        self.open.retain(|link| link.seen > 0);
        self.crowded = 2 * self.open.len();
    }
}

impl Summary for Links {
    fn merge(&mut self, other: Self) {
        self.complete.add(other.complete);
        other.open.into_iter().for_each(|link| self.push(link));
    }
}

/// Nlink, seen, blocks and the distance from the inode before.
type Packed = (u64, u32, u32, u64);

impl Serialize for Links {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut joined = self.clone();
        joined.join();
        let mut file_systems = Vec::<(u64, Vec<Packed>)>::new();
        let mut last = 0;
        for link in &joined.open {
            if file_systems.last().is_none_or(|(fs, _)| *fs != link.fs) {
                file_systems.push((link.fs, Vec::new()));
                last = 0;
            }
            if let Some((_, list)) = file_systems.last_mut() {
                list.push((link.ino - last, link.nlink, link.seen, link.blocks));
            }
            last = link.ino;
        }
        (joined.complete, file_systems).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Links {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Wire = (Inodes, BTreeMap<u64, Vec<Packed>>);
        let (complete, file_systems) = Wire::deserialize(deserializer)?;
        let mut links = Self {
            complete,
            ..Self::default()
        };
        for (fs, list) in file_systems {
            let mut ino = 0u64;
            for (step, nlink, seen, blocks) in list {
                ino = ino.wrapping_add(step);
                links.open.push(Link {
                    fs,
                    ino,
                    nlink,
                    seen,
                    blocks,
                });
            }
        }
        Ok(links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::codec;

    fn link(ino: u64, nlink: u32) -> Link {
        Link {
            fs: ino % 2,
            ino,
            nlink,
            seen: 1,
            blocks: 8,
        }
    }

    #[test]
    fn the_wire_joins_names_and_leaves_out_what_is_complete() {
        let mut links = Links::default();
        for ino in [1_000_001, 1_000_003, 1_000_002, 1_000_003, 1_000_003] {
            links.push(link(ino, 3));
        }
        let bytes = codec::encode(&links).unwrap();
        assert!(bytes.len() < 32, "{} bytes", bytes.len());
        let (complete, open) = codec::decode::<Links>(&bytes).unwrap().into_parts();
        assert_eq!(complete, Inodes::new(1, 8));
        assert_eq!(open, [link(1_000_002, 3), link(1_000_001, 3)]);
    }

    #[test]
    fn a_crowd_of_complete_inodes_takes_no_memory() {
        let mut links = Links::default();
        for ino in 0..10 * CROWDED as u64 {
            links.push(link(ino, 2));
            links.push(link(ino, 2));
        }
        assert!(links.open.len() <= 2 * CROWDED);
        links.join();
        assert_eq!(links.complete.count, 10 * CROWDED as u64);
        assert!(links.open.is_empty());
    }

    #[test]
    fn garbage_on_the_wire_does_not_panic() {
        let wire = (
            Inodes::default(),
            vec![(7u64, vec![(u64::MAX, 0u32, 9u32, u64::MAX); 3])],
        );
        let links: Links = codec::decode(&codec::encode(&wire).unwrap()).unwrap();
        let mut total = Links::default();
        total.merge(links);
        codec::encode(&total).unwrap();
    }
}
