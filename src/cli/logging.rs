//! Log messages: which are shown, and how they reach standard error without doing harm.

use super::error::UsageError;
use crate::progress::Screen;
use crate::report::escape;
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What was typed about messages.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct LogArgs {
    /// Say more; twice: much more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say nothing but errors, and show no progress
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Which messages to show: a level, or TARGET=LEVEL, separated by commas
    #[arg(long, value_name = "FILTER")]
    pub(super) log_level: Option<String>,
}

/// Which messages are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Levels by target, as `tracing_subscriber` reads them.
    pub filter: String,
    /// Whether to show nothing that was not asked for.
    pub quiet: bool,
}

impl LogArgs {
    /// Decides: what was typed goes before `RUST_LOG`, which goes before the default.
    pub(super) fn resolve(&self, rust_log: Option<String>) -> Result<LogConfig, UsageError> {
        let by_count = match (self.quiet, self.verbose) {
            (true, _) => Some("error"),
            (_, 0) => None,
            (_, 1) => Some("info"),
            (_, 2) => Some("debug"),
            _ => Some("trace"),
        };
        let typed = self.log_level.clone().or(by_count.map(str::to_owned));
        let rust_log = rust_log.filter(|filter| !filter.is_empty());
        let filter = typed.or(rust_log).unwrap_or_else(|| "warn".to_owned());
        match EnvFilter::builder().parse(&filter) {
            Ok(_) => Ok(LogConfig {
                filter,
                quiet: self.quiet,
            }),
            Err(error) => Err(UsageError::LogFilter {
                filter: escape(filter.as_bytes()),
                reason: error.to_string(),
            }),
        }
    }
}

/// Starts to show messages on `screen`. Only the first call in a process has an effect.
pub(super) fn start(config: &LogConfig, screen: &Screen) {
    let filter = EnvFilter::builder().parse_lossy(&config.filter);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(ToScreen(screen.clone()))
        .finish();
    // A program that has set up messages of its own keeps them.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct ToScreen(Screen);

impl<'a> MakeWriter<'a> for ToScreen {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// Takes one message a write, as the formatter hands them over.
struct Line<'a>(&'a Screen);

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.message(&harmless(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message as one line that a terminal shows as it is.
fn harmless(message: &[u8]) -> String {
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    // Backslashes stay single: messages hold escapes already.
    escape(message).replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: LogArgs, rust_log: Option<&str>) -> String {
        args.resolve(rust_log.map(str::to_owned)).unwrap().filter
    }

    #[test]
    fn what_is_typed_goes_before_the_environment() {
        let verbose = LogArgs {
            verbose: 1,
            ..LogArgs::default()
        };
        assert_eq!(resolve(LogArgs::default(), None), "warn");
        assert_eq!(resolve(LogArgs::default(), Some("")), "warn");
        assert_eq!(resolve(LogArgs::default(), Some("debug")), "debug");
        assert_eq!(resolve(verbose.clone(), Some("debug")), "info");
        let filter = Some("hydra_link=trace,warn".to_owned());
        let both = LogArgs {
            log_level: filter,
            ..verbose
        };
        assert_eq!(resolve(both, None), "hydra_link=trace,warn");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_wrong_usage() {
        let args = LogArgs {
            log_level: Some("hydra=loud".into()),
            ..LogArgs::default()
        };
        assert!(matches!(
            args.resolve(None),
            Err(UsageError::LogFilter { .. })
        ));
    }

    #[test]
    fn messages_cannot_move_the_cursor() {
        assert_eq!(harmless(b"a\x1b[2J\nb \\x41\n"), "a\\x1b[2J\\nb \\x41");
    }
}
