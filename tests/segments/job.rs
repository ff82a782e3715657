//! A job with a directory for rows, what is done to its processes, and what has to be found in the end.

use crate::lab::{Lab, Sees, read_only};
use crate::logged::spawn;
use crate::manifest;
use crate::mount::Mount;
use nix::libc::pid_t;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// No job takes longer.
const JOB_MAX: Duration = Duration::from_secs(300);

pub(crate) type Outcome<T = ()> = Result<T, String>;

pub(crate) fn told<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// How to do a job.
#[derive(Default)]
pub(crate) struct Setup {
    /// None: the one inside the server.
    pub(crate) clients: Vec<Sees>,
    /// Keep a journal.
    pub(crate) state: bool,
    /// Bytes of a row, if not the usual number.
    pub(crate) bytes: usize,
    /// Into one file.
    pub(crate) file: bool,
    /// Give the directory a file system of its own with so many bytes.
    pub(crate) room: Option<u64>,
}

pub(crate) struct Job<'a> {
    lab: &'a Lab,
    dir: PathBuf,
    rows: PathBuf,
    server: Child,
    clients: Vec<(u16, Sees, Child)>,
    ticks: UnixDatagram,
    /// The worker that told last that it is at work.
    worker: Option<Pid>,
    /// The most memory that any process was found to have taken.
    memory: u64,
    expected: BTreeSet<Vec<u8>>,
    started: Instant,
    mount: Option<Mount>,
}

impl<'a> Job<'a> {
    pub(crate) fn start(lab: &'a Lab, setup: &Setup) -> Outcome<Self> {
        Self::try_start(lab, setup).map_err(told)
    }

    fn try_start(lab: &'a Lab, setup: &Setup) -> io::Result<Self> {
        let number = fs::read_dir(lab.dir.path())?.count();
        let dir = lab.path(&format!("job-{number}"));
        fs::create_dir(&dir)?;
        let ticks = UnixDatagram::bind(dir.join("ticks"))?;
        ticks.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mount = match setup.room {
            Some(room) => {
                let mount = Mount::memory(dir.join("small"), &room.to_string());
                Some(mount.ok_or_else(|| io::Error::other("no file system can be mounted"))?)
            }
            None => None,
        };
        let rows = mount.as_ref().map_or(&dir, |mount| &mount.at).join("rows");
        let read_only = match setup.clients.contains(&Sees::ReadOnly) {
            true => Some(read_only(&rows)?),
            false => None,
        };
        let log = File::create(dir.join("log"))?;
        let mut clients = Vec::new();
        for &sees in &setup.clients {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut client = lab.client(port, sees, &rows);
            let client = client.stdout(Stdio::null()).stderr(log.try_clone()?);
            clients.push((port, sees, client.spawn()?));
        }
        let mut server = lab.command();
        server.args(["--json", "--commit-interval", "20ms", "--key-dir"]);
        server.arg(lab.path("keys"));
        match clients.is_empty() {
            true => server.args(["--workers", "2"]),
            false => {
                let hosts = clients.iter().map(|(port, ..)| format!("127.0.0.1:{port}"));
                let hosts: Vec<String> = hosts.collect();
                server.arg("--clients").arg(hosts.join(","))
            }
        };
        if !setup.state {
            // A client that was killed is given up soon.
            server.args(["--beat", "100ms", "--dead-after", "600ms"]);
            server.args(["--grace", "1500ms", "--lease", "1s"]);
        } else {
            server.arg("--state-dir").arg(dir.join("state"));
        }
        let option = if setup.file { "--rows" } else { "--rows-dir" };
        server.arg(option).arg(&rows);
        let bytes = if setup.bytes == 0 { 200 } else { setup.bytes };
        server.args(["pour", "--bytes", &bytes.to_string(), "--ticks"]);
        server.arg(dir.join("ticks")).arg(lab.path("tree"));
        let expected = lab.rows(bytes);
        Ok(Self {
            server: spawn(server, &dir)?,
            expected,
            lab,
            dir,
            rows,
            clients,
            ticks,
            worker: None,
            memory: 0,
            started: Instant::now(),
            mount: mount.or(read_only),
        })
    }

