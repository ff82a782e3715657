//! What the tests share: clusters of real processes, trees, and what others say of them.

mod gate;
pub(crate) mod lab;
pub(crate) mod oracle;
mod process;
mod tree;

pub(crate) use crate::pids::pids_with;
pub(crate) use gate::Gate;
pub(crate) use lab::{Lab, REFERENCE_TIME};
pub(crate) use oracle::{find, truth, without_run};
pub(crate) use process::{LIMIT, Process, Ran};
pub(crate) use tree::{chain, crowd, forest, long_chain, remove_long_chain, spine, unchain};

/// Whether the tests may do what only root may. Says on standard error what is skipped otherwise.
pub(crate) fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, as it needs root: {what}");
    }
    root
}
