//! The report for people: what surrounds the plugin's own text.

use super::{Ending, Outcome, escape};
use crate::exit_codes::Exit;
use crate::plugin::ByteTotals;
use hydra_proto::walk::WalkSummary;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// How many errors, and how many missing parts, are shown one by one.
const LINES_MAX: usize = 10;
/// How many roots and clients are named in one line.
const NAMES_MAX: usize = 5;

/// Writes the report.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_text(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    header(&mut text, outcome);
    totals(&mut text, &outcome.walk, outcome.report.bytes);
    if !outcome.report.text.is_empty() {
        text.push('\n');
        text.push_str(outcome.report.text.trim_end_matches('\n'));
        text.push_str("\n\n");
    }
    skipped(&mut text, &outcome.walk);
    errors(&mut text, &outcome.walk);
    missing(&mut text, outcome);
    run(&mut text, outcome);
    out.write_all(text.as_bytes())
}

/// Why nothing was walked, in one line.
#[must_use]
pub fn nothing(outcome: &Outcome) -> String {
    let mut reasons: Vec<_> = outcome
        .walk
        .first_errors
        .iter()
        .take(NAMES_MAX)
        .map(|error| {
            format!(
                "{}: {}",
                escape(&error.path),
                escape(error.message.as_bytes())
            )
        })
        .collect();
    if let Ending::Incomplete(reason) = &outcome.ending {
        reasons.push(escape(reason.as_bytes()));
    }
    if reasons.is_empty() {
        let roots = names(outcome.roots.iter().map(|root| escape(root)));
        return format!("nothing was walked of {roots}");
    }
    format!("nothing was walked: {}", reasons.join("; "))
}

/// A number with its thousands set apart.
#[must_use]
pub fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with three digits and a unit of 1024.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would round to four digits is shown in the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// Entries per second; 0 for a run that took no time.
pub(super) fn rate(entries: u64, elapsed: Duration) -> f64 {
    match elapsed.as_secs_f64() {
        seconds if seconds > 0.0 => entries as f64 / seconds,
        _ => 0.0,
    }
}

fn header(text: &mut String, outcome: &Outcome) {
    let roots = names(outcome.roots.iter().map(|root| escape(root)));
    let partial = match Exit::decide(outcome).is_complete() {
        true => "",
        false => " (PARTIAL)",
    };
    line(text, format_args!("{} of {roots}{partial}", outcome.plugin));
}

fn totals(text: &mut String, walk: &WalkSummary, bytes: Option<ByteTotals>) {
    line(
        text,
        format_args!(
            "  {}: {}, {}, {}, {} other",
            counted(walk.entries, "entry", "entries"),
            counted(walk.directories, "directory", "directories"),
            counted(walk.files, "file", "files"),
            counted(walk.symlinks, "symlink", "symlinks"),
            human_count(walk.other),
        ),
    );
    let Some(bytes) = bytes else { return };
    line(
        text,
        format_args!(
            "  {} in files, {} allocated ({} with each inode counted once), {} hard-linked",
            human_bytes(bytes.apparent_bytes),
            human_bytes(bytes.allocated_bytes),
            human_bytes(bytes.unique_allocated_bytes),
            human_count(bytes.hard_linked),
        ),
    );
}

fn skipped(text: &mut String, walk: &WalkSummary) {
    if walk.skipped_snapshots > 0 {
        let what = "snapshot directory";
        let count = counted(walk.skipped_snapshots, what, "snapshot directories");
        line(
            text,
            format_args!("Not entered: {count} (--enter-snapshots)"),
        );
    }
    if !walk.skipped_pseudo.is_empty() {
        let kinds = walk.skipped_pseudo.iter();
        let kinds: Vec<_> = kinds.map(|(kind, n)| format!("{n} {kind}")).collect();
        line(
            text,
            format_args!(
                "Not entered: pseudo file systems, {} (--enter-pseudo)",
                kinds.join(", ")
            ),
        );
    }
    if walk.skipped_mounts > 0 {
        let count = counted(walk.skipped_mounts, "mount point", "mount points");
        line(text, format_args!("Not entered: {count} (-x)"));
    }
    if walk.excluded > 0 {
        let count = counted(walk.excluded, "entry", "entries");
        line(text, format_args!("Excluded: {count}"));
    }
    if walk.vanished > 0 {
        let count = counted(walk.vanished, "entry", "entries");
        line(text, format_args!("Vanished during the walk: {count}"));
    }
}

