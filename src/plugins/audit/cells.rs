//! Histograms: fixed rows of counts and bytes, dense in memory and sparse on the wire.

use hydra_proto::reduce::Summary;
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Index;

/// One bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// Files in it.
    pub count: u64,
    /// The sum of their bytes.
    pub bytes: u64,
}

impl Cell {
    /// Adds another cell.
    #[inline]
    pub(super) fn add(&mut self, count: u64, bytes: u64) {
        self.count = self.count.saturating_add(count);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The sum of cells.
    pub(super) fn sum(cells: &[Self]) -> Self {
        cells.iter().fold(Self::default(), |mut sum, cell| {
            sum.add(cell.count, cell.bytes);
            sum
        })
    }
}

/// `N` bins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cells<const N: usize>(Box<[Cell; N]>);

impl<const N: usize> Cells<N> {
    /// Adds one file to a bin.
    #[inline]
    pub(super) fn add(&mut self, bin: usize, bytes: u64) {
        if let Some(cell) = self.0.get_mut(bin) {
            cell.count += 1;
            cell.bytes = cell.bytes.saturating_add(bytes);
        }
    }

    /// All bins in order.
    pub(super) fn all(&self) -> &[Cell; N] {
        &self.0
    }
}

impl<const N: usize> Default for Cells<N> {
    fn default() -> Self {
        Self(Box::new([Cell::default(); N]))
    }
}

impl<const N: usize> Index<usize> for Cells<N> {
    type Output = Cell;
    fn index(&self, bin: usize) -> &Cell {
        &self.0[bin]
    }
}

impl<const N: usize> Summary for Cells<N> {
    fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            mine.add(theirs.count, theirs.bytes);
        }
    }
}

impl<const N: usize> Serialize for Cells<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let used = || self.0.iter().zip(0u32..).filter(|(cell, _)| cell.count > 0);
        let mut seq = serializer.serialize_seq(Some(used().count()))?;
        for (cell, bin) in used() {
            seq.serialize_element(&(bin, cell.count, cell.bytes))?;
        }
        seq.end()
    }
}

impl<'de, const N: usize> Deserialize<'de> for Cells<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CellsVisitor)
    }
}

struct CellsVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for CellsVisitor<N> {
    type Value = Cells<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the used ones of {N} bins")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cells<N>, A::Error> {
        let mut cells = Cells::default();
        while let Some((bin, count, bytes)) = seq.next_element::<(u32, u64, u64)>()? {
            let cell = cells.0.get_mut(bin as usize);
            cell.ok_or_else(|| A::Error::custom("no such bin"))?
                .add(count, bytes);
        }
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::codec;

    #[test]
    fn only_used_bins_travel() {
        let mut cells = Cells::<300>::default();
        assert_eq!(codec::encode(&cells).unwrap().len(), 1);
        cells.add(7, 100);
        cells.add(7, 50);
        cells.add(299, 0);
        let bytes = codec::encode(&cells).unwrap();
        assert_eq!(bytes.len(), 1 + 3 + 5);
        assert_eq!(codec::decode::<Cells<300>>(&bytes).unwrap(), cells);
        assert!(codec::decode::<Cells<8>>(&bytes).is_err());
    }

    #[test]
    fn sums_stop_at_the_largest_number() {
        let mut cells = Cells::<2>::default();
        cells.add(0, u64::MAX);
        cells.add(0, u64::MAX);
        cells.merge(cells.clone());
        assert_eq!(cells[0].bytes, u64::MAX);
        assert_eq!(cells[0].count, 4);
    }
}
