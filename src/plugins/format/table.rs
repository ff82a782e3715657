//! Tables that fit their terminal: bars, names and spare columns give way, numbers never do.

use super::{Style, bar, columns, shorten};

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Text, aligned to the left.
    Left,
    /// Numbers, aligned to the right.
    Right,
    /// Text that may be shortened where the line would be too long: names and paths.
    Name,
    /// A bar in what is left of the line. The cell is its length in thousandths.
    Bar,
}

/// Rows and columns, laid out when they are printed.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    spare: Vec<Vec<usize>>,
}

/// Columns between two cells.
const GAP: usize = 2;
/// The longest bar.
const BAR_MAX: usize = 24;
/// A shorter bar says nothing, and is left out.
const BAR_MIN: usize = 6;
/// What is left of a name before spare columns give way.
const NAME_WISH: usize = 20;
/// A name is never cut below this.
const NAME_MIN: usize = 8;

impl Table {
    /// A table with these columns and headings. A heading follows the alignment of its column; the line
    /// is left out if all are empty.
    #[must_use]
    pub fn new(columns: &[(Column, &str)]) -> Self {
        let headings = columns.iter().map(|column| column.1.to_owned());
        Self {
            rows: vec![headings.collect()],
            columns: columns.iter().map(|column| column.0).collect(),
            spare: Vec::new(),
        }
    }

    /// Names columns, by their numbers from 0, that are left out where the terminal is too narrow: the first
    /// group first.
    #[must_use]
    pub fn spare(mut self, groups: &[&[usize]]) -> Self {
        self.spare = groups.iter().map(|group| group.to_vec()).collect();
        self
    }

    /// Adds a row. Cells must be safe for terminals already.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// A cell for [`Column::Bar`].
    #[must_use]
    pub fn bar_cell(part: u64, whole: u64) -> String {
        let whole = u128::from(whole.max(1));
        (u128::from(part) * 1000).div_ceil(whole).to_string()
    }

    /// The table as lines of at most `width` columns, as far as its numbers allow.
    #[must_use]
    pub fn render(&self, width: usize, style: Style) -> String {
        let widths = self.widths(width);
        let mut out = String::new();
        let mut headings = self.rows.iter().take(1).flatten();
        let has_headings = headings.any(|heading| !heading.is_empty());
        let skipped = usize::from(!has_headings);
        for (number, row) in self.rows.iter().enumerate().skip(skipped) {
            let mut line = String::new();
            for ((column, cell), &width) in self.columns.iter().zip(row).zip(&widths) {
                let Some(width) = width else { continue };
                line.push_str(&" ".repeat(GAP));
                line.push_str(&render_cell(*column, cell, width, number > 0, style));
            }
            let line = line.trim_end();
            out.push_str(&match number {
                0 => style.faint(line),
                _ => line.to_owned(),
            });
            out.push('\n');
        }
        out
    }

    /// The width of each column; none for those that are left out.
    fn widths(&self, width: usize) -> Vec<Option<usize>> {
        let natural = self.columns.iter().enumerate();
        let natural = natural.map(|(at, &column)| match column {
            Column::Name => self.natural(at).map(|own| own.min(width)),
            Column::Bar => None,
            _ => self.natural(at),
        });
        let mut widths: Vec<_> = natural.collect();
        for group in &self.spare {
            if self.used(&widths, NAME_WISH) <= width {
                break;
            }
            for &at in group {
                if let Some(width) = widths.get_mut(at) {
                    *width = None;
                }
            }
        }
        let over = self.used(&widths, usize::MAX).saturating_sub(width);
        self.cut_names(&mut widths, over);
        let used = self.used(&widths, usize::MAX);
        for own in self.of_kind(&mut widths, Column::Bar) {
            let room = width.saturating_sub(used + GAP).min(BAR_MAX);
            *own = (room >= BAR_MIN).then_some(room);
        }
        widths
    }

