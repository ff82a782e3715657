//! The Hydra client: supervises the workers of one host.
