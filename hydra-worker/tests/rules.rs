//! What is counted, what is left out, and what goes wrong in a tree.

mod common;

use common::*;
use hydra_proto::job::{JobSpec, RootSpec, WalkOptions};
use hydra_proto::walk::WalkSummary;
use hydra_worker::{Entry, Facts, Identity, Sink, Visit, Wants};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

fn walk(spec: JobSpec, visit: impl Visit) -> Cluster {
    let mut cluster = Cluster::new(spec);
    cluster.worker(visit);
    cluster.finish();
    cluster
}

fn names(cluster: &Cluster, root: &Path) -> Vec<String> {
    let root = root.as_os_str().as_bytes();
    let below = |path: &Vec<u8>| {
        let rest = path.strip_prefix(root).unwrap_or(path);
        String::from_utf8_lossy(rest).into_owned()
    };
    cluster.paths(b'e').iter().map(below).collect()
}

fn sample() -> tempfile::TempDir {
    let dir = scratch();
    for path in ["a/b", "a/.snapshot/old", "build/x/tmp"] {
        std::fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    for path in [
        "a/f.o",
        "a/b/f.o",
        "f.o",
        "build/x/tmp/t",
        "a/.snapshot/old/s",
    ] {
        std::fs::write(dir.path().join(path), b"12").unwrap();
    }
    dir
}

#[test]
fn excluded_entries_are_neither_counted_nor_entered() {
    let dir = sample();
    let mut spec = job(dir.path());
    spec.walk.excludes = vec!["*.o".to_owned(), "build/**/tmp".to_owned()];
    let cluster = walk(spec, Paths::default());
    let expected = [
        "",
        "/a",
        "/a/.snapshot",
        "/a/b",
        "/a/b/f.o",
        "/a/f.o",
        "/build",
        "/build/x",
    ];
    assert_eq!(names(&cluster, dir.path()), expected);
    assert_eq!(cluster.walk.excluded, 2);
    assert_eq!(cluster.walk.skipped_snapshots, 1);
}

#[test]
fn snapshots_are_entered_when_asked() {
    let dir = sample();
    let mut spec = job(dir.path());
    spec.walk.snapshots = true;
    let cluster = walk(spec, Paths::default());
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
    assert_eq!(cluster.walk.skipped_snapshots, 0);
}

#[test]
fn a_nested_root_is_counted_once() {
    let dir = sample();
    let mut spec = job(dir.path());
    let inner = dir.path().join("a").as_os_str().as_bytes().to_vec();
    spec.roots[0].stops = vec![serde_bytes::ByteBuf::from(&b"a"[..])];
    spec.roots.push(RootSpec {
        shown: inner.clone(),
        local: inner,
        stops: vec![serde_bytes::ByteBuf::from(&b"b/f.o"[..])],
    });
    spec.walk.snapshots = true;
    let cluster = walk(spec, Paths::default());
    let mut expected = oracle(dir.path());
    let stop = dir.path().join("a/b/f.o");
    expected.retain(|path| path != stop.as_os_str().as_bytes());
    assert_same(&cluster.paths(b'e'), &expected);
    assert_eq!(cluster.walk.entries, expected.len() as u64);
}

#[test]
fn roots_are_taken_as_find_takes_them_with_h() {
    let dir = sample();
    let (file, link, broken, missing) = ("f.o", "link", "broken", "missing");
    symlink("a", dir.path().join(link)).unwrap();
    symlink("nowhere", dir.path().join(broken)).unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name).as_os_str().as_bytes().to_vec();
        RootSpec {
            shown: path.clone(),
            local: path,
            stops: Vec::new(),
        }
    };
    let mut spec = job(dir.path());
    spec.roots = vec![at(file), at(link), at(broken), at(missing)];
    let cluster = walk(spec, Paths::default());
    let expected = [
        "/broken",
        "/f.o",
        "/link",
        "/link/.snapshot",
        "/link/b",
        "/link/b/f.o",
        "/link/f.o",
    ];
    assert_eq!(names(&cluster, dir.path()), expected);
    let walk = &cluster.walk;
    assert_eq!((walk.entries, walk.symlinks, walk.files), (7, 1, 3));
    assert_eq!(walk.errors["ENOENT"], 1);
    assert_eq!(walk.vanished, 0);
}