    /// The width of the widest cell.
    fn natural(&self, at: usize) -> Option<usize> {
        let cells = self.rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| columns(cell)).max()
    }

    /// What the columns take together, if no name takes more than `name_max`.
    fn used(&self, widths: &[Option<usize>], name_max: usize) -> usize {
        let columns = self.columns.iter().zip(widths);
        let taken = columns.filter_map(|(column, width)| match column {
            Column::Name => width.map(|width| width.min(name_max)),
            _ => *width,
        });
        taken.map(|width| width + GAP).sum()
    }

    /// Takes `over` columns from the names, from the widest first.
    fn cut_names(&self, widths: &mut [Option<usize>], mut over: usize) {
        while over > 0 {
            let names = self.of_kind(widths, Column::Name).into_iter();
            let Some(widest) = names.filter_map(Option::as_mut).max() else {
                return;
            };
            if *widest <= NAME_MIN {
                return;
            }
            *widest -= 1;
            over -= 1;
        }
    }

    fn of_kind<'a>(
        &self,
        widths: &'a mut [Option<usize>],
        kind: Column,
    ) -> Vec<&'a mut Option<usize>> {
        let columns = widths.iter_mut().zip(&self.columns);
        let columns = columns.filter(|(_, column)| **column == kind);
        columns.map(|(width, _)| width).collect()
    }
}

fn render_cell(column: Column, cell: &str, width: usize, is_body: bool, style: Style) -> String {
    let pad = |text: &str| " ".repeat(width.saturating_sub(columns(text)));
    match column {
        Column::Left => format!("{cell}{}", pad(cell)),
        Column::Right => format!("{}{cell}", pad(cell)),
        Column::Name => {
            let text = shorten(cell, width);
            format!("{text}{}", pad(&text))
        }
        Column::Bar if is_body => {
            let text = bar(cell.parse().unwrap_or(0), 1000, width);
            format!("{}{}", style.bar(&text), pad(&text))
        }
        // What the bars are of is said only where it fits.
        Column::Bar if columns(cell) > width => String::new(),
        Column::Bar => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{bytes, count};
    use super::*;

    #[test]
    fn tables_fit_the_width() {
        let mut table = Table::new(&[
            (Column::Name, "path"),
            (Column::Right, "bytes"),
            (Column::Bar, ""),
        ]);
        table.row(["/x".repeat(60), bytes(1 << 30), Table::bar_cell(1, 2)]);
        table.row(["/y".into(), bytes(10), Table::bar_cell(1, 1)]);
        for width in [30, 80, 200] {
            let text = table.render(width, Style::default());
            assert!(text.lines().all(|line| columns(line) <= width), "{text}");
        }
        let bare = Table::new(&[(Column::Left, ""), (Column::Right, "")]);
        assert_eq!(bare.render(80, Style::default()), "");
        let text = table.render(200, Style { color: true });
        assert!(text.contains(&format!("\x1b[36m{}\x1b[0m", "█".repeat(12))));
    }

    #[test]
    fn narrow_tables_were_cut_instead_of_laid_out() {
        let mut table = Table::new(&[
            (Column::Name, "name"),
            (Column::Right, "id"),
            (Column::Right, "entries"),
            (Column::Right, "allocated"),
            (Column::Bar, ""),
        ]);
        table = table.spare(&[&[1], &[2]]);
        let name = "漢字の長い名前と何か他のもの".to_owned();
        let cells = [name, "100042".into(), count(12_345_678), bytes(1 << 40)];
        let [name, id, entries, allocated] = cells;
        table.row([name, id, entries, allocated, Table::bar_cell(1, 2)]);
        let at = |width| table.render(width, Style::default());
        for width in 24..100 {
            let text = at(width);
            assert!(
                text.lines().all(|line| columns(line) <= width),
                "{width}\n{text}"
            );
            assert!(text.contains("1.0 TiB"), "{width}\n{text}");
        }
        assert!(at(60).contains("100042") && at(60).contains("12,345,678"));
        assert!(!at(46).contains("100042") && at(46).contains("12,345,678"));
        assert!(!at(30).contains("12,345,678"));
    }

    #[test]
    fn two_names_each_gave_way_for_both() {
        let mut table = Table::new(&[(Column::Name, ""), (Column::Name, "")]);
        table.row(["a".repeat(30), "b".repeat(20)]);
        let text = table.render(44, Style::default());
        assert_eq!(columns(text.trim_end()), 44, "{text}");
        assert!(text.contains(&"b".repeat(20)), "{text}");
    }
}
