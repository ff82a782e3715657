//! The page that a worker shares with its supervisor, so that after its death one can tell what it was doing.
//!
//! The supervisor makes a memfd of [`SLOT_BYTES`], hands it down, and reads it with `pread` whenever it likes. The
//! worker stores with plain relaxed atomics: no system call, no lock. Neither waits for the other. Every field is
//! a 64-bit word in the byte order of the machine:
//!
//! ```text
//!   byte  0  SLOT_MAGIC
//!         8  version of the path, written after it
//!        16  item in hand, 0 for none
//!        24  the system call under way, a [`Call`]; 0 for none
//!        32  progress, a counter that grows
//!        40  length of the path in bytes, even if it did not fit
//!        48  number of the descriptor of the directory in hand, plus 1; 0 for none
//!        64  what the call is about, its end cut off at SLOT_PATH_MAX bytes
//!      4088  the version again, written before the path
//! ```
//!
//! A reader copies from the front to the back: where both versions agree, no write began before the copy was done.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::fs::ftruncate;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::Errno;

/// The size of a slot: one page.
pub const SLOT_BYTES: usize = 4096;
/// The first word of a slot: `hydraslo` in memory on a little-endian machine.
pub const SLOT_MAGIC: u64 = u64::from_le_bytes(*b"hydraslo");
/// How much of a path fits.
pub const SLOT_PATH_MAX: usize = SLOT_BYTES - SLOT_HEAD_BYTES - 8;

const SLOT_HEAD_BYTES: usize = 64;
const WORDS: usize = SLOT_BYTES / 8;

const MAGIC: usize = 0;
const VERSION: usize = 1;
const ITEM: usize = 2;
const CALL: usize = 3;
const PROGRESS: usize = 4;
const PATH_LEN: usize = 5;
const DIRECTORY: usize = 6;
const PATH: usize = SLOT_HEAD_BYTES / 8;
const VERSION_AHEAD: usize = WORDS - 1;

/// A system call of the walk, or a few that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Call {
    /// Opening a directory.
    Open = 1,
    /// Reading a directory.
    List = 2,
    /// Looking at an entry.
    Stat = 3,
    /// Looking where a symbolic link leads.
    Link = 4,
    /// Writing rows.
    Write = 5,
}

impl Call {
    fn from_code(code: u64) -> Option<Self> {
        let all = [Self::Open, Self::List, Self::Stat, Self::Link, Self::Write];
        all.into_iter().find(|call| *call as u64 == code)
    }

    /// The word for it in errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Link => "readlink",
            Self::Write => "write",
        }
    }
}

/// The worker's half: writes. One thread at a time may write the path and the progress.
#[derive(Debug)]
pub struct Slot {
    page: NonNull<[AtomicU64; WORDS]>,
}

