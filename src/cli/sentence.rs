//! Log messages as sentences: what is shown to people who have not asked for more.
//!
//! Only the shape is decided here; which messages there are is in [`super::logging`].

use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Fields that help those only who look into the program.
const INTERNAL: [&str; 2] = ["module", "epoch"];

/// Writes each message as `PROGRAM: [warning: |error: ]SENTENCE`.
pub(super) struct Sentences {
    program: String,
}

impl Sentences {
    pub(super) fn of(program: &str) -> Self {
        let program = program.to_owned();
        Self { program }
    }
}

impl<S, N> FormatEvent<S, N> for Sentences
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let severity = severity(*event.metadata().level());
        writeln!(writer, "{}: {severity}{}", self.program, parts.sentence())
    }
}

/// The word before a message, with what separates it.
pub(super) fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error: ",
        Level::WARN => "warning: ",
        _ => "",
    }
}

/// What a message is made of.
#[derive(Debug, Default)]
struct Parts {
    message: String,
    worker: Option<String>,
    pid: Option<String>,
    address: Option<String>,
    why: Option<String>,
    others: Vec<String>,
}

impl Parts {
    fn sentence(self) -> String {
        let mut text = match &self.worker {
            // "worker lost" and the like speak of this worker already.
            Some(worker) => {
                let pid = self.pid.as_ref();
                let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                match self.message.strip_prefix("worker ") {
                    Some(rest) => format!("worker {worker}{pid} {rest}"),
                    None => format!("worker {worker}{pid}: {}", self.message),
                }
            }
            None => self.message,
        };
        // Writing to a string cannot fail.
        if let Some(address) = self.address {
            let _ = write!(text, " at {address}");
        }
        let mut others = self.others;
        if let (Some(pid), None) = (self.pid, self.worker) {
            others.insert(0, format!("pid {pid}"));
        }
        if !others.is_empty() {
            let _ = write!(text, " ({})", others.join(", "));
        }
        if let Some(why) = self.why {
            let _ = write!(text, ": {why}");
        }
        text
    }

    fn take(&mut self, name: &str, value: String) {
        match name {
            "message" => self.message = value,
            "worker" => self.worker = Some(value),
            "pid" => self.pid = Some(value),
            "address" => self.address = Some(value),
            "reason" | "error" => self.why = Some(value),
            name if INTERNAL.contains(&name) => {}
            name => self.others.push(format!("{name} {value}")),
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(fields: &[(&str, &str)]) -> String {
        let mut parts = Parts::default();
        for (name, value) in fields {
            parts.take(name, (*value).to_owned());
        }
        parts.sentence()
    }

    #[test]
    fn fields_were_shown_as_the_program_names_them() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[("message", "going on")], "going on"),
            (
                &[("message", "listening"), ("address", "0.0.0.0:8101")],
                "listening at 0.0.0.0:8101",
            ),
            (
                &[
                    ("worker", "3"),
                    ("pid", "77"),
                    ("reason", "killed by signal 9"),
                    ("message", "worker lost"),
                ],
                "worker 3 (pid 77) lost: killed by signal 9",
            ),
            (
                &[
                    ("worker", "3"),
                    ("pid", "77"),
                    ("module", "hydra::x"),
                    ("message", "slow: /a"),
                ],
                "worker 3 (pid 77): slow: /a",
            ),
            (
                &[("message", "worker cannot be killed"), ("pid", "77")],
                "worker cannot be killed (pid 77)",
            ),
            (
                &[
                    ("message", "refused a connection"),
                    ("from", "[::1]:9"),
                    ("error", "the peer hung up"),
                ],
                "refused a connection (from [::1]:9): the peer hung up",
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(sentence(fields), expected);
        }
    }
}
