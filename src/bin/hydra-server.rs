//! hydra-server.
fn main() {}
