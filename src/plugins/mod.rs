//! The plugins that come with Hydra, and what their reports share.
//!
//! Each plugin is one module that implements [`crate::Plugin`]; nothing else in the project knows what a
//! plugin counts.

pub mod audit;
pub mod count;
pub mod format;

pub use audit::Audit;
pub use count::Count;
