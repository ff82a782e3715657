use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

use super::*;
use crate::sys::stat::{StatMask, Sync, stat_fd};

fn cache(top: &Path, budget: usize) -> DirCache {
    let opener = Opener::probe().unwrap();
    DirCache::new(opener, vec![top.to_owned()], budget, Mounts::Cross)
}

fn ino(fd: impl AsFd) -> u64 {
    stat_fd(fd.as_fd(), StatMask::INO, Sync::AsStat)
        .unwrap()
        .ino
}

fn ino_at(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().ino()
}

#[test]
fn opens_what_was_found_and_what_was_granted() {
    let tree = TempDir::new().unwrap();
    fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    let mut dirs = cache(tree.path(), 16);
    let root = DirNode::root(0);
    let granted = DirNode::below(&root, b"a/b");
    let found = DirNode::below(&granted, b"c");
    let open = |dirs: &mut DirCache, node| ino(dirs.open(node, Mounts::Detect).unwrap());
    assert_eq!(open(&mut dirs, &root), ino_at(tree.path()));
    assert_eq!(open(&mut dirs, &granted), ino_at(&tree.path().join("a/b")));
    assert_eq!(open(&mut dirs, &found), ino_at(&tree.path().join("a/b/c")));
    assert!(dirs.kept(&granted).is_some() && dirs.kept(&found).is_none());
    let missing = DirNode::below(&granted, b"gone");
    let outcome = dirs.open(&missing, Mounts::Detect);
    assert_eq!(outcome.unwrap_err(), OpenError::Errno(Errno::NOENT));
    let other_root = dirs.open(&DirNode::root(1), Mounts::Detect);
    assert_eq!(other_root.unwrap_err(), OpenError::Errno(Errno::NOENT));
}

/// Each level that is opened again costs a call to a slow file system.
#[test]
fn what_is_granted_is_reached_from_what_was_granted_before() {
    const DEPTH: usize = 100;
    let tree = TempDir::new().unwrap();
    let mut path = String::new();
    let mut dirs = cache(tree.path(), 64);
    for level in 0..DEPTH {
        path.push_str(if level == 0 { "d" } else { "/d" });
        for leaf in ["one", "two"] {
            fs::create_dir_all(tree.path().join(&path).join(leaf)).unwrap();
        }
    }
    let root = DirNode::root(0);
    let grants = |leaf: &str| [format!("{path}/{leaf}"), format!("{path}/{leaf}")];
    let mut levels = Vec::new();
    for granted in grants("one").into_iter().chain(grants("two")) {
        let before = dirs.levels_reopened();
        let node = DirNode::below(&root, granted.as_bytes());
        let opened = ino(dirs.open(&node, Mounts::Detect).unwrap());
        assert_eq!(opened, ino_at(&tree.path().join(&granted)));
        let below = DirNode::below(&node, b"missing");
        dirs.open(&below, Mounts::Detect).unwrap_err();
        levels.push(dirs.levels_reopened() - before);
    }
    assert_eq!(levels, [DEPTH as u64 + 1, 0, 1, 0]);
    // One that turns off half-way up is not far from what was kept.
    let half = format!("{}/one", "d/".repeat(DEPTH / 2 - 3).trim_end_matches('/'));
    let before = dirs.levels_reopened();
    let node = DirNode::below(&root, half.as_bytes());
    dirs.open(&node, Mounts::Detect).unwrap();
    assert!(dirs.levels_reopened() - before <= 32);
}

#[test]
fn drops_what_nobody_needs_before_what_is_old() {
    let tree = TempDir::new().unwrap();
    let mut dirs = cache(tree.path(), 8);
    let root = DirNode::root(0);
    let mut keep = |name: &str| {
        fs::create_dir(tree.path().join(name)).unwrap();
        let node = DirNode::below(&root, name.as_bytes());
        let fd = dirs.open(&node, Mounts::Cross).unwrap();
        dirs.keep(&node, fd);
        node
    };
    let old = keep("old");
    let below = DirNode::below(&old, b"below");
    let second = keep("second");
    for number in 0..100 {
        drop(keep(&format!("finished {number}")));
    }
    assert!(dirs.kept(&old).is_some() && dirs.kept(&second).is_some());
    assert!(dirs.held() <= 9);
    dirs.sweep();
    assert_eq!(dirs.held(), 3, "the root, `old` and `second`");
    drop((second, old));
    dirs.sweep();
    assert_eq!(dirs.held(), 2, "`below` still needs `old`");
    drop(below);
    dirs.clear();
    assert_eq!(dirs.held(), 0);
}

