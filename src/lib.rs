//! Hydra.
