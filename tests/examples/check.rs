//! Check: what each rule finds.

use super::{WAYS, run, write};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn check_finds_what_breaks_each_rule() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    let long = "l".repeat(21);
    let broken: [(&[u8], &str); 13] = [
        (b"bad-\xff", "not-utf8"),
        (long.as_bytes(), "name-too-long"),
        (b"NUL", "windows-name"),
        (b"com1 .tar.gz", "windows-name"),
        ("lpt\u{b9}".as_bytes(), "windows-name"),
        (b"a:b", "windows-character"),
        (b"a\nb", "windows-character"),
        (b"dot.", "windows-ending"),
        (b"space ", "windows-ending"),
        (b"same", "case-duplicate"),
        (b"SAME", "case-duplicate"),
        ("\u{e4}".as_bytes(), "case-duplicate"),
        ("\u{c4}".as_bytes(), "case-duplicate"),
    ];
    for (name, _) in broken {
        write(root.join(OsStr::from_bytes(name)), "", 0);
    }
    for fine in [
        "com",
        "com10",
        "nullable",
        "auxiliary.c",
        "other/Same",
        "tiny",
    ] {
        write(root.join(fine), "1", 0);
    }
    write(root.join("large"), "12", 0);
    let arguments = ["--name-max", "20", "--size-max", "1"];
    for way in WAYS {
        let said = run("check", way, &arguments, root);
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        let mut expected: BTreeMap<String, Value> = broken
            .iter()
            .map(|(name, rule)| (String::from_utf8_lossy(name).into_owned(), json!(rule)))
            .collect();
        expected.insert("large".to_owned(), json!("too-large"));
        assert_eq!(said.by_name("rule"), expected);
        assert_eq!(said.rows.len(), expected.len());
        let mut counts = BTreeMap::<_, u64>::new();
        for rule in expected.values() {
            *counts.entry(rule.as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(said.report["check"]["findings"], json!(counts));
    }
}

#[test]
fn check_leaves_out_what_it_is_told_and_counts_paths_whole() {
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path().join("d/Same."), "", 0);
    write(tmp.path().join("d/same."), "", 0);
    let max = (tmp.path().as_os_str().len() + 2).to_string();
    let arguments = [
        "--path-max",
        &max,
        "--skip",
        "case-duplicate",
        "--skip",
        "windows-ending",
    ];
    for way in WAYS {
        let said = run("check", way, &arguments, tmp.path());
        assert_eq!(
            said.report["check"]["findings"],
            json!({"path-too-long": 2})
        );
    }
}
