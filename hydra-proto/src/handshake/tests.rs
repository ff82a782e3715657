//! Handshakes between honest sides, strangers and impostors, and the stream that follows.

use snow::Builder;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

use super::*;
use crate::frame::{FRAME_BYTES_MAX, FrameError};

const PSK: [u8; KEY_BYTES] = [7; KEY_BYTES];

fn server_key() -> ServerKey {
    ServerKey::new(&[1; KEY_BYTES], &PSK).unwrap()
}

/// The keys of the side that dials and of the side that is dialled, for both directions.
fn directions() -> [(Key, Key); 2] {
    let server = server_key();
    let client = server.client_key();
    [
        (server.clone().into(), client.clone().into()),
        (client.into(), server.into()),
    ]
}

/// Runs a handshake to its end, handing bytes over in pieces of `piece`.
fn shake(
    dialler: &Key,
    dialled: &Key,
    piece: usize,
) -> (
    Result<Transport, HandshakeError>,
    Result<Transport, HandshakeError>,
) {
    let mut opening = Vec::new();
    let mut initiator = Handshake::initiate(dialler, &mut opening).unwrap();
    let mut responder = Handshake::respond(dialled).unwrap();
    let mut reply = Vec::new();
    if let Err(error) = feed(&mut responder, &opening, piece, &mut reply) {
        assert!(reply.is_empty(), "a stranger was answered");
        return (Err(HandshakeError::Foreign), Err(error));
    }
    let mut proof = Vec::new();
    let dialled_by = match feed(&mut initiator, &reply, piece, &mut proof) {
        Ok(transport) => transport.expect("the answer ends it for the initiator"),
        Err(error) => return (Err(error), Err(HandshakeError::Foreign)),
    };
    assert!(responder.is_unproven());
    reply.clear();
    let answered = feed(&mut responder, &proof, piece, &mut reply);
    assert!(reply.is_empty());
    (Ok(dialled_by), answered.map(|transport| transport.unwrap()))
}

fn feed(
    side: &mut Handshake,
    bytes: &[u8],
    piece: usize,
    out: &mut Vec<u8>,
) -> Result<Option<Transport>, HandshakeError> {
    for mut chunk in bytes.chunks(piece) {
        if let Some(transport) = side.read(&mut chunk, out)? {
            assert!(chunk.is_empty());
            return Ok(Some(transport));
        }
    }
    Ok(None)
}

fn connected() -> (Transport, Transport) {
    let [(dialler, dialled), _] = directions();
    let (left, right) = shake(&dialler, &dialled, 1000);
    (left.unwrap(), right.unwrap())
}

fn sealed(sealer: &mut Sealer, frames: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        sealer.seal(frame, &mut out).unwrap();
    }
    sealer.flush(&mut out).unwrap();
    out
}

