//! Hydra: a distributed, parallel file-tree walker.
//!
//! A *server* hands out directories, a *client* on each host supervises *workers*, and each worker walks and shows
//! every entry that it finds to a *plugin*: the job that is done. Hydra's own programs come with a few plugins; this
//! library is for writing others. A plugin is one Rust file, and with one line more it is a program that plays all
//! three roles:
//!
//! ```no_run
//! use hydra::{
//!     Entry, Facts, FileType, Hydra, Plugin, PluginReport, ReduceError, ReportContext, Sink, Visit, Wants,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! /// The options. Their comments are what `--help` says.
//! #[derive(Clone, clap::Args, Serialize, Deserialize)]
//! struct Options {
//!     /// Count files of at least so many bytes
//!     #[arg(long, default_value_t = 1 << 30)]
//!     at_least: u64,
//! }
//!
//! /// What is added up: here, a number of files.
//! #[derive(Default, Serialize, Deserialize)]
//! struct Count(u64);
//!
//! impl hydra::Summary for Count {
//!     fn merge(&mut self, other: Self) {
//!         self.0 += other.0;
//!     }
//! }
//!
//! /// The half that runs in workers: sees entries, finds things.
//! struct LargeVisit(Options);
//!
//! impl Visit for LargeVisit {
//!     type Summary = Count;
//!
//!     fn wants(&self) -> Wants {
//!         Wants { facts: Facts::SIZE, ..Wants::default() }
//!     }
//!
//!     fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Count>) {
//!         if entry.file_type == FileType::File && entry.stat.size >= self.0.at_least {
//!             out.summary.0 += 1;
//!         }
//!     }
//! }
//!
//! /// The plugin: joins the options, the visitor and the report.
//! struct Large;
//!
//! impl Plugin for Large {
//!     const NAME: &'static str = "large";
//!     const ABOUT: &'static str = "Count large files";
//!     type Options = Options;
//!     type Visit = LargeVisit;
//!     type Total = Count;
//!
//!     fn visit(options: &Options) -> Result<LargeVisit, String> {
//!         Ok(LargeVisit(options.clone()))
//!     }
//!
//!     fn total(_: &Options) -> Result<Count, String> {
//!         Ok(Count::default())
//!     }
//!
//!     fn report(_: &Options, total: Count, _: &ReportContext) -> Result<PluginReport, ReduceError> {
//!         Ok(PluginReport {
//!             json: serde_json::json!({ "files": total.0 }),
//!             text: format!("{} large files\n", total.0),
//!             ..PluginReport::default()
//!         })
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Hydra::new().plugin::<Large>().run()
//! }
//! ```
//!
//! ```sh
//! large --at-least 1000000 /data                                    # on this machine
//! large client --listen                                             # on others, and then
//! large --clients host1,host2 --at-least 1000000 --json /data
//! ```
//!
//! Nothing in it knows of hosts, workers, locks or messages. Whatever dies on the way, every entry counts exactly
//! once; what that asks of a plugin is told in [`plugin`], step by step. Complete programs are in `examples/`, and
//! `docs/plugins.md` walks through one of them. [`testing`] runs a plugin in a test.

pub mod cli;
pub mod exit_codes;
pub mod keys;
pub mod plugin;
pub mod plugins;
pub mod progress;
pub mod registry;
pub mod report;
pub mod serial;
pub mod stock;
#[cfg(test)]
mod test_plugin;
pub mod testing;
pub mod worker;

pub use cli::Hydra;
pub use hydra_proto::ids::RootId;
pub use hydra_proto::job::RootSpec;
pub use hydra_proto::reduce::ReduceError;
pub use hydra_proto::walk::WalkSummary;
pub use hydra_worker::errno;
pub use hydra_worker::{
    Again, Dir, Enter, Entry, Facts, FileType, Listing, PATH_START, PathOf, Sink, Stat, Summary,
    Target, Visit, Wants,
};
pub use plugin::{
    ByteTotals, Plugin, PluginReport, ReportContext, Show, ShownPath, SummaryOf, Total,
};
pub use report::escape;
