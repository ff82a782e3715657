//! Runs the programs on the hosts of the rig, and times them.
//!
//! It expects to be the first process of a mount and a process namespace of its own: whatever ends it,
//! the kernel then ends the others, and takes mounts and network namespaces away.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use super::idle::{FILTER, Log};
use super::net::{Net, address, run};
use super::{Ideal, Waits, timeline};
use crate::Work;
use crate::fuse::{self, Answering, Kind, Mounted, Summary};
use crate::implicit::{Counts, ImplicitTree, TreeArgs};
use crate::tree::Shape;

/// A file system of the rig's own, gone with it: the mount points and the keys.
const PLACE: &str = "/mnt";
const PORT: u16 = 8101;
/// How long the kernel keeps attributes: so that the `LOOKUP` of a `statx` brings them, and that is all.
const ATTR_TIMEOUT: Duration = Duration::from_secs(1);
/// Lays a host's own mount in the tree's place, and becomes the command behind the two.
const IN_PLACE: &str = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program `hydra-server`.
    pub server: PathBuf,
    /// The program `hydra-client`.
    pub client: PathBuf,
    /// How many clients.
    pub clients: u8,
    /// Workers of each.
    pub workers: usize,
    /// How long each call takes.
    pub latency: Duration,
    /// How long the kernel keeps names, on a mount that each client has to itself; zero for one mount that
    /// all share, and no name kept.
    pub entry_timeout: Duration,
    /// How long the ideal walk of each tree should take, about.
    pub ideal: Duration,
    /// Timed runs of each.
    pub runs: usize,
    /// Whether to watch how long clients wait for work; what they log for that takes time.
    pub idle: bool,
    /// Other walkers: a name, and a command for the shell in which `{}` stands for the tree.
    pub beside: Vec<(String, String)>,
}

/// The rig, set up.
#[derive(Debug)]
pub struct Rig {
    settings: Settings,
    net: Net,
}

/// One timed run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Who walked.
    pub walker: String,
    /// Of the whole process, in seconds.
    pub seconds: f64,
    /// By its own clock, where it tells.
    pub own_seconds: Option<f64>,
    /// The time divided by the ideal one.
    pub to_ideal: f64,
    /// The same with what a call really costs here, see [`Row::served_seconds`].
    pub to_served: f64,
    /// Processors that were busy on average, with whatever: when all are, waiting is not what is measured.
    pub busy_processors: f64,
    /// What the file system was asked.
    pub calls: Summary,
    /// The mean number of calls under way, for each [`SLICE`](super::SLICE) of the time.
    pub in_flight: Vec<f64>,
    /// How long clients waited for work, if that was watched.
    pub waits: Option<Waits>,
}

/// All runs over one tree.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The tree's shape.
    pub shape: Shape,
    /// What was done.
    pub work: Work,
    /// What the tree holds.
    pub tree: Counts,
    /// The calls that are necessary.
    pub necessary: Ideal,
    /// Whether the slowest chain decides.
    pub bound_by_chain: bool,
    /// The ideal time, in seconds.
    pub ideal_seconds: f64,
    /// What a call costs as many callers as there are workers, or one if the chain decides, who do nothing else.
    pub call: fuse::Load,
    /// The ideal time if every call takes as long on average, in seconds.
    pub served_seconds: f64,
    /// The runs.
    pub outcomes: Vec<Outcome>,
}

impl Settings {
    fn keeps_names(&self) -> bool {
        !self.entry_timeout.is_zero()
    }

    /// The hosts of the clients; the server is on the first.
    fn client_hosts(&self) -> impl Iterator<Item = u8> {
        2..self.clients + 2
    }

    /// Where the tree is mounted for the clients.
    fn mount_points(&self) -> Vec<PathBuf> {
        match self.keeps_names() {
            true => self.client_hosts().map(own_tree).collect(),
            false => vec![tree_dir()],
        }
    }
}

