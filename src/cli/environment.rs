//! What the program takes from its surroundings: read once, here, and handed down.

use super::error::UsageError;
use crate::keys::default_key_dir;
use std::path::PathBuf;
use std::time::SystemTime;

/// The surroundings of a program.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    /// Where relative paths begin.
    pub(super) cwd: Option<PathBuf>,
    /// Where keys are kept unless told otherwise; none without a home.
    pub(super) key_dir: Option<PathBuf>,
    /// `RUST_LOG`.
    pub(super) rust_log: Option<String>,
    /// Whether colours are unwelcome.
    pub(super) no_color: bool,
    /// This host's name.
    pub(super) host_name: String,
    /// CPUs that this process may use.
    pub(super) cpus: u32,
    /// When the program started.
    pub(super) now: SystemTime,
}

impl Environment {
    /// Looks around.
    #[must_use]
    pub(super) fn read() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let host_name = nix::unistd::gethostname().ok();
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
        Self {
            cwd: std::env::current_dir().ok(),
            key_dir: default_key_dir(path("XDG_CONFIG_HOME").as_deref(), path("HOME").as_deref()),
            rust_log: path("RUST_LOG").and_then(|filter| filter.into_string().ok()),
            no_color: path("NO_COLOR").is_some(),
            host_name: host_name
                .map_or_else(|| "client".into(), |name| name.to_string_lossy().into()),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            now: SystemTime::now(),
        }
    }

    /// The working directory.
    pub(super) fn cwd(&self) -> Result<&std::path::Path, UsageError> {
        self.cwd.as_deref().ok_or(UsageError::WorkingDirectory)
    }
}