fn errors(text: &mut String, walk: &WalkSummary) {
    let count = walk.error_count();
    if count == 0 {
        return;
    }
    let kinds = walk.errors.iter();
    let kinds: Vec<_> = kinds.map(|(kind, n)| format!("{n} {kind}")).collect();
    line(
        text,
        format_args!(
            "{}: {}",
            counted(count, "error", "errors"),
            escape(kinds.join(", ").as_bytes())
        ),
    );
    for error in walk.first_errors.iter().take(LINES_MAX) {
        line(
            text,
            format_args!(
                "  {}: {}: {}",
                escape(&error.path),
                escape(error.operation.as_bytes()),
                escape(error.message.as_bytes())
            ),
        );
    }
    and_more(text, count, walk.first_errors.len().min(LINES_MAX));
}

fn missing(text: &mut String, outcome: &Outcome) {
    match &outcome.ending {
        Ending::Done => {}
        Ending::Interrupted => line(text, format_args!("PARTIAL: interrupted")),
        Ending::Incomplete(reason) => {
            line(
                text,
                format_args!("INCOMPLETE: {}", escape(reason.as_bytes())),
            );
        }
    }
    if outcome.set_aside.is_empty() {
        return;
    }
    let count = outcome.set_aside.len();
    let what = counted(count as u64, "part of the tree is", "parts of the tree are");
    line(text, format_args!("INCOMPLETE: {what} missing"));
    for aside in outcome.set_aside.iter().take(LINES_MAX) {
        let reason = escape(aside.reason.as_bytes());
        line(text, format_args!("  {}: {reason}", escape(&aside.path)));
    }
    and_more(text, count as u64, count.min(LINES_MAX));
}

fn run(text: &mut String, outcome: &Outcome) {
    let run = &outcome.run;
    for warning in &run.warnings {
        line(
            text,
            format_args!("Warning: {}", escape(warning.as_bytes())),
        );
    }
    let workers: u64 = run
        .clients
        .iter()
        .map(|client| u64::from(client.workers))
        .sum();
    let clients = names(
        run.clients
            .iter()
            .map(|client| escape(client.name.as_bytes())),
    );
    let lost: u64 = run.clients.iter().map(|client| client.lost_workers).sum();
    let lost = match lost {
        0 => String::new(),
        lost => format!(", {} lost", counted(lost, "worker", "workers")),
    };
    let rate = rate(outcome.walk.entries, run.elapsed);
    line(
        text,
        format_args!(
            "Walked in {}, {} entries/s, {} on {clients}{lost}",
            seconds(run.elapsed),
            human_count(rate as u64),
            counted(workers, "worker", "workers"),
        ),
    );
}

/// A time with three digits or more, but nothing below a millisecond.
fn seconds(elapsed: Duration) -> String {
    match elapsed.as_millis() {
        0 => "less than 1 ms".to_owned(),
        short @ 1..1000 => format!("{short} ms"),
        _ => format!("{:.2} s", elapsed.as_secs_f64()),
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

fn counted(count: u64, one: &str, many: &str) -> String {
    let unit = if count == 1 { one } else { many };
    format!("{} {unit}", human_count(count))
}

fn names(all: impl ExactSizeIterator<Item = String>) -> String {
    let count = all.len();
    let shown: Vec<_> = all.take(NAMES_MAX).collect();
    match count.saturating_sub(NAMES_MAX) {
        0 if count == 0 => "nothing".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn and_more(text: &mut String, count: u64, shown: usize) {
    if count > shown as u64 {
        let more = human_count(count - shown as u64);
        line(text, format_args!("  and {more} more"));
    }
}