fn opened(opener: &mut Opener, bytes: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, TransportError> {
    let mut frames = Vec::new();
    for mut chunk in bytes.chunks(piece) {
        while let Some(frame) = opener.open(&mut chunk)? {
            frames.push(frame);
        }
        assert!(chunk.is_empty());
    }
    Ok(frames)
}

#[test]
fn both_directions_connect_and_talk_both_ways() {
    for (dialler, dialled) in directions() {
        for piece in [1, 7, 1000] {
            let (left, right) = shake(&dialler, &dialled, piece);
            let (mut left, mut right) = (left.unwrap(), right.unwrap());
            for _ in 0..3 {
                let there = sealed(&mut left.sealer, &[b"hello", b""]);
                assert_eq!(
                    opened(&mut right.opener, &there, piece).unwrap(),
                    [b"hello".to_vec(), vec![]]
                );
                let back = sealed(&mut right.sealer, &[b"welcome"]);
                assert_eq!(
                    opened(&mut left.opener, &back, piece).unwrap(),
                    [b"welcome"]
                );
            }
        }
    }
}

#[test]
fn the_messages_have_the_lengths_that_never_change() {
    for (dialler, dialled) in directions() {
        let (mut opening, mut reply, mut proof) = (Vec::new(), Vec::new(), Vec::new());
        let mut initiator = Handshake::initiate(&dialler, &mut opening).unwrap();
        let mut responder = Handshake::respond(&dialled).unwrap();
        assert_eq!((opening.len(), &opening[..4]), (52, &[48, 0, 0, 0][..]));
        responder.read(&mut &opening[..], &mut reply).unwrap();
        assert_eq!((reply.len(), &reply[..4]), (52, &[48, 0, 0, 0][..]));
        initiator.read(&mut &reply[..], &mut proof).unwrap();
        assert_eq!((proof.len(), &proof[..4]), (20, &[16, 0, 0, 0][..]));
    }
}

/// Two openings made once with the keys above: a version that does not answer them has changed
/// what must never change.
#[test]
fn golden_openings_are_answered() {
    let server = server_key();
    let cases: [(Key, &str); 2] = [
        (server.client_key().into(), GOLDEN_SERVER_DIALS),
        (server.into(), GOLDEN_CLIENT_DIALS),
    ];
    for (dialled, golden) in cases {
        let opening: Vec<u8> = golden
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let mut reply = Vec::new();
        let mut responder = Handshake::respond(&dialled).unwrap();
        responder.read(&mut &opening[..], &mut reply).unwrap();
        assert_eq!(reply.len(), 52);
    }
}

const GOLDEN_SERVER_DIALS: &str = "30000000\
    5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22\
    23a349aebc53ed26b3bf6bbc0dce2367";
const GOLDEN_CLIENT_DIALS: &str = "30000000\
    5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22\
    44d6143a6c30d746b219bc9f9095d04f";

#[test]
fn a_wrong_psk_draws_no_byte() {
    let other = ServerKey::new(&[1; KEY_BYTES], &[8; KEY_BYTES]).unwrap();
    for (dialler, dialled) in directions() {
        let stranger: Key = match dialler {
            Key::Server(_) => other.clone().into(),
            Key::Client(_) => other.client_key().into(),
        };
        let (_, refused) = shake(&stranger, &dialled, 1000);
        assert_eq!(refused.unwrap_err(), HandshakeError::WrongKey);
    }
}

#[test]
fn a_wrong_server_key_draws_no_byte() {
    let other = ServerKey::new(&[2; KEY_BYTES], &PSK).unwrap();
    for (dialler, dialled) in directions() {
        let stranger: Key = match dialler {
            Key::Server(_) => other.clone().into(),
            Key::Client(_) => other.client_key().into(),
        };
        let (_, refused) = shake(&stranger, &dialled, 1000);
        assert_eq!(refused.unwrap_err(), HandshakeError::WrongKey);
    }
}

#[test]
fn two_servers_or_two_clients_never_connect() {
    let server = server_key();
    let client: Key = server.client_key().into();
    let server: Key = server.into();
    for key in [server, client] {
        let (_, refused) = shake(&key, &key, 1000);
        assert_eq!(refused.unwrap_err(), HandshakeError::WrongKey);
    }
}

/// Cryptography that claims the true server's public key without holding its private key.
struct Forger {
    claimed: [u8; KEY_BYTES],
}

struct ForgedCurve {
    true_curve: Box<dyn Dh>,
    claimed: Option<[u8; KEY_BYTES]>,
    claim: [u8; KEY_BYTES],
}

impl CryptoResolver for Forger {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(ForgedCurve {
            true_curve: DefaultResolver.resolve_dh(choice)?,
            claimed: None,
            claim: self.claimed,
        }))
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

impl Dh for ForgedCurve {
    fn name(&self) -> &'static str {
        self.true_curve.name()
    }
    fn pub_len(&self) -> usize {
        self.true_curve.pub_len()
    }
    fn priv_len(&self) -> usize {
        self.true_curve.priv_len()
    }
    /// Only the static key is set; the ephemeral one is generated.
    fn set(&mut self, private: &[u8]) {
        self.true_curve.set(private);
        self.claimed = Some(self.claim);
    }
    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        self.true_curve.generate(random)
    }
    fn pubkey(&self) -> &[u8] {
        match &self.claimed {
            Some(claimed) => claimed,
            None => self.true_curve.pubkey(),
        }
    }
    fn privkey(&self) -> &[u8] {
        self.true_curve.privkey()
    }
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.true_curve.dh(public, out)
    }
}

