//! The encrypted, framed connection between a Hydra server and its clients.
