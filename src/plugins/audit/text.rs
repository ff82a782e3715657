//! The audit's report for people: totals first, then short tables.

use super::bins::{self, AGE_BINS, SIZE_BINS};
use super::cells::Cell;
use super::findings::{Findings, Holders};
use super::kept::{KeptPath, Record};
use super::summary::{AgeCells, FileUsage};
use crate::plugin::ReportContext;
use crate::plugins::format::{self, Column, Style, Table};

/// Rows of tables that could have any number.
const ROWS_MAX: usize = 10;

/// The report as whole lines.
pub(super) fn report(findings: &Findings, context: &ReportContext) -> String {
    let mut page = Page {
        text: String::new(),
        width: context.width.max(40),
        style: Style {
            color: context.color,
        },
    };
    totals(&mut page, findings, context);
    if findings.totals().files > 0 {
        by_size(&mut page, findings);
        by_age(&mut page, findings);
    }
    holders(&mut page, "Owners", &findings.owners);
    holders(&mut page, "Groups", &findings.groups);
    let categories = findings.categories.iter();
    let categories: Vec<_> = categories.map(|(c, usage)| (c.name(), usage)).collect();
    kinds(&mut page, "Categories", &categories, usize::MAX);
    let extensions = findings.extensions.iter();
    let extensions: Vec<_> = extensions.map(|(e, usage)| (e.as_str(), usage)).collect();
    kinds(&mut page, "Extensions", &extensions, ROWS_MAX);
    largest(&mut page, findings);
    directories(&mut page, findings);
    oddities(&mut page, findings);
    page.text
}

struct Page {
    text: String,
    width: usize,
    style: Style,
}

impl Page {
    fn section(&mut self, title: &str, table: &Table, left_out: usize) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&self.style.heading(title));
        self.text.push('\n');
        self.text.push_str(&table.render(self.width, self.style));
        if left_out > 0 {
            let more = format!("  and {} more", format::count(left_out as u64));
            self.text.push_str(&self.style.faint(&more));
            self.text.push('\n');
        }
    }
}

fn totals(page: &mut Page, findings: &Findings, context: &ReportContext) {
    let (totals, bytes, walk) = (findings.totals(), findings.bytes(), &context.walk);
    let mut table = Table::new(&[(Column::Left, ""), (Column::Right, ""), (Column::Name, "")]);
    let mut line = |label: &str, value: String, note: String| {
        table.row([label.to_owned(), value, note]);
    };
    let number = format::count;
    line("entries", number(walk.entries), String::new());
    line("directories", number(walk.directories), String::new());
    let empty = format!("{} empty", number(totals.empty_files));
    line("files", number(walk.files), empty);
    line("symbolic links", number(walk.symlinks), String::new());
    line("other", number(walk.other), String::new());
    let average = totals.bytes.checked_div(totals.files).unwrap_or(0);
    let average = format!("{} a file on average", format::bytes(average));
    line("size", format::bytes(bytes.apparent_bytes), average);
    line(
        "allocated",
        format::bytes(bytes.allocated_bytes),
        String::new(),
    );
    let linked = match totals.hard_linked {
        0 => String::new(),
        names => {
            let inodes = findings.linked.count;
            format!("{} hard links to {} files", number(names), number(inodes))
        }
    };
    line(
        "unique",
        format::bytes(bytes.unique_allocated_bytes),
        linked,
    );
    page.section("Totals", &table, 0);
}

fn by_size(page: &mut Page, findings: &Findings) {
    let cells = findings.sums.sizes.all();
    let all = Cell::sum(cells);
    let mut table = Table::new(&[
        (Column::Right, "up to"),
        (Column::Right, "files"),
        (Column::Right, ""),
        (Column::Right, "bytes"),
        (Column::Right, ""),
        (Column::Bar, "files"),
    ]);
    let used = |bin: &usize| cells[*bin].count > 0;
    let first = (0..SIZE_BINS).find(used).unwrap_or(0);
    let last = (0..SIZE_BINS).rfind(used).unwrap_or(0);
    for (bin, cell) in cells.iter().enumerate().take(last + 1).skip(first) {
        table.row([
            bins::size_label(bin).to_owned(),
            format::count(cell.count),
            format::share(cell.count, all.count),
            format::bytes(cell.bytes),
            format::share(cell.bytes, all.bytes),
            Table::bar_cell(cell.count, all.count),
        ]);
    }
    page.section("Files by size", &table, 0);
}

