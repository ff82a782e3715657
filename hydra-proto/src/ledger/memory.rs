//! How much memory a parent's items may take. Beyond that its children are to be frugal: to read large directories
//! piece by piece, so that they find less than they do. What there is too much of goes elsewhere: from a client back to
//! the server (`relay`), from the server's pool into its store (`store`).
//!
//! ```text
//!   bytes in memory   ────── ½ limit ──────── ¾ limit ──────────── limit ──────►
//!                               │ put away      ▲                   │ frugal, children are asked to give back
//!                                               └── as usual ◄──────┘
//! ```

use super::parent::{Action, Parent};
use crate::ids::ConnId;
use crate::message::Down;

/// A piece that is put away has this part of the limit, and at most so many bytes.
const PIECE_SHARE: u64 = 64;
const PIECE_MAX: u64 = 1 << 20;

/// The limit, and what follows from it.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    /// There was more than the limit, and is not much less yet.
    over: bool,
    /// This parent's own parent wants it to be frugal.
    told: bool,
    /// What the children were told.
    frugal: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            limit: u64::MAX,
            over: false,
            told: false,
            frugal: false,
        }
    }
}

impl Parent {
    /// Makes children frugal when the items here take more than about so many bytes, until they take a quarter less.
    /// Default: never.
    pub fn limit_memory(&mut self, bytes: u64) {
        self.memory.limit = bytes;
    }

    /// Whether there are more items than memory for them.
    pub(super) fn is_over(&self) -> bool {
        self.memory.over
    }

    pub(super) fn is_frugal(&self) -> bool {
        self.memory.frugal
    }

    /// Says whether this parent's own parent wants it to be frugal.
    pub(super) fn be_frugal(&mut self, told: bool) {
        self.memory.told = told;
        self.mind_memory();
    }

    /// Compares what there is with the limit, and tells the children.
    pub(super) fn mind_memory(&mut self) {
        self.make_room();
        let memory = &mut self.memory;
        let calm = match memory.over {
            true => memory.limit / 4 * 3,
            false => memory.limit,
        };
        memory.over = self.table.bytes() > calm;
        let frugal = memory.over || memory.told;
        if std::mem::replace(&mut memory.frugal, frugal) != frugal {
            self.say_frugal(frugal);
        }
        if self.memory.over && self.has_room_elsewhere() {
            self.ask_back();
        }
    }

    /// Puts away what there is too much of.
    pub(super) fn make_room(&mut self) {
        let limit = self.memory.limit;
        self.put_away(limit / 2, (limit / PIECE_SHARE).min(PIECE_MAX));
    }

    fn say_frugal(&mut self, frugal: bool) {
        let conns = self.conns.keys();
        let say = |&conn: &ConnId| Action::Send {
            conn,
            message: Down::Frugal(frugal),
        };
        self.actions.extend(conns.map(say));
    }
}
