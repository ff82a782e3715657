//! Trees to walk.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

/// Builds some `directories` directories with a few files, links and sparse files each, from two to many levels deep.
pub(crate) fn forest(root: &Path, directories: usize) {
    fs::create_dir(root).unwrap();
    let mut made = vec![root.to_path_buf()];
    for number in 0..directories {
        let dir = made[number / 3].join(format!("d{number}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("a.txt"), vec![b'x'; number * 7 % 9000]).unwrap();
        File::create(dir.join("sparse.bin"))
            .unwrap()
            .set_len(number as u64 * 1000)
            .unwrap();
        if number % 5 == 0 {
            fs::hard_link(dir.join("a.txt"), root.join(format!("link{number}"))).unwrap();
            symlink("a.txt", dir.join("pointer")).unwrap();
        }
        made.push(dir);
    }
}

/// Builds one directory of `count` empty files.
pub(crate) fn crowd(root: &Path, count: usize) {
    fs::create_dir(root).unwrap();
    let dir = openat(
        CWD,
        root,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    for number in 0..count {
        openat(&dir, format!("member-{number}"), flags, Mode::RUSR).unwrap();
    }
}

/// Builds a chain of `depth` directories below `root`, with `width` others beside each: what a walk that goes down the
/// chain leaves behind is as wide on every level.
pub(crate) fn spine(root: &Path, depth: usize, width: usize) {
    fs::create_dir(root).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        // Wherever it comes in the listing: some file systems tell the oldest first, some the newest.
        for number in 0..width {
            mkdirat(&at, format!("side-{number}"), Mode::RWXU).unwrap();
            if number == width / 2 {
                mkdirat(&at, "d", Mode::RWXU).unwrap();
            }
        }
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
}

/// Builds a chain of `depth` directories below `root`, with a file at its end.
pub(crate) fn chain(root: &Path, depth: usize) {
    fs::create_dir(root).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    openat(&at, "end", flags, Mode::RUSR).unwrap();
}

/// Builds a chain of `depth` directories with names as long as they may be, and at its end `closed` directories that
/// only root may open.
pub(crate) fn long_chain(root: &Path, depth: usize, closed: usize) {
    let (name, mode) = ("n".repeat(255), Mode::from_raw_mode(0o755));
    fs::create_dir(root).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, &name, mode).unwrap();
        at = openat(&at, &name, flags, Mode::empty()).unwrap();
    }
    for number in 0..closed {
        mkdirat(&at, format!("closed-{number}"), Mode::empty()).unwrap();
    }
}

/// Removes it.
pub(crate) fn remove_long_chain(root: &Path, closed: usize) {
    let (name, flags) = ("n".repeat(255), OFlags::DIRECTORY | OFlags::CLOEXEC);
    let mut at = openat(CWD, root, flags, Mode::empty()).unwrap();
    let mut depth = 0;
    while let Ok(below) = openat(&at, &name, flags, Mode::empty()) {
        at = below;
        depth += 1;
    }
    for number in 0..closed {
        unlinkat(&at, format!("closed-{number}"), AtFlags::REMOVEDIR).unwrap();
    }
    for _ in 0..depth {
        at = openat(&at, "..", flags, Mode::empty()).unwrap();
        unlinkat(&at, &name, AtFlags::REMOVEDIR).unwrap();
    }
}

/// Removes a chain from its end, which takes time in proportion to its depth; `rm -r` takes much longer.
pub(crate) fn unchain(root: &Path) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, flags, Mode::empty()).unwrap();
    let mut depth = 0;
    while let Ok(below) = openat(&at, "d", flags, Mode::empty()) {
        at = below;
        depth += 1;
    }
    unlinkat(&at, "end", AtFlags::empty()).unwrap();
    for _ in 0..depth {
        at = openat(&at, "..", flags, Mode::empty()).unwrap();
        unlinkat(&at, "d", AtFlags::REMOVEDIR).unwrap();
    }
}
