//! The rig for slow file systems: many clients walk one synthetic tree whose every call takes a set time,
//! and the time that they need is set against the least that it could be.
//!
//! ```text
//!   namespace 1   server ──────┐
//!   namespace 2   client ──────┤ bridge      all of them see the same mounted tree, served by
//!   namespace 3   client ──────┤             the rig's own process
//!   ...           ...  ────────┘
//! ```

pub mod ideal;
mod idle;
mod net;
pub mod rig;

pub use ideal::Ideal;
pub use idle::Waits;
