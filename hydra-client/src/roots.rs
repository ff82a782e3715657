//! Where this host has the job's roots, whether it serves them, and what it sees there.
//!
//! Where somebody might have to wait, looking is done by a process of its own ([`crate::looker`]), under one deadline for
//! all roots: one that does not answer costs its thread there, and what is left of it afterwards is left behind.

use crate::at_hand::is_at_hand;
use crate::config::{Config, PathMap};
use crate::looker::{Ask, Looks, Said};
use crate::mounts::Mounts;
use crate::worker::spawn;
use hydra_link::Connection;
use hydra_proto::codec;
use hydra_proto::job::{ROOT_LOOKS, RootSpec};
use hydra_proto::message::RootView;
use hydra_proto::words::not_started;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// With so many lookers left behind at a mount, its roots are not looked at.
const LEFT_BEHIND_MAX: usize = 8;

/// One root, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Looked {
    /// What to tell the server.
    pub(crate) view: RootView,
    /// Where workers find it.
    pub(crate) local: Vec<u8>,
    /// The same without symbolic links, as far as that could be seen.
    pub(crate) real: Vec<u8>,
}

impl Looked {
    /// One of which nothing is known but this.
    pub(crate) fn without(local: &[u8], view: RootView) -> Self {
        Self {
            view,
            local: local.to_vec(),
            real: local.to_vec(),
        }
    }
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

/// What came of a look around.
pub(crate) struct Found {
    /// For each root.
    pub(crate) roots: Vec<Looked>,
    /// Who looked, if some did not answer.
    pub(crate) left: Option<Left>,
}

/// A process that looked at roots, with the mounts that did not answer it. It was killed; whether it dies is up to them.
pub(crate) struct Left {
    process: Child,
    mounts: BTreeSet<Vec<u8>>,
}

/// Those that are left behind, over all jobs.
#[derive(Default)]
pub(crate) struct LeftBehind(Vec<Left>);

impl LeftBehind {
    pub(crate) fn add(&mut self, left: Option<Left>) {
        self.0.extend(left);
    }

    /// The mounts at which so many hang that nobody else is sent there.
    pub(crate) fn shunned(&mut self) -> BTreeSet<Vec<u8>> {
        let is_there = |left: &mut Left| matches!(left.process.try_wait(), Ok(None));
        self.0.retain_mut(is_there);
        let mut counts = BTreeMap::<&[u8], usize>::new();
        for mount in self.0.iter().flat_map(|left| &left.mounts) {
            *counts.entry(mount).or_default() += 1;
        }
        let many = counts
            .into_iter()
            .filter(|(_, count)| *count >= LEFT_BEHIND_MAX);
        many.map(|(mount, _)| mount.to_vec()).collect()
    }
}

/// Looks at all roots but those on mounts that are `shunned`.
pub(crate) async fn look(
    config: &Config,
    roots: &[RootSpec],
    shunned: &BTreeSet<Vec<u8>>,
) -> Found {
    let mounts = Mounts::read().unwrap_or_default();
    let mut round = Round::new(config, roots, |local| {
        mounts
            .of(local)
            .is_some_and(|mount| shunned.contains(&mount.path))
    });
    round.look_here(config, &mounts);
    let (process, trouble) = match round.start(config).await {
        Ok(None) => (None, None),
        Ok(Some((mut looker, process))) => {
            let heard = round.listen(config, &mut looker).await;
            (Some(process), heard.err())
        }
        Err(error) => (None, Some(not_started(&error))),
    };
    let silent = round.silent().filter_map(|local| mounts.of(local));
    let mounts: BTreeSet<_> = silent.map(|mount| mount.path.clone()).collect();
    let left = process.and_then(|mut process| {
        // It fails where it has ended already.
        let _ = process.start_kill();
        (!mounts.is_empty()).then_some(Left { process, mounts })
    });
    Found {
        roots: round.finish(config.timings.root_look, trouble.as_deref()),
        left,
    }
}

/// Says which of the allowed roots are not there: a slip, or a mount that comes later.
pub(crate) async fn warn_of_missing(config: Arc<Config>) {
    let path = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
    let allowed = config.allow_roots.iter().map(path);
    let roots: Vec<RootSpec> = allowed
        .map(|local| RootSpec {
            local,
            ..RootSpec::default()
        })
        .collect();
    let config = Config {
        allow_roots: Vec::new(),
        maps: Vec::new(),
        ..Config::clone(&config)
    };
    let found = look(&config, &roots, &BTreeSet::new()).await;
    for Looked { view, local, .. } in found.roots {
        if let RootView::Missing { message: why, .. } | RootView::Silent(why) = view {
            let root = local.escape_ascii();
            warn!("--allow-root {root} cannot be seen now, so nothing below it is served: {why}");
        }
    }
}

/// The roots, while they are looked at.
struct Round {
    roots: Vec<(Vec<u8>, State)>,
    /// Which of them the looker was told of, in its order.
    asked: Vec<usize>,
}

enum State {
    Shunned,
    Waiting,
    Begun,
    Looked(Looked),
}

impl Round {
    fn new(config: &Config, roots: &[RootSpec], is_shunned: impl Fn(&[u8]) -> bool) -> Self {
        let local = |root: &RootSpec| map_path(&config.maps, &root.local);
        let state = |local: Vec<u8>| match is_shunned(&local) {
            true => (local, State::Shunned),
            false => (local, State::Waiting),
        };
        Self {
            roots: roots.iter().map(local).map(state).collect(),
            asked: Vec::new(),
        }
    }