/// Whoever holds a client's key knows the PSK and the server's public key: enough for an opening
/// that is answered, and not for the proof.
#[test]
fn an_impostor_with_a_clients_key_is_refused_at_the_proof() {
    let client = server_key().client_key();
    let proofs = [
        vec![0; TAG_BYTES],
        vec![0; MESSAGE_BYTES],
        vec![],
        vec![5; HANDSHAKE_BYTES_MAX],
    ];
    for proof in proofs {
        let forger = Forger {
            claimed: *client.server(),
        };
        let mut noise = Builder::with_resolver(SERVER_DIALS.parse().unwrap(), Box::new(forger))
            .prologue(PROLOGUE)
            .unwrap()
            .psk(0, client.psk())
            .unwrap()
            .local_private_key(&[9; KEY_BYTES])
            .unwrap()
            .build_initiator()
            .unwrap();
        let (mut opening, mut reply) = (Vec::new(), Vec::new());
        write(&mut noise, &mut opening).unwrap();
        let mut responder = Handshake::respond(&client.clone().into()).unwrap();
        let answered = responder.read(&mut &opening[..], &mut reply).unwrap();
        assert!(answered.is_none() && responder.is_unproven());
        assert!(noise.read_message(&reply[4..], &mut []).is_err());

        let mut framed = Vec::new();
        frame::encode(&proof, &mut framed).unwrap();
        reply.clear();
        let refused = responder.read(&mut &framed[..], &mut reply);
        assert_eq!(refused.unwrap_err(), HandshakeError::Unproven);
        assert!(reply.is_empty());
    }
}

#[test]
fn an_answer_from_somebody_else_is_refused() {
    for (dialler, _) in directions() {
        let mut initiator = Handshake::initiate(&dialler, &mut Vec::new()).unwrap();
        let mut answer = Vec::new();
        frame::encode(&[4; MESSAGE_BYTES], &mut answer).unwrap();
        let mut out = Vec::new();
        let refused = initiator.read(&mut &answer[..], &mut out);
        assert_eq!(refused.unwrap_err(), HandshakeError::WrongAnswer);
        assert!(out.is_empty());
    }
}

#[test]
fn what_is_no_handshake_is_foreign_and_draws_no_byte() {
    let [(_, dialled), _] = directions();
    let lengths = [0usize, 1, 47, 49, HANDSHAKE_BYTES_MAX];
    let mut strangers: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        vec![0xff; 4],
        vec![1, 1, 0, 0],
    ];
    for length in lengths {
        let mut framed = Vec::new();
        frame::encode(&vec![0; length], &mut framed).unwrap();
        strangers.push(framed);
    }
    for bytes in strangers {
        let mut responder = Handshake::respond(&dialled).unwrap();
        let mut reply = Vec::new();
        let refused = responder.read(&mut &bytes[..], &mut reply);
        assert_eq!(refused.unwrap_err(), HandshakeError::Foreign, "{bytes:?}");
        assert!(reply.is_empty());
    }
}

#[test]
fn a_truncated_or_damaged_opening_draws_no_byte() {
    for (dialler, dialled) in directions() {
        let mut opening = Vec::new();
        Handshake::initiate(&dialler, &mut opening).unwrap();
        for position in 4..opening.len() {
            let mut reply = Vec::new();
            let mut responder = Handshake::respond(&dialled).unwrap();
            let cut = responder.read(&mut &opening[..position], &mut reply);
            assert!(cut.unwrap().is_none());

            let mut damaged = opening.clone();
            damaged[position] ^= 1;
            let mut responder = Handshake::respond(&dialled).unwrap();
            let refused = responder.read(&mut &damaged[..], &mut reply);
            assert_eq!(refused.unwrap_err(), HandshakeError::WrongKey);
            assert!(reply.is_empty());
        }
    }
}

#[test]
fn a_handshake_that_failed_stays_over() {
    let [(dialler, dialled), _] = directions();
    let mut responder = Handshake::respond(&dialled).unwrap();
    let mut garbage = Vec::new();
    frame::encode(&[0; MESSAGE_BYTES], &mut garbage).unwrap();
    let mut reply = Vec::new();
    responder.read(&mut &garbage[..], &mut reply).unwrap_err();
    let mut opening = Vec::new();
    Handshake::initiate(&dialler, &mut opening).unwrap();
    let refused = responder.read(&mut &opening[..], &mut reply);
    assert_eq!(refused.unwrap_err(), HandshakeError::Over);
    assert!(reply.is_empty());
}

