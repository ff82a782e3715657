//! The pieces of which a walk is made, one by one: `cargo bench -p hydra-bench`.
//!
//! They say how a piece changes with a change of its code. What they cost together is for the rigs.

fn main() {
    divan::main();
}

/// A commit as a client sends it, to bytes and back; the number is that of directories found.
mod commit_codec {
    use super::make;
    use divan::Bencher;
    use divan::counter::BytesCount;
    use hydra_proto::codec;
    use hydra_proto::message::Up;

    const FOUND: [u64; 3] = [7, 100, 4000];

    #[divan::bench(args = FOUND)]
    fn encode(bencher: Bencher<'_, '_>, found: u64) {
        let message = Up::Commit(Box::new(make::commit(1, 1, found)));
        let size = codec::encode(&message).unwrap().len();
        bencher
            .counter(BytesCount::new(size))
            .bench(|| codec::encode(&message).unwrap());
    }

    #[divan::bench(args = FOUND)]
    fn decode(bencher: Bencher<'_, '_>, found: u64) {
        let bytes = codec::encode(&Up::Commit(Box::new(make::commit(1, 1, found)))).unwrap();
        bencher
            .counter(BytesCount::new(bytes.len()))
            .bench(|| codec::decode::<Up>(&bytes).unwrap());
    }
}

/// The encrypted stream; the number is the length of the frame.
mod noise {
    use super::make;
    use divan::Bencher;
    use divan::counter::BytesCount;

    const SIZES: [usize; 3] = [64, 1024, 65_000];

    #[divan::bench(args = SIZES)]
    fn seal(bencher: Bencher<'_, '_>, size: usize) {
        let (mut sealer, _) = make::stream();
        let (frame, mut out) = (vec![7; size], Vec::new());
        bencher.counter(BytesCount::new(size)).bench_local(|| {
            out.clear();
            sealer.seal(&frame, &mut out).unwrap();
            sealer.flush(&mut out).unwrap();
            out.len()
        });
    }

    #[divan::bench(args = SIZES)]
    fn open(bencher: Bencher<'_, '_>, size: usize) {
        let (mut sealer, mut opener) = make::stream();
        let frame = vec![7; size];
        bencher
            .counter(BytesCount::new(size))
            .with_inputs(|| {
                let mut sealed = Vec::new();
                sealer.seal(&frame, &mut sealed).unwrap();
                sealer.flush(&mut sealed).unwrap();
                sealed
            })
            .bench_local_refs(|sealed| opener.open(&mut &sealed[..]).unwrap().unwrap());
    }
}

/// The ledgers of both sides; the number is that of directories found between two commits.
mod ledger {
    use super::make;
    use divan::Bencher;
    use hydra_proto::ids::ConnId;
    use hydra_proto::ledger::Time;
    use hydra_proto::message::Up;

    const FOUND: [u64; 3] = [1, 7, 100];

    #[divan::bench(args = FOUND)]
    fn parent_applies_a_commit(bencher: Bencher<'_, '_>, found: u64) {
        let mut parent = make::parent();
        let mut seq = 0;
        bencher
            .with_inputs(|| {
                seq += 1;
                Up::Commit(Box::new(make::commit(seq, make::FIRST_ID, found)))
            })
            .bench_local_values(|commit| {
                parent.handle(Time::from_secs(1), ConnId(1), commit);
                std::iter::from_fn(|| parent.poll_action()).count()
            });
        assert_eq!(parent.counts().owned, found, "every commit was applied");
    }

    #[divan::bench(args = FOUND)]
    fn frontier_walks_and_cuts(bencher: Bencher<'_, '_>, found: u64) {
        let mut frontier = make::frontier();
        let names = make::names(found);
        bencher.bench_local(|| {
            let (_, work) = frontier.pop().unwrap();
            frontier.push_dirs(&make::At, names.clone());
            frontier.finish();
            for _ in 1..found {
                frontier.pop();
                frontier.finish();
            }
            (work, frontier.cut(None).unwrap())
        });
    }
}

/// The audit: one entry shown to it, and one summary merged; the number is that of files in the summary.
mod audit {
    use super::make;
    use divan::Bencher;
    use divan::counter::ItemsCount;
    use hydra::plugins::Audit;
    use hydra::plugins::audit::{AuditOptions, AuditSummary};
    use hydra::{Plugin, Summary, Total};
    use hydra_proto::codec;

    const FILES: [u64; 2] = [1_000, 50_000];

    #[divan::bench]
    fn entries_1000(bencher: Bencher<'_, '_>) {
        let files = make::files(1000);
        bencher
            .counter(ItemsCount::new(files.len()))
            .bench(|| make::audited(&files));
    }

