//! The report for people: what surrounds the plugin's own text.

use super::{ClientRun, Ending, Outcome, Part, SetAside, escape, escape_kept};
use crate::exit_codes::Exit;
use crate::plugin::ByteTotals;
use crate::plugins::format::{self, Column, Style, Table};
use hydra_proto::walk::WalkSummary;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

/// How many errors, and how many missing parts, are shown one by one.
const LINES_MAX: usize = 10;
/// The name of the one client of a walk without any: a thread of this process.
pub const SERIAL: &str = "serial";
/// How many roots are named in one line.
const NAMES_MAX: usize = 5;
/// Where a sentence goes on that needs a second line.
const INDENT: usize = 4;

/// Writes the report for a terminal of `width` columns.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_text(
    outcome: &Outcome,
    width: usize,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut page = Page {
        text: String::new(),
        width,
        style,
    };
    header(&mut page, outcome);
    totals(&mut page, &outcome.walk, outcome.report.bytes);
    if !outcome.report.text.is_empty() {
        page.text.push('\n');
        page.text
            .push_str(outcome.report.text.trim_end_matches('\n'));
        page.text.push('\n');
    }
    skipped(&mut page, &outcome.walk);
    errors(&mut page, &outcome.walk);
    missing(&mut page, outcome);
    warnings(&mut page, outcome);
    run(&mut page, outcome);
    out.write_all(page.text.as_bytes())
}

/// What is written so far, and for which terminal.
struct Page {
    text: String,
    width: usize,
    style: Style,
}

impl Page {
    fn heading(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let text = format::wrap(text, self.width, INDENT);
        // Each line by itself: a colour must not run on into the margin.
        for line in text.lines() {
            self.text.push_str(&self.style.heading(line));
            self.text.push('\n');
        }
    }

    /// A line that is laid out.
    fn line(&mut self, text: &str) {
        self.text.push_str(&format::wrap(text, self.width, INDENT));
        self.text.push('\n');
    }

    /// A line with a path in it, which stays whole, to be copied.
    fn whole(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn table(&mut self, table: &Table) {
        self.text.push_str(&table.render(self.width, self.style));
    }

    fn and_more(&mut self, count: u64, shown: usize) {
        let more = count.saturating_sub(shown as u64);
        if more > 0 {
            let more = format!("  and {} more", format::count(more));
            self.text.push_str(&self.style.faint(&more));
            self.text.push('\n');
        }
    }
}

/// That nothing was walked, and why, in one line; without what warnings have said, if they were shown.
#[must_use]
pub fn nothing(outcome: &Outcome, warned: bool) -> String {
    let warnings = &outcome.run.warnings;
    let errors = outcome.walk.first_errors.iter().take(NAMES_MAX);
    let mut reasons: Vec<_> = errors
        .map(|error| {
            format!(
                "{}: {}",
                escape_kept(&error.path),
                escape(error.message.as_bytes())
            )
        })
        .collect();
    if let Ending::Incomplete(reason) = &outcome.ending {
        reasons.push(escape(reason.as_bytes()));
    }
    if warned {
        reasons.retain(|reason| !warnings.iter().any(|warning| warning.ends_with(reason)));
    } else if reasons.is_empty() {
        // Refused everywhere: that is no error of the walk.
        let warnings = warnings.iter().take(NAMES_MAX);
        reasons = warnings.map(|text| escape(text.as_bytes())).collect();
    }
    if reasons.is_empty() {
        let roots = names(outcome.roots.iter().map(|root| escape(root)));
        return format!("nothing was walked of {roots}");
    }
    format!("nothing was walked: {}", reasons.join("; "))
}

/// That the job was interrupted, in a sentence for those who get the report as a document.
#[must_use]
pub fn interrupted(outcome: &Outcome) -> &'static str {
    match outcome.walk.entries {
        0 => "interrupted before anything was committed: the report is empty",
        _ => "interrupted: the report is partial",
    }
}

/// What is missing, in a sentence for those who get the report as a document.
#[must_use]
pub fn incomplete(outcome: &Outcome) -> String {
    let mut reasons = Vec::new();
    if let Ending::Incomplete(reason) = &outcome.ending {
        reasons.push(escape(reason.as_bytes()).to_string());
    }
    if !outcome.set_aside.is_empty() {
        reasons.push(format!("{} missing", parts(outcome)));
    }
    format!("incomplete: {}", reasons.join("; "))
}