    /// Follows the job to its end. `act` is called each time that a worker begins with a file, with the number of those
    /// times. Now and then what a reader finds meanwhile is looked at.
    pub(crate) fn run(&mut self, mut act: impl FnMut(&mut Self, u64) -> Outcome) -> Outcome {
        let mut tick = 0;
        while !self.has_ended()? {
            if self.hear()? {
                tick += 1;
                act(self, tick)?;
                if tick % 16 == 0 && self.rows.is_dir() {
                    self.read(false)?;
                }
            }
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Outcome<bool> {
        if self.started.elapsed() > JOB_MAX {
            return Err(format!("no end after {JOB_MAX:?}: {}", self.log()));
        }
        Ok(self.server.try_wait().map_err(told)?.is_some())
    }

    /// Waits a moment for a worker; whether one has begun with a file.
    fn hear(&mut self) -> Outcome<bool> {
        self.note_memory();
        let mut pid = [0; 4];
        match self.ticks.recv(&mut pid) {
            Ok(4) => {
                self.worker = Pid::from_raw(pid_t::from_le_bytes(pid));
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(told(error)),
        }
    }

    pub(crate) fn kill_worker(&mut self) -> Outcome {
        // It may have ended by itself.
        let _ = self.worker.map(|pid| kill_process(pid, Signal::KILL));
        Ok(())
    }

    pub(crate) fn restart_client(&mut self, index: usize) -> Outcome {
        let log = File::options().append(true).open(self.dir.join("log"));
        let (port, sees, client) = &mut self.clients[index];
        client.kill().and_then(|()| client.wait()).map_err(told)?;
        let mut again = self.lab.client(*port, *sees, &self.rows);
        again.stdout(Stdio::null()).stderr(log.map_err(told)?);
        *client = again.spawn().map_err(told)?;
        Ok(())
    }

    pub(crate) fn kill_server(&mut self) -> Outcome {
        self.server.kill().map_err(told)?;
        self.server.wait().map_err(told)?;
        let mut server = self.lab.command();
        server.arg("resume").arg(self.dir.join("state"));
        server.arg("--key-dir").arg(self.lab.path("keys"));
        self.server = spawn(server, &self.dir).map_err(told)?;
        Ok(())
    }

    /// Notes how much memory the processes have taken at most so far.
    fn note_memory(&mut self) {
        let clients = self.clients.iter().map(|(.., client)| client.id());
        let worker = self
            .worker
            .map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        let all = clients.chain(worker).chain([self.server.id()]);
        let most = all.map(peak).max().unwrap_or(0);
        self.memory = self.memory.max(most);
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Waits until there is no room, and makes some.
    pub(crate) fn run_out_of_room(&mut self) -> Outcome {
        self.wait_until_full()?;
        match &self.mount {
            Some(mount) if !mount.resize("256m") => Err("cannot be mounted again".to_owned()),
            _ => Ok(()),
        }
    }

    /// Waits until there is no room, and stops the job: it has a report, and a reader finds whole rows.
    pub(crate) fn stop_without_room(&mut self) -> Outcome {
        self.wait_until_full()?;
        let pid = Pid::from_raw(self.server.id().cast_signed());
        let pid = pid.ok_or("the server has no number")?;
        kill_process(pid, Signal::INT).map_err(told)?;
        self.run(|_, _| Ok(()))?;
        self.ended(130)?;
        self.read(false)?;
        self.report().map(drop)
    }

    fn wait_until_full(&mut self) -> Outcome {
        while !self.log().contains("the disk of the rows is full") {
            self.hear()?;
            if self.has_ended()? {
                return Err(format!("it ended too early: {}", self.log()));
            }
        }
        self.read(false).map(drop)
    }

    /// Each row is there once, and nothing else.
    pub(crate) fn check(&mut self, status: i32) -> Outcome {
        self.ended(status)?;
        let found = self.read(true)?;
        if found != self.expected {
            let (found, expected) = (found.len(), self.expected.len());
            return Err(format!(
                "{found} rows instead of {expected}: {}",
                self.log()
            ));
        }
        Ok(())
    }

    fn ended(&mut self, expected: i32) -> Outcome {
        let status = self.server.wait().map_err(told)?;
        match status.code() == Some(expected) {
            true => Ok(()),
            false => Err(format!("the server ended with {status}: {}", self.log())),
        }
    }

    /// The report warns of this.
    pub(crate) fn warned(&self, what: &str) -> Outcome {
        let warnings = self.report()?["run"]["warnings"].to_string();
        match warnings.contains(what) {
            true => Ok(()),
            false => Err(format!("nothing of {what} in {warnings}")),
        }
    }

    fn report(&self) -> Outcome<Value> {
        let out = fs::read(self.dir.join("out")).map_err(told)?;
        serde_json::from_slice(&out).map_err(told)
    }

    /// Errors of this kind are in the report, and the file has whole rows, each once.
    pub(crate) fn check_file(&mut self, kind: &str, count: u64) -> Outcome {
        self.ended(1)?;
        let errors = &self.report()?["errors"];
        if errors["by_kind"][kind].as_u64() != Some(count) {
            return Err(format!("errors: {errors}"));
        }
        let mut found = BTreeSet::new();
        let rows = fs::read(&self.rows).map_err(told)?;
        self.add_rows("file", &rows, &mut found)?;
        match found.is_empty() {
            true => Err("no rows".to_owned()),
            false => Ok(()),
        }
    }

    /// What a reader of the manifest finds: rows of the tree, none twice.
    fn read(&self, at_end: bool) -> Outcome<BTreeSet<Vec<u8>>> {
        let mut found = BTreeSet::new();
        for (name, bytes) in manifest::segments(&self.rows, at_end.then_some(true))? {
            let rows = manifest::segment(&self.rows, &name, bytes)?;
            self.add_rows(&name, &rows, &mut found)?;
        }
        Ok(found)
    }

    fn add_rows(&self, name: &str, rows: &[u8], found: &mut BTreeSet<Vec<u8>>) -> Outcome {
        for row in rows.split_inclusive(|&byte| byte == b'\n') {
            if !self.expected.contains(row) {
                return Err(format!(
                    "{name} has a row of {} bytes that is none",
                    row.len()
                ));
            }
            if !found.insert(row.to_vec()) {
                return Err(format!("a row of {name} is there twice"));
            }
        }
        Ok(())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.chars().take(4000).collect()
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for (.., client) in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

/// The most memory that a process has taken, in bytes.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}
