//! The plugins that a binary was built with, with their types erased, so that nothing else needs to know them.
//!
//! Knows the three places where a plugin's types matter (options, worker, totals) and no policy.

use crate::plugin::{Plugin, PluginReport, ReportContext, SummaryOf, Total};
use crate::serial::{self, SerialError, Walked, Watch};
use crate::worker::{self, WorkerError, WorkerSession};
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use hydra_proto::codec;
use hydra_proto::job::JobSpec;
use hydra_proto::reduce::{Merger, Reduce, ReduceError, load_piece, save_piece};
use hydra_worker::Visit as _;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Words that cannot name a plugin: commands, and keys of the JSON report.
const RESERVED: [&str; 15] = [
    "server",
    "client",
    "keygen",
    "help",
    "schema",
    "plugin",
    "roots",
    "roots_b64",
    "complete",
    "totals",
    "errors",
    "skipped",
    "run",
    "resume",
    "status",
];

/// The plugins of a binary. The first is the default.
#[derive(Clone, Default)]
pub struct Registry {
    plugins: Vec<Arc<dyn AnyPlugin>>,
}

impl Registry {
    /// One without plugins.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a plugin.
    #[must_use]
    pub fn with<P: Plugin>(mut self) -> Self {
        self.plugins.push(Arc::new(Erased::<P>(PhantomData)));
        self
    }

    /// The plugin of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn AnyPlugin>> {
        self.iter().find(|plugin| plugin.name() == name)
    }

    /// The plugin that runs when none is named.
    #[must_use]
    pub fn default_plugin(&self) -> Option<&Arc<dyn AnyPlugin>> {
        self.plugins.first()
    }

    /// All plugins in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn AnyPlugin>> {
        self.plugins.iter()
    }

    /// Whether the plugins can be told apart, from each other and from everything else.
    ///
    /// # Errors
    /// Names the first mistake of the program's author.
    pub fn check(&self) -> Result<(), RegistryError> {
        if self.plugins.is_empty() {
            return Err(RegistryError::Empty);
        }
        for (index, plugin) in self.iter().enumerate() {
            let name = plugin.name();
            let plain =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            if name.is_empty() || name.starts_with('-') || !name.bytes().all(plain) {
                return Err(RegistryError::Name(name));
            }
            if RESERVED.contains(&name) {
                return Err(RegistryError::Reserved(name));
            }
            if self
                .iter()
                .skip(index + 1)
                .any(|other| other.name() == name)
            {
                return Err(RegistryError::Twice(name));
            }
        }
        Ok(())
    }
}

