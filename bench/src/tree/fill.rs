//! Creates a laid-out tree, everything relative to open directories, with two threads where they help.
//!
//! The directories are made first, serially; then each thread walks all of them and fills those that
//! are its own.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rand::Rng;
use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps, futimens, mkdirat, openat};

use super::layout::{Layout, below, chance, unit};
use super::{NEWEST, stream};

const THREADS: usize = 2;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::CLOEXEC);
const EXTENSIONS: &[&str] = &[
    "txt", "log", "csv", "json", "rs", "py", "c", "h", "o", "so", "jpg", "png", "mp4", "wav", "h5",
    "nc", "dat", "tar.gz", "zip", "pdf", "TXT", "bak", "tmp",
];
const WORDS: &[&str] = &[
    "run",
    "sample",
    "report",
    "image",
    "frame",
    "trace",
    "result",
    "index",
    "notes",
    "mesh",
    "chunk",
    "part",
    "x",
    "a-rather-long-name-as-people-give-them",
];

/// Creates `layout` in the existing, empty directory `dir`.
pub(super) fn create(dir: &Path, layout: &Layout, seed: u64) -> anyhow::Result<()> {
    let children = Children::of(layout);
    let root = openat(CWD, dir, DIRECTORY, Mode::empty())?;
    make_directories(root.as_fd(), 0, &children)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|mine| {
                let (children, root) = (&children, root.as_fd());
                scope.spawn(move || fill_below(root, 0, mine, layout, children, seed))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })
    })
}

/// The children of each directory: `all[start[i]..start[i + 1]]`.
struct Children {
    start: Vec<u32>,
    all: Vec<u32>,
}

impl Children {
    fn of(layout: &Layout) -> Self {
        let parents = || layout.parent.iter().enumerate().skip(1);
        let mut start = vec![0_u32; layout.parent.len() + 1];
        for (_, &parent) in parents() {
            start[parent as usize + 1] += 1;
        }
        for i in 1..start.len() {
            start[i] += start[i - 1];
        }
        let mut next = start.clone();
        let mut all = vec![0; layout.parent.len() - 1];
        for (child, &parent) in parents() {
            let slot = &mut next[parent as usize];
            all[*slot as usize] = child as u32;
            *slot += 1;
        }
        Children { start, all }
    }

    fn below(&self, dir: u32) -> &[u32] {
        let dir = dir as usize;
        &self.all[self.start[dir] as usize..self.start[dir + 1] as usize]
    }
}

fn name(index: u32) -> String {
    format!("d{index:x}")
}

fn open_child(fd: BorrowedFd<'_>, index: u32) -> rustix::io::Result<OwnedFd> {
    openat(fd, name(index), DIRECTORY, Mode::empty())
}

fn make_directories(fd: BorrowedFd<'_>, dir: u32, children: &Children) -> anyhow::Result<()> {
    for &child in children.below(dir) {
        let mode = if child % 50 == 7 { 0o700 } else { 0o755 };
        mkdirat(fd, name(child), Mode::from_bits_truncate(mode))?;
        if !children.below(child).is_empty() {
            make_directories(open_child(fd, child)?.as_fd(), child, children)?;
        }
    }
    Ok(())
}

fn fill_below(
    fd: BorrowedFd<'_>,
    dir: u32,
    mine: usize,
    layout: &Layout,
    children: &Children,
    seed: u64,
) -> anyhow::Result<()> {
    if dir as usize % THREADS == mine {
        let mut rng = stream(seed, u64::from(dir));
        for number in 0..layout.files[dir as usize] {
            add_file(fd, number, &mut rng)?;
        }
        futimens(fd, &times(&mut rng))?;
    }
    for &child in children.below(dir) {
        let leaf = children.below(child).is_empty();
        if !leaf || child as usize % THREADS == mine {
            let child_fd = open_child(fd, child)?;
            fill_below(child_fd.as_fd(), child, mine, layout, children, seed)?;
        }
    }
    Ok(())
}

fn add_file(fd: BorrowedFd<'_>, number: u32, rng: &mut impl Rng) -> anyhow::Result<()> {
    let word = WORDS[below(rng, WORDS.len() as u64) as usize];
    // Low numbers come up most often, so that some extensions are common and some rare.
    let extension = EXTENSIONS[(unit(rng).powi(2) * (EXTENSIONS.len() - 1) as f64) as usize];
    let name = if chance(rng, 1, 20) {
        format!("{word}{number:x}")
    } else {
        format!("{word}{number:x}.{extension}")
    };
    let mode = [0o644, 0o644, 0o644, 0o600, 0o755, 0o664][below(rng, 6) as usize];
    let file = openat(
        fd,
        CString::new(name)?,
        NEW_FILE,
        Mode::from_bits_truncate(mode),
    )?;
    let size = size(rng);
    if size > 0 && chance(rng, 1, 32) {
        let data = [b'h'; 8192];
        rustix::io::write(&file, &data[..data.len().min(size as usize)])?;
    }
    if size > 0 {
        rustix::fs::ftruncate(&file, size)?;
    }
    futimens(&file, &times(rng))?;
    Ok(())
}

/// Evenly distributed by magnitude, up to 64 MiB; one in twenty is empty.
fn size(rng: &mut impl Rng) -> u64 {
    if chance(rng, 1, 20) {
        return 0;
    }
    (unit(rng) * 26.0).exp2() as u64
}

/// Modified up to eleven years before [`NEWEST`], recent ages more often; read later, or not.
fn times(rng: &mut impl Rng) -> Timestamps {
    let age = (unit(rng) * 28.4).exp2() as i64;
    let unread = if chance(rng, 1, 2) {
        age
    } else {
        (age as f64 * unit(rng)) as i64
    };
    let at = |age: i64, rng: &mut dyn FnMut() -> u64| Timespec {
        tv_sec: NEWEST - age,
        tv_nsec: (rng() % 1_000_000_000) as _,
    };
    let mut draw = || rng.next_u64();
    Timestamps {
        last_access: at(unread, &mut draw),
        last_modification: at(age, &mut draw),
    }
}
