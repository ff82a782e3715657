//! The audit as a whole: a small tree with its exact report, and any tree in any order.

use super::*;
use crate::plugins::format;
use hydra_proto::codec;
use hydra_proto::ids::RootId;
use hydra_proto::job::RootSpec;
use hydra_proto::walk::WalkSummary;
use hydra_worker::{Dir, Entry, FileType, Listing, PathOf, Sink, Stat, Target, Visit};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

struct NoNames;

impl Names for NoNames {
    fn user(&self, uid: u32) -> Option<String> {
        (uid == 0).then(|| "root".to_owned())
    }
    fn group(&self, _gid: u32) -> Option<String> {
        None
    }
}

struct At<'a>(&'a [u8]);

impl PathOf for At<'_> {
    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// One call of the visitor.
#[derive(Clone, Debug)]
enum Call {
    Entry {
        dir: Vec<u8>,
        name: Vec<u8>,
        file_type: FileType,
        stat: Stat,
        target: Option<Target>,
        fs: u64,
    },
    Listed(Vec<u8>, Listing),
}

fn make(call: &Call, visit: &mut AuditVisit, sink: &mut Sink<AuditSummary>) {
    let root = RootSpec {
        shown: b"/data".to_vec(),
        ..RootSpec::default()
    };
    let path = match call {
        Call::Entry { dir, .. } | Call::Listed(dir, _) => At(dir),
    };
    let depth = match path.0 {
        b"" => 0,
        path => 1 + path.iter().filter(|&&byte| byte == b'/').count() as u32,
    };
    let dir = Dir {
        root: &root,
        root_id: RootId(0),
        depth,
        fd: None,
        path: &path,
    };
    match call {
        Call::Listed(_, listing) => visit.listed(&dir, listing, sink),
        Call::Entry {
            name,
            file_type,
            stat,
            target,
            fs,
            ..
        } => {
            let entry = Entry {
                dir: &dir,
                name,
                file_type: *file_type,
                stat,
                target: *target,
                fs: *fs,
            };
            visit.entry(&entry, sink);
        }
    }
}

fn entry(dir: &str, name: &[u8], file_type: FileType, stat: Stat) -> Call {
    Call::Entry {
        dir: dir.into(),
        name: name.into(),
        file_type,
        stat,
        target: None,
        fs: 7,
    }
}

fn link(name: &[u8], target: Target) -> Call {
    let mut call = entry("", name, FileType::Symlink, stat(3, 0));
    if let Call::Entry { target: to, .. } = &mut call {
        *to = Some(target);
    }
    call
}

fn listed(dir: &str, entries: u64, directories: u64) -> Call {
    let listing = Listing {
        entries,
        directories,
        hash: 0,
    };
    Call::Listed(dir.into(), listing)
}

fn stat(size: u64, blocks: u64) -> Stat {
    Stat {
        size,
        blocks,
        mode: 0o644,
        nlink: 1,
        atime: (NOW - 10, 5),
        mtime: (NOW - 3 * DAY, 0),
        ctime: (NOW + 1, 0),
        ..Stat::default()
    }
}

/// Commits after every `commit_every` calls, through the codec, by `workers` visitors.
fn audit(calls: &[Call], workers: usize, commit_every: usize, in_memory: usize) -> Findings {
    let mut total = AuditTotal::new(in_memory, &std::env::temp_dir());
    let mut visits: Vec<_> = (0..workers)
        .map(|_| (AuditVisit::new(NOW, 3, 2), Sink::default()))
        .collect();
    let mut client = AuditSummary::default();
    for (number, call) in calls.iter().enumerate() {
        let (visit, sink) = &mut visits[number % workers];
        make(call, visit, sink);
        if number % commit_every == 0 {
            visit.flush(sink);
            let delta = codec::encode(&std::mem::take(&mut sink.summary)).unwrap();
            client.merge(codec::decode(&delta).unwrap());
        }
        if number % (3 * commit_every) == 0 {
            total.add(std::mem::take(&mut client)).unwrap();
        }
    }
    total.add(client).unwrap();
    for (_, sink) in visits {
        total.add(sink.summary).unwrap();
    }
    total.finish(NOW, &NoNames).unwrap()
}

