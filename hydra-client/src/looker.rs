//! The process that looks at roots: whether it ever ends is up to their file systems, so it is none that anybody waits
//! for. A client starts one for each job that has roots which might not answer, tells it which, reads what it says, and
//! kills it. At the others it looks itself ([`crate::at_hand`]).
//!
//! ```text
//!   client ──Ask──► looker: a thread takes a root, says that it begins, looks, says what it saw, takes the next
//!          ◄──Said, Said, Said ──
//! ```
//!
//! A root that does not answer costs one of the threads. Each takes its next root on the mount where the fewest of the
//! others are: so roots of a dead mount, however many, leave threads to the other mounts.

use crate::config::LookAtRoot;
use crate::inherit::{self, Inherited};
use crate::mounts::Mounts;
use crate::roots::Looked;
use hydra_proto::codec;
use hydra_proto::frame;
use hydra_proto::message::RootView;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// So many roots are looked at beside one another.
const THREADS_MAX: usize = 64;

/// What a looker is told: the first frame on its control channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// The directories below which roots are served; none means any.
    pub(crate) allowed: Vec<ByteBuf>,
    /// Where this host has the roots.
    pub(crate) locals: Vec<ByteBuf>,
}

/// What it says, of the root with this index.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It is about to look.
    Begun(u32),
    /// What it saw.
    Looked(u32, Looked),
}

