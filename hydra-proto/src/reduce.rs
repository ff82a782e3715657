//! The half of a plugin that runs at parents: adding up what workers found.

use crate::codec::{self, CodecError};
use serde::{Serialize, de::DeserializeOwned};

/// What a plugin adds up: a value that can be merged in any order, any grouping.
pub trait Summary: Default + Send + Serialize + DeserializeOwned + 'static {
    /// Adds `other` to this. Must be associative and commutative, or the report depends on timing.
    fn merge(&mut self, other: Self);
}

impl Summary for () {
    fn merge(&mut self, (): Self) {}
}

/// Why a delta could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum ReduceError {
    /// The bytes are not a summary of this plugin.
    #[error("a summary of the plugin could not be read: is the client the same build?")]
    Decode(#[from] CodecError),
    /// The reducer's own storage failed.
    #[error("the plugin's summary could not be kept in {path}")]
    Storage {
        /// What was being written.
        path: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// Adds up encoded summaries without knowing their type. A client merges what its workers send and
/// hands the sum up with its next commit; the server merges for the report.
pub trait Reduce: Send {
    /// Adds one encoded summary.
    ///
    /// # Errors
    /// When the bytes are not a summary, or it cannot be kept. The commit that brought it must then
    /// not be acknowledged.
    fn merge(&mut self, delta: &[u8]) -> Result<(), ReduceError>;

    /// Encodes what was merged since the last call, and forgets it. Empty when there is nothing.
    ///
    /// # Errors
    /// When the summary is larger than a commit may be.
    fn take(&mut self) -> Result<Vec<u8>, ReduceError>;

    /// Hands out what was merged so far, in pieces of bounded size where it is large, and forgets nothing.
    ///
    /// # Errors
    /// When it cannot be encoded, or what is kept outside memory cannot be read.
    fn save(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> Result<(), ReduceError>;

    /// Merges a piece that [`Reduce::save`] has made.
    ///
    /// # Errors
    /// As [`Reduce::merge`].
    fn load(&mut self, piece: &[u8]) -> Result<(), ReduceError>;
}

/// A summary as a piece for [`Reduce::save`].
///
/// # Errors
/// When it cannot be encoded.
pub fn save_piece<S: Summary>(summary: &S) -> Result<Vec<u8>, ReduceError> {
    let mut piece = Vec::new();
    codec::store(summary, &mut piece)?;
    Ok(piece)
}

/// The summary in a piece that [`save_piece`] has made.
///
/// # Errors
/// When the bytes are not a summary of this type.
pub fn load_piece<S: Summary>(piece: &[u8]) -> Result<S, ReduceError> {
    let (summary, _) = codec::load(piece)?;
    Ok(summary)
}

/// Merges summaries of one type: what a client needs, whatever the plugin.
#[derive(Debug, Default)]
pub struct Merger<S>(Option<S>);

impl<S: Summary> Reduce for Merger<S> {
    fn merge(&mut self, delta: &[u8]) -> Result<(), ReduceError> {
        if !delta.is_empty() {
            let delta = codec::decode(delta)?;
            self.0.get_or_insert_default().merge(delta);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Vec<u8>, ReduceError> {
        match self.0.take() {
            Some(summary) => Ok(codec::encode(&summary)?),
            None => Ok(Vec::new()),
        }
    }

    fn save(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> Result<(), ReduceError> {
        if let Some(summary) = &self.0 {
            out(save_piece(summary)?);
        }
        Ok(())
    }

    fn load(&mut self, piece: &[u8]) -> Result<(), ReduceError> {
        self.0.get_or_insert_default().merge(load_piece(piece)?);
        Ok(())
    }
}
