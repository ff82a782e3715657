//! The programs: what a user typed becomes a role, a role runs, and its outcome becomes an exit status.
//!
//! Two layers of arguments. `*_args` is what may be typed; `*_config` is what the program needs, with
//! defaults filled in and conflicts found. Nothing below this module knows an option or reads the
//! environment.

mod client_args;
mod client_config;
mod clients;
mod environment;
mod error;
mod host;
mod interrupt;
mod logging;
mod operand;
mod parse;
mod paths;
mod run;
mod sentence;
mod server_args;
mod server_config;
mod state;
pub mod values;

pub use client_config::{ClientConfig, Direction};
pub use error::UsageError;
pub use logging::LogConfig;
pub use parse::KeygenConfig;
pub use server_config::{Clients, Mode, Output, ReportShape, RowsTo, ServerConfig, StateConfig};
pub use state::{ResumeConfig, StatusConfig};

use crate::exit_codes::Exit;
use crate::plugin::Plugin;
use crate::registry::Registry;
use crate::worker::{LOOKER_ARGUMENT, WORKER_ARGUMENT};
use environment::Environment;
use parse::{Program, Request, Roles};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A program that plays all of Hydra's roles with the plugins that it is given.
///
/// ```no_run
/// # use hydra::{Hydra, Plugin};
/// # fn program<MyAudit: Plugin>() -> std::process::ExitCode {
/// // fn main() -> ExitCode {
/// Hydra::new().plugin::<MyAudit>().run()
/// // }
/// # }
/// ```
///
/// Such a program, called `my-audit` here, is
/// - a server: `my-audit [OPTIONS] [PLUGIN [PLUGIN OPTIONS]] PATH...`,
/// - a client: `my-audit client --listen`, or `--connect HOST`,
/// - the workers of both, which it starts itself.
///
/// The first plugin runs when none is named. Server and clients must be the same build.
#[derive(Clone, Default)]
pub struct Hydra {
    registry: Registry,
}

impl Hydra {
    /// A program without plugins; it needs at least one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A program with the plugins that Hydra comes with.
    #[must_use]
    pub fn stock() -> Self {
        Self {
            registry: crate::stock::stock(),
        }
    }

    /// Adds a plugin.
    #[must_use]
    pub fn plugin<P: Plugin>(mut self) -> Self {
        self.registry = self.registry.with::<P>();
        self
    }

    /// Runs the role that the command line asks for. Call it first in `main`, and end with what it returns.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let name = std::env::args_os().next().and_then(|arg0| {
            let name = Path::new(&arg0).file_name()?;
            Some(name.to_string_lossy().into_owned())
        });
        self.play(&name.unwrap_or_else(|| "hydra".to_owned()), Roles::All)
    }

    /// Runs as `hydra-server`.
    #[must_use]
    pub fn run_server(self) -> ExitCode {
        self.play("hydra-server", Roles::Server)
    }

    /// Runs as `hydra-client`.
    #[must_use]
    pub fn run_client(self) -> ExitCode {
        self.play("hydra-client", Roles::Client)
    }

    fn play(self, name: &str, roles: Roles) -> ExitCode {
        let args: Vec<OsString> = std::env::args_os().skip(1).collect();
        if args.first().is_some_and(|arg| arg == WORKER_ARGUMENT) {
            return run::worker(&self.registry).into();
        }
        if args.first().is_some_and(|arg| arg == LOOKER_ARGUMENT) {
            return run::looker().into();
        }
        let environment = Environment::read();
        let program = Program {
            name,
            roles,
            registry: &self.registry,
        };
        match program.parse(args, &environment) {
            Ok(Request::Serve(config)) => run::server(name, &self.registry, *config),
            Ok(Request::Client(config)) => run::client(name, &self.registry, config),
            Ok(Request::Keygen(config)) => run::keygen(name, config),
            Ok(Request::Resume(config)) => run::resume(name, &self.registry, config),
            Ok(Request::Status(config)) => state::status(name, &config),
            Err(UsageError::Clap(error)) if !error.use_stderr() => {
                // Help, or the version.
                run::print_help(name, &error)
            }
            Err(UsageError::Clap(error)) => {
                run::complain(name, &error::complaint(&error));
                Exit::Usage
            }
            Err(error) => {
                run::complain(name, &run::told(&error));
                Exit::Usage
            }
        }
        .into()
    }
}

#[cfg(test)]
mod tests;
