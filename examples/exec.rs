//! Runs a command for each file, or for each directory.
//!
//! ```sh
//! exec --command sha256sum --rows sums.ndjson /data
//! exec --each dir --command git --arg -C --arg {} --arg fsck --timeout 5m /repositories
//! exec client --listen --allow exec                    # on other hosts
//! ```
//!
//! There is no shell. `{}` in an argument stands for the path, which stays one word whatever is in it; where no
//! argument has it, the path comes last. Standard input is empty. Exit status and output of a run stand together in
//! one row; a command that fails is an error of its file. Its kind says how: `EXIT` (another status than 0),
//! `SIGNAL`, `TIMEOUT`, or what the operating system says, such as `ENOENT` where there is no such program. Then the
//! message names the program, and the row says the same as `reason`.
//!
//! How long a command may take, `--timeout` says; by default it may take for ever. One that cannot be killed then, because
//! its file system does not answer, costs its worker after `--stall-timeout`, and is tried again.
//!
//! What the command starts, dies with the worker at the latest: they are one process group. Where a worker dies,
//! its part is done again, so a command may run twice for a file, and must bear that. With `--intent` the files are on
//! the server's record before the command runs for the first of them; then the row of one for which it may have run
//! before says `"again": true`, and one that is gone by then has a row too, `presumed run`.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hydra::cli::values::{period, size};
use hydra::plugins::format;
use hydra::{
    Entry, Facts, FileType, Hydra, Plugin, PluginReport, ReduceError, ReportContext, ShownPath,
    Sink, Summary, Visit, Wants, errno,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    Hydra::new().plugin::<Exec>().run()
}

