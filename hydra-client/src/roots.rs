//! Where this host has the job's roots, whether it serves them, and what it sees there.

use crate::config::{Config, LookAtRoot, PathMap};
use hydra_proto::job::RootSpec;
use hydra_proto::message::RootView;
use hydra_proto::words::not_started;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Threads that may hang on dead mounts before the remaining roots are not looked at any more.
const HANGING_MAX: usize = 4;

/// One root, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// What to tell the server.
    pub(crate) view: RootView,
    /// Where workers find it.
    pub(crate) local: Vec<u8>,
    /// The same without symbolic links, as far as that could be seen.
    pub(crate) real: Vec<u8>,
}

/// Where a path of the server is on this host. Prefixes end between components; the longest counts. A slash at the
/// end of the path stays there.
pub(crate) fn map_path(maps: &[PathMap], path: &[u8]) -> Vec<u8> {
    let fits = |map: &&PathMap| rest_below(&map.server, path).is_some();
    let Some(map) = maps.iter().filter(fits).max_by_key(|map| map.server.len()) else {
        return path.to_vec();
    };
    let rest = rest_below(&map.server, path).unwrap_or_default();
    let mut local = trim(&map.local).to_vec();
    if !rest.is_empty() {
        local.push(b'/');
        local.extend_from_slice(rest);
    }
    if local.is_empty() || (path.ends_with(b"/") && path != b"/") {
        local.push(b'/');
    }
    local
}

/// Without the slashes at the end; the root directory becomes nothing.
fn trim(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/');
    end.map_or(&[], |last| path.get(..=last).unwrap_or_default())
}

/// What of `path` lies below `top`, without the slash between; nothing if it is `top` itself.
pub(crate) fn rest_below<'a>(top: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = trim(path).strip_prefix(trim(top))?;
    match rest {
        [] => Some(rest),
        [b'/', below @ ..] => Some(below),
        _ => None,
    }
}

/// Looks at all roots, each under the deadline, in threads of their own: a dead mount holds up a thread, and
/// nothing else.
pub(crate) async fn look(config: &Config, roots: &[RootSpec]) -> Vec<Looked> {
    let locals: Vec<Vec<u8>> = roots
        .iter()
        .map(|root| map_path(&config.maps, &root.local))
        .collect();
    let looker = Arc::new(Looker {
        allowed: config.allow_roots.clone(),
        look: Arc::clone(&config.look_at_root),
        locals,
    });
    let mut looked = Vec::new();
    let mut hanging = 0;
    while looked.len() < looker.locals.len() {
        if hanging < HANGING_MAX
            && let Err(error) = look_in_thread(&looker, &mut looked, config.timings.root_look).await
        {
            let rest = looker.locals.iter().skip(looked.len());
            looked.extend(rest.map(|local| unseen(local, &error)));
            return looked;
        }
        // What is missing now did not answer.
        if let Some(local) = looker.locals.get(looked.len()) {
            hanging += 1;
            looked.push(silent(local, config.timings.root_look));
        }
    }
    looked
}

/// Looks at the roots that are not looked at yet, until one does not answer. Fails where no thread can be made.
async fn look_in_thread(
    looker: &Arc<Looker>,
    looked: &mut Vec<Looked>,
    limit: Duration,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let (theirs, from) = (Arc::clone(looker), looked.len());
    // Detached on purpose: whether it ever ends is up to the file system.
    let spawned = thread::Builder::new()
        .name("roots".to_owned())
        .spawn(move || {
            for local in theirs.locals.iter().skip(from) {
                if sender.send(theirs.look(local)).is_err() {
                    return;
                }
            }
        });
    spawned?;
    while let Ok(Some(one)) = timeout(limit, receiver.recv()).await {
        looked.push(one);
    }
    Ok(())
}

fn silent(local: &[u8], limit: Duration) -> Looked {
    let message = format!("the file system does not answer within {limit:?}");
    not_seen(local, "ETIMEDOUT", message)
}

fn unseen(local: &[u8], error: &io::Error) -> Looked {
    not_seen(
        local,
        "EAGAIN",
        format!("it cannot be looked at: {}", not_started(error)),
    )
}

fn not_seen(local: &[u8], kind: &str, message: String) -> Looked {
    Looked {
        view: RootView::Missing {
            kind: kind.to_owned(),
            message,
        },
        local: local.to_vec(),
        real: local.to_vec(),
    }
}

struct Looker {
    allowed: Vec<PathBuf>,
    look: LookAtRoot,
    locals: Vec<Vec<u8>>,
}

impl Looker {
    fn look(&self, local: &[u8]) -> Looked {
        // Without a slash at its end, which says nothing of where it leads.
        let path: PathBuf = Path::new(OsStr::from_bytes(local)).components().collect();
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
            Ok(_) => self.refused(local),
            Err(error) => match self.is_allowed(&path) && !has_dots(&path) {
                true => missing(local, &error),
                false => self.refused(local),
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

    fn refused(&self, local: &[u8]) -> Looked {
        Looked {
            view: RootView::Refused(
                "it is not below a root that this client allows (--allow-root)".to_owned(),
            ),
            local: local.to_vec(),
            real: local.to_vec(),
        }
    }
}

fn has_dots(path: &Path) -> bool {
    path.as_os_str()
        .as_bytes()
        .split(|&byte| byte == b'/')
        .any(|name| name == b"..")
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

fn missing(local: &[u8], error: &io::Error) -> Looked {
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    Looked {
        view: RootView::Missing {
            kind: errno.map_or_else(|| "EIO".to_owned(), |errno| format!("{errno:?}")),
            message: errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_lowercase()),
        },
        local: local.to_vec(),
        real: local.to_vec(),
    }
}

#[cfg(test)]
mod tests;
