//! What comes out of a job.

use crate::journal::JournalError;
use crate::rows::RowsError;
use hydra_link::ListenError;
use hydra_proto::item::{Item, Names, Parcel};
use hydra_proto::job::JobSpec;
use hydra_proto::kept::{KeptPath, PATH_KEPT_MAX, shorten};
use hydra_proto::ledger::{Parent, StoreError};
use hydra_proto::reduce::{Reduce, ReduceError};
use hydra_proto::walk::{MESSAGE_BYTES_MAX, WalkSummary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// Why a job could not be done at all.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No client could be reached, for these reasons; none if nobody was to be dialled.
    #[error("{}", no_client(.0))]
    NoClient(Vec<String>),
    /// The port for clients could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Clients need a key, and there is none.
    #[error("a server that uses the network needs a key: run `hydra-server keygen`")]
    NoKey,
    /// What clients found could not be added up.
    #[error("the result of client {client} could not be added up")]
    Reduce {
        /// Whose result.
        client: String,
        /// Why.
        #[source]
        source: ReduceError,
    },
    /// Output rows could not be written.
    #[error("output rows could not be written")]
    Rows(#[source] io::Error),
    /// Rows cannot be kept in their directory.
    #[error(transparent)]
    RowsDir(#[from] RowsError),
    /// What was put away for want of memory cannot be read.
    #[error("what was put away for want of memory cannot be read")]
    PutAway(#[from] StoreError),
    /// The journal cannot be used, or not any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn no_client(reasons: &[String]) -> String {
    match reasons {
        [] => "no client has dialled in: start `hydra-client --connect` with this host's name on others, or wait \
               longer (--client-timeout)"
            .to_owned(),
        reasons => format!("no client can be used: {}", reasons.join("; ")),
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was walked, but for what is set aside.
    Done,
    /// Work is left, for this reason.
    Incomplete(String),
    /// The user stopped it.
    Interrupted,
}

/// What a job has found.
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Counts and errors of the walk.
    pub walk: WalkSummary,
    /// The plugin's sum.
    pub reducer: Box<dyn Reduce>,
    /// The first of what could not be finished, by path: at most [`LISTED_MAX`].
    pub set_aside: Vec<SetAside>,
    /// How much that is in all.
    pub set_aside_count: u64,
    /// How many of the roots were walked.
    pub roots_walked: usize,
    /// How many were not, because they did not answer; they are set aside.
    pub roots_silent: usize,
    /// Clients that took part, by name.
    pub clients: Vec<ClientRun>,
    /// What the user was warned of: clients that were done without, or see another tree.
    pub warnings: Vec<String>,
    /// From the first grant to the last commit.
    pub elapsed: Duration,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome")
            .field("ending", &self.ending)
            .field("walk", &self.walk)
            .field("set_aside", &self.set_aside)
            .finish_non_exhaustive()
    }
}

/// Something that could not be finished.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetAside {
    /// The root, directory or entry, as results show it: [`PATH_KEPT_MAX`] bytes of it.
    pub path: KeptPath,
    /// What of it is missing.
    pub part: Part,
    /// Why, in words.
    pub reason: String,
}

/// What is missing of something that could not be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// A root: all of it.
    Root,
    /// A directory: what lies in it. It counts itself, as an entry of the one above.
    Directory,
    /// An entry, and what lies below it.
    Entry,
    /// Some of a directory's entries, and what lies below them.
    Entries,
    /// What was not read of a directory's listing.
    Rest,
    /// The end of a directory: the plugin was not told that all its entries were shown.
    End,
}

impl Part {
    /// What is missing by an item, and the path that tells it best, below the root.
    fn of(item: &Item) -> (Self, Vec<u8>) {
        let mut path = item.path();
        let part = match item.parcel() {
            Parcel::Dirs(_) if path.is_empty() => Self::Root,
            Parcel::Dirs(_) => Self::Directory,
            Parcel::Names(Names { names, .. }) if names.len() == 1 => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(names.get(0).unwrap_or_default());
                Self::Entry
            }
            Parcel::Names(_) => Self::Entries,
            Parcel::Rest(_) => Self::Rest,
            Parcel::After(_) => Self::End,
        };
        (part, path)
    }
}

/// The most of it that a report lists.
pub const LISTED_MAX: usize = 1000;

/// The first of what was set aside, by path, and how much there is.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Numbered, since parts of one directory are alike.
    first: BTreeSet<(SetAside, u64)>,
    count: u64,
}

impl Listed {
    /// What this parent has set aside.
    pub(crate) fn of(parent: &Parent, spec: &JobSpec) -> Self {
        let mut listed = Self::default();
        for aside in parent.aside() {
            let root = spec.root(aside.item.root());
            let (part, path) = Part::of(&aside.item);
            let path = root.map(|root| root.show(&path));
            listed.add(&path.unwrap_or_default(), part, &aside.reason);
        }
        // What cannot be read is missing all the same.
        listed.count = parent.counts().aside;
        listed
    }