/// What was set aside, and why.
pub(crate) fn missing_part(aside: &SetAside) -> String {
    let part = match aside.part {
        Part::Root => "root",
        Part::Directory => "directory",
        Part::Entry => "entry",
        Part::Entries => "some entries of directory",
        Part::Rest => "rest of directory",
        Part::End => "end of directory",
    };
    let (path, reason) = (escape_kept(&aside.path), escape(aside.reason.as_bytes()));
    format!("{part} {path}: {reason}")
}

/// How many parts of the tree were set aside.
fn parts(outcome: &Outcome) -> String {
    let count = outcome.set_aside_count;
    counted(count, "part of the tree is", "parts of the tree are")
}

/// Entries per second; 0 for a run that took no time.
pub(super) fn rate(entries: u64, elapsed: Duration) -> f64 {
    match elapsed.as_secs_f64() {
        seconds if seconds > 0.0 => entries as f64 / seconds,
        _ => 0.0,
    }
}

fn header(page: &mut Page, outcome: &Outcome) {
    let roots = names(outcome.roots.iter().map(|root| escape(root)));
    let partial = match Exit::decide(outcome).is_complete() {
        true => "",
        false => " (PARTIAL)",
    };
    page.heading(&format!("{} of {roots}{partial}", outcome.plugin));
}

fn totals(page: &mut Page, walk: &WalkSummary, bytes: Option<ByteTotals>) {
    let columns = [(Column::Left, ""), (Column::Right, ""), (Column::Left, "")];
    let mut table = Table::new(&columns).spare(&[&[2]]);
    let mut line = |label: &str, value: String, note: &str| {
        table.row([label.to_owned(), value, note.to_owned()]);
    };
    line("entries", format::count(walk.entries), "");
    line("directories", format::count(walk.directories), "");
    line("files", format::count(walk.files), "");
    line("symlinks", format::count(walk.symlinks), "");
    line("other", format::count(walk.other), "");
    if let Some(bytes) = bytes {
        let (apparent, allocated) = (bytes.apparent_bytes, bytes.allocated_bytes);
        let unique = bytes.unique_allocated_bytes;
        line("size", format::bytes(apparent), "of all files");
        line("allocated", format::bytes(allocated), "of all entries");
        let once = "with each inode counted once";
        line("unique", format::bytes(unique), once);
        if bytes.hard_linked > 0 {
            line("hard-linked", format::count(bytes.hard_linked), "names");
        }
    }
    page.table(&table);
}

fn skipped(page: &mut Page, walk: &WalkSummary) {
    let mut lines = Vec::new();
    if walk.skipped_snapshots > 0 {
        let what = "snapshot directory";
        let count = counted(walk.skipped_snapshots, what, "snapshot directories");
        lines.push(format!("not entered: {count} (--enter-snapshots)"));
    }
    if !walk.skipped_pseudo.is_empty() {
        let kinds = kinds(&walk.skipped_pseudo);
        lines.push(format!(
            "not entered: pseudo file systems, {kinds} (--enter-pseudo)"
        ));
    }
    if walk.skipped_mounts > 0 {
        let count = counted(walk.skipped_mounts, "mount point", "mount points");
        lines.push(format!("not entered: {count} (-x)"));
    }
    if walk.excluded > 0 {
        let count = counted(walk.excluded, "entry", "entries");
        lines.push(format!("excluded: {count}"));
    }
    if walk.vanished > 0 {
        let count = counted(walk.vanished, "entry", "entries");
        lines.push(format!("vanished during the walk: {count}"));
    }
    if !lines.is_empty() {
        page.heading("Left out");
    }
    for line in lines {
        page.line(&format!("  {line}"));
    }
}

fn errors(page: &mut Page, walk: &WalkSummary) {
    let count = walk.error_count();
    if count == 0 {
        return;
    }
    let (errors, kinds) = (counted(count, "error", "errors"), kinds(&walk.errors));
    page.heading(&format!("{errors}: {kinds}"));
    for error in walk.first_errors.iter().take(LINES_MAX) {
        page.whole(&format!(
            "  {}: {}: {}",
            escape_kept(&error.path),
            escape(error.operation.as_bytes()),
            escape(error.message.as_bytes())
        ));
    }
    page.and_more(count, walk.first_errors.len().min(LINES_MAX));
}

