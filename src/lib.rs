//! Hydra.

pub mod keys;
