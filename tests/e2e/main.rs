//! Hydra from end to end: real servers, clients and workers, against what `find`, `du` and one thread say.
//!
//! The programs of `examples/` take part; with `--test e2e` alone, `cargo build --examples` must have come first.
//! Nothing here sleeps: tests wait for a line on standard error, a file or a process, under a deadline.

mod bad_input;
mod common;
mod dead_mounts;
mod hostile;
mod hosts;
mod huge;
mod journal;
mod lifecycle;
mod memory;
mod mounts;
mod namespaces;

#[path = "../shared/mount.rs"]
mod mount;
#[path = "../shared/net.rs"]
mod net;
#[path = "../shared/pids.rs"]
mod pids;
