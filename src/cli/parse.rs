//! From arguments to a request: which role, which plugin, and its configuration.

use super::client_args::ClientArgs;
use super::client_config::{self, ClientConfig};
use super::environment::Environment;
use super::error::UsageError;
use super::logging::{LogConfig, Usual};
use super::operand::{Verb, Word, take_word};
use super::server_args::{KeygenArgs, ResumeArgs, ServerArgs, StatusArgs};
use super::server_config::{self, ServerConfig};
use super::state::{self, ResumeConfig, StatusConfig};
use crate::registry::{AnyPlugin, Registry};
use crate::report::escape;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Args as _, Command, CommandFactory as _, FromArgMatches as _};
use std::any::TypeId;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A program: its name, its plugins and what it may be.
pub(super) struct Program<'a> {
    pub(super) name: &'a str,
    pub(super) roles: Roles,
    pub(super) registry: &'a Registry,
}

/// The roles that people may ask a program for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Roles {
    Server,
    Client,
    All,
}

/// What a command line asks for.
pub(super) enum Request {
    Serve(Box<ServerConfig>),
    Client(ClientConfig),
    Keygen(KeygenConfig),
    Resume(ResumeConfig),
    Status(StatusConfig),
}

/// How to make keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeygenConfig {
    /// Where to put them; none without a home and an option.
    pub key_dir: Option<PathBuf>,
    /// Which messages are shown.
    pub log: LogConfig,
}