fn missing(page: &mut Page, outcome: &Outcome) {
    match &outcome.ending {
        Ending::Done => {}
        Ending::Interrupted if outcome.walk.entries == 0 => {
            page.heading("PARTIAL: interrupted before anything was committed")
        }
        Ending::Interrupted => page.heading("PARTIAL: interrupted"),
        Ending::Incomplete(reason) => {
            page.heading(&format!("INCOMPLETE: {}", escape(reason.as_bytes())));
        }
    }
    if outcome.set_aside.is_empty() {
        return;
    }
    let count = outcome.set_aside_count;
    page.heading(&format!("INCOMPLETE: {} missing", parts(outcome)));
    for aside in outcome.set_aside.iter().take(LINES_MAX) {
        page.whole(&format!("  {}", missing_part(aside)));
    }
    page.and_more(count, outcome.set_aside.len().min(LINES_MAX));
}

fn warnings(page: &mut Page, outcome: &Outcome) {
    let warnings = &outcome.run.warnings;
    if warnings.is_empty() {
        return;
    }
    page.heading("Warnings");
    for warning in warnings.iter().take(LINES_MAX) {
        page.line(&format!("  {}", escape(warning.as_bytes())));
    }
    page.and_more(warnings.len() as u64, LINES_MAX);
}

fn run(page: &mut Page, outcome: &Outcome) {
    let clients = &outcome.run.clients;
    if clients.len() > 1 {
        by_client(page, clients);
    }
    let workers = clients.iter().map(|client| u64::from(client.workers));
    let lost = match clients.iter().map(|client| client.lost_workers).sum() {
        0 => String::new(),
        lost => format!("; {} lost", counted(lost, "worker was", "workers were")),
    };
    let workers = counted(workers.sum(), "worker", "workers");
    let by = match clients.as_slice() {
        [one] if one.name == SERIAL => "in one thread, without workers".to_owned(),
        [one] if one.name == "local" => format!("with {workers} on this host"),
        [one] => format!("with {workers} on {}", escape(one.name.as_bytes())),
        more => {
            let clients = counted(more.len() as u64, "client", "clients");
            format!("with {workers} of {clients}")
        }
    };
    let elapsed = outcome.run.elapsed;
    let rate = rate(outcome.walk.entries, elapsed);
    page.text.push('\n');
    page.line(&format!(
        "Walked in {}, {} entries/s, {by}{lost}",
        seconds(elapsed),
        format::count(rate as u64),
    ));
}

fn by_client(page: &mut Page, clients: &[ClientRun]) {
    let mut table = Table::new(&[
        (Column::Name, "name"),
        (Column::Right, "workers"),
        (Column::Right, "lost"),
        (Column::Right, "entries"),
        (Column::Right, ""),
        (Column::Bar, ""),
    ])
    .spare(&[&[2], &[1], &[4]]);
    let mut clients: Vec<_> = clients.iter().collect();
    clients.sort_by_key(|client| std::cmp::Reverse(client.entries));
    let all = clients.iter().map(|client| client.entries).sum();
    for client in clients.iter().take(LINES_MAX) {
        table.row([
            escape(client.name.as_bytes()),
            client.workers.to_string(),
            format::count(client.lost_workers),
            format::count(client.entries),
            format::share(client.entries, all),
            Table::bar_cell(client.entries, all),
        ]);
    }
    page.heading("Clients");
    page.table(&table);
    page.and_more(clients.len() as u64, LINES_MAX);
}

/// A time with three digits or more, but nothing below a millisecond.
fn seconds(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match elapsed.as_millis() {
        0 => "less than 1 ms".to_owned(),
        short @ 1..1000 => format!("{short} ms"),
        1000..120_000 => format!("{:.2} s", elapsed.as_secs_f64()),
        120_000..7_200_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    let unit = if count == 1 { one } else { many };
    format!("{} {unit}", format::count(count))
}

fn kinds(counts: &BTreeMap<String, u64>) -> String {
    let kinds = counts.iter();
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{} {}", format::count(*count), escape(kind.as_bytes())))
        .collect();
    kinds.join(", ")
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