impl Rig {
    /// Makes the hosts and the keys.
    ///
    /// # Errors
    ///
    /// When this is not allowed here, or a program is missing.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        crate::totals::raise_open_files();
        std::fs::create_dir_all("/run/netns").context("create /run/netns")?;
        for place in ["/run/netns", PLACE] {
            run("mount", &format!("-t tmpfs rig {place}"))?;
        }
        let mount_points = settings.mount_points();
        for place in mount_points.iter().chain([&tree_dir()]) {
            std::fs::create_dir_all(place).context("create a mount point")?;
        }
        let net = Net::new(settings.clients + 1)?;
        let keygen = Command::new(&settings.server)
            .args(["keygen", "--key-dir"])
            .arg(keys())
            .output()
            .context("start the server")?;
        ensure!(keygen.status.success(), "keygen: {keygen:?}");
        Ok(Self { settings, net })
    }

    /// Measures one shape and work.
    ///
    /// # Errors
    ///
    /// When a walker fails, or counts wrong.
    pub fn measure(&self, shape: Shape, work: Work) -> anyhow::Result<Row> {
        let answering = Answering {
            entry_timeout: self.settings.entry_timeout,
            attr_timeout: ATTR_TIMEOUT,
            ..Answering::default().with_latency(self.settings.latency)
        };
        let walkers = usize::from(self.settings.clients) * self.settings.workers;
        let time = |ideal: &Ideal| ideal.time(walkers, self.settings.latency);
        let tree = sized(shape, |tree| {
            let ideal = time(&Ideal::new(tree, work, &answering));
            self.settings.ideal.as_secs_f64() / ideal.as_secs_f64()
        })?;
        let necessary = Ideal::new(&tree, work, &answering);
        let bound_by_chain = necessary.is_bound_by_chain(walkers);
        let callers = if bound_by_chain { 1 } else { walkers };
        let places = self.settings.mount_points();
        let second = Duration::from_secs(1);
        let call = fuse::measure(&places, self.settings.latency, callers, second)?;
        let mut row = Row {
            shape,
            work,
            tree: tree.count(),
            necessary,
            bound_by_chain,
            ideal_seconds: time(&necessary).as_secs_f64(),
            served_seconds: necessary
                .time(
                    walkers,
                    Duration::from_secs_f64(call.mean_microseconds * 1e-6),
                )
                .as_secs_f64(),
            call,
            outcomes: Vec::new(),
        };
        for _ in 0..self.settings.runs {
            // A new mount each time, so that nothing is left in the kernel's caches.
            let mounted = Mounted::on_each(tree, &answering, &self.settings.mount_points())?;
            let outcome = self.hydra(&row, &mounted)?;
            row.outcomes.push(outcome);
            drop(mounted);
            for (name, command) in &self.settings.beside {
                let mounted = Mounted::new(tree, &answering, &tree_dir())?;
                let outcome = self.other(&row, &mounted, name, command)?;
                row.outcomes.push(outcome);
            }
        }
        Ok(row)
    }

    fn hydra(&self, row: &Row, mounted: &Mounted) -> anyhow::Result<Outcome> {
        let hosts = || self.settings.client_hosts();
        let clients: Vec<Client> = hosts()
            .map(|host| self.client(host))
            .collect::<anyhow::Result<_>>()?;
        let list: Vec<String> = hosts()
            .map(|host| format!("{}:{PORT}", address(host)))
            .collect();
        let mut server = self.net.on(1, &self.settings.server);
        server.args(["--json", "--clients", &list.join(","), "--key-dir"]);
        server.arg(keys()).arg(match row.work {
            Work::List => "count",
            Work::Stat => "audit",
        });
        server.arg(tree_dir());
        let clock = Clock::start()?;
        let (output, in_flight) = watched(mounted, || server.output());
        let time = clock.stop()?;
        let output = output.context("start the server")?;
        let waits = clients.into_iter().flat_map(Client::waits).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the server failed: {said}");
        let report: Value = serde_json::from_slice(&output.stdout).context("read the report")?;
        let entries = report["totals"]["entries"].as_u64();
        let expected = row.tree.directories + row.tree.files;
        if entries != Some(expected) {
            bail!("Hydra counted {entries:?} of {expected} entries: {said}");
        }
        let own = report["run"]["seconds"].as_f64();
        let mut outcome = outcome("hydra", row, time, own, mounted);
        outcome.in_flight = in_flight;
        outcome.waits = self.settings.idle.then(|| Waits::new(waits));
        Ok(outcome)
    }

    fn other(
        &self,
        row: &Row,
        mounted: &Mounted,
        name: &str,
        command: &str,
    ) -> anyhow::Result<Outcome> {
        let mut shell = self.net.on(1, Path::new("sh"));
        let tree = tree_dir();
        shell.args(["-c", &command.replace("{}", &tree.to_string_lossy())]);
        shell.stdout(Stdio::null()).stderr(Stdio::inherit());
        let clock = Clock::start()?;
        let (status, in_flight) = watched(mounted, || shell.status());
        let time = clock.stop()?;
        let status = status.context("start a shell")?;
        ensure!(status.success(), "{name}: {status}");
        let mut outcome = outcome(name, row, time, None, mounted);
        outcome.in_flight = in_flight;
        Ok(outcome)
    }

    /// A command that runs the client's program on a host, with a mount of its own if it has one.
    fn on_client(&self, host: u8) -> Command {
        if !self.settings.keeps_names() {
            return self.net.on(host, &self.settings.client);
        }
        // Who mounts there is in a mount namespace of its own, gone with the client and its workers.
        let mut command = self.net.on(host, Path::new("unshare"));
        command.args(["--mount", "sh", "-c", IN_PLACE]);
        command.args([own_tree(host), tree_dir()]);
        command.arg(&self.settings.client);
        command
    }

    /// Starts a client, and waits until it listens.
    fn client(&self, host: u8) -> anyhow::Result<Client> {
        let mut command = self.on_client(host);
        command.args(["-v", "--listen", &format!("{}:{PORT}", address(host))]);
        command.args(["--workers", &self.settings.workers.to_string()]);
        command.args(["--name", &format!("host{host}"), "--key-dir"]);
        command.arg(keys()).stderr(Stdio::piped());
        if self.settings.idle {
            command.args(["--log-level", &format!("info,{FILTER}")]);
        }
        let mut client = Client {
            process: command.spawn().context("start a client")?,
            log: None,
        };
        let stderr = client.process.stderr.take().context("its messages")?;
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        if !lines.any(|line| line.contains("listening")) {
            bail!("the client on host {host} ended before it listened");
        }
        // What else it says must not fill the pipe.
        client.log = Some(std::thread::spawn(move || {
            let mut log = Log::default();
            lines.for_each(|line| log.read(&line));
            log
        }));
        Ok(client)
    }
}

