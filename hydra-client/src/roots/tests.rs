//! Tests of where a root is looked for.

use super::*;

fn maps(pairs: &[(&str, &str)]) -> Vec<PathMap> {
    let map = |(server, local): &(&str, &str)| PathMap {
        server: server.as_bytes().to_vec(),
        local: local.as_bytes().to_vec(),
    };
    pairs.iter().map(map).collect()
}

fn check(pairs: &[(&str, &str)], path: &str, expected: &str) {
    let mapped = map_path(&maps(pairs), path.as_bytes());
    assert_eq!(String::from_utf8(mapped).unwrap(), expected, "{path}");
}

#[test]
fn a_prefix_ends_between_components() {
    let pairs = [("/data", "/mnt/a")];
    check(&pairs, "/data", "/mnt/a");
    check(&pairs, "/data/", "/mnt/a/");
    check(&pairs, "/data/x/", "/mnt/a/x/");
    check(&pairs, "/other/", "/other/");
    check(&pairs, "/data/x/y", "/mnt/a/x/y");
    check(&pairs, "/database", "/database");
    check(&pairs, "/other/data", "/other/data");
}

#[test]
fn the_longest_prefix_counts() {
    let pairs = [("/data", "/a"), ("/data/big/", "/b/"), ("/", "/all")];
    check(&pairs, "/data/x", "/a/x");
    check(&pairs, "/data/big/x", "/b/x");
    check(&pairs, "/elsewhere", "/all/elsewhere");
    check(&pairs, "/", "/all");
}

#[test]
fn the_root_directory_can_be_the_target() {
    check(&[("/data", "/")], "/data", "/");
    check(&[("/data", "/")], "/data/x", "/x");
}

/// A looker that hangs at a mount, as far as others can tell.
fn left_at(mount: &str) -> Left {
    let mut sleep = tokio::process::Command::new("sleep");
    Left {
        process: sleep.arg("1000").kill_on_drop(true).spawn().unwrap(),
        mounts: BTreeSet::from([mount.into()]),
    }
}

#[tokio::test]
async fn each_job_left_another_process_at_a_dead_mount() {
    let mut left = LeftBehind::default();
    for _ in 1..LEFT_BEHIND_MAX {
        left.add(Some(left_at("/dead")));
    }
    left.add(Some(left_at("/other")));
    assert_eq!(left.shunned(), BTreeSet::new());
    left.add(Some(left_at("/dead")));
    assert_eq!(left.shunned(), BTreeSet::from([b"/dead".to_vec()]));
    // One comes back.
    left.0[0].process.kill().await.unwrap();
    assert_eq!(left.shunned(), BTreeSet::new());
}
