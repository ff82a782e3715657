//! The plugin of the simulation: it adds up everything that happened, by number.

use hydra_proto::reduce::Summary;
use serde::{Deserialize, Serialize};

/// What workers report. The count and the sum are what a real plugin would have; the list names the culprit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Total {
    pub count: u64,
    pub sum: u64,
    pub seen: Vec<u32>,
}

impl Total {
    pub(crate) fn add(&mut self, id: u32) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(super::rng::mix(id.into()));
        self.seen.push(id);
    }
}

impl Summary for Total {
    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.seen.extend(other.seen);
    }
}
