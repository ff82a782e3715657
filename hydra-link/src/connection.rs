//! A connection: frames over a byte stream, encrypted or plain, in both directions at once.
//!
//! Where the stream comes from is decided by `dial` and `listen`.

use hydra_proto::words::words;
use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use hydra_proto::frame::{self, FRAME_BYTES_MAX, FrameDecoder, FrameError};
use hydra_proto::handshake::{Handshake, HandshakeError, Key, Opener, Sealer, TransportError};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::Timeouts;

/// What is read from the stream at once, in bytes.
const READ_BYTES: usize = 32 << 10;
/// What is read at once from somebody who has proven nothing, in bytes.
const STRANGER_READ_BYTES: usize = 256;
/// Frames are gathered up to this many bytes before they must be sent.
const WRITE_BYTES: usize = 256 << 10;

/// Why a connection that was established cannot go on.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The operating system reports an error.
    #[error("the connection broke: {}", words(.0))]
    Io(#[from] io::Error),
    /// The stream is malformed, or was tampered with.
    #[error("the connection carries garbage: {0}")]
    Garbage(#[from] TransportError),
    /// The other side ended the stream inside a frame.
    #[error("the connection was cut in the middle of a frame")]
    Cut,
    /// The other side took no byte for this long.
    #[error("the other side has taken no data for {0:?}")]
    Stalled(Duration),
}

/// Why no connection was established over a stream.
#[derive(Debug, Error)]
pub enum EstablishError {
    /// The other side said something that is not right.
    #[error(transparent)]
    Refused(#[from] HandshakeError),
    /// The other side closed the stream.
    #[error("the other side hung up during the handshake")]
    HungUp,
    /// The handshake was not over in time.
    #[error("the handshake was not over within {0:?}")]
    Late(Duration),
    /// The operating system reports an error.
    #[error("the connection broke during the handshake: {}", words(.0))]
    Io(io::Error),
}

/// An established connection.
#[derive(Debug)]
pub struct Connection {
    reader: FrameReader,
    writer: FrameWriter,
}

/// The receiving half of a [`Connection`].
pub struct FrameReader {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    buffer: Box<[u8]>,
    /// What of the buffer is read from the stream and not yet decoded.
    unread: Range<usize>,
    decoder: Decoder,
}

/// The sending half of a [`Connection`].
///
/// Frames leave in the order given. A call that is dropped half-way damages nothing: what it had
/// taken on is sent by the next one.
pub struct FrameWriter {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    encoder: Encoder,
    buffer: Vec<u8>,
    /// How much of the buffer the stream has taken.
    sent: usize,
    stall: Duration,
}

enum Decoder {
    Plain(FrameDecoder),
    Sealed(Box<Opener>),
}

enum Encoder {
    Plain,
    Sealed(Box<Sealer>),
}

impl Connection {
    /// Over a stream that needs no handshake and no encryption, one within this host.
    pub fn plain<S>(stream: S, timeouts: &Timeouts) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let decoder = Decoder::Plain(FrameDecoder::new(FRAME_BYTES_MAX));
        Self::new(stream, decoder, Encoder::Plain, &[], timeouts)
    }

    /// As the side that dialled.
    ///
    /// # Errors
    ///
    /// [`EstablishError`]; the stream is then closed.
    pub async fn initiate<S>(
        stream: S,
        key: &Key,
        timeouts: &Timeouts,
    ) -> Result<Self, EstablishError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut opening = Vec::new();
        let handshake = Handshake::initiate(key, &mut opening)?;
        Self::establish(stream, handshake, opening, timeouts).await
    }

    /// As the side that was dialled. When this returns, the dialler has proven who it is.
    ///
    /// # Errors
    ///
    /// [`EstablishError`]; the stream is then closed, and a stranger has received no byte.
    pub async fn respond<S>(
        stream: S,
        key: &Key,
        timeouts: &Timeouts,
    ) -> Result<Self, EstablishError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let handshake = Handshake::respond(key)?;
        Self::establish(stream, handshake, Vec::new(), timeouts).await
    }

    async fn establish<S>(
        stream: S,
        handshake: Handshake,
        opening: Vec<u8>,
        timeouts: &Timeouts,
    ) -> Result<Self, EstablishError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shaken = shake(stream, handshake, opening, timeouts);
        timeout(timeouts.handshake, shaken)
            .await
            .unwrap_or(Err(EstablishError::Late(timeouts.handshake)))
    }

    fn new<S>(
        stream: S,
        decoder: Decoder,
        encoder: Encoder,
        early: &[u8],
        timeouts: &Timeouts,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reading, writing) = tokio::io::split(stream);
        let mut buffer = early.to_vec();
        buffer.resize(READ_BYTES.max(early.len()), 0);
        Self {
            reader: FrameReader {
                stream: Box::new(reading),
                buffer: buffer.into_boxed_slice(),
                unread: 0..early.len(),
                decoder,
            },
            writer: FrameWriter {
                stream: Box::new(writing),
                encoder,
                buffer: Vec::new(),
                sent: 0,
                stall: timeouts.send,
            },
        }
    }

    /// The two halves, for use in two tasks. The stream is closed when both are dropped.
    #[must_use]
    pub fn split(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }

    /// [`FrameReader::next`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        self.reader.next().await
    }

    /// [`FrameWriter::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        self.writer.send(payload).await
    }
}

