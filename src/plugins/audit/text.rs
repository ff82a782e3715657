//! The audit's report for people: short tables. The totals stand above it, in every plugin's report.

use super::bins::{self, AGE_BINS, SIZE_BINS};
use super::cells::Cell;
use super::findings::{Findings, Holders};
use super::kept::{KeptPath, Record};
use super::summary::{AgeCells, FileUsage};
use crate::plugin::ReportContext;
use crate::plugins::format::{self, Column, Style, Table};
use hydra_proto::kept::CUT_MARK;

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
    if findings.totals().files > 0 {
        by_size(&mut page, findings);
        by_age(&mut page, findings);
    }
    holders(&mut page, "Owners", &findings.owners);
    holders(&mut page, "Groups", &findings.groups);
    let categories = findings.categories.iter();
    let categories: Vec<_> = categories.map(|(c, usage)| (c.name(), usage)).collect();
    kinds(&mut page, "Categories", &categories);
    let extensions = findings.extensions.iter();
    let extensions: Vec<_> = extensions.map(|(e, usage)| (e.as_str(), usage)).collect();
    kinds(&mut page, "Extensions", &extensions);
    largest(&mut page, findings);
    by_depth(&mut page, findings);
    extremes(&mut page, findings);
    averages(&mut page, findings);
    oddities(&mut page, findings);
    page.text
}

struct Page {
    text: String,
    width: usize,
    style: Style,
}

impl Page {
    fn section(&mut self, title: &str, table: &Table) {
        if table.is_empty() {
            return;
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        for line in format::wrap(title, self.width, 2).lines() {
            self.text.push_str(&self.style.heading(line));
            self.text.push('\n');
        }
        self.text.push_str(&table.render(self.width, self.style));
    }

    /// What a table leaves out: so many rows, with so much in them.
    fn and_more(&mut self, rows: usize, bytes: Option<u64>) {
        if rows > 0 {
            let with = bytes.map(|bytes| format!(" with {}", format::bytes(bytes)));
            let with = with.unwrap_or_default();
            let more = format!("  and {} more{with}", format::count(rows as u64));
            self.text.push_str(&self.style.faint(&more));
            self.text.push('\n');
        }
    }
}

/// A number of files, or of bytes; nothing where there are none, so that the others stand out.
fn filled(cell: &Cell) -> [String; 2] {
    match cell.count {
        0 => [String::new(), String::new()],
        count => [format::count(count), format::bytes(cell.bytes)],
    }
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
    ])
    .spare(&[&[2], &[4]]);
    let used = |bin: &usize| cells[*bin].count > 0;
    let first = (0..SIZE_BINS).find(used).unwrap_or(0);
    let last = (0..SIZE_BINS).rfind(used).unwrap_or(0);
    for (bin, cell) in cells.iter().enumerate().take(last + 1).skip(first) {
        let [count, bytes] = filled(cell);
        let share = |part, whole| match cell.count {
            0 => String::new(),
            _ => format::share(part, whole),
        };
        table.row([
            bins::size_label(bin).to_owned(),
            count,
            share(cell.count, all.count),
            bytes,
            share(cell.bytes, all.bytes),
            Table::bar_cell(cell.count, all.count),
        ]);
    }
    page.section("Files by size", &table);
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
        (Column::Bar, "modified"),
    ])
    .spare(&[&[5, 6], &[3, 4]]);
    let [mtime, atime, ctime] = &columns;
    let rows = mtime.iter().zip(atime).zip(ctime).enumerate();
    for (bin, ((mtime, atime), ctime)) in rows.take(last + 1).skip(first) {
        let bar = Table::bar_cell(mtime.count, findings.totals().files);
        let [mtime, atime, ctime] = [mtime, atime, ctime].map(filled);
        let ([m_count, m_bytes], [a_count, a_bytes]) = (mtime, atime);
        let [c_count, c_bytes] = ctime;
        let label = bins::age_label(bin).to_owned();
        table.row([
            label, m_count, m_bytes, a_count, a_bytes, c_count, c_bytes, bar,
        ]);
    }
    let title = format!(
        "Files by age, seen from {}",
        format::time(findings.reference)
    );
    page.section(&title, &table);
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
    ])
    .spare(&[&[1], &[3], &[2]]);
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
    page.section(title, &table);
    let more = holders.usage.get(ROWS_MAX..).unwrap_or_default();
    let blocks = more.iter().map(|(_, usage)| usage.blocks);
    let blocks = blocks.fold(holders.others.blocks, u64::saturating_add);
    page.and_more(more.len(), Some(blocks.saturating_mul(512)));
}

