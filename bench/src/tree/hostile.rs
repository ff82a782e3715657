//! The hostile tree: names, links, kinds, modes and depths that break careless walkers.
//!
//! One directory for each family of peculiarities. What needs root (device nodes, other owners) is
//! left out for others, so the tree differs between root and not. Nothing in it is dangerous to
//! list, to stat or to remove with `rm -r`; opening a fifo blocks.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use rand::Rng;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, chmodat,
    chownat, linkat, mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::layout::below;
use super::{NEWEST, stream};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::CLOEXEC);
const CHAIN: f64 = 5_000.0;
const RANDOM_NAMES: f64 = 20_000.0;
const LINKS_TO_ONE: f64 = 1_000.0;

/// Names that are commands, options, formulas, paths or text to somebody.
const NAMES: &[&[u8]] = &[
    b"-rf",
    b"--help",
    b"-",
    b"--",
    b"-0",
    b"...",
    b".hidden",
    b". ",
    b" ",
    b" leading",
    b"trailing ",
    b"two  spaces",
    b"new\nline",
    b"\n",
    b"ends\n",
    b"tab\there",
    b"carriage\rreturn",
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"bell\x07",
    b"\x7f",
    b"\x01\x02\x03",
    b"=1+1",
    b"=cmd|' \\C calc'!A0",
    b"+1",
    b"-1",
    b"@SUM(A1)",
    b"\t=1+1",
    b"\r=1+1",
    b"a,b;c",
    b"\"quoted\"",
    b"'single'",
    b"\"\"",
    b"`id`",
    b"$(id)",
    b"${HOME}",
    b"$HOME",
    b"~",
    b"*",
    b"?",
    b"[a-z]",
    b"{a,b}",
    b"!",
    b"#comment",
    b"back\\slash",
    b"%s%n%d",
    b"a;b",
    b"a&b",
    b"a|b",
    b"<script>",
    b"CON",
    b"nul.txt",
    b"file:stream",
    b"no.extension.",
    b".tar.gz",
    b"a.TXT",
    b"a.txt",
    b"README",
    b"Readme",
    b"readme",
    b"\xff\xfe",
    b"latin1-\xe9",
    b"cut-\xe2\x82",
    b"overlong-\xc0\xaf",
    b"surrogate-\xed\xa0\x80",
    b"\xef\xbb\xbfbom",
    b"e\xcc\x81",
    b"\xc3\xa9",
    b"\xe2\x80\xaegpj.exe",
    b"zero\xe2\x80\x8bwidth",
    b"line\xe2\x80\xa8separator",
    b"c1-\xc2\x9b31m",
    b"\xf0\x9f\x90\x89",
    b"NaN",
    b"null",
    b"1e309",
    b"0x10",
];

/// Creates the hostile tree in the existing, empty directory `dir`.
pub(super) fn create(dir: &Path, seed: u64, scale: f64) -> anyhow::Result<()> {
    let root = openat(CWD, dir, DIRECTORY, Mode::empty())?;
    let root = root.as_fd();
    let many = |full: f64| ((full * scale).ceil() as u64).max(10);
    names(&new_dir(root, b"names")?).context("names")?;
    random_names(
        &new_dir(root, b"random")?,
        &mut stream(seed, 1),
        many(RANDOM_NAMES),
    )
    .context("random")?;
    symlinks(&new_dir(root, b"symlinks")?).context("symlinks")?;
    hard_links(&new_dir(root, b"links")?, many(LINKS_TO_ONE)).context("links")?;
    kinds(&new_dir(root, b"kinds")?).context("kinds")?;
    sizes(&new_dir(root, b"sizes")?).context("sizes")?;
    times(&new_dir(root, b"times")?).context("times")?;
    modes(&new_dir(root, b"modes")?).context("modes")?;
    chain(new_dir(root, b"deep")?, b"deeper", many(CHAIN)).context("deep")?;
    // Twenty components are enough to pass PATH_MAX when each is as long as a name can be.
    chain(new_dir(root, b"long")?, &[b'L'; 255], 20).context("long")?;
    Ok(())
}