/// Why plugins cannot be used together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There is none.
    #[error("this program was built without any plugin")]
    Empty,
    /// A name that could not be typed or shown.
    #[error("the plugin name {0:?} is not made of lower-case letters, digits, '-' and '_'")]
    Name(&'static str),
    /// A name with a meaning of its own.
    #[error("a plugin cannot be called '{0}': the word has another meaning")]
    Reserved(&'static str),
    /// Two plugins of one name.
    #[error("two plugins are called '{0}'")]
    Twice(&'static str),
}

/// Why a plugin cannot do a job.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The command line does not fit its options.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// Its options make no sense, says the plugin.
    #[error("{plugin}: {reason}")]
    Refused {
        /// The plugin.
        plugin: &'static str,
        /// What it says.
        reason: String,
    },
    /// Its options cannot be sent or were not understood.
    #[error("the options of {plugin} cannot be sent: {source}")]
    Encoding {
        /// The plugin.
        plugin: &'static str,
        /// What is wrong with them.
        source: serde_json::Error,
    },
}

/// A plugin whose types are hidden.
///
/// Options travel as JSON: unlike the wire's format it bears every attribute that an author may write on
/// the fields.
pub trait AnyPlugin: Send + Sync {
    /// [`Plugin::NAME`].
    fn name(&self) -> &'static str;
    /// [`Plugin::ABOUT`].
    fn about(&self) -> &'static str;
    /// [`Plugin::NOTES`].
    fn notes(&self) -> &'static str;
    /// [`Plugin::ACTS`].
    fn acts(&self) -> bool;
    /// [`Plugin::ROWS`].
    fn has_rows(&self) -> bool;

    /// Adds the plugin's options to a command line.
    fn add_options(&self, command: Command) -> Command;

    /// Takes the plugin's options out of a parsed command line, completes them with `now`, lets the plugin
    /// check them, and encodes them for the job.
    ///
    /// # Errors
    /// When they do not parse or make no sense.
    fn read_options(&self, matches: &ArgMatches, now: SystemTime) -> Result<Vec<u8>, PluginError>;

    /// Adds up summaries at a client.
    ///
    /// # Errors
    /// When the server says that the plugin never acts, and it may: then nobody has asked whether it is allowed.
    fn merger(&self, job: &JobSpec) -> Result<Box<dyn Reduce>, PluginError>;

    /// Adds up summaries at the server.
    ///
    /// # Errors
    /// When the options are not such as [`AnyPlugin::read_options`] made, or are refused.
    fn reducer(&self, options: &[u8]) -> Result<Box<dyn ServerReducer>, PluginError>;

    /// Walks in this thread; see [`crate::serial`].
    ///
    /// # Errors
    /// When the options are refused, or results cannot be kept.
    fn walk_serially(
        &self,
        job: &JobSpec,
        watch: &mut Watch<'_>,
    ) -> Result<(Walked, Box<dyn ServerReducer>), SerialError>;

    /// Walks as a worker until the job or the control channel ends.
    ///
    /// # Errors
    /// When the options are refused, or the worker cannot go on.
    fn work(&self, session: WorkerSession) -> Result<(), WorkerError>;
}

/// Adds up a plugin's summaries at the server, and makes its part of the report.
pub trait ServerReducer: Send {
    /// Adds one encoded summary; nothing if it is empty.
    ///
    /// # Errors
    /// When the bytes are not a summary of the plugin, or it cannot be kept.
    fn merge(&mut self, delta: &[u8]) -> Result<(), ReduceError>;

    /// As [`Reduce::save`].
    ///
    /// # Errors
    /// When it cannot be encoded, or what is kept outside memory cannot be read.
    fn save(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> Result<(), ReduceError>;

    /// Merges a piece that [`ServerReducer::save`] has made.
    ///
    /// # Errors
    /// As [`ServerReducer::merge`].
    fn load(&mut self, piece: &[u8]) -> Result<(), ReduceError>;

    /// The plugin's part of the report.
    ///
    /// # Errors
    /// When what was kept outside memory cannot be read.
    fn report(self: Box<Self>, context: &ReportContext) -> Result<PluginReport, ReduceError>;
}

/// Lends `reducer` to a server, which knows no reports: what comes first is for the server, and the other
/// makes the report when the server is done.
#[must_use]
pub fn lend(reducer: Box<dyn ServerReducer>) -> (Box<dyn Reduce>, Lent) {
    let shared = Arc::new(Mutex::new(Some(reducer)));
    (Box::new(Lent(Arc::clone(&shared))), Lent(shared))
}

/// A reducer that was lent.
pub struct Lent(Arc<Mutex<Option<Box<dyn ServerReducer>>>>);

impl Lent {
    /// The plugin's part of the report. What is merged afterwards is lost.
    ///
    /// # Errors
    /// As [`ServerReducer::report`].
    pub fn report(self, context: &ReportContext) -> Result<PluginReport, ReduceError> {
        let reducer = self.lock().take();
        reducer.map_or_else(
            || Ok(PluginReport::default()),
            |reducer| reducer.report(context),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn ServerReducer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reduce for Lent {
    fn merge(&mut self, delta: &[u8]) -> Result<(), ReduceError> {
        match &mut *self.lock() {
            Some(reducer) => reducer.merge(delta),
            None => Ok(()),
        }
    }

    /// Nothing: the server has nobody to hand it to.
    fn take(&mut self) -> Result<Vec<u8>, ReduceError> {
        Ok(Vec::new())
    }

    fn save(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> Result<(), ReduceError> {
        match &mut *self.lock() {
            Some(reducer) => reducer.save(out),
            None => Ok(()),
        }
    }

    fn load(&mut self, piece: &[u8]) -> Result<(), ReduceError> {
        match &mut *self.lock() {
            Some(reducer) => reducer.load(piece),
            None => Ok(()),
        }
    }
}

struct Erased<P>(PhantomData<fn() -> P>);

impl<P: Plugin> Erased<P> {
    fn decode(options: &[u8]) -> Result<P::Options, PluginError> {
        serde_json::from_slice(options).map_err(Self::encoding)
    }

    fn visitor(options: &P::Options) -> Result<P::Visit, PluginError> {
        let visitor = P::visit(options).map_err(Self::refused)?;
        // Clients allow a plugin by what it says of itself before it is asked.
        if visitor.wants().acts && !P::ACTS {
            let reason = "it wants to act, and its ACTS says that it never does";
            return Err(Self::refused(reason.to_owned()));
        }
        Ok(visitor)
    }

    fn total(options: P::Options) -> Result<TotalReducer<P>, PluginError> {
        let total = P::total(&options).map_err(Self::refused)?;
        Ok(TotalReducer { options, total })
    }

    fn refused(reason: String) -> PluginError {
        let plugin = P::NAME;
        PluginError::Refused { plugin, reason }
    }

    fn encoding(source: serde_json::Error) -> PluginError {
        let plugin = P::NAME;
        PluginError::Encoding { plugin, source }
    }
}

impl<P: Plugin> AnyPlugin for Erased<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn about(&self) -> &'static str {
        P::ABOUT
    }

    fn notes(&self) -> &'static str {
        P::NOTES
    }

    fn acts(&self) -> bool {
        P::ACTS
    }

    fn has_rows(&self) -> bool {
        P::ROWS
    }

    fn add_options(&self, command: Command) -> Command {
        P::Options::augment_args(command)
    }

    fn read_options(&self, matches: &ArgMatches, now: SystemTime) -> Result<Vec<u8>, PluginError> {
        let mut options = P::Options::from_arg_matches(matches)?;
        P::prepare(&mut options, now);
        Self::visitor(&options)?;
        P::total(&options).map_err(Self::refused)?;
        let encoded = serde_json::to_vec(&options).map_err(Self::encoding)?;
        // What the workers will read must be readable.
        Self::decode(&encoded)?;
        Ok(encoded)
    }

    fn merger(&self, job: &JobSpec) -> Result<Box<dyn Reduce>, PluginError> {
        match P::ACTS && !job.acts {
            true => Err(Self::refused(
                "the server says that it never acts, and it may".to_owned(),
            )),
            false => Ok(Box::new(Merger::<SummaryOf<P>>::default())),
        }
    }

    fn reducer(&self, options: &[u8]) -> Result<Box<dyn ServerReducer>, PluginError> {
        Ok(Box::new(Self::total(Self::decode(options)?)?))
    }

    fn walk_serially(
        &self,
        job: &JobSpec,
        watch: &mut Watch<'_>,
    ) -> Result<(Walked, Box<dyn ServerReducer>), SerialError> {
        let options = Self::decode(&job.options)?;
        let visit = Self::visitor(&options)?;
        let mut reducer = Self::total(options)?;
        let walked = serial::walk(job, visit, watch, &mut |summary| reducer.total.add(summary))?;
        Ok((walked, Box::new(reducer)))
    }

    fn work(&self, session: WorkerSession) -> Result<(), WorkerError> {
        let options = Self::decode(&session.job().options)?;
        worker::run_visitor(session, Self::visitor(&options)?)
    }
}

struct TotalReducer<P: Plugin> {
    options: P::Options,
    total: P::Total,
}

impl<P: Plugin> ServerReducer for TotalReducer<P> {
    fn merge(&mut self, delta: &[u8]) -> Result<(), ReduceError> {
        match delta {
            [] => Ok(()),
            delta => self.total.add(codec::decode(delta)?),
        }
    }

    fn save(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> Result<(), ReduceError> {
        self.total.save(&mut |summary| {
            out(save_piece(summary)?);
            Ok(())
        })
    }

    fn load(&mut self, piece: &[u8]) -> Result<(), ReduceError> {
        self.total.add(load_piece(piece)?)
    }

    fn report(self: Box<Self>, context: &ReportContext) -> Result<PluginReport, ReduceError> {
        P::report(&self.options, self.total, context)
    }
}

#[cfg(test)]
mod tests;
