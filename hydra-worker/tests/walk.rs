//! Whole walks, over real sockets, against walkdir.

mod common;

use common::*;
use hydra_worker::Identity;
use std::os::unix::ffi::OsStrExt;

#[test]
fn one_worker_finds_what_walkdir_finds() {
    let dir = scratch();
    tree(dir.path(), 4, 4, 5);
    let mut cluster = Cluster::new(job(dir.path()));
    cluster.worker(Paths::default());
    cluster.finish();
    let expected = oracle(dir.path());
    assert_same(&cluster.paths(b'e'), &expected);
    assert_eq!(cluster.walk.entries, expected.len() as u64);
    assert_eq!(cluster.walk.error_count(), 0);
}

#[test]
fn four_workers_find_what_one_finds() {
    let dir = scratch();
    tree(dir.path(), 5, 5, 5);
    let mut cluster = Cluster::new(job(dir.path()));
    for _ in 0..4 {
        cluster.worker(with_stat());
    }
    cluster.finish();
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
    assert!(cluster.gives > 0);
}

#[test]
fn names_of_any_bytes_and_length_are_walked() {
    let dir = scratch();
    let names: [&[u8]; 6] = [b"\n", b"\xff\xfe", b" ", b"-rf", b"\x1b[31m", &[b'n'; 255]];
    for outer in names {
        let outer = dir.path().join(std::ffi::OsStr::from_bytes(outer));
        std::fs::create_dir(&outer).unwrap();
        for inner in names {
            std::fs::write(outer.join(std::ffi::OsStr::from_bytes(inner)), b"").unwrap();
        }
    }
    let mut cluster = Cluster::new(job(dir.path()));
    cluster.worker(with_stat());
    cluster.worker(with_stat());
    cluster.finish();
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
}

#[test]
fn a_chain_far_beyond_the_longest_path_is_walked_to_its_end() {
    let dir = scratch();
    let depth = 5000;
    let script = "import os,sys\nos.chdir(sys.argv[1])\n\
        for i in range(int(sys.argv[2])):\n os.mkdir('chain'); open('f','w').close(); os.chdir('chain')";
    let made = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(dir.path())
        .arg(depth.to_string())
        .status()
        .unwrap();
    assert!(made.success());
    let mut cluster = Cluster::new(job(dir.path()));
    cluster.worker(Count);
    cluster.worker(Count);
    cluster.finish();
    assert_eq!(cluster.walk.directories, depth + 1);
    assert_eq!(cluster.walk.files, depth);
    assert_eq!(cluster.walk.error_count(), 0);
    let removed = std::process::Command::new("rm")
        .arg("-rf")
        .arg(dir.path())
        .status();
    assert!(removed.unwrap().success());
}

#[test]
fn a_flat_directory_is_shared_exactly() {
    let dir = scratch();
    flat(dir.path(), 50_000);
    let mut cluster = Cluster::new(job(dir.path()));
    let workers = [cluster.worker(with_stat()), cluster.worker(with_stat())];
    cluster.finish();
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
    for worker in workers {
        // How much of it depends on who else wants the processors.
        assert!(cluster.entries[&worker] > 0, "{:?}", cluster.entries);
    }
}

#[test]
fn types_are_found_out_where_directories_do_not_tell() {
    let dir = scratch();
    tree(dir.path(), 3, 3, 3);
    std::os::unix::fs::symlink("f0", dir.path().join("link")).unwrap();
    let mut cluster = Cluster::new(job(dir.path()));
    let identity = || Identity {
        distrust_types: true,
        list_buffer: 1,
        ..Identity::default()
    };
    cluster.worker_as(Paths::default(), identity());
    cluster.worker_as(Paths::default(), identity());
    cluster.finish();
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
    assert_eq!(cluster.walk.symlinks, 1);
}
