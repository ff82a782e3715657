//! The plain shapes in memory: which directory lies in which, and how many files each has.
//!
//! No names, sizes or times here; those are drawn while the tree is filled.

use rand::Rng;

/// Directories in an order in which parents come before children; number 0 is the root.
#[derive(Debug)]
pub struct Layout {
    /// The parent of each directory; the root is its own.
    pub parent: Vec<u32>,
    /// How many files lie directly in each directory.
    pub files: Vec<u32>,
}

const BALANCED: (usize, usize, usize) = (61_431, 1_042_865, 6);
const SKEWED: (usize, usize, usize) = (180_845, 452_904, 400);
const FLAT_FILES: usize = 1_000_000;
const WIDE_DIRECTORIES: usize = 200_000;

/// Levels that grow by the same factor, and 9 to 25 files in each directory.
pub fn balanced(rng: &mut impl Rng, scale: f64) -> Layout {
    let (directories, files, depth) = BALANCED;
    let directories = scaled(directories, scale).max(depth + 1);
    let mut parent = vec![0];
    let (mut above, mut above_len) = (0, 1);
    for len in level_sizes(directories, depth) {
        let start = parent.len();
        parent.extend((0..len).map(|i| (above + i * above_len / len) as u32));
        (above, above_len) = (start, len);
    }
    let mut counts: Vec<u32> = parent.iter().map(|_| 9 + below(rng, 17) as u32).collect();
    settle(rng, &mut counts, scaled(files, scale));
    Layout {
        parent,
        files: counts,
    }
}

/// The lengths of levels 1 to `depth`, growing by one factor, with the root `total` in sum.
fn level_sizes(total: usize, depth: usize) -> Vec<usize> {
    let sum = |factor: f64| (0..=depth as i32).map(|d| factor.powi(d)).sum::<f64>();
    let (mut low, mut high) = (1.0, total as f64);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if sum(middle) < total as f64 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut sizes: Vec<usize> = (1..=depth as i32)
        .map(|d| (low.powi(d).round() as usize).max(1))
        .collect();
    let others: usize = 1 + sizes[..depth - 1].iter().sum::<usize>();
    sizes[depth - 1] = total.saturating_sub(others).max(1);
    sizes
}

/// Chains of random length hung on random directories, and files by a heavy-tailed law: most
/// directories have none or one, a few have thousands. One chain goes down to the full depth.
pub fn skewed(rng: &mut impl Rng, scale: f64) -> Layout {
    let (directories, files, depth) = SKEWED;
    let directories = scaled(directories, scale).max(20);
    let depth = scaled(depth, scale.sqrt()).clamp(10, directories - 1);
    let mut parent = vec![0_u32];
    let mut level = vec![0_usize];
    for l in 1..=depth {
        parent.push(l as u32 - 1);
        level.push(l);
    }
    while parent.len() < directories {
        let mut at = below(rng, parent.len() as u64) as usize;
        // Above the middle of the long chain only, or everything would lie near its end.
        while level[at] > depth / 4 && chance(rng, 3, 4) {
            at = parent[at] as usize;
        }
        while level[at] < depth && parent.len() < directories {
            parent.push(at as u32);
            level.push(level[at] + 1);
            at = parent.len() - 1;
            if chance(rng, 1, 16) {
                break;
            }
        }
    }
    let mut counts: Vec<u32> = parent
        .iter()
        .map(|_| (0.5 * unit(rng).powf(-0.8)).min(20_000.0) as u32)
        .collect();
    settle(rng, &mut counts, scaled(files, scale));
    Layout {
        parent,
        files: counts,
    }
}

/// One directory full of files.
pub fn flat(scale: f64) -> Layout {
    Layout {
        parent: vec![0],
        files: vec![scaled(FLAT_FILES, scale) as u32],
    }
}

/// One directory full of empty directories.
pub fn widedirs(scale: f64) -> Layout {
    let directories = scaled(WIDE_DIRECTORIES, scale) + 1;
    Layout {
        parent: vec![0; directories],
        files: vec![0; directories],
    }
}

fn scaled(number: usize, scale: f64) -> usize {
    (number as f64 * scale).round() as usize
}

/// Adds or takes single files at random until there are `total`.
fn settle(rng: &mut impl Rng, counts: &mut [u32], total: usize) {
    let mut sum: usize = counts.iter().map(|&n| n as usize).sum();
    let len = counts.len() as u64;
    while sum != total {
        let count = &mut counts[below(rng, len) as usize];
        if sum < total {
            *count += 1;
            sum += 1;
        } else if *count > 0 {
            *count -= 1;
            sum -= 1;
        }
    }
}

/// A number below `limit`. Ours, because the distributions of `rand` may change between versions.
pub(super) fn below(rng: &mut impl Rng, limit: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(limit)) >> 64) as u64
}

/// True in `of` out of `all` cases.
pub(super) fn chance(rng: &mut impl Rng, of: u64, all: u64) -> bool {
    below(rng, all) < of
}

/// A number above 0 and at most 1.
pub(super) fn unit(rng: &mut impl Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}