/// What is promised, below the options.
const NOTES: &str = "\
What is promised
  Results are exact: each file counts once, in one row. Actions are at least
  once: where a worker dies, the command runs again for what that worker had
  not reported, so it must bear to run twice for a file.

  with --intent     The files are on the server's record before the command
                    runs for the first of them. The row of one for which it may
                    have run before says so (\"again\": true). One that is gone
                    by then is in a row as 'presumed run', one that somebody
                    else removed as 'already gone'. With --state-dir that holds
                    when the server dies, too. Only of a root, for which
                    --each dir runs the command as well, nothing is said.
  without --intent  For which files it ran twice is not known, but in
                    directories of more than 2048 entries.";

/// The options.
#[derive(Clone, clap::Args, Serialize, Deserialize)]
struct ExecOptions {
    /// The program to run
    #[arg(long, value_name = "PROGRAM")]
    command: OsString,
    /// An argument of it (repeatable); {} stands for the path
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    arg: Vec<OsString>,
    /// What to run it for
    #[arg(long, value_enum, default_value_t = Each::File)]
    each: Each,
    /// How long a run may take (default: for ever)
    #[arg(long, value_name = "TIME", value_parser = period)]
    timeout: Option<Duration>,
    /// How much to keep of standard output, and of standard error
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64K")]
    output_max: u64,
}

/// What to run the command for.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
enum Each {
    File,
    Dir,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Outcome {
    #[serde(rename = "succeeded")]
    Succeeded,
    #[serde(rename = "failed")]
    Failed,
    #[serde(rename = "timed out")]
    TimedOut,
    #[serde(rename = "not run")]
    NotRun,
    #[serde(rename = "presumed run")]
    PresumedRun,
    #[serde(rename = "already gone")]
    AlreadyGone,
}

/// A run.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    path: ShownPath,
    outcome: Outcome,
    /// Null where a signal ended it.
    exit_status: Option<i32>,
    /// The number of that signal.
    signal: Option<i32>,
    /// What the operating system refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    stdout: Output,
    stderr: Output,
    /// A worker that was lost may have run it before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    again: bool,
}

/// Runs by outcome.
#[derive(Default, Serialize, Deserialize)]
struct Runs(BTreeMap<Outcome, u64>);

impl Summary for Runs {
    fn merge(&mut self, other: Self) {
        for (outcome, count) in other.0 {
            *self.0.entry(outcome).or_default() += count;
        }
    }
}

/// The half that runs in workers.
struct ExecVisit(ExecOptions);

impl ExecVisit {
    fn is_for(&self, file_type: FileType) -> bool {
        match self.0.each {
            Each::File => file_type == FileType::File,
            Each::Dir => file_type == FileType::Directory,
        }
    }

    fn command(&self, path: &[u8]) -> Command {
        let mut command = Command::new(&self.0.command);
        let mut has_path = false;
        for word in &self.0.arg {
            let filled = fill(word.as_bytes(), path);
            has_path |= filled.is_some();
            command.arg(filled.unwrap_or_else(|| word.clone()));
        }
        if !has_path {
            command.arg(OsStr::from_bytes(path));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, entry: &Entry<'_>) -> Run {
        let mut run = Run::new(self.0.output_max);
        let mut command = self.command(&entry.local());
        let mut child = match entry.watched(|| command.spawn()) {
            Ok(child) => child,
            Err(error) => {
                let program = hydra::escape(self.0.command.as_bytes());
                let refusal = Refusal::new(&format!("cannot run {program}"), &error);
                return run.ended(Outcome::NotRun, Some(refusal));
            }
        };
        match run.follow(&mut child, self.0.timeout) {
            Ok(Some(status)) => {
                run.status = Some(status);
                match status.success() {
                    true => run.ended(Outcome::Succeeded, None),
                    false => run.ended(Outcome::Failed, None),
                }
            }
            Ok(None) => {
                entry.watched(|| end(&mut child));
                run.ended(Outcome::TimedOut, None)
            }
            Err(error) => {
                entry.watched(|| end(&mut child));
                let refusal = Refusal::new("cannot follow the run to its end", &error);
                run.ended(Outcome::Failed, Some(refusal))
            }
        }
    }
}

/// `word` with the path in place of each `{}`, if there is any.
fn fill(word: &[u8], path: &[u8]) -> Option<OsString> {
    let mut filled = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"{}") {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(path);
        rest = &rest[at + 2..];
    }
    filled.extend_from_slice(rest);
    (rest.len() < word.len()).then(|| OsString::from_vec(filled))
}

/// Kills the command itself, and waits until it is dead, which one that hangs in the kernel never is. Others that it started live on until they, or this worker, end.
fn end(child: &mut Child) {
    // It fails only where there is nothing left to kill.
    let _ = child.kill();
    let _ = child.wait();
}

impl Visit for ExecVisit {
    type Summary = Runs;

    fn wants(&self) -> Wants {
        Wants {
            facts: Facts::TYPE,
            acts: true,
            ..Wants::default()
        }
    }

    fn intends(&mut self, entry: &Entry<'_>) -> bool {
        self.is_for(entry.file_type)
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Runs>) {
        if !self.is_for(entry.file_type) || !out.may_act() {
            return;
        }
        let run = self.run(entry);
        run.tell(entry, out);
        write_row(entry, &run, out);
    }

    fn gone(&mut self, entry: &Entry<'_>, out: &mut Sink<Runs>) {
        if self.is_for(entry.file_type) {
            let outcome = match out.again() {
                true => Outcome::PresumedRun,
                false => Outcome::AlreadyGone,
            };
            write_row(entry, &Run::new(0).ended(outcome, None), out);
        }
    }
}

/// Writes the row of a run, and counts it.
fn write_row(entry: &Entry<'_>, run: &Run, out: &mut Sink<Runs>) {
    *out.summary.0.entry(run.outcome).or_default() += 1;
    out.row(&Row {
        path: entry.shown().into(),
        outcome: run.outcome,
        exit_status: run.status.and_then(|status| status.code()),
        signal: run.status.and_then(|status| status.signal()),
        reason: run.refusal.as_ref().map(|refusal| refusal.reason.clone()),
        stdout: (&run.stdout).into(),
        stderr: (&run.stderr).into(),
        again: out.again(),
    });
}

/// What the operating system refused.
struct Refusal {
    /// The name of its error.
    kind: String,
    /// What it kept from being done, and why.
    reason: String,
}

impl Refusal {
    fn new(what: &str, error: &io::Error) -> Self {
        Self {
            kind: error
                .raw_os_error()
                .map_or_else(|| "OTHER".to_owned(), errno::name),
            reason: format!("{what}: {}", errno::words(error)),
        }
    }
}

/// A run of the command, and what is known of it so far.
struct Run {
    outcome: Outcome,
    status: Option<ExitStatus>,
    refusal: Option<Refusal>,
    stdout: Capture,
    stderr: Capture,
}

impl Run {
    fn new(output_max: u64) -> Self {
        let capture = || Capture {
            bytes: Vec::new(),
            max: usize::try_from(output_max).unwrap_or(usize::MAX),
            cut: false,
        };
        Self {
            outcome: Outcome::NotRun,
            status: None,
            refusal: None,
            stdout: capture(),
            stderr: capture(),
        }
    }

    fn ended(self, outcome: Outcome, refusal: Option<Refusal>) -> Self {
        Self {
            outcome,
            refusal,
            ..self
        }
    }

    /// Reports what went wrong, if anything did.
    fn tell(&self, entry: &Entry<'_>, out: &mut Sink<Runs>) {
        let (kind, message) = match (self.outcome, &self.refusal, self.status) {
            (Outcome::Succeeded, ..) => return,
            (_, Some(refusal), _) => (refusal.kind.as_str(), refusal.reason.clone()),
            (Outcome::TimedOut, ..) => ("TIMEOUT", "it took longer than --timeout".to_owned()),
            (_, _, Some(status)) if status.signal().is_some() => ("SIGNAL", status.to_string()),
            (_, _, status) => ("EXIT", status.unwrap_or_default().to_string()),
        };
        out.fail_as(entry.shown(), "exec", kind, message);
    }

    /// Takes the command's output until it ends, or `None` until its time is over. Does not wait for others
    /// that hold its output open.
    fn follow(
        &mut self,
        child: &mut Child,
        timeout: Option<Duration>,
    ) -> io::Result<Option<ExitStatus>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let exit = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let mut stdout = child.stdout.take().map(OwnedFd::from);
        let mut stderr = child.stderr.take().map(OwnedFd::from);
        for pipe in [&stdout, &stderr].into_iter().flatten() {
            ioctl_fionbio(pipe, true)?;
        }
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let watched = [Some(&exit), stdout.as_ref(), stderr.as_ref()];
            wait(watched.into_iter().flatten(), left)?;
            // Asked before the reading: what was written before the end is there by then.
            let ended = child.try_wait()?;
            self.stdout.read(&mut stdout)?;
            self.stderr.read(&mut stderr)?;
            if ended.is_some() {
                return Ok(ended);
            }
        }
    }
}

