//! A server and its clients as real processes, and what is done to them.

use crate::plugin::STRIDE;
use crate::tree;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No run takes longer.
const RUN_MAX: Duration = Duration::from_secs(120);
/// All processes of a run are gone this long after it.
const GONE_MAX: Duration = Duration::from_secs(10);

/// What is done to a process that is at work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The worker is killed.
    KillWorker,
    /// The worker is stopped, and continued so many ticks later.
    StopWorker(u64),
    /// Its client is killed, and started again so many ticks later.
    KillClient(u64),
    /// Its client is stopped, and continued so many ticks later.
    StopClient(u64),
}

impl Fault {
    /// One that `clients` clients can bear.
    pub(crate) fn random(rng: &mut SmallRng, clients: usize) -> Self {
        let later = rng.random_range(1..400);
        match rng.random_range(0..if clients == 0 { 2 } else { 4 }) {
            0 => Self::KillWorker,
            1 => Self::StopWorker(later),
            2 => Self::KillClient(later),
            _ => Self::StopClient(later),
        }
    }
}

/// What all runs share: the tree, the keys, and the report of an undisturbed run.
pub(crate) struct Lab {
    dir: TempDir,
    exe: PathBuf,
    reference: Value,
    tree: PathBuf,
}

impl Lab {
    /// With a tree of its own.
    pub(crate) fn new(directories: usize) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let tree = dir.path().join("tree");
        tree::build(&tree, directories)?;
        let lab = Self::with(dir, tree)?;
        match lab.directories() == directories as u64 + 2 {
            true => Ok(lab),
            false => Err(io::Error::other("the undisturbed run counts wrongly")),
        }
    }

    /// With a tree that is there already, and stays as it is.
    pub(crate) fn on(tree: &Path) -> io::Result<Self> {
        Self::with(tempfile::tempdir()?, tree.to_owned())
    }

    fn with(dir: TempDir, tree: PathBuf) -> io::Result<Self> {
        let mut lab = Self {
            dir,
            exe: std::env::current_exe()?,
            reference: Value::Null,
            tree,
        };
        let mut keygen = lab.command();
        let keys = keygen.arg("keygen").arg("--key-dir").arg(lab.path("keys"));
        let keys = keys.output()?;
        let said = |stderr: &[u8]| String::from_utf8_lossy(stderr).into_owned();
        if !keys.status.success() {
            return Err(io::Error::other(said(&keys.stderr)));
        }
        let plain = lab.server().arg("tick-audit").arg(&lab.tree).output()?;
        let report = serde_json::from_slice(&plain.stdout)
            .map_err(|error| io::Error::other(format!("{error}: {}", said(&plain.stderr))))?;
        lab.reference = without_run(report);
        Ok(lab)
    }

    fn directories(&self) -> u64 {
        let counted = &self.reference["totals"]["directories"];
        counted.as_u64().unwrap_or_default()
    }

    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Ticks of an undisturbed run.
    pub(crate) fn ticks(&self) -> u64 {
        self.directories() / STRIDE
    }

    pub(crate) fn reference(&self) -> &Value {
        &self.reference
    }

    /// Keeps both reports, and says where.
    pub(crate) fn difference(&self, seed: u64, report: &Value) -> String {
        let dir = std::env::temp_dir();
        let (ours, theirs) = (
            dir.join(format!("hydra-fault-{seed}.json")),
            dir.join("hydra-fault-reference.json"),
        );
        let written = fs::write(&ours, format!("{report:#}"))
            .and_then(|()| fs::write(&theirs, format!("{:#}", self.reference)));
        let entries = |report: &Value| report["totals"]["entries"].clone();
        format!(
            "another report ({} entries instead of {}): compare {} with {} ({written:?})",
            entries(report),
            entries(&self.reference),
            ours.display(),
            theirs.display()
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// A server that takes a silent client for dead soon.
    fn server(&self) -> Command {
        let mut command = self.patient_server();
        command.args(["--workers", "2"]);
        for (option, value) in [
            ("--beat", "100ms"),
            ("--dead-after", "600ms"),
            ("--grace", "1500ms"),
            ("--commit-interval", "20ms"),
            ("--lease", "1s"),
        ] {
            command.args([option, value]);
        }
        command
    }

    /// A server with the usual patience.
    pub(crate) fn patient_server(&self) -> Command {
        let mut command = self.command();
        command.args(["--json", "--reference-time", "2000000000"]);
        command.arg("--key-dir").arg(self.path("keys"));
        command
    }

    /// A client, and the port at which it will listen.
    pub(crate) fn client_at_free_port(&self) -> io::Result<(u16, Command)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok((port, self.client(port)))
    }

    fn client(&self, port: u16) -> Command {
        let mut command = self.command();
        let listen = format!("127.0.0.1:{port}");
        command
            .args(["client", "--listen", &listen, "--workers", "2", "--key-dir"])
            .arg(self.path("keys"));
        command
    }
}