#[test]
fn what_only_one_child_needs_that_is_open_is_closed() {
    let tree = TempDir::new().unwrap();
    fs::create_dir_all(tree.path().join("a/b")).unwrap();
    let mut dirs = cache(tree.path(), 8);
    let a = DirNode::below(&DirNode::root(0), b"a");
    let fd = dirs.open(&a, Mounts::Detect).unwrap();
    dirs.keep(&a, fd);
    let child = DirNode::below(&a, b"b");
    let pending = Arc::clone(&a);
    dirs.release(&a, 2);
    assert!(dirs.kept(&a).is_some(), "another child is still to come");
    drop(pending);
    dirs.release(&a, 2);
    assert!(dirs.kept(&a).is_none());
    dirs.open(&child, Mounts::Detect).unwrap();
}

#[test]
fn a_finished_subtree_does_not_keep_itself_open() {
    let tree = TempDir::new().unwrap();
    let mut dirs = cache(tree.path(), 64);
    let mut node = DirNode::root(0);
    let mut path = tree.path().to_owned();
    for _ in 0..40 {
        path.push("d");
        fs::create_dir(&path).unwrap();
        node = DirNode::below(&node, b"d");
        dirs.fd(&node).unwrap();
    }
    assert_eq!(dirs.held(), 41);
    drop(node);
    dirs.sweep();
    assert_eq!(dirs.held(), 1, "the root");
}

#[test]
fn each_piece_of_a_directory_was_looked_up_again() {
    let tree = TempDir::new().unwrap();
    fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    let mut dirs = cache(tree.path(), 16);
    let root = DirNode::root(0);
    let granted = || DirNode::below(&root, b"a/b/c");
    let first = granted();
    dirs.fd(&first).unwrap();
    let levels = dirs.levels_reopened();
    assert_eq!(levels, 3);
    let second = granted();
    let fd = dirs.own_fd(&second).unwrap();
    assert_eq!(dirs.levels_reopened(), levels);
    assert_eq!(ino(&fd), ino_at(&tree.path().join("a/b/c")));
    let below = DirNode::below(&root, b"a/b/c/d");
    assert!(dirs.fd(&below).is_err(), "it is not there");
    let above = DirNode::below(&root, b"a/b");
    assert_eq!(
        ino(dirs.own_fd(&above).unwrap()),
        ino_at(&tree.path().join("a/b"))
    );
}

#[test]
fn a_symlink_swapped_in_for_an_ancestor_is_not_followed() {
    let tree = TempDir::new().unwrap();
    let path = |name: &str| tree.path().join(name);
    fs::create_dir_all(path("a/b")).unwrap();
    fs::create_dir_all(path("other/b")).unwrap();
    let mut dirs = cache(tree.path(), 16);
    let a = DirNode::below(&DirNode::root(0), b"a");
    let b = DirNode::below(&a, b"b");
    dirs.open(&b, Mounts::Cross).unwrap();
    let inode = ino_at(&path("a/b"));
    fs::rename(path("a"), path("moved")).unwrap();
    symlink("other", path("a")).unwrap();
    let kept = ino(dirs.open(&b, Mounts::Cross).unwrap());
    assert_eq!(kept, inode, "what is open stays what it was");
    dirs.clear();
    let refused = dirs.open(&b, Mounts::Cross).unwrap_err();
    let OpenError::Errno(errno) = refused else {
        panic!("{refused}");
    };
    assert!([Errno::LOOP, Errno::NOTDIR].contains(&errno), "{errno}");
}

#[test]
fn a_root_that_was_exchanged_is_noticed() {
    let tree = TempDir::new().unwrap();
    let top = tree.path().join("top");
    fs::create_dir(&top).unwrap();
    let mut dirs = cache(&top, 16);
    dirs.open(&DirNode::root(0), Mounts::Cross).unwrap();
    fs::rename(&top, tree.path().join("old")).unwrap();
    fs::create_dir(&top).unwrap();
    dirs.open(&DirNode::root(0), Mounts::Cross).unwrap();
    dirs.clear();
    let outcome = dirs.open(&DirNode::root(0), Mounts::Cross);
    assert_eq!(outcome.unwrap_err(), OpenError::Errno(Errno::STALE));
}

