//! Sending over connections, and closing them.

use super::net::{Link, Node, Pipe};
use super::world::{Event, World};
use hydra_proto::codec;
use hydra_proto::ids::ConnId;
use hydra_proto::message::{Down, Up};
use std::time::Duration;

/// The most messages that may be on their way in one direction of a connection.
const FLYING_MAX: u32 = 2000;

impl World {
    pub(crate) fn link(&self, conn: ConnId) -> &Link {
        &self.links[conn.0 as usize]
    }

    pub(crate) fn link_mut(&mut self, conn: ConnId) -> &mut Link {
        &mut self.links[conn.0 as usize]
    }

    pub(crate) fn open_link(&mut self, child: Node, parent: Node, latency: Duration) -> ConnId {
        let conn = ConnId(self.links.len() as u64);
        let (life, parent_life) = (self.life_of(child), self.life_of(parent));
        let late = self.rng.chance(50);
        self.links.push(Link {
            child,
            life,
            parent,
            parent_life,
            up: Pipe::default(),
            down: Pipe::default(),
            child_open: true,
            parent_open: true,
            late,
            latency,
            joined: false,
        });
        conn
    }

    pub(crate) fn send_up(&mut self, conn: ConnId, message: Up) {
        let message = self.coded(message);
        let (now, link) = (self.now, &mut self.links[conn.0 as usize]);
        if !link.child_open || link.up.cut {
            return;
        }
        link.up.flying += 1;
        let flying = link.up.flying;
        let at = link.up.arrival(now, link.latency, &mut self.rng);
        let event = Event::ToParent(conn, link.up.generation, Box::new(message));
        self.at(at, event);
        self.bound(flying);
    }

    pub(crate) fn send_down(&mut self, conn: ConnId, message: Down) {
        let message = self.coded(message);
        let (now, link) = (self.now, &mut self.links[conn.0 as usize]);
        if !link.parent_open || link.down.cut {
            return;
        }
        link.down.flying += 1;
        let flying = link.down.flying;
        let at = link.down.arrival(now, link.latency, &mut self.rng);
        let event = Event::ToChild(conn, link.down.generation, Box::new(message));
        self.at(at, event);
        self.bound(flying);
    }

    fn bound(&mut self, flying: u32) {
        if flying > FLYING_MAX {
            self.fail("too many messages are on their way");
        }
    }

    /// In some seeds every message goes through the codec.
    pub(crate) fn coded<T>(&self, message: T) -> T
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        if !self.encode {
            return message;
        }
        let bytes = codec::encode(&message).expect("a message that fits");
        let again: T = codec::decode(&bytes).expect("a message that was encoded");
        assert_eq!(again, message);
        again
    }

    /// The parent closes its end: the child learns of it after what was sent.
    pub(crate) fn close_parent(&mut self, conn: ConnId) {
        let (now, link) = (self.now, &mut self.links[conn.0 as usize]);
        if std::mem::replace(&mut link.parent_open, false) && !link.down.cut {
            let at = link.down.arrival(now, link.latency, &mut self.rng);
            self.at(at, Event::ChildEnd(conn));
        }
    }

    /// The child closes its end, or dies: the parent learns of it after what was sent.
    pub(crate) fn close_child(&mut self, conn: ConnId) {
        let (now, link) = (self.now, &mut self.links[conn.0 as usize]);
        if std::mem::replace(&mut link.child_open, false) && !link.up.cut {
            let at = link.up.arrival(now, link.latency, &mut self.rng);
            self.at(at, Event::ParentEnd(conn));
        }
    }
}