// SAFETY: the page stays mapped until the slot is dropped, and is only ever accessed through atomics.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    /// Maps the memfd that the supervisor made, and marks it as in use.
    ///
    /// # Errors
    /// The errno of the mapping; `EINVAL` for a file that is shorter than [`SLOT_BYTES`].
    pub fn map(memfd: impl AsFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&memfd)?;
        if u64::try_from(stat.st_size).unwrap_or(0) < SLOT_BYTES as u64 {
            return Err(Errno::INVAL);
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                SLOT_BYTES,
                access,
                MapFlags::SHARED,
                memfd,
                0,
            )
        }?;
        let page = NonNull::new(address.cast()).ok_or(Errno::NOMEM)?;
        let slot = Self { page };
        slot.words()[MAGIC].store(SLOT_MAGIC, Ordering::Release);
        Ok(slot)
    }

    /// Says which item is in hand; `None` between two.
    #[inline]
    pub fn set_item(&self, item: Option<u64>) {
        self.words()[ITEM].store(item.unwrap_or(0), Ordering::Relaxed);
    }

    /// Says which system call is under way; `None` when there is none of the walk's.
    #[inline]
    pub fn set_call(&self, call: Option<Call>) {
        let code = call.map_or(0, |call| call as u64);
        self.words()[CALL].store(code, Ordering::Relaxed);
    }

    /// Says which directory is in hand, by the number of its descriptor.
    #[inline]
    pub fn set_directory(&self, fd: Option<u32>) {
        let code = fd.map_or(0, |fd| u64::from(fd) + 1);
        self.words()[DIRECTORY].store(code, Ordering::Relaxed);
    }

    /// Adds to the progress counter.
    #[inline]
    pub fn advance(&self, by: u64) {
        let progress = &self.words()[PROGRESS];
        // Not `fetch_add`: there is one writer, and a locked instruction per entry is not free.
        let next = progress.load(Ordering::Relaxed).wrapping_add(by);
        progress.store(next, Ordering::Relaxed);
    }

    /// Says what the call is about: a name in the directory in hand, or the end of a path.
    pub fn set_path(&self, path: &[u8]) {
        let words = self.words();
        let version = words[VERSION].load(Ordering::Relaxed).wrapping_add(1);
        words[VERSION_AHEAD].store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        words[PATH_LEN].store(path.len() as u64, Ordering::Relaxed);
        let room = &words[PATH..VERSION_AHEAD];
        let (whole, rest) = path.as_chunks::<8>();
        for (word, bytes) in room.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if let Some(word) = room.get(whole.len()) {
            let append = |word: u64, byte: &u8| (word << 8) | u64::from(*byte);
            let last = rest.iter().rev().fold(0, append);
            word.store(last.to_le(), Ordering::Relaxed);
        }
        words[VERSION].store(version, Ordering::Release);
    }

    #[inline]
    fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: `page` is a mapping of SLOT_BYTES, aligned to a page, alive as long as `self`; any bytes are
        // valid atomics, and other processes that write to it do not invalidate that.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; no reference outlives `self`. It cannot fail for such a range.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), SLOT_BYTES) };
    }
}

/// Gives a fresh memfd the size of a slot; for the side that makes it.
///
/// # Errors
/// The errno of `ftruncate`.
pub fn prepare(memfd: impl AsFd) -> Result<(), Errno> {
    ftruncate(memfd, SLOT_BYTES as u64)
}

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// The item in hand.
    pub item: Option<u64>,
    /// The system call under way.
    pub call: Option<Call>,
    /// The progress counter.
    pub progress: u64,
    /// The descriptor of the directory in hand.
    pub directory: Option<u32>,
    /// What the call is about; nothing if it was read while it was being written.
    pub path: Option<SlotPath>,
}

/// The path in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPath {
    /// Its first [`SLOT_PATH_MAX`] bytes.
    pub bytes: Vec<u8>,
    /// Whether there is more.
    pub truncated: bool,
}

/// Reads what `pread` brought; nothing if no worker has mapped this slot yet or it is too short.
pub fn decode(bytes: &[u8]) -> Option<SlotView> {
    let word = |index: usize| {
        let at = bytes.get(index * 8..)?.first_chunk::<8>()?;
        Some(u64::from_ne_bytes(*at))
    };
    if bytes.len() < SLOT_BYTES || word(MAGIC)? != SLOT_MAGIC {
        return None;
    }
    let whole = word(VERSION)? == word(VERSION_AHEAD)?;
    let length = usize::try_from(word(PATH_LEN)?).unwrap_or(usize::MAX);
    let kept = bytes.get(SLOT_HEAD_BYTES..SLOT_HEAD_BYTES + length.min(SLOT_PATH_MAX))?;
    Some(SlotView {
        item: Some(word(ITEM)?).filter(|&item| item != 0),
        call: Call::from_code(word(CALL)?),
        directory: word(DIRECTORY)?
            .checked_sub(1)
            .and_then(|fd| u32::try_from(fd).ok()),
        progress: word(PROGRESS)?,
        path: whole.then(|| SlotPath {
            bytes: kept.to_vec(),
            truncated: length > kept.len(),
        }),
    })
}
