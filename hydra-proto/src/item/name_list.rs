//! Names in one buffer. What a name may be, [`Parcel::check`](super::Parcel::check) says.

use serde::{Deserialize, Serialize};

/// Bytes of room that an emptied list keeps.
const ROOM_KEPT: usize = 64 << 10;

/// A list of names, packed into one buffer. A name is any bytes but NUL and `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameList {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl NameList {
    /// How many names it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a name at the end.
    pub fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        // A parcel is bounded far below 4 GiB: `PARCEL_NAMES_MAX` names of at most `PATH_BYTES_MAX`.
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Removes and forgets the last name.
    pub fn pop(&mut self) {
        self.ends.pop();
        let end = self.ends.last().map_or(0, |&end| end as usize);
        self.bytes.truncate(end);
    }

    /// Takes all names, in a list of just their size. What room this one has it keeps, if that is little: a list that is
    /// filled again and again need not grow each time.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        if self.size() > ROOM_KEPT {
            return std::mem::take(self);
        }
        let taken = self.clone();
        self.bytes.clear();
        self.ends.clear();
        taken
    }

    /// The name at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index {
            0 => 0,
            _ => *self.ends.get(index - 1)? as usize,
        };
        self.bytes.get(start..end)
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Bytes of memory and wire that the names take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }

    /// Whether the names fit their lengths, whoever sent them.
    pub(super) fn is_sound(&self) -> bool {
        let ordered = self.ends.windows(2).all(|pair| pair[0] <= pair[1]);
        ordered && self.ends.last().map_or(0, |&end| end as usize) == self.bytes.len()
    }
}

impl<'a> FromIterator<&'a [u8]> for NameList {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(names: I) -> Self {
        let mut list = Self::default();
        names.into_iter().for_each(|name| list.push(name));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dirs, Parcel};
    use super::*;
    use crate::ids::{ItemId, RootId};

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let names = NameList {
            bytes: b"abc".to_vec(),
            ends: vec![2, 9],
        };
        let parcel = Parcel::Dirs(Dirs {
            first: ItemId(1),
            root: RootId(0),
            dir: Vec::new(),
            names,
        });
        assert!(parcel.check().is_err());
    }
}