impl Program<'_> {
    /// Reads `args`, without the program's name.
    pub(super) fn parse(
        &self,
        mut args: Vec<OsString>,
        environment: &Environment,
    ) -> Result<Request, UsageError> {
        self.registry.check()?;
        if self.roles == Roles::Client {
            return self.client(args, self.name, environment);
        }
        let scanned = match args.first().is_some_and(|arg| !is_option(arg)) {
            // No option stands before it.
            true => Command::new("hydra"),
            false => self.scanned()?,
        };
        match take_word(&mut args, &scanned, self.registry, self.verbs())? {
            Word::Nothing | Word::Verb(Verb::Server) => self.server(args, None, environment),
            Word::Plugin(plugin) => self.server(args, Some(&plugin), environment),
            Word::Verb(Verb::Keygen) => self.keygen(args, environment),
            Word::Verb(Verb::Resume) => self.resume(args, environment),
            Word::Verb(Verb::Status) => self.status(args),
            Word::Verb(Verb::Client) => {
                self.client(args, &format!("{} client", self.name), environment)
            }
        }
    }

    fn verbs(&self) -> &'static [(&'static str, Verb)] {
        match self.roles {
            Roles::All => &[
                ("server", Verb::Server),
                ("client", Verb::Client),
                ("keygen", Verb::Keygen),
                ("resume", Verb::Resume),
                ("status", Verb::Status),
            ],
            Roles::Server | Roles::Client => &[
                ("keygen", Verb::Keygen),
                ("resume", Verb::Resume),
                ("status", Verb::Status),
            ],
        }
    }

    /// The options that may stand before the first operand, which decides about all others.
    fn scanned(&self) -> Result<Command, UsageError> {
        let command = server_options(self.name);
        match self.registry.default_plugin() {
            Some(plugin) => with_plugin(command, &**plugin),
            None => Ok(command),
        }
    }

    fn server(
        &self,
        args: Vec<OsString>,
        named: Option<&Arc<dyn AnyPlugin>>,
        environment: &Environment,
    ) -> Result<Request, UsageError> {
        let plugin = named.or(self.registry.default_plugin());
        let plugin = plugin.ok_or(crate::registry::RegistryError::Empty)?;
        let command = match named {
            Some(plugin) => self.plugin_command(&**plugin)?,
            None => self.general_command(&**plugin)?,
        };
        let matches = read(command, args).map_err(|error| self.foreign(error, plugin))?;
        let typed = ServerArgs::from_arg_matches(&matches)?;
        let config = server_config::resolve(typed, &matches, plugin, environment)?;
        Ok(Request::Serve(Box::new(config)))
    }

    /// Says of an option that the plugin does not know, and another has, whose it is.
    fn foreign(&self, error: UsageError, plugin: &Arc<dyn AnyPlugin>) -> UsageError {
        let UsageError::Clap(unknown) = &error else {
            return error;
        };
        let (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) =
            (unknown.kind(), unknown.get(ContextKind::InvalidArg))
        else {
            return error;
        };
        let has = |other: &&Arc<dyn AnyPlugin>| {
            let command = other.add_options(Command::new(other.name()));
            let mut longs = command.get_arguments().filter_map(Arg::get_long);
            longs.any(|long| option.strip_prefix("--") == Some(long))
        };
        match self.registry.iter().find(has) {
            Some(other) => UsageError::Options(format!(
                "{} has no option {option}: it is one of {}",
                plugin.name(),
                other.name()
            )),
            None => error,
        }
    }

    fn client(
        &self,
        args: Vec<OsString>,
        name: &str,
        environment: &Environment,
    ) -> Result<Request, UsageError> {
        let matches = parse_plain(ClientArgs::command(), name, args)?;
        let typed = ClientArgs::from_arg_matches(&matches)?;
        let config = client_config::resolve(typed, self.registry, environment)?;
        Ok(Request::Client(config))
    }

    fn keygen(
        &self,
        args: Vec<OsString>,
        environment: &Environment,
    ) -> Result<Request, UsageError> {
        let name = format!("{} keygen", self.name);
        let matches = parse_plain(KeygenArgs::command(), &name, args)?;
        let typed = KeygenArgs::from_arg_matches(&matches)?;
        Ok(Request::Keygen(KeygenConfig {
            key_dir: typed.key_dir.or_else(|| environment.key_dir.clone()),
            log: typed
                .log
                .resolve(Usual::Warnings, environment.rust_log.clone())?,
        }))
    }

    fn resume(
        &self,
        args: Vec<OsString>,
        environment: &Environment,
    ) -> Result<Request, UsageError> {
        let name = format!("{} resume", self.name);
        let matches = parse_plain(ResumeArgs::command(), &name, args)?;
        let typed = ResumeArgs::from_arg_matches(&matches)?;
        Ok(Request::Resume(state::resolve(typed, environment)?))
    }

    fn status(&self, args: Vec<OsString>) -> Result<Request, UsageError> {
        let name = format!("{} status", self.name);
        let matches = parse_plain(StatusArgs::command(), &name, args)?;
        let StatusArgs { dir, json } = StatusArgs::from_arg_matches(&matches)?;
        Ok(Request::Status(StatusConfig { dir, json }))
    }

    /// No plugin is named: the default one's options are there. The help names all plugins; the options of one that
    /// is alone are the program's own, and are shown.
    fn general_command(&self, plugin: &dyn AnyPlugin) -> Result<Command, UsageError> {
        let general = server_options(self.name);
        let own = ids(&general);
        let command = with_plugin(general, plugin)?.override_usage(self.usage());
        let mut command = match self.has_one_plugin() {
            true => {
                return Ok(command
                    .about(plugin.about())
                    .after_help(self.after_help(plugin)));
            }
            false => command.after_help(self.after_help(plugin)),
        };
        for id in ids(&command) {
            if !own.contains(&id) {
                command = command.mut_arg(id, |arg| arg.hide(true));
            }
        }
        Ok(command)
    }

    fn has_one_plugin(&self) -> bool {
        self.registry.iter().count() == 1
    }

    /// All that the program can be asked for.
    fn usage(&self) -> String {
        let name = self.name;
        let mut lines = vec![match self.has_one_plugin() {
            true => format!("{name} [OPTIONS] PATH..."),
            false => format!("{name} [OPTIONS] [PLUGIN [PLUGIN OPTIONS]] PATH..."),
        }];
        if self.roles == Roles::All {
            lines.push(format!("{name} client --listen | --connect HOST"));
        }
        for command in ["keygen", "resume DIR", "status DIR"] {
            lines.push(format!("{name} {command}"));
        }
        lines.join("\n       ")
    }

    /// A plugin is named: the help shows its options only.
    fn plugin_command(&self, plugin: &dyn AnyPlugin) -> Result<Command, UsageError> {
        let (name, word) = (self.name, plugin.name());
        let general = server_options(name).mut_args(|arg| arg.hide(true));
        let command = with_plugin(general, plugin)?;
        Ok(command
            .about(plugin.about())
            .override_usage(format!("{name} [OPTIONS] {word} [PLUGIN OPTIONS] PATH..."))
            .after_help(match plugin.notes() {
                "" => format!("All other options: {name} --help"),
                notes => format!("{notes}\n\nAll other options: {name} --help"),
            }))
    }

    fn after_help(&self, default: &dyn AnyPlugin) -> String {
        let name = self.name;
        let mut text = String::from("Plugins:\n");
        for plugin in self.registry.iter() {
            let mark = match plugin.name() == default.name() {
                true => " (default)",
                false => "",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {:<10} {}{mark}", plugin.name(), plugin.about());
        }
        text.push('\n');
        if !self.has_one_plugin() {
            let _ = writeln!(text, "A plugin's options: {name} {} --help", default.name());
        }
        if self.roles == Roles::All {
            let _ = writeln!(text, "A client's options: {name} client --help");
        }
        if self.has_one_plugin() && !default.notes().is_empty() {
            let _ = write!(text, "\n{}\n\n", default.notes());
        }
        let _ = write!(
            text,
            "A path with the name of a plugin or command is written ./NAME. Times: 500ms, 2s, 5m, 12h, 90d.\n\
             Exit status: 0 complete, 1 some entries could not be read, 2 wrong usage, 3 incomplete, \
             4 nothing was walked, 130 interrupted"
        );
        text
    }
}

/// The server's own options.
fn server_options(name: &str) -> Command {
    ServerArgs::augment_args(Command::new("hydra"))
        .bin_name(name)
        .display_name(name)
        .no_binary_name(true)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Walk file trees with many workers on many hosts, and get one exact answer")
}

