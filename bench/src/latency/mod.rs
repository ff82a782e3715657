//! The rig for slow file systems: many clients walk one synthetic tree whose every call takes a set time,
//! and the time that they need is set against the least that it could be.
//!
//! ```text
//!   namespace 1   server ──────┐
//!   namespace 2   client ──────┤ bridge      clients see the same tree, served by the rig's own process:
//!   namespace 3   client ──────┤             on one mount, or each on its own with its own cache of names
//!   ...           ...  ────────┘
//! ```

pub mod ideal;
mod idle;
mod net;
pub mod rig;
mod timeline;

pub use ideal::Ideal;
pub use idle::Waits;
pub use timeline::SLICE;
