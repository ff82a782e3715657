use super::*;
use hydra_proto::ids::{ConnId, Epoch, JobId};
use hydra_proto::message::Rows;
use hydra_proto::segment::{Segment, SegmentId};
use rustix::fs::mkfifoat;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::Duration;
use tokio::sync::mpsc;

const SESSION: Epoch = Epoch {
    job: JobId(9),
    number: 3,
};

fn id(worker: u64) -> SegmentId {
    SegmentId {
        session: SESSION.number,
        worker,
        number: 0,
    }
}

/// A store that somebody lets go of a little later than he says.
fn patiently(open: impl Fn() -> Result<Store, RowsError>) -> Store {
    let mut opened = std::iter::repeat_with(open);
    let opened = opened.find(|opened| !matches!(opened, Err(RowsError::Locked(_))));
    opened.unwrap().unwrap()
}

/// A directory with a job in it.
struct Lab {
    tmp: tempfile::TempDir,
    spec: RowsDir,
    done: mpsc::UnboundedReceiver<Done>,
    sender: mpsc::UnboundedSender<Done>,
}

impl Lab {
    fn new() -> (Self, Keeper) {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(tmp: tempfile::TempDir) -> (Self, Keeper) {
        let store = Store::create(&tmp.path().join("rows"), true).unwrap();
        let spec = store.spec().clone();
        drop(store);
        let (sender, done) = mpsc::unbounded_channel();
        let lab = Self {
            tmp,
            spec,
            done,
            sender,
        };
        let keeper = lab.keeper(&Counts::new(), 0);
        (lab, keeper)
    }

    fn keeper(&self, counts: &Counts, streamed: u64) -> Keeper {
        let store = patiently(|| Store::open(&self.spec));
        let done = self.sender.clone();
        Keeper::start(store, SESSION.job, true, counts, streamed, done).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp
            .path()
            .join("rows")
            .join(self.spec.segments())
            .join(name)
    }

    fn write(&self, name: &str, bytes: usize) {
        fs::write(self.path(name), vec![b'\n'; bytes]).unwrap();
    }

    /// What a reader finds in the manifest, and whether the job has ended.
    fn read(&self) -> (BTreeMap<String, u64>, bool) {
        let text = fs::read_to_string(self.tmp.path().join("rows/manifest.ndjson")).unwrap();
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some(r#"{"schema":"hydra.rows/1","job":"0000000000000009"}"#)
        );
        let (mut counts, mut ended) = (BTreeMap::new(), false);
        for line in lines {
            let fields: Vec<&str> = line.split(['"', ':', ',', '}']).collect();
            match fields[1] {
                "segment" => {
                    let (_, name) = fields[4].split_once('/').unwrap();
                    counts.insert(name.to_owned(), fields[9].parse().unwrap());
                }
                _ => ended = true,
            }
        }
        (counts, ended)
    }

    fn files(&self) -> BTreeMap<String, u64> {
        let files = fs::read_dir(self.path("")).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap().len())
        });
        files.collect()
    }

    fn wait(&mut self) -> Done {
        self.done.blocking_recv().unwrap()
    }

    /// Ends the job, and returns how that went.
    fn end(
        &mut self,
        mut keeper: Keeper,
        counts: &Counts,
        complete: bool,
        for_good: bool,
    ) -> Result<(), RowsError> {
        keeper.end(counts, complete, for_good);
        match self.wait() {
            Done::Ended { is_done, lost } => {
                assert!(is_done && lost == 0);
                Ok(())
            }
            Done::Failed(error) => Err(error),
            done => panic!("{done:?}"),
        }
    }
}

fn piece(worker: u64, at: u64, bytes: &[u8]) -> Rows {
    Rows {
        worker,
        number: 0,
        at,
        bytes: bytes.to_vec(),
    }
}

fn counts(list: &[(u64, u64)]) -> Counts {
    list.iter()
        .map(|&(worker, bytes)| (id(worker), bytes))
        .collect()
}

mod full;

#[test]
fn a_directory_that_holds_something_is_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    for name in ["mine", manifest::MANIFEST] {
        let mine = tmp.path().join(name);
        fs::write(&mine, b"").unwrap();
        let refused = Store::create(tmp.path(), false);
        assert!(
            matches!(refused, Err(RowsError::NotEmpty(_))),
            "{refused:?}"
        );
        fs::remove_file(mine).unwrap();
    }
    let store = Store::create(&tmp.path().join("rows"), false).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(tmp.path().join("rows")), 0o700);
    assert_eq!(mode(store.path_of("")), 0o700);
    store.streamed().unwrap();
    assert_eq!(mode(store.path_of(STREAMED)), 0o600);
}