#[test]
fn each_commit_named_again_what_is_less_than_before() {
    let mut visit = AuditVisit::new(NOW, 1, 0);
    let mut sink = Sink::default();
    make(&listed("d/large", 9, 1), &mut visit, &mut sink);
    visit.flush(&mut sink);
    sink.summary = AuditSummary::default();
    make(&listed("d/small", 7, 0), &mut visit, &mut sink);
    let small = codec::encode(&sink.summary).unwrap();
    make(&listed("d/equal", 9, 1), &mut visit, &mut sink);
    let equal = codec::encode(&sink.summary).unwrap();
    let names = |delta: &[u8], name: &[u8]| delta.windows(name.len()).any(|part| part == name);
    assert!(!names(&small, b"d/small"));
    assert!(names(&equal, b"d/equal"));
}

/// A tree of hundreds of entries with many ties.
fn random_tree(random: &mut StdRng) -> Vec<Call> {
    let dirs = ["", "a", "a/b", "a/b/c", "d", "d/\u{fc}"];
    let types = [
        FileType::File,
        FileType::File,
        FileType::Directory,
        FileType::Fifo,
    ];
    let names: [&[u8]; 6] = [b"x.txt", b"y.h5", b"none", b"z.\xff", b"w.123", b"v.tar.GZ"];
    let mut calls: Vec<Call> = dirs.iter().map(|dir| listed(dir, 9, 2)).collect();
    for number in 0..400 {
        let mut name = names[random.random_range(0..names.len())].to_vec();
        name.insert(0, b'a' + (number % 26) as u8);
        let size = [0, 1, 5000, 5000, 1 << 21][random.random_range(0..5)];
        let age = random.random_range(-5..4000) * DAY;
        let ino = random.random_range(1..60);
        calls.push(entry(
            dirs[random.random_range(0..dirs.len())],
            &name,
            types[random.random_range(0..types.len())],
            Stat {
                uid: random.random_range(0..4),
                gid: random.random_range(0..3),
                mode: random.random_range(0..0o10000),
                nlink: 1 + (ino % 3) as u32,
                ino,
                mtime: (NOW - age, 0),
                ..stat(size, 8 * (ino % 2))
            },
        ));
    }
    calls
}

#[test]
fn order_and_splits_do_not_matter() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut calls = random_tree(&mut random);
        let plain = audit(&calls, 1, 1 << 30, 1_000_000);
        let (expected, bytes) = (json::report(&plain), plain.bytes());
        for _ in 0..5 {
            calls.shuffle(&mut random);
            let (workers, every) = (random.random_range(1..5), random.random_range(1..90));
            let found = audit(&calls, workers, every, random.random_range(1..50));
            assert_eq!(json::report(&found), expected, "seed {seed}");
            assert_eq!(found.bytes(), bytes, "seed {seed}");
        }
    }
}

#[test]
fn parts_add_up_to_the_whole() {
    let mut random = StdRng::seed_from_u64(99);
    let calls = random_tree(&mut random);
    let report = json::report(&audit(&calls, 2, 10, 10));
    let sum = |table: &str, key: &str| -> u64 {
        let rows = report[table].as_array().unwrap().iter();
        rows.map(|row| row[key].as_u64().unwrap()).sum()
    };
    let (count, bytes) = (&report["files"]["count"], &report["files"]["bytes"]);
    for table in [
        "size_histogram",
        "atime_histogram",
        "mtime_histogram",
        "ctime_histogram",
    ] {
        assert_eq!(json!(sum(table, "count")), *count, "{table}");
        assert_eq!(json!(sum(table, "bytes")), *bytes, "{table}");
    }
    for table in ["owners", "groups", "extensions", "categories", "depths"] {
        assert_eq!(json!(sum(table, "files")), *count, "{table}");
        assert_eq!(json!(sum(table, "bytes")), *bytes, "{table}");
    }
    assert_eq!(sum("owners", "entries"), 400);
    let allocated = &report["files"]["allocated_bytes"];
    assert_eq!(json!(sum("allocated_histogram", "bytes")), *allocated);
    assert_eq!(json!(sum("extensions", "allocated_bytes")), *allocated);
}