fn by_age(page: &mut Page, findings: &Findings) {
    let sums = &findings.sums;
    let by_bin =
        |cells: &AgeCells| -> Vec<Cell> { cells.all().chunks(SIZE_BINS).map(Cell::sum).collect() };
    let columns = [
        by_bin(&sums.mtime),
        by_bin(&sums.atime),
        by_bin(&sums.ctime),
    ];
    let used = |bin: &usize| columns.iter().any(|cells| cells[*bin].count > 0);
    let first = (0..AGE_BINS).find(used).unwrap_or(0);
    let last = (0..AGE_BINS).rfind(used).unwrap_or(0);
    let mut table = Table::new(&[
        (Column::Right, "up to"),
        (Column::Right, "modified"),
        (Column::Right, ""),
        (Column::Right, "accessed"),
        (Column::Right, ""),
        (Column::Right, "changed"),
        (Column::Right, ""),
        (Column::Bar, "files modified"),
    ]);
    let [mtime, atime, ctime] = &columns;
    let rows = mtime.iter().zip(atime).zip(ctime).enumerate();
    for (bin, ((mtime, atime), ctime)) in rows.take(last + 1).skip(first) {
        table.row([
            bins::age_label(bin).to_owned(),
            format::count(mtime.count),
            format::bytes(mtime.bytes),
            format::count(atime.count),
            format::bytes(atime.bytes),
            format::count(ctime.count),
            format::bytes(ctime.bytes),
            Table::bar_cell(mtime.count, findings.totals().files),
        ]);
    }
    let title = format!(
        "Files by age, seen from {}",
        format::time(findings.reference)
    );
    page.section(&title, &table, 0);
}

fn holders(page: &mut Page, title: &str, holders: &Holders) {
    if holders.usage.is_empty() {
        return;
    }
    let all = holders.usage.iter().map(|(_, usage)| usage.blocks);
    let all = all.fold(holders.others.blocks, u64::saturating_add);
    let mut table = Table::new(&[
        (Column::Name, "name"),
        (Column::Right, "id"),
        (Column::Right, "entries"),
        (Column::Right, "bytes"),
        (Column::Right, "allocated"),
        (Column::Right, ""),
        (Column::Bar, ""),
    ]);
    for (id, usage) in holders.usage.iter().take(ROWS_MAX) {
        let name = holders.names.get(id).map_or("", String::as_str);
        table.row([
            format::terminal(name.as_bytes()),
            id.to_string(),
            format::count(usage.entries),
            format::bytes(usage.bytes),
            format::bytes(usage.blocks.saturating_mul(512)),
            format::share(usage.blocks, all),
            Table::bar_cell(usage.blocks, all),
        ]);
    }
    let left_out = holders.usage.len().saturating_sub(ROWS_MAX);
    page.section(title, &table, left_out);
}

fn kinds(page: &mut Page, title: &str, kinds: &[(&str, &FileUsage)], rows_max: usize) {
    if kinds.is_empty() {
        return;
    }
    let all = kinds.iter().map(|(_, usage)| usage.bytes);
    let all = all.fold(0, u64::saturating_add);
    let mut table = Table::new(&[
        (Column::Name, ""),
        (Column::Right, "files"),
        (Column::Right, "bytes"),
        (Column::Right, ""),
        (Column::Bar, ""),
    ]);
    for (name, usage) in kinds.iter().take(rows_max) {
        table.row([
            (*name).to_owned(),
            format::count(usage.files),
            format::bytes(usage.bytes),
            format::share(usage.bytes, all),
            Table::bar_cell(usage.bytes, all),
        ]);
    }
    let left_out = kinds.len().saturating_sub(rows_max);
    page.section(title, &table, left_out);
}

