//! What a plugin is, as a whole: its options, the half that runs in workers, and the half that makes the
//! report. How to write one:
//!
//! 1. **Say what is added up.** A [`Summary`] is what one worker found since it last told. Summaries are merged in
//!    any order and any grouping, so `merge` must not care: sums, maxima, sets and maps of these will do; "the first"
//!    and averages will not (take the smallest path, and a sum with a count). It travels as bytes without field
//!    names, so serde's `flatten`, `untagged` and `skip_serializing_if` do not work in it. Keep it small: a million
//!    different keys are a million keys on the server. What grows with the tree belongs into rows.
//! 2. **Say what is looked at.** [`Visit::wants`] names the [`Facts`](hydra_worker::Facts) that the plugin needs.
//!    Without any, entries are shown as fast as directories can be read.
//! 3. **Look.** [`Visit::entry`] is called for each entry and each root (whose name is empty) and puts what it
//!    finds into the [`Sink`](hydra_worker::Sink): into `summary`, as a `row`, or as an error with `fail`. A visitor
//!    lives in one worker and never sees a lock. It may keep buffers, but what it keeps of entries must be in the
//!    sink after `flush`. It must not lean on order, nor on being the only one who sees a directory, unless it
//!    asks for [`whole_directories`](hydra_worker::Wants::whole_directories).
//! 4. **Take options.** [`Plugin::Options`] is parsed from the server's command line and sent to all workers as JSON.
//!    [`Plugin::prepare`] fixes what must be the same everywhere, such as the time that ages are told from.
//!    [`Plugin::visit`] refuses what makes no sense; the user reads its words before anything is walked.
//! 5. **Report.** [`Plugin::report`] gets the sum of everything and makes the text and the JSON. It must show the
//!    same for the same tree, whoever walked it: sort, and break ties by path bytes. Names go through
//!    [`escape`](crate::escape) into the text, and as a [`ShownPath`] into JSON.
//!
//! # Exactly once
//!
//! What is in the sink is handed over in commits, each of them whole or not at all. Where a worker dies, what it had
//! not committed is walked again, with another sink: summaries, rows and errors count once. That holds for what
//! goes through the sink and for nothing else. A plugin that writes files of its own, or prints, does it again.
//!
//! # Plugins that act
//!
//! A plugin that changes the tree or runs commands sets [`Plugin::ACTS`], so that clients must allow it by name, and
//! [`Wants::acts`](hydra_worker::Wants::acts), so that a directory is read to its end before anything in it changes.
//! Its actions happen at least once, and must bear it. Before each one it asks
//! [`may_act`](hydra_worker::Sink::may_act), which waits where a worker is cut off from its parents, and then looks
//! again with [`again`](hydra_worker::Entry::again): what the walk saw may be a second old.
//! [`unlink`](hydra_worker::Entry::unlink) and [`rmdir`](hydra_worker::Entry::rmdir) work by name in the open
//! directory, which no symbolic link can redirect; a path, looked up again from the top, can be.
//! With `--intent` what it [intends](hydra_worker::Visit::intends) to act on is on the server's record before, and
//! [`Sink::again`](hydra_worker::Sink::again) says where a worker that was lost may have done it already. What it
//! promises, it says below its `--help`: [`Plugin::NOTES`]. `examples/purge.rs` shows all of it.
//!
//! # A plugin and its test
//!
//! Empty directories, one row for each. A directory may be shared among workers, but its listing is read to its end
//! in one place, which then knows how much was in it:
//!
//! ```
//! use hydra::{
//!     Dir, Entry, Listing, Plugin, PluginReport, ReduceError, ReportContext, ShownPath, Sink, Summary, Visit, Wants,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, clap::Args, Serialize, Deserialize)]
//! struct Options {
//!     /// Call a directory empty that has no more than N entries
//!     #[arg(long, value_name = "N", default_value_t = 0)]
//!     most: u64,
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Empty(u64);
//!
//! impl Summary for Empty {
//!     fn merge(&mut self, other: Self) {
//!         self.0 += other.0;
//!     }
//! }
//!
//! struct EmptyVisit {
//!     most: u64,
//! }
//!
//! impl Visit for EmptyVisit {
//!     type Summary = Empty;
//!
//!     fn wants(&self) -> Wants {
//!         Wants::default()
//!     }
//!
//!     fn entry(&mut self, _: &Entry<'_>, _: &mut Sink<Empty>) {}
//!
//!     fn listed(&mut self, dir: &Dir<'_>, listing: &Listing, out: &mut Sink<Empty>) {
//!         if listing.entries <= self.most {
//!             out.summary.0 += 1;
//!             out.row(&ShownPath::from(dir.shown()));
//!         }
//!     }
//! }
//!
//! struct FindEmpty;
//!
//! impl Plugin for FindEmpty {
//!     const NAME: &'static str = "empty";
//!     const ABOUT: &'static str = "Find empty directories";
//!     type Options = Options;
//!     type Visit = EmptyVisit;
//!     type Total = Empty;
//!
//!     fn visit(options: &Options) -> Result<EmptyVisit, String> {
//!         Ok(EmptyVisit { most: options.most })
//!     }
//!
//!     fn total(_: &Options) -> Result<Empty, String> {
//!         Ok(Empty::default())
//!     }
//!
//!     fn report(_: &Options, total: Empty, _: &ReportContext) -> Result<PluginReport, ReduceError> {
//!         Ok(PluginReport {
//!             json: serde_json::json!({ "directories": total.0 }),
//!             text: format!("{} empty directories\n", total.0),
//!             ..PluginReport::default()
//!         })
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tree = tempfile::tempdir()?;
//! std::fs::create_dir_all(tree.path().join("full/empty"))?;
//! let found = hydra::testing::walk::<FindEmpty>(Options { most: 0 }, tree.path())?;
//! assert_eq!(found.report.json["directories"], 1);
//! let path = tree.path().join("full/empty");
//! assert_eq!(found.rows[0]["path"], path.to_str().unwrap());
//! # Ok(())
//! # }
//! ```

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hydra_proto::reduce::ReduceError;
use hydra_worker::{Summary, Visit};
use serde::{Serialize, de::DeserializeOwned};

