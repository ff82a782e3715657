//! Which client may be granted which root: only those that see the same tree there.
//!
//! Where clients see different things, those are right whose root is not on their system's own file system: an
//! unmounted `/data` is an empty directory of the system disk. Among them the largest group of like views is.
//! Where the largest groups are equal nobody can tell, and the root is not walked: a wrong tree that is reported
//! as the right one is worse than none. That is not forgotten when clients go, or another server goes on: from then on
//! only the view of two clients or more decides, if it is that of more than half.

use crate::journal::Entry;
use hydra_proto::ids::{ChildId, RootId};
use hydra_proto::message::{RootFacts, RootView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known of one root.
#[derive(Debug, Default)]
struct Root {
    /// What the tree looks like, once that is settled.
    facts: Option<RootFacts>,
    /// Why it is not walked, as far as clients have said.
    trouble: Option<Trouble>,
    /// What was known when it was last told.
    told: Option<(Option<RootFacts>, Option<Trouble>)>,
}

/// Why a root is not walked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// Clients that look for it do not find it.
    Missing { kind: String, message: String },
    /// Clients see it and do not serve it.
    Refused(String),
    /// It does not answer clients that look for it.
    Silent(String),
    /// Clients saw different trees there. Stands until enough of them agree.
    Disputed(String),
}

/// What clients see of the job's roots.
#[derive(Debug)]
pub(crate) struct RootBook {
    roots: Vec<Root>,
    views: BTreeMap<ChildId, Vec<RootView>>,
    trust: bool,
}

impl RootBook {
    pub(crate) fn new(count: usize, trust: bool) -> Self {
        Self {
            roots: (0..count).map(|_| Root::default()).collect(),
            views: BTreeMap::new(),
            trust,
        }
    }

    /// What is known of all roots.
    pub(crate) fn all(&self) -> Vec<Entry> {
        let roots = self.roots.iter().zip(0..);
        roots
            .map(|(root, index)| entry(RootId(index), root))
            .collect()
    }

    /// What was not told yet.
    pub(crate) fn changes(&mut self) -> Vec<Entry> {
        let mut changes = Vec::new();
        for (root, index) in self.roots.iter_mut().zip(0..) {
            let known = (root.facts.clone(), root.trouble.clone());
            if root.told.as_ref() != Some(&known) {
                changes.push(entry(RootId(index), root));
                root.told = Some(known);
            }
        }
        changes
    }

    /// Brings back what was known of a root.
    pub(crate) fn restore(
        &mut self,
        root: RootId,
        facts: Option<RootFacts>,
        trouble: Option<Trouble>,
    ) {
        if let Some(root) = self.roots.get_mut(root.0 as usize) {
            root.told = Some((facts.clone(), trouble.clone()));
            (root.facts, root.trouble) = (facts, trouble);
        }
    }

    /// Notes what a client sees.
    pub(crate) fn sees(&mut self, child: ChildId, views: Vec<RootView>) {
        for (root, view) in self.roots.iter_mut().zip(&views) {
            match view {
                RootView::Seen(_) => {}
                _ if matches!(root.trouble, Some(Trouble::Disputed(_))) => {}
                RootView::Missing { kind, message } => {
                    let (kind, message) = (kind.clone(), message.clone());
                    root.trouble
                        .get_or_insert(Trouble::Missing { kind, message });
                }
                RootView::Refused(why) if !matches!(root.trouble, Some(Trouble::Silent(_))) => {
                    root.trouble = Some(Trouble::Refused(why.clone()));
                }
                RootView::Refused(_) => {}
                // Where others miss it, it may be there all the same.
                RootView::Silent(why) => root.trouble = Some(Trouble::Silent(why.clone())),
            }
        }
        self.views.insert(child, views);
    }

    /// Forgets a client whose session is over.
    pub(crate) fn lost(&mut self, child: ChildId) {
        self.views.remove(&child);
    }

    /// Whether a client has said what it sees.
    pub(crate) fn has(&self, child: ChildId) -> bool {
        self.views.contains_key(&child)
    }

