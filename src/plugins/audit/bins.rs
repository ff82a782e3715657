//! The edges of histograms, and a lookup that costs the same for every value.

/// Upper edges of the size bins, in bytes: a size belongs to the first edge that is not below it.
pub(super) const SIZE_EDGES: [u64; 15] = [
    0,
    K,
    4 * K,
    8 * K,
    16 * K,
    32 * K,
    64 * K,
    128 * K,
    K * K,
    10 * K * K,
    100 * K * K,
    K * K * K,
    10 * K * K * K,
    100 * K * K * K,
    K * K * K * K,
];
/// Size bins: one for each edge, and "more".
pub(super) const SIZE_BINS: usize = SIZE_EDGES.len() + 1;

/// Upper edges of the age bins, in seconds, without "future".
pub(super) const AGE_EDGES: [u64; 15] = [
    60,
    3600,
    DAY,
    2 * DAY,
    7 * DAY,
    30 * DAY,
    60 * DAY,
    90 * DAY,
    180 * DAY,
    365 * DAY,
    2 * 365 * DAY,
    3 * 365 * DAY,
    4 * 365 * DAY,
    5 * 365 * DAY,
    10 * 365 * DAY,
];
/// Age bins: "future", one for each edge, and "more".
pub(super) const AGE_BINS: usize = AGE_EDGES.len() + 2;

const K: u64 = 1024;
const DAY: u64 = 86_400;

/// The bin of a size.
#[inline]
pub(super) fn size_bin(size: u64) -> usize {
    SIZES.find(size)
}

/// The bin of a time stamp, seen from `reference`; both in seconds since 1970.
#[inline]
pub(super) fn age_bin(reference: i64, time: i64) -> usize {
    let past = AGES.find(reference.abs_diff(time)) + 1;
    if time > reference { 0 } else { past }
}

/// What people call a size bin.
pub(super) fn size_label(bin: usize) -> &'static str {
    const LABELS: [&str; SIZE_BINS] = [
        "0", "1K", "4K", "8K", "16K", "32K", "64K", "128K", "1M", "10M", "100M", "1G", "10G",
        "100G", "1T", "more",
    ];
    LABELS.get(bin).copied().unwrap_or("")
}

/// What people call an age bin.
pub(super) fn age_label(bin: usize) -> &'static str {
    const LABELS: [&str; AGE_BINS] = [
        "future", "1 min", "1 h", "1 d", "2 d", "7 d", "30 d", "60 d", "90 d", "180 d", "1 y",
        "2 y", "3 y", "4 y", "5 y", "10 y", "more",
    ];
    LABELS.get(bin).copied().unwrap_or("")
}

static SIZES: Edges = Edges::new(&SIZE_EDGES);
static AGES: Edges = Edges::new(&AGE_EDGES);

/// Edges with an index by the number of significant bits: values with the same number of bits have at
/// most two edges among them, so two comparisons finish the search.
struct Edges {
    edges: [u64; 18],
    below: [u8; 65],
}

impl Edges {
    const fn new(edges: &[u64]) -> Self {
        let mut all = [u64::MAX; 18];
        let mut i = 0;
        while i < edges.len() {
            all[i] = edges[i];
            i += 1;
        }
        let mut below = [0; 65];
        let mut bits = 1;
        while bits <= 64 {
            let lowest = 1 << (bits - 1);
            let mut bin = 0;
            while all[bin] < lowest {
                bin += 1;
            }
            below[bits] = bin as u8;
            // Past the third edge from here on, no value with this many bits may lie.
            assert!(bin + 2 > edges.len() || all[bin + 2] >= lowest | (lowest - 1));
            bits += 1;
        }
        Self { edges: all, below }
    }

    #[inline]
    fn find(&self, value: u64) -> usize {
        let bits = (u64::BITS - value.leading_zeros()) as usize;
        let bin = self.below[bits] as usize;
        bin + usize::from(value > self.edges[bin]) + usize::from(value > self.edges[bin + 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(edges: &[u64], value: u64) -> usize {
        edges.iter().filter(|&&edge| edge < value).count()
    }

    #[test]
    fn lookup_agrees_with_a_linear_scan_around_every_edge_and_power() {
        let powers = (0..64).map(|bit| 1u64 << bit);
        let values = powers.chain(SIZE_EDGES).chain(AGE_EDGES).chain([u64::MAX]);
        for value in values.flat_map(|v| [v.saturating_sub(1), v, v.saturating_add(1), v / 3 * 2]) {
            assert_eq!(size_bin(value), slow(&SIZE_EDGES, value), "size {value}");
            assert_eq!(AGES.find(value), slow(&AGE_EDGES, value), "age {value}");
        }
    }

    #[test]
    fn the_future_has_a_bin_of_its_own_and_extremes_do_not_overflow() {
        assert_eq!(age_bin(100, 101), 0);
        assert_eq!(age_bin(100, 100), 1);
        assert_eq!(age_bin(100, 40), 1);
        assert_eq!(age_bin(100, 39), 2);
        assert_eq!(age_bin(i64::MAX, i64::MIN), AGE_BINS - 1);
        assert_eq!(age_bin(i64::MIN, i64::MAX), 0);
        assert_eq!(age_label(age_bin(0, -366 * 86_400)), "2 y");
        assert_eq!(size_label(size_bin(1 << 50)), "more");
        assert_eq!(size_label(size_bin(1024)), "1K");
    }
}
