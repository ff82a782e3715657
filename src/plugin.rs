//! What a plugin is, as a whole: its options, the half that runs in workers, and the half that makes the
//! report.

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
    /// Whether it changes the tree or runs commands. Clients must allow such a plugin by name.
    const ACTS: bool = false;

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
}

impl<S: Summary> Total<S> for S {
    fn add(&mut self, summary: S) -> Result<(), ReduceError> {
        self.merge(summary);
        Ok(())
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