    /// Settles what the roots look like, where that is open still. Returns those that can be walked from
    /// now on.
    pub(crate) fn settle(&mut self) -> Vec<RootId> {
        let mut settled = Vec::new();
        for index in 0..self.roots.len() {
            let (chosen, dispute) = (self.elect(index), self.dispute(index));
            let Some(root) = self.roots.get_mut(index) else {
                continue;
            };
            if root.facts.is_some() {
                continue;
            }
            match chosen {
                Some(_) => {
                    root.facts = chosen;
                    settled.push(RootId(index as u32));
                }
                None => root.trouble = dispute.map(Trouble::Disputed).or(root.trouble.take()),
            }
        }
        settled
    }

    /// What the root looks like, if clients agree well enough.
    fn elect(&self, index: usize) -> Option<RootFacts> {
        let votes = self.votes(index);
        let most = votes.iter().map(|(_, count)| *count).max()?;
        let all: usize = votes.iter().map(|(_, count)| *count).sum();
        let root = self.roots.get(index)?;
        let enough = match root.trouble {
            Some(Trouble::Disputed(_)) => most >= 2 && most * 2 > all,
            _ => true,
        };
        let mut best = votes.into_iter().filter(|(_, count)| *count == most);
        let (facts, _) = best.next()?;
        (self.trust || (enough && best.next().is_none())).then(|| facts.clone())
    }

    /// The views that count, and how many clients share each, in the order in which they came.
    fn votes(&self, index: usize) -> Vec<(&RootFacts, usize)> {
        let mut votes: Vec<(&RootFacts, usize)> = Vec::new();
        for view in self.views.values().filter_map(|views| views.get(index)) {
            if let RootView::Seen(facts) = view {
                match votes.iter_mut().find(|(other, _)| *other == facts) {
                    Some((_, count)) => *count += 1,
                    None => votes.push((facts, 1)),
                }
            }
        }
        if votes.iter().any(|(facts, _)| !facts.on_system_disk) {
            votes.retain(|(facts, _)| !facts.on_system_disk);
        }
        votes
    }

    /// The roots that are not walked as clients do not agree about them, and what they see there.
    pub(crate) fn disputes(&self) -> Vec<(RootId, String)> {
        let open = |index: &usize| self.roots.get(*index).is_some_and(|r| r.facts.is_none());
        let open = (0..self.roots.len()).filter(open);
        open.filter_map(|index| Some((RootId(index as u32), self.dispute(index)?)))
            .collect()
    }

    /// What clients see at a root, where they do not agree.
    fn dispute(&self, index: usize) -> Option<String> {
        let votes = self.votes(index);
        let views: Vec<String> = votes.iter().map(|(facts, _)| words(facts)).collect();
        let reason = format!(
            "clients see different trees there ({}), and no one of them is that of most: mount the same on all, or \
             say --trust-roots if it is the same",
            views.join("; ")
        );
        (views.len() > 1).then_some(reason)
    }

    /// Which roots a client may be granted, and a warning for each that it sees otherwise than the others.
    pub(crate) fn serves(&self, child: ChildId) -> (Vec<bool>, Vec<(RootId, String)>) {
        let views = self
            .views
            .get(&child)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut warnings = Vec::new();
        let serves = |(index, view): (usize, &RootView)| match view {
            RootView::Seen(facts) => {
                let chosen = self.roots.get(index).and_then(|root| root.facts.as_ref());
                let same = self.trust || chosen == Some(facts);
                if !same && chosen.is_some() {
                    warnings.push((RootId(index as u32), describe(facts, chosen)));
                }
                same
            }
            RootView::Missing { message, .. } => {
                warnings.push((RootId(index as u32), message.clone()));
                false
            }
            RootView::Refused(why) | RootView::Silent(why) => {
                warnings.push((RootId(index as u32), why.clone()));
                false
            }
        };
        let serves = views.iter().enumerate().map(serves).collect();
        (serves, warnings)
    }

