//! Runs one command once and measures it.
//!
//! The command gets its own process group, which is killed when it takes too long. Nothing else may
//! be started meanwhile: processor time is the difference of what all ended children have used.

use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Serialize;

use super::memory::{Memory, Watch};
use super::reading::Output;

/// One timed run.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// From the start of the process to its end, in seconds.
    pub seconds: f64,
    /// Processor time in user mode, of the command and all that it waited for, in seconds.
    pub user_seconds: f64,
    /// The same in the kernel.
    pub system_seconds: f64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// What was measured.
    pub sample: Sample,
    /// The exit status; none if it was killed for taking too long.
    pub status: Option<ExitStatus>,
    /// What it printed, if that was asked for.
    pub output: Output,
    /// Its memory, if that was asked for.
    pub memory: Option<Memory>,
}

/// What to do with a run beside timing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing; the output goes to `/dev/null`.
    Time,
    /// Keep the output.
    Read,
    /// Watch the memory; the watching disturbs the times.
    Watch,
}

/// How often memory is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(1);

/// Runs `command`, at most for `limit`.
///
/// # Errors
///
/// When it cannot be started or waited for.
pub fn run(command: &[OsString], purpose: Purpose, limit: Duration) -> anyhow::Result<Ended> {
    use std::os::unix::process::CommandExt;
    let Some((program, args)) = command.split_first() else {
        bail!("an empty command");
    };
    let output = if purpose == Purpose::Read {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let before = usage()?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let reader = child
        .stdout
        .take()
        .map(|out| std::thread::spawn(move || Output::read(out)));
    let mut watch = (purpose == Purpose::Watch).then(|| Watch::new(child.id()));
    let in_time = wait(&child, start + limit, watch.as_mut())?;
    let seconds = start.elapsed().as_secs_f64();
    let group = Pid::from_child(&child);
    if !in_time {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().context("wait")?;
    // Whatever it left behind must not run beside the next command.
    let _ = kill_process_group(group, Signal::KILL);
    let after = usage()?;
    // One that was killed may have left its end of the pipe to somebody out of our reach.
    let reader = reader.filter(|_| in_time);
    let output = match reader.map(std::thread::JoinHandle::join) {
        Some(Ok(output)) => output.context("read the output")?,
        Some(Err(_)) => bail!("the reader of the output panicked"),
        None => Output::default(),
    };
    Ok(Ended {
        sample: Sample {
            seconds,
            user_seconds: after.0 - before.0,
            system_seconds: after.1 - before.1,
        },
        status: in_time.then_some(status),
        output,
        memory: watch.map(Watch::finish),
    })
}

/// Waits for the end of `child`; false if the deadline came first.
fn wait(child: &Child, deadline: Instant, mut watch: Option<&mut Watch>) -> anyhow::Result<bool> {
    let fd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context("watch a process")?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = match &mut watch {
            Some(watch) => {
                watch.look();
                left.min(WATCH_EVERY)
            }
            None => left,
        };
        let timeout = Timespec {
            tv_sec: pause.as_secs() as i64,
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error).context("wait for a process"),
        }
    }
}

/// User and system time of all children that have ended, in seconds.
fn usage() -> anyhow::Result<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}