#[test]
fn a_panic_costs_one_entry() {
    let dir = scratch();
    tree(dir.path(), 2, 2, 3);
    let visit = Paths {
        panic_at: Some(b"f1"),
        ..Paths::default()
    };
    let cluster = walk(job(dir.path()), visit);
    let mut expected = oracle(dir.path());
    let all = expected.len() as u64;
    expected.retain(|path| !path.ends_with(b"/f1"));
    assert_same(&cluster.paths(b'e'), &expected);
    assert_eq!(cluster.walk.entries, all);
    assert_eq!(cluster.walk.errors["PANIC"], all - expected.len() as u64);
    let error = cluster.walk.first_errors.first().unwrap();
    assert!(error.path.bytes.ends_with(b"/f1") && error.message == "as asked");
}

#[test]
fn a_directory_that_the_plugin_skips_is_counted_and_not_read() {
    let dir = sample();
    let visit = Paths {
        skip: Some(b"/a"),
        ..Paths::default()
    };
    let cluster = walk(job(dir.path()), visit);
    let expected = [
        "",
        "/a",
        "/build",
        "/build/x",
        "/build/x/tmp",
        "/build/x/tmp/t",
        "/f.o",
    ];
    assert_eq!(names(&cluster, dir.path()), expected);
}

#[test]
fn whole_directories_are_never_split() {
    let dir = scratch();
    flat(dir.path(), 4000);
    let mut cluster = Cluster::new(job(dir.path()));
    let whole = || Paths {
        wants: Wants {
            whole_directories: true,
            leave: true,
            ..Wants::default()
        },
        calls: true,
        ..Paths::default()
    };
    let identity = || Identity {
        list_buffer: 1,
        ..Identity::default()
    };
    cluster.keep = true;
    cluster.worker_as(whole(), identity());
    cluster.worker_as(whole(), identity());
    cluster.finish();
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
    assert!(cluster.kept.iter().all(|commit| commit.new.is_empty()));
    assert_eq!(cluster.paths(b'o').len(), 1);
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mut command = Command::new("mount");
    let outcome = command.args(arguments).arg(at).output();
    outcome.is_ok_and(|outcome| outcome.status.success())
}

/// Unmounts what is mounted below, whatever happens.
struct Mounted<'a>(Vec<&'a Path>);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = Command::new("umount").arg(path).output();
        }
    }
}

fn walked(root: &Path, options: WalkOptions) -> WalkSummary {
    let mut spec = job(root);
    spec.walk = options;
    walk(spec, Paths::default()).walk
}

#[test]
fn mount_points_are_counted_and_entered_by_the_rules() {
    let dir = scratch();
    let [tmp, proc, bind, a] = ["tmp", "proc", "bind", "a"].map(|name| dir.path().join(name));
    for path in [&tmp, &proc, &bind, &a] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(a.join("f"), b"").unwrap();
    let mounted = mount(&["-t", "tmpfs", "none"], &tmp)
        && mount(&["-t", "proc", "none"], &proc)
        && mount(&["--bind", &a.to_string_lossy()], &bind);
    let _guard = Mounted(vec![&tmp, &proc, &bind]);
    if !mounted {
        eprintln!("skipped: this needs the right to mount");
        return;
    }
    std::fs::write(tmp.join("f"), b"").unwrap();
    let usual = walked(dir.path(), WalkOptions::default());
    assert_eq!((usual.directories, usual.files), (5, 3));
    assert_eq!(usual.skipped_pseudo["proc"], 1);
    let options = WalkOptions {
        one_file_system: true,
        ..WalkOptions::default()
    };
    let one = walked(dir.path(), options);
    assert_eq!((one.directories, one.files, one.skipped_mounts), (5, 2, 2));
    let options = WalkOptions {
        pseudo: true,
        ..WalkOptions::default()
    };
    assert!(walked(dir.path(), options).entries > 100);
}

