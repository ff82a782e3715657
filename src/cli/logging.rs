//! Log messages: which are shown, and how they reach standard error without doing harm.

use super::error::UsageError;
use super::sentence::Sentences;
use crate::progress::Screen;
use crate::report::escape;
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What was typed about messages.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct LogArgs {
    /// Say more, with the time and the part of the program; twice: much more
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
    /// Whether messages say when and where in the program they come from, or are plain sentences.
    pub detailed: bool,
}

/// Which messages a program shows when nothing is typed; each `-v` adds the next level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usual {
    /// A command that ends with a report: only what is odd, and whom it waits for.
    Warnings,
    /// A program that runs for days and prints nothing else: what it does.
    Events,
}

impl LogArgs {
    /// Decides: what was typed goes before `RUST_LOG`, which goes before the default.
    pub(super) fn resolve(
        &self,
        usual: Usual,
        rust_log: Option<String>,
    ) -> Result<LogConfig, UsageError> {
        const LEVELS: [&str; 4] = ["warn,hydra_server=info", "info", "debug", "trace"];
        let level = |more: u8| {
            let level = usize::from(usual == Usual::Events) + usize::from(more);
            LEVELS.get(level).unwrap_or(&"trace").to_string()
        };
        let by_count = match (self.quiet, self.verbose) {
            (true, _) => Some("error".to_owned()),
            (_, 0) => None,
            (_, more) => Some(level(more)),
        };
        let rust_log = rust_log.filter(|filter| !filter.is_empty());
        let option = match self.log_level {
            Some(_) => "--log-level",
            None => "RUST_LOG",
        };
        let asked = self.log_level.clone().or(by_count).or(rust_log);
        let detailed = asked.is_some() && !self.quiet;
        let filter = asked.unwrap_or_else(|| level(0));
        let typed = self.log_level.as_deref().unwrap_or_default();
        if let Some(odd) = typed.split(',').map(str::trim).find(|part| is_odd(part)) {
            return Err(UsageError::LogFilter {
                option,
                filter: escape(filter.as_bytes()),
                reason: format!("'{}' is no level", escape(odd.as_bytes())),
            });
        }
        match EnvFilter::builder().parse(&filter) {
            Ok(_) => Ok(LogConfig {
                filter,
                quiet: self.quiet,
                detailed,
            }),
            Err(error) => Err(UsageError::LogFilter {
                option,
                filter: escape(filter.as_bytes()),
                reason: error.to_string(),
            }),
        }
    }
}

/// Whether a part of a filter is neither a level nor has one: it would silence everything else.
fn is_odd(part: &str) -> bool {
    const WORDS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = WORDS.iter().any(|word| word.eq_ignore_ascii_case(part));
    let is_number = matches!(part, "0" | "1" | "2" | "3" | "4" | "5");
    let named = part.contains(['=', '[', ':']) || part.starts_with("hydra");
    !(part.is_empty() || is_number || named || is_level)
}

/// Starts to show messages of the program `name` on `screen`. Only the first call in a process has an effect.
pub(super) fn start(name: &str, config: &LogConfig, screen: &Screen) {
    let filter = EnvFilter::builder().parse_lossy(&config.filter);
    let messages = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(ToScreen(screen.clone()));
    // A program that has set up messages of its own keeps them.
    let _ = match config.detailed {
        true => tracing::subscriber::set_global_default(messages.finish()),
        false => {
            let messages = messages.event_format(Sentences::of(name));
            tracing::subscriber::set_global_default(messages.finish())
        }
    };
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
        let rust_log = rust_log.map(str::to_owned);
        args.resolve(Usual::Warnings, rust_log).unwrap().filter
    }

    #[test]
    fn a_client_said_nothing_of_what_it_does() {
        let said = |verbose, quiet| {
            let args = LogArgs {
                verbose,
                quiet,
                ..LogArgs::default()
            };
            let config = args.resolve(Usual::Events, None).unwrap();
            (config.filter, config.detailed)
        };
        assert_eq!(said(0, false), ("info".into(), false));
        assert_eq!(said(1, false), ("debug".into(), true));
        assert_eq!(said(9, false), ("trace".into(), true));
        assert_eq!(said(0, true), ("error".into(), false));
    }

    #[test]
    fn what_is_typed_goes_before_the_environment() {
        let verbose = LogArgs {
            verbose: 1,
            ..LogArgs::default()
        };
        assert_eq!(resolve(LogArgs::default(), None), "warn,hydra_server=info");
        assert_eq!(
            resolve(LogArgs::default(), Some("")),
            "warn,hydra_server=info"
        );
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
    fn a_mistyped_level_silenced_everything() {
        let typed = |filter: &str| {
            let log_level = Some(filter.to_owned());
            let args = LogArgs {
                log_level,
                ..LogArgs::default()
            };
            args.resolve(Usual::Warnings, None).is_ok()
        };
        assert!(!typed("bogus") && !typed("warn,inf"));
        assert!(typed("warn,hydra_worker=debug") && typed("hydra_link") && typed("OFF"));
        assert!(typed("my_plugin=info"));
        // Other programs read it as well.
        assert_eq!(resolve(LogArgs::default(), Some("hyper")), "hyper");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_wrong_usage() {
        let args = LogArgs {
            log_level: Some("hydra=loud".into()),
            ..LogArgs::default()
        };
        assert!(matches!(
            args.resolve(Usual::Warnings, None),
            Err(UsageError::LogFilter { .. })
        ));
    }

    #[test]
    fn messages_cannot_move_the_cursor() {
        assert_eq!(harmless(b"a\x1b[2J\nb \\x41\n"), "a\\x1b[2J\\nb \\x41");
    }
}
