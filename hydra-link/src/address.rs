//! Where to find a peer: `HOST[:PORT]`, host lists with ranges, and hostfiles, as people write them.
//!
//! ```text
//! node1                    node1 at the default port
//! host2:8200  [::1]:8200   a port of its own; an IPv6 address stands in brackets
//! node[3-6]  node[01-12]   a range; leading zeros are kept
//! rack[1-2]n[1,3-5]        several ranges, and lists within them
//! localhost:[8101-8103]    ports, too
//! a,b,node[3-6]            a list
//! ```
//!
//! Names are not resolved here.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv6Addr;

use thiserror::Error;

#[cfg(test)]
mod tests;

/// The most hosts that a list may name.
pub const HOSTS_MAX: usize = 100_000;
/// The longest host name, in bytes; no name service knows a longer one.
pub const HOST_BYTES_MAX: usize = 253;

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The TCP port. 0 means any, where it is to be listened on.
    pub port: u16,
}

/// A text that names no host: which text, where, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{}{problem}", line.map(|line| format!("line {line}: ")).unwrap_or_default(), quoted(text))]
pub struct AddressError {
    /// The text in question, cut short if it is long; empty where nothing stands.
    pub text: String,
    /// Its line in a hostfile, from 1.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub problem: AddressProblem,
}

fn quoted(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("{text:?}: "),
    }
}

/// What is wrong with an address, a range or a list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressProblem {
    /// Nothing where a host should stand.
    #[error("a host is missing")]
    Empty,
    /// The list as a whole names no host.
    #[error("it names no host")]
    NoHost,
    /// A character that no host name contains.
    #[error("a host name cannot contain {0:?}")]
    Character(char),
    /// The name is too long.
    #[error("a host name has at most {HOST_BYTES_MAX} bytes")]
    LongName,
    /// The port is not one.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// An IPv6 address without brackets.
    #[error("an IPv6 address stands in brackets: [{0}]")]
    Bare(String),
    /// What stands in brackets at the front is not an IPv6 address.
    #[error("{0:?} is not an IPv6 address")]
    Ipv6(String),
    /// A list or a range, where one host is asked for.
    #[error("one host is asked for here, and no range")]
    One,
    /// A bracket without its partner.
    #[error("a bracket is not closed, or was never opened")]
    Bracket,
    /// A bracket within a bracket.
    #[error("a range cannot contain another")]
    Nested,
    /// Part of a range is not a number or two.
    #[error("{0:?} is not a number or a range such as 3-6")]
    Range(String),
    /// The range ends before it begins.
    #[error("the range {0} runs backwards")]
    Backwards(String),
    /// Leading zeros at one end, another number of digits at the other.
    #[error("with leading zeros both ends of {0} need the same number of digits")]
    Digits(String),
    /// Too many hosts.
    #[error("it names more than {HOSTS_MAX} hosts")]
    TooMany,
}

impl HostPort {
    /// Reads `HOST` or `HOST:PORT`, to listen there; without a port it is `port_default`.
    ///
    /// # Errors
    ///
    /// [`AddressError`].
    pub fn parse(text: &str, port_default: u16) -> Result<Self, AddressError> {
        parse_one(text.trim(), port_default).map_err(|problem| AddressError::new(text, problem))
    }

    /// Reads `HOST` or `HOST:PORT`, to dial: port 0 is none.
    ///
    /// # Errors
    ///
    /// [`AddressError`].
    pub fn parse_peer(text: &str, port_default: u16) -> Result<Self, AddressError> {
        parse_peer(text.trim(), port_default).map_err(|problem| match problem {
            AddressProblem::Bracket if split_list(text).is_ok() && text.contains('[') => {
                AddressError::new(text, AddressProblem::One)
            }
            problem => AddressError::new(text, problem),
        })
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads a list such as `host1,host2:8200,node[3-6]`, in its order; a host named twice counts once.
///
/// # Errors
///
/// [`AddressError`], also for a list without any host.
pub fn parse_hosts(text: &str, port_default: u16) -> Result<Vec<HostPort>, AddressError> {
    let mut hosts = Hosts::new(port_default);
    hosts.add_list(text)?;
    hosts.finish(text)
}

/// Reads the text of a hostfile: a host, a range or a list per line, `#` begins a comment, in its
/// order; a host named twice counts once.
///
/// # Errors
///
/// [`AddressError`], also for a file without any host.
pub fn parse_hostfile(text: &str, port_default: u16) -> Result<Vec<HostPort>, AddressError> {
    let mut hosts = Hosts::new(port_default);
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        hosts.add_list(entry).map_err(|error| AddressError {
            line: Some(index + 1),
            ..error
        })?;
    }
    hosts.finish("")
}

impl AddressError {
    fn new(text: &str, problem: AddressProblem) -> Self {
        const SHOWN_MAX: usize = 80;
        let mut shown: String = text.chars().take(SHOWN_MAX).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self {
            text: shown,
            line: None,
            problem,
        }
    }
}

/// Hosts gathered so far.
struct Hosts {
    port_default: u16,
    list: Vec<HostPort>,
    known: HashSet<HostPort>,
}

impl Hosts {
    fn new(port_default: u16) -> Self {
        Self {
            port_default,
            list: Vec::new(),
            known: HashSet::new(),
        }
    }