fn c(name: &[u8]) -> anyhow::Result<CString> {
    Ok(CString::new(name)?)
}

fn new_dir(at: impl AsFd, name: &[u8]) -> anyhow::Result<OwnedFd> {
    let name = c(name)?;
    mkdirat(&at, name.as_c_str(), Mode::from_bits_truncate(0o755))?;
    Ok(openat(&at, name.as_c_str(), DIRECTORY, Mode::empty())?)
}

fn new_file(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(at, name, NEW_FILE, Mode::from_bits_truncate(0o644))
}

fn names(dir: &OwnedFd) -> anyhow::Result<()> {
    for name in NAMES {
        new_file(dir, name).with_context(|| format!("{:?}", String::from_utf8_lossy(name)))?;
    }
    let dirs = new_dir(dir, b"as-directories")?;
    for name in NAMES {
        new_file(new_dir(&dirs, name)?, b"inside")?;
    }
    let bytes = new_dir(dir, b"each-byte")?;
    for byte in (1..=255_u8).filter(|byte| !b"/.".contains(byte)) {
        new_file(&bytes, &[byte])?;
    }
    let longest = new_dir(dir, b"longest")?;
    for byte in [b'a', b'\n', b'-', b'=', 0xff, 0x01] {
        new_file(&longest, &[byte; 255])?;
    }
    new_file(&longest, "é".repeat(127).as_bytes())?;
    new_file(&longest, "🐉".repeat(63).as_bytes())?;
    Ok(())
}