/// A tree with one of everything.
fn small_tree() -> Vec<Call> {
    let directory = |mode| Stat {
        mode,
        ..stat(4096, 8)
    };
    let hard = |ino, blocks| Stat {
        nlink: 2,
        ino,
        uid: 1000,
        ..stat(6000, blocks)
    };
    vec![
        entry("", b"", FileType::Directory, directory(0o755)),
        entry("", b"open", FileType::Directory, directory(0o777)),
        entry("", b"tmp", FileType::Directory, directory(0o1777)),
        entry("", b"empty.TXT", FileType::File, stat(0, 0)),
        entry("", b"hole.img", FileType::File, stat(1 << 30, 8)),
        entry("open", b"one.h5", FileType::File, hard(5, 16)),
        entry("open", b"two.h5", FileType::File, hard(5, 16)),
        entry("open", b"half\xff", FileType::File, hard(6, 16)),
        entry(
            "",
            b"su",
            FileType::File,
            Stat {
                mode: 0o6757 | 0o2,
                ..stat(100, 8)
            },
        ),
        entry("", b"fifo", FileType::Fifo, stat(0, 0)),
        link(b"l1", Target::File),
        link(b"l2", Target::Directory),
        link(b"l3", Target::Dangling),
        link(b"l4", Target::Elsewhere),
        listed("", 10, 2),
        listed("open", 3, 0),
        listed("tmp", 0, 0),
    ]
}

#[test]
fn golden_report() {
    let found = audit(&small_tree(), 1, 1, 100);
    let report = json::report(&found);
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    assert_eq!(report, golden, "{report:#}");
    let bytes = found.bytes();
    assert_eq!(bytes.apparent_bytes, (1 << 30) + 3 * 6000 + 100);
    assert_eq!(bytes.allocated_bytes, 512 * (3 * 8 + 8 + 3 * 16 + 8));
    assert_eq!(
        bytes.unique_allocated_bytes,
        bytes.allocated_bytes - 512 * 16
    );
    assert_eq!(bytes.hard_linked, 3);
}

#[test]
fn the_text_fits_the_terminal_and_escapes_names() {
    let mut calls = small_tree();
    calls.push(entry(
        "",
        b"\x1b[31mred.txt",
        FileType::File,
        stat(1 << 40, 0),
    ));
    let context = |width| ReportContext {
        width,
        color: false,
        walk: WalkSummary::default(),
    };
    let found = audit(&calls, 1, 1, 100);
    for width in [80, 120] {
        let text = text::report(&found, &context(width));
        assert!(text.contains("/data/\\x1b[31mred.txt") && !text.contains('\x1b'));
        assert!(text.contains("/data/open/half\\xff"));
    }
    let empty = audit(&[], 1, 1, 1);
    let text = text::report(&empty, &context(80));
    assert!(!text.contains("Totals"), "they were told twice: {text}");
}

#[test]
fn the_text_was_wider_than_narrow_terminals() {
    let mut calls = small_tree();
    for number in 0..40_u32 {
        let name = format!("漢字の長い名前と何か-{number}.an-extension{number}");
        let mut stat = stat(1 << (number % 36), 0);
        (stat.uid, stat.gid) = (4_000_000_000 + number, 3_000_000_000 + number);
        let dir = "very-long-directory-name/".repeat(number as usize % 12);
        calls.push(entry(
            dir.trim_end_matches('/'),
            name.as_bytes(),
            FileType::File,
            stat,
        ));
    }
    let found = audit(&calls, 1, 1, 100);
    for width in [40, 60, 80, 120] {
        let context = ReportContext {
            width,
            color: false,
            walk: WalkSummary::default(),
        };
        let text = text::report(&found, &context);
        for line in text.lines() {
            assert!(format::columns(line) <= width, "{width}: {line}\n{text}");
        }
        assert!(text.contains("  and "), "{text}");
    }
}

