//! What the walk leaves out: by name, by glob, and at mount points.

use crate::session::WorkerError;
use crate::sys::open::Mounts;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use hydra_proto::job::{RootSpec, WalkOptions};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names of directories that hold snapshots of the tree they are in.
const SNAPSHOTS: [&[u8]; 4] = [b".snapshot", b".snapshots", b".zfs", b".ckpt"];

/// The rules of a job.
pub(super) struct Rules {
    excludes: Option<GlobSet>,
    snapshots: bool,
    pub(super) pseudo: bool,
    pub(super) one_file_system: bool,
}

impl Rules {
    pub(super) fn new(options: &WalkOptions) -> Result<Self, WorkerError> {
        let excludes = match options.excludes.is_empty() {
            true => None,
            false => Some(compile(&options.excludes)?),
        };
        Ok(Self {
            excludes,
            snapshots: options.snapshots,
            pseudo: options.pseudo,
            one_file_system: options.one_file_system,
        })
    }

    /// Whether paths have to be looked at.
    #[inline]
    pub(super) fn has_excludes(&self) -> bool {
        self.excludes.is_some()
    }

    /// Whether a glob excludes this path below the root.
    pub(super) fn excludes(&self, path: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.excludes.as_ref().is_some_and(|set| set.is_match(path))
    }

    /// Whether a directory of this name is counted and not entered.
    #[inline]
    pub(super) fn is_skipped_snapshot(&self, name: &[u8]) -> bool {
        name.first() == Some(&b'.') && !self.snapshots && SNAPSHOTS.contains(&name)
    }

    /// What opening a directory does at a mount point.
    pub(super) fn mounts(&self) -> Mounts {
        match self.pseudo && !self.one_file_system {
            true => Mounts::Cross,
            false => Mounts::Detect,
        }
    }
}

fn compile(patterns: &[String]) -> Result<GlobSet, WorkerError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = |source| WorkerError::Glob {
            pattern: pattern.clone(),
            source,
        };
        let mut builder = GlobBuilder::new(pattern);
        builder.literal_separator(true).empty_alternates(true);
        set.add(builder.build().map_err(bad)?);
    }
    set.build().map_err(|source| WorkerError::Globs {
        count: patterns.len(),
        source,
    })
}

/// The names in the directory `path` that are roots of their own, with a slash where only a directory is one.
pub(super) fn stops_in<'a>(root: &'a RootSpec, path: &[u8]) -> Vec<&'a [u8]> {
    let below = |stop: &'a serde_bytes::ByteBuf| {
        let rest = stop.as_slice().strip_prefix(path)?;
        match path.is_empty() {
            true => Some(rest),
            false => rest.strip_prefix(b"/"),
        }
    };
    let names = root.stops.iter().filter_map(below);
    let is_name = |name: &&[u8]| !name.strip_suffix(b"/").unwrap_or(name).contains(&b'/');
    // A stop with a slash leaves nothing of its name in itself.
    names
        .filter(|name| !name.is_empty())
        .filter(is_name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(excludes: &[&str]) -> Rules {
        let excludes = excludes.iter().map(|&glob| glob.to_owned()).collect();
        Rules::new(&WalkOptions {
            excludes,
            ..WalkOptions::default()
        })
        .unwrap()
    }

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        let rules = rules(&["*.o", "build/**/tmp"]);
        assert!(rules.excludes(b"x.o") && !rules.excludes(b"a/x.o"));
        assert!(rules.excludes(b"build/a/b/tmp") && !rules.excludes(b"a/build/tmp"));
    }

    #[test]
    fn an_alternative_with_nothing_in_it_was_left_out() {
        let rules = rules(&["core{,.*}"]);
        assert!(rules.excludes(b"core") && rules.excludes(b"core.12"));
        assert!(!rules.excludes(b"cores"));
    }

    #[test]
    fn names_of_any_bytes_are_matched() {
        assert!(rules(&["**/*.o"]).excludes(b"a\xff/\n\xfe.o"));
    }

    #[test]
    fn a_bad_glob_is_named() {
        let options = WalkOptions {
            excludes: vec!["a[".to_owned()],
            ..WalkOptions::default()
        };
        let error = Rules::new(&options).err().unwrap();
        assert!(error.to_string().contains("a["));
    }

    #[test]
    fn nested_roots_are_found_in_their_parents() {
        let root = RootSpec {
            stops: [&b"a/b"[..], b"c", b"ab/x", b"d/", b"d/e/"]
                .map(serde_bytes::ByteBuf::from)
                .to_vec(),
            ..RootSpec::default()
        };
        assert_eq!(stops_in(&root, b""), [&b"c"[..], b"d/"]);
        assert_eq!(stops_in(&root, b"d"), [b"e/"]);
        assert_eq!(stops_in(&root, b"a"), [b"b"]);
        assert!(stops_in(&root, b"a/b").is_empty());
    }
}
