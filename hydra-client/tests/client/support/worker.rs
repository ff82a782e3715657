//! A worker that walks a tree of numbers, over the real ledger, control channel, slot and log.

use super::{FILES, Tree};
use hydra_client::inherit::{self, Inherited};
use hydra_proto::codec;
use hydra_proto::frame::{self, FRAME_BYTES_MAX, FrameDecoder};
use hydra_proto::ids::{ConnId, ItemId, RootId};
use hydra_proto::item::NameList;
use hydra_proto::ledger::{Frontier, Place, Time, Uplink, UplinkConfig, UplinkEvent, Work};
use hydra_proto::logs::{LOG_PROOF_BYTES, LogBuffer, LogProof, WorkerStart};
use hydra_proto::message::{Delta, Down, LogLine, Ready, RootView, Up};
use hydra_proto::walk::FileType;
use std::fs::File;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::exit;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The environment variable that makes this test program a worker, and of which kind.
pub(crate) const MOOD: &str = "HYDRA_FAKE_WORKER";
/// Where in the slot the item in hand stands: behind what the test harness prints.
pub(crate) const ITEM_AT: u64 = 2048;
/// Where it says that it is in a system call.
pub(crate) const CALL_AT: u64 = ITEM_AT + 8;
/// Directories between two commits, and between two lines of log.
const STRIDE: u64 = 10;

#[derive(Clone)]
struct Dir {
    root: RootId,
    path: Vec<u8>,
}

impl Place for Dir {
    fn at(root: RootId, path: &[u8]) -> Self {
        let path = path.to_vec();
        Self { root, path }
    }
    fn root(&self) -> RootId {
        self.root
    }
    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.path);
    }
}

pub(crate) fn run(mood: &str) -> ! {
    if mood == "exit" {
        exit(7);
    }
    let Inherited { control, slot } = inherit::take().unwrap();
    let messages = read_frames(control.try_clone().unwrap());
    let start: WorkerStart = codec::decode(&messages.recv().unwrap()).unwrap();
    let mut log = Log::open(&start);
    log.say("started");
    if mood == "first is mute" && start.worker == 1 {
        loop {
            std::thread::park();
        }
    }
    if mood == "parent" {
        // Left behind on purpose: the client has to see to it.
        #[expect(clippy::zombie_processes)]
        let child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        log.say(&format!("child {}", child.id()));
    }
    let uplink = Uplink::new(UplinkConfig {
        name: format!("worker {}", start.worker),
        workers: 1,
        nonce: start.nonce,
        release: "test".to_owned(),
        resumable: false,
        uncut: false,
    });
    let worker = Worker {
        control,
        messages,
        slot: File::from(slot),
        log,
        uplink,
        frontier: None,
        tree: Tree {
            width: 0,
            depth: 0,
            pause: Duration::ZERO,
        },
        delta: Delta::default(),
        walked: 0,
        paused: false,
        poison: mood == "poison",
        stuck: mood == "stuck",
        unwilling: mood == "unwilling",
        since: Instant::now(),
    };
    worker.run()
}

fn read_frames(mut stream: UnixStream) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                // What this worker has started must not outlive it, even if the client died.
                let _ = nix::sys::signal::killpg(nix::unistd::getpgrp(), nix::sys::signal::SIGKILL);
            }
            let mut input = &buffer[..read];
            while let Some(frame) = decoder.decode(&mut input).unwrap() {
                sender.send(frame).unwrap();
            }
        }
    });
    receiver
}

struct Worker {
    control: UnixStream,
    messages: Receiver<Vec<u8>>,
    slot: File,
    log: Log,
    uplink: Uplink,
    frontier: Option<Frontier<Dir>>,
    tree: Tree,
    delta: Delta,
    walked: u64,
    paused: bool,
    poison: bool,
    stuck: bool,
    unwilling: bool,
    since: Instant,
}

impl Worker {
    fn now(&self) -> Time {
        self.since.elapsed()
    }