    #[divan::bench(args = FILES)]
    fn merge(bencher: Bencher<'_, '_>, files: u64) {
        let (mut sum, one) = (AuditSummary::default(), make::audited(&make::files(files)));
        bencher
            .with_inputs(|| one.clone())
            .bench_local_values(|one| sum.merge(one));
    }

    #[divan::bench(args = FILES)]
    fn decode_and_add(bencher: Bencher<'_, '_>, files: u64) {
        let mut total = Audit::total(&AuditOptions::default()).unwrap();
        let bytes = codec::encode(&make::audited(&make::files(files))).unwrap();
        bencher.bench_local(|| total.add(codec::decode(&bytes).unwrap()).unwrap());
    }
}

/// Reading a listing; the number is that of names.
mod getdents {
    use divan::Bencher;
    use divan::counter::ItemsCount;
    use hydra_worker::sys::list::{ListBuffer, Lister};
    use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};
    use std::os::fd::AsFd;

    #[divan::bench(args = [10, 1_000, 100_000])]
    fn list(bencher: Bencher<'_, '_>, names: u64) {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..names {
            std::fs::File::create(dir.path().join(format!("file{number:06}.txt"))).unwrap();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
        let mut buffer = ListBuffer::default();
        bencher.counter(ItemsCount::new(names)).bench_local(|| {
            seek(&fd, SeekFrom::Start(0)).unwrap();
            let mut lister = Lister::new(fd.as_fd(), &mut buffer);
            while let Some(entry) = lister.next() {
                divan::black_box(entry.unwrap().kind);
            }
            assert_eq!(lister.names(), names);
        });
    }
}

/// What the pieces are tried on.
mod make {
    use hydra::plugins::Audit;
    use hydra::plugins::audit::{AuditOptions, AuditSummary};
    use hydra::{Dir, Entry, FileType, Plugin, RootSpec, Sink, Stat, Visit};
    use hydra_proto::handshake::{Handshake, Key, Opener, Sealer, ServerKey};
    use hydra_proto::ids::{ConnId, Epoch, IdRange, ItemId, JobId, RootId};
    use hydra_proto::item::{Dirs, NameList, Parcel};
    use hydra_proto::job::JobSpec;
    use hydra_proto::ledger::{Action, Frontier, Parent, ParentConfig, Place, Time};
    use hydra_proto::message::{
        Commit, Delta, Down, Grant, Hello, HelloHeader, Load, PROTOCOL_VERSION, Ready, RootView, Up,
    };

    const EPOCH: Epoch = Epoch {
        job: JobId(1),
        number: 1,
    };
    /// The first id of the child of [`parent`].
    pub(super) const FIRST_ID: u64 = 1000;

    pub(super) fn names(count: u64) -> NameList {
        let names: Vec<String> = (0..count).map(|number| format!("dir{number:04}")).collect();
        names.iter().map(|name| name.as_bytes()).collect()
    }

    /// The commit of this number: what the one before it has found is done, and as much is new.
    pub(super) fn commit(seq: u64, first_id: u64, found: u64) -> Commit {
        let start = first_id + (seq - 1) * found;
        let before = match seq {
            1 => IdRange::one(ItemId(1)),
            _ => IdRange {
                start: start - found,
                end: start,
            },
        };
        Commit {
            epoch: EPOCH,
            seq,
            done: vec![before],
            new: vec![Parcel::Dirs(Dirs {
                first: ItemId(start),
                root: RootId(0),
                dir: b"projects/climate/run0042/output".to_vec(),
                names: names(found),
            })],
            give: Vec::new(),
            failed: Vec::new(),
            result: Some(Delta {
                plugin: vec![3; 100],
                ..Delta::default()
            }),
            load: Load {
                held: found,
                busy: 1,
                ids: 1 << 39,
                ..Load::default()
            },
            answers: None,
            begun: Vec::new(),
        }
    }

