//! Commits that are too large for one message: cut into parts on their way, and put together again.
//!
//! A commit is one atomic step, however much was found since the last one. So its lists travel in parts that
//! the parent keeps until the commit itself comes, and forgets when the connection is lost.

use super::ProtocolError;
use crate::item::Parcel;
use crate::message::{Commit, Load, Up};

/// A commit that takes more bytes than this goes in parts. Far below a frame's limit, since one parcel and
/// the result may come on top.
pub(super) const PART_BYTES: usize = 1 << 20;
/// The most bytes that the parts of one commit may take at a parent.
const PARTS_BYTES_MAX: usize = 256 << 20;
/// Bytes of a range of ids, at most.
const RANGE_BYTES: usize = 18;

/// The messages that say `commit`.
pub(super) fn split(commit: Commit, most: usize) -> Vec<Up> {
    let mut messages = Vec::new();
    let mut part = empty_part(&commit);
    let mut size = 0;
    let mut last = empty_part(&commit);
    (last.result, last.load, last.answers) = (commit.result, commit.load, commit.answers);
    let mut make_room = |part: &mut Commit, more: usize| {
        if size > 0 && size + more > most {
            let full = std::mem::replace(part, empty_part(part));
            messages.push(Up::Part(Box::new(full)));
            size = 0;
        }
        size += more;
    };
    for range in commit.done {
        make_room(&mut part, RANGE_BYTES);
        part.done.push(range);
    }
    for parcel in commit.new {
        make_room(&mut part, parcel.size());
        part.new.push(parcel);
    }
    for range in commit.give {
        make_room(&mut part, RANGE_BYTES);
        part.give.push(range);
    }
    for range in commit.begun {
        make_room(&mut part, RANGE_BYTES);
        part.begun.push(range);
    }
    for failure in commit.failed {
        make_room(&mut part, RANGE_BYTES + failure.reason.len());
        part.failed.push(failure);
    }
    (last.done, last.new) = (part.done, part.new);
    (last.give, last.failed) = (part.give, part.failed);
    last.begun = part.begun;
    messages.push(Up::Commit(Box::new(last)));
    messages
}

/// Roughly the bytes of a commit, its result included.
pub(super) fn size(commit: &Commit) -> usize {
    let result = commit.result.as_ref();
    let result = result.map_or(0, |delta| delta.plugin.len() + delta.rows.len());
    result + lists(commit)
}

fn lists(commit: &Commit) -> usize {
    let parcels: usize = commit.new.iter().map(Parcel::size).sum();
    let failed = commit.failed.iter();
    let failures: usize = failed.map(|failure| failure.reason.len()).sum();
    let lists = [commit.done.len(), commit.give.len(), commit.begun.len()];
    let lists = lists.iter().sum::<usize>() + commit.failed.len();
    parcels + failures + lists * RANGE_BYTES
}

fn empty_part(commit: &Commit) -> Commit {
    Commit {
        epoch: commit.epoch,
        seq: commit.seq,
        done: Vec::new(),
        new: Vec::new(),
        give: Vec::new(),
        failed: Vec::new(),
        result: None,
        load: Load::default(),
        answers: None,
        begun: Vec::new(),
    }
}

/// The parts of a commit that has not come yet.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Option<Commit>,
    bytes: usize,
}

impl Parts {
    /// Keeps a part.
    pub(super) fn add(&mut self, part: Commit) -> Result<(), ProtocolError> {
        self.bytes = self.bytes.saturating_add(lists(&part));
        if self.bytes > PARTS_BYTES_MAX {
            return Err(ProtocolError::Unexpected("a commit larger than the limit"));
        }
        match &mut self.parts {
            Some(parts) => append(parts, part),
            None => self.parts = Some(part),
        }
        Ok(())
    }

    /// The whole commit of which `last` is the end.
    pub(super) fn complete(&mut self, mut last: Commit) -> Commit {
        self.bytes = 0;
        if let Some(mut parts) = self.parts.take() {
            let (result, load, answers) = (last.result.take(), last.load, last.answers);
            append(&mut parts, last);
            last = Commit {
                result,
                load,
                answers,
                ..parts
            };
        }
        last
    }
}

fn append(to: &mut Commit, from: Commit) {
    to.done.extend(from.done);
    to.new.extend(from.new);
    to.give.extend(from.give);
    to.failed.extend(from.failed);
    to.begun.extend(from.begun);
}