    fn run(mut self) -> ! {
        self.uplink.connected(self.now(), ConnId(1));
        loop {
            self.send();
            let idle = self.paused || !self.uplink.has_window() || !self.walk_one();
            self.cut_if_due();
            let wait = match idle {
                true => Duration::from_millis(20),
                false => Duration::ZERO,
            };
            self.send();
            match self.messages.recv_timeout(wait) {
                Ok(frame) => {
                    let message: Down = codec::decode(&frame).unwrap();
                    self.uplink.handle(self.now(), ConnId(1), message);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => exit(0),
            }
            let load = self.frontier.as_ref().map(Frontier::load);
            self.uplink.tick(self.now(), load.unwrap_or_default());
            while let Some(event) = self.uplink.poll_event() {
                self.event(event);
            }
        }
    }

    fn send(&mut self) {
        let mut bytes = Vec::new();
        while let Some(message) = self.uplink.poll_send() {
            frame::encode(&codec::encode::<Up>(&message).unwrap(), &mut bytes).unwrap();
        }
        if self.control.write_all(&bytes).is_err() {
            exit(0);
        }
    }

    fn event(&mut self, event: UplinkEvent) {
        match event {
            UplinkEvent::Started(welcome) => {
                // It sees what its client sees: only the number of answers counts.
                let roots = vec![RootView::Refused(String::new()); welcome.job.roots.len()];
                let epoch = Some(welcome.epoch);
                self.uplink.send(Up::Ready(Ready { epoch, roots }));
                self.log.say(&format!(
                    "root {}",
                    welcome.job.roots[0].local.escape_ascii()
                ));
                self.tree = Tree::decode(&welcome.job.options);
                if self.unwilling {
                    self.uplink.send(Up::Leave("no such plugin".to_owned()));
                }
                self.frontier = Some(Frontier::new(welcome.ids));
            }
            UplinkEvent::Granted(grant) => self.frontier.as_mut().unwrap().accept(grant),
            UplinkEvent::Asked(shed) => self.frontier.as_mut().unwrap().ask(shed),
            UplinkEvent::Paused(paused) => self.paused = paused,
            UplinkEvent::Over(_) | UplinkEvent::Drop(_) => exit(0),
            UplinkEvent::Frugal(_) => {}
            UplinkEvent::Resumed | UplinkEvent::Lost | UplinkEvent::Kept(_) => unreachable!(),
        }
    }

    fn walk_one(&mut self) -> bool {
        let Some(frontier) = &mut self.frontier else {
            return false;
        };
        let Some((key, work)) = frontier.pop() else {
            return false;
        };
        let Work::Dir { parent, name } = work else {
            panic!("no other work exists here");
        };
        self.slot
            .write_all_at(&key.origin.0.to_le_bytes(), ITEM_AT)
            .unwrap();
        let mut path = parent.path;
        if !name.is_empty() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
        }
        if self.poison && path.ends_with(b"1/1/1") {
            exit(9);
        }
        if self.stuck && path == b"1/1/1" {
            self.slot.write_all_at(&[1], CALL_AT).unwrap();
            loop {
                std::thread::park();
            }
        }
        std::thread::sleep(self.tree.pause);
        self.delta.walk.count(FileType::Directory);
        (0..FILES).for_each(|_| self.delta.walk.count(FileType::File));
        let depth = match path.is_empty() {
            true => 0,
            false => path.split(|&b| b == b'/').count(),
        };
        if depth < self.tree.depth as usize {
            let names: Vec<String> = (0..self.tree.width).map(|n| n.to_string()).collect();
            let list: NameList = names.iter().map(|name| name.as_bytes()).collect();
            let place = Dir {
                root: parent.root,
                path,
            };
            frontier.push_dirs(&place, list);
        }
        frontier.finish();
        self.slot
            .write_all_at(&ItemId(0).0.to_le_bytes(), ITEM_AT)
            .unwrap();
        self.walked += 1;
        if self.walked.is_multiple_of(STRIDE) {
            self.log.say(&format!("walked {}", self.walked));
        }
        true
    }

    fn cut_if_due(&mut self) {
        let Some(frontier) = &mut self.frontier else {
            return;
        };
        let due = frontier.is_dry() || frontier.could_give() || self.walked.is_multiple_of(STRIDE);
        if frontier.has_news() && due && self.uplink.has_window() {
            let delta = std::mem::take(&mut self.delta);
            if let Some(cut) = frontier.cut(Some(delta)) {
                self.uplink.commit(cut);
            }
        }
    }
}

struct Log {
    stream: UnixStream,
    buffer: LogBuffer,
}

impl Log {
    fn open(start: &WorkerStart) -> Self {
        let access = start.log.as_ref().unwrap();
        let address = SocketAddr::from_abstract_name(&access.socket).unwrap();
        let mut stream = UnixStream::connect_addr(&address).unwrap();
        let (proof, opening) = LogProof::open(&access.secret).unwrap();
        stream.write_all(&opening).unwrap();
        let mut answer = [0; LOG_PROOF_BYTES];
        stream.read_exact(&mut answer).unwrap();
        proof.check(&answer).unwrap();
        Self {
            stream,
            buffer: LogBuffer::new(1 << 16),
        }
    }

    fn say(&mut self, text: &str) {
        self.buffer.push(LogLine {
            worker: 0,
            pid: 0,
            level: 3,
            target: "fake".to_owned(),
            text: text.to_owned(),
        });
        let taken = self.stream.write(self.buffer.pending()).unwrap_or(0);
        self.buffer.advance(taken);
    }
}
