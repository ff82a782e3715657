//! What the client's tests share: a worker, a server, and a tree that exists only in arithmetic.

pub(crate) mod server;
pub(crate) mod worker;

use hydra_client::{Config, Doing, LogSink, WorkerCommand};
use hydra_proto::ids::ItemId;
use hydra_proto::job::{JobSpec, RootSpec, Timing};
use hydra_proto::message::{LogLine, RootFacts, RootView};
use hydra_proto::reduce::Merger;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// No test takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The environment variable that makes this test program look at roots.
pub(crate) const LOOKER: &str = "HYDRA_FAKE_LOOKER";
/// Files in each directory of the tree.
pub(crate) const FILES: u64 = 3;

/// A tree: `width` directories in each directory, down to `depth`; a worker needs `pause` for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    pub(crate) width: u64,
    pub(crate) depth: u32,
    pub(crate) pause: Duration,
}

impl Tree {
    pub(crate) fn directories(&self) -> u64 {
        (0..=self.depth).map(|level| self.width.pow(level)).sum()
    }

    pub(crate) fn entries(&self) -> u64 {
        self.directories() * (1 + FILES)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let micros = self.pause.as_micros();
        format!("{} {} {micros}", self.width, self.depth).into_bytes()
    }

    pub(crate) fn decode(options: &[u8]) -> Self {
        let text = String::from_utf8(options.to_vec()).unwrap();
        let numbers: Vec<u64> = text.split(' ').map(|n| n.parse().unwrap()).collect();
        Self {
            width: numbers[0],
            depth: numbers[1] as u32,
            pause: Duration::from_micros(numbers[2]),
        }
    }
}

/// 511 directories at 2 ms: about a second for one worker.
pub(crate) const SLOW: Tree = Tree {
    width: 2,
    depth: 8,
    pause: Duration::from_millis(2),
};

pub(crate) fn job(tree: Tree) -> JobSpec {
    JobSpec {
        plugin: "count".to_owned(),
        options: tree.encode(),
        roots: vec![root("/data")],
        timing: Timing {
            beat: Duration::from_millis(100),
            dead_after: Duration::from_secs(1),
            commit_interval: Duration::from_millis(20),
            ..Timing::default()
        },
        ..JobSpec::default()
    }
}

pub(crate) fn root(path: &str) -> RootSpec {
    RootSpec {
        shown: path.as_bytes().to_vec(),
        local: path.as_bytes().to_vec(),
        stops: Vec::new(),
    }
}

pub(crate) fn seen() -> RootView {
    RootView::Seen(RootFacts {
        fs_type: "arithmetic".to_owned(),
        fs_id: String::new(),
        inode: 1,
        directory: true,
        on_system_disk: false,
    })
}

/// A client whose workers are this test program, started again. Behaves as `mood` says.
pub(crate) fn config(workers: u32, mood: &str) -> (Config, Lines) {
    let command = |test: &str, variable: &str, value: &str| WorkerCommand {
        program: PathBuf::from("/proc/self/exe"),
        args: ["--exact", test, "--nocapture"].map(Into::into).to_vec(),
        env: vec![(variable.into(), value.into())],
    };
    let (sender, lines) = mpsc::unbounded_channel();
    let sink: LogSink = Arc::new(move |line: &LogLine| {
        let _ = sender.send(line.clone());
    });
    let mut config = Config::new(
        "test".to_owned(),
        command("fake_worker", worker::MOOD, mood),
        Arc::new(|_| Ok(Box::new(Merger::<()>::default()))),
        command("fake_looker", LOOKER, ""),
        Arc::new(decode_slot),
    );
    config.workers = workers;
    config.log_sink = sink;
    let pids = Vec::new();
    (config, Lines { lines, pids })
}

fn decode_slot(bytes: &[u8]) -> Option<Doing> {
    let at = usize::try_from(worker::ITEM_AT).unwrap();
    let word = bytes.get(at..at + 8)?.try_into().ok()?;
    let item = Some(ItemId(u64::from_le_bytes(word))).filter(|id| id.0 != 0);
    let in_call = bytes.get(usize::try_from(worker::CALL_AT).unwrap()) == Some(&1);
    Some(Doing {
        item,
        call: in_call.then_some("stat"),
        ..Doing::default()
    })
}

/// What the workers log.
pub(crate) struct Lines {
    lines: mpsc::UnboundedReceiver<LogLine>,
    pids: Vec<u32>,
}

impl Lines {
    /// Waits for a line that begins with `start`.
    pub(crate) async fn wait(&mut self, start: &str) -> LogLine {
        loop {
            let line = self.lines.recv().await.expect("the client has ended");
            self.pids.push(line.pid);
            if line.text.starts_with(start) {
                return line;
            }
        }
    }

    /// The pids of all that have started, once the client is gone.
    pub(crate) async fn pids(mut self) -> Vec<u32> {
        let mut pids = std::mem::take(&mut self.pids);
        while let Some(line) = self.lines.recv().await {
            pids.push(line.pid);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

/// Whether there is such a process, alive.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether there is such a process, alive or not reaped.
pub(crate) fn exists(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}