fn largest(page: &mut Page, findings: &Findings) {
    if findings.largest.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        (Column::Right, "size"),
        (Column::Left, "owner"),
        (Column::Name, "path"),
    ]);
    for file in findings.largest.iter().take(10 * ROWS_MAX) {
        let uid = file.facts.uid;
        let owner = findings.owners.names.get(&uid);
        let owner = owner.map_or_else(|| uid.to_string(), |name| format::terminal(name.as_bytes()));
        table.row([
            format::bytes(file.size.0),
            format::shorten(&owner, 16),
            shown(&file.path),
        ]);
    }
    let left_out = findings.largest.len().saturating_sub(10 * ROWS_MAX);
    page.section("Largest files", &table, left_out);
}

fn directories(page: &mut Page, findings: &Findings) {
    let levels = findings.sums.levels.rows();
    let mut table = Table::new(&[
        (Column::Right, "depth"),
        (Column::Right, "directories"),
        (Column::Right, "files"),
        (Column::Right, "bytes"),
        (Column::Right, "largest"),
        (Column::Name, ""),
    ]);
    for (depth, level) in levels.iter().enumerate().take(ROWS_MAX) {
        let largest = level.largest.get();
        table.row([
            depth.to_string(),
            format::count(level.directories),
            format::count(level.files),
            format::bytes(level.bytes),
            largest.map_or_else(String::new, |(entries, _)| format::count(entries)),
            largest.map_or_else(String::new, |(_, path)| shown(path)),
        ]);
    }
    let left_out = levels.len().saturating_sub(ROWS_MAX);
    page.section("Depth", &table, left_out);
    extremes(page, findings);
}

fn extremes(page: &mut Page, findings: &Findings) {
    fn row<const N: usize>(table: &mut Table, label: &str, unit: &str, record: &Record<N>) {
        if let Some((number, path)) = record.get() {
            table.row([
                label.to_owned(),
                format!("{} {unit}", format::count(number)),
                shown(path),
            ]);
        }
    }
    let (totals, extremes) = (findings.totals(), &findings.sums.extremes);
    let mut table = Table::new(&[(Column::Left, ""), (Column::Right, ""), (Column::Name, "")]);
    row(&mut table, "deepest", "levels", &extremes.deepest);
    row(&mut table, "widest", "subdirectories", &extremes.widest);
    row(&mut table, "fullest", "entries", &extremes.fullest);
    let depth = format::ratio(totals.directory_depths, totals.directories);
    let width = format::ratio(totals.directories_below_roots, totals.parent_directories);
    let average = |label: &str, value: &str, unit: &str| {
        [label.to_owned(), format!("{value} {unit}"), String::new()]
    };
    table.row(average("average depth", &depth, "levels"));
    table.row(average("average width", &width, "subdirectories"));
    page.section("Directories", &table, 0);
}

fn oddities(page: &mut Page, findings: &Findings) {
    let totals = findings.totals();
    let mut table = Table::new(&[(Column::Right, ""), (Column::Name, "")]);
    let mut found = false;
    let rows = [
        (totals.symlinks_to_files, "symbolic links to files"),
        (
            totals.symlinks_to_directories,
            "symbolic links to directories",
        ),
        (totals.symlinks_dangling, "dangling symbolic links"),
        (
            totals.symlinks_elsewhere,
            "symbolic links that lead elsewhere",
        ),
        (totals.sparse_files, "sparse files"),
        (totals.setuid_files, "setuid files"),
        (totals.setgid_files, "setgid files"),
        (totals.world_writable_files, "files that anybody may change"),
        (
            totals.world_writable_directories,
            "directories that anybody may change",
        ),
    ];
    for (number, label) in rows.into_iter().filter(|row| row.0 > 0) {
        found = true;
        table.row([format::count(number), label.to_owned()]);
    }
    if found {
        page.section("Links and oddities", &table, 0);
    }
}

/// A path for the terminal, with a mark where it was cut.
fn shown(path: &KeptPath) -> String {
    let mark = if path.cut { "…" } else { "" };
    format::terminal(&path.bytes) + mark
}