fn without_run(mut report: Value) -> Value {
    if let Some(report) = report.as_object_mut() {
        report.remove("run");
    }
    report
}

/// What has to be done to a process later.
enum Recovery {
    Continue(Pid),
    Restart(u16),
}

pub(crate) struct Cluster<'a> {
    lab: &'a Lab,
    log: PathBuf,
    out: PathBuf,
    ticks: UnixDatagram,
    server: Child,
    clients: Vec<(u16, Child)>,
    recoveries: Vec<(u64, Recovery)>,
    started: Instant,
    hits: u64,
}

impl<'a> Cluster<'a> {
    pub(crate) fn start(lab: &'a Lab, seed: u64, clients: usize) -> Result<Self, String> {
        Self::try_start(lab, seed, clients)
            .map_err(|error| format!("could not be started: {error}"))
    }

    fn try_start(lab: &'a Lab, seed: u64, clients: usize) -> io::Result<Self> {
        let socket = lab.path(&format!("ticks-{seed}"));
        let ticks = UnixDatagram::bind(&socket)?;
        ticks.set_read_timeout(Some(Duration::from_millis(100)))?;
        let log = lab.path(&format!("log-{seed}"));
        let out = lab.path(&format!("out-{seed}"));
        let log_file = File::create(&log)?;
        let mut running = Vec::new();
        for _ in 0..clients {
            let (port, mut client) = lab.client_at_free_port()?;
            let child = client
                .stdout(Stdio::null())
                .stderr(log_file.try_clone()?)
                .spawn()?;
            running.push((port, child));
        }
        let mut server = lab.server();
        if clients > 0 {
            let hosts: Vec<String> = running
                .iter()
                .map(|(port, _)| format!("127.0.0.1:{port}"))
                .collect();
            server.arg("--clients").arg(hosts.join(","));
        }
        server
            .arg("tick-audit")
            .arg("--ticks")
            .arg(&socket)
            .arg(&lab.tree);
        let server = server
            .stdout(File::create(&out)?)
            .stderr(log_file)
            .spawn()?;
        Ok(Self {
            lab,
            log,
            out,
            ticks,
            server,
            clients: running,
            recoveries: Vec::new(),
            started: Instant::now(),
            hits: 0,
        })
    }