    fn add_list(&mut self, text: &str) -> Result<(), AddressError> {
        let entries = split_list(text).map_err(|problem| AddressError::new(text, problem))?;
        for entry in entries {
            self.add_entry(entry.trim())
                .map_err(|problem| AddressError::new(entry.trim(), problem))?;
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: &str) -> Result<(), AddressProblem> {
        for name in expand(entry)? {
            let host = parse_peer(&name, self.port_default)?;
            if self.known.insert(host.clone()) {
                self.list.push(host);
            }
            if self.list.len() > HOSTS_MAX {
                return Err(AddressProblem::TooMany);
            }
        }
        Ok(())
    }

    fn finish(self, text: &str) -> Result<Vec<HostPort>, AddressError> {
        if self.list.is_empty() {
            return Err(AddressError::new(text, AddressProblem::NoHost));
        }
        Ok(self.list)
    }
}

fn parse_peer(text: &str, port_default: u16) -> Result<HostPort, AddressProblem> {
    match parse_one(text, port_default)? {
        HostPort { port: 0, .. } => Err(AddressProblem::Port),
        host => Ok(host),
    }
}

fn parse_one(text: &str, port_default: u16) -> Result<HostPort, AddressProblem> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']').ok_or(AddressProblem::Bracket)?;
            check_ipv6(address)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => return Err(AddressProblem::Port),
            };
            (address, port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(AddressProblem::Bare(text.into()));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            check_name(host)?;
            (host, port)
        }
    };
    Ok(HostPort {
        host: host.into(),
        port: port.map_or(Ok(port_default), parse_port)?,
    })
}

fn parse_port(text: &str) -> Result<u16, AddressProblem> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressProblem::Port);
    }
    text.parse().map_err(|_| AddressProblem::Port)
}

fn check_name(host: &str) -> Result<(), AddressProblem> {
    if host.is_empty() {
        return Err(AddressProblem::Empty);
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(AddressProblem::LongName);
    }
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    match host.chars().find(|&c| !is_allowed(c)) {
        Some('[' | ']') => Err(AddressProblem::Bracket),
        Some(character) => Err(AddressProblem::Character(character)),
        None => Ok(()),
    }
}

/// An IPv6 address, perhaps with the name of an interface (`fe80::1%eth0`).
fn check_ipv6(text: &str) -> Result<(), AddressProblem> {
    let (address, zone) = text.split_once('%').unwrap_or((text, "-"));
    if address.parse::<Ipv6Addr>().is_err() || check_name(zone).is_err() {
        return Err(AddressProblem::Ipv6(text.into()));
    }
    Ok(())
}

/// Splits at the commas outside brackets.
fn split_list(text: &str) -> Result<Vec<&str>, AddressProblem> {
    let mut entries = Vec::new();
    let mut depth = 0usize;
    let mut start = 0;
    for (position, character) in text.char_indices() {
        match character {
            '[' if depth == 1 => return Err(AddressProblem::Nested),
            '[' => depth += 1,
            ']' => depth = depth.checked_sub(1).ok_or(AddressProblem::Bracket)?,
            ',' if depth == 0 => {
                entries.push(text.get(start..position).unwrap_or_default());
                start = position + 1;
            }
            _ => {}
        }
    }
    if depth != 0 {
        return Err(AddressProblem::Bracket);
    }
    entries.push(text.get(start..).unwrap_or_default());
    Ok(entries)
}

/// All names that an entry with any number of ranges stands for.
fn expand(entry: &str) -> Result<Vec<String>, AddressProblem> {
    let mut names = vec![String::new()];
    let mut rest = entry;
    if let Some(end) = leading_ipv6(entry) {
        let (address, after) = entry.split_at(end);
        names = vec![address.into()];
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('[') {
        let (range, tail) = after.split_once(']').ok_or(AddressProblem::Bracket)?;
        let numbers = expand_range(range)?;
        if names.len().saturating_mul(numbers.len()) > HOSTS_MAX {
            return Err(AddressProblem::TooMany);
        }
        check_growth(&names, before)?;
        names = names
            .iter()
            .flat_map(|name| numbers.iter().map(move |n| format!("{name}{before}{n}")))
            .collect();
        rest = tail;
    }
    check_growth(&names, rest)?;
    for name in &mut names {
        name.push_str(rest);
    }
    Ok(names)
}

/// Names that are too long are refused before they are multiplied. The port and brackets are
/// allowed for; each name is checked on its own later.
fn check_growth(names: &[String], more: &str) -> Result<(), AddressProblem> {
    const AROUND_BYTES_MAX: usize = 16;
    let longest = names.iter().map(String::len).max().unwrap_or_default();
    if longest + more.len() > HOST_BYTES_MAX + AROUND_BYTES_MAX {
        return Err(AddressProblem::LongName);
    }
    Ok(())
}

/// Where the bracketed IPv6 address at the front of `entry` ends, if there is one.
fn leading_ipv6(entry: &str) -> Option<usize> {
    let end = entry.find(']')?;
    let inner = entry.get(..end)?.strip_prefix('[')?;
    inner.contains(':').then_some(end + 1)
}

/// The numbers of `1,3-5`, as they are to be written.
fn expand_range(range: &str) -> Result<Vec<String>, AddressProblem> {
    let mut numbers = Vec::new();
    for part in range.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(low), Some(high)) = (number(first), number(last)) else {
            return Err(AddressProblem::Range(part.into()));
        };
        if low > high {
            return Err(AddressProblem::Backwards(part.into()));
        }
        let is_padded = [first, last]
            .iter()
            .any(|n| n.len() > 1 && n.starts_with('0'));
        if is_padded && first.len() != last.len() {
            return Err(AddressProblem::Digits(part.into()));
        }
        let count = usize::try_from(high - low).unwrap_or(usize::MAX);
        if numbers.len().saturating_add(count) >= HOSTS_MAX {
            return Err(AddressProblem::TooMany);
        }
        let width = if is_padded { first.len() } else { 0 };
        numbers.extend((low..=high).map(|n| format!("{n:0width$}")));
    }
    Ok(numbers)
}

/// A decimal number of up to 18 digits, nothing else: no sign, no space.
fn number(text: &str) -> Option<u64> {
    let is_number = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}