#[test]
fn extensions_beyond_the_limit_are_added_up_as_other() {
    let names = (0..summary::EXTENSIONS_MAX + 100).map(|number| format!("f.q{number}"));
    let mut calls: Vec<Call> = names
        .map(|name| entry("", name.as_bytes(), FileType::File, stat(1, 0)))
        .collect();
    let expected = audit(&calls, 1, 1 << 30, 1).extensions;
    assert_eq!(expected.len(), summary::EXTENSIONS_MAX + 1);
    assert_eq!(expected[0].0, "(other)");
    assert_eq!(expected[0].1.files, 100);
    calls.shuffle(&mut StdRng::seed_from_u64(3));
    assert_eq!(audit(&calls, 3, 3000, 1).extensions, expected);
}

#[test]
fn sums_near_the_limit_do_not_overflow() {
    let huge = Stat {
        blocks: u64::MAX,
        ..stat(u64::MAX, 0)
    };
    let calls = vec![entry("", b"f", FileType::File, huge); 3];
    let bytes = audit(&calls, 2, 1, 1).bytes();
    assert_eq!(bytes.apparent_bytes, u64::MAX);
    assert_eq!(bytes.allocated_bytes, u64::MAX);
}

#[test]
fn a_long_chain_finds_its_deepest_directory() {
    let mut calls = Vec::new();
    let mut path = String::new();
    for _ in 0..3000 {
        calls.push(entry(&path, b"d", FileType::Directory, stat(0, 8)));
        calls.push(listed(&path, 1, 1));
        path.push_str(if path.is_empty() { "d" } else { "/d" });
    }
    calls.push(listed(&path, 0, 0));
    let report = json::report(&audit(&calls, 3, 50, 10));
    let deepest = &report["directories"]["deepest"];
    assert_eq!(deepest["depth"], 3000);
    let start = &format!("/data/{path}")[..4096];
    assert_eq!(deepest["path"], json!(start));
    assert_eq!(deepest["path_cut"], true);
    let depths = report["depths"].as_array().unwrap();
    assert_eq!(depths.len(), 1025);
    assert_eq!(depths[1024]["directories"], 3000 - 1023);
    assert_eq!(depths[1024]["and_deeper"], true);
    assert_eq!(depths[800]["largest"]["path_cut"], true);
}

#[test]
fn options_have_their_defaults_and_limits() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: AuditOptions,
    }
    let parse = |words: &[&str]| {
        let parsed = <Cli as clap::Parser>::try_parse_from([&["x"], words].concat());
        parsed.map(|cli| cli.options)
    };
    let mut options = parse(&[]).unwrap();
    assert_eq!((options.top, options.top_per_owner), (10, 3));
    Audit::prepare(&mut options, UNIX_EPOCH + std::time::Duration::from_secs(5));
    assert_eq!(options.reference_time, Some(5));
    let mut options = parse(&["--top=3", "--reference-time", "-1"]).unwrap();
    Audit::prepare(&mut options, UNIX_EPOCH);
    assert_eq!((options.top, options.reference_time), (3, Some(-1)));
    let travelled: AuditOptions = codec::decode(&codec::encode(&options).unwrap()).unwrap();
    assert_eq!(travelled.reference_time, Some(-1));
    assert!(parse(&["--top=1001"]).is_err());
    assert!(parse(&["--reference-time=soon"]).is_err());
}

#[test]
fn a_saved_total_goes_on_where_it_was() {
    let mut random = StdRng::seed_from_u64(3);
    let calls = random_tree(&mut random);
    let whole = audit(&calls, 1, 10, 1_000_000);
    for in_memory in [1, 7, 1_000_000] {
        let mut total = AuditTotal::new(in_memory, &std::env::temp_dir());
        for part in calls.chunks(calls.len() / 3 + 1) {
            let (mut visit, mut sink) = (AuditVisit::new(NOW, 3, 2), Sink::default());
            part.iter()
                .for_each(|call| make(call, &mut visit, &mut sink));
            total.add(sink.summary).unwrap();
            let mut again = AuditTotal::new(in_memory, &std::env::temp_dir());
            let load = |summary: &AuditSummary| again.add(summary.clone());
            let mut load = load;
            total.save(&mut load).unwrap();
            total = again;
        }
        let found = total.finish(NOW, &NoNames).unwrap();
        assert_eq!(json::report(&found), json::report(&whole), "{in_memory}");
    }
}