    /// Looks at what nobody would have to wait for.
    fn look_here(&mut self, config: &Config, mounts: &Mounts) {
        let look = config.look_at_root.as_ref();
        let Some(look) = look.filter(|_| config.allow_roots.is_empty()) else {
            return;
        };
        let looks = Looks {
            allowed: Vec::new(),
            look: Arc::clone(look),
        };
        for (local, state) in &mut self.roots {
            if matches!(state, State::Waiting) && is_at_hand(mounts, local) {
                *state = State::Looked(looks.at(local));
            }
        }
    }

    /// Starts a looker, and tells it what to look at; none if there is nothing.
    async fn start(&mut self, config: &Config) -> io::Result<Option<(Connection, Child)>> {
        let roots = self.roots.iter().enumerate();
        let waiting = roots.filter(|(_, (_, state))| matches!(state, State::Waiting));
        self.asked = waiting.map(|(index, _)| index).collect();
        if self.asked.is_empty() {
            return Ok(None);
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let process = spawn(&config.looker, theirs.into(), Stdio::null())?;
        let allowed = config.allow_roots.iter().map(|path| path.as_os_str());
        let locals = self.asked.iter().filter_map(|&n| self.roots.get(n));
        let ask = Ask {
            allowed: allowed
                .map(|path| path.as_bytes().to_vec().into())
                .collect(),
            locals: locals.map(|(local, _)| local.clone().into()).collect(),
        };
        let frame = codec::encode(&ask).map_err(io::Error::other)?;
        let mut looker = Connection::plain(ours, &config.timings.link);
        looker.send(&frame).await.map_err(io::Error::other)?;
        Ok(Some((looker, process)))
    }

    /// Hears what the looker says until it has said all, or is silent for too long. Fails where it ends before that.
    async fn listen(&mut self, config: &Config, looker: &mut Connection) -> Result<(), String> {
        let limit = config.timings.root_look;
        // Until it has begun: a loaded host is slow to start programs.
        let mut by = Instant::now() + config.timings.worker_start;
        let mut end = None;
        let mut open = self.asked.len();
        while open > 0 {
            let frame = match timeout_at(by, looker.next()).await {
                Err(_) if end.is_some() => return Ok(()),
                Err(_) => return Err("the process that looks does not begin".to_owned()),
                Ok(Ok(Some(frame))) => frame,
                Ok(_) => return Err("the process that looks has ended".to_owned()),
            };
            let now = Instant::now();
            let end = *end.get_or_insert(now + ROOT_LOOKS * limit);
            by = (now + limit).min(end);
            match codec::decode(&frame).map_err(|error| error.to_string())? {
                Said::Begun(number) => self.note(number, State::Begun),
                Said::Looked(number, looked) => {
                    self.note(number, State::Looked(looked));
                    open -= 1;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, number: u32, state: State) {
        let index = self.asked.get(number as usize);
        if let Some(root) = index.and_then(|&index| self.roots.get_mut(index)) {
            root.1 = state;
        }
    }

    /// The roots that have not answered.
    fn silent(&self) -> impl Iterator<Item = &[u8]> {
        let silent = self.roots.iter();
        let silent = silent.filter(|(_, state)| matches!(state, State::Begun));
        silent.map(|(local, _)| local.as_slice())
    }

    /// What to say of all of them; `trouble` is why it was not said of all.
    fn finish(self, limit: Duration, trouble: Option<&str>) -> Vec<Looked> {
        let silent = self.silent().count();
        let why = |state| match (state, trouble) {
            (State::Looked(looked), _) => Ok(looked),
            (State::Shunned, _) => Err(format!(
                "it was not looked at: {LEFT_BEHIND_MAX} processes that looked there in earlier jobs still hang"
            )),
            (_, Some(trouble)) => Err(format!("it could not be looked at: {trouble}")),
            (State::Begun, None) => {
                Err(format!("the file system does not answer within {limit:?}"))
            }
            (State::Waiting, None) => Err(format!(
                "it was not looked at: {silent} others do not answer within {limit:?}"
            )),
        };
        let looked = |(local, state): (Vec<u8>, State)| match why(state) {
            Ok(looked) => looked,
            Err(why) => Looked::without(&local, RootView::Silent(why)),
        };
        self.roots.into_iter().map(looked).collect()
    }
}

#[cfg(test)]
mod tests;
