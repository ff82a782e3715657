//! The least time in which a tree can be walked where every call takes equally long.
//!
//! Necessary are, as in the floor: for each directory but the root one `LOOKUP` to open it by its name,
//! for each one `OPENDIR`, and `READDIR` until it brings nothing; to stat, one `LOOKUP` more for each
//! entry but the root. Where the kernel keeps names, a directory needs one `LOOKUP` only, whether it is to
//! be opened, asked about or both: who asks can open it right away. The walk cannot end before
//!
//! - all those calls have been made, as many at once as there are walkers, nor before
//! - the slowest chain has: a directory is open one `LOOKUP` and one `OPENDIR` after its parent's
//!   listing has come to its name, and its own listing is read call after call.
//!
//! Time for anything but waiting is not in it.

use std::time::Duration;

use serde::Serialize;

use crate::Work;
use crate::fuse::Answering;
use crate::implicit::ImplicitTree;

/// What is necessary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ideal {
    /// Names to be resolved.
    pub lookups: u64,
    /// Directories to be opened.
    pub opendirs: u64,
    /// Parts of listings to be read, the empty ones at their ends included.
    pub readdirs: u64,
    /// The calls that have to be made one after another.
    pub chain: u64,
}

impl Ideal {
    /// What `work` on `tree` takes where calls are answered like this; `.` and `..` are among the entries
    /// that a `READDIR` brings.
    pub fn new(tree: &ImplicitTree, work: Work, answering: &Answering) -> Self {
        let per_call = answering.entries_per_readdir.max(3) as u64;
        let mut ideal = Self::default();
        let mut visit = |dir, parent: Option<Opened>, number| {
            let opened = match parent {
                None => Opened { dir, after: 1 },
                Some(parent) => {
                    let place = 2 + tree.place_of(parent.dir, number);
                    let listed = parent.after + place / per_call + 1;
                    Opened {
                        dir,
                        after: listed + 2,
                    }
                }
            };
            let entries = tree.entries(dir);
            let readdirs = (entries + 2).div_ceil(per_call) + 1;
            ideal.opendirs += 1;
            ideal.readdirs += readdirs;
            ideal.lookups += match work {
                Work::List => 0,
                Work::Stat => entries,
            };
            // The last names are looked up while the listing's empty end is read.
            ideal.chain = ideal.chain.max(opened.after + readdirs);
            Some(opened)
        };
        tree.walk(None, &mut visit);
        if work == Work::List || answering.entry_timeout.is_zero() {
            ideal.lookups += ideal.opendirs - 1;
        }
        ideal
    }

    /// All calls together.
    pub fn calls(&self) -> u64 {
        self.lookups + self.opendirs + self.readdirs
    }

    /// The least time for so many walkers where a call takes `call`.
    pub fn time(&self, walkers: usize, call: Duration) -> Duration {
        let shared = self.calls() as f64 / walkers.max(1) as f64;
        call.mul_f64(shared.max(self.chain as f64))
    }

    /// Whether it is the slowest chain that decides, and not the number of walkers.
    pub fn is_bound_by_chain(&self, walkers: usize) -> bool {
        self.chain * walkers as u64 > self.calls()
    }
}

/// A directory, and how many calls at least are over when it is open.
#[derive(Clone, Copy)]
struct Opened {
    dir: crate::implicit::Dir,
    after: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::implicit::TreeArgs;
    use crate::tree::Shape;

    fn ideal(shape: Shape, directories: u64, files: u64, work: Work) -> Ideal {
        let tree = ImplicitTree::new(&TreeArgs {
            shape,
            directories: Some(directories),
            files: Some(files),
            seed: 1,
        });
        Ideal::new(&tree.unwrap(), work, &Answering::default())
    }

    #[test]
    fn one_directory_is_read_call_after_call() {
        // 1022 entries with the two dots fill two replies, one more begins a third.
        for (files, readdirs) in [(0, 2), (510, 2), (511, 3), (1022, 3), (1023, 4)] {
            let listed = ideal(Shape::Flat, 1, files, Work::List);
            let expected = Ideal {
                lookups: 0,
                opendirs: 1,
                readdirs,
                chain: 1 + readdirs,
            };
            assert_eq!(listed, expected, "{files}");
            let asked = ideal(Shape::Flat, 1, files, Work::Stat);
            assert_eq!(
                asked,
                Ideal {
                    lookups: files,
                    ..expected
                }
            );
        }
    }

    #[test]
    fn a_chain_costs_a_lookup_an_opening_and_a_reading_on_each_level() {
        // Two directories, one in the other, no files.
        let both = ideal(Shape::Balanced, 2, 0, Work::Stat);
        let expected = Ideal {
            lookups: 2,
            opendirs: 2,
            readdirs: 4,
            // opendir, readdir; lookup, opendir, readdir, readdir
            chain: 6,
        };
        assert_eq!(both, expected);
    }

    #[test]
    fn where_names_are_kept_only_stat_needs_fewer_lookups_and_the_chain_stays() {
        let kept = Answering {
            entry_timeout: Duration::from_secs(1),
            ..Answering::default()
        };
        let tree = ImplicitTree::new(&TreeArgs {
            shape: Shape::Balanced,
            directories: Some(40),
            files: Some(200),
            seed: 1,
        });
        let tree = tree.unwrap();
        for (work, needless) in [(Work::List, 0), (Work::Stat, 39)] {
            let without = Ideal::new(&tree, work, &Answering::default());
            let expected = Ideal {
                lookups: without.lookups - needless,
                ..without
            };
            assert_eq!(Ideal::new(&tree, work, &kept), expected, "{work}");
        }
    }

    #[test]
    fn the_last_of_many_directories_is_found_late() {
        let wide = ideal(Shape::Widedirs, 1023, 0, Work::List);
        // opendir, two parts of the listing; then lookup, opendir and two parts of its own.
        assert_eq!(wide.chain, 3 + 2 + 2);
        assert_eq!(wide.calls(), 1022 + 1023 + 3 + 2 * 1022);
    }

    #[test]
    fn the_slower_of_work_and_chain_decides() {
        let ideal = Ideal {
            lookups: 50,
            opendirs: 30,
            readdirs: 20,
            chain: 10,
        };
        let call = Duration::from_millis(1);
        assert_eq!(ideal.time(5, call), Duration::from_millis(20));
        assert_eq!(ideal.time(50, call), Duration::from_millis(10));
        assert!(ideal.is_bound_by_chain(50) && !ideal.is_bound_by_chain(5));
    }
}
