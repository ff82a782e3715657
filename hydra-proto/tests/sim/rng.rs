//! The only source of chance: a splitmix generator, so that a seed is the whole story.

/// Mixes bits; also the hash that decides what a tree holds.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A seeded generator.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x6879_6472_6121))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A number from `start` up to and including `last`.
    pub(crate) fn range(&mut self, start: u64, last: u64) -> u64 {
        start + self.below(last - start + 1)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// In so many of a hundred cases a number from `start` up to and including `last`, else zero.
    pub(crate) fn often(&mut self, percent: u64, start: u64, last: u64) -> u64 {
        match self.chance(percent) {
            true => self.range(start, last),
            false => 0,
        }
    }

    /// A number up to `last` that is small more often than large.
    pub(crate) fn skewed(&mut self, last: u64) -> u64 {
        let bits = self.below(64 - u64::from(last.max(1).leading_zeros()) + 1);
        self.below((1u64 << bits).min(last + 1))
    }
}
