//! Standard error, shared by the line of progress and by messages, without ever waiting for it.
//!
//! What is to be shown waits in memory for a thread that writes it. A terminal that was stopped, or a pipe that nobody
//! reads, holds up that thread and nobody else: what does not fit is left out, and counted.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Messages that may wait, in bytes; more are left out.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// What a message costs besides its text.
const MESSAGE_BYTES: usize = 64;
/// How long the end waits for what is not written yet.
const LAST_WORDS: Duration = Duration::from_secs(1);
const WIPE: &str = "\r\x1b[K";

/// Standard error of the program. Errors of writing to it are ignored: there is nowhere to report them.
#[derive(Clone)]
pub struct Screen(Arc<Shared>);

struct Shared {
    /// What the program is called, in messages of the screen's own.
    name: String,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    out: Mutex<Out>,
}

/// What is to be written.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<String>,
    bytes: usize,
    left_out: u64,
    /// The line of progress to draw, or to wipe.
    line: Option<Line>,
    writer: Writer,
}

enum Line {
    Shown(String),
    Wiped,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Writer {
    /// Nothing was to be written so far.
    #[default]
    None,
    Idle,
    Writing,
}

struct Out {
    file: Box<dyn Write + Send>,
    /// The line of progress is there.
    shown: bool,
}

impl Screen {
    /// Standard error, for the program `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::on(name, Box::new(io::stderr()))
    }

    fn on(name: &str, file: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Shared {
            name: name.to_owned(),
            waiting: Mutex::default(),
            changed: Condvar::new(),
            out: Mutex::new(Out { file, shown: false }),
        }))
    }

    /// Shows or replaces the line. It stays at the bottom until it is wiped.
    pub fn show(&self, line: &str) {
        let line = Line::Shown(line.to_owned());
        self.add(|waiting| waiting.line = Some(line));
    }

    /// Writes a whole line above the line of progress, which comes back when it changes next.
    pub fn message(&self, line: &str) {
        self.add(|waiting| waiting.push(line));
    }

    /// Takes the line of progress away.
    pub fn wipe(&self) {
        if self.0.waiting().writer != Writer::None {
            self.add(|waiting| waiting.line = Some(Line::Wiped));
        }
    }

    /// Takes the line of progress away, and waits a moment until all is written: other things are said next.
    pub fn clear(&self) {
        self.wipe();
        self.settle();
    }

    fn settle(&self) {
        let waiting = self.0.waiting();
        let changed = &self.0.changed;
        // What is still not written then will not be.
        let _ = changed.wait_timeout_while(waiting, LAST_WORDS, |waiting| !waiting.is_done());
    }

    fn add(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.0.waiting();
        change(&mut waiting);
        if waiting.writer == Writer::None {
            waiting.writer = Writer::Idle;
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("messages".to_owned());
            if thread.spawn(move || shared.write_for_ever()).is_err() {
                waiting.writer = Writer::None;
                let batch = waiting.take(&self.0.name);
                // Where there are no threads, late is better than never.
                return self.0.out().write(batch);
            }
        }
        drop(waiting);
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Screen").field(&self.0.name).finish()
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self) {
        let mut waiting = self.waiting();
        loop {
            if waiting.is_empty() {
                waiting.writer = Writer::Idle;
                self.changed.notify_all();
                let woken = self.changed.wait_while(waiting, |now| now.is_empty());
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
            }
            waiting.writer = Writer::Writing;
            let batch = waiting.take(&self.name);
            drop(waiting);
            self.out().write(batch);
            waiting = self.waiting();
        }
    }
}

impl Waiting {
    fn push(&mut self, line: &str) {
        let bytes = line.len() + MESSAGE_BYTES;
        match self.bytes + bytes > WAITING_BYTES_MAX {
            true => self.left_out += 1,
            false => {
                self.bytes += bytes;
                self.messages.push_back(format!("{line}\n"));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.left_out == 0 && self.line.is_none()
    }

    fn is_done(&self) -> bool {
        self.is_empty() && self.writer != Writer::Writing
    }

    /// Messages, with what was left out behind them, and the line.
    fn take(&mut self, name: &str) -> (String, Option<Line>) {
        self.bytes = 0;
        let mut text: String = std::mem::take(&mut self.messages).into_iter().collect();
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{name}: warning: {left_out} messages are left out here: nobody took them in time"
            );
        }
        (text, self.line.take())
    }
}

impl Out {
    fn write(&mut self, (text, line): (String, Option<Line>)) {
        let mut all = String::new();
        if self.shown && (!text.is_empty() || line.is_some()) {
            all.push_str(WIPE);
            self.shown = false;
        }
        all.push_str(&text);
        if let Some(Line::Shown(line)) = line {
            all.push_str(WIPE);
            all.push_str(&line);
            self.shown = true;
        }
        let _ = self.file.write_all(all.as_bytes());
        let _ = self.file.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Takes the first thing that is written only when it is told to.
    struct Stopped {
        go_on: Option<Receiver<()>>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(go_on) = self.go_on.take() {
                let _ = go_on.recv();
            }
            let text = String::from_utf8_lossy(bytes);
            self.written.lock().unwrap().push_str(&text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stopped() -> (Screen, Sender<()>, Arc<Mutex<String>>) {
        let (resume, go_on) = channel();
        let written = Arc::default();
        let out = Stopped {
            go_on: Some(go_on),
            written: Arc::clone(&written),
        };
        (Screen::on("hydra", Box::new(out)), resume, written)
    }

    #[test]
    fn a_terminal_that_takes_nothing_held_up_who_had_something_to_say() {
        let (screen, resume, written) = stopped();
        let long = "x".repeat(1 << 20);
        for _ in 0..20 {
            screen.message(&long);
            screen.show("some line");
        }
        drop(resume);
        screen.clear();
        let written = written.lock().unwrap();
        let notices = written.split("hydra: warning: ").skip(1);
        let numbers = notices.map(|notice| notice.split(' ').next().unwrap());
        let left_out: usize = numbers.map(|number| number.parse::<usize>().unwrap()).sum();
        assert_eq!(written.matches(&long).count() + left_out, 20);
        assert!(left_out > 0);
    }

    #[test]
    fn messages_stand_above_the_line_which_is_gone_at_the_end() {
        let (screen, resume, written) = stopped();
        drop(resume);
        screen.show("line");
        screen.settle();
        screen.message("one");
        screen.settle();
        screen.message("two");
        screen.show("line");
        screen.settle();
        screen.clear();
        assert_eq!(
            *written.lock().unwrap(),
            "\r\x1b[Kline\r\x1b[Kone\ntwo\n\r\x1b[Kline\r\x1b[K"
        );
    }
}