    /// Waits until some worker tells that it is at work; none when the server has ended.
    pub(crate) fn next_tick(&mut self) -> Result<Option<Pid>, String> {
        loop {
            let mut pid = [0; 4];
            match self.ticks.recv(&mut pid) {
                Ok(4) => return Ok(Pid::from_raw(i32::from_le_bytes(pid))),
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error.to_string()),
            }
            if self
                .server
                .try_wait()
                .map_err(|error| error.to_string())?
                .is_some()
            {
                return Ok(None);
            }
            if self.started.elapsed() > RUN_MAX {
                return Err(format!("no end after {RUN_MAX:?}; {}", self.log_tail()));
            }
            // Nobody ticks: whoever is stopped may be the one that is waited for.
            self.recover(u64::MAX)?;
        }
    }

    /// Does what is due at this tick.
    pub(crate) fn recover(&mut self, tick: u64) -> Result<(), String> {
        let due: Vec<usize> = (0..self.recoveries.len())
            .filter(|&i| self.recoveries[i].0 <= tick)
            .collect();
        for index in due.into_iter().rev() {
            match self.recoveries.remove(index).1 {
                Recovery::Continue(pid) => {
                    // It may have been killed for its silence meanwhile.
                    let _ = kill_process(pid, Signal::CONT);
                }
                Recovery::Restart(port) => self.restart(port).map_err(|error| error.to_string())?,
            }
        }
        Ok(())
    }

    fn restart(&mut self, port: u16) -> io::Result<()> {
        let log = File::options().append(true).open(&self.log)?;
        let child = self
            .lab
            .client(port)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        if let Some((_, old)) = self.clients.iter_mut().find(|(other, _)| *other == port) {
            *old = child;
        }
        Ok(())
    }

    /// Does something to the worker that has just told that it is at work, or to its client.
    pub(crate) fn inflict(&mut self, fault: Fault, worker: Pid, tick: u64) -> Result<(), String> {
        let client = parent_of(worker);
        let struck = match fault {
            Fault::KillWorker => kill_process(worker, Signal::KILL).is_ok(),
            Fault::StopWorker(later) => {
                self.recoveries
                    .push((tick + later, Recovery::Continue(worker)));
                kill_process(worker, Signal::STOP).is_ok()
            }
            Fault::KillClient(later) => self.kill_client(client, tick + later),
            Fault::StopClient(later) => match client {
                Some(client) => {
                    self.recoveries
                        .push((tick + later, Recovery::Continue(client)));
                    kill_process(client, Signal::STOP).is_ok()
                }
                None => false,
            },
        };
        self.hits += u64::from(struck);
        Ok(())
    }

    fn kill_client(&mut self, client: Option<Pid>, back: u64) -> bool {
        let is_it = |child: &Child| Some(Pid::from_child(child)) == client;
        let Some((port, child)) = self.clients.iter_mut().find(|(_, child)| is_it(child)) else {
            return false;
        };
        let killed = child.kill().is_ok() && child.wait().is_ok();
        self.recoveries.push((back, Recovery::Restart(*port)));
        killed
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }

    /// The report of the job, once every process of it is gone.
    pub(crate) fn finish(mut self) -> Result<Value, String> {
        self.recover(u64::MAX)?;
        let status = self.server.wait().map_err(|error| error.to_string())?;
        for (_, client) in &mut self.clients {
            let _ = kill_process(Pid::from_child(client), Signal::TERM);
        }
        for (_, client) in &mut self.clients {
            let _ = await_exit(Pid::from_child(client));
            let _ = client.wait();
        }
        let left = left_over(&self.lab.exe)?;
        if !left.is_empty() {
            return Err(format!(
                "processes are left over: {left:?}; {}",
                self.log_tail()
            ));
        }
        let out = fs::read(&self.out).map_err(|error| error.to_string())?;
        if status.code() != Some(0) {
            return Err(format!(
                "the server ended with {status}; {}",
                self.log_tail()
            ));
        }
        serde_json::from_slice(&out)
            .map(without_run)
            .map_err(|error| error.to_string())
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for (_, client) in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Pid::from_raw(fields.split_whitespace().nth(1)?.parse().ok()?)
}

/// Waits for a process to end; says whether it did in time.
fn await_exit(pid: Pid) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let timeout = Timespec {
        tv_sec: GONE_MAX.as_secs() as i64,
        tv_nsec: 0,
    };
    matches!(
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)),
        Ok(1)
    )
}

/// Processes of this program that do not end.
fn left_over(exe: &Path) -> Result<Vec<i32>, String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc")
        .map_err(|error| error.to_string())?
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let same = fs::read_link(entry.path().join("exe")).is_ok_and(|other| other == exe);
        if same
            && pid != std::process::id() as i32
            && let Some(process) = Pid::from_raw(pid)
            && !await_exit(process)
        {
            left.push(pid);
        }
    }
    Ok(left)
}
