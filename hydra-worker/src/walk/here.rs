//! The directory that the piece in hand is about.

use super::rules;
use crate::entry::Dir;
use crate::node::DirNode;
use crate::sys::slot::Slot;
use hydra_proto::ids::RootId;
use hydra_proto::job::{JobSpec, RootSpec, is_stop};
use hydra_proto::walk::FileType;
use std::cell::OnceCell;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// An open directory.
pub(super) struct Here<'a> {
    pub(super) root: &'a RootSpec,
    pub(super) node: &'a Arc<DirNode>,
    pub(super) fd: BorrowedFd<'a>,
    /// The plugin is told which of its entries in hand are gone.
    pub(super) on_record: bool,
    /// Names in it that are roots of their own, as [`rules::stops_in`] gives them.
    pub(super) stops: Vec<&'a [u8]>,
    slot: Option<Arc<Slot>>,
    path: OnceCell<Vec<u8>>,
}

impl<'a> Here<'a> {
    /// `node`, open as `fd`; none if the job has no such root. What plugins do there is told in the slot.
    pub(super) fn new(
        job: &'a JobSpec,
        node: &'a Arc<DirNode>,
        fd: BorrowedFd<'a>,
        slot: &Option<Arc<Slot>>,
    ) -> Option<Self> {
        let root = job.roots.get(node.root_index() as usize)?;
        let mut here = Self {
            root,
            node,
            fd,
            on_record: false,
            stops: Vec::new(),
            slot: slot.clone(),
            path: OnceCell::new(),
        };
        if !root.stops.is_empty() {
            here.stops = rules::stops_in(root, here.path());
        }
        Some(here)
    }

    /// Whether the entry `name` of this type is a root of its own.
    pub(super) fn stops_at(&self, name: &[u8], file_type: FileType) -> bool {
        let is_directory = file_type == FileType::Directory;
        let is_it = |stop: &&[u8]| is_stop(stop, name, is_directory);
        self.stops.iter().any(is_it)
    }

    /// Its path below the root; built when it is first asked for.
    pub(super) fn path(&self) -> &[u8] {
        self.path.get_or_init(|| {
            let mut path = Vec::new();
            self.node.append_path(&mut path);
            path
        })
    }

    /// As plugins see it.
    #[inline]
    pub(super) fn dir(&self) -> Dir<'_> {
        Dir {
            root: self.root,
            root_id: RootId(self.node.root_index()),
            depth: self.node.depth(),
            fd: Some(self.fd),
            path: &**self.node,
            slot: self.slot.as_deref(),
        }
    }

    /// The path of the entry `name` as results show it.
    pub(super) fn shown(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path().to_vec();
        if !path.is_empty() && !name.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.root.show(&path)
    }
}