fn outcome(
    walker: &str,
    row: &Row,
    (seconds, busy): (f64, f64),
    own_seconds: Option<f64>,
    mounted: &Mounted,
) -> Outcome {
    Outcome {
        walker: walker.to_owned(),
        seconds,
        own_seconds,
        to_ideal: seconds / row.ideal_seconds,
        to_served: seconds / row.served_seconds,
        busy_processors: busy / seconds,
        calls: mounted.calls(),
        in_flight: Vec::new(),
        waits: None,
    }
}

/// What `run` returns, and how many calls were under way meanwhile.
fn watched<T>(mounted: &Mounted, run: impl FnOnce() -> T) -> (T, Vec<f64>) {
    std::thread::scope(|scope| {
        let (running, over) = mpsc::channel();
        let watch = scope.spawn(move || timeline::watch(mounted, &over));
        let result = run();
        drop(running);
        // It panics with the program's own mistakes only, and has said so.
        (result, watch.join().unwrap_or_default())
    })
}

impl Row {
    /// Lines of a Markdown table; [`HEAD`] stands above them.
    pub fn markdown(&self) -> String {
        let line = |outcome: &Outcome| {
            let own = outcome.own_seconds.unwrap_or(f64::NAN);
            let calls = |kind| outcome.calls.of(kind);
            format!(
                "| {:?} | {} | {} | {:.2}{} | {:.2} | {:.2} | {:.2} | {:.3} | {:.3} | {}/{} | {}/{} | {}/{} | {} | {} | {:.2} |\n",
                self.shape,
                self.work,
                outcome.walker,
                self.ideal_seconds,
                if self.bound_by_chain { " (chain)" } else { "" },
                self.served_seconds,
                outcome.seconds,
                own,
                outcome.to_ideal,
                outcome.to_served,
                calls(Kind::Lookup),
                self.necessary.lookups,
                calls(Kind::Opendir),
                self.necessary.opendirs,
                calls(Kind::Readdir),
                self.necessary.readdirs,
                calls(Kind::Getattr),
                outcome.calls.in_flight_max,
                outcome.busy_processors,
            )
        };
        self.outcomes.iter().map(line).collect()
    }
}