/// Looks at roots for the client that has started this process, with `look` at each. When it returns the process is to
/// end, whatever its threads are at.
///
/// # Errors
/// When this process was not started by a client, or the system refuses.
pub fn look_at_roots(look: LookAtRoot) -> io::Result<()> {
    let Inherited { mut control, .. } = inherit::take()?;
    let ask: Ask = codec::decode(&inherit::first_frame(&mut control)?).map_err(io::Error::other)?;
    let threads = ask.locals.len().min(THREADS_MAX);
    let looker = Arc::new(Looker {
        queue: Mutex::new(Queue::new(&ask.locals)),
        out: Mutex::new(control.try_clone()?),
        locals: ask.locals,
        looks: Looks {
            allowed: ask.allowed.iter().map(|path| path_of(path)).collect(),
            look,
        },
    });
    for number in 0..threads {
        let theirs = Arc::clone(&looker);
        // Detached on purpose: whether it ever ends is up to the file system.
        match thread::Builder::new().spawn(move || theirs.run()) {
            Err(error) if number == 0 => return Err(error),
            // Fewer will do.
            Err(_) => break,
            Ok(_) => {}
        }
    }
    // The client closes when it has heard enough.
    while control.read(&mut [0; 64])? > 0 {}
    Ok(())
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Roots that nobody has looked at, by the mount on which they seem to lie.
#[derive(Debug, Default)]
struct Queue(BTreeMap<Vec<u8>, OneMount>);

#[derive(Debug, Default)]
struct OneMount {
    waiting: VecDeque<usize>,
    /// Threads that are at a root of it.
    busy: usize,
}

impl Queue {
    fn new(locals: &[ByteBuf]) -> Self {
        // Without it all are looked at as if they lay on one mount.
        let mounts = Mounts::read().unwrap_or_default();
        let mut queue = Self::default();
        for (index, local) in locals.iter().enumerate() {
            let mount = mounts.of(local).map(|mount| mount.path.clone());
            let mount = queue.0.entry(mount.unwrap_or_default()).or_default();
            mount.waiting.push_back(index);
        }
        queue
    }

    /// The next root, and its mount.
    fn take(&mut self) -> Option<(usize, Vec<u8>)> {
        let waiting = self.0.iter_mut().filter(|(_, m)| !m.waiting.is_empty());
        let (path, mount) = waiting.min_by_key(|(_, mount)| mount.busy)?;
        mount.busy += 1;
        Some((mount.waiting.pop_front()?, path.clone()))
    }

    /// A root on this mount has answered.
    fn answered(&mut self, mount: &[u8]) {
        if let Some(mount) = self.0.get_mut(mount) {
            mount.busy -= 1;
        }
    }
}

struct Looker {
    queue: Mutex<Queue>,
    out: Mutex<UnixStream>,
    locals: Vec<ByteBuf>,
    looks: Looks,
}

impl Looker {
    /// Looks at roots until there are no more, or nobody hears of it.
    fn run(&self) {
        while let Some((index, mount)) = self.with_queue(Queue::take) {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let local = self.locals.get(index).map_or(&[][..], |local| local);
            let said = self.say(&Said::Begun(number));
            let looked = said.map(|()| self.looks.at(local));
            self.with_queue(|queue| queue.answered(&mount));
            let said = looked.and_then(|looked| self.say(&Said::Looked(number, looked)));
            if said.is_err() {
                return;
            }
        }
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn say(&self, said: &Said) -> io::Result<()> {
        let message = codec::encode(said).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(message.len() + frame::FRAME_HEADER_BYTES);
        frame::encode(&message, &mut bytes).map_err(io::Error::other)?;
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&bytes)
    }
}

/// How roots are looked at.
pub(crate) struct Looks {
    /// The directories below which roots are served; none means any.
    pub(crate) allowed: Vec<PathBuf>,
    pub(crate) look: LookAtRoot,
}

impl Looks {
    pub(crate) fn at(&self, local: &[u8]) -> Looked {
        // Without a slash at its end, which says nothing of where it leads.
        let path: PathBuf = path_of(local).components().collect();
        if self.allowed.is_empty() {
            let view = (self.look)(local);
            let real = resolve(&path).unwrap_or(path).into_os_string().into_vec();
            let local = local.to_vec();
            return Looked { view, local, real };
        }
        match resolve(&path) {
            Ok(resolved) if self.is_allowed(&resolved) => {
                // Workers get the resolved path, so that what was checked is what is walked.
                let mut resolved = resolved.into_os_string().into_vec();
                if local.ends_with(b"/") && !resolved.ends_with(b"/") {
                    resolved.push(b'/');
                }
                let local = resolved;
                let view = (self.look)(&local);
                let real = local.clone();
                Looked { view, local, real }
            }
            // Nothing about paths that are not served, not even whether they exist.
            Ok(_) => refused(local),
            Err(error) => match self.is_allowed(&path) && !has_dots(path.as_os_str().as_bytes()) {
                true => missing(local, &error),
                false => refused(local),
            },
        }
    }

    fn is_allowed(&self, path: &Path) -> bool {
        let allowed = |root: &PathBuf| {
            let resolved = root.canonicalize();
            path.starts_with(resolved.as_ref().unwrap_or(root))
        };
        self.allowed.iter().any(allowed)
    }
}

fn refused(local: &[u8]) -> Looked {
    let why = "it is not below a root that this client allows (--allow-root)";
    Looked::without(local, RootView::Refused(why.to_owned()))
}

fn missing(local: &[u8], error: &io::Error) -> Looked {
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    let view = RootView::Missing {
        kind: errno.map_or_else(|| "EIO".to_owned(), |errno| format!("{errno:?}")),
        message: errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_lowercase()),
    };
    Looked::without(local, view)
}

/// Whether the path goes up somewhere.
pub(crate) fn has_dots(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|name| name == b"..")
}

/// The path without symlinks. One at the end that points nowhere is a root as it stands.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let resolved = path.canonicalize();
    let (Err(_), Some(parent), Some(name)) = (&resolved, path.parent(), path.file_name()) else {
        return resolved;
    };
    let here = parent.canonicalize()?.join(name);
    here.symlink_metadata()?;
    match here.is_symlink() {
        true => Ok(here),
        false => resolved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_of_a_dead_mount_held_up_those_of_others() {
        let mut queue = Queue::default();
        for (mount, roots) in [("/alive", 8000..9000), ("/a-dead", 0..8000)] {
            let mount = queue.0.entry(mount.into()).or_default();
            mount.waiting.extend(roots);
        }
        let mut stuck = 0;
        let mut seen = Vec::new();
        // A thread that takes a root of the dead mount never comes back.
        while stuck < THREADS_MAX
            && let Some((root, mount)) = queue.take()
        {
            match root >= 8000 {
                true => {
                    seen.push(root);
                    // The others are still at theirs.
                    if seen.len() > THREADS_MAX / 2 {
                        queue.answered(&mount);
                    }
                }
                false => stuck += 1,
            }
        }
        assert_eq!(seen, (8000..9000).collect::<Vec<_>>());
    }
}
