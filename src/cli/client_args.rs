//! What may be typed to the client. Defaults, conflicts and meanings are in [`super::client_config`].

use super::logging::LogArgs;
use super::values::{period, size};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The client's command line.
#[derive(Clone, Debug, clap::Parser)]
#[command(about = "Walk for a Hydra server, on this host")]
#[command(group = clap::ArgGroup::new("direction").required(true).args(["listen", "connect"]))]
pub(super) struct ClientArgs {
    /// Wait for servers to dial in (default address: 0.0.0.0:8101)
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "")]
    pub(super) listen: Option<String>,
    /// Dial a server, and again when its job is over: it serves job after job, as with --listen
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(super) connect: Option<String>,
    /// End after one job, with status 0
    #[arg(long)]
    pub(super) once: bool,
    /// How many workers to run (default: one for each CPU)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) workers: Option<u32>,
    /// How much memory directories that are still to be walked may take; what is more goes back to the server
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M")]
    pub(super) frontier_memory: u64,
    /// What to call this client in reports (default: the host's name)
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Look for the server's /DATA under another path: /DATA=/MNT/A
    #[arg(long, value_name = "FROM=TO")]
    pub(super) map: Vec<OsString>,
    /// Serve only what lies below PATH (default: everything); a relative one begins at the working directory
    #[arg(long, value_name = "PATH")]
    pub(super) allow_root: Vec<OsString>,
    /// Let workers write rows below PATH, where a server's --rows-dir is (default: nowhere; they send them)
    #[arg(long, value_name = "PATH")]
    pub(super) allow_rows_dir: Vec<OsString>,
    /// Serve this plugin, though it changes things or runs commands
    #[arg(long, value_name = "PLUGIN")]
    pub(super) allow: Vec<String>,
    /// Where the key is (default: ~/.config/hydra)
    #[arg(long, value_name = "DIR")]
    pub(super) key_dir: Option<PathBuf>,
    /// How long one try to reach the server may take; it is tried until it answers
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "10s")]
    pub(super) connect_timeout: Duration,
    /// How long a peer may take to prove its key
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "3s")]
    pub(super) handshake_timeout: Duration,
    /// What is said meanwhile.
    #[command(flatten)]
    pub(super) log: LogArgs,
}
