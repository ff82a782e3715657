//! The programs in `examples/`, each in one thread and with real workers, against what must come out.
//!
//! `cargo test` builds them; with `--test examples` alone, `cargo build --examples` must have come first.

mod check;
mod exec;
mod purge;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// Who walks: this process alone, or workers.
const WAYS: [&[&str]; 2] = [&["--serial"], &["--workers", "3"]];
/// The same for what acts, and workers that put on record what they are about to do.
const ACTING_WAYS: [&[&str]; 3] = [WAYS[0], WAYS[1], &["--workers", "3", "--intent"]];
/// In seconds.
const DAY: u64 = 86_400;

fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let program = target.join("examples").join(example);
    assert!(program.exists(), "cargo build --examples comes first");
    program
}

fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// What a program had to say.
struct Said {
    status: Option<i32>,
    report: Value,
    rows: Vec<Value>,
    stderr: String,
}

impl Said {
    /// The value of `key` in the rows, by the name at the end of their paths.
    fn by_name(&self, key: &str) -> BTreeMap<String, Value> {
        let rows = self.rows.iter().map(|row| {
            let path = row["path"].as_str().unwrap();
            let name = path.rsplit('/').next().unwrap();
            (name.to_owned(), row[key].clone())
        });
        rows.collect()
    }

    /// Its errors by kind.
    fn kinds(&self) -> Value {
        self.report["errors"]["by_kind"].clone()
    }
}

fn run(example: &str, way: &[&str], arguments: &[&str], path: &Path) -> Said {
    finish(command(program(example)).args(way).args(arguments), path)
}

fn finish(command: &mut Command, path: &Path) -> Said {
    let tmp = tempfile::tempdir().unwrap();
    set_mode(tmp.path(), 0o777);
    let rows = tmp.path().join("rows");
    let output = command
        .args(["--json", "--rows"])
        .args([&rows, path])
        .output()
        .unwrap();
    let lines = fs::read_to_string(rows).unwrap_or_default();
    Said {
        status: output.status.code(),
        report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        rows: lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a file that changed, and was read, so many days ago.
fn write(path: impl AsRef<Path>, content: &str, days: u64) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    age(&path, days);
}

fn age(path: impl AsRef<Path>, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * DAY);
    let times = fs::FileTimes::new().set_accessed(then).set_modified(then);
    File::open(path).unwrap().set_times(times).unwrap();
}

fn names(path: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(path).min_depth(1);
    let mut names: Vec<_> = entries
        .into_iter()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn projects_are_told_apart_by_depth_and_age() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    write(root.join("top"), "1", 0);
    write(root.join("a/new"), "22", 0);
    write(root.join("a/b/old"), "333", 400);
    write(root.join("a/b/c/older"), "4444", 400);
    write(root.join(OsStr::from_bytes(b"\xff/f")), "55555", 40);
    symlink("top", root.join("link")).unwrap();
    let shown = root.to_str().unwrap();
    for way in WAYS {
        let said = run("project_audit", way, &[], root);
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        let row = |project: &str, older: Value, files: u64, bytes: u64| {
            let path = json!({"path": format!("{shown}{project}")});
            json!({"project": path, "older_than": older, "files": files, "bytes": bytes})
        };
        let mut expected = vec![
            row("", Value::Null, 1, 1),
            row("/a", Value::Null, 1, 2),
            row("/a", json!("1y"), 2, 7),
            row("/\u{fffd}", json!("30d"), 1, 5),
        ];
        let found = said.report["project-audit"].as_array().unwrap();
        assert!(found[3]["project"]["path_b64"].is_string());
        expected[3]["project"]["path_b64"] = found[3]["project"]["path_b64"].clone();
        assert_eq!(found, &expected);

        let arguments = ["--depth", "2", "--age", "1d"];
        let said = run("project_audit", way, &arguments, root);
        let found = said.report["project-audit"].as_array().unwrap();
        assert!(found.contains(&row("/a/b", json!("1d"), 2, 7)), "{found:?}");
    }
}

#[test]
fn options_that_make_no_sense_are_wrong_usage() {
    let tmp = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str], &str); 4] = [
        (
            "project_audit",
            &["--age", "1y", "--age", "30d"],
            "shorter time first",
        ),
        ("project_audit", &["--age", "soon"], "'soon' is not a dur"),
        ("purge", &["--delete"], "--older-than"),
        ("exec", &["--each", "file"], "--command"),
    ];
    for (example, arguments, part) in cases {
        let said = run(example, &[], arguments, tmp.path());
        assert_eq!(said.status, Some(2), "{example} {arguments:?}");
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
}

/// A client that is ended with the test.
struct Client(Child);

impl Client {
    fn listen(example: &str, keys: &Path, more: &[&str]) -> (Self, String) {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let address = port.to_string();
        let child = command(program(example))
            .args([
                "client",
                "--workers",
                "2",
                "--listen",
                &address,
                "--key-dir",
            ])
            .arg(keys)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        (Self(child), address)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_program_is_server_client_and_workers() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    let made = command(program("purge"))
        .arg("keygen")
        .arg("--key-dir")
        .arg(&keys)
        .output();
    assert!(made.unwrap().status.success());
    let tree = purge::purgeable();
    let (_first, one) = Client::listen("purge", &keys, &["--allow", "purge"]);
    let (_second, two) = Client::listen("purge", &keys, &["--allow", "purge"]);
    let (_unwilling, three) = Client::listen("purge", &keys, &[]);
    let purge = |clients: &str| {
        let mut purge = command(program("purge"));
        purge
            .arg("--key-dir")
            .arg(&keys)
            .args(["--clients", clients]);
        purge.args(["--older-than", "90d", "--delete"]);
        finish(&mut purge, tree.path())
    };
    let refused = purge(&three);
    assert_eq!(refused.status, Some(4), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--allow purge"),
        "{}",
        refused.stderr
    );
    let said = purge(&format!("{one},{two}"));
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert_eq!(said.report["purge"]["outcomes"]["deleted"]["files"], 2);
    assert_eq!(said.report["run"]["clients"].as_array().unwrap().len(), 2);
    assert_eq!(names(tree.path()), purge::STAYS);
}
