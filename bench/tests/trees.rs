//! The trees hold what they promise, twice the same; the floor and the oracle count them alike.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hydra_bench::Work;
use hydra_bench::floor::{Counts, Plan, race};
use hydra_bench::totals::{Totals, count};
use hydra_bench::tree::{Shape, build};
use tempfile::TempDir;

const SCALE: f64 = 0.01;
const FLOOR: &str = env!("CARGO_BIN_EXE_bench-floor");

fn built(shape: Shape, seed: u64) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    build(shape, &dir.path().join("tree"), seed, SCALE).expect("a tree");
    dir
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What [`Totals`] and [`Counts`] have in common, bytes aside.
fn numbers(totals: &Totals) -> [u64; 6] {
    let t = totals;
    [
        t.entries,
        t.directories,
        t.files,
        t.symlinks,
        t.other,
        t.errors,
    ]
}

fn floor_numbers(counts: &Counts) -> [u64; 6] {
    let c = counts;
    [
        c.entries,
        c.directories,
        c.files,
        c.symlinks,
        c.other,
        c.errors,
    ]
}

fn check_floor(root: &Path, totals: &Totals) {
    for work in [Work::List, Work::Stat] {
        for procs in [1, 2, 3] {
            let plan = Plan::new(root, work, procs).expect("a plan");
            let again = Plan::from_bytes(&plan.to_bytes()).expect("the plan from its bytes");
            assert_eq!(plan, again);
            let outcome = race(Path::new(FLOOR), root, &plan).expect("an outcome");
            let counts = outcome.counts;
            assert_eq!(floor_numbers(&counts), numbers(totals), "{work} by {procs}");
            if work == Work::Stat {
                assert_eq!(counts.apparent_bytes, totals.apparent_bytes, "by {procs}");
                assert_eq!(counts.allocated_bytes, totals.allocated_bytes, "by {procs}");
            }
        }
    }
}

fn check_plain(shape: Shape, directories: u64, files: u64, depth: u64) {
    let dir = built(shape, 1);
    let root = dir.path().join("tree");
    let totals = count(&root).expect("totals");
    assert_eq!(
        (
            totals.directories,
            totals.files,
            totals.depth,
            totals.errors
        ),
        (directories, files, depth, 0)
    );
    assert_eq!(totals.entries, directories + files);
    check_floor(&root, &totals);
}

#[test]
fn balanced_has_its_numbers() {
    check_plain(Shape::Balanced, 614, 10_429, 6);
}

#[test]
fn skewed_has_its_numbers() {
    check_plain(Shape::Skewed, 1_808, 4_529, 40);
}

#[test]
fn flat_has_its_numbers() {
    check_plain(Shape::Flat, 1, 10_000, 0);
}

#[test]
fn widedirs_has_its_numbers() {
    check_plain(Shape::Widedirs, 2_001, 0, 1);
}

#[test]
fn hostile_holds_every_kind_and_is_counted_whole() {
    let dir = built(Shape::Hostile, 1);
    let root = dir.path().join("tree");
    let totals = count(&root).expect("totals");
    assert!(totals.symlinks >= 20 && totals.other >= 3, "{totals:?}");
    assert!(totals.depth >= 50, "{totals:?}");
    assert!(totals.unique_allocated_bytes < totals.allocated_bytes);
    if is_root() {
        assert_eq!(totals.errors, 0);
        check_floor(&root, &totals);
    }
}

/// Every name with size, mode and times, in the order of the names.
fn listing(root: &Path) -> BTreeMap<Vec<u8>, (u64, u32, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("an entry").path();
            let meta = path.symlink_metadata().expect("metadata");
            let size = if meta.is_dir() { 0 } else { meta.size() };
            let name = path.strip_prefix(root).expect("below the root");
            all.insert(
                name.as_os_str().as_bytes().to_vec(),
                (size, meta.mode(), meta.mtime(), meta.mtime_nsec()),
            );
            if meta.is_dir() {
                open.push(path);
            }
        }
    }
    all
}

#[test]
fn the_same_seed_gives_the_same_tree() {
    for shape in [Shape::Balanced, Shape::Skewed] {
        let trees = [1, 1, 2].map(|seed| built(shape, seed));
        let [one, same, other] = trees
            .each_ref()
            .map(|dir| listing(&dir.path().join("tree")));
        assert!(one == same, "{shape:?} differs from itself");
        assert!(one != other, "{shape:?} does not depend on the seed");
    }
}

#[test]
fn a_place_that_is_not_empty_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("mine"), "").expect("a file");
    build(Shape::Flat, dir.path(), 1, SCALE).expect_err("a full directory");
    assert_eq!(count(dir.path()).expect("totals").entries, 2);
}

#[test]
fn a_cut_plan_is_refused() {
    let dir = built(Shape::Widedirs, 1);
    let plan = Plan::new(&dir.path().join("tree"), Work::List, 2).expect("a plan");
    let bytes = plan.to_bytes();
    for len in [0, 10, 20, 27, bytes.len() - 1] {
        assert!(Plan::from_bytes(&bytes[..len]).is_err(), "cut to {len}");
    }
}
