//! hydra-server.

use std::process::ExitCode;

fn main() -> ExitCode {
    hydra::Hydra::stock().run_server()
}
