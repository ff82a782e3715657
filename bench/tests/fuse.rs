//! The synthetic file system: what it serves is what the tree holds, for the calls that are necessary.

use std::path::Path;
use std::time::Duration;

use hydra_bench::Work;
use hydra_bench::floor::{Plan, race};
use hydra_bench::fuse::{Answering, Kind, Mounted};
use hydra_bench::implicit::{ImplicitTree, TreeArgs};
use hydra_bench::latency::Ideal;
use hydra_bench::totals::count;
use hydra_bench::tree::Shape;

const ZERO: Duration = Duration::ZERO;
/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);
const FLOOR: &str = env!("CARGO_BIN_EXE_bench-floor");

fn can_mount() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        eprintln!("SKIPPED: mounting needs root and /dev/fuse");
    }
    can
}

fn trees() -> Vec<ImplicitTree> {
    let tree = |(shape, directories, files)| {
        ImplicitTree::new(&TreeArgs {
            shape,
            directories: Some(directories),
            files: Some(files),
            seed: 1,
        })
        .expect("a tree")
    };
    let shapes = [
        (Shape::Balanced, 200, 3_000),
        (Shape::Skewed, 300, 1_000),
        (Shape::Flat, 1, 2_000),
        (Shape::Widedirs, 1_100, 0),
    ];
    shapes.into_iter().map(tree).collect()
}

#[test]
fn what_is_served_is_what_the_tree_holds() {
    if !can_mount() {
        return;
    }
    for tree in trees() {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Mounted::new(tree, &Answering::default(), dir.path()).expect("a mount");
        let (totals, counts) = (count(dir.path()).expect("totals"), tree.count());
        assert_eq!(totals.directories, counts.directories);
        assert_eq!(totals.files, counts.files);
        assert_eq!(totals.depth, counts.depth);
        assert_eq!(totals.errors, 0);
        drop(mounted);
        assert_eq!(
            count(dir.path()).expect("totals").entries,
            1,
            "it is unmounted"
        );
    }
}

#[test]
fn the_floor_makes_the_calls_that_count_as_necessary() {
    if !can_mount() {
        return;
    }
    for (tree, names_kept) in trees()
        .into_iter()
        .flat_map(|tree| [(tree, ZERO), (tree, HOUR)])
    {
        let answering = Answering {
            entry_timeout: names_kept,
            attr_timeout: HOUR,
            ..Answering::default()
        };
        for work in [Work::List, Work::Stat] {
            let dir = tempfile::tempdir().expect("a directory");
            let mount = || Mounted::new(tree, &answering, dir.path()).expect("a mount");
            let planned = mount();
            let plan = Plan::new(dir.path(), work, 1).expect("a plan");
            drop(planned);
            let mounted = mount();
            race(Path::new(FLOOR), dir.path(), &plan).expect("an outcome");
            let (calls, ideal) = (mounted.calls(), Ideal::new(&tree, work, &answering));
            let what = format!("{tree:?} {work} {names_kept:?}");
            assert_eq!(calls.of(Kind::Opendir), ideal.opendirs, "{what}");
            assert_eq!(calls.of(Kind::Readdir), ideal.readdirs, "{what}");
            assert_eq!(calls.of(Kind::Lookup), ideal.lookups, "{what}");
        }
    }
}

#[test]
fn names_are_kept_for_all_walkers_of_one_mount_and_for_no_other_mount() {
    if !can_mount() {
        return;
    }
    for tree in trees() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let lookups = |entry_timeout, walks: &[usize]| {
            let answering = Answering {
                entry_timeout,
                attr_timeout: HOUR,
                ..Answering::default()
            };
            let mounted = Mounted::on_each(tree, &answering, &dirs).expect("mounts");
            for &walk in walks {
                count(dirs[walk].path()).expect("totals");
            }
            mounted.calls().of(Kind::Lookup)
        };
        let once = lookups(HOUR, &[0]);
        assert_eq!(once, tree.count().directories + tree.count().files - 1);
        assert_eq!(lookups(HOUR, &[0, 0]), once, "{tree:?}");
        assert_eq!(lookups(HOUR, &[0, 1, 0, 1]), 2 * once, "{tree:?}");
        assert_eq!(lookups(ZERO, &[0, 0]), 2 * lookups(ZERO, &[1]), "{tree:?}");
    }
}
