//! Other file systems inside a tree: what `-x` enters is what `find -xdev` enters.

use super::common::{Lab, find, is_root};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A btrfs in a file, mounted with what makes mount points hard to tell, and unmounted with the test.
struct Btrfs {
    at: PathBuf,
}

impl Btrfs {
    /// None, and a word on standard error, where it cannot be had.
    fn new(lab: &Lab) -> Option<Self> {
        if !is_root("a btrfs in a file") {
            return None;
        }
        let (image, at) = (lab.path("btrfs.img"), lab.path("btrfs"));
        fs::File::create(&image)
            .unwrap()
            .set_len(128 << 20)
            .unwrap();
        fs::create_dir(&at).unwrap();
        let made = run("mkfs.btrfs", &["-q".as_ref(), image.as_ref()])
            && run(
                "mount",
                &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()],
            );
        if !made {
            eprintln!("SKIPPED, as it needs mkfs.btrfs and a loop device: a btrfs in a file");
            return None;
        }
        Some(Self { at })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    fn subvolume(&self, name: &str) {
        let path = self.path(name);
        let words = ["subvolume", "create"].map(OsStr::new);
        assert!(run("btrfs", &[&words[..], &[path.as_ref()]].concat()));
    }

    fn snapshot(&self, name: &str, snapshot: &str) {
        let (from, to) = (self.path(name), self.path(snapshot));
        let words = ["subvolume", "snapshot"].map(OsStr::new);
        assert!(run(
            "btrfs",
            &[&words[..], &[from.as_ref(), to.as_ref()]].concat()
        ));
    }

    fn bind(&self, name: &str, onto: &str) {
        let (from, to) = (self.path(name), self.path(onto));
        fs::create_dir(&to).unwrap();
        assert!(run(
            "mount",
            &["--bind".as_ref(), from.as_ref(), to.as_ref()]
        ));
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        run("umount", &["-R".as_ref(), self.at.as_ref()]);
    }
}

/// Whether the command could be run, and went well.
fn run(program: &str, arguments: &[&OsStr]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// Files with names of their own, two hard links and a directory.
fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).unwrap();
    fs::write(dir.join("d/large"), vec![b'x'; 100_000]).unwrap();
    fs::hard_link(dir.join("d/large"), dir.join("link")).unwrap();
    fs::write(dir.join("d/e/small"), "x").unwrap();
}

/// The totals of Hydra, once it has been seen that one thread and workers agree.
fn hydra(lab: &Lab, options: &[&str], path: &Path) -> Value {
    let totals = lab.alone(options, &[path])["totals"].clone();
    assert_eq!(totals, lab.serial(options, &[path])["totals"]);
    totals
}

#[test]
fn subvolumes_are_other_file_systems_and_bind_mounts_of_the_same_one_are_not() {
    let lab = Lab::new();
    let Some(btrfs) = Btrfs::new(&lab) else {
        return;
    };
    fill(&btrfs.path("plain"));
    btrfs.subvolume("sub");
    fill(&btrfs.path("sub"));
    btrfs.subvolume("sub/d/nested");
    fill(&btrfs.path("sub/d/nested"));
    // The same inode numbers as in `sub`, and as many links.
    btrfs.snapshot("sub", "plain/d/snapshot");
    // Blocks that are met twice count twice, so there are none.
    fs::create_dir(btrfs.path("empty")).unwrap();
    fs::write(btrfs.path("empty/file"), "").unwrap();
    btrfs.bind("empty", "same");
    btrfs.subvolume("void");
    fs::write(btrfs.path("void/file"), "").unwrap();
    btrfs.bind("void", "other");
    assert!(run("sync", &["-f".as_ref(), btrfs.at.as_ref()]));

    for below in ["", "plain", "sub", "sub/d/nested", "same", "other"] {
        let path = btrfs.path(below);
        let paths = [path.as_path()];
        assert_eq!(
            hydra(&lab, &[], &path),
            find::<&str>(&paths, &[]),
            "{below}"
        );
        let one = find(&paths, &["-xdev"]);
        assert_eq!(hydra(&lab, &["-x"], &path), one, "-x {below}");
    }
    let one = lab.alone(&["-x"], &[&btrfs.at]);
    // sub, plain/d/snapshot, void and other.
    assert_eq!(one["skipped"]["mounts"], 4, "{one}");
    // plain with d and e, same and empty, the root, and the mount points.
    assert_eq!(one["totals"]["directories"], 6 + 4);
    assert_eq!(one["totals"]["files"], 3 + 2);
}

/// A bind mount that ends with the test.
struct Bind(PathBuf);

impl Drop for Bind {
    fn drop(&mut self) {
        run("umount", &[self.0.as_ref()]);
    }
}

#[test]
fn one_thread_followed_links_across_a_bind_mount_of_the_same_file_system() {
    let lab = Lab::new();
    if !is_root("a bind mount") {
        return;
    }
    let tree = lab.path("tree");
    let (real, bound) = (tree.join("real"), tree.join("bound"));
    fs::create_dir_all(&bound).unwrap();
    fill(&real);
    for (name, target) in [
        ("across", "bound/link"),
        ("within", "real/link"),
        ("through", "bound/../real/link"),
    ] {
        std::os::unix::fs::symlink(target, tree.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("../real/link", real.join("out-of-bound")).unwrap();
    let words = ["--bind".as_ref(), real.as_ref(), bound.as_ref()];
    if !run("mount", &words) {
        eprintln!("SKIPPED, as it needs mount --bind");
        return;
    }
    let _bind = Bind(bound);
    let (alone, serial) = (lab.alone(&[], &[&tree]), lab.serial(&[], &[&tree]));
    let links = &alone["audit"]["symlinks"];
    assert!(!links.is_null(), "{alone}");
    assert_eq!(links, &serial["audit"]["symlinks"]);
}
