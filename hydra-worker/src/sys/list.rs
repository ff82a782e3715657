//! Reads the names in an open directory, buffer by buffer, without allocating.
//!
//! The lister does not sort, does not stat and keeps no names; it hashes what it hands out, so that the same
//! beginning of a listing can be recognised when it is read again.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::RawDir;

use super::mount::FsType;
use super::{Errno, FileType};

/// The size of a listing buffer unless told otherwise: beyond 64 KiB neither ext4 nor tmpfs gets faster, and a
/// buffer that stays in the processor's cache is read out faster.
pub const LIST_BUFFER_BYTES: usize = 64 * 1024;

/// The least size of a listing buffer: room for the longest name that any file system gives.
const LIST_BUFFER_BYTES_MIN: usize = 4096;

/// The memory that a listing is read into; one per walking thread, reused for every directory.
#[derive(Debug)]
pub struct ListBuffer {
    bytes: Box<[MaybeUninit<u8>]>,
}

impl ListBuffer {
    /// A buffer of `size` bytes, at least 4 KiB. Memory is touched only as far as listings fill it.
    pub fn new(size: usize) -> Self {
        Self {
            bytes: Box::new_uninit_slice(size.max(LIST_BUFFER_BYTES_MIN)),
        }
    }
}

impl Default for ListBuffer {
    fn default() -> Self {
        Self::new(LIST_BUFFER_BYTES)
    }
}

/// One name in a directory, valid until the next is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ListEntry<'a> {
    /// The name, terminated, ready for another system call.
    pub c_name: &'a CStr,
    /// The type that the file system gave; `FileType::Unknown` where it gives none
    /// (see [`super::stat::type_at`]).
    pub kind: FileType,
    /// The inode number in the listing; at a mount point that of the directory beneath it.
    pub ino: u64,
}

impl<'a> ListEntry<'a> {
    /// The name without its terminator.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        self.c_name.to_bytes()
    }
}

/// How the end of a listing is known.
///
/// `getdents64` brings with each name the position behind it. Of ext4 that is the greatest there is when nothing follows,
/// and a call there brings nothing (`ext4_dx_readdir` in `fs/ext4/dir.c`), so that call need not be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The file system is asked for its type when it matters.
    #[default]
    Unknown,
    /// The position behind the last name tells it.
    Told,
    /// A call that brings nothing tells it.
    Silent,
}

impl End {
    /// How it is known on a file system of this type.
    pub fn on(fs: FsType) -> Self {
        match fs.is_ext4() {
            true => Self::Told,
            false => Self::Silent,
        }
    }
}

/// The greatest position in a listing.
const LAST_POSITION: u64 = i64::MAX as u64;

/// A listing in progress.
///
/// ```text
///   next ──► Some(Ok(entry))   a name; `.` and `..` never
///        ──► Some(Err(errno))  the listing failed here; what was read before stands
///        ──► None              the listing has ended
/// ```
pub struct Lister<'a> {
    raw: RawDir<'a, BorrowedFd<'a>>,
    dir: BorrowedFd<'a>,
    /// Where the last name ended.
    position: u64,
    end: End,
    names: u64,
    hash: NameHash,
}

impl<'a> Lister<'a> {
    /// Starts at the present offset of `dir`: at the beginning, if it was just opened.
    pub fn new(dir: BorrowedFd<'a>, buffer: &'a mut ListBuffer) -> Self {
        Self::resume(dir, buffer, 0, NameHash::SEED)
    }

    /// Goes on at the present offset of `dir`, where `names` names with this `hash` were read already.
    pub fn resume(dir: BorrowedFd<'a>, buffer: &'a mut ListBuffer, names: u64, hash: u64) -> Self {
        Self {
            raw: RawDir::new(dir, &mut buffer.bytes),
            dir,
            position: 0,
            end: End::Silent,
            names,
            hash: NameHash::resume(hash),
        }
    }

    /// The same, where so much is known of the end.
    pub fn knowing(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// How the end is known, by now.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether nothing follows what was read.
    #[inline]
    fn has_ended(&mut self) -> bool {
        if self.position != LAST_POSITION || !self.raw.is_buffer_empty() {
            return false;
        }
        if self.end == End::Unknown {
            self.end = FsType::of(self.dir).map_or(End::Silent, End::on);
        }
        self.end == End::Told
    }

    /// The next name; see the type.
    #[inline]
    #[allow(clippy::should_implement_trait)] // What it yields borrows from it.
    pub fn next(&mut self) -> Option<Result<ListEntry<'_>, Errno>> {
        loop {
            if self.has_ended() {
                return None;
            }
            // SAFETY: extends the borrow of `self.raw` for the value that is returned from this turn of the loop;
            // on every other turn that value is dropped before the next borrow begins. The borrow checker does
            // not accept a borrow that is returned on one path only.
            let raw: &mut RawDir<'a, BorrowedFd<'a>> =
                unsafe { &mut *std::ptr::from_mut(&mut self.raw) };
            let entry = match raw.next()? {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Some(Err(errno)),
            };
            // SAFETY: as above; the name lies in the buffer that `self` borrows, untouched until the next call.
            let c_name: &CStr = unsafe { &*std::ptr::from_ref(entry.file_name()) };
            let name = c_name.to_bytes();
            self.position = entry.next_entry_cookie();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.names += 1;
            self.hash.add(name);
            return Some(Ok(ListEntry {
                c_name,
                kind: entry.file_type(),
                ino: entry.ino(),
            }));
        }
    }

    /// Whether the next call of [`Lister::next`] asks the kernel for more: a good moment to look around.
    #[inline]
    pub fn at_buffer_end(&self) -> bool {
        self.raw.is_buffer_empty()
    }

    /// How many names were handed out.
    pub fn names(&self) -> u64 {
        self.names
    }

    /// The hash over the names handed out, in their order.
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }
}

/// A running hash over names; it depends on their order, and is the same on every machine and in every version.
///
/// Every name is cut into words of eight bytes, little-endian, the last one filled with zeros, and followed by a
/// word that holds its length. Each word `w` turns the state `s`, at first [`NameHash::SEED`], into the two halves
/// of the 128-bit product `(s ^ w) * FACTOR`, combined by exclusive or, plus `w` rotated left by 32 bits.
///
/// It recognises a listing that has changed; it does not withstand names that were chosen to deceive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameHash(u64);

impl NameHash {
    /// The hash of no names: the first 64 bits of the fraction of pi.
    pub const SEED: u64 = 0x243f_6a88_85a3_08d3;
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Goes on behind the names whose hash is `hash`.
    pub fn resume(hash: u64) -> Self {
        Self(hash)
    }

    /// Takes in the next name.
    #[inline]
    pub fn add(&mut self, name: &[u8]) {
        let (words, rest) = name.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let word = match name.last_chunk::<8>() {
                // The bytes before `rest` are shifted out.
                Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
                None => short_word(rest),
            };
            self.mix(word);
        }
        self.mix(name.len() as u64);
    }

    /// The hash of all names taken in so far.
    #[inline]
    pub fn value(self) -> u64 {
        self.0
    }

    #[inline]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(Self::FACTOR);
        // The word is added once more because a product of zero would forget everything before it.
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(word.rotate_left(32));
    }
}

impl Default for NameHash {
    fn default() -> Self {
        Self(Self::SEED)
    }
}

/// Up to seven bytes as a little-endian word; loads that overlap instead of a loop.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4));
    }
    match *bytes {
        [a] => a.into(),
        [a, b] => u16::from_le_bytes([a, b]).into(),
        [a, b, c] => u32::from_le_bytes([a, b, c, 0]).into(),
        _ => 0,
    }
}
