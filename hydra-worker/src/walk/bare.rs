//! The walk over a plain stack, in one thread, without a ledger, a parent or commits: to measure what these cost.
//!
//! Nothing else uses it. What it finds is right, but nobody could take work from it, and nothing of it is on record.

use super::{Left, Walker};
use crate::node::DirNode;
use crate::place::At;
use crate::plugin::Visit;
use crate::session::{Identity, WorkerError};
use crate::shared::Shared;
use hydra_proto::ids::ItemId;
use hydra_proto::item::NameList;
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Key, Uplink, UplinkConfig, Work};
use hydra_proto::walk::WalkSummary;
use std::sync::Arc;

/// Walks all roots of `job` as a worker does, and returns what it found.
///
/// # Errors
/// When the walk cannot be started.
pub fn walk_bare<V: Visit>(
    visit: V,
    job: JobSpec,
    identity: Identity,
) -> Result<(V::Summary, WalkSummary), WorkerError> {
    let uplink = Uplink::new(UplinkConfig {
        name: String::new(),
        workers: 1,
        nonce: 0,
        release: String::new(),
        resumable: false,
        uncut: false,
    });
    let shared = Shared::new(uplink).map_err(|errno| WorkerError::Walk(errno.to_string()))?;
    let walker = Walker::new(visit, Arc::new(job), Arc::new(shared), identity)?;
    Ok(walker.walk_bare())
}

impl<V: Visit> Walker<V> {
    fn walk_bare(mut self) -> (V::Summary, WalkSummary) {
        let key = Key {
            id: None,
            origin: ItemId(1),
            careful: false,
            wary: false,
        };
        let roots = (0..self.roots() as u32).rev().map(|root| {
            let parent = At(DirNode::root(root));
            let name = Vec::new();
            Left::Part(Work::Dir { parent, name })
        });
        let mut stack: Vec<Left> = roots.collect();
        while let Some(left) = stack.pop() {
            match left {
                Left::Part(work) => self.step(key, work),
                Left::Dirs(parent, mut names) => {
                    let name = last(&mut names);
                    let dir = parent.clone();
                    if !names.is_empty() {
                        stack.push(Left::Dirs(parent, names));
                    }
                    self.directory(key, &dir, &name);
                }
            }
            stack.append(&mut self.left);
        }
        self.call(Vec::new, |visit, out| visit.flush(out));
        let summary = std::mem::take(&mut self.sink.summary);
        (summary, std::mem::take(&mut self.sink.walk))
    }
}

/// Takes the last name. There is one.
fn last(names: &mut NameList) -> Vec<u8> {
    let index = names.len().saturating_sub(1);
    let name = names.get(index).unwrap_or_default().to_vec();
    names.pop();
    name
}
