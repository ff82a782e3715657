//! Roots: from what was typed to absolute paths, each walked once.
//!
//! All of this is text. The server never looks at a root; only clients do.

use super::error::{UsageError, shown};
use hydra_proto::job::RootSpec;
use serde_bytes::ByteBuf;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Makes `path` absolute against `cwd`, which must be absolute and physical. Leaves out `.` and needless
/// slashes. `..` at the front of a relative path takes the working directory's last names away; any other
/// `..` stays, because what stands before it may be a link.
///
/// # Errors
/// When the path is empty or holds a NUL.
pub(super) fn absolute(path: &OsStr, cwd: &Path) -> Result<Vec<u8>, UsageError> {
    let bytes = path.as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(UsageError::BadPath(shown(path)));
    }
    let mut names: Vec<&[u8]> = Vec::new();
    if !bytes.starts_with(b"/") {
        names.extend(plain_names(cwd.as_os_str().as_bytes()));
    }
    let mut leading = !bytes.starts_with(b"/");
    for name in plain_names(bytes) {
        leading &= name == b"..";
        match leading {
            true => drop(names.pop()),
            false => names.push(name),
        }
    }
    Ok([b"/", names.join(&b'/').as_slice()].concat())
}

/// As [`absolute`], for a root: a slash at its end stays (`/.` counts as one), because to the kernel it means that
/// this must be a directory, or a link to one.
pub(super) fn root(path: &OsStr, cwd: &Path) -> Result<Vec<u8>, UsageError> {
    let mut root = absolute(path, cwd)?;
    let bytes = path.as_bytes();
    if (bytes.ends_with(b"/") || bytes.ends_with(b"/.")) && root != b"/" {
        root.push(b'/');
    }
    Ok(root)
}

/// The roots of a job: each path once, in the order given; a path inside another is a place where the
/// other's walk stops. Paths with `..` are inside none, because that cannot be told from the text.
///
/// What a slash at the end asks for is not lost: a path that is given with one and without is walked as if without,
/// and keeps its slash for the error that it is no directory. The walk around a root with a slash stops there only at
/// a directory: anything else, and a link above all, is an entry of that walk.
pub(super) fn roots(paths: Vec<Vec<u8>>) -> Vec<RootSpec> {
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut roots: Vec<RootSpec> = Vec::new();
    for given in paths {
        let path = match given.strip_suffix(b"/") {
            Some(path) if !path.is_empty() => path.to_vec(),
            _ => given.clone(),
        };
        match seen.get(&path).and_then(|index| roots.get_mut(*index)) {
            // Given both ways: both fields get what one of them has.
            Some(known) if given == path => known.local = path,
            Some(known) => known.shown = given,
            None => {
                seen.insert(path, roots.len());
                roots.push(RootSpec {
                    shown: given.clone(),
                    local: given,
                    stops: Vec::new(),
                });
            }
        }
    }
    let mut order: Vec<usize> = (0..roots.len()).collect();
    let names = |root: &RootSpec| {
        plain_names(root.path())
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    order.sort_by_cached_key(|&index| roots.get(index).map(names));
    // The roots that the present one may lie in, each inside the one before.
    let mut open: Vec<(usize, Vec<u8>)> = Vec::new();
    for index in order {
        let Some(root) = roots.get(index) else {
            continue;
        };
        let (path, end) = (root.path().to_vec(), root.local.ends_with(b"/"));
        if plain_names(&path).any(|name| name == b"..") {
            continue;
        }
        while open
            .last()
            .is_some_and(|(_, outer)| below(outer, &path).is_none())
        {
            open.pop();
        }
        if let Some((outer, outer_path)) = open.last()
            && let Some(mut stop) = below(outer_path, &path)
            && let Some(root) = roots.get_mut(*outer)
        {
            stop.extend(end.then_some(b'/'));
            root.stops.push(ByteBuf::from(stop));
        }
        open.push((index, path));
    }
    roots
}

/// The paths in a file: one a line, or separated by NUL. `-` is standard input. Empty ones are left out.
pub(super) fn read_paths(file: &OsStr, nul: bool) -> Result<Vec<OsString>, UsageError> {
    let bytes = read("--paths-from", file)?;
    let separator = if nul { 0 } else { b'\n' };
    let lines = bytes.split(|&b| b == separator);
    let lines = lines.filter(|line| !line.is_empty());
    Ok(lines
        .map(|line| OsString::from_vec(line.to_vec()))
        .collect())
}

/// The lines of a text file without blank ones and comments (`#` at the front).
pub(super) fn read_lines(option: &'static str, file: &OsStr) -> Result<Vec<String>, UsageError> {
    let text = read_text(option, file)?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// The text in a file. `-` is standard input.
pub(super) fn read_text(option: &'static str, file: &OsStr) -> Result<String, UsageError> {
    String::from_utf8(read(option, file)?).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let lines = good.unwrap_or_default().iter().filter(|&&b| b == b'\n');
        UsageError::NotText {
            option,
            path: shown(file),
            line: 1 + lines.count(),
        }
    })
}

