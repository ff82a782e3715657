//! What a worker inherits from its client: the control channel and the slot, in place of standard input and
//! output. So nothing has to be done between fork and exec, every other descriptor stays close-on-exec, and no
//! descriptor can slip into a process that another thread starts.
//!
//! ```text
//!   descriptor   at exec                   after take()
//!   0            control channel           /dev/null
//!   1            slot (a memfd)            /dev/null
//!   2            the client's own          the client's own
//!   others       none                      control, slot: close-on-exec
//! ```
//!
//! The first frame on the control channel is a [`WorkerStart`](hydra_proto::logs::WorkerStart); after it the
//! worker speaks first, with its Hello. End of file on it means: stop now.

use hydra_proto::codec::CodecError;
use hydra_proto::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, fstat, ftruncate, memfd_create, open};
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin, stdout};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What a worker has taken over.
#[derive(Debug)]
pub struct Inherited {
    /// The control channel: messages in frames, both ways.
    pub control: UnixStream,
    /// The memory that the worker shares with its client.
    pub slot: OwnedFd,
}

/// Takes over what the client handed down. The first thing that a worker does, before anything else could use
/// standard input or output.
///
/// # Errors
/// When this process was not started by a client, or the system refuses.
pub fn take() -> io::Result<Inherited> {
    let is_socket = FileType::from_raw_mode(fstat(stdin())?.st_mode) == FileType::Socket;
    if !is_socket {
        return Err(io::Error::other(
            "a worker is started by a client, not by hand",
        ));
    }
    let control = stdin().try_clone_to_owned()?;
    let slot = stdout().try_clone_to_owned()?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(Inherited {
        control: UnixStream::from(control),
        slot,
    })
}

/// Reads the first frame of the control channel, and not a byte more.
///
/// # Errors
/// When it cannot be read, or is larger than a frame may be.
pub fn first_frame(control: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut header = [0; FRAME_HEADER_BYTES];
    control.read_exact(&mut header)?;
    let size = u32::from_le_bytes(header) as usize;
    if size > FRAME_BYTES_MAX {
        return Err(io::Error::other(CodecError::TooLarge { size }));
    }
    let mut frame = vec![0; size];
    control.read_exact(&mut frame)?;
    Ok(frame)
}

/// Makes a slot of `bytes` zeros.
pub(crate) fn make_slot(bytes: usize) -> io::Result<OwnedFd> {
    let slot = memfd_create("hydra-slot", MemfdFlags::CLOEXEC)?;
    ftruncate(slot.as_fd(), bytes as u64)?;
    Ok(slot)
}
