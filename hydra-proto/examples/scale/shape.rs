//! Trees of the Unbalanced Tree Search benchmark (Olivier et al., 2006): implicit, so that a billion directories
//! need no memory. A hash of a node decides how many children it has.
//!
//! The benchmark draws with SHA-1; here it is splitmix64, and the seeds are chosen so that sizes come near to those
//! of the benchmark's trees of the same name.

use hydra_proto::ids::RootId;
use hydra_proto::item::NameList;
use hydra_proto::ledger::Place;

/// Most children of one node, as in the benchmark.
const CHILDREN_MAX: u64 = 100;
/// Directories deeper than this have short names: else paths of deep trees would outgrow all else.
const LONG_NAMES: u32 = 24;

/// How many children nodes have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Geometrically distributed with this mean, down to a depth.
    Geometric { mean: f64, depth: u32 },
    /// `root` children at the root; below it `children` with this probability, else none.
    Binomial {
        root: u32,
        children: u32,
        probability: f64,
    },
}

/// A tree.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    kind: Kind,
    seed: u64,
    /// A node whose draw is below the n-th of them has at most n children.
    steps: Vec<u64>,
}

/// A directory: what its hash is, and how deep it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub hash: u64,
    pub depth: u32,
}

/// What all nodes of a tree come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub dirs: u64,
    /// The sum of all hashes.
    pub sum: u64,
    pub depth: u32,
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn portion(of_one: f64) -> u64 {
    (of_one.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}

impl Shape {
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        let steps = match kind {
            Kind::Geometric { mean, .. } => {
                let more = mean / (1.0 + mean);
                let at_most = |n: u64| portion(1.0 - more.powf(n as f64 + 1.0));
                (0..CHILDREN_MAX).map(at_most).collect()
            }
            Kind::Binomial { probability, .. } => vec![portion(1.0 - probability)],
        };
        Self {
            kind,
            seed: mix(seed),
            steps,
        }
    }

    pub(crate) fn root(&self) -> Spot {
        let (hash, depth) = (self.seed, 0);
        Spot { hash, depth }
    }

    /// How many children a directory has.
    pub(crate) fn children(&self, spot: Spot) -> u32 {
        let draw = mix(spot.hash ^ 0x7574_7321);
        let count = || self.steps.iter().take_while(|&&step| draw > step).count() as u32;
        match self.kind {
            Kind::Geometric { depth, .. } if spot.depth >= depth => 0,
            Kind::Geometric { .. } => count(),
            Kind::Binomial { root, .. } if spot.depth == 0 => root,
            Kind::Binomial { children, .. } => children * count(),
        }
    }

    pub(crate) fn child(spot: Spot, index: u32) -> Spot {
        Spot {
            hash: mix(spot.hash.wrapping_add(u64::from(index) << 32 | 1)),
            depth: spot.depth + 1,
        }
    }

    /// The directory `name` in `parent`; an empty name stands for `parent` itself.
    pub(crate) fn find(&self, parent: Spot, name: &[u8]) -> Spot {
        let parent = if parent.depth == 0 {
            self.root()
        } else {
            parent
        };
        let digits = name.iter().skip(3);
        let index = digits.fold(0, |sum, &digit| sum * 10 + u32::from(digit - b'0'));
        match name.is_empty() {
            true => parent,
            false => Self::child(parent, index),
        }
    }

    /// The names of a directory's children.
    pub(crate) fn names(&self, spot: Spot) -> NameList {
        let mut names = NameList::default();
        for index in 0..self.children(spot) {
            let digit = |place: u32| b'0' + (index / 10u32.pow(place) % 10) as u8;
            names.push(&[b'd', b'i', b'r', digit(3), digit(2), digit(1), digit(0)]);
        }
        names
    }

    /// Counts the tree one directory after the other; nothing if it has more than `most`.
    pub(crate) fn count(&self, most: u64) -> Option<Total> {
        let mut total = Total::default();
        let mut open = vec![self.root()];
        while let Some(spot) = open.pop() {
            total.dirs += 1;
            total.sum = total.sum.wrapping_add(spot.hash);
            total.depth = total.depth.max(spot.depth);
            if total.dirs > most {
                return None;
            }
            open.extend((0..self.children(spot)).map(|index| Self::child(spot, index)));
        }
        Some(total)
    }
}

/// A path is as long as a real one: a component for each level, the last of which is the hash.
impl Place for Spot {
    fn at(_: RootId, path: &[u8]) -> Self {
        if path.is_empty() {
            return Self { hash: 0, depth: 0 };
        }
        let depth = 1 + path.iter().filter(|&&byte| byte == b'/').count() as u32;
        let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let digit = |digit: u8| u64::from((digit as char).to_digit(16).unwrap_or(0));
        let hash = last.iter().fold(0, |sum, &byte| sum << 4 | digit(byte));
        Self { hash, depth }
    }

    fn root(&self) -> RootId {
        RootId(0)
    }

    fn write_path(&self, out: &mut Vec<u8>) {
        if self.depth == 0 {
            return;
        }
        for level in 1..self.depth {
            out.extend_from_slice(if level < LONG_NAMES {
                b"dir0000/"
            } else {
                b"d/"
            });
        }
        let digit = |place: u32| b"0123456789abcdef"[(self.hash >> (4 * place)) as usize & 15];
        out.extend((0..16).rev().map(digit));
    }
}
