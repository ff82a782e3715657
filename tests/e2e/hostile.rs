//! Trees that break careless walkers: the totals are those of `find` and `du`, whoever looks.

use super::common::{
    Lab, Process, REFERENCE_TIME, chain, find, forest, is_root, long_chain, oracle,
    remove_long_chain, truth, unchain, without_run,
};
use hydra_bench::tree::{Shape, build};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// An ordinary user.
const NOBODY: u32 = 65534;

/// A lab with the hostile tree, which everybody may reach.
fn hostile() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let tree = lab.path("tree");
    build(Shape::Hostile, &tree, 1, 1.0).unwrap();
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    (lab, tree)
}

/// What only the count of entries can tell.
fn counted(totals: &Value) -> Value {
    let keys = ["entries", "directories", "files", "symlinks", "other"];
    keys.iter()
        .map(|key| (key.to_string(), totals[key].clone()))
        .collect()
}

#[test]
fn a_hostile_tree_is_what_find_and_du_say() {
    let (lab, tree) = hostile();
    let truth = truth(&tree);
    let alone = lab.alone(&[], &[&tree]);
    assert_eq!(alone["totals"], truth);
    assert_eq!(lab.serial(&[], &[&tree]), alone);
    let (_clients, list) = lab.listen_all(3, &["--workers", "1"]);
    for more in [
        &["--serial"][..],
        &["--workers", "3"],
        &["--clients", &list],
    ] {
        let mut server = lab.server();
        server.arg("count").args(more).arg(&tree);
        let report = lab.run(server).report();
        assert_eq!(counted(&report["totals"]), counted(&truth), "{more:?}");
        assert!(report["totals"]["apparent_bytes"].is_null());
    }
    let mut server = lab.audit();
    server.args(["--clients", &list]).arg(&tree);
    assert_eq!(without_run(lab.run(server).report()), alone);
}

/// The command as an ordinary user, if the tests run as root.
fn as_nobody(mut command: Command) -> Command {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[test]
fn an_ordinary_user_gets_the_totals_of_find_and_the_errors_by_name() {
    let (lab, tree) = hostile();
    // The program must be where an ordinary user can reach it.
    let program = lab.path("hydra-server");
    fs::copy(env!("CARGO_BIN_EXE_hydra-server"), &program).unwrap();
    let mut command = Command::new("find");
    command.arg("-H").arg(&tree);
    let mut truth = oracle::counts(&mut as_nobody(command));
    // In dir-0444 names can be read and nothing more: `find` does not count the directory there.
    for key in ["entries", "directories"] {
        truth[key] = json!(truth[key].as_u64().unwrap() + 1);
    }
    let mut reports = Vec::new();
    for more in [&["--serial"][..], &["--workers", "3"]] {
        let mut server = lab.command(&program);
        server.args(["--json", "--reference-time", REFERENCE_TIME]);
        server.args(more).arg(&tree);
        let ran = Process::start(as_nobody(server)).finish();
        let report = without_run(ran.assert_status(1).report());
        assert_eq!(report["complete"], true);
        assert_eq!(counted(&report["totals"]), counted(&truth), "{more:?}");
        let errors = &report["errors"];
        assert_eq!(errors["count"], errors["by_kind"]["EACCES"]);
        let first = errors["first"].as_array().unwrap();
        for name in ["dir-0000", "dir-0111", "dir-0333"] {
            let path = tree.join("modes").join(name);
            let is_it = |error: &&Value| error["path"] == path.to_str().unwrap();
            let error = first.iter().find(is_it).unwrap();
            assert_eq!(error["operation"], "open");
        }
        reports.push(report);
    }
    assert_eq!(reports[0], reports[1]);
}

#[test]
fn a_hundred_errors_with_long_paths_ended_worker_after_worker() {
    const DEPTH: usize = 680;
    const CLOSED: usize = 100;
    let lab = Lab::in_memory();
    let tree = lab.path("tree");
    long_chain(&tree, DEPTH, CLOSED);
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let program = lab.path("hydra-server");
    fs::copy(env!("CARGO_BIN_EXE_hydra-server"), &program).unwrap();
    let reports = [&["--serial"][..], &["--workers", "2"]].map(|more| {
        let mut server = lab.command(&program);
        server.args(["--json", "--reference-time", REFERENCE_TIME]);
        server.args(more).arg(&tree);
        let ran = Process::start(as_nobody(server)).finish();
        ran.assert_status(1).report()
    });
    remove_long_chain(&tree, CLOSED);
    assert_eq!(reports[1]["run"]["clients"][0]["lost_workers"], 0);
    let [alone, together] = reports.map(without_run);
    assert_eq!(alone, together);
    let errors = &alone["errors"];
    assert_eq!(errors["by_kind"], json!({ "EACCES": CLOSED }));
    // They are the same as far as they are kept.
    let first = errors["first"].as_array().unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["path_cut"], true);
    assert_eq!(first[0]["path"].as_str().unwrap().len(), 4096);
}