fn random_names(dir: &OwnedFd, rng: &mut impl Rng, number: u64) -> anyhow::Result<()> {
    for _ in 0..number {
        let len = 1 + below(rng, 255) as usize;
        let name: Vec<u8> = (0..len)
            .map(|_| match 1 + below(rng, 255) as u8 {
                b'/' => b'\n',
                byte => byte,
            })
            .collect();
        match new_file(dir, &name) {
            // Drawn twice, or one of the two names that every directory has.
            Ok(_) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn symlinks(dir: &OwnedFd) -> anyhow::Result<()> {
    new_file(dir, b"file")?;
    new_file(new_dir(dir, b"directory")?, b"inside")?;
    let long = [b'x'; 4095];
    let links: &[(&[u8], &[u8])] = &[
        (b"file", b"to-file"),
        (b"directory", b"to-directory"),
        (b"directory/inside", b"through-directory"),
        (b"to-directory/inside", b"through-link"),
        (b"nowhere", b"dangling"),
        (b"itself", b"itself"),
        (b"loop-b", b"loop-a"),
        (b"loop-a", b"loop-b"),
        (b".", b"here"),
        (b"..", b"up"),
        (b"../..", b"outside"),
        (b"../../../../../../../../../../etc", b"far-outside"),
        (b"/", b"absolute-root"),
        (b"/etc/passwd", b"absolute-file"),
        (b"/dev/null", b"absolute-device"),
        (b"/proc/self/fd/0", b"magic"),
        (b"/no/such/place", b"absolute-dangling"),
        (b"new\nline", b"odd-target"),
        (b"\xff\xfe", b"odd-bytes"),
        (&long, b"longest-target"),
    ];
    for (target, name) in links {
        symlinkat(*target, dir, *name)?;
    }
    linkat(
        dir,
        "dangling",
        dir,
        "hard-link-to-symlink",
        AtFlags::empty(),
    )?;
    Ok(())
}

fn hard_links(dir: &OwnedFd, number: u64) -> anyhow::Result<()> {
    let (one, other) = (new_dir(dir, b"one")?, new_dir(dir, b"other")?);
    for name in ["same-directory", "across", "many"] {
        let file = new_file(&one, name.as_bytes())?;
        rustix::io::write(&file, &[b'h'; 5_000])?;
    }
    let none = AtFlags::empty();
    linkat(&one, "same-directory", &one, "same-directory-2", none)?;
    linkat(&one, "across", &other, "across", none)?;
    linkat(&one, "across", dir, "across-up", none)?;
    for i in 0..number {
        let to = if i % 2 == 0 { &one } else { &other };
        linkat(&one, "many", to, format!("many-{i}"), none)?;
    }
    Ok(())
}

fn kinds(dir: &OwnedFd) -> anyhow::Result<()> {
    let node = |name, kind, device| {
        mknodat(dir, name, kind, Mode::from_bits_truncate(0o644), device).context(name)
    };
    node("fifo", FileType::Fifo, 0)?;
    node("fifo\n2", FileType::Fifo, 0)?;
    node("socket", FileType::Socket, 0)?;
    if rustix::process::geteuid().is_root() {
        node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3))?;
        node(
            "no-such-loop",
            FileType::BlockDevice,
            rustix::fs::makedev(7, 8_000),
        )?;
    }
    Ok(())
}

fn sizes(dir: &OwnedFd) -> anyhow::Result<()> {
    for (name, size) in [
        ("zero", 0),
        ("one", 1),
        ("4095", 4095),
        ("4096", 4096),
        ("4097", 4097),
        ("sparse-1G", 1 << 30),
        ("sparse-1T", 1 << 40),
    ] {
        rustix::fs::ftruncate(new_file(dir, name.as_bytes())?, size).context(name)?;
    }
    let island = new_file(dir, b"island")?;
    rustix::fs::seek(&island, SeekFrom::Start(1 << 32))?;
    rustix::io::write(&island, b"land")?;
    let full = new_file(dir, b"full")?;
    rustix::io::write(&full, &[b'f'; 65_536])?;
    // Blocks beyond the end: allocated is more than apparent.
    let beyond = new_file(dir, b"allocated-beyond-end")?;
    match rustix::fs::fallocate(&beyond, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 1_048_576) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn times(dir: &OwnedFd) -> anyhow::Result<()> {
    for (name, seconds) in [
        ("epoch", 0),
        ("before-epoch", -1),
        ("1901", -2_147_483_648),
        ("2038", 2_147_483_648),
        ("2200", 7_258_118_400),
        ("2446", 15_032_385_535),
        ("ordinary", NEWEST),
    ] {
        new_file(dir, name.as_bytes())?;
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: 999_999_999,
        };
        let both = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(dir, name, &both, AtFlags::empty()).context(name)?;
    }
    Ok(())
}

fn modes(dir: &OwnedFd) -> anyhow::Result<()> {
    let set =
        |name: &str, mode| chmodat(dir, name, Mode::from_bits_truncate(mode), AtFlags::empty());
    for mode in [
        0o000, 0o111, 0o200, 0o444, 0o666, 0o777, 0o1777, 0o2755, 0o4755, 0o6777,
    ] {
        let file = format!("file-{mode:04o}");
        new_file(dir, file.as_bytes())?;
        set(&file, mode)?;
    }
    for mode in [0o000, 0o111, 0o333, 0o444, 0o777, 0o1777, 0o2775] {
        let name = format!("dir-{mode:04o}");
        let below = new_dir(dir, name.as_bytes())?;
        new_file(&below, b"file")?;
        new_file(new_dir(&below, b"directory")?, b"file")?;
        set(&name, mode)?;
    }
    if rustix::process::geteuid().is_root() {
        for id in [1, 65_534, 4_000_000_000] {
            let name = format!("owner-{id}");
            new_file(dir, name.as_bytes())?;
            let (user, group) = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
            match chownat(dir, name.as_str(), user, group, AtFlags::empty()) {
                // An id that this user namespace does not have.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(error).context(name),
            }
        }
    }
    Ok(())
}

/// A chain of `depth` directories of one name, a file every hundred levels and one at the end.
fn chain(top: OwnedFd, name: &[u8], depth: u64) -> anyhow::Result<()> {
    let mut at = top;
    for level in 0..depth {
        if level % 100 == 0 {
            new_file(&at, b"on-the-way")?;
        }
        at = new_dir(&at, name)?;
    }
    end(at.as_fd())
}

fn end(at: BorrowedFd<'_>) -> anyhow::Result<()> {
    new_file(at, b"at-the-end")?;
    symlinkat("..", at, "up")?;
    Ok(())
}