    pub(crate) fn add(&mut self, path: &[u8], part: Part, reason: &str) {
        let path = KeptPath::new(path, PATH_KEPT_MAX);
        self.count += 1;
        let is_full = self.first.len() >= LISTED_MAX;
        if is_full && self.first.last().is_some_and(|(last, _)| last.path < path) {
            return;
        }
        let mut reason = reason.to_owned();
        shorten(&mut reason, MESSAGE_BYTES_MAX);
        let aside = SetAside { path, part, reason };
        self.first.insert((aside, self.count));
        if self.first.len() > LISTED_MAX {
            self.first.pop_last();
        }
    }

    /// Both.
    pub(crate) fn end(self) -> (Vec<SetAside>, u64) {
        let first = self.first.into_iter().map(|(aside, _)| aside);
        (first.collect(), self.count)
    }
}

/// What one client did, over all its sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRun {
    /// As it was dialled, or as it named itself; with a number if another one that is there has that name.
    pub name: String,
    /// Workers that it has.
    pub workers: u32,
    /// Entries that it counted.
    pub entries: u64,
    /// Commits that it made.
    pub commits: u64,
    /// Grants that it got.
    pub grants: u64,
    /// Times that it was asked for work.
    pub sheds: u64,
    /// Workers of its that died.
    pub lost_workers: u64,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries counted.
    pub entries: u64,
    /// Directories that wait, as far as is known.
    pub frontier: u64,
    /// Workers that have something to do.
    pub busy: u32,
    /// All workers.
    pub workers: u32,
    /// Clients that are connected.
    pub clients: usize,
    /// Since the work began.
    pub elapsed: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::ids::{ItemId, RootId};
    use hydra_proto::item::{After, Dirs, Listing, NameList, Rest};

    const ID: ItemId = ItemId(7);
    const ROOT: RootId = RootId(0);

    fn list(names: &[&str]) -> NameList {
        names.iter().map(|name| name.as_bytes()).collect()
    }

    fn dirs(dir: &str, names: &[&str]) -> Parcel {
        Parcel::Dirs(Dirs {
            first: ID,
            root: ROOT,
            dir: dir.into(),
            names: list(names),
        })
    }

    fn names(dir: &str, names: &[&str]) -> Parcel {
        Parcel::Names(Names {
            id: ID,
            root: ROOT,
            dir: dir.into(),
            visit: None,
            types: vec![0; names.len()],
            names: list(names),
            begun: false,
        })
    }

    fn rest(dir: &str) -> Parcel {
        Parcel::Rest(Rest {
            id: ID,
            root: ROOT,
            dir: dir.into(),
            visit: None,
            read: Listing::default(),
        })
    }

    fn end(dir: &str) -> Parcel {
        Parcel::After(After {
            id: ID,
            root: ROOT,
            dir: dir.into(),
            visit: ID,
        })
    }

    #[test]
    fn parts_of_a_directory_were_named_as_if_nothing_of_it_was_walked() {
        for (parcel, part, path) in [
            (dirs("", &[""]), Part::Root, ""),
            (dirs("", &["a"]), Part::Directory, "a"),
            (dirs("a", &["b"]), Part::Directory, "a/b"),
            (names("a", &["b"]), Part::Entry, "a/b"),
            (names("", &["b"]), Part::Entry, "b"),
            (names("a", &["b", "c"]), Part::Entries, "a"),
            (rest("a"), Part::Rest, "a"),
            (end("a"), Part::End, "a"),
        ] {
            let (_, item) = Item::unpack(parcel).next().expect("an item");
            assert_eq!(Part::of(&item), (part, path.into()));
        }
    }

    #[test]
    fn the_first_by_path_are_listed_and_all_are_counted() {
        let mut listed = Listed::default();
        for number in (0..LISTED_MAX + 10).rev() {
            let path = format!("{number:05}").into_bytes();
            listed.add(&path, Part::Rest, "why");
            listed.add(&path, Part::Entries, "why");
        }
        let (first, count) = listed.end();
        assert_eq!(count as usize, 2 * (LISTED_MAX + 10));
        assert_eq!(first.len(), LISTED_MAX);
        let part = |index: usize| (&first[index].path.bytes[..], first[index].part);
        assert_eq!(part(0), (&b"00000"[..], Part::Entries));
        assert_eq!(part(1), (&b"00000"[..], Part::Rest));
        assert_eq!(part(LISTED_MAX - 1), (&b"00499"[..], Part::Rest));
    }

    #[test]
    fn what_was_set_aside_was_listed_with_paths_of_any_length() {
        let mut listed = Listed::default();
        let long = |number| format!("/{number:03}/{}", "d/".repeat(PATH_KEPT_MAX));
        for number in (0..3).rev() {
            listed.add(
                long(number).as_bytes(),
                Part::Directory,
                &"x".repeat(1 << 20),
            );
        }
        let (first, count) = listed.end();
        assert_eq!((first.len(), count), (3, 3));
        for (number, aside) in first.iter().enumerate() {
            assert!(aside.path.cut && aside.path.bytes.len() == PATH_KEPT_MAX);
            assert!(long(number).as_bytes().starts_with(&aside.path.bytes));
            assert!(aside.reason.len() <= MESSAGE_BYTES_MAX);
        }
    }
}
