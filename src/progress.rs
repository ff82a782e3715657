//! Standard error as a terminal: one line of progress, and messages above it.
//!
//! Says nothing by itself: who walks calls [`Progress::update`].

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

mod screen;

pub use screen::Screen;

/// The least time between two changes of the line.
const REDRAW: Duration = Duration::from_millis(200);

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Entries counted.
    pub entries: u64,
    /// Directories that are known and not finished.
    pub open_directories: u64,
    /// Workers that have something to do.
    pub busy: u32,
    /// All workers.
    pub workers: u32,
}

/// The line for a terminal of `width` columns. `rate`: entries per second just now.
#[must_use]
pub fn line(now: &Snapshot, rate: f64, elapsed: Duration, width: usize) -> String {
    let seconds = elapsed.as_secs();
    let clock = match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    };
    let count = crate::plugins::format::count;
    let full = format!(
        "{clock}  {} entries  {}/s  {} directories open  {}/{} workers busy",
        count(now.entries),
        count(rate as u64),
        count(now.open_directories),
        now.busy,
        now.workers,
    );
    // The last column stays empty: writing to it makes some terminals begin a new line.
    full.chars().take(width.saturating_sub(1)).collect()
}

/// Shows how far a job is, if standard error is a terminal.
#[derive(Debug)]
pub struct Progress {
    screen: Screen,
    enabled: bool,
    start: Instant,
    drawn: Option<(Instant, u64)>,
}

impl Progress {
    /// Shows nothing unless `wanted` and standard error is a terminal.
    #[must_use]
    pub fn new(screen: &Screen, wanted: bool) -> Self {
        Self {
            screen: screen.clone(),
            enabled: wanted && io::stderr().is_terminal(),
            start: Instant::now(),
            drawn: None,
        }
    }

    /// Shows `now`, if the line is old enough.
    pub fn update(&mut self, now: &Snapshot) {
        if !self.enabled {
            return;
        }
        let (since, entries) = self.drawn.unwrap_or((self.start, 0));
        let passed = since.elapsed();
        if passed < REDRAW {
            return;
        }
        let rate = now.entries.saturating_sub(entries) as f64 / passed.as_secs_f64();
        self.drawn = Some((Instant::now(), now.entries));
        let text = line(now, rate, self.start.elapsed(), stderr_width());
        self.screen.show(&text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.screen.wipe();
    }
}

fn stderr_width() -> usize {
    terminal_width(io::stderr()).unwrap_or(80)
}

/// Columns of the terminal that `file` is, if it is one.
pub(crate) fn terminal_width(file: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(file).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Snapshot = Snapshot {
        entries: 1_234_567,
        open_directories: 89,
        busy: 3,
        workers: 4,
    };

    #[test]
    fn the_line_says_how_far_it_is() {
        let text = line(&NOW, 45_678.9, Duration::from_secs(75), 100);
        assert_eq!(
            text,
            "1:15  1,234,567 entries  45,678/s  89 directories open  3/4 workers busy"
        );
        assert!(line(&NOW, 0.0, Duration::from_secs(3661), 100).starts_with("1:01:01  "));
    }

    #[test]
    fn the_line_fits_the_terminal() {
        assert_eq!(line(&NOW, 1.0, Duration::ZERO, 10), "0:00  1,2");
        assert_eq!(line(&NOW, 1.0, Duration::ZERO, 0), "");
    }
}
