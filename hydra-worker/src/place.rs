//! How the ledger holds directories: as nodes that link to their parents.

use crate::node::DirNode;
use hydra_proto::ids::RootId;
use hydra_proto::ledger::Place;
use std::sync::Arc;

/// The place of an item.
#[derive(Clone, Debug)]
pub(crate) struct At(pub(crate) Arc<DirNode>);

impl Place for At {
    fn at(root: RootId, path: &[u8]) -> Self {
        let root = DirNode::root(root.0);
        match path.is_empty() {
            true => Self(root),
            false => Self(DirNode::below(&root, path)),
        }
    }

    fn root(&self) -> RootId {
        RootId(self.0.root_index())
    }

    fn write_path(&self, out: &mut Vec<u8>) {
        self.0.append_path(out);
    }
}
