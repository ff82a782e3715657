//! hydra-client.

use std::process::ExitCode;

fn main() -> ExitCode {
    hydra::Hydra::stock().run_client()
}
