//! What can be wrong with a command line, and how a program says so.

use super::values::ValueError;
use crate::registry::{PluginError, RegistryError};
use crate::report::escape;
use hydra_link::address::AddressError;
use hydra_proto::words::words;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Wrong usage: nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// What the argument parser found; also its answer to `--help`.
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// A first operand without `/` that names nothing.
    #[error(
        "there is no plugin or command '{name}'; there are: {known}. A path of that name is written ./{name}"
    )]
    UnknownName {
        /// What was typed, escaped.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No path to walk.
    #[error("no path is given: name at least one directory to walk")]
    NoPath,
    /// A path that no system call takes.
    #[error("'{0}' is not a path: it is empty or has a NUL in it")]
    BadPath(String),
    /// A file with more arguments that cannot be read.
    #[error("{option}: cannot read {path}: {}", words(source))]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file, escaped.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file that must be text and is not.
    #[error("{option}: line {line} of {path} is not UTF-8")]
    NotText {
        /// The option that names it.
        option: &'static str,
        /// The file, escaped.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// A glob that does not parse.
    #[error("the glob '{glob}' cannot be read: {reason}")]
    Glob {
        /// The glob, escaped.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A filter for log messages that does not parse.
    #[error(
        "{option}: the log level '{filter}' cannot be read: {reason}; write a level (error, warn, info, debug, trace) or TARGET=LEVEL, separated by commas"
    )]
    LogFilter {
        /// Where it stands.
        option: &'static str,
        /// The filter, escaped.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Options that do not go together, or a value outside its limits.
    #[error("{0}")]
    Options(String),
    /// The working directory is gone, so relative paths mean nothing.
    #[error(
        "the working directory is gone or cannot be reached, so relative paths mean nothing: give absolute ones"
    )]
    WorkingDirectory,
    /// A host, or a list of hosts, that cannot be read.
    #[error("{option}: {source}")]
    Address {
        /// The option that names it, with its file if the host stands in one.
        option: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// A value that cannot be read.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The plugin does not take its options.
    #[error(transparent)]
    Plugin(PluginError),
    /// The program's own plugins do not fit together.
    #[error("internal error: {0}")]
    Registry(#[from] RegistryError),
    /// A plugin's option has the name of one of Hydra's.
    #[error(
        "internal error: the plugin '{plugin}' has an option '{option}', which is one of Hydra's own"
    )]
    OptionTwice {
        /// The plugin.
        plugin: &'static str,
        /// The option.
        option: String,
    },
}

impl From<PluginError> for UsageError {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Arguments(error) => Self::Clap(error),
            error => Self::Plugin(error),
        }
    }
}

/// What the argument parser complains about, as one sentence that a terminal shows as it is. It comes as a
/// paragraph, perhaps with tips in others, and then a reminder of the usage.
pub(super) fn complaint(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let mut sentence = one_line(first);
    for tip in paragraphs.filter_map(|paragraph| paragraph.trim().strip_prefix("tip: ")) {
        sentence = format!("{sentence}; {}", one_line(tip));
    }
    // Backslashes stay single, as they were typed.
    let sentence = escape(sentence.as_bytes()).replace("\\\\", "\\");
    format!("{sentence} (--help says more)")
}

fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

/// A path or argument as messages show it.
pub(super) fn shown(text: &OsStr) -> String {
    escape(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    fn said(args: &[&str]) -> String {
        let needed = Arg::new("mode").long("mode").required(true);
        let command = Command::new("x").no_binary_name(true).arg(needed);
        complaint(&command.try_get_matches_from(args).unwrap_err())
    }

    #[test]
    fn the_parser_complained_in_paragraphs() {
        assert_eq!(
            said(&[]),
            "the following required arguments were not provided: --mode <mode> (--help says more)"
        );
        let text = said(&["--mod", "x"]);
        assert!(
            text.starts_with("unexpected argument '--mod' found; "),
            "{text}"
        );
        assert!(!text.contains('\n') && text.contains("'--mode'"), "{text}");
    }

    #[test]
    fn what_the_parser_repeats_could_move_the_cursor() {
        let text = said(&["--x\u{202e}y\\"]);
        assert!(text.contains("--x\\u{202e}y\\"), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
    }
}
