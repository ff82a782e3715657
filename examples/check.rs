//! Finds what will not survive a move to another system: names and sizes that it cannot hold.
//!
//! ```sh
//! check --size-max 4G --rows findings.ndjson /data
//! check --skip case-duplicate --path-max 260 --json /data
//! ```
//!
//! | rule | what breaks it |
//! |---|---|
//! | `not-utf8` | a name that is not UTF-8 |
//! | `name-too-long` | a name of more than `--name-max` bytes |
//! | `path-too-long` | a path, as results show it, of more than `--path-max` bytes |
//! | `windows-name` | a name that Windows keeps for devices, such as `nul` or `com1.txt` |
//! | `windows-character` | one of `< > : " \ \| ? *` or a control character |
//! | `windows-ending` | a dot or a space at the end |
//! | `case-duplicate` | names in one directory that differ in upper and lower case only: all of them |
//! | `too-large` | a file of more than `--size-max` |
//!
//! Each finding is a row. The names of roots are not looked at. For `case-duplicate` the names of a directory are
//! kept until its end, and no directory is shared among workers: `--skip case-duplicate` saves both.

use hydra::cli::values::size;
use hydra::plugins::format;
use hydra::{
    Dir, Enter, Entry, Facts, FileType, Hydra, Plugin, PluginReport, ReduceError, ReportContext,
    ShownPath, Sink, Summary, Visit, Wants,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::take;
use std::process::ExitCode;

fn main() -> ExitCode {
    Hydra::new().plugin::<Check>().run()
}

/// The options.
#[derive(Clone, clap::Args, Serialize, Deserialize)]
struct CheckOptions {
    /// The longest name, in bytes
    #[arg(long, value_name = "N", default_value_t = 255)]
    name_max: usize,
    /// The longest path, in bytes
    #[arg(long, value_name = "N", default_value_t = 4095)]
    path_max: usize,
    /// The largest file (default: any)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size_max: Option<u64>,
    /// Leave out a rule (repeatable)
    #[arg(long, value_name = "RULE", value_enum)]
    skip: Vec<Rule>,
}

/// What can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Rule {
    #[serde(rename = "not-utf8")]
    #[value(name = "not-utf8")]
    NotUtf8,
    NameTooLong,
    PathTooLong,
    WindowsName,
    WindowsCharacter,
    WindowsEnding,
    CaseDuplicate,
    TooLarge,
}

/// A finding.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    path: ShownPath,
    rule: Rule,
}

/// Findings by rule.
#[derive(Default, Serialize, Deserialize)]
struct Findings(BTreeMap<Rule, u64>);

impl Summary for Findings {
    fn merge(&mut self, other: Self) {
        for (rule, count) in other.0 {
            *self.0.entry(rule).or_default() += count;
        }
    }
}

/// The half that runs in workers.
struct CheckVisit {
    options: CheckOptions,
    /// The names of the directory in hand, by what they are in lower case.
    folded: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl CheckVisit {
    fn checks(&self, rule: Rule) -> bool {
        !self.options.skip.contains(&rule)
    }

    fn find(&self, rule: Rule, path: impl FnOnce() -> Vec<u8>, out: &mut Sink<Findings>) {
        if self.checks(rule) {
            let path = path().into();
            out.row(&Row { path, rule });
            *out.summary.0.entry(rule).or_default() += 1;
        }
    }
}

impl Visit for CheckVisit {
    type Summary = Findings;

    fn wants(&self) -> Wants {
        let case = self.checks(Rule::CaseDuplicate);
        Wants {
            facts: match self.options.size_max {
                Some(_) => Facts::SIZE,
                None => Facts::TYPE,
            },
            whole_directories: case,
            leave: case,
            ..Wants::default()
        }
    }

    fn enter(&mut self, _dir: &Dir<'_>, _out: &mut Sink<Findings>) -> Enter {
        // The listing of the directory before may have failed on its way, and nobody left it.
        self.folded.clear();
        Enter::Walk
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Findings>) {
        let (options, name) = (&self.options, entry.name);
        let is_large = options.size_max.is_some_and(|max| entry.stat.size > max);
        let path_bytes = entry.shown().len();
        let broken = [
            (Rule::NotUtf8, std::str::from_utf8(name).is_err()),
            (Rule::NameTooLong, name.len() > options.name_max),
            (Rule::PathTooLong, path_bytes > options.path_max),
            (Rule::WindowsName, is_device(name)),
            (Rule::WindowsCharacter, name.iter().any(is_forbidden)),
            (
                Rule::WindowsEnding,
                name.ends_with(b".") || name.ends_with(b" "),
            ),
            (
                Rule::TooLarge,
                is_large && entry.file_type == FileType::File,
            ),
        ];
        for (rule, _) in broken.into_iter().filter(|(_, is_broken)| *is_broken) {
            self.find(rule, || entry.shown(), out);
        }
        if self.checks(Rule::CaseDuplicate) && !entry.is_root() {
            let same = self.folded.entry(fold(name)).or_default();
            same.push(name.to_vec());
        }
    }

    fn leave(&mut self, dir: &Dir<'_>, out: &mut Sink<Findings>) {
        let groups = take(&mut self.folded).into_values();
        for name in groups.filter(|names| names.len() > 1).flatten() {
            self.find(Rule::CaseDuplicate, || dir.shown_entry(&name), out);
        }
    }
}

/// A name without regard to case; of what is not UTF-8, the ASCII letters.
fn fold(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_lowercase().into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

fn is_forbidden(byte: &u8) -> bool {
    matches!(
        byte,
        0..=31 | b'<' | b'>' | b':' | b'"' | b'\\' | b'|' | b'?' | b'*'
    )
}

/// Whether Windows takes the name for a device, which it does with any extension.
fn is_device(name: &[u8]) -> bool {
    let stem = name.split(|byte| *byte == b'.').next().unwrap_or(name);
    let stem = stem.trim_ascii_end().to_ascii_uppercase();
    match &*stem {
        b"CON" | b"PRN" | b"AUX" | b"NUL" | b"CONIN$" | b"CONOUT$" => true,
        [b'C', b'O', b'M', number @ ..] | [b'L', b'P', b'T', number @ ..] => {
            matches!(number, [b'1'..=b'9'] | [0xc2, 0xb9 | 0xb2 | 0xb3])
        }
        _ => false,
    }
}

/// The plugin.
struct Check;

impl Plugin for Check {
    const NAME: &'static str = "check";
    const ABOUT: &'static str = "Find names and sizes that other systems cannot hold";
    type Options = CheckOptions;
    type Visit = CheckVisit;
    type Total = Findings;

    fn visit(options: &CheckOptions) -> Result<CheckVisit, String> {
        Ok(CheckVisit {
            options: options.clone(),
            folded: BTreeMap::new(),
        })
    }

    fn total(_: &CheckOptions) -> Result<Findings, String> {
        Ok(Findings::default())
    }

    fn report(
        _: &CheckOptions,
        total: Findings,
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        let mut text = String::new();
        for (rule, count) in &total.0 {
            let name = serde_json::json!(rule);
            let name = name.as_str().unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:>12}  {name}", format::count(*count));
        }
        if total.0.is_empty() {
            text.push_str("Nothing was found.\n");
        }
        Ok(PluginReport {
            json: serde_json::json!({ "findings": total.0 }),
            text,
            bytes: None,
        })
    }
}
