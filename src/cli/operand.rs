//! The first operand: it may name a plugin or a command, and with that decides which options there are.
//!
//! Only looks for it. What an option means is left to the parser that runs afterwards.

use super::error::{UsageError, shown};
use crate::registry::{AnyPlugin, Registry};
use clap::{Arg, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Commands that are no plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Make keys.
    Keygen,
    /// Go on with a job.
    Resume,
    /// Say how far a job is.
    Status,
    /// Be a client.
    Client,
    /// Be a server, which is what happens without a word too.
    Server,
}

/// What a command line asks for.
pub(super) enum Word {
    /// The default plugin: there is no operand, or the first one is a path.
    Nothing,
    /// A plugin by its name.
    Plugin(Arc<dyn AnyPlugin>),
    /// A command.
    Verb(Verb),
}

/// Finds the first operand among `args`, without the program's name, and takes it out if it is a name.
/// `command` holds the options that may stand before it.
pub(super) fn take_word(
    args: &mut Vec<OsString>,
    command: &Command,
    registry: &Registry,
    verbs: &[(&str, Verb)],
) -> Result<Word, UsageError> {
    let Some(index) = first_operand(args, command) else {
        return Ok(Word::Nothing);
    };
    let name = match args.get(index) {
        Some(operand) if is_name(operand) => operand.clone(),
        _ => return Ok(Word::Nothing),
    };
    let verb = verbs.iter().find(|(word, _)| *word == name.as_os_str());
    let plugin = || name.to_str().and_then(|name| registry.get(name));
    let word = match verb {
        Some((_, verb)) => Word::Verb(*verb),
        None => match plugin() {
            Some(plugin) => Word::Plugin(Arc::clone(plugin)),
            None if follows_listen(args, index) => {
                let name = shown(&name);
                let text = format!("--listen takes its address behind a '=': --listen={name}");
                return Err(UsageError::Options(text));
            }
            None => return Err(unknown(&name, registry, verbs)),
        },
    };
    args.remove(index);
    Ok(word)
}

/// Whether an operand is a name: a path has a slash, or is one of the two that need none.
fn is_name(operand: &OsStr) -> bool {
    let bytes = operand.as_bytes();
    !bytes.is_empty() && !bytes.contains(&b'/') && bytes != b"." && bytes != b".."
}

fn follows_listen(args: &[OsString], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| args.get(before));
    before.is_some_and(|before| before == "--listen")
}

fn unknown(name: &OsStr, registry: &Registry, verbs: &[(&str, Verb)]) -> UsageError {
    let plugins = registry.iter().map(|plugin| plugin.name());
    let known: Vec<_> = plugins.chain(verbs.iter().map(|(word, _)| *word)).collect();
    UsageError::UnknownName {
        name: shown(name),
        known: known.join(", "),
    }
}

/// The place of the first operand. None if there is none, or if an unknown option stands before it: the
/// parser will complain about that.
fn first_operand(args: &[OsString], command: &Command) -> Option<usize> {
    let mut index = 0;
    while let Some(arg) = args.get(index) {
        let bytes = arg.as_bytes();
        let next_is_value = match bytes {
            b"--" => return args.get(index + 1).map(|_| index + 1),
            [b'-', b'-', long @ ..] => long_takes_next(long, command)?,
            [b'-', shorts @ ..] if !shorts.is_empty() => shorts_take_next(shorts, command)?,
            _ => return Some(index),
        };
        index += 1;
        let value = |next: &OsString| next == "-" || !next.as_bytes().starts_with(b"-");
        index += usize::from(next_is_value && args.get(index).is_some_and(value));
    }
    None
}

fn long_takes_next(long: &[u8], command: &Command) -> Option<bool> {
    let name = long.split(|&b| b == b'=').next()?;
    if name == b"help" || name == b"version" {
        return Some(false);
    }
    let matches = |arg: &&Arg| arg.get_long().is_some_and(|known| known.as_bytes() == name);
    let arg = command.get_arguments().find(matches)?;
    Some(takes_next(arg) && name.len() == long.len())
}

fn shorts_take_next(shorts: &[u8], command: &Command) -> Option<bool> {
    for (index, short) in shorts.iter().enumerate() {
        if matches!(short, b'h' | b'V') {
            continue;
        }
        let matches = |arg: &&Arg| arg.get_short() == Some(char::from(*short));
        let arg = command.get_arguments().find(matches)?;
        if arg.get_action().takes_values() {
            return Some(takes_next(arg) && index + 1 == shorts.len());
        }
    }
    Some(false)
}

fn takes_next(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::server_args::ServerArgs;
    use clap::Args as _;

    fn operand(line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let command = ServerArgs::augment_args(Command::new("test"));
        let index = first_operand(&args, &command)?;
        args.get(index)
            .and_then(|arg| arg.to_str())
            .map(str::to_owned)
    }

    #[test]
    fn options_and_their_values_are_no_operands() {
        for line in [
            "audit /data",
            "--json audit",
            "--grace 5s audit --json",
            "--grace=5s audit",
            "-x -vv -E *.o audit",
            "-xE*.o audit",
            "--listen audit",
            "--listen=:1 audit",
            "--rows - audit",
            "-- audit",
        ] {
            assert_eq!(operand(line).as_deref(), Some("audit"), "{line}");
        }
    }

    #[test]
    fn without_an_operand_there_is_none() {
        for line in [
            "",
            "--json",
            "--grace 5s",
            "--",
            "--no-such audit",
            "-Z audit",
        ] {
            assert_eq!(operand(line), None, "{line}");
        }
    }
}