/// Waits for any of these, but no longer than `left`.
fn wait<'a>(fds: impl Iterator<Item = &'a OwnedFd>, left: Option<Duration>) -> io::Result<()> {
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut fds, left.as_ref()) {
        Err(Errno::INTR) | Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The beginning of an output; the rest is read and dropped, so that the command can go on.
struct Capture {
    bytes: Vec<u8>,
    max: usize,
    cut: bool,
}

impl Capture {
    /// Reads what is in the pipe, but no more than a pipe can hold; closes it at its end.
    fn read(&mut self, pipe: &mut Option<OwnedFd>) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        for _ in 0..64 {
            let Some(open) = &pipe else { break };
            match rustix::io::read(open, &mut buffer) {
                Ok(0) => *pipe = None,
                Ok(read) => self.keep(buffer.get(..read).unwrap_or_default()),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.max.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.cut |= room < bytes.len();
    }
}

/// An output in a row.
#[derive(Serialize)]
struct Output {
    /// Lossy where it is not UTF-8.
    text: String,
    /// Exact, where `text` is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64: Option<String>,
    /// There was more.
    cut: bool,
}

impl From<&Capture> for Output {
    fn from(capture: &Capture) -> Self {
        let inexact = std::str::from_utf8(&capture.bytes).is_err();
        Self {
            text: String::from_utf8_lossy(&capture.bytes).into_owned(),
            b64: inexact.then(|| BASE64_STANDARD.encode(&capture.bytes)),
            cut: capture.cut,
        }
    }
}

/// The plugin.
struct Exec;

impl Plugin for Exec {
    const NAME: &'static str = "exec";
    const ABOUT: &'static str = "Run a command for each file or directory";
    const NOTES: &'static str = NOTES;
    const ACTS: bool = true;
    type Options = ExecOptions;
    type Visit = ExecVisit;
    type Total = Runs;

    fn visit(options: &ExecOptions) -> Result<ExecVisit, String> {
        match options.command.is_empty() {
            true => Err("--command is empty".to_owned()),
            false => Ok(ExecVisit(options.clone())),
        }
    }

    fn total(_: &ExecOptions) -> Result<Runs, String> {
        Ok(Runs::default())
    }

    fn report(
        _: &ExecOptions,
        total: Runs,
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        let mut text = String::new();
        for (outcome, count) in &total.0 {
            let name = serde_json::json!(outcome);
            let name = name.as_str().unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:>12}  {name}", format::count(*count));
        }
        Ok(PluginReport {
            json: serde_json::json!({ "runs": total.0 }),
            text,
            bytes: None,
        })
    }
}
