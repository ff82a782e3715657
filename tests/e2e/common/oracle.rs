//! What `find` and `du` say of a tree, in the report's words.

use serde_json::{Value, json};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// A report without what differs from run to run.
pub(crate) fn without_run(mut report: Value) -> Value {
    report.as_object_mut().unwrap().remove("run");
    report
}

/// The totals of `paths` by `find -H`, with its own `arguments` between paths and output.
pub(crate) fn find<S: AsRef<OsStr>>(paths: &[&Path], arguments: &[S]) -> Value {
    let mut command = Command::new("find");
    command.arg("-H").args(paths).args(arguments);
    totals(&mut command)
}

/// The totals that `command`, a `find` without its output, would print.
pub(crate) fn totals(command: &mut Command) -> Value {
    let command = command.args(["-printf", "%y %s %b %n %D %i\n"]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut by_type = [0u64; 4];
    let (mut apparent, mut allocated, mut unique, mut linked) = (0u64, 0u64, 0u64, 0u64);
    let mut seen = HashSet::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap();
        let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        let [size, blocks, links, device, inode] = numbers[..] else {
            panic!("{line}")
        };
        by_type["dfl".find(kind).unwrap_or(3)] += 1;
        apparent += if kind == "f" { size } else { 0 };
        allocated += blocks * 512;
        linked += u64::from(kind != "d" && links > 1);
        unique += match seen.insert((device, inode)) {
            true => blocks * 512,
            false => 0,
        };
    }
    let [directories, files, symlinks, other] = by_type;
    json!({
        "entries": directories + files + symlinks + other,
        "directories": directories, "files": files, "symlinks": symlinks, "other": other,
        "apparent_bytes": apparent, "allocated_bytes": allocated,
        "unique_allocated_bytes": unique, "hard_linked": linked,
    })
}

/// What `command`, a `find` without its output, counts by type, also where it cannot `stat`.
pub(crate) fn counts(command: &mut Command) -> Value {
    let output = command.args(["-printf", "%y\n"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let of = |kinds: &str| text.lines().filter(|kind| kinds.contains(kind)).count();
    json!({
        "entries": text.lines().count(), "directories": of("d"), "files": of("f"),
        "symlinks": of("l"), "other": of("pscb"),
    })
}

/// The bytes that `du -s` prints for `path`.
pub(crate) fn du(path: &Path, more: &[&str]) -> u64 {
    let mut command = Command::new("du");
    command.args(["-s", "-B1", "-D"]).args(more).arg(path);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// The totals of one tree by `find`, checked with `du`.
pub(crate) fn truth(path: &Path) -> Value {
    let totals = find::<&str>(&[path], &[]);
    assert_eq!(totals["unique_allocated_bytes"], du(path, &[]));
    totals
}
