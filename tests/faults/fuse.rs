//! A FUSE file system of this process' own where single paths fail, dawdle or hang.

use hydra_bench::fuse::{Answering, Injected, Injections, Kind, Mounted};
use hydra_bench::implicit::{Dir, Entry, ImplicitTree, TreeArgs};
use hydra_bench::tree::Shape;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DIRECTORIES: u64 = 3000;

/// The tree, mounted. Whoever hangs is answered when it is dropped, and it is unmounted.
pub(crate) struct Faulty {
    mounted: Option<Mounted>,
    at: PathBuf,
    injections: Injections,
    /// Its directories but the root, with their paths.
    directories: Vec<(PathBuf, Dir)>,
}

impl Faulty {
    pub(crate) fn new(at: PathBuf, seed: u64) -> io::Result<Self> {
        fs::create_dir(&at)?;
        let args = TreeArgs {
            shape: Shape::Balanced,
            directories: Some(DIRECTORIES),
            files: Some(DIRECTORIES * 2),
            seed,
        };
        let tree = ImplicitTree::new(&args).map_err(io::Error::other)?;
        let answering = Answering::default();
        let mut directories = Vec::new();
        tree.walk(at.clone(), &mut |dir, parent: PathBuf, number| {
            if dir == tree.root() {
                return parent;
            }
            let mut name = Vec::new();
            tree.write_name(&Entry::Dir(dir), number, &mut name);
            let path = parent.join(String::from_utf8_lossy(&name).as_ref());
            directories.push((path.clone(), dir));
            path
        });
        let mounted = Mounted::new(tree, &answering, &at).map_err(io::Error::other)?;
        Ok(Self {
            mounted: Some(mounted),
            at,
            injections: answering.injections,
            directories,
        })
    }

    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    /// Some paths fail: when they are looked up, opened or listed.
    pub(crate) fn fail(&self, rng: &mut SmallRng) {
        let kinds = [Kind::Lookup, Kind::Getattr, Kind::Opendir, Kind::Readdir];
        for _ in 0..rng.random_range(1..=20) {
            let (_, dir) = self.some(rng);
            let errno = [Errno::IO, Errno::STALE, Errno::ACCESS][rng.random_range(0..3)];
            let kind = kinds[rng.random_range(0..kinds.len())];
            self.inject(*dir, kind, Injected::Error(errno.raw_os_error()));
        }
    }

    /// Some paths take their time.
    pub(crate) fn dawdle(&self, rng: &mut SmallRng) {
        for _ in 0..rng.random_range(1..=20) {
            let (_, dir) = self.some(rng);
            let delay = Duration::from_millis(rng.random_range(1..300));
            for kind in [Kind::Opendir, Kind::Readdir] {
                self.inject(*dir, kind, Injected::Delay(delay));
            }
        }
    }

    /// One path gives no answer. Says which.
    pub(crate) fn hang(&self, rng: &mut SmallRng) -> PathBuf {
        let (path, dir) = self.some(rng);
        let kind = [Kind::Opendir, Kind::Readdir][rng.random_range(0..2)];
        self.injections
            .set(Entry::Dir(*dir).inode(), kind, Injected::Hang);
        path.clone()
    }

    /// Nothing fails and nobody waits any more; then these paths cannot be opened. Says whether there are such.
    pub(crate) fn deny_only(&self, paths: &[PathBuf]) -> bool {
        if let Some(mounted) = &self.mounted {
            mounted.heal();
        }
        paths.iter().all(|path| {
            let found = self.directories.iter().find(|(other, _)| other == path);
            let error = Injected::Error(Errno::IO.raw_os_error());
            let set = |(_, dir): &(PathBuf, Dir)| self.inject(*dir, Kind::Opendir, error);
            found.map(set).is_some()
        })
    }

    fn inject(&self, dir: Dir, kind: Kind, injected: Injected) {
        self.injections.set(Entry::Dir(dir).inode(), kind, injected);
    }

    fn some(&self, rng: &mut SmallRng) -> &(PathBuf, Dir) {
        &self.directories[rng.random_range(0..self.directories.len())]
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            mounted.heal();
            drop(mounted);
        }
        let _ = fs::remove_dir(&self.at);
    }
}