#[test]
fn a_mount_point_is_told_apart_from_one_above() {
    let opener = Opener::probe().unwrap();
    let root = DirNode::root(0);
    let proc = DirNode::below(&root, b"proc");
    let sys = DirNode::below(&proc, b"sys");
    let kernel = DirNode::below(&sys, b"kernel");
    let open = |ancestors, node| {
        let mut dirs = DirCache::new(opener, vec!["/".into()], 16, ancestors);
        dirs.open(node, Mounts::Detect).map(|_| ())
    };
    assert_eq!(open(Mounts::Cross, &proc), Err(OpenError::MountPoint));
    assert_eq!(open(Mounts::Cross, &sys), Ok(()));
    assert_eq!(open(Mounts::Cross, &kernel), Ok(()));
    let above = Err(OpenError::Errno(Errno::XDEV));
    assert_eq!(open(Mounts::Detect, &kernel), above);
}

/// Down a chain with a leaf beside every link, then back up through the leaves, as a depth-first walk does.
#[test]
fn a_deep_chain_costs_the_same_at_every_level() {
    const DEPTH: usize = 5_000;
    // In memory where there is such a place: a busy disk makes ten thousand directories a matter of minutes.
    let tree = TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .unwrap();
    let mut dirs = cache(tree.path(), 64);
    let mut node = DirNode::root(0);
    let mut leaves = Vec::new();
    for level in 0..DEPTH {
        let fd = dirs.open(&node, Mounts::Detect).unwrap();
        for name in [c"d", c"leaf"] {
            rustix::fs::mkdirat(&fd, name, Mode::RWXU).unwrap();
        }
        dirs.keep(&node, fd);
        leaves.push(DirNode::below(&node, b"leaf"));
        node = DirNode::below(&node, b"d");
        assert!(dirs.held() <= 64 + 1, "over the budget at level {level}");
    }
    assert_eq!(
        dirs.levels_reopened(),
        0,
        "on the way down the parent is kept"
    );
    drop(node);
    while let Some(leaf) = leaves.pop() {
        dirs.open(&leaf, Mounts::Detect).unwrap();
        assert!(dirs.held() <= 64 + 1);
    }
    let per_level = dirs.levels_reopened() / DEPTH as u64;
    assert!(per_level <= 8, "{per_level} levels opened again for each");
    drop(dirs);
    remove_deep(tree);
}

#[test]
fn runs_out_of_descriptors_and_goes_on() {
    let tree = TempDir::new().unwrap();
    let mut dirs = cache(tree.path(), 64);
    let root = DirNode::root(0);
    let mut nodes = Vec::new();
    for number in 0..32 {
        let name = number.to_string();
        fs::create_dir_all(tree.path().join(&name).join("sub")).unwrap();
        let node = DirNode::below(&root, name.as_bytes());
        dirs.fd(&node).unwrap();
        nodes.push(node);
    }
    assert!(dirs.give_up_half());
    assert_eq!(dirs.entries.len(), 16);
    assert!(
        dirs.kept(&nodes[15]).is_none() && dirs.kept(&nodes[16]).is_some(),
        "the oldest go"
    );
    let sub = DirNode::below(&nodes[0], b"sub");
    dirs.open(&sub, Mounts::Detect).unwrap();
    dirs.entries.clear();
    assert!(!dirs.give_up_half(), "nothing left to give up");
}

/// `TempDir` holds a descriptor per level while it removes; this does not.
fn remove_deep(tree: TempDir) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let top = rustix::fs::open(tree.path(), flags, Mode::empty()).unwrap();
    let mut level = 0;
    // Brings every link up to the top, so that no path is ever long.
    loop {
        let (from, to) = (format!("d{level}/d"), format!("d{}", level + 1));
        let from = if level == 0 { "d" } else { &from };
        if rustix::fs::renameat(&top, from, &top, &to).is_err() {
            break;
        }
        level += 1;
    }
}
