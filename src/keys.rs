//! Key files: where a server's and a client's key are kept, and how they are made and checked.
//!
//! A key directory holds `server.key` (private key and PSK) and `client.key` (PSK and the server's
//! public key), each a few lines of text:
//!
//! ```text
//! hydra-client-key 1
//! psk 3q2+7w...
//! server 9WyT1x...
//! ```
//!
//! Files appear whole or not at all and never replace others. What others could have read or
//! written is refused, as ssh refuses it. Keys are never taken from arguments or the environment;
//! this module is told the directory and reads neither.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hydra_proto::handshake::{ClientKey, KEY_BYTES, KeyError, ServerKey};
use hydra_proto::words::words;
use thiserror::Error;
use zeroize::Zeroizing;

mod file;
#[cfg(test)]
mod tests;

/// The server's key file in a key directory.
pub const SERVER_KEY_FILE: &str = "server.key";
/// The clients' key file in a key directory.
pub const CLIENT_KEY_FILE: &str = "client.key";

const SERVER_HEADER: &str = "hydra-server-key 1";
const CLIENT_HEADER: &str = "hydra-client-key 1";

/// Why a key file cannot be used or made. Each reads as one sentence that says what to do.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// A client without a key.
    #[error(
        "no client key at {}: copy {CLIENT_KEY_FILE} from the server's key directory \
         (there usually ~/.config/hydra/{CLIENT_KEY_FILE}) to this path",
        path.display()
    )]
    NoClientKey {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A server without a key.
    #[error("no server key at {}: make one with `hydra-server keygen`", path.display())]
    NoServerKey {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// No directory, and none to make it in.
    #[error(
        "there is no directory {}, and nothing to make it in: correct what names it (--key-dir, or else \
         XDG_CONFIG_HOME or HOME), or make the directory above it",
        path.display()
    )]
    NoParent {
        /// The directory that was to be made.
        path: PathBuf,
    },
    /// A key that would have been replaced.
    #[error("{} exists already: remove it first if its key is no longer needed", path.display())]
    Exists {
        /// The file in question.
        path: PathBuf,
    },
    /// A host that already holds the key of another server.
    #[error(
        "{} belongs to another server, whose key is not here: \
         choose another --key-dir for a server of this host's own",
        path.display()
    )]
    OtherServers {
        /// The client key in question.
        path: PathBuf,
    },
    /// A symbolic link.
    #[error("{} is a symbolic link: put the key file itself there", path.display())]
    Symlink {
        /// The file in question.
        path: PathBuf,
    },
    /// A directory, a pipe, a device.
    #[error("{} is not a regular file: put the key file there", path.display())]
    NotAFile {
        /// The file in question.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error(
        "{} belongs to user {owner}: it must belong to the user who runs Hydra, or to root",
        path.display()
    )]
    Owner {
        /// The file or directory in question.
        path: PathBuf,
        /// The number of its owner.
        owner: u32,
    },
    /// Open to others than its owner.
    #[error(
        "{} has mode {mode:04o}, open to other users: chmod {} it, and if others may have read it, \
         make a new key",
        path.display(),
        remedy
    )]
    Mode {
        /// The file or directory in question.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        remedy: &'static str,
    },
    /// Far longer than a key.
    #[error("{} is too long for a key file: copy it again, or make a new one", path.display())]
    Oversized {
        /// The file in question.
        path: PathBuf,
    },
    /// Not what the file should hold.
    #[error("{} is not a {kind} key ({problem}): copy it again, or make a new one", path.display())]
    Garbage {
        /// The file in question.
        path: PathBuf,
        /// Which key it should be: `server` or `client`.
        kind: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The operating system refuses.
    #[error("cannot {operation} {}: {}", path.display(), words(source))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// `hydra` in the user's configuration directory: below `xdg_config_home` if that is an absolute
/// path, otherwise in `.config` below `home`; `None` without either.
#[must_use]
pub fn default_key_dir(xdg_config_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let absolute = |path: &&OsStr| Path::new(path).is_absolute();
    let config = match xdg_config_home.filter(absolute) {
        Some(xdg) => PathBuf::from(xdg),
        None => Path::new(home.filter(absolute)?).join(".config"),
    };
    Some(config.join("hydra"))
}

/// Makes a new key and both its files in `dir`, which is made if only it is missing, or `.config` above
/// it too. Returns the key.
///
/// # Errors
///
/// [`KeyFileError::Exists`] if there is a key of either kind already, [`KeyFileError::NoParent`], and
/// whatever keeps the files from being written.
pub fn generate(dir: &Path) -> Result<ServerKey, KeyFileError> {
    file::create_dir(dir)?;
    for name in [SERVER_KEY_FILE, CLIENT_KEY_FILE] {
        if file::exists(dir, name)? {
            return Err(KeyFileError::Exists {
                path: dir.join(name),
            });
        }
    }
    let key = ServerKey::generate()?;
    file::create(dir, SERVER_KEY_FILE, &server_text(&key))?;
    file::create(dir, CLIENT_KEY_FILE, &client_text(&key.client_key()))?;
    Ok(key)
}

/// The server's key in `dir`.
///
/// # Errors
///
/// [`KeyFileError`]: [`KeyFileError::NoServerKey`] if there is none, otherwise what is wrong with
/// it.
pub fn load_server(dir: &Path) -> Result<ServerKey, KeyFileError> {
    let path = dir.join(SERVER_KEY_FILE);
    let Some(text) = file::read(dir, SERVER_KEY_FILE)? else {
        return Err(KeyFileError::NoServerKey { path });
    };
    match parse(&text, SERVER_HEADER, ["private", "psk"]) {
        Ok([private, psk]) => Ok(ServerKey::new(&private, &psk)?),
        Err(problem) => Err(KeyFileError::Garbage {
            path,
            kind: "server",
            problem,
        }),
    }
}

/// The client's key in `dir`.
///
/// # Errors
///
/// [`KeyFileError`]: [`KeyFileError::NoClientKey`] if there is none, otherwise what is wrong with
/// it.
pub fn load_client(dir: &Path) -> Result<ClientKey, KeyFileError> {
    let path = dir.join(CLIENT_KEY_FILE);
    let Some(text) = file::read(dir, CLIENT_KEY_FILE)? else {
        return Err(KeyFileError::NoClientKey { path });
    };
    match parse(&text, CLIENT_HEADER, ["psk", "server"]) {
        Ok([psk, server]) => Ok(ClientKey::new(&psk, &server)),
        Err(problem) => Err(KeyFileError::Garbage {
            path,
            kind: "client",
            problem,
        }),
    }
}

/// The server's key in `dir`, made if there is none, for a server that needs the network. Two
/// servers that do this at once end up with the same key. The second value is true for the one that
/// made it. A missing client key is written anew. `dir` is made as by [`generate`].
///
/// # Errors
///
/// [`KeyFileError`]: [`KeyFileError::OtherServers`] if the client key of some other server is there
/// and no server key, otherwise what is wrong with the files or keeps them from being written.
pub fn load_or_generate(dir: &Path) -> Result<(ServerKey, bool), KeyFileError> {
    file::create_dir(dir)?;
    let (key, is_new) = match load_server(dir) {
        Ok(key) => (key, false),
        Err(KeyFileError::NoServerKey { .. }) => make_server_key(dir)?,
        Err(error) => return Err(error),
    };
    match file::create(dir, CLIENT_KEY_FILE, &client_text(&key.client_key())) {
        Ok(()) | Err(KeyFileError::Exists { .. }) => Ok((key, is_new)),
        Err(error) => Err(error),
    }
}

fn make_server_key(dir: &Path) -> Result<(ServerKey, bool), KeyFileError> {
    if file::exists(dir, CLIENT_KEY_FILE)? && !file::exists(dir, SERVER_KEY_FILE)? {
        return Err(KeyFileError::OtherServers {
            path: dir.join(CLIENT_KEY_FILE),
        });
    }
    let key = ServerKey::generate()?;
    match file::create(dir, SERVER_KEY_FILE, &server_text(&key)) {
        Ok(()) => Ok((key, true)),
        // Another server was faster: its key is as good.
        Err(KeyFileError::Exists { .. }) => Ok((load_server(dir)?, false)),
        Err(error) => Err(error),
    }
}

type Secret = Zeroizing<[u8; KEY_BYTES]>;

fn server_text(key: &ServerKey) -> Zeroizing<String> {
    text(
        SERVER_HEADER,
        [("private", key.private()), ("psk", key.psk())],
    )
}

fn client_text(key: &ClientKey) -> Zeroizing<String> {
    text(
        CLIENT_HEADER,
        [("psk", key.psk()), ("server", key.server())],
    )
}

fn text(header: &str, parts: [(&str, &[u8; KEY_BYTES]); 2]) -> Zeroizing<String> {
    // Long enough never to be moved, which would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(256));
    text.push_str(header);
    for (name, bytes) in parts {
        text.push('\n');
        text.push_str(name);
        text.push(' ');
        STANDARD.encode_string(bytes, &mut text);
    }
    text.push('\n');
    text
}

/// The two parts named, in this order; or what is wrong.
fn parse(text: &[u8], header: &str, names: [&str; 2]) -> Result<[Secret; 2], &'static str> {
    let text = str::from_utf8(text).map_err(|_| "it is not text")?;
    let mut lines = text.lines().map(str::trim_end);
    match lines.next() {
        Some(first) if first == header => {}
        Some(SERVER_HEADER) => return Err("it is a server key"),
        Some(CLIENT_HEADER) => return Err("it is a client key"),
        _ => return Err("its first line is another"),
    }
    let mut part = |name: &str| {
        let (found, value) = lines.next()?.split_once(' ')?;
        (found == name).then(|| decode(value)).flatten()
    };
    let parts = part(names[0]).zip(part(names[1]));
    let (first, second) = parts.ok_or("a part is missing or damaged")?;
    if !lines.all(str::is_empty) {
        return Err("something follows the key");
    }
    Ok([first, second])
}

fn decode(value: &str) -> Option<Secret> {
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    match STANDARD.decode_slice(value, secret.as_mut_slice()) {
        Ok(KEY_BYTES) => Some(secret),
        _ => None,
    }
}
