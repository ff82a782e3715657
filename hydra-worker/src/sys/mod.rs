//! The system calls of the walk, and nothing else: opening, listing, `statx`, mounts, links and the shared slot.
//!
//! Everything here works on open directories and names, knows neither items nor plugins, keeps no global state
//! and reports what went wrong as an [`Errno`]. Policy (what is skipped, what is counted) lives in the callers.
//! The only `unsafe` of this crate is in [`list`] (a borrow), [`mount`] (an ioctl) and [`slot`] (a mapping).

pub mod link;
#[allow(unsafe_code)]
pub mod list;
#[allow(unsafe_code)]
pub mod mount;
pub mod open;
#[allow(unsafe_code)]
pub mod slot;
pub mod stat;

pub use rustix::fs::FileType;
pub use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// The least length, in bytes with the final NUL, that the kernel refuses as a path.
pub const PATH_MAX: usize = 4096;

/// Runs `call` again for as long as a signal interrupts it.
#[inline]
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}