#[test]
fn roots_may_be_anything() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    forest(&tree, 60);
    symlink("tree", lab.path("to-dir")).unwrap();
    symlink("tree/d0/a.txt", lab.path("to-file")).unwrap();
    symlink("nowhere", lab.path("dangling")).unwrap();
    fs::write(lab.path("file"), "text").unwrap();
    nix::unistd::mkfifo(&lab.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["file", "to-dir", "to-file", "dangling", "fifo", "tree"] {
        let path = lab.path(name);
        let report = lab.alone(&[], &[&path]);
        assert_eq!(report["totals"], find::<&str>(&[&path], &[]), "{name}");
        assert_eq!(report, lab.serial(&[], &[&path]), "{name}");
    }
    // Nested and repeated ones are walked once.
    let (nested, link) = (tree.join("d1"), lab.path("to-dir"));
    let totals = find::<&str>(&[&tree], &[]);
    for roots in [[&tree, &nested, &tree], [&nested, &tree, &nested]] {
        let roots = roots.map(PathBuf::as_path);
        let report = lab.alone(&[], &roots);
        assert_eq!(report["totals"], totals);
        assert_eq!(report["roots"].as_array().unwrap().len(), 2);
        assert_eq!(report, lab.serial(&[], &roots));
    }
    // By another name it is another tree, though the same inodes.
    let report = lab.alone(&[], &[&tree, &link]);
    assert_eq!(report, lab.serial(&[], &[&tree, &link]));
}

#[test]
fn what_is_left_out_is_not_counted_and_named() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    forest(&tree, 200);
    for name in [".snapshot", ".zfs", "d1/.snapshots", "d2/.ckpt"] {
        fs::create_dir_all(tree.join(name).join("old")).unwrap();
    }
    // An excluded directory is not even opened.
    let closed = tree.join("d2/closed");
    fs::create_dir(&closed).unwrap();
    fs::write(lab.path("globs"), "# big ones\n**/sparse.*\n").unwrap();
    let from = lab.path("globs");
    let options = [
        "-E",
        "d0/d4",
        "-E",
        "**/closed",
        "--exclude-from",
        from.to_str().unwrap(),
    ];
    let report = lab.alone(&options, &[&tree]);
    let path = |name: &str| tree.join(name).to_str().unwrap().to_owned();
    let d4 = path("d0/d4");
    let prune = [
        "-path", &d4, "-prune", "-o", "-name", "closed", "-prune", "-o",
    ];
    let files = [
        "-name",
        "sparse.*",
        "-o",
        "-path",
        "*/.snapshot*/*",
        "-prune",
        "-o",
    ];
    let more = [
        "-path",
        "*/.zfs/*",
        "-prune",
        "-o",
        "-path",
        "*/.ckpt/*",
        "-prune",
        "-o",
    ];
    assert_eq!(
        report["totals"],
        find(&[&tree], &[&prune[..], &files, &more].concat())
    );
    assert_eq!(report["skipped"]["snapshots"], 4);
    assert_eq!(report, lab.serial(&options, &[&tree]));
    let all = lab.alone(&["--enter-snapshots"], &[&tree]);
    assert_eq!(all["totals"], truth(&tree));
}

