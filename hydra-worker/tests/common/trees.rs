//! Trees, and what is in them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What walkdir finds, sorted.
pub fn oracle(root: &Path) -> Vec<Vec<u8>> {
    let entries = walkdir::WalkDir::new(root)
        .into_iter()
        .filter_map(Result::ok);
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path().as_os_str().as_bytes().to_vec())
        .collect();
    paths.sort();
    paths
}

/// Fails with the first difference, not with two long lists.
pub fn assert_same(left: &[Vec<u8>], right: &[Vec<u8>]) {
    let differ = left.iter().zip(right).find(|(l, r)| l != r);
    let show = |path: &Vec<u8>| OsStr::from_bytes(path).to_owned();
    assert!(
        differ.is_none(),
        "{:?}",
        differ.map(|(l, r)| (show(l), show(r)))
    );
    assert_eq!(left.len(), right.len());
}

/// A tree of `dirs` directories per level, `depth` levels, `files` files in each.
pub fn tree(root: &Path, dirs: usize, depth: usize, files: usize) {
    for file in 0..files {
        std::fs::write(root.join(format!("f{file}")), b"x").unwrap();
    }
    if depth > 0 {
        for dir in 0..dirs {
            let path = root.join(format!("d{dir}"));
            std::fs::create_dir(&path).unwrap();
            tree(&path, dirs, depth - 1, files);
        }
    }
}

pub fn flat(root: &Path, count: usize) {
    for index in 0..count {
        let name = root.join(format!("file-{index}"));
        // Links cost less than files.
        match index % 60_000 {
            0 => std::fs::write(&name, b"").unwrap(),
            past => {
                let first = root.join(format!("file-{}", index - past));
                std::fs::hard_link(first, &name).unwrap();
            }
        }
    }
}

/// A directory for a test, in memory where that can be had: large trees take a disk minutes to remove.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}
