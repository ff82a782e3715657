//! What must hold after every event, checked against the tree itself.

use super::total::Total;
use super::tree::Tree;
use hydra_proto::codec;
use hydra_proto::item::Item;
use hydra_proto::message::Delta;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    tree: Rc<Tree>,
    /// How often each number was committed.
    seen: Vec<u8>,
    total: Total,
    entries: u64,
    /// Who acted last on each number.
    pub actors: Vec<Option<usize>>,
}

impl Oracle {
    pub(crate) fn new(tree: Rc<Tree>) -> Self {
        let len = tree.len as usize;
        Self {
            tree,
            seen: vec![0; len],
            total: Total::default(),
            entries: 0,
            actors: vec![None; len],
        }
    }

    /// What was counted since `other` is not counted; who acted has acted.
    pub(crate) fn go_back_to(&mut self, other: &Self) {
        self.seen.clone_from(&other.seen);
        self.total.clone_from(&other.total);
        self.entries = other.entries;
    }

    /// A result has reached the server.
    pub(crate) fn applied(&mut self, delta: &Delta) -> Result<(), String> {
        self.entries += delta.walk.entries;
        if delta.plugin.is_empty() {
            return Ok(());
        }
        let total: Total = codec::decode(&delta.plugin).map_err(|error| error.to_string())?;
        for &id in &total.seen {
            let seen = &mut self.seen[id as usize];
            *seen += 1;
            if *seen > 1 {
                return Err(format!("twice: {}", self.tree.describe(id)));
            }
        }
        self.total.count += total.count;
        self.total.sum = self.total.sum.wrapping_add(total.sum);
        Ok(())
    }

    /// Invariant 1: each number was committed once, or lies under exactly one item.
    pub(crate) fn cover(&self, items: impl Iterator<Item = Item>) -> Result<(), String> {
        let mut steps = vec![0i32; self.seen.len() + 1];
        for item in items {
            for range in self.tree.cover(&item)? {
                steps[range.start as usize] += 1;
                steps[range.end as usize] -= 1;
            }
        }
        let mut covered = 0;
        for (id, &seen) in self.seen.iter().enumerate() {
            covered += steps[id];
            if covered + i32::from(seen) != 1 {
                let what = self.tree.describe(id as u32);
                return Err(format!(
                    "{what} is committed {seen} times and under {covered} items"
                ));
            }
        }
        Ok(())
    }

    /// The end: everything is there but for what kills, and exactly that is set aside.
    pub(crate) fn finished<'a>(&self, aside: impl Iterator<Item = &'a Item>) -> Result<(), String> {
        let aside: Vec<Range<u32>> = aside
            .map(|item| self.tree.cover(item))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect();
        let numbers =
            |ranges: &[Range<u32>]| ranges.iter().cloned().flatten().collect::<BTreeSet<u32>>();
        let (aside, poisoned) = (numbers(&aside), numbers(&self.tree.poisoned));
        if let Some(&id) = aside.symmetric_difference(&poisoned).next() {
            let what = self.tree.describe(id);
            return Err(match aside.contains(&id) {
                true => format!("{what} was set aside for nothing"),
                false => format!("{what} should have been set aside"),
            });
        }
        let mut expected = Total::default();
        for id in 0..self.tree.len {
            if !aside.contains(&id) {
                expected.add(id);
            }
            let due = u8::from(!aside.contains(&id));
            if self.seen[id as usize] != due {
                return Err(format!("lost: {}", self.tree.describe(id)));
            }
        }
        if (expected.count, expected.sum) != (self.total.count, self.total.sum) {
            return Err("the sums differ".to_owned());
        }
        if aside.is_empty() && self.entries != self.tree.entries {
            return Err(format!(
                "{} entries were counted of {}",
                self.entries, self.tree.entries
            ));
        }
        Ok(())
    }

    /// How much is done, for people.
    pub(crate) fn progress(&self) -> String {
        format!("{} of {} numbers", self.total.count, self.tree.len)
    }
}