fn kinds(page: &mut Page, title: &str, kinds: &[(&str, &FileUsage)]) {
    if kinds.is_empty() {
        return;
    }
    let all = kinds.iter().map(|(_, usage)| usage.bytes);
    let all = all.fold(0, u64::saturating_add);
    let mut table = Table::new(&[
        (Column::Name, "name"),
        (Column::Right, "files"),
        (Column::Right, "bytes"),
        (Column::Right, ""),
        (Column::Bar, ""),
    ])
    .spare(&[&[1]]);
    for (name, usage) in kinds.iter().take(ROWS_MAX) {
        table.row([
            (*name).to_owned(),
            format::count(usage.files),
            format::bytes(usage.bytes),
            format::share(usage.bytes, all),
            Table::bar_cell(usage.bytes, all),
        ]);
    }
    page.section(title, &table);
    let more = kinds.get(ROWS_MAX..).unwrap_or_default();
    let bytes = more.iter().map(|(_, usage)| usage.bytes);
    page.and_more(more.len(), Some(bytes.fold(0, u64::saturating_add)));
}

fn largest(page: &mut Page, findings: &Findings) {
    if findings.largest.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        (Column::Right, "size"),
        (Column::Left, "owner"),
        (Column::Name, "path"),
    ])
    .spare(&[&[1]]);
    // All of them: somebody has asked for so many.
    for file in &findings.largest {
        let uid = file.facts.uid;
        let owner = findings.owners.names.get(&uid);
        let owner = owner.map_or_else(|| uid.to_string(), |name| format::terminal(name.as_bytes()));
        table.row([
            format::bytes(file.size.0),
            format::shorten(&owner, 16),
            shown(&file.path),
        ]);
    }
    page.section("Largest files", &table);
}

fn by_depth(page: &mut Page, findings: &Findings) {
    let levels = findings.sums.levels.rows();
    let mut table = Table::new(&[
        (Column::Right, "depth"),
        (Column::Right, "directories"),
        (Column::Right, "files"),
        (Column::Right, "bytes"),
        (Column::Right, "largest"),
        (Column::Name, "directory"),
    ])
    .spare(&[&[4, 5]]);
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
    page.section("Depth", &table);
    page.and_more(levels.len().saturating_sub(ROWS_MAX), None);
}

fn extremes(page: &mut Page, findings: &Findings) {
    fn row<const N: usize>(table: &mut Table, label: &str, unit: &str, record: &Record<N>) {
        if let Some((number, path)) = record.get() {
            let number = format::count(number);
            table.row([label.to_owned(), number, unit.to_owned(), shown(path)]);
        }
    }
    let extremes = &findings.sums.extremes;
    let mut table = Table::new(&[
        (Column::Left, ""),
        (Column::Right, ""),
        (Column::Left, ""),
        (Column::Name, ""),
    ])
    .spare(&[&[2]]);
    row(&mut table, "deepest", "levels", &extremes.deepest);
    row(&mut table, "widest", "subdirectories", &extremes.widest);
    row(&mut table, "fullest", "entries", &extremes.fullest);
    page.section("Directories", &table);
}

fn averages(page: &mut Page, findings: &Findings) {
    let totals = findings.totals();
    if totals.directories == 0 && totals.files == 0 {
        return;
    }
    let size = totals.bytes.checked_div(totals.files).unwrap_or(0);
    let depth = format::ratio(totals.directory_depths, totals.directories);
    let width = format::ratio(totals.directories_below_roots, totals.parent_directories);
    let mut table = Table::new(&[(Column::Left, ""), (Column::Left, "")]);
    table.row(["file size".to_owned(), format::bytes(size)]);
    table.row(["directory depth".to_owned(), format!("{depth} levels")]);
    table.row([
        "directory width".to_owned(),
        format!("{width} subdirectories"),
    ]);
    page.section("On average", &table);
}

fn oddities(page: &mut Page, findings: &Findings) {
    let totals = findings.totals();
    let mut table = Table::new(&[(Column::Right, ""), (Column::Left, "")]);
    let mut found = false;
    let rows = [
        (totals.empty_files, "empty files"),
        (totals.sparse_files, "sparse files"),
        (findings.linked.count, "files with several names"),
        (totals.symlinks_to_files, "symlinks to files"),
        (totals.symlinks_to_directories, "symlinks to directories"),
        (totals.symlinks_dangling, "dangling symlinks"),
        (totals.symlinks_elsewhere, "symlinks that lead elsewhere"),
        (totals.setuid_files, "setuid files"),
        (totals.setgid_files, "setgid files"),
        (totals.world_writable_files, "world-writable files"),
        (
            totals.world_writable_directories,
            "world-writable directories",
        ),
    ];
    for (number, label) in rows.into_iter().filter(|row| row.0 > 0) {
        found = true;
        table.row([format::count(number), label.to_owned()]);
    }
    if found {
        page.section("Links and oddities", &table);
    }
}

/// A path for the terminal, with a mark where it was cut.
fn shown(path: &KeptPath) -> String {
    let mark = if path.cut { CUT_MARK } else { "" };
    format::terminal(&path.bytes) + mark
}