    /// A parent with one child, which has been granted item 1.
    pub(super) fn parent() -> Parent {
        let mut parent = Parent::new(ParentConfig {
            job: EPOCH.job,
            spec: JobSpec {
                plugin: "bench".to_owned(),
                roots: vec![RootSpec::default()],
                ..JobSpec::default()
            },
            ids: IdRange {
                start: FIRST_ID,
                end: 1 << 62,
            },
            lease_ids: 1 << 40,
            resumable: true,
            forward_logs: false,
            release: String::new(),
            secrets: Box::new(|| [0; 16]),
        });
        let hello = Hello {
            header: HelloHeader {
                protocol: PROTOCOL_VERSION,
                release: String::new(),
            },
            name: "bench".to_owned(),
            workers: 1,
            nonce: 1,
        };
        let ready = Ready {
            epoch: Some(EPOCH),
            roots: vec![RootView::Refused(String::new())],
        };
        parent.handle(Time::ZERO, ConnId(1), Up::Hello(hello));
        parent.handle(Time::ZERO, ConnId(1), Up::Ready(ready));
        let mut child = None;
        while let Some(action) = parent.poll_action() {
            if let Action::Joined { child: joined, .. } = action {
                child = Some(joined);
            }
        }
        parent.serve(child.unwrap(), vec![true]);
        parent.add(vec![root()], false);
        let is_grant = |action| matches!(action, Action::Send { message: Down::Grant(grant), .. } if !grant.items.is_empty());
        assert!(std::iter::from_fn(|| parent.poll_action()).any(is_grant));
        parent
    }

    fn root() -> Parcel {
        Parcel::Dirs(Dirs {
            first: ItemId(1),
            root: RootId(0),
            dir: Vec::new(),
            names: NameList::from_iter([&b""[..]]),
        })
    }

    /// A place that is nowhere.
    #[derive(Clone, Debug)]
    pub(super) struct At;

    impl Place for At {
        fn at(_: RootId, _: &[u8]) -> Self {
            Self
        }

        fn root(&self) -> RootId {
            RootId(0)
        }

        fn write_path(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(b"projects/climate/run0042/output");
        }
    }

    pub(super) fn frontier() -> Frontier<At> {
        let mut frontier = Frontier::new(IdRange {
            start: FIRST_ID,
            end: 1 << 62,
        });
        frontier.accept(Grant {
            epoch: EPOCH,
            seq: 1,
            items: vec![root()],
            ids: IdRange::default(),
            careful: false,
        });
        frontier
    }

    /// Both ends of an encrypted stream: one that writes, and the one that reads it.
    pub(super) fn stream() -> (Sealer, Opener) {
        let server = ServerKey::generate().unwrap();
        let client = Key::from(server.client_key());
        let mut responder = Handshake::respond(&Key::from(server)).unwrap();
        let mut to_responder = Vec::new();
        let mut initiator = Handshake::initiate(&client, &mut to_responder).unwrap();
        let mut to_initiator = Vec::new();
        let answered = responder.read(&mut &to_responder[..], &mut to_initiator);
        assert!(answered.unwrap().is_none());
        let mut proof = Vec::new();
        let writer = initiator.read(&mut &to_initiator[..], &mut proof);
        let reader = responder.read(&mut &proof[..], &mut Vec::new());
        (
            writer.unwrap().unwrap().sealer,
            reader.unwrap().unwrap().opener,
        )
    }

    /// A file: the directory that it is in, its name, and its facts.
    pub(super) struct File {
        dir: Vec<u8>,
        name: String,
        stat: Stat,
    }

    /// So many files of all sizes and ages, in directories of a hundred.
    pub(super) fn files(count: u64) -> Vec<File> {
        let extensions = ["txt", "dat", "log", "jpg", "h5", "c"];
        let file = |number: u64| {
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let size = spread >> (37 + spread % 27);
            let time = (1_700_000_000 - (spread >> 38) as i64, 0);
            File {
                dir: format!("projects/run{:04}", number / 100).into_bytes(),
                name: format!("file{number:06}.{}", extensions[(spread % 6) as usize]),
                stat: Stat {
                    size,
                    blocks: size.div_ceil(512),
                    uid: (spread >> 60) as u32,
                    gid: (spread >> 61) as u32,
                    mode: 0o100_644,
                    nlink: 1,
                    ino: number + 2,
                    dev: 1,
                    atime: time,
                    mtime: time,
                    ctime: time,
                },
            }
        };
        (0..count).map(file).collect()
    }

    /// What the audit makes of them.
    pub(super) fn audited(files: &[File]) -> AuditSummary {
        let root = RootSpec::default();
        let mut visit = Audit::visit(&AuditOptions::default()).unwrap();
        let mut sink = Sink::default();
        for file in files {
            let dir = Dir {
                root: &root,
                root_id: RootId(0),
                depth: 2,
                fd: None,
                path: &file.dir,
                slot: None,
            };
            let entry = Entry {
                dir: &dir,
                name: file.name.as_bytes(),
                file_type: FileType::File,
                stat: &file.stat,
                target: None,
                fs: 0,
            };
            visit.entry(&entry, &mut sink);
        }
        visit.flush(&mut sink);
        sink.summary
    }
}
