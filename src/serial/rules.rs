//! What is left out: globs, mounts, snapshot directories and pseudo file systems.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use hydra_proto::job::WalkOptions;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names of directories through which file systems show their snapshots.
const SNAPSHOTS: [&[u8]; 4] = [b".snapshot", b".snapshots", b".zfs", b".ckpt"];

/// File systems that hold no data but the kernel's own state: `f_type` of `statfs` and name.
const PSEUDO: [(u32, &str); 21] = [
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x0000_1cd1, "devpts"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x6265_6570, "configfs"),
    (0x6573_5543, "fusectl"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x1980_0202, "mqueue"),
    (0x6759_6969, "rpc_pipefs"),
    (0x6e66_7364, "nfsd"),
    (0x6e73_6673, "nsfs"),
    (0x0765_5821, "resctrl"),
];

/// The rules of a job.
pub(super) struct Rules {
    excludes: GlobSet,
    one_file_system: bool,
    snapshots: bool,
    pseudo: bool,
}

/// What to do with a directory that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DirRule {
    Walk,
    Mount,
    Snapshot,
    Pseudo(&'static str),
}

impl Rules {
    pub(super) fn new(options: &WalkOptions) -> Result<Self, globset::Error> {
        Ok(Self {
            excludes: compile_globs(&options.excludes)?,
            one_file_system: options.one_file_system,
            snapshots: options.snapshots,
            pseudo: options.pseudo,
        })
    }

    /// Whether a glob excludes `path`, which is relative to its root.
    pub(super) fn excludes(&self, path: &[u8]) -> bool {
        self.excludes.is_match(Path::new(OsStr::from_bytes(path)))
    }

    /// Whether to walk the directory `path`. `mounted`: it is on another file system than its parent.
    pub(super) fn directory(
        &self,
        path: &[u8],
        mounted: bool,
        fs_type: impl FnOnce() -> io::Result<u32>,
    ) -> DirRule {
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        if !self.snapshots && SNAPSHOTS.contains(&name) {
            return DirRule::Snapshot;
        }
        if mounted && self.one_file_system {
            return DirRule::Mount;
        }
        // Where the type cannot be told, the walk will meet the same error and report it.
        if mounted
            && !self.pseudo
            && let Ok(found) = fs_type()
            && let Some((_, name)) = PSEUDO.iter().find(|(magic, _)| *magic == found)
        {
            return DirRule::Pseudo(name);
        }
        DirRule::Walk
    }
}

/// Compiles globs as Hydra understands them: `*` and `?` do not match `/`, `**` does.
fn compile_globs(globs: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let mut builder = GlobBuilder::new(glob);
        builder.literal_separator(true).empty_alternates(true);
        set.add(builder.build()?);
    }
    set.build()
}

/// The type of the file system that `dir` is on.
pub(super) fn fs_type(dir: &File) -> io::Result<u32> {
    // The type is a 32-bit number in a field whose width and sign differ between machines.
    Ok(rustix::fs::fstatfs(dir)?.f_type as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(options: WalkOptions) -> Rules {
        Rules::new(&options).unwrap()
    }

    fn excludes(glob: &str, path: &[u8]) -> bool {
        let excludes = vec![glob.to_owned()];
        rules(WalkOptions {
            excludes,
            ..WalkOptions::default()
        })
        .excludes(path)
    }

    #[test]
    fn a_star_stays_within_a_name() {
        assert!(excludes("*.o", b"a.o"));
        assert!(!excludes("*.o", b"d/a.o"));
        assert!(excludes("**/*.o", b"d/e/a.o"));
        assert!(excludes("**/*.o", b"a.o"));
        assert!(excludes("d/**", b"d/e/f"));
        assert!(!excludes("d/**", b"d"));
        assert!(excludes("*", b"\xff\n"));
    }

    #[test]
    fn directories_are_left_out_by_mount_name_and_type() {
        let none = || -> io::Result<u32> { Ok(0xef53) };
        let proc = || -> io::Result<u32> { Ok(0x9fa0) };
        let plain = rules(WalkOptions::default());
        assert_eq!(plain.directory(b"a/b", true, none), DirRule::Walk);
        assert_eq!(plain.directory(b"a/.zfs", false, none), DirRule::Snapshot);
        assert_eq!(plain.directory(b"p", true, proc), DirRule::Pseudo("proc"));
        assert_eq!(plain.directory(b"p", false, proc), DirRule::Walk);
        let open = rules(WalkOptions {
            snapshots: true,
            pseudo: true,
            ..WalkOptions::default()
        });
        assert_eq!(open.directory(b"a/.zfs", true, proc), DirRule::Walk);
        let narrow = rules(WalkOptions {
            one_file_system: true,
            ..WalkOptions::default()
        });
        assert_eq!(narrow.directory(b"p", true, proc), DirRule::Mount);
        assert_eq!(narrow.directory(b"p", false, proc), DirRule::Walk);
    }
}
