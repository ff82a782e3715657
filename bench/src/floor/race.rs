//! Starts the processes of a plan, lets them go together, and measures until the last is done.
//!
//! Each process gets its part on standard input, opens the root, and says that it is ready; then the
//! clock starts. Starting processes and reading the plan are not in the time.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::{Counts, Plan, part::Part};
use crate::Work;

/// One measurement of the floor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// `list` or `stat`.
    pub work: String,
    /// How many processes walked.
    pub procs: usize,
    /// From the moment all were let go to the last one's answer, in seconds.
    pub seconds: f64,
    /// Processor time of all of them while they walked, in seconds.
    pub cpu_seconds: f64,
    /// What they counted together.
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    cpu_seconds: f64,
    counts: Counts,
}

/// Walks `root` as `plan` says, with `program part WORK DIR` as the processes.
///
/// # Errors
///
/// When a process cannot be started or fails.
pub fn race(program: &Path, root: &Path, plan: &Plan) -> anyhow::Result<Outcome> {
    let mut runners = plan
        .parts
        .iter()
        .map(|part| Runner::start(program, root, plan.work, part))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for runner in &mut runners {
        runner.ready()?;
    }
    let start = Instant::now();
    for runner in &mut runners {
        runner.go()?;
    }
    let answers = runners
        .iter_mut()
        .map(Runner::answer)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let seconds = start.elapsed().as_secs_f64();
    let mut outcome = Outcome {
        work: plan.work.to_string(),
        procs: plan.procs(),
        seconds,
        cpu_seconds: 0.0,
        counts: Counts::default(),
    };
    for answer in answers {
        outcome.cpu_seconds += answer.cpu_seconds;
        outcome.counts.add(&answer.counts);
    }
    Ok(outcome)
}

/// The other side of [`race`]: one process, on standard input and output.
///
/// # Errors
///
/// When the plan, the root or the pipes fail.
pub fn run_part(root: &Path, work: Work) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut len = [0; 8];
    input.read_exact(&mut len)?;
    let mut steps = Vec::new();
    let len = u64::from_le_bytes(len);
    input.by_ref().take(len).read_to_end(&mut steps)?;
    ensure!(steps.len() as u64 == len, "a cut plan");
    let part = Part::new(root, work)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    input.read_exact(&mut [0])?;
    let (counts, cpu): (Counts, Duration) = part.run(&steps)?;
    let answer = Answer {
        cpu_seconds: cpu.as_secs_f64(),
        counts,
    };
    writeln!(output, "{}", serde_json::to_string(&answer)?)?;
    Ok(output.flush()?)
}

/// A started process; killed if it is dropped before it ended.
struct Runner {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Runner {
    fn start(program: &Path, root: &Path, work: Work, part: &[u8]) -> anyhow::Result<Runner> {
        let mut child = Command::new(program)
            .args(["part", &work.to_string()])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        input.write_all(&(part.len() as u64).to_le_bytes())?;
        input.write_all(part)?;
        Ok(Runner {
            child,
            input,
            output,
        })
    }

    fn ready(&mut self) -> anyhow::Result<()> {
        let line = self.line()?;
        ensure!(line == "ready\n", "a part of the floor did not start");
        Ok(())
    }

    fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.input.write_all(b"!")?)
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let line = self.line()?;
        serde_json::from_str(&line).context("a part of the floor failed")
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
