//! The whole result, sorted and named: what both reports, for people and in JSON, are made from.

use super::category::Category;
use super::extension::Extension;
use super::links::Inodes;
use super::names::{self, Names};
use super::summary::{AuditSummary, FileUsage, OwnerTops, Owners, Totals, Usage};
use super::top::LargeFile;
use crate::plugin::ByteTotals;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The result of an audit.
#[derive(Debug)]
pub(super) struct Findings {
    /// The moment from which ages are told, in seconds since 1970.
    pub reference: i64,
    /// Histograms, levels and extremes. What is taken out of it into the fields below is empty.
    pub sums: AuditSummary,
    /// Inodes with several names.
    pub linked: Inodes,
    /// Owners.
    pub owners: Holders,
    /// Groups.
    pub groups: Holders,
    /// Extensions, the one with the most bytes first.
    pub extensions: Vec<(String, FileUsage)>,
    /// Categories that have files, the one with the most bytes first.
    pub categories: Vec<(Category, FileUsage)>,
    /// The largest files.
    pub largest: Vec<LargeFile>,
}

/// Owners or groups.
#[derive(Debug)]
pub(super) struct Holders {
    /// What each has, the one with the most allocated space first.
    pub usage: Vec<(u32, Usage)>,
    /// What those have that are too many to be told apart.
    pub others: Usage,
    /// The largest files of each.
    pub largest: Vec<(u32, Vec<LargeFile>)>,
    /// Names, as far as they could be found out.
    pub names: BTreeMap<u32, String>,
}

impl Findings {
    /// Sorts what was added up, and looks names up.
    pub(super) fn new(
        mut sums: AuditSummary,
        linked: Inodes,
        reference: i64,
        names: &dyn Names,
    ) -> Self {
        let owners = std::mem::take(&mut sums.owners);
        let owner_tops = std::mem::take(&mut sums.largest_by_owner);
        let groups = std::mem::take(&mut sums.groups);
        let group_tops = std::mem::take(&mut sums.largest_by_group);
        let (extensions, categories) = by_kind(&mut sums);
        Self {
            reference,
            linked,
            owners: Holders::new(owners, owner_tops, |uid| names.user(uid)),
            groups: Holders::new(groups, group_tops, |gid| names.group(gid)),
            extensions,
            categories,
            largest: std::mem::take(&mut sums.largest).into_sorted(),
            sums,
        }
    }

    /// Plain counters.
    pub(super) fn totals(&self) -> &Totals {
        &self.sums.totals
    }

    /// The byte totals of the report.
    pub(super) fn bytes(&self) -> ByteTotals {
        let totals = self.totals();
        let unique = totals.single_blocks.saturating_add(self.linked.blocks);
        ByteTotals {
            apparent_bytes: totals.bytes,
            allocated_bytes: totals.blocks.saturating_mul(512),
            unique_allocated_bytes: unique.saturating_mul(512),
            hard_linked: totals.hard_linked,
        }
    }
}

impl Holders {
    fn new(usage: Owners, tops: OwnerTops, name: impl Fn(u32) -> Option<String>) -> Self {
        let (mut usage, others) = usage.finish();
        usage.sort_by_key(|&(id, usage)| (Reverse(usage.blocks), Reverse(usage.bytes), id));
        let sorted = tops.finish().0.into_iter();
        let sorted = sorted.map(|(id, top)| (id, top.into_sorted()));
        Self {
            names: names::look_up(usage.iter().map(|holder| holder.0), name),
            usage,
            others,
            largest: sorted.filter(|(_, files)| !files.is_empty()).collect(),
        }
    }
}

type ByExtension = Vec<(String, FileUsage)>;
type ByCategory = Vec<(Category, FileUsage)>;

fn by_kind(sums: &mut AuditSummary) -> (ByExtension, ByCategory) {
    let (mut kept, others) = std::mem::take(&mut sums.extensions).finish();
    match kept.iter_mut().find(|kind| kind.0 == Extension::OTHER) {
        Some((_, usage)) => usage.merge(&others),
        None if others.files > 0 => kept.push((Extension::OTHER, others)),
        None => {}
    }
    let mut categories = BTreeMap::<Category, FileUsage>::new();
    let mut extensions = ByExtension::new();
    for (extension, usage) in kept {
        let category = categories.entry(extension.category()).or_default();
        category.merge(&usage);
        extensions.push((extension.text(), usage));
    }
    extensions.sort_by(|(name_a, a), (name_b, b)| {
        let order = (b.bytes, b.files).cmp(&(a.bytes, a.files));
        order.then_with(|| name_a.cmp(name_b))
    });
    let mut categories: ByCategory = categories.into_iter().collect();
    categories.sort_by_key(|&(category, usage)| (Reverse(usage.bytes), category));
    (extensions, categories)
}
