//! The two keys: what a server holds, and what it gives to its clients.
//!
//! Where keys are stored is not decided here.

use std::fmt;

use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// Length of each part of a key, in bytes.
pub const KEY_BYTES: usize = 32;

/// The system's random generator, or the curve, could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot make a key: {0}")]
pub struct KeyError(String);

/// What a server holds: its private key, from which its public key follows, and the secret that
/// it shares with all its clients (PSK). Wiped from memory on drop; `Debug` shows no secret.
#[derive(Clone)]
pub struct ServerKey {
    private: Zeroizing<[u8; KEY_BYTES]>,
    psk: Zeroizing<[u8; KEY_BYTES]>,
    public: [u8; KEY_BYTES],
}

/// What a client holds: the shared secret (PSK) and the server's public key. Its holder can talk to
/// this server and to nobody else's clients. Wiped from memory on drop; `Debug` shows no secret.
#[derive(Clone)]
pub struct ClientKey {
    psk: Zeroizing<[u8; KEY_BYTES]>,
    server: [u8; KEY_BYTES],
}

/// One side's key; it says which side this is.
#[derive(Debug, Clone)]
pub enum Key {
    /// This side is the server.
    Server(ServerKey),
    /// This side is a client.
    Client(ClientKey),
}

impl ServerKey {
    /// A new key from the system's secure random generator.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut private = Zeroizing::new([0; KEY_BYTES]);
        let mut psk = Zeroizing::new([0; KEY_BYTES]);
        let mut random = DefaultResolver
            .resolve_rng()
            .ok_or_else(|| KeyError("no random generator".into()))?;
        for secret in [&mut private, &mut psk] {
            random
                .try_fill_bytes(secret.as_mut_slice())
                .map_err(|error| KeyError(error.to_string()))?;
        }
        Self::new(&private, &psk)
    }

    /// The key made of these two secrets.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the curve is not compiled in.
    pub fn new(private: &[u8; KEY_BYTES], psk: &[u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let mut curve = DefaultResolver
            .resolve_dh(&DHChoice::Curve25519)
            .ok_or_else(|| KeyError("no Curve25519".into()))?;
        curve.set(private);
        let public = curve
            .pubkey()
            .try_into()
            .map_err(|_| KeyError("public key of another length".into()))?;
        Ok(Self {
            private: Zeroizing::new(*private),
            psk: Zeroizing::new(*psk),
            public,
        })
    }

    /// The key for this server's clients.
    #[must_use]
    pub fn client_key(&self) -> ClientKey {
        ClientKey::new(&self.psk, &self.public)
    }

    /// The private key. Secret.
    #[must_use]
    pub fn private(&self) -> &[u8; KEY_BYTES] {
        &self.private
    }

    /// The shared secret. Secret.
    #[must_use]
    pub fn psk(&self) -> &[u8; KEY_BYTES] {
        &self.psk
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &[u8; KEY_BYTES] {
        &self.public
    }
}

impl ClientKey {
    /// The key made of the shared secret and the server's public key.
    #[must_use]
    pub fn new(psk: &[u8; KEY_BYTES], server: &[u8; KEY_BYTES]) -> Self {
        Self {
            psk: Zeroizing::new(*psk),
            server: *server,
        }
    }

    /// The shared secret. Secret.
    #[must_use]
    pub fn psk(&self) -> &[u8; KEY_BYTES] {
        &self.psk
    }

    /// The server's public key.
    #[must_use]
    pub fn server(&self) -> &[u8; KEY_BYTES] {
        &self.server
    }
}

impl Key {
    /// The shared secret. Secret.
    #[must_use]
    pub fn psk(&self) -> &[u8; KEY_BYTES] {
        match self {
            Key::Server(key) => key.psk(),
            Key::Client(key) => key.psk(),
        }
    }

    /// Whether this is the server's side.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self, Key::Server(_))
    }
}

impl From<ServerKey> for Key {
    fn from(key: ServerKey) -> Self {
        Key::Server(key)
    }
}

impl From<ClientKey> for Key {
    fn from(key: ClientKey) -> Self {
        Key::Client(key)
    }
}

impl PartialEq for ServerKey {
    fn eq(&self, other: &Self) -> bool {
        (self.private.ct_eq(other.private.as_slice()) & self.psk.ct_eq(other.psk.as_slice())).into()
    }
}

impl Eq for ServerKey {}

impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        (self.psk.ct_eq(other.psk.as_slice()) & self.server.ct_eq(&other.server)).into()
    }
}

impl Eq for ClientKey {}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").finish_non_exhaustive()
    }
}