/// A command in a mount namespace of its own, where `script` has mounted something first.
fn with_mounts(mut command: Command, script: &str) -> Command {
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut outer = Command::new("unshare");
    outer.args(["-m", "sh", "-ec"]);
    outer.arg(format!("{script}\nexec \"$@\"")).arg("sh");
    outer.arg(command.get_program()).args(arguments);
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap_or_default());
    }
    outer.stdin(std::process::Stdio::null());
    command = outer;
    command
}

#[test]
fn mounts_are_crossed_or_not_and_pseudo_file_systems_are_skipped() {
    if !is_root("mounts below a root") {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    forest(&tree, 30);
    for name in ["ram", "proc", "bound"] {
        fs::create_dir(tree.join(name)).unwrap();
    }
    let shown = tree.display();
    let script = format!(
        "mount -t tmpfs tmpfs '{shown}/ram'; echo x > '{shown}/ram/file'; mkdir '{shown}/ram/dir'
         mount -t proc proc '{shown}/proc'; mount --bind '{shown}/d1' '{shown}/bound'"
    );
    let proc = format!("{shown}/proc/*");
    for (ours, theirs) in [
        (&[][..], &["-path", &proc, "-prune", "-o"][..]),
        (&["-x"], &["-xdev"]),
    ] {
        let mut oracle = Command::new("find");
        oracle.arg("-H").arg(&tree).args(theirs);
        let truth = oracle::totals(&mut with_mounts(oracle, &script));
        let mut reports = Vec::new();
        for way in ["--serial", "--workers=3"] {
            let mut server = lab.audit();
            server.arg(way).args(ours).arg(&tree);
            let ran = lab.run(with_mounts(server, &script));
            reports.push(without_run(ran.assert_status(0).report()));
        }
        assert_eq!(reports[0], reports[1]);
        assert_eq!(counted(&reports[1]["totals"]), counted(&truth), "{ours:?}");
        if ours.is_empty() {
            assert_eq!(reports[1]["skipped"]["pseudo"], json!({"proc": 1}));
        }
    }
}

#[test]
fn a_chain_of_a_hundred_thousand_directories_is_walked_in_bounded_memory() {
    const DEPTH: usize = 100_000;
    // What `find` and `du` cost grows faster than the depth.
    const CHECKED: usize = 5_000;
    let lab = Lab::in_memory();
    let tree = lab.path("chain");
    chain(&tree, DEPTH);
    let mut server = lab.server();
    server.args(["count", "--workers", "2"]).arg(&tree);
    // In KiB of address space, for the server and each worker.
    let mut bounded = lab.command("sh");
    bounded.args(["-c", "ulimit -v 1500000; exec \"$@\"", "sh"]);
    bounded.arg(server.get_program()).args(server.get_args());
    let ran = lab.run(bounded);
    let report = ran.assert_status(0).report();
    assert_eq!(report["totals"]["directories"], DEPTH + 1);
    assert_eq!(report["totals"]["files"], 1);
    assert_eq!(report["run"]["clients"][0]["lost_workers"], 0);
    // Here a path for each directory would take minutes.
    let report = lab.alone(&[], &[&tree]);
    assert_eq!(report["totals"]["directories"], DEPTH + 1);
    assert_eq!(report["totals"]["files"], 1);
    let directories = &report["audit"]["directories"];
    assert_eq!(directories["deepest"]["depth"], DEPTH);
    assert_eq!(directories["deepest"]["path_cut"], true);
    assert_eq!(
        directories["fullest"]["path"],
        tree.to_string_lossy().as_ref()
    );
    unchain(&tree);

    let tree = lab.path("checked");
    chain(&tree, CHECKED);
    assert_eq!(lab.alone(&[], &[&tree])["totals"], truth(&tree));
}
