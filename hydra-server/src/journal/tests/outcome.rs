//! Power loss at any moment of a job: what the journal has goes on to a report, and that is the undisturbed one.
//!
//! The job is a real one in small: two clients walk a tree over the ledger, each giving the other some of its work.
//! Then its journal is cut, and two new clients finish what is left. That what was sent waited until it was durable is
//! not shown here (the simulator does), nor that old clients come back.

use super::super::disk::{Batch, Disk};
use super::super::fuzz::replayed;
use super::super::sample::{JOB, beginning, payload, spec};
use super::super::{Entry, Payload};
use hydra_proto::ids::{ChildId, ConnId, ItemId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::ledger::{
    Action, Frontier, Parent, Place, Time, Uplink, UplinkConfig, UplinkEvent, Work,
};
use hydra_proto::message::{Delta, Ready, RootView, Up};
use hydra_proto::reduce::Summary;
use hydra_proto::walk::{FileType, WalkSummary};
use std::fs;

const NOW: Time = Time::from_secs(1);
/// Directories in a directory, and how deep they lie.
const FAN: u8 = 4;
const DEPTH: usize = 3;
/// So much of a frame is there at least in each cut between two ends of frames.
const STEP: usize = 61;

/// A directory: the numbers of those on the way to it.
#[derive(Clone, Debug, PartialEq)]
struct Path(Vec<u8>);

impl Place for Path {
    fn at(_: RootId, path: &[u8]) -> Self {
        Self(path.to_vec())
    }

    fn root(&self) -> RootId {
        RootId(0)
    }

    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// A client: it walks by itself.
struct Client {
    uplink: Uplink,
    conn: ConnId,
    frontier: Option<Frontier<Path>>,
}

impl Client {
    fn new(number: u64) -> Self {
        let mut uplink = Uplink::new(UplinkConfig {
            name: number.to_string(),
            workers: 1,
            nonce: number,
            release: String::new(),
            resumable: true,
            uncut: false,
        });
        let conn = ConnId(number);
        uplink.connected(NOW, conn);
        Self {
            uplink,
            conn,
            frontier: None,
        }
    }

    /// Takes note of what the server says.
    fn settle(&mut self) {
        while let Some(event) = self.uplink.poll_event() {
            match (event, &mut self.frontier) {
                (UplinkEvent::Started(welcome), frontier) => {
                    *frontier = Some(Frontier::new(welcome.ids));
                    let epoch = self.uplink.epoch();
                    let roots = vec![RootView::Refused(String::new())];
                    self.uplink.send(Up::Ready(Ready { epoch, roots }));
                }
                (UplinkEvent::Granted(grant), Some(frontier)) => frontier.accept(grant),
                (UplinkEvent::Asked(shed), Some(frontier)) => frontier.ask(shed),
                _ => {}
            }
        }
        if let Some(frontier) = &mut self.frontier
            && frontier.could_give()
            && let Some(cut) = frontier.cut(None)
        {
            self.uplink.commit(cut);
        }
    }

    /// Walks one directory, which has two files; says whether there was one.
    fn step(&mut self) -> bool {
        let Some(frontier) = &mut self.frontier else {
            return false;
        };
        let Some((_, Work::Dir { parent, name })) = frontier.pop() else {
            return false;
        };
        let path = match (parent.0.as_slice(), &name[..]) {
            (b"", name) => name.to_vec(),
            (parent, name) => [parent, b"/", name].concat(),
        };
        let depth = path.split(|&byte| byte == b'/').count() - usize::from(path.is_empty());
        let names: Vec<Vec<u8>> = match depth < DEPTH {
            true => (0..FAN).map(|name| vec![b'a' + name]).collect(),
            false => Vec::new(),
        };
        let row = format!("/{}\n", String::from_utf8_lossy(&path));
        frontier.push_dirs(&Path(path), names.iter().map(Vec::as_slice).collect());
        frontier.finish();
        let mut delta = Delta {
            rows: row.into_bytes(),
            ..Delta::default()
        };
        for file_type in [FileType::Directory, FileType::File, FileType::File] {
            delta.walk.count(file_type);
        }
        let cut = frontier.cut(Some(delta));
        self.uplink.commit(cut.expect("ids for what was found"));
        true
    }
}

/// A job on its way.
struct Job {
    parent: Parent,
    clients: Vec<Client>,
    walk: WalkSummary,
    rows: Vec<u8>,
    records: Vec<Entry>,
}

impl Job {
    fn new() -> Self {
        let mut parent = crate::coordinator::bare_parent(JOB, &spec());
        parent.keep_records(true);
        let root = parent.take_ids(1).unwrap();
        parent.add(
            vec![Parcel::Dirs(Dirs {
                first: ItemId(root.start),
                root: RootId(0),
                dir: Vec::new(),
                names: NameList::from_iter([&b""[..]]),
            })],
            true,
        );
        Self {
            parent,
            clients: Vec::new(),
            walk: WalkSummary::default(),
            rows: Vec::new(),
            records: Vec::new(),
        }
    }

    /// What goes on from a journal. Nobody who worked for the old server is there any more.
    fn again(bytes: &[u8]) -> Self {
        let (restored, rows) = replayed(bytes).unwrap();
        let mut parent = restored.parent;
        parent.revive(NOW, restored.incarnation + 1);
        parent.keep_records(true);
        let lost: Vec<ChildId> = parent.children().map(|child| child.child).collect();
        for child in lost {
            parent.fence(NOW, child, "it died");
        }
        Self {
            parent,
            clients: Vec::new(),
            walk: restored.tally.walk,
            rows,
            records: Vec::new(),
        }
    }

    fn join(&mut self, number: u64) {
        self.clients.push(Client::new(number));
        self.talk();
    }

    /// Hands on all that is said.
    fn talk(&mut self) {
        loop {
            let mut any = false;
            for client in &mut self.clients {
                client.settle();
                while let Some(message) = client.uplink.poll_send() {
                    self.parent.handle(NOW, client.conn, message);
                    any = true;
                }
            }
            while let Some(action) = self.parent.poll_action() {
                self.act(action);
                any = true;
            }
            if !any {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Record(record) => self.records.push(Entry::Ledger(*record)),
            Action::Send { conn, message } => {
                let client = self.clients.iter_mut().find(|client| client.conn == conn);
                if let Some(client) = client {
                    client.uplink.handle(NOW, conn, message);
                }
            }
            Action::Sees { child, .. } => self.parent.serve(child, vec![true]),
            Action::Applied {
                result: Some(delta),
                ..
            } => {
                self.walk.merge(delta.walk);
                self.rows.extend_from_slice(&delta.rows);
            }
            _ => {}
        }
    }

    /// Goes on until all is done; `seen` is called after each step.
    fn finish(&mut self, mut seen: impl FnMut(&mut Self)) {
        while !self.parent.is_done() {
            let mut any = false;
            for client in 0..self.clients.len() {
                any |= self.clients[client].step();
                // Who has nothing says so.
                let load = self.clients[client].frontier.as_ref().map(Frontier::load);
                let beat = load.filter(|load| load.hungry);
                if let Some(load) = beat {
                    self.clients[client].uplink.beat(NOW, load);
                }
                self.talk();
                seen(self);
            }
            let counts = self.parent.counts();
            assert!(any || self.parent.is_done(), "stuck: {counts:?}");
        }
    }

    /// What came of it.
    fn outcome(&self) -> Found {
        let rows = self.rows.split_inclusive(|&byte| byte == b'\n');
        let mut rows: Vec<Vec<u8>> = rows.map(<[u8]>::to_vec).collect();
        rows.sort();
        (self.walk.clone(), rows)
    }
}

/// What a job has found, and its rows in order.
type Found = (WalkSummary, Vec<Vec<u8>>);

/// The journal of a whole job, where each of its frames ends, and what came of it.
fn whole_job() -> (Vec<u8>, Vec<usize>, Found) {
    let dir = tempfile::tempdir().unwrap();
    let begin: Vec<Payload> = beginning().into_iter().map(Payload::Entries).collect();
    let mut disk = Disk::begin(dir.path(), JOB, 1, &begin, false).unwrap();
    let mut ends = vec![disk.len() as usize];
    let mut write = |job: &mut Job| {
        let batch = Batch {
            entries: payload(&std::mem::take(&mut job.records)),
            ..Batch::default()
        };
        disk.write(&batch).unwrap();
        ends.push(disk.len() as usize);
    };
    let mut job = Job::new();
    job.talk();
    write(&mut job);
    [1, 2].into_iter().for_each(|number| job.join(number));
    job.finish(&mut write);
    ends.dedup();
    let bytes = fs::read(dir.path().join("journal")).unwrap();
    (bytes, ends, job.outcome())
}

#[test]
fn power_was_lost_anywhere_and_the_outcome_is_the_undisturbed_one() {
    let (bytes, ends, expected) = whole_job();
    let directories = (0..=DEPTH as u32)
        .map(|depth| usize::from(FAN).pow(depth))
        .sum::<usize>();
    assert_eq!(
        (expected.0.directories as usize, expected.1.len()),
        (directories, directories)
    );
    assert_eq!(ends.last(), Some(&bytes.len()));
    let mut cuts: Vec<usize> = (ends[0]..bytes.len())
        .step_by(STEP)
        .chain(ends.clone())
        .collect();
    cuts.sort_unstable();
    let mut midway = 0;
    for cut in cuts {
        // With nothing but its beginning there are no roots yet: the server adds them then.
        if cut < ends[1] {
            continue;
        }
        let mut job = Job::again(&bytes[..cut]);
        let before = job.walk.entries;
        [11, 12].into_iter().for_each(|number| job.join(number));
        job.finish(|_| {});
        assert_eq!(job.outcome(), expected, "cut at {cut}");
        assert!(job.parent.counts().balanced(), "cut at {cut}");
        midway += u64::from((1..expected.0.entries).contains(&before));
    }
    assert!(midway > 50, "only {midway} jobs went on from somewhere");
}