#[test]
fn a_directory_is_used_again_where_it_holds_no_rows_and_nobody_else_uses_it() {
    let (mut lab, keeper) = Lab::new();
    let path = lab.tmp.path().join("rows");
    let used = Store::create(&path, false);
    assert!(matches!(used, Err(RowsError::Locked(_))), "{used:?}");
    lab.end(keeper, &Counts::new(), false, true).unwrap();
    let store = patiently(|| Store::create(&path, false));
    fs::write(store.path_of(STREAMED), b"{}\n").unwrap();
    drop(store);
    let full = Store::create(&path, false);
    assert!(matches!(full, Err(RowsError::NotEmpty(_))), "{full:?}");
}

#[test]
fn pieces_are_kept_in_whatever_order_they_come_and_again() {
    let (mut lab, mut keeper) = Lab::new();
    for (at, bytes) in [(3, b"def"), (0, b"abc"), (3, b"def")] {
        keeper.piece(ConnId(4), SESSION, piece(1, at, bytes));
        let done = lab.wait();
        keeper.done(&done);
        let bytes = at + 3;
        let segment = Segment {
            worker: 1,
            number: 0,
            bytes,
        };
        match done {
            Done::Kept(conn, kept) => assert_eq!((conn, kept), (ConnId(4), segment)),
            done => panic!("{done:?}"),
        }
    }
    assert_eq!(fs::read(lab.path(&id(1).file_name())).unwrap(), b"abcdef");
}

#[test]
fn a_link_in_a_segment_s_place_is_not_followed() {
    let (mut lab, mut keeper) = Lab::new();
    let victim = lab.tmp.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    std::os::unix::fs::symlink(&victim, lab.path(&id(1).file_name())).unwrap();
    keeper.piece(ConnId(4), SESSION, piece(1, 0, b"rows"));
    let done = lab.wait();
    assert!(
        matches!(done, Done::Failed(RowsError::Io { .. })),
        "{done:?}"
    );
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_reader_is_told_of_what_is_durable_and_of_nothing_else() {
    let (mut lab, mut keeper) = Lab::new();
    assert_eq!(lab.read(), (BTreeMap::new(), false));
    keeper.named(1, id(1), 10);
    keeper.came(2, 7);
    keeper.named(2, id(1), 20);
    keeper.publish(|_| false);
    keeper.publish(|ticket| ticket <= 1);
    keeper.done(&lab.wait());
    let name = id(1).file_name();
    assert_eq!(lab.read(), (BTreeMap::from([(name.clone(), 10)]), false));
    keeper.publish(|_| true);
    keeper.done(&lab.wait());
    let all = BTreeMap::from([(name, 20), (STREAMED.to_owned(), 7)]);
    assert_eq!(lab.read(), (all, false));
}

#[test]
fn at_the_end_only_what_counts_is_left() {
    let (mut lab, keeper) = Lab::new();
    lab.write(&id(1).file_name(), 100);
    lab.write(&id(2).file_name(), 40);
    lab.write(&id(3).file_name(), 5);
    lab.write(STREAMED, 0);
    lab.write("somebody else's", 1);
    lab.end(keeper, &counts(&[(1, 70), (2, 40)]), true, true)
        .unwrap();
    let expected = BTreeMap::from([(id(1).file_name(), 70), (id(2).file_name(), 40)]);
    assert_eq!(lab.read(), (expected.clone(), true));
    let mut files = lab.files();
    assert_eq!(files.remove("somebody else's"), Some(1));
    assert_eq!(files, expected);
}

#[test]
fn a_job_that_may_go_on_keeps_what_was_not_committed() {
    let (mut lab, keeper) = Lab::new();
    lab.write(&id(1).file_name(), 100);
    lab.write(&id(3).file_name(), 5);
    lab.end(keeper, &counts(&[(1, 70)]), false, false).unwrap();
    assert_eq!(lab.files().values().sum::<u64>(), 105);
    // Who goes on with it says the same again, and ends it.
    let keeper = lab.keeper(&counts(&[(1, 70)]), 0);
    assert_eq!(
        lab.read(),
        (BTreeMap::from([(id(1).file_name(), 70)]), false)
    );
    lab.end(keeper, &counts(&[(1, 100), (3, 5)]), true, true)
        .unwrap();
    assert_eq!(lab.files().values().sum::<u64>(), 105);
}

#[test]
fn rows_that_were_committed_and_are_gone_are_an_error() {
    for bytes in [None, Some(69)] {
        let (mut lab, keeper) = Lab::new();
        if let Some(bytes) = bytes {
            lab.write(&id(1).file_name(), bytes);
        }
        let lost = lab.end(keeper, &counts(&[(1, 70)]), true, true);
        assert!(
            matches!(lost, Err(RowsError::Lost { expected: 70, .. })),
            "{lost:?}"
        );
    }
}

#[test]
fn a_long_manifest_is_written_anew_and_says_the_same() {
    let (mut lab, mut keeper) = Lab::new();
    let path = lab.tmp.path().join("rows/manifest.ndjson");
    let mut longest = 0;
    for round in 1..=40 {
        for worker in 0..1000 {
            keeper.named(0, id(worker), round);
        }
        keeper.publish(|_| true);
        keeper.done(&lab.wait());
        longest = longest.max(fs::metadata(&path).unwrap().len());
    }
    assert!(longest < 2 << 20, "{longest}");
    let (counts, _) = lab.read();
    assert!(counts.len() == 1000 && counts.values().all(|&bytes| bytes == 40));
}

#[test]
fn rows_that_the_server_got_inside_commits_are_a_file_of_their_own() {
    let (lab, keeper) = Lab::new();
    drop(keeper);
    let store = patiently(|| Store::open(&lab.spec));
    store.streamed().unwrap().write_all_at(b"{}\n", 0).unwrap();
    assert_eq!(fs::read(lab.path(STREAMED)).unwrap(), b"{}\n");
}

#[tokio::test]
async fn rows_that_nobody_reads_had_no_limit() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (done, mut orders) = tokio::sync::mpsc::unbounded_channel();
    let mut outflow = Outflow::start(File::from(OwnedFd::from(writer)), done).unwrap();
    let at = Duration::from_secs;
    let rows = vec![b'x'; 9 << 20];
    assert_eq!(outflow.look(at(1)), None);
    outflow.append(rows.clone());
    assert_eq!(outflow.look(at(1)), None);
    outflow.append(rows.clone());
    assert_eq!(outflow.look(at(1)), Some(true));
    assert!(outflow.is_behind() && !outflow.is_crowded(1) && !outflow.is_file());
    // What the pipe itself takes may be seen only now.
    outflow.look(at(2));
    let stuck_at = outflow.stuck_at().unwrap();
    assert!((at(3)..=at(4)).contains(&stuck_at));
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    assert!(matches!(orders.recv().await, Some(Done::Appended)));
    outflow.appended();
    assert!(matches!(orders.recv().await, Some(Done::Appended)));
    assert_eq!(outflow.look(at(5)), Some(false));
    assert!(outflow.is_settled() && outflow.stuck_at().is_none());
    drop(outflow);
    assert_eq!(reading.join().unwrap().unwrap(), 2 * rows.len());
}