fn read(option: &'static str, file: &OsStr) -> Result<Vec<u8>, UsageError> {
    if file.is_empty() {
        let text = format!("{option} needs the name of a file, or - for standard input");
        return Err(UsageError::Options(text));
    }
    let mut bytes = Vec::new();
    let result = match file.as_bytes() {
        b"-" => std::io::stdin().lock().read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    let path = shown(file);
    let error = |source| UsageError::File {
        option,
        path,
        source,
    };
    result.map(|_| bytes).map_err(error)
}

fn plain_names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let names = path.split(|&b| b == b'/');
    names.filter(|name| !name.is_empty() && *name != b".")
}

/// `path` relative to `outer`, if it lies below it.
fn below(outer: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let rest = match outer {
        b"/" => path.strip_prefix(b"/"),
        outer => path.strip_prefix(outer)?.strip_prefix(b"/"),
    }?;
    (!rest.is_empty()).then(|| rest.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(path: &[u8]) -> String {
        let path = absolute(OsStr::from_bytes(path), Path::new("/home/me")).unwrap();
        String::from_utf8_lossy(&path).into_owned()
    }

    fn nested(paths: &[&str]) -> Vec<(String, Vec<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let roots = roots(paths.iter().map(|path| path.as_bytes().to_vec()).collect());
        let stops = |root: &RootSpec| root.stops.iter().map(|stop| text(stop)).collect();
        roots
            .iter()
            .map(|root| (text(root.path()), stops(root)))
            .collect()
    }

    #[test]
    fn relative_paths_start_at_the_working_directory() {
        assert_eq!(clean(b"a"), "/home/me/a");
        assert_eq!(clean(b"./a//b/./"), "/home/me/a/b");
        assert_eq!(clean(b"."), "/home/me");
        assert_eq!(clean(b"/"), "/");
        assert_eq!(clean(b"///a/"), "/a");
    }

    #[test]
    fn dots_are_resolved_only_where_the_text_is_enough() {
        assert_eq!(clean(b".."), "/home");
        assert_eq!(clean(b".././../x"), "/x");
        assert_eq!(clean(b"../../../.."), "/");
        assert_eq!(clean(b"a/../b"), "/home/me/a/../b");
        assert_eq!(clean(b"/a/../b"), "/a/../b");
    }

    #[test]
    fn bytes_are_kept() {
        let path = absolute(OsStr::from_bytes(b"\xff\n"), Path::new("/")).unwrap();
        assert_eq!(path, b"/\xff\n");
        assert!(absolute(OsStr::from_bytes(b""), Path::new("/")).is_err());
        assert!(absolute(OsStr::from_bytes(b"a\0b"), Path::new("/")).is_err());
    }

    #[test]
    fn a_path_given_twice_is_one_root() {
        assert_eq!(
            nested(&["/b", "/a", "/b"]),
            [("/b".into(), vec![]), ("/a".into(), vec![])]
        );
    }

    #[test]
    fn a_slash_at_the_end_of_a_root_was_dropped() {
        let local = |paths: &[&str]| {
            let typed = paths
                .iter()
                .map(|path| root(path.as_ref(), Path::new("/w")));
            let roots = roots(typed.map(Result::unwrap).collect());
            let local = roots.into_iter().map(|root| root.local);
            local
                .map(|local| String::from_utf8(local).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            local(&["/a/", "b/.", "./c", "."]),
            ["/a/", "/w/b/", "/w/c", "/w"]
        );
        assert_eq!(local(&["/", "/.", "//"]), ["/"]);
        assert_eq!(local(&["/a/", "/a", "/a/"]), ["/a"]);
        assert_eq!(
            nested(&["/a/", "/a/b/"])[0],
            ("/a".into(), vec!["b/".into()])
        );
    }

    #[test]
    fn of_a_root_given_with_a_slash_and_without_the_slash_was_forgotten() {
        for paths in [["/a", "/a/"], ["/a/", "/a"]] {
            let roots = roots(paths.map(|path| path.as_bytes().to_vec()).to_vec());
            assert_eq!(roots.len(), 1);
            assert_eq!(
                (&*roots[0].shown, &*roots[0].local),
                (&b"/a/"[..], &b"/a"[..])
            );
        }
        assert_eq!(nested(&["/a", "/a/b/", "/a/b"])[0].1, ["b"]);
    }

    #[test]
    fn a_root_inside_another_is_its_stop() {
        assert_eq!(
            nested(&["/a/b/c/d", "/a", "/ab", "/a/b", "/a-b/c"]),
            [
                ("/a/b/c/d".into(), vec![]),
                ("/a".into(), vec!["b".into()]),
                ("/ab".into(), vec![]),
                ("/a/b".into(), vec!["c/d".into()]),
                ("/a-b/c".into(), vec![]),
            ]
        );
        assert_eq!(nested(&["/", "/a/b"])[0].1, ["a/b"]);
    }

    #[test]
    fn a_path_with_dots_is_inside_none() {
        assert_eq!(nested(&["/a", "/a/b/../c"])[0].1, Vec::<String>::new());
    }
}
