//! Trees to measure on, the same for the same seed on every machine.
//!
//! A shape is laid out in memory first ([`layout`]) and then created ([`fill`]); the hostile tree is
//! a list of peculiarities instead ([`hostile`]). Nothing here is ever removed or overwritten: the
//! place must be empty or not exist.

pub mod fill;
pub mod hostile;
pub mod layout;

use std::path::Path;

use anyhow::{Context, bail};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// The shapes that can be built. Numbers are those of scale 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// 61,431 directories, 1,042,865 files, depth 6, all directories of similar size.
    Balanced,
    /// 180,845 directories, 452,904 files, very uneven, depth 400.
    Skewed,
    /// One directory with 1,000,000 files.
    Flat,
    /// One directory with 200,000 empty directories.
    Widedirs,
    /// Everything that a name, a link, a mode or a path can do to a walker.
    Hostile,
}

/// The seconds since the epoch before which all times in a tree lie, the hostile one's apart.
pub const NEWEST: i64 = 1_700_000_000;

/// Builds `shape` in `dir`, `scale` times its full size. Modes are part of the tree, and the mask of the process takes
/// its share of them: it is for the program to set, as all threads have it in common.
///
/// # Errors
///
/// When `dir` exists and is not empty, or a system call fails.
pub fn build(shape: Shape, dir: &Path, seed: u64, scale: f64) -> anyhow::Result<()> {
    if !(scale > 0.0 && scale <= 10.0) {
        bail!("the scale must be above 0 and at most 10");
    }
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let mut old = std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    if old.next().is_some() {
        bail!("{} is not empty", dir.display());
    }
    crate::totals::raise_open_files();
    let mut rng = stream(seed, u64::MAX);
    let done = match shape {
        Shape::Balanced => fill::create(dir, &layout::balanced(&mut rng, scale), seed),
        Shape::Skewed => fill::create(dir, &layout::skewed(&mut rng, scale), seed),
        Shape::Flat => fill::create(dir, &layout::flat(scale), seed),
        Shape::Widedirs => fill::create(dir, &layout::widedirs(scale), seed),
        Shape::Hostile => hostile::create(dir, seed, scale),
    };
    done.with_context(|| format!("build {}", dir.display()))
}

/// The random numbers of one directory: its own stream, so that the tree does not depend on which
/// thread fills what. The generator is named, not `StdRng`, whose algorithm may change.
fn stream(seed: u64, index: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