#[test]
fn what_follows_the_proof_at_once_is_left_in_the_input() {
    let [(dialler, dialled), _] = directions();
    let (mut opening, mut reply, mut burst) = (Vec::new(), Vec::new(), Vec::new());
    let mut initiator = Handshake::initiate(&dialler, &mut opening).unwrap();
    let mut responder = Handshake::respond(&dialled).unwrap();
    responder.read(&mut &opening[..], &mut reply).unwrap();
    let left = initiator.read(&mut &reply[..], &mut burst).unwrap();
    burst.extend(sealed(&mut left.unwrap().sealer, &[b"hello"]));
    let mut input = burst.as_slice();
    let right = responder.read(&mut input, &mut reply).unwrap();
    let frames = opened(&mut right.unwrap().opener, input, 1000).unwrap();
    assert_eq!(frames, [b"hello"]);
}

#[test]
fn a_frame_larger_than_a_record_survives() {
    let (mut left, mut right) = connected();
    let large: Vec<u8> = (0..10u32 << 20).map(|n| (n % 251) as u8).collect();
    let stream = sealed(&mut left.sealer, &[&large, b"after"]);
    let frames = opened(&mut right.opener, &stream, 10_007).unwrap();
    assert!(frames == [large, b"after".to_vec()]);
    assert!(!right.opener.is_mid_frame());
}

#[test]
fn short_frames_share_a_record() {
    let (mut left, mut right) = connected();
    let stream = sealed(&mut left.sealer, &[b"x".as_slice(); 1000]);
    assert_eq!(stream.len(), 4 + 1000 * 5 + TAG_BYTES);
    assert_eq!(opened(&mut right.opener, &stream, 1).unwrap().len(), 1000);
}

#[test]
fn a_frame_over_the_limit_is_refused_on_both_sides() {
    let (mut left, mut right) = connected();
    let mut out = Vec::new();
    let long = vec![0; FRAME_BYTES_MAX + 1];
    left.sealer.seal(&long, &mut out).unwrap_err();
    left.sealer.flush(&mut out).unwrap();
    assert!(out.is_empty());

    // A peer that holds the key and breaks the rules.
    left.sealer.write(&[0xff; 4], &mut out).unwrap();
    left.sealer.flush(&mut out).unwrap();
    let refused = opened(&mut right.opener, &out, 1000);
    assert!(matches!(
        refused,
        Err(TransportError::Frame(FrameError::TooLong { .. }))
    ));
}

#[test]
fn a_damaged_repeated_or_missing_record_ends_the_stream() {
    let (mut left, _) = connected();
    let first = sealed(&mut left.sealer, &[b"first"]);
    for position in 4..first.len() {
        let (mut left, mut right) = connected();
        let mut damaged = sealed(&mut left.sealer, &[b"first"]);
        damaged[position] ^= 0x80;
        let refused = opened(&mut right.opener, &damaged, 1000);
        assert_eq!(refused, Err(TransportError::Decrypt));
    }
    let (mut left, mut right) = connected();
    let first = sealed(&mut left.sealer, &[b"first"]);
    opened(&mut right.opener, &first, 1000).unwrap();
    let repeated = opened(&mut right.opener, &first, 1000);
    assert_eq!(repeated, Err(TransportError::Decrypt));

    let (mut left, mut right) = connected();
    sealed(&mut left.sealer, &[b"lost"]);
    let second = sealed(&mut left.sealer, &[b"second"]);
    let skipped = opened(&mut right.opener, &second, 1000);
    assert_eq!(skipped, Err(TransportError::Decrypt));

    let (_, mut right) = connected();
    let short = opened(&mut right.opener, &[3, 0, 0, 0, 1, 2, 3], 1000);
    assert_eq!(short, Err(TransportError::Decrypt));
}

#[test]
fn a_stream_cut_inside_a_frame_is_noticed() {
    let (mut left, mut right) = connected();
    let stream = sealed(&mut left.sealer, &[&[1; 100_000]]);
    for cut in [1, 5, 65_539, stream.len() - 1] {
        let (mut left, mut right) = connected();
        let stream = sealed(&mut left.sealer, &[&[1; 100_000]]);
        assert_eq!(opened(&mut right.opener, &stream[..cut], 1000), Ok(vec![]));
        assert!(right.opener.is_mid_frame(), "cut at {cut}");
    }
    assert!(!right.opener.is_mid_frame());
    opened(&mut right.opener, &stream, 1000).unwrap();
    assert!(!right.opener.is_mid_frame());
}

#[test]
fn keys_do_not_show_their_secrets() {
    let server = server_key();
    let shown = format!("{:?} {:?}", server, Key::from(server.client_key()));
    assert_eq!(shown, "ServerKey { .. } Client(ClientKey { .. })");
    assert!(ServerKey::generate().unwrap() != ServerKey::generate().unwrap());
}
