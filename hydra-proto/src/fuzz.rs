//! What must hold for whatever bytes come: one function for each thing that reads bytes of a peer.
//!
//! Called by the fuzzer (`fuzz/`) and, with seeded bytes, by the tests. Not part of the library.

use crate::codec;
use crate::frame::{self, FrameDecoder};
use crate::handshake::{ClientKey, Handshake, Key, ServerKey, Transport};
use crate::ids::{ConnId, IdRange, ItemId, JobId, RootId};
use crate::item::{Dirs, Item, NameList, Parcel};
use crate::job::{JobSpec, RootSpec};
use crate::ledger::{Action, Parent, ParentConfig, Time};
use crate::message::{Down, Up};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

#[cfg(test)]
mod tests;

/// What is set aside for a frame of which only the header has come.
const RESERVE: usize = 64 << 10;

/// A stream is cut into the same frames however it arrives, and costs no more memory than has arrived.
///
/// The first byte says how long a frame may be, the second in what pieces the rest arrives.
pub fn frame(data: &[u8]) {
    let [limit, step, stream @ ..] = data else {
        return;
    };
    let (limit, step) = (usize::from(*limit) * 16, usize::from(*step) + 1);
    let (mut whole, mut cut) = (FrameDecoder::new(limit), FrameDecoder::new(limit));
    let mut input = stream;
    let (frames, error) = drain(&mut whole, &mut input);
    let mut pieces = Vec::new();
    let mut piecewise = None;
    for mut piece in stream.chunks(step) {
        let (more, error) = drain(&mut cut, &mut piece);
        pieces.extend(more);
        piecewise = error;
    }
    assert_eq!((&frames, error), (&pieces, piecewise));
    let mut again = Vec::new();
    for payload in &frames {
        assert!(payload.len() <= limit);
        assert!(payload.capacity() <= payload.len().max(RESERVE));
        frame::encode(payload, &mut again).expect("it was a frame");
    }
    assert!(stream.starts_with(&again));
    let tail = &stream[again.len()..];
    if error.is_none() {
        assert!(input.is_empty());
        assert_eq!(whole.is_mid_frame(), !tail.is_empty());
    }
    let announced = tail.first_chunk().map(|&header| u32::from_le_bytes(header));
    let too_long = announced.is_some_and(|length| length as usize > limit);
    assert_eq!(error.is_some(), too_long);
}

