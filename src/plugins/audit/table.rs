//! Sums by key, for keys that the tree chooses: bounded, and yet independent of the order in which the
//! keys turn up.
//!
//! Keys have a rank that depends on nothing but the key. When there are too many, those of the lowest rank
//! are kept and the others are added up in one sum, the rest. A key that is dropped anywhere has enough
//! better ones beside it to be dropped in the end too; so the keys that are left were never dropped by
//! anyone, and their sums are exact.

use foldhash::fast::RandomState;
use hydra_proto::reduce::Summary;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use std::collections::HashMap;
use std::hash::Hash;

/// What sums can be kept by.
pub(super) trait Key:
    Copy + Eq + Hash + Serialize + DeserializeOwned + Send + 'static
{
    /// Says which keys stay when there are too many: those of the lowest rank.
    type Rank: Ord + Clone + std::fmt::Debug + Send;
    /// The key's rank.
    fn rank(&self) -> Self::Rank;
}

impl Key for u32 {
    type Rank = u32;
    fn rank(&self) -> u32 {
        *self
    }
}

/// Sums for at most `LIMIT` keys, and one for all others.
#[derive(Clone, Debug)]
pub(super) struct Table<K: Key, V, const LIMIT: usize> {
    slots: Vec<(K, V)>,
    index: HashMap<K, u32, RandomState>,
    /// The slot that was used last: neighbours in a tree tend to have the same key.
    last: usize,
    rest: V,
    /// The highest rank that was kept when keys were dropped: what lies above it need not come in again.
    bar: Option<K::Rank>,
}

impl<K: Key, V: Summary, const LIMIT: usize> Table<K, V, LIMIT> {
    /// Keys over the limit that may gather before the worst are dropped.
    const SLACK: usize = LIMIT / 4 + 1;

    /// The sum for a key.
    #[inline]
    pub(super) fn at(&mut self, key: K) -> &mut V {
        let same = self.slots.get(self.last).is_some_and(|slot| slot.0 == key);
        if !same {
            match self.find(key) {
                Some(slot) => self.last = slot,
                None => return &mut self.rest,
            }
        }
        &mut self.slots[self.last].1
    }

    /// The keys that are left with their sums, by rank, and the sum of all other keys.
    pub(super) fn finish(mut self) -> (Vec<(K, V)>, V) {
        self.prune(LIMIT);
        self.slots.sort_by_cached_key(|slot| slot.0.rank());
        (self.slots, self.rest)
    }

    fn find(&mut self, key: K) -> Option<usize> {
        if let Some(&slot) = self.index.get(&key) {
            return Some(slot as usize);
        }
        if self.bar.as_ref().is_some_and(|bar| key.rank() > *bar) {
            return None;
        }
        if self.slots.len() >= LIMIT + Self::SLACK {
            self.prune(LIMIT);
        }
        let slot = self.slots.len();
        self.slots.push((key, V::default()));
        self.index.insert(key, slot as u32);
        Some(slot)
    }

    fn prune(&mut self, limit: usize) {
        if self.slots.len() <= limit {
            return;
        }
        self.slots.sort_by_cached_key(|slot| slot.0.rank());
        for (key, value) in self.slots.drain(limit..) {
            self.index.remove(&key);
            self.rest.merge(value);
        }
        for (slot, number) in self.slots.iter().zip(0..) {
            self.index.insert(slot.0, number);
        }
        self.bar = self.slots.last().map(|slot| slot.0.rank());
    }
}

impl<K: Key, V: Default, const LIMIT: usize> Default for Table<K, V, LIMIT> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            index: HashMap::default(),
            last: 0,
            rest: V::default(),
            bar: None,
        }
    }
}

impl<K: Key, V: Summary, const LIMIT: usize> Summary for Table<K, V, LIMIT> {
    fn merge(&mut self, other: Self) {
        for (key, value) in other.slots {
            self.at(key).merge(value);
        }
        self.rest.merge(other.rest);
    }
}

impl<K: Key, V: Summary, const LIMIT: usize> Serialize for Table<K, V, LIMIT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.slots, &self.rest).serialize(serializer)
    }
}

impl<'de, K: Key, V: Summary, const LIMIT: usize> Deserialize<'de> for Table<K, V, LIMIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (slots, rest) = <(Vec<(K, V)>, V)>::deserialize(deserializer)?;
        let mut table = Self::default();
        for (key, value) in slots {
            table.at(key).merge(value);
        }
        table.rest.merge(rest);
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::codec;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Sum(u64);

    impl Summary for Sum {
        fn merge(&mut self, other: Self) {
            self.0 += other.0;
        }
    }

    type Small = Table<u32, Sum, 8>;

    #[test]
    fn what_is_kept_does_not_depend_on_order_or_on_splits() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut parts: Vec<Small> = (0..5).map(|_| Small::default()).collect();
            let mut sums = std::collections::BTreeMap::<u32, u64>::new();
            for _ in 0..500 {
                let (key, value) = (random.random_range(0..60), random.random_range(0..9));
                parts[random.random_range(0..5)].at(key).0 += value;
                *sums.entry(key).or_default() += value;
            }
            let mut total = Small::default();
            for part in parts {
                let bytes = codec::encode(&part).unwrap();
                total.merge(codec::decode(&bytes).unwrap());
            }
            let (kept, rest) = total.finish();
            let expected: Vec<_> = sums.iter().take(8).map(|(&k, &v)| (k, Sum(v))).collect();
            assert_eq!(kept, expected, "seed {seed}");
            let others: u64 = sums.values().skip(8).sum();
            assert_eq!(rest, Sum(others), "seed {seed}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut table = Small::default();
        (0..100_000).rev().for_each(|key| table.at(key).0 += 1);
        assert!(table.slots.len() <= 8 + Small::SLACK);
        assert_eq!(table.slots.len(), table.index.len());
    }
}
