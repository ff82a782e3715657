use super::*;
use crate::plugin::ByteTotals;
use crate::plugins::format::{self, Style};
use hydra_proto::kept::{KeptPath, PATH_KEPT_MAX};
use hydra_proto::walk::{FileType, WalkError};
use serde_json::Value;

fn outcome() -> Outcome {
    let mut walk = WalkSummary::default();
    for file_type in [FileType::Directory, FileType::File, FileType::Symlink] {
        walk.count(file_type);
    }
    let path = b"/data/\x1b[2J\xff";
    walk.fail(WalkError::new(path, "open", "EACCES", "permission denied"));
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
        roots_silent: 0,
        ending: Ending::Done,
        set_aside: Vec::new(),
        set_aside_count: 0,
    }
}

fn json(outcome: &Outcome) -> String {
    let mut out = Vec::new();
    write_json(outcome, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn text(outcome: &Outcome) -> String {
    let mut out = Vec::new();
    write_text(outcome, 80, Style::default(), &mut out).unwrap();
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
        errors count by_kind EACCES vanished first path path_b64 operation error message set_aside set_aside_count \
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
        path: KeptPath::new(b"/data/poison", PATH_KEPT_MAX),
        part: Part::Entry,
        reason: "its worker died three times".into(),
    });
    outcome.set_aside_count = 1002;
    let text = text(&outcome);
    for part in [
        "2 snapshot directories",
        "1 proc",
        "1 mount point ",
        "  entry /data/poison: its worker died",
        "1,002 parts of the tree are missing",
        "and 1,001 more",
        "PARTIAL",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn what_is_left_of_a_directory_was_named_as_if_nothing_of_it_was_walked() {
    let mut outcome = outcome();
    outcome.set_aside_count = 1;
    for (part, name, words) in [
        (Part::Root, "root", "root"),
        (Part::Directory, "directory", "directory"),
        (Part::Entry, "entry", "entry"),
        (Part::Entries, "entries", "some entries of directory"),
        (Part::Rest, "rest", "rest of directory"),
        (Part::End, "end", "end of directory"),
    ] {
        outcome.set_aside = vec![SetAside {
            path: KeptPath::new(b"/data\xff", PATH_KEPT_MAX),
            part,
            reason: "why".into(),
        }];
        let document = json(&outcome);
        let keys = keys(&document).join(" ");
        assert!(keys.contains("path path_b64 part reason"), "{keys}");
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["errors"]["set_aside"][0]["part"], name);
        let text = text(&outcome);
        let line = format!("\n  {words} /data\\xff: why\n");
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn long_lists_of_errors_are_cut() {
    let mut outcome = outcome();
    for index in 0..30 {
        let (path, message) = (format!("/data/e{index:02}"), "input/output error");
        let error = WalkError::new(path.as_bytes(), "stat", "EIO", message);
        outcome.walk.fail(error);
    }
    let text = text(&outcome);
    assert!(text.contains("31 errors: 1 EACCES, 30 EIO"), "{text}");
    assert!(text.contains("  and 21 more"), "{text}");
}

#[test]
fn the_report_was_wider_than_its_terminal() {
    let mut outcome = outcome();
    outcome.roots = vec![b"/a/root".to_vec(); 5];
    outcome.run.clients = (0..30)
        .map(|number| ClientRun {
            name: format!("node{number}.a-long-domain.example.org:8101"),
            workers: 64,
            entries: u64::MAX / 100 - number,
            ..ClientRun::default()
        })
        .collect();
    outcome.run.warnings =
        vec!["going on without client host2: nothing listens on host2:8101".into()];
    for width in [40, 60, 80, 120] {
        let mut out = Vec::new();
        write_text(&outcome, width, Style::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        // A path is never broken.
        let lines = text.lines().filter(|line| !line.contains("/data/"));
        for line in lines {
            assert!(format::columns(line) <= width, "{width}: {line}\n{text}");
        }
        assert!(text.contains("and 20 more"), "{text}");
    }
}

#[test]
fn warnings_are_shown_in_both_reports() {
    let mut outcome = outcome();
    outcome.run.warnings = vec!["host2 is\x1b missing".into()];
    let document: Value = serde_json::from_str(&json(&outcome)).unwrap();
    assert_eq!(document["run"]["warnings"][0], "host2 is\x1b missing");
    let text = text(&outcome);
    assert!(
        text.contains("Warnings\n  host2 is\\x1b missing\n"),
        "{text}"
    );
}

#[test]
fn roots_that_every_client_refuses_were_given_no_reason() {
    let mut outcome = outcome();
    outcome.walk = WalkSummary::default();
    assert_eq!(nothing(&outcome, false), "nothing was walked of /data");
    let warning = "client host1 is not granted root /data: it is not there";
    outcome.run.warnings = vec![warning.into()];
    let untold = nothing(&outcome, false);
    assert_eq!(untold, format!("nothing was walked: {warning}"));
}

#[test]
fn what_a_warning_had_said_was_said_again_as_an_error() {
    let mut outcome = outcome();
    outcome.walk = WalkSummary::default();
    outcome.run.warnings = vec!["client host1 is not granted root /data: it is not there".into()];
    let of_data = "nothing was walked of /data";
    assert_eq!(nothing(&outcome, true), of_data);
    let error = WalkError::new(b"/data", "open", "ENOENT", "it is not there");
    outcome.walk.fail(error);
    assert_eq!(nothing(&outcome, true), of_data);
    let untold = "nothing was walked: /data: it is not there";
    assert_eq!(nothing(&outcome, false), untold);
}

#[test]
fn long_runs_are_told_in_minutes_and_hours() {
    let mut outcome = outcome();
    for (seconds, shown) in [(90, "90.00 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")] {
        outcome.run.elapsed = Duration::from_secs(seconds);
        assert!(text(&outcome).contains(&format!("Walked in {shown},")));
    }
}

#[test]
fn a_document_with_status_3_came_without_a_word() {
    let mut outcome = outcome();
    outcome.set_aside = vec![
        SetAside {
            path: KeptPath::new(b"/data/a", PATH_KEPT_MAX),
            part: Part::Directory,
            reason: "no client was left to walk it".into(),
        };
        2
    ];
    outcome.set_aside_count = 2;
    let missing = "2 parts of the tree are missing";
    assert_eq!(incomplete(&outcome), format!("incomplete: {missing}"));
    outcome.ending = Ending::Incomplete("no client is left".into());
    assert_eq!(
        incomplete(&outcome),
        format!("incomplete: no client is left; {missing}")
    );
}