impl Row {
    /// A line for each run in which waits for work were watched.
    pub fn waits(&self) -> String {
        let line = |waits: &Waits| {
            format!(
                "{:?} {}: clients waited for work {} times, median {:.2} ms, nine of ten at most {:.2} ms, longest {:.2} ms\n",
                self.shape, self.work, waits.count, waits.median, waits.ninth_tenth, waits.longest
            )
        };
        let watched = self.outcomes.iter().filter_map(|run| run.waits.as_ref());
        watched.map(line).collect()
    }
}

/// The head of the table that [`Row::markdown`] fills.
pub const HEAD: &str = "\
| tree | work | walker | ideal s | as served s | whole s | own s | to ideal | to served | LOOKUP made/necessary | OPENDIR | READDIR | GETATTR | in flight | busy CPUs |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// Measures time, and the processor time of the whole machine.
struct Clock {
    start: Instant,
    busy: f64,
}

impl Clock {
    fn start() -> anyhow::Result<Self> {
        Ok(Self {
            busy: busy_seconds()?,
            start: Instant::now(),
        })
    }

    /// Seconds, and busy seconds of all processors.
    fn stop(self) -> anyhow::Result<(f64, f64)> {
        let seconds = self.start.elapsed().as_secs_f64();
        Ok((seconds, busy_seconds()? - self.busy))
    }
}

/// Seconds in which a processor was neither idle nor waited for a disk, all processors together.
fn busy_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = stat.lines().next().context("a line of /proc/stat")?;
    let numbers = line.split_ascii_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = numbers.map(str::parse).collect::<Result<_, _>>()?;
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let busy = ticks.iter().sum::<u64>() - idle;
    Ok(busy as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A client that is gone when dropped.
struct Client {
    process: Child,
    log: Option<JoinHandle<Log>>,
}

impl Client {
    /// Ends it, and tells how long it waited for work each time, in milliseconds.
    fn waits(mut self) -> Vec<f64> {
        self.end();
        let log = self.log.take().and_then(|log| log.join().ok());
        log.map_or_else(Vec::new, Log::waits)
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

fn tree_dir() -> PathBuf {
    Path::new(PLACE).join("tree")
}

/// Where a host's own mount is, for all but the host: to that it is [`tree_dir`].
fn own_tree(host: u8) -> PathBuf {
    Path::new(PLACE).join(format!("host{host}"))
}

fn keys() -> PathBuf {
    Path::new(PLACE).join("keys")
}

/// A tree of this shape made larger or smaller until `factor`, by which it is still too small, is near 1.
fn sized(shape: Shape, factor: impl Fn(&ImplicitTree) -> f64) -> anyhow::Result<ImplicitTree> {
    let (directories, files) = match shape {
        Shape::Balanced => (61_431.0, 1_042_865.0),
        Shape::Skewed => (180_845.0, 452_904.0),
        Shape::Widedirs => (200_001.0, 0.0),
        _ => (1.0, 1_000_000.0),
    };
    let mut scale = 0.1;
    for _ in 0..8 {
        let grown = |number: f64| (number * scale).round().max(1.0) as u64;
        let tree = ImplicitTree::new(&TreeArgs {
            shape,
            directories: Some(if shape == Shape::Flat {
                1
            } else {
                grown(directories)
            }),
            files: Some(grown(files)),
            seed: 1,
        })?;
        let factor = factor(&tree);
        if (0.98..1.02).contains(&factor) {
            return Ok(tree);
        }
        scale *= factor.clamp(0.1, 10.0);
    }
    bail!("no {shape:?} tree takes about as long as was asked: a deep chain alone takes longer")
}