    /// The roots that nobody could walk, and why.
    pub(crate) fn unwalked(&self) -> Vec<(RootId, Option<Trouble>)> {
        let roots = self.roots.iter().enumerate();
        let unwalked = roots.filter(|(_, root)| root.facts.is_none());
        unwalked
            .map(|(index, root)| (RootId(index as u32), root.trouble.clone()))
            .collect()
    }

    /// How many roots were not walked because they did not answer.
    pub(crate) fn silent(&self) -> usize {
        let silent =
            |root: &&Root| root.facts.is_none() && matches!(root.trouble, Some(Trouble::Silent(_)));
        self.roots.iter().filter(silent).count()
    }

    /// How many roots could be walked.
    pub(crate) fn walked(&self) -> usize {
        self.roots
            .iter()
            .filter(|root| root.facts.is_some())
            .count()
    }
}

fn entry(root: RootId, known: &Root) -> Entry {
    Entry::Root {
        root,
        facts: known.facts.clone(),
        trouble: known.trouble.clone(),
    }
}

fn describe(facts: &RootFacts, chosen: Option<&RootFacts>) -> String {
    let others = chosen.map(words).unwrap_or_default();
    format!(
        "it sees {} there, the others see {others}: is it mounted?",
        words(facts)
    )
}

fn words(facts: &RootFacts) -> String {
    let RootFacts {
        fs_type,
        fs_id,
        inode,
        ..
    } = facts;
    format!("{fs_type} {fs_id} inode {inode}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(fs_type: &str, inode: u64, on_system_disk: bool) -> RootView {
        RootView::Seen(RootFacts {
            fs_type: fs_type.to_owned(),
            fs_id: String::new(),
            inode,
            directory: true,
            on_system_disk,
        })
    }

    #[test]
    fn the_one_client_without_the_mount_is_left_out() {
        let mut book = RootBook::new(1, false);
        book.sees(ChildId(0), vec![seen("ext4", 2, true)]);
        book.sees(ChildId(1), vec![seen("nfs", 9, false)]);
        assert_eq!(book.settle(), [RootId(0)]);
        assert_eq!(book.serves(ChildId(0)).0, [false]);
        assert_eq!(book.serves(ChildId(0)).1.len(), 1);
        assert_eq!(book.serves(ChildId(1)).0, [true]);
    }

    #[test]
    fn the_majority_is_right() {
        let mut book = RootBook::new(1, false);
        for (child, inode) in [(0, 5), (1, 7), (2, 7)] {
            book.sees(ChildId(child), vec![seen("nfs", inode, false)]);
        }
        book.settle();
        let served: Vec<bool> = (0..3)
            .map(|child| book.serves(ChildId(child)).0[0])
            .collect();
        assert_eq!(served, [false, true, true]);
    }

    #[test]
    fn two_hosts_without_the_mount_outvoted_the_one_that_has_it() {
        let mut book = RootBook::new(1, false);
        for (child, view) in [
            (0, seen("ext4", 5, true)),
            (1, seen("nfs", 9, false)),
            (2, seen("ext4", 5, true)),
        ] {
            book.sees(ChildId(child), vec![view]);
        }
        book.settle();
        let served = [0, 1, 2].map(|child| book.serves(ChildId(child)).0[0]);
        assert_eq!(served, [false, true, false]);
    }

    #[test]
    fn the_first_of_two_different_trees_was_taken_for_the_right_one() {
        let mut book = RootBook::new(1, false);
        book.sees(ChildId(0), vec![seen("nfs", 5, false)]);
        book.sees(ChildId(1), vec![seen("nfs", 7, false)]);
        assert!(book.settle().is_empty());
        assert!(matches!(book.unwalked()[0].1, Some(Trouble::Disputed(_))));
        assert_eq!(book.serves(ChildId(0)).0, [false]);
        // Another one settles it.
        book.sees(ChildId(2), vec![seen("nfs", 7, false)]);
        assert_eq!(book.settle(), [RootId(0)]);
        let served = [0, 1, 2].map(|child| book.serves(ChildId(child)).0[0]);
        assert_eq!(served, [false, true, true]);
    }

    /// A book of one root, about which two clients do not agree.
    fn disputed() -> RootBook {
        let mut book = RootBook::new(1, false);
        book.sees(ChildId(0), vec![seen("nfs", 5, false)]);
        book.sees(ChildId(1), vec![seen("nfs", 7, false)]);
        assert!(book.settle().is_empty());
        book
    }

    #[test]
    fn who_was_left_of_two_clients_decided_which_tree_is_the_right_one() {
        let mut book = disputed();
        book.lost(ChildId(1));
        assert!(book.settle().is_empty());
        let missing = RootView::Silent("no answer".to_owned());
        book.sees(ChildId(2), vec![missing]);
        assert!(book.settle().is_empty());
        // Two of four are not the most of them.
        for (child, inode) in [(3, 7), (4, 5), (5, 8)] {
            book.sees(ChildId(child), vec![seen("nfs", inode, false)]);
        }
        assert!(book.settle().is_empty());
        book.lost(ChildId(3));
        assert_eq!(book.settle(), [RootId(0)]);
        assert_eq!(book.serves(ChildId(0)).0, [true]);
    }

    #[test]
    fn the_first_client_that_came_back_decided_which_tree_is_the_right_one() {
        let mut resumed = RootBook::new(1, false);
        for entry in disputed().changes() {
            let Entry::Root {
                root,
                facts,
                trouble,
            } = entry
            else {
                panic!("{entry:?}");
            };
            resumed.restore(root, facts, trouble);
        }
        resumed.sees(ChildId(0), vec![seen("nfs", 5, false)]);
        assert!(resumed.settle().is_empty());
        assert!(matches!(
            resumed.unwalked()[0].1,
            Some(Trouble::Disputed(_))
        ));
        resumed.sees(ChildId(1), vec![seen("nfs", 7, false)]);
        assert!(resumed.settle().is_empty());
        resumed.sees(ChildId(2), vec![seen("nfs", 5, false)]);
        assert_eq!(resumed.settle(), [RootId(0)]);
    }

    #[test]
    fn trusted_roots_are_served_by_all() {
        let mut book = RootBook::new(1, true);
        book.sees(ChildId(0), vec![seen("nfs", 5, false)]);
        book.sees(ChildId(1), vec![seen("ext4", 7, true)]);
        book.settle();
        assert!(book.serves(ChildId(0)).0[0] && book.serves(ChildId(1)).0[0]);
    }

    #[test]
    fn a_root_that_does_not_answer_one_client_was_taken_for_missing() {
        let silent = RootView::Silent("no answer".to_owned());
        let missing = RootView::Missing {
            kind: "ENOENT".to_owned(),
            message: "no such file or directory".to_owned(),
        };
        let refused = RootView::Refused("not allowed".to_owned());
        for others in [[missing, silent.clone()], [silent, refused]] {
            let mut book = RootBook::new(1, false);
            for (child, view) in (0..).zip(others) {
                book.sees(ChildId(child), vec![view]);
                book.settle();
            }
            assert_eq!((book.silent(), book.walked()), (1, 0));
            assert!(matches!(book.unwalked()[0].1, Some(Trouble::Silent(_))));
            // Where another one gets an answer it is walked.
            book.sees(ChildId(2), vec![seen("nfs", 5, false)]);
            assert_eq!(book.settle(), [RootId(0)]);
            assert_eq!((book.silent(), book.walked()), (0, 1));
        }
    }

    #[test]
    fn a_root_that_one_client_misses_is_walked_by_the_other() {
        let mut book = RootBook::new(1, false);
        let missing = RootView::Missing {
            kind: "ENOENT".to_owned(),
            message: "no such file or directory".to_owned(),
        };
        book.sees(ChildId(0), vec![missing]);
        assert!(book.settle().is_empty());
        assert!(matches!(
            book.unwalked()[0].1,
            Some(Trouble::Missing { .. })
        ));
        book.sees(ChildId(1), vec![seen("nfs", 5, false)]);
        assert_eq!(book.settle(), [RootId(0)]);
        assert!(book.unwalked().is_empty());
    }
}
