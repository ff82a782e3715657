use super::*;
use crate::plugin::ByteTotals;
use hydra_proto::walk::{FileType, WalkError};
use serde_json::Value;

fn outcome() -> Outcome {
    let mut walk = WalkSummary::default();
    for file_type in [FileType::Directory, FileType::File, FileType::Symlink] {
        walk.count(file_type);
    }
    walk.fail(WalkError {
        path: b"/data/\x1b[2J\xff".to_vec(),
        operation: "open".into(),
        kind: "EACCES".into(),
        message: "permission denied".into(),
    });
    Outcome {
        plugin: "audit".into(),
        roots: vec![b"/data".to_vec()],
        walk,
        report: PluginReport {
            json: serde_json::json!({"size_histogram": []}),
            text: "sizes\n".into(),
            bytes: Some(ByteTotals {
                apparent_bytes: 5000,
                ..ByteTotals::default()
            }),
        },
        run: Run {
            elapsed: Duration::from_secs(2),
            clients: vec![ClientRun {
                name: "local".into(),
                workers: 2,
                ..ClientRun::default()
            }],
            warnings: Vec::new(),
        },
        roots_walked: 1,
        ending: Ending::Done,
        set_aside: Vec::new(),
    }
}

fn json(outcome: &Outcome) -> String {
    let mut out = Vec::new();
    write_json(outcome, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn text(outcome: &Outcome) -> String {
    let mut out = Vec::new();
    write_text(outcome, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The keys of the document's objects in the order in which they stand in the text.
fn keys(document: &str) -> Vec<&str> {
    let lines = document.lines().map(str::trim_start);
    let keys = lines.filter_map(|line| line.strip_prefix('"')?.split_once("\":"));
    keys.map(|(key, _)| key).collect()
}

#[test]
fn keys_stand_in_the_documented_order() {
    let expected = "schema plugin roots complete \
        totals entries directories files symlinks other \
        apparent_bytes allocated_bytes unique_allocated_bytes hard_linked \
        errors count by_kind EACCES vanished first path path_b64 operation error message set_aside \
        skipped snapshots pseudo mounts excluded \
        audit size_histogram \
        run seconds entries_per_second \
        clients name workers entries commits grants sheds lost_workers warnings";
    let document = json(&outcome());
    assert_eq!(keys(&document).join(" "), expected);
}

#[test]
fn values_stand_where_they_belong() {
    let document: Value = serde_json::from_str(&json(&outcome())).unwrap();
    assert_eq!(document["schema"], "hydra.report/1");
    assert_eq!(document["complete"], true);
    assert_eq!(document["totals"]["entries"], 3);
    assert_eq!(document["totals"]["apparent_bytes"], 5000);
    assert_eq!(document["errors"]["by_kind"]["EACCES"], 1);
    let first = &document["errors"]["first"][0];
    assert_eq!(first["path"], "/data/\u{1b}[2J\u{fffd}");
    assert_eq!(first["path_b64"], "L2RhdGEvG1sySv8=");
    assert_eq!(document["run"]["entries_per_second"], 1.5);
}

#[test]
fn a_plugin_without_byte_totals_has_nulls() {
    let mut outcome = outcome();
    outcome.report.bytes = None;
    let document: Value = serde_json::from_str(&json(&outcome)).unwrap();
    assert!(document["totals"]["hard_linked"].is_null());
    assert!(!text(&outcome).contains("allocated"));
}

#[test]
fn roots_that_are_not_utf8_are_kept_exactly() {
    let mut outcome = outcome();
    outcome.roots.push(b"/\xff".to_vec());
    let document: Value = serde_json::from_str(&json(&outcome)).unwrap();
    assert_eq!(document["roots"][1], "/\u{fffd}");
    assert_eq!(document["roots_b64"], serde_json::json!([null, "L/8="]));
}

#[test]
fn people_see_no_raw_control_characters() {
    let text = text(&outcome());
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(
        text.contains("/data/\\x1b[2J\\xff: open: permission denied"),
        "{text}"
    );
}

#[test]
fn what_is_skipped_or_missing_is_named() {
    let mut outcome = outcome();
    outcome.walk.skipped_snapshots = 2;
    outcome.walk.skipped_pseudo.insert("proc".into(), 1);
    outcome.walk.skipped_mounts = 1;
    outcome.set_aside.push(SetAside {
        path: b"/data/poison".to_vec(),
        reason: "its worker died three times".into(),
    });
    let text = text(&outcome);
    for part in [
        "2 snapshot directories",
        "1 proc",
        "1 mount point ",
        "/data/poison: its worker died",
        "PARTIAL",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn long_lists_of_errors_are_cut() {
    let mut outcome = outcome();
    for index in 0..30 {
        outcome.walk.fail(WalkError {
            path: format!("/data/e{index:02}").into_bytes(),
            operation: "stat".into(),
            kind: "EIO".into(),
            message: "input/output error".into(),
        });
    }
    let text = text(&outcome);
    assert!(text.contains("31 errors: 1 EACCES, 30 EIO"), "{text}");
    assert!(text.contains("  and 21 more"), "{text}");
}

#[test]
fn numbers_carry_units() {
    assert_eq!(human_count(0), "0");
    assert_eq!(human_count(999), "999");
    assert_eq!(human_count(1_234_567), "1,234,567");
    assert_eq!(human_bytes(1023), "1023 B");
    assert_eq!(human_bytes(1024), "1.00 KiB");
    assert_eq!(human_bytes(1_048_575), "1.00 MiB");
    assert_eq!(human_bytes(15 * 1024 * 1024), "15.0 MiB");
    assert_eq!(human_bytes(u64::MAX), "16.0 EiB");
}