/// Adds a plugin's options.
fn with_plugin(general: Command, plugin: &dyn AnyPlugin) -> Result<Command, UsageError> {
    // Looked at on their own first: the parser does not report a clash, it panics.
    let alone = plugin.add_options(Command::new(plugin.name()));
    if let Some(option) = clash(&general, &alone) {
        return Err(UsageError::OptionTwice {
            plugin: plugin.name(),
            option,
        });
    }
    let about = general.get_about().cloned().unwrap_or_default();
    let command = plugin.add_options(general.next_help_heading("Options of the plugin"));
    // A plugin's doc comments must not replace the program's.
    Ok(command.about(about).long_about(None))
}

pub(super) fn clash(general: &Command, plugin: &Command) -> Option<String> {
    for arg in plugin.get_arguments() {
        let long = arg.get_long().filter(|long| {
            let mut own = general.get_arguments().filter_map(clap::Arg::get_long);
            matches!(*long, "help" | "version") || own.any(|known| known == *long)
        });
        let short = arg.get_short().filter(|short| {
            let mut own = general.get_arguments().filter_map(clap::Arg::get_short);
            matches!(short, 'h' | 'V') || own.any(|known| known == *short)
        });
        let id = arg.get_id();
        let same = general.get_arguments().any(|known| known.get_id() == id);
        let long = long.map(|long| format!("--{long}"));
        let short = short.map(|short| format!("-{short}"));
        if let Some(option) = long.or(short).or(same.then(|| id.to_string())) {
            return Some(option);
        }
    }
    let mut groups = plugin.get_groups().map(clap::ArgGroup::get_id);
    let taken = |id: &&clap::Id| general.get_groups().any(|known| known.get_id() == *id);
    groups.find(taken).map(ToString::to_string)
}

fn ids(command: &Command) -> Vec<clap::Id> {
    let ids = command.get_arguments().map(|arg| arg.get_id().clone());
    ids.collect()
}

fn parse_plain(
    command: Command,
    name: &str,
    args: Vec<OsString>,
) -> Result<ArgMatches, UsageError> {
    let command = command
        .bin_name(name)
        .display_name(name)
        .no_binary_name(true)
        .version(env!("CARGO_PKG_VERSION"));
    read(command, args)
}

/// Parses `args`; what the parser says of bytes that are no text names no option.
fn read(command: Command, args: Vec<OsString>) -> Result<ArgMatches, UsageError> {
    if args.iter().all(|arg| arg.to_str().is_some()) {
        return Ok(command.try_get_matches_from(args)?);
    }
    let known = command.clone();
    let outcome = command.try_get_matches_from(args.clone());
    outcome.map_err(|error| match error.kind() {
        ErrorKind::InvalidUtf8 => no_text(&known, &args).unwrap_or(UsageError::Clap(error)),
        _ => UsageError::Clap(error),
    })
}

fn is_option(arg: &OsString) -> bool {
    arg.as_bytes().starts_with(b"-")
}

/// The first value among `args` that must be text and is not.
fn no_text(command: &Command, args: &[OsString]) -> Option<UsageError> {
    let mut before: &[u8] = b"";
    for arg in args {
        let word = arg.as_bytes();
        if arg.to_str().is_none()
            && let Some((option, value)) = typed_value(command, before, word)
            && takes_text(option)
        {
            let name = match (option.get_long(), option.get_short()) {
                (Some(long), _) => format!("--{long}"),
                (None, Some(short)) => format!("-{short}"),
                (None, None) => return None,
            };
            let text = format!("{name}: '{}' is not UTF-8", escape(value));
            return Some(UsageError::Options(text));
        }
        before = word;
    }
    None
}

/// The option of which `word`, behind the word `before`, is or has a value.
fn typed_value<'c, 'w>(
    command: &'c Command,
    before: &[u8],
    word: &'w [u8],
) -> Option<(&'c Arg, &'w [u8])> {
    let long = |name: &[u8]| {
        let is_it = |arg: &&Arg| arg.get_long().is_some_and(|known| known.as_bytes() == name);
        command.get_arguments().find(is_it)
    };
    let short = |letter: u8| {
        let is_it = |arg: &&Arg| arg.get_short() == Some(char::from(letter));
        command.get_arguments().find(is_it)
    };
    match (word, before) {
        ([b'-', b'-', rest @ ..], _) => {
            let end = rest.iter().position(|&byte| byte == b'=')?;
            let (name, value) = rest.split_at(end);
            Some((long(name)?, value.get(1..)?))
        }
        ([b'-', letter, value @ ..], _) => Some((short(*letter)?, value)),
        (_, [b'-', b'-', name @ ..]) => Some((long(name)?, word)),
        (_, [b'-', .., letter]) => Some((short(*letter)?, word)),
        _ => None,
    }
}

fn takes_text(arg: &Arg) -> bool {
    let parsed = arg.get_value_parser().type_id();
    let bytes = [TypeId::of::<OsString>(), TypeId::of::<PathBuf>()];
    arg.get_action().takes_values() && !bytes.iter().any(|id| parsed == *id)
}
