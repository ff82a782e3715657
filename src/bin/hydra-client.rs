//! hydra-client.
fn main() {}
