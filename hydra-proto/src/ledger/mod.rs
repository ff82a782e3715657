//! Who owns which work: the heart of Hydra.
//!
//! ```text
//!              commits ▲   │ grants                       a parent's items, each in exactly one place
//!                      │   ▼
//!   server   Parent: pool + owned[client] + aside           pool ──grant──► owned[child] ──done──► gone
//!                      ▲   │                                  ▲                │
//!                      │   ▼                                  └──give, fence───┤
//!   client   Relay = Uplink + Parent over its workers                          └──failed──► aside
//!                      ▲   │
//!                      │   ▼
//!   worker   Frontier: a depth-first deque, and the item in hand
//! ```
//!
//! What of the server's pool does not fit into memory is put away (`store`), and stays in the pool.
//!
//! Everything here is sans-IO. [`Parent`] takes what its children said and the time, and hands out
//! [`Action`]s. Nothing looks at a clock, draws a random number or depends on the order of a hash map.
//!
//! # Invariants
//! 1. Cover: every entry is committed exactly once, or lies under exactly one item of pool ∪ owned ∪ aside.
//! 2. One owner per item id; one id space through both levels.
//! 3. A commit is applied whole or not at all; sequence numbers have no gaps; a repeat is ignored.
//! 4. Nothing from a fenced epoch is applied.
//! 5. roots + Σnew − Σdone = |pool| + Σ|owned| + |aside|, checked after every commit.
//! 6. The job is done exactly when the pool and every owned set are empty.

mod applying;
mod balance;
mod checking;
mod fencing;
mod frontier;
mod joining;
mod memory;
mod parent;
mod parts;
mod record;
mod relay;
mod runs;
mod session;
mod store;
mod suspects;
mod table;
mod unserved;
mod uplink;
mod upward;
mod visits;
mod walls;
mod work;

#[cfg(test)]
mod tests;

pub use frontier::{Cut, Frontier};
pub use parent::{Action, ChildView, NoAnswer, Parent, ParentConfig};
pub use record::{Granted, Opened, Record, ReplayError, State};
pub use relay::{Relay, RelayAction, RelayConfig};
pub use store::{Store, StoreError, stored_records};
pub use table::{Aside, Counts};
pub use uplink::{Uplink, UplinkConfig, UplinkEvent};
pub use walls::{Mount, Pass};
pub use work::{Key, Place, Work};

use crate::ids::ItemId;
use std::time::Duration;

/// A moment: the time since some fixed point that the caller chose, on a clock that goes on while the
/// machine sleeps.
pub type Time = Duration;

/// How a child broke the protocol. Its session ends; nothing of the message was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A commit came before its predecessors.
    #[error("commit {got} came where {expected} was due")]
    Gap {
        /// The sequence number that was due.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// A commit names an item that the child does not own.
    #[error("item {} is not the sender's", .0.0)]
    NotOwned(ItemId),
    /// A new item has an id outside the child's lease.
    #[error("item {} lies outside the ids that were leased", .0.0)]
    NotLeased(ItemId),
    /// A new item has an id that is in use.
    #[error("item {} exists already", .0.0)]
    Repeated(ItemId),
    /// An item that no honest child sends.
    #[error("{0}")]
    BadItem(&'static str),
    /// A message that does not belong here.
    #[error("unexpected message: {0}")]
    Unexpected(&'static str),
}
