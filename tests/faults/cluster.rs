//! A server and its clients as real processes, and what is done to them.

use crate::lab::{Lab, Outcome, lines, without_run};
use crate::link::Cut;
use crate::manifest;
use crate::mount::Mount;
use crate::pids::{ends_within, left_over};
use crate::plan::{Fault, Kind, Plan, Who};
use crate::wires::Wires;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No run takes longer.
pub(crate) const RUN_MAX: Duration = Duration::from_secs(120);
/// All processes of a run are gone this long after it.
const GONE_MAX: Duration = Duration::from_secs(10);
const LITTLE_MEMORY: [&str; 2] = ["--frontier-memory", "16K"];
/// What marks the processes of a run.
const MARK: &str = "HYDRA_ORDEAL";

/// What has to be done later to what was struck.
enum Recovery {
    Continue(Pid),
    Client(usize),
    Server,
    Heal(usize),
    Room,
    /// No recovery, but what follows from a fault.
    KillServer(Duration),
}

pub(crate) struct Cluster<'a> {
    lab: &'a Lab,
    plan: &'a Plan,
    paths: Vec<PathBuf>,
    /// Files of this run: log, report, rows, state.
    dir: PathBuf,
    mark: String,
    ticks: UnixDatagram,
    wires: Wires,
    disk: Option<Mount>,
    /// None while it is dead.
    server: Option<Child>,
    status: Option<i32>,
    clients: Vec<Option<Child>>,
    recoveries: Vec<(Instant, Recovery)>,
    started: Instant,
    hits: BTreeMap<String, u64>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn start(lab: &'a Lab, plan: &'a Plan, paths: Vec<PathBuf>) -> io::Result<Self> {
        let dir = lab.path(&format!("run-{}", plan.seed));
        fs::create_dir(&dir)?;
        let ticks = UnixDatagram::bind(dir.join("ticks"))?;
        ticks.set_read_timeout(Some(Duration::from_millis(20)))?;
        let disk = match plan.kind {
            Kind::Disk => Some(disk(&dir).ok_or_else(|| io::Error::other("no disk"))?),
            _ => None,
        };
        let wires = match plan.kind {
            _ if plan.clients == 0 => Wires::Inside,
            Kind::Namespaces => Wires::namespaces(plan.clients)?,
            _ => Wires::proxied(plan.clients, plan.dialling),
        };
        let mut cluster = Self {
            lab,
            plan,
            paths,
            mark: format!("{MARK}={}-{}.", std::process::id(), plan.seed),
            dir,
            ticks,
            wires,
            disk,
            server: None,
            status: None,
            clients: (0..plan.clients).map(|_| None).collect(),
            recoveries: Vec::new(),
            started: Instant::now(),
            hits: BTreeMap::new(),
        };
        for client in 0..plan.clients {
            cluster.start_client(client)?;
        }
        let first = cluster.first_server();
        cluster.start_server(first)?;
        Ok(cluster)
    }

    /// A server that takes a silent client for dead soon.
    fn first_server(&self) -> Command {
        let mut server = self.lab.server();
        for (option, value) in [
            ("--beat", "100ms"),
            ("--dead-after", "600ms"),
            ("--grace", "1500ms"),
            ("--commit-interval", "20ms"),
            ("--lease", "1s"),
            ("--client-timeout", "30s"),
        ] {
            server.args([option, value]);
        }
        if self.plan.kind == Kind::Hang {
            server.args(["--stall-timeout", "1s"]);
        }
        let clients = 0..self.plan.clients;
        match self.plan.dialling {
            _ if clients.is_empty() => server.args(["--workers", "2"]),
            true => {
                let listens = self.wires.listens(0, true);
                server.arg(format!("--listen={listens}"));
                server.args(["--min-clients", &clients.len().to_string()])
            }
            false => {
                let hosts: Vec<String> = clients
                    .map(|client| self.wires.is_dialled(client, false))
                    .collect();
                server.arg("--clients").arg(hosts.join(","))
            }
        };
        server.arg("-v").arg(match self.plan.rows_dir {
            Some(_) => "--rows-dir",
            None => "--rows",
        });
        server.arg(self.dir.join("rows"));
        if self.plan.journal {
            server.arg("--state-dir").arg(self.state());
        }
        if self.plan.tight {
            server.args(LITTLE_MEMORY);
        }
        match self.plan.purge {
            true => server.args(["--intent", "tick-purge", "--older-than", "90d", "--delete"]),
            false => server.args(Lab::AUDIT),
        };
        server.arg("--ticks");
        server.arg(self.dir.join("ticks")).args(&self.paths);
        server
    }

    fn state(&self) -> PathBuf {
        let disk = self.disk.as_ref();
        disk.map_or(&self.dir, |disk| &disk.at).join("state")
    }

    fn start_server(&mut self, server: Command) -> io::Result<()> {
        let out = File::create(self.dir.join("out"))?;
        self.server = Some(self.spawn(None, server, out.into())?);
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        let mut server = self.lab.command();
        server.args(["resume", "-v"]).arg(self.state());
        self.start_server(server)
    }

    fn start_client(&mut self, client: usize) -> io::Result<()> {
        let mut command = self.lab.client();
        match self.plan.dialling {
            true => {
                let server = self.wires.is_dialled(client, true);
                command.args(["--connect", &server])
            }
            false => command.args(["--listen", &self.wires.listens(client, false)]),
        };
        if self.plan.tight {
            command.args(LITTLE_MEMORY);
        }
        if self.plan.purge {
            command.args(["--allow", "tick-purge"]);
        }
        if self.plan.rows_dir == Some(true) {
            command.arg("--allow-rows-dir").arg(self.dir.join("rows"));
        }
        let child = self.spawn(Some(client), command, Stdio::null())?;
        self.clients[client] = Some(child);
        Ok(())
    }

    fn spawn(&self, client: Option<usize>, mut command: Command, out: Stdio) -> io::Result<Child> {
        let (name, value) = self.mark.split_once('=').unwrap_or_default();
        command.env(name, value);
        let mut command = self.wires.place(client, command);
        let mut log = File::options();
        let log = log.append(true).create(true).open(self.log_path())?;
        command.stdout(out).stderr(log).spawn()
    }

    /// Waits until some worker tells that it is at work; none when the server has ended. Does meanwhile what is due.
    pub(crate) fn next_tick(&mut self) -> Result<Option<Pid>, String> {
        loop {
            self.recover()?;
            if self.started.elapsed() > RUN_MAX {
                return Err(format!("no end after {RUN_MAX:?}"));
            }
            let mut pid = [0; 4];
            match self.ticks.recv(&mut pid) {
                Ok(4) => return Ok(Pid::from_raw(i32::from_le_bytes(pid))),
                Ok(_) => return Err("a tick of another length".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
            let ended = self.look_after().map_err(|error| error.to_string())?;
            if ended {
                return Ok(None);
            }
        }
    }

    /// Does what an administrator would: a server that found its disk full goes on when there is room, a client that
    /// could not reach the server is started again. Says whether the job is over.
    fn look_after(&mut self) -> io::Result<bool> {
        for client in 0..self.clients.len() {
            let child = self.clients[client].as_mut();
            if child.is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
                self.count("client ended by itself");
                self.start_client(client)?;
            }
        }
        let Some(server) = &mut self.server else {
            return Ok(false);
        };
        let Some(status) = server.try_wait()? else {
            return Ok(false);
        };
        let full = self.disk.is_some() && self.last_words().contains("no space left on device");
        if status.code() == Some(3) && full {
            self.count("no room to go on");
            self.make_room();
            self.resume()?;
            return Ok(false);
        }
        self.status = status.code();
        Ok(true)
    }

    /// Does what is due.
    fn recover(&mut self) -> Result<(), String> {
        let now = Instant::now();
        while let Some(index) = self.recoveries.iter().position(|(due, _)| *due <= now) {
            let (_, recovery) = self.recoveries.swap_remove(index);
            self.undo(recovery).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn undo(&mut self, recovery: Recovery) -> io::Result<()> {
        match recovery {
            // It may have been killed for its silence meanwhile.
            Recovery::Continue(pid) => drop(kill_process(pid, Signal::CONT)),
            Recovery::Heal(client) => self.wires.heal(client)?,
            Recovery::Room => self.make_room(),
            Recovery::Client(client) => self.start_client(client)?,
            Recovery::Server => self.resume()?,
            Recovery::KillServer(time) => drop(self.kill_server(time)),
        }
        Ok(())
    }

    fn make_room(&self) {
        if let Some(disk) = &self.disk {
            disk.resize("64m");
        }
    }

    /// Strikes the worker that has just told that it is at work, its client, the link of that, or the server.
    pub(crate) fn inflict(&mut self, fault: Fault, worker: Pid) -> Result<(), String> {
        let struck = match fault {
            Fault::Kill(Who::Worker, _) => kill_process(worker, Signal::KILL).is_ok(),
            Fault::Stop(Who::Worker, time) => self.stop(worker, time),
            Fault::Kill(Who::Client, time) => self.kill_client(worker, time),
            Fault::Stop(Who::Client, time) => match self.client_of(worker) {
                Some((_, pid)) => self.stop(pid, time),
                None => false,
            },
            Fault::Kill(Who::Server, time) => self.kill_server(time),
            Fault::Stop(Who::Server, time) => match self.server.as_ref().map(Pid::from_child) {
                Some(server) => self.stop(server, time),
                None => false,
            },
            Fault::Cut(cut, time) => self.cut(cut, worker, time)?,
            Fault::Fill(time) => self.fill(time),
            Fault::Strand(time) => {
                self.later(time / 2, Recovery::KillServer(time));
                // Whoever goes on says that there is no room, or finds a little.
                self.fill(time * 10)
            }
        };
        if struck {
            self.count(&fault.to_string());
        }
        Ok(())
    }

    fn fill(&mut self, time: Duration) -> bool {
        self.later(time, Recovery::Room);
        self.disk.as_ref().is_some_and(Mount::close)
    }

    fn stop(&mut self, pid: Pid, time: Duration) -> bool {
        self.later(time, Recovery::Continue(pid));
        kill_process(pid, Signal::STOP).is_ok()
    }

    fn kill_client(&mut self, worker: Pid, time: Duration) -> bool {
        let Some((client, _)) = self.client_of(worker) else {
            return false;
        };
        let child = self.clients[client].take();
        self.later(time, Recovery::Client(client));
        let killed = child.is_some_and(|mut child| child.kill().is_ok() && child.wait().is_ok());
        self.wires.dies(Some(client), self.plan.dialling);
        killed
    }

    /// False where it had come to its end before.
    fn kill_server(&mut self, time: Duration) -> bool {
        let Some(mut server) = self
            .server
            .take_if(|server| matches!(server.try_wait(), Ok(None)))
        else {
            return false;
        };
        let killed = server.kill().is_ok() && server.wait().is_ok();
        self.wires.dies(None, self.plan.dialling);
        self.later(time, Recovery::Server);
        killed
    }

    fn cut(&mut self, cut: Cut, worker: Pid, time: Duration) -> Result<bool, String> {
        let Some((client, _)) = self.client_of(worker) else {
            return Ok(false);
        };
        self.later(time, Recovery::Heal(client));
        let done = self.wires.cut(client, cut, self.plan.dialling);
        done.map(|()| true).map_err(|error| error.to_string())
    }

    fn client_of(&self, worker: Pid) -> Option<(usize, Pid)> {
        let parent = parent_of(worker)?;
        let is_it = |child: &Option<Child>| child.as_ref().map(Pid::from_child) == Some(parent);
        self.clients
            .iter()
            .position(is_it)
            .map(|client| (client, parent))
    }

    fn later(&mut self, time: Duration, recovery: Recovery) {
        self.recoveries.push((Instant::now() + time, recovery));
    }

    fn count(&mut self, what: &str) {
        *self.hits.entry(what.to_owned()).or_default() += 1;
    }

    /// What came of the job, once every process of it is gone but those that wait for a file system that hangs.
    pub(crate) fn finish(&mut self) -> Result<Outcome, String> {
        for (_, recovery) in std::mem::take(&mut self.recoveries) {
            if matches!(recovery, Recovery::Continue(_) | Recovery::Room) {
                self.undo(recovery).map_err(|error| error.to_string())?;
            }
        }
        let clients: Vec<Child> = self.clients.iter_mut().filter_map(Option::take).collect();
        for client in &clients {
            let _ = kill_process(Pid::from_child(client), Signal::TERM);
        }
        for mut client in clients {
            let ended = ends_within(Pid::from_child(&client), GONE_MAX);
            let _ = client.kill();
            let _ = client.wait();
            if !ended {
                return Err("a client does not end when it is told to".to_owned());
            }
        }
        let read = |name: &str| fs::read(self.dir.join(name)).map_err(|error| error.to_string());
        let status = self.status;
        let report = serde_json::from_slice(&read("out")?)
            .map_err(|error| format!("no report, status {status:?}: {error}"))?;
        let report = without_run(report);
        let complete = report["complete"] == true;
        Ok(Outcome {
            status,
            report,
            rows: self.rows(complete)?,
        })
    }

    /// The rows as who reads them finds them.
    fn rows(&self, complete: bool) -> Result<Vec<Vec<u8>>, String> {
        let rows = self.dir.join("rows");
        if self.plan.rows_dir.is_none() {
            return Ok(lines(&fs::read(rows).map_err(|error| error.to_string())?));
        }
        let mut found = Vec::new();
        for (name, bytes) in manifest::segments(&rows, Some(complete))? {
            found.extend(lines(&manifest::segment(&rows, &name, bytes)?));
        }
        Ok(found)
    }

    /// No process of this run is there any more, nor comes again.
    pub(crate) fn check_gone(&self) -> Result<(), String> {
        let left = left_over(&self.mark, GONE_MAX);
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("processes are left over: {left:?}")),
        }
    }

    /// How often each fault hit, and what came of that.
    pub(crate) fn hits(&self) -> (BTreeMap<String, u64>, Duration) {
        let (mut hits, log) = (self.hits.clone(), self.log());
        for (sign, name) in [
            ("is given up", "  a client was given up"),
            ("its connection is back", "  a connection came back"),
            ("worker lost", "  a worker was lost"),
            ("the walk pauses", "  the walk paused for the disk"),
            ("no worker is sent there", "  a breaker opened"),
        ] {
            let count = log.matches(sign).count() as u64;
            if count > 0 {
                *hits.entry(name.to_owned()).or_default() += count;
            }
        }
        (hits, self.started.elapsed())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(10).collect();
        lines.join("\n")
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // Nobody is there any more, where all is well.
        for pid in crate::pids::pids_with(&self.mark) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let server = self.server.iter_mut();
        for child in server.chain(self.clients.iter_mut().flatten()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(self.disk.take());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A file system of some pages, as long as nobody makes it larger: only its state directory is there.
fn disk(dir: &Path) -> Option<Mount> {
    Mount::memory(dir.join("disk"), "64m")
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Pid::from_raw(fields.split_whitespace().nth(1)?.parse().ok()?)
}