/// The summary type of a plugin.
pub type SummaryOf<P> = <<P as Plugin>::Visit as Visit>::Summary;

/// A job that Hydra can do on every entry of a tree.
pub trait Plugin: Send + Sync + 'static {
    /// Its name on the command line and in reports.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// What else its `--help` says, below the options: one that acts says here what it promises.
    const NOTES: &'static str = "";
    /// Whether it changes the tree or runs commands. Clients must allow such a plugin by name.
    const ACTS: bool = false;
    /// Whether it ever writes rows. `--rows` is wrong usage with a plugin that does not.
    const ROWS: bool = true;

    /// Its options: parsed by the server, sent to every worker.
    type Options: clap::Args + Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    /// The half that runs in workers.
    type Visit: Visit;
    /// What the server adds summaries up in. The summary itself will do, unless the sum must be kept in
    /// bounded memory.
    type Total: Total<SummaryOf<Self>>;

    /// Fills in what depends on the moment when the job starts, so that all workers agree on it.
    fn prepare(_options: &mut Self::Options, _now: std::time::SystemTime) {}

    /// A new visitor, for one worker.
    ///
    /// # Errors
    /// In words, when the options make no sense.
    fn visit(options: &Self::Options) -> Result<Self::Visit, String>;

    /// An empty total, for the server.
    ///
    /// # Errors
    /// In words, when the options make no sense. Asked before anything is walked.
    fn total(options: &Self::Options) -> Result<Self::Total, String>;

    /// The plugin's part of the report.
    ///
    /// # Errors
    /// When what was kept outside memory cannot be read.
    fn report(
        options: &Self::Options,
        total: Self::Total,
        context: &ReportContext,
    ) -> Result<PluginReport, ReduceError>;
}

/// What summaries are added up in.
pub trait Total<S>: Send + 'static {
    /// Adds a summary. The result must not depend on the order.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn add(&mut self, summary: S) -> Result<(), ReduceError>;

    /// Shows this total as summaries: adding them to an empty total must make an equal one. So a server that
    /// died can go on. A large total is shown in pieces.
    ///
    /// # Errors
    /// When what is kept outside memory cannot be read; and those of `out`.
    fn save(&mut self, out: Show<'_, S>) -> Result<(), ReduceError>;
}

/// Is shown a total, summary by summary.
pub type Show<'a, S> = &'a mut dyn FnMut(&S) -> Result<(), ReduceError>;

impl<S: Summary> Total<S> for S {
    fn add(&mut self, summary: S) -> Result<(), ReduceError> {
        self.merge(summary);
        Ok(())
    }

    fn save(&mut self, out: Show<'_, S>) -> Result<(), ReduceError> {
        out(self)
    }
}

/// What a report may depend on besides the total.
#[derive(Clone, Debug)]
pub struct ReportContext {
    /// Columns of the terminal, or 80.
    pub width: usize,
    /// Whether colours may be used.
    pub color: bool,
    /// Entries that the walk counted, by type.
    pub walk: hydra_proto::walk::WalkSummary,
}

/// A plugin's part of the report.
#[derive(Clone, Debug, Default)]
pub struct PluginReport {
    /// For `--json`: the value under the plugin's name.
    pub json: serde_json::Value,
    /// For people: whole lines.
    pub text: String,
    /// Byte totals, from plugins that know them.
    pub bytes: Option<ByteTotals>,
}

/// The byte totals of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ByteTotals {
    /// Sum of the sizes of regular files.
    pub apparent_bytes: u64,
    /// Sum of the allocated bytes of all entries.
    pub allocated_bytes: u64,
    /// The same with each inode counted once.
    pub unique_allocated_bytes: u64,
    /// Non-directories with more than one link.
    pub hard_linked: u64,
}

/// A path in rows and in JSON: `path`, lossy where it is not UTF-8, and then `path_b64`, exact. To stand among
/// the other fields of a row it is flattened:
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Row {
///     #[serde(flatten)]
///     path: hydra::ShownPath,
///     size: u64,
/// }
/// let row = |path: &[u8]| serde_json::to_string(&Row { path: path.into(), size: 7 }).unwrap();
/// assert_eq!(row(b"/a"), r#"{"path":"/a","size":7}"#);
/// assert_eq!(row(b"/\xff"), r#"{"path":"/�","path_b64":"L/8=","size":7}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShownPath {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
}

impl From<&[u8]> for ShownPath {
    fn from(path: &[u8]) -> Self {
        let inexact = std::str::from_utf8(path).is_err();
        Self {
            path: String::from_utf8_lossy(path).into_owned(),
            path_b64: inexact.then(|| BASE64_STANDARD.encode(path)),
        }
    }
}

impl From<Vec<u8>> for ShownPath {
    fn from(path: Vec<u8>) -> Self {
        path.as_slice().into()
    }
}
