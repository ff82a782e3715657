use super::super::link::{LinkDir, LinkResolver, Target};
use super::*;

/// What `text`, as a link in `dir` below `top`, points to; by the kernel, carefully, and without `openat2`. Whatever
/// links came before.
fn targets(top: &Path, dir: &str, text: &[u8]) -> [Target; 3] {
    let link = top.join(dir).join("link");
    let _ = fs::remove_file(&link);
    symlink(OsStr::from_bytes(text), &link).unwrap();
    let before = top.join(dir).join("before");
    let _ = symlink("/", before);
    let root = open(top);
    let fd = open(&top.join(dir));
    let place = LinkDir {
        root: root.as_fd(),
        path: dir.as_bytes(),
        fd: fd.as_fd(),
    };
    let [fast, slow] = openers();
    [(fast, false), (fast, true), (slow, false)].map(|(opener, careful)| {
        let mut resolver = LinkResolver::new(opener, careful);
        let target = resolver.target(&place, c"link").unwrap();
        assert_eq!(resolver.target(&place, c"no such link"), Err(Errno::NOENT));
        let absolute = resolver.target(&place, c"before");
        assert_eq!(absolute, Ok(Target::Elsewhere));
        assert_eq!(resolver.target(&place, c"no such link"), Err(Errno::NOENT));
        assert_eq!(resolver.target(&place, c"link"), Ok(target));
        target
    })
}

#[test]
fn tells_what_links_point_to() {
    let outer = TempDir::new().unwrap();
    let top = outer.path().join("top");
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    fs::write(outer.path().join("outside"), b"").unwrap();
    fs::write(top.join("file"), b"").unwrap();
    fs::write(top.join("a/b/file"), b"").unwrap();
    symlink("../../file", top.join("a/b/up")).unwrap();
    symlink("a/b/c", top.join("to_c")).unwrap();
    symlink("../outside", top.join("out")).unwrap();
    symlink("/etc", top.join("absolute")).unwrap();
    symlink("loop", top.join("a/loop")).unwrap();
    symlink("file", top.join("a/b/to_file")).unwrap();

    use Target::{Dangling, Directory, Elsewhere, File};
    let inside = top.join("file");
    let cases: &[(&[u8], Target)] = &[
        (b"file", File),
        (b"./file", File),
        (b"c", Directory),
        (b"c/", Directory),
        (b".", Directory),
        (b"..", Directory),
        (b"../..", Directory),
        (b"../../..", Elsewhere),
        (b"../../../outside", Elsewhere),
        (b"../../../top/file", Elsewhere),
        (b"../../file", File),
        (b"up", File),
        (b"../../to_c", Directory),
        // `..` after a link is the parent of what the link leads to.
        (b"../../to_c/../file", File),
        (b"../../to_c/../../file", Dangling),
        (b"../../out", Elsewhere),
        (b"../../absolute/passwd", Elsewhere),
        (inside.as_os_str().as_bytes(), Elsewhere),
        (b"/", Elsewhere),
        (b"gone", Dangling),
        (b"../gone/file", Dangling),
        (b"file/", Dangling),
        (b"file/x", Dangling),
        (b"../../file/..", Dangling),
        (b"to_file/", Dangling),
        (b"to_file", File),
        (b"link", Dangling),
        (b"../loop", Dangling),
        (b"../loop/x", Dangling),
    ];
    for (text, expected) in cases {
        let found = targets(&top, "a/b", text);
        assert_eq!(found, [*expected; 3], "{}", text.escape_ascii());
    }
    assert_eq!(targets(&top, "", b"a/b"), [Directory; 3]);
    assert_eq!(targets(&top, "", b".."), [Elsewhere; 3]);
    let long = vec![b'x'; 300];
    assert_eq!(targets(&top, "", &long), [Dangling; 3]);
}

#[test]
fn a_link_over_a_mount_point_points_elsewhere() {
    let tree = TempDir::new_in(std::env::current_dir().unwrap()).unwrap();
    let below_root = tree.path().strip_prefix("/").unwrap();
    let up = "../".repeat(below_root.components().count());
    let (top, dir) = (Path::new("/"), below_root.to_str().unwrap());
    let same_mount = fs::metadata("/").unwrap().dev() == fs::metadata(tree.path()).unwrap().dev();
    for beyond in ["proc", "proc/", "proc/self", "proc/gone", "proc/../usr"] {
        let found = targets(top, dir, format!("{up}{beyond}").as_bytes());
        assert_eq!(found, [Target::Elsewhere; 3], "{beyond}");
    }
    if same_mount {
        let found = targets(top, dir, format!("{up}usr").as_bytes());
        assert_eq!(found, [Target::Directory; 3]);
    }
    // A directory that lies beyond a mount point itself: what it holds is on its own mount.
    let (root, proc) = (open(top), open(Path::new("/proc")));
    let place = LinkDir {
        root: root.as_fd(),
        path: b"proc",
        fd: proc.as_fd(),
    };
    for opener in openers() {
        let mut resolver = LinkResolver::new(opener, false);
        assert_eq!(resolver.target(&place, c"self"), Ok(Target::Directory));
    }
}

#[test]
fn tells_what_a_link_below_a_very_long_path_points_to() {
    let tree = TempDir::new().unwrap();
    let name = CString::new(vec![b'n'; 200]).unwrap();
    let last = chain(tree.path(), &name, 50);
    let path = vec![name.to_bytes(); 50].join(&b'/');
    rustix::fs::symlinkat(c"..", &last, c"up").unwrap();
    let far = CString::new(vec![b"..".as_slice(); 50].join(&b'/')).unwrap();
    let too_far = CString::new(vec![b"..".as_slice(); 51].join(&b'/')).unwrap();
    rustix::fs::symlinkat(&far, &last, c"far").unwrap();
    rustix::fs::symlinkat(&too_far, &last, c"too far").unwrap();
    let root = open(tree.path());
    for opener in openers() {
        let mut resolver = LinkResolver::new(opener, false);
        let place = LinkDir {
            root: root.as_fd(),
            path: &path,
            fd: last.as_fd(),
        };
        assert_eq!(resolver.target(&place, c"up"), Ok(Target::Directory));
        assert_eq!(resolver.target(&place, c"far"), Ok(Target::Directory));
        assert_eq!(resolver.target(&place, c"too far"), Ok(Target::Elsewhere));
    }
}

#[test]
fn a_link_from_within_a_mount_does_not_lead_out_of_it() {
    let Ok(tree) = TempDir::new_in("/dev/shm") else {
        return;
    };
    let dev = |path: &Path| fs::metadata(path).unwrap().dev();
    if dev(Path::new("/dev")) == dev(tree.path()) {
        return;
    }
    fs::create_dir(tree.path().join("d")).unwrap();
    let dir = tree.path().strip_prefix("/").unwrap().join("d");
    let check = |text: &[u8], expected: Target| {
        let found = targets(Path::new("/"), dir.to_str().unwrap(), text);
        assert_eq!(found, [expected; 3], "{}", text.escape_ascii());
    };
    check(b"..", Target::Directory);
    check(b"../gone", Target::Dangling);
    check(b"../d/link/..", Target::Dangling);
    check(b"../..", Target::Directory);
    check(b"../../..", Target::Elsewhere);
    check(b"../../../null", Target::Elsewhere);
    check(b"../../../../usr", Target::Elsewhere);
}