fn drain(
    decoder: &mut FrameDecoder,
    input: &mut &[u8],
) -> (Vec<Vec<u8>>, Option<frame::FrameError>) {
    let mut frames = Vec::new();
    loop {
        match decoder.decode(input) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// Nobody without the key comes through a handshake, and nobody who sits in between changes a word unnoticed.
///
/// The first byte says who dials, and whether the rest is what a stranger says; else the second byte is the
/// number of changes of three bytes each (place, what is flipped), and the rest are frames that are sent.
pub fn handshake(data: &[u8]) {
    let [mode, data @ ..] = data else {
        return;
    };
    let server = ServerKey::new(&[7; 32], &[9; 32]).expect("a key");
    let client: Key = ClientKey::new(server.psk(), server.public()).into();
    let server: Key = server.into();
    let (dials, waits) = match mode & 1 {
        0 => (&server, &client),
        _ => (&client, &server),
    };
    if mode & 2 != 0 {
        return strangers(dials, waits, data);
    }
    let [count, data @ ..] = data else {
        return;
    };
    let (changes, words) = data.split_at(data.len().min(3 * usize::from(*count)));
    let mut wire = Wire { changes, at: 0 };
    let Some((mut near, mut far)) = greet(dials, waits, &mut wire) else {
        return;
    };
    let words: Vec<&[u8]> = words.chunks(100).collect();
    let mut stream = Vec::new();
    for word in &words {
        near.sealer.seal(word, &mut stream).expect("it is short");
    }
    near.sealer.flush(&mut stream).expect("few records");
    let touched = wire.pass(&mut stream);
    let (mut heard, mut input) = (Vec::new(), stream.as_slice());
    while let Ok(Some(word)) = far.opener.open(&mut input) {
        heard.push(word);
    }
    assert!(words.starts_with(&heard.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    assert!(touched || heard.len() == words.len());
}

/// What a stranger says leads nowhere; it draws an answer only if it is an old opening.
fn strangers(dials: &Key, waits: &Key, said: &[u8]) {
    let mut responder = Handshake::respond(waits).expect("randomness");
    let (mut input, mut out) = (said, Vec::new());
    let end = responder.read(&mut input, &mut out);
    assert!(!matches!(end, Ok(Some(_))));
    assert!(out.is_empty() || responder.is_unproven() || end.is_err());
    let mut out = Vec::new();
    let mut initiator = Handshake::initiate(dials, &mut out).expect("randomness");
    let (mut input, opening) = (said, out.len());
    assert!(!matches!(initiator.read(&mut input, &mut out), Ok(Some(_))));
    assert_eq!(out.len(), opening);
}

/// What lies between two ends, and changes bytes.
struct Wire<'a> {
    changes: &'a [u8],
    at: usize,
}

impl Wire<'_> {
    /// Says whether it changed any.
    fn pass(&mut self, bytes: &mut [u8]) -> bool {
        let before = bytes.to_vec();
        for change in self.changes.chunks_exact(3) {
            let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
            let place = place.checked_sub(self.at);
            if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
                *byte ^= change[2];
            }
        }
        self.at += bytes.len();
        bytes != before
    }
}

/// A handshake over this wire. None if it was touched, and then neither end believes the other.
fn greet(dials: &Key, waits: &Key, wire: &mut Wire<'_>) -> Option<(Transport, Transport)> {
    let mut opening = Vec::new();
    let mut initiator = Handshake::initiate(dials, &mut opening).expect("randomness");
    let mut responder = Handshake::respond(waits).expect("randomness");
    let mut answer = Vec::new();
    let touched = wire.pass(&mut opening);
    let opened = responder.read(&mut opening.as_slice(), &mut answer);
    assert!(!matches!(opened, Ok(Some(_))));
    assert_eq!(answer.is_empty(), touched);
    if touched {
        return None;
    }
    let mut proof = Vec::new();
    let touched = wire.pass(&mut answer);
    let answered = initiator.read(&mut answer.as_slice(), &mut proof);
    assert_eq!(matches!(answered, Ok(Some(_))), !touched);
    assert_eq!(proof.is_empty(), touched);
    let near = answered.ok().flatten()?;
    let touched = wire.pass(&mut proof);
    let proven = responder.read(&mut proof.as_slice(), &mut Vec::new());
    assert_eq!(matches!(proven, Ok(Some(_))), !touched);
    Some((near, proven.ok().flatten()?))
}

/// What can be read is written and read again as the same, and items in it that pass their check hold together.
///
/// The first byte says in which direction the message goes.
pub fn messages(data: &[u8]) {
    let parcels = parcels_of(data).unwrap_or_default();
    for parcel in parcels {
        let (ids, dir) = (parcel.ids(), parcel.dir().to_vec());
        if parcel.check().is_err() {
            continue;
        }
        let items: Vec<_> = Item::unpack(parcel).collect();
        assert_eq!(items.len() as u64, ids.len());
        assert!(items.iter().all(|(id, _)| ids.contains(*id)));
        assert!(items.iter().all(|(_, item)| item.path().starts_with(&dir)));
        let again = Item::pack(items.clone());
        assert!(again.iter().all(|parcel| parcel.check().is_ok()));
        let again: Vec<_> = again.into_iter().flat_map(Item::unpack).collect();
        let paths = |items: &[(ItemId, Item)]| -> Vec<_> {
            items.iter().map(|(id, item)| (*id, item.path())).collect()
        };
        assert_eq!(paths(&items), paths(&again));
    }
}

/// The items in a message; nothing if it is none.
fn parcels_of(data: &[u8]) -> Option<Vec<Parcel>> {
    let (direction, bytes) = data.split_first()?;
    Some(match direction & 1 {
        0 => match survives::<Up>(bytes)? {
            Up::Commit(commit) | Up::Part(commit) => commit.new,
            _ => Vec::new(),
        },
        _ => match survives::<Down>(bytes)? {
            Down::Grant(grant) => grant.items,
            _ => Vec::new(),
        },
    })
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = codec::decode(bytes).ok()?;
    let again = codec::encode(&value).expect("it was in a frame");
    // Numbers may have come in more bytes than they need.
    assert!(again.len() <= bytes.len());
    assert_eq!(codec::decode::<T>(&again).expect("what was written"), value);
    Some(value)
}

/// A child that holds the key and says anything at all: the ledger refuses or applies it, and still adds up.
///
/// The bytes are a stream of frames, each a message.
pub fn child(data: &[u8]) {
    drop(converse(data));
}

fn converse(data: &[u8]) -> Parent {
    let mut parent = job();
    let conn = ConnId(1);
    let (frames, _) = drain(&mut FrameDecoder::new(frame::FRAME_BYTES_MAX), &mut {
        data
    });
    for (moment, frame) in frames.iter().enumerate() {
        let now = Time::from_millis(moment as u64);
        match codec::decode::<Up>(frame) {
            Ok(message) => parent.handle(now, conn, message),
            Err(_) => break,
        }
        while let Some(action) = parent.poll_action() {
            match action {
                Action::Sees { child, .. } => parent.serve(child, vec![true]),
                Action::Close { conn } => parent.closed(now, conn),
                _ => {}
            }
        }
        let counts = parent.counts();
        assert!(counts.balanced(), "{counts:?}");
    }
    // Whatever it did, another one gets what is left.
    parent.closed(Time::from_secs(1), conn);
    let mut now = Time::from_secs(1);
    while let Some(next) = parent.poll_timeout() {
        now = now.max(next);
        parent.tick(now);
        while parent.poll_action().is_some() {}
    }
    assert_eq!(parent.counts().owned, 0);
    parent
}

fn job() -> Parent {
    let mut parent = Parent::new(ParentConfig {
        job: JobId(0xfeed),
        spec: JobSpec {
            plugin: "none".to_owned(),
            roots: vec![RootSpec::default()],
            ..JobSpec::default()
        },
        ids: IdRange {
            start: 1,
            end: 1 << 62,
        },
        lease_ids: 1000,
        resumable: true,
        forward_logs: true,
        release: String::new(),
        secrets: Box::new(|| [7; 16]),
    });
    let root = parent.take_ids(1).expect("ids");
    let names: NameList = [&b""[..]].into_iter().collect();
    let root = Parcel::Dirs(Dirs {
        first: ItemId(root.start),
        root: RootId(0),
        dir: Vec::new(),
        names,
    });
    parent.add(vec![root], false);
    parent
}