#[test]
fn what_many_honest_clients_may_send_was_too_much() {
    let (lab, mut keeper) = Lab::new();
    let path = lab.path(&id(1).file_name());
    mkfifoat(CWD, &path, Mode::RWXU).unwrap();
    // Eight pieces each.
    for _ in 0..33 * 8 {
        keeper.piece(ConnId(1), SESSION, piece(1, 0, b"row\n"));
    }
    assert!(keeper.is_crowded(1) && !keeper.is_crowded(33));
    // Lets the thread go.
    File::open(path).unwrap();
}

/// A pipe without a reader is a disk that does not answer: who opens it waits.
#[test]
fn the_end_of_a_job_waited_for_a_disk_that_does_not_answer() {
    let (lab, mut keeper) = Lab::new();
    let at = Duration::from_secs;
    let path = lab.path(&id(1).file_name());
    mkfifoat(CWD, &path, Mode::RWXU).unwrap();
    let send = |keeper: &mut Keeper| keeper.piece(ConnId(1), SESSION, piece(1, 0, b"row\n"));
    assert_eq!(keeper.look(at(1)), None);
    send(&mut keeper);
    assert_eq!((keeper.look(at(2)), keeper.stuck_at()), (None, Some(at(6))));
    (0..100).for_each(|_| send(&mut keeper));
    assert_eq!(keeper.look(at(3)), Some(true));
    assert!(keeper.is_behind() && !keeper.is_crowded(1) && !keeper.is_settled());
    keeper.end(&Counts::new(), false, true);
    assert!(keeper.is_ending());
    // Lets the thread go.
    File::open(path).unwrap();
}

#[test]
fn rows_of_commits_that_waited_for_a_disk_were_counted_and_not_weighed() {
    let (lab, mut keeper) = Lab::new();
    let path = lab.path(&id(1).file_name());
    mkfifoat(CWD, &path, Mode::RWXU).unwrap();
    keeper.piece(ConnId(1), SESSION, piece(1, 0, b"row\n"));
    let commit = || vec![b'\n'; 8 << 20];
    (0..8).for_each(|_| keeper.append(commit()));
    assert_eq!(keeper.look(Duration::from_secs(1)), Some(true));
    assert!(!keeper.is_crowded(1));
    (0..24).for_each(|_| keeper.append(commit()));
    assert!(keeper.is_crowded(1));
    let kept = Segment {
        worker: 1,
        number: 0,
        bytes: 4,
    };
    keeper.done(&Done::Kept(ConnId(1), kept));
    (0..32).for_each(|_| keeper.done(&Done::Appended));
    assert!(keeper.is_settled() && !keeper.is_crowded(1));
    // Lets the thread go.
    keeper.stop();
    File::open(path).unwrap();
}
