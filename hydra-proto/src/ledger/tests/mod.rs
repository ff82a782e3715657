//! Transition tests: build a state, call once, compare what comes out.

mod balance;
mod commits;
mod dealing;
mod fencing;
mod frontier;
mod hunger;
mod intents;
mod joining;
mod memory;
mod pace;
mod relay;
mod rows;
mod store;
mod suspects;
mod table;
mod uplink;
mod visits;
mod walls;

use super::*;
use crate::ids::{ChildId, ConnId, Epoch, IdRange, JobId, RootId, Secret, join_ids};
use crate::item::{After, Dirs, Item, Listing, NameList, Names, Parcel, Rest};
use crate::job::{JobSpec, RootSpec, Timing, WalkOptions};
use crate::message::*;
use crate::walk::FileType;

const JOB: JobId = JobId(77);
const SECRET: [u8; 16] = [3; 16];

fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn spec(acts: bool, roots: usize) -> JobSpec {
    JobSpec {
        rows: None,
        plugin: "test".to_owned(),
        options: Vec::new(),
        acts,
        roots: vec![RootSpec::default(); roots],
        walk: WalkOptions::default(),
        timing: Timing::default(),
    }
}

fn config(resumable: bool, acts: bool) -> ParentConfig {
    ParentConfig {
        job: JOB,
        spec: spec(acts, 2),
        ids: IdRange {
            start: 1000,
            end: 1_000_000,
        },
        lease_ids: 1000,
        resumable,
        forward_logs: false,
        release: "1.2.3".to_owned(),
        secrets: Box::new(|| SECRET),
    }
}

/// A server's ledger.
fn server() -> Parent {
    Parent::new(config(true, false))
}

/// A client's ledger over its workers.
fn over_workers() -> Parent {
    Parent::new(config(false, false))
}

fn header() -> HelloHeader {
    HelloHeader {
        protocol: PROTOCOL_VERSION,
        release: "1.2.3".to_owned(),
    }
}

fn hello(nonce: u64, workers: u32) -> Up {
    Up::Hello(Hello {
        header: header(),
        name: format!("c{nonce}"),
        workers,
        nonce,
    })
}

fn resume(child: ChildId, attempt: u64, last_grant: u64) -> Up {
    let epoch = epoch(child);
    Up::Resume(Resume {
        header: header(),
        epoch,
        secret: Secret(SECRET),
        attempt,
        last_grant,
        journaled: false,
    })
}

/// Sessions and children are numbered side by side.
fn epoch(child: ChildId) -> Epoch {
    Epoch {
        job: JOB,
        number: u64::from(child.0) + 1,
    }
}

fn drain(parent: &mut Parent) -> Vec<Action> {
    std::iter::from_fn(|| parent.poll_action()).collect()
}

/// Opens a session that may be granted everything, and forgets what was said.
fn join(parent: &mut Parent, conn: u64, workers: u32) -> ChildId {
    join_serving(parent, conn, workers, &[true, true])
}

fn join_serving(parent: &mut Parent, conn: u64, workers: u32, serves: &[bool]) -> ChildId {
    parent.handle(ms(0), ConnId(conn), hello(conn, workers));
    let child = drain(parent).into_iter().find_map(|action| match action {
        Action::Joined { child, .. } => Some(child),
        _ => None,
    });
    let child = child.expect("a session");
    parent.serve(child, serves.to_vec());
    child
}

fn dirs(first: u64, dir: &str, names: &[&str]) -> Parcel {
    dirs_of(0, first, dir, names)
}

fn dirs_of(root: u32, first: u64, dir: &str, names: &[&str]) -> Parcel {
    Parcel::Dirs(Dirs {
        first: ItemId(first),
        root: RootId(root),
        dir: dir.into(),
        names: names.iter().map(|name| name.as_bytes()).collect(),
    })
}

fn names(id: u64, visit: Option<u64>, names: &[&str]) -> Parcel {
    Parcel::Names(Names {
        id: ItemId(id),
        root: RootId(0),
        dir: b"d".to_vec(),
        visit: visit.map(ItemId),
        names: names.iter().map(|name| name.as_bytes()).collect(),
        types: vec![FileType::File.to_raw(); names.len()],
        begun: false,
    })
}

fn rest(id: u64, visit: u64) -> Parcel {
    Parcel::Rest(Rest {
        id: ItemId(id),
        root: RootId(0),
        dir: b"d".to_vec(),
        visit: Some(ItemId(visit)),
        read: Listing {
            entries: 2,
            directories: 0,
            hash: 5,
        },
    })
}

fn after(id: u64, visit: u64) -> Parcel {
    let (root, dir) = (RootId(0), b"d".to_vec());
    Parcel::After(After {
        id: ItemId(id),
        root,
        dir,
        visit: ItemId(visit),
    })
}

fn range(start: u64, end: u64) -> IdRange {
    IdRange { start, end }
}

fn load(held: u64, hungry: bool) -> Load {
    Load {
        held,
        hungry,
        busy: u32::from(!hungry),
        ids: u64::MAX,
    }
}

/// A commit that says nothing.
fn commit(child: ChildId, seq: u64) -> Commit {
    Commit {
        epoch: epoch(child),
        seq,
        done: Vec::new(),
        new: Vec::new(),
        give: Vec::new(),
        failed: Vec::new(),
        result: None,
        load: load(1, false),
        answers: None,
        begun: Vec::new(),
    }
}

fn say(parent: &mut Parent, conn: u64, commit: Commit) -> Vec<Action> {
    parent.handle(ms(1), ConnId(conn), Up::Commit(Box::new(commit)));
    drain(parent)
}

fn beat(parent: &mut Parent, now: Time, conn: u64, child: ChildId, load: Load) -> Vec<Action> {
    let (epoch, number, last_grant) = (epoch(child), 1, u64::MAX);
    parent.handle(
        now,
        ConnId(conn),
        Up::Beat(UpBeat {
            epoch,
            number,
            last_grant,
            load,
        }),
    );
    drain(parent)
}

fn send(conn: u64, message: Down) -> Action {
    Action::Send {
        conn: ConnId(conn),
        message,
    }
}

fn close(conn: u64) -> Action {
    Action::Close { conn: ConnId(conn) }
}

fn ack(conn: u64, seq: u64) -> Action {
    send(conn, Down::Ack { seq })
}

fn grant(conn: u64, child: ChildId, seq: u64, items: Vec<Parcel>) -> Action {
    let epoch = epoch(child);
    send(
        conn,
        Down::Grant(Grant {
            epoch,
            seq,
            items,
            ids: IdRange::default(),
            careful: false,
        }),
    )
}

fn refused(conn: u64, refusal: Refusal) -> Action {
    send(conn, Down::Refused(refusal))
}

fn lost(child: ChildId, reason: &str) -> Action {
    Action::Lost {
        child,
        reason: reason.to_owned(),
    }
}

fn applied(child: ChildId, done: &[u64], new: &[u64]) -> Action {
    let ids = |ids: &[u64]| ids.iter().copied().map(ItemId).collect();
    Action::Applied {
        child,
        epoch: epoch(child),
        result: None,
        done: join_ids(ids(done)),
        new: join_ids(ids(new)),
    }
}