/// Runs a handshake to its end; the caller sets the deadline.
async fn shake<S>(
    mut stream: S,
    mut handshake: Handshake,
    mut out: Vec<u8>,
    timeouts: &Timeouts,
) -> Result<Connection, EstablishError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut buffer = [0; STRANGER_READ_BYTES];
    loop {
        stream.write_all(&out).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        out.clear();
        let read = stream.read(&mut buffer).await.map_err(broken)?;
        if read == 0 {
            return Err(EstablishError::HungUp);
        }
        let mut input = buffer.get(..read).unwrap_or_default();
        if let Some(transport) = handshake.read(&mut input, &mut out)? {
            stream.write_all(&out).await.map_err(broken)?;
            stream.flush().await.map_err(broken)?;
            let decoder = Decoder::Sealed(Box::new(transport.opener));
            let encoder = Encoder::Sealed(Box::new(transport.sealer));
            return Ok(Connection::new(stream, decoder, encoder, input, timeouts));
        }
    }
}

/// A peer that closes while bytes of ours are under way resets the connection: it hung up.
fn broken(error: io::Error) -> EstablishError {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => EstablishError::HungUp,
        _ => EstablishError::Io(error),
    }
}

impl FrameReader {
    /// The next frame, however long it takes; `None` when the other side has ended the stream
    /// between two frames. It may be dropped half-way (in a `select!`) without losing a byte.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: the connection is of no more use.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        loop {
            let mut input = self.buffer.get(self.unread.clone()).unwrap_or_default();
            let frame = self.decoder.decode(&mut input)?;
            self.unread.start = self.unread.end - input.len();
            if frame.is_some() {
                return Ok(frame);
            }
            let read = self.stream.read(&mut self.buffer).await?;
            self.unread = 0..read;
            if read == 0 {
                if self.decoder.is_mid_frame() {
                    return Err(LinkError::Cut);
                }
                return Ok(None);
            }
        }
    }
}

impl FrameWriter {
    /// Sends one frame, and all that was queued before it.
    ///
    /// # Errors
    ///
    /// As [`Self::queue`] and [`Self::flush`].
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        self.queue(payload).await?;
        self.flush().await
    }

    /// Takes on one frame, to be sent together with others by [`Self::flush`]. It only sends
    /// something itself when a good deal has gathered.
    ///
    /// # Errors
    ///
    /// [`LinkError::Garbage`] if `payload` is over [`FRAME_BYTES_MAX`], nothing is then taken on;
    /// otherwise as [`Self::flush`].
    pub async fn queue(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        if self.buffer.len() >= WRITE_BYTES {
            self.flush().await?;
        }
        self.encoder.encode(payload, &mut self.buffer)?;
        Ok(())
    }

    /// Sends all that is queued.
    ///
    /// # Errors
    ///
    /// [`LinkError::Stalled`] if the other side takes nothing for too long, [`LinkError::Io`] if
    /// the stream broke: the connection is of no more use.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        self.encoder.finish(&mut self.buffer)?;
        while let Some(unsent) = self.buffer.get(self.sent..).filter(|b| !b.is_empty()) {
            let written = timeout(self.stall, self.stream.write(unsent))
                .await
                .map_err(|_| LinkError::Stalled(self.stall))??;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.sent += written;
        }
        self.sent = 0;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BYTES);
        timeout(self.stall, self.stream.flush())
            .await
            .map_err(|_| LinkError::Stalled(self.stall))??;
        Ok(())
    }

    /// Sends all that is queued and ends this direction: the other side's [`FrameReader::next`]
    /// yields `None`. The other direction stays open.
    ///
    /// # Errors
    ///
    /// As [`Self::flush`].
    pub async fn close(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        timeout(self.stall, self.stream.shutdown())
            .await
            .map_err(|_| LinkError::Stalled(self.stall))??;
        Ok(())
    }
}

impl Decoder {
    fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, TransportError> {
        match self {
            Decoder::Plain(decoder) => Ok(decoder.decode(input)?),
            Decoder::Sealed(opener) => opener.open(input),
        }
    }

    fn is_mid_frame(&self) -> bool {
        match self {
            Decoder::Plain(decoder) => decoder.is_mid_frame(),
            Decoder::Sealed(opener) => opener.is_mid_frame(),
        }
    }
}

impl Encoder {
    fn encode(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), TransportError> {
        match self {
            Encoder::Plain => Ok(frame::encode(payload, out)?),
            Encoder::Sealed(sealer) => sealer.seal(payload, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), TransportError> {
        match self {
            Encoder::Plain => Ok(()),
            Encoder::Sealed(sealer) => sealer.flush(out),
        }
    }
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        LinkError::Garbage(error.into())
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader").finish_non_exhaustive()
    }
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter").finish_non_exhaustive()
    }
}
