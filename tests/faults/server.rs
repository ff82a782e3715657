//! A server that is killed and goes on, again and again: the same report, each row once, and how much is walked twice.

use crate::lab::{Lab, Outcome, lines, without_run};
use crate::logged::spawn;
use crate::pids::ends_within;
use crate::wires::free_port;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// No job takes longer, all its servers together.
const JOB_MAX: Duration = Duration::from_secs(1200);

/// What came of a job.
pub(crate) struct Told {
    pub(crate) kills: u32,
    /// Entries that workers have seen, those that they saw in vain included.
    pub(crate) walked: u64,
    /// Entries of the tree.
    pub(crate) entries: u64,
    pub(crate) seconds: f64,
}

impl Told {
    /// Work done again, in percent of the job.
    pub(crate) fn again(&self) -> f64 {
        let again = self.walked.saturating_sub(self.entries) as f64;
        100.0 * again / self.entries as f64
    }
}

/// Walks the lab's tree with `clients` clients (0: inside the server, and then the workers die with it) and kills its
/// server `kills` times, after equal shares of the work.
pub(crate) fn run(lab: &Lab, clients: usize, kills: u32) -> Result<Told, String> {
    let started = Instant::now();
    let mut job = Job::start(lab, clients).map_err(|error| error.to_string())?;
    let entries = lab.reference().entries();
    let mut killed = 0;
    while !job.has_ended()? {
        if started.elapsed() > JOB_MAX {
            return Err(format!("no end after {JOB_MAX:?}: {}", job.log()));
        }
        let goal = entries * u64::from(killed + 1) / u64::from(kills + 1);
        if killed < kills && job.walked > goal {
            job.kill_and_resume().map_err(|error| error.to_string())?;
            killed += 1;
        }
    }
    job.check()?;
    Ok(Told {
        kills: killed,
        walked: job.walked,
        entries,
        seconds: started.elapsed().as_secs_f64(),
    })
}

struct Job<'a> {
    lab: &'a Lab,
    server: Child,
    clients: Vec<Child>,
    tally: UnixDatagram,
    walked: u64,
    /// Files of this job: state, rows, output, log.
    dir: PathBuf,
}

impl<'a> Job<'a> {
    fn start(lab: &'a Lab, clients: usize) -> io::Result<Self> {
        let dir = lab.path(&format!("job-{clients}"));
        fs::create_dir(&dir)?;
        let tally = UnixDatagram::bind(dir.join("tally"))?;
        tally.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut server = lab.server();
        server.arg("--state-dir").arg(dir.join("state"));
        server.arg("--rows").arg(dir.join("rows"));
        let log = File::create(dir.join("log"))?;
        let mut running = Vec::new();
        let mut hosts = Vec::new();
        for _ in 0..clients {
            let (mut client, address) = (lab.client(), format!("127.0.0.1:{}", free_port()));
            client.args(["--listen", &address]);
            hosts.push(address);
            let client = client.stdout(Stdio::null()).stderr(log.try_clone()?);
            running.push(client.spawn()?);
        }
        match clients {
            0 => server.args(["--workers", "2"]),
            _ => server.arg("--clients").arg(hosts.join(",")),
        };
        server
            .args(Lab::AUDIT)
            .arg("--tally")
            .arg(dir.join("tally"));
        server.arg(lab.tree());
        Ok(Self {
            lab,
            server: spawn(server, &dir)?,
            clients: running,
            tally,
            walked: 0,
            dir,
        })
    }

    /// Adds up what workers tell until some worker has told something; says whether the server has ended.
    fn has_ended(&mut self) -> Result<bool, String> {
        let mut number = [0; 8];
        match self.tally.recv(&mut number) {
            Ok(8) => {
                self.walked += u64::from_le_bytes(number);
                return Ok(false);
            }
            Ok(_) => return Err("a tally of another length".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        let ended = self.server.try_wait();
        Ok(ended.map_err(|error| error.to_string())?.is_some())
    }

    fn kill_and_resume(&mut self) -> io::Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        let mut server = self.lab.command();
        server.arg("resume").arg(self.dir.join("state"));
        self.server = spawn(server, &self.dir)?;
        Ok(())
    }

    /// The report is the undisturbed one, and each directory is in one row.
    fn check(&mut self) -> Result<(), String> {
        let status = self.server.wait().map_err(|error| error.to_string())?;
        if status.code() != Some(0) {
            return Err(format!("the server ended with {status}: {}", self.log()));
        }
        let read = |name: &str| fs::read(self.dir.join(name)).map_err(|error| error.to_string());
        let report = serde_json::from_slice(&read("out")?).map_err(|error| error.to_string())?;
        let outcome = Outcome {
            status: status.code(),
            report: without_run(report),
            rows: lines(&read("rows")?),
        };
        outcome.check(self.lab.reference())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for client in &mut self.clients {
            let _ = kill_process(Pid::from_child(client), Signal::TERM);
            ends_within(Pid::from_child(client), Duration::from_secs(10));
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}