/// Makes the walking thread an ordinary user's when it is shown the root.
struct Unprivileged(Paths);

impl Visit for Unprivileged {
    type Summary = ();

    fn wants(&self) -> Wants {
        self.0.wants
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        if entry.is_root() && rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_uid(nobody).unwrap();
        }
        self.0.entry(entry, out);
    }
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error_and_counted() {
    let dir = sample();
    let mode = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    };
    let (closed, listed) = (dir.path().join("a"), dir.path().join("build/x"));
    mode(dir.path(), 0o755);
    mode(&closed, 0o000);
    mode(&listed, 0o744);
    let mut visit = with_stat();
    visit.wants.facts = Facts::ALL;
    let cluster = walk(job(dir.path()), Unprivileged(visit));
    mode(&closed, 0o755);
    mode(&listed, 0o755);
    assert_eq!(cluster.walk.errors["EACCES"], 2, "{:?}", cluster.walk);
    let errors: Vec<_> = cluster.walk.first_errors.iter().collect();
    assert_eq!(errors[0].path.bytes, closed.as_os_str().as_bytes());
    assert_eq!(
        (errors[0].operation.as_str(), errors[0].message.as_str()),
        ("open", "permission denied")
    );
    assert!(errors[1].path.bytes.ends_with(b"/build/x/tmp"));
    assert_eq!(errors[1].operation, "stat");
    assert_eq!((cluster.walk.directories, cluster.walk.files), (5, 1));
}

#[test]
fn targets_of_links_are_found() {
    struct Links;
    impl Visit for Links {
        type Summary = ();
        fn wants(&self) -> Wants {
            Wants {
                targets: true,
                ..Wants::default()
            }
        }
        fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
            if let Some(target) = entry.target {
                out.row(&(String::from_utf8_lossy(entry.name), format!("{target:?}")));
            }
        }
    }
    let dir = sample();
    for (to, name) in [
        ("../f.o", "file"),
        ("b", "dir"),
        ("no", "none"),
        ("/etc", "out"),
    ] {
        symlink(to, dir.path().join("a").join(name)).unwrap();
    }
    let cluster = walk(job(dir.path()), Links);
    let mut rows = cluster.rows;
    rows.sort();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| String::from_utf8_lossy(row))
        .collect();
    let expected = [
        r#"["dir","Directory"]"#,
        r#"["file","File"]"#,
        r#"["none","Dangling"]"#,
        r#"["out","Elsewhere"]"#,
    ];
    assert_eq!(rows, expected);
}

/// A file system with a directory that has a device number of its own and is no mount point.
fn with_subvolume(at: &Path) -> bool {
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let outcome = Command::new(program).args(arguments).output();
        outcome.is_ok_and(|outcome| outcome.status.success())
    };
    let image = at.with_extension("image");
    let made = std::fs::File::create(&image).and_then(|file| file.set_len(128 << 20));
    made.is_ok()
        && run("mkfs.btrfs", &[image.as_os_str()])
        && mount(&["-o", "loop", &image.to_string_lossy()], at)
        && run(
            "btrfs",
            &[
                "subvolume".as_ref(),
                "create".as_ref(),
                at.join("sub").as_os_str(),
            ],
        )
}

#[test]
fn a_subvolume_was_entered_although_it_is_another_file_system() {
    let dir = scratch();
    let at = dir.path().join("fs");
    std::fs::create_dir(&at).unwrap();
    let _guard = Mounted(vec![&at]);
    if !with_subvolume(&at) {
        eprintln!("skipped: this needs btrfs and the right to mount");
        return;
    }
    std::fs::write(at.join("sub/f"), b"").unwrap();
    let options = WalkOptions {
        one_file_system: true,
        ..WalkOptions::default()
    };
    let one = walked(&at, options);
    assert_eq!((one.directories, one.files, one.skipped_mounts), (2, 0, 1));
    assert_eq!(walked(&at, WalkOptions::default()).files, 1);
}
