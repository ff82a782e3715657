//! The Hydra worker: the walk, the plugin contract and the two threads.

pub mod dirs;
pub mod node;
pub mod sys;
