//! Connections over in-memory streams: what two honest sides see, and what the others do.

use std::time::Duration;

use hydra_link::{Connection, EstablishError, LinkError, Timeouts};
use hydra_proto::frame::{FRAME_BYTES_MAX, encode};
use hydra_proto::handshake::{HandshakeError, Key, ServerKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn server_key() -> ServerKey {
    ServerKey::new(&[1; 32], &[2; 32]).unwrap()
}

fn keys() -> (Key, Key) {
    let server = server_key();
    let client = server.client_key();
    (server.into(), client.into())
}

async fn connected(buffer: usize) -> (Connection, Connection) {
    let (server, client) = keys();
    let (near, far) = duplex(buffer);
    let timeouts = Timeouts::default();
    let (near, far) = tokio::join!(
        Connection::initiate(near, &server, &timeouts),
        Connection::respond(far, &client, &timeouts)
    );
    (near.unwrap(), far.unwrap())
}

fn plain(buffer: usize) -> (Connection, Connection) {
    let (near, far) = duplex(buffer);
    let timeouts = Timeouts::default();
    (
        Connection::plain(near, &timeouts),
        Connection::plain(far, &timeouts),
    )
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// Frames of many sizes go there and come back over a stream that passes few bytes at a time.
async fn echo(near: Connection, far: Connection) {
    let (mut replies, mut writer) = near.split();
    let sizes = [0, 1, 5, 1000, 65_519, 65_520, 200_000, 10 << 20];
    let sending = async {
        for size in sizes {
            writer.queue(&pattern(size)).await.unwrap();
        }
        writer.close().await.unwrap();
    };
    let echoing = async {
        let (mut reader, mut writer) = far.split();
        while let Some(frame) = reader.next().await.unwrap() {
            writer.send(&frame).await.unwrap();
        }
    };
    let receiving = async {
        let mut received = Vec::new();
        while let Some(frame) = replies.next().await.unwrap() {
            received.push(frame);
        }
        received
    };
    let ((), (), received) = tokio::join!(sending, echoing, receiving);
    assert!(received.into_iter().eq(sizes.map(pattern)));
}

#[tokio::test]
async fn frames_of_all_sizes_go_there_and_back_encrypted() {
    let (near, far) = connected(8 << 10).await;
    echo(near, far).await;
}

#[tokio::test]
async fn frames_of_all_sizes_go_there_and_back_plain() {
    let (near, far) = plain(8 << 10);
    echo(near, far).await;
}

#[tokio::test]
async fn a_stream_that_passes_one_byte_at_a_time_will_do() {
    let (mut near, mut far) = connected(1).await;
    let (sent, received) = tokio::join!(near.send(b"hello"), far.next());
    sent.unwrap();
    assert_eq!(received.unwrap().unwrap(), b"hello");
}

#[tokio::test]
async fn a_read_dropped_half_way_loses_nothing() {
    let (near, far) = connected(7).await;
    let (_keep, mut writer) = near.split();
    let (mut reader, _keep_too) = far.split();
    let payload = pattern(10_000);
    let sending = async {
        writer.send(&payload).await.unwrap();
        std::future::pending::<()>().await
    };
    tokio::pin!(sending);
    let received = loop {
        // Each turn drops the read after it has taken what there was.
        tokio::select! {
            biased;
            frame = reader.next() => break frame.unwrap().unwrap(),
            () = &mut sending => unreachable!(),
            () = tokio::task::yield_now() => {}
        }
    };
    assert!(received == payload);
}

#[tokio::test]
async fn a_send_dropped_half_way_damages_nothing() {
    let (near, far) = connected(64).await;
    let (_keep, mut writer) = near.split();
    let (mut reader, _keep_too) = far.split();
    let payload = pattern(10_000);
    tokio::select! {
        biased;
        _ = writer.send(&payload) => panic!("nobody reads"),
        () = tokio::task::yield_now() => {}
    }
    let (sent, first) = tokio::join!(writer.send(b"second"), async {
        let first = reader.next().await.unwrap().unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), b"second");
        first
    });
    sent.unwrap();
    assert!(first == payload);
}

#[tokio::test]
async fn queued_frames_arrive_after_a_flush_and_not_before() {
    let (near, far) = connected(1 << 20).await;
    let (_keep, mut writer) = near.split();
    let (mut reader, _keep_too) = far.split();
    for number in 0..100u8 {
        writer.queue(&[number]).await.unwrap();
    }
    tokio::select! {
        biased;
        _ = reader.next() => panic!("arrived without a flush"),
        () = tokio::task::yield_now() => {}
    }
    writer.flush().await.unwrap();
    for number in 0..100u8 {
        assert_eq!(reader.next().await.unwrap().unwrap(), [number]);
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_and_the_next_one_passes() {
    for (mut near, mut far) in [connected(1 << 16).await, plain(1 << 16)] {
        let refused = near.send(&vec![0; FRAME_BYTES_MAX + 1]).await;
        assert!(matches!(refused, Err(LinkError::Garbage(_))));
        near.send(b"fine").await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), b"fine");
    }
}

#[tokio::test]
async fn a_stream_cut_inside_a_frame_is_an_error_and_between_frames_an_end() {
    let (mut raw, far) = duplex(1 << 10);
    let mut far = Connection::plain(far, &Timeouts::default());
    raw.write_all(b"\x02\0\0\0hi\x05\0\0\0hal").await.unwrap();
    drop(raw);
    assert_eq!(far.next().await.unwrap().unwrap(), b"hi");
    assert!(matches!(far.next().await, Err(LinkError::Cut)));

    let (near, mut far) = connected(1 << 10).await;
    drop(near);
    assert!(far.next().await.unwrap().is_none());
}

#[tokio::test]
async fn garbage_ends_a_connection_with_an_error() {
    let (mut raw, far) = duplex(1 << 10);
    let mut far = Connection::plain(far, &Timeouts::default());
    raw.write_all(&[0xff; 8]).await.unwrap();
    assert!(matches!(far.next().await, Err(LinkError::Garbage(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_an_error_after_a_while() {
    let (mut near, _far) = connected(1 << 10).await;
    let stalled = near.send(&pattern(100_000)).await;
    assert!(matches!(stalled, Err(LinkError::Stalled(_))));
}

async fn respond_to(key: &Key, bytes: &[u8]) -> (Result<Connection, EstablishError>, Vec<u8>) {
    let (mut raw, far) = duplex(1 << 10);
    raw.write_all(bytes).await.unwrap();
    raw.shutdown().await.unwrap();
    let result = Connection::respond(far, key, &Timeouts::default()).await;
    let mut reply = Vec::new();
    raw.read_to_end(&mut reply).await.unwrap();
    (result, reply)
}

#[tokio::test]
async fn strangers_receive_no_byte() {
    let (server, client) = keys();
    let mut junk = Vec::new();
    encode(&[3; 48], &mut junk).unwrap();
    let strangers: [&[u8]; 5] = [
        b"",
        b"\x30\0\0",
        &junk[..20],
        &junk,
        b"GET / HTTP/1.0\r\n\r\n",
    ];
    for key in [server, client] {
        for stranger in strangers {
            let (result, reply) = respond_to(&key, stranger).await;
            assert!(result.is_err());
            assert!(reply.is_empty(), "answered {stranger:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_side_is_given_up_at_the_deadline() {
    let (server, client) = keys();
    let timeouts = Timeouts::default();
    let (_silent, far) = duplex(1 << 10);
    let late = Connection::respond(far, &client, &timeouts).await;
    assert!(matches!(late, Err(EstablishError::Late(_))));
    let (_silent, near) = duplex(1 << 10);
    let late = Connection::initiate(near, &server, &timeouts).await;
    assert!(matches!(late, Err(EstablishError::Late(_))));
}

/// Bytes that trickle in do not extend the deadline.
#[tokio::test(start_paused = true)]
async fn a_trickle_does_not_extend_the_deadline() {
    let (_, client) = keys();
    let timeouts = Timeouts::default();
    let (raw, far) = duplex(1 << 10);
    let trickle = async {
        let mut raw: DuplexStream = raw;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut opening = Vec::new();
        encode(&[3; 48], &mut opening).unwrap();
        for byte in opening {
            ticks.tick().await;
            raw.write_all(&[byte]).await.unwrap();
        }
    };
    tokio::select! {
        late = Connection::respond(far, &client, &timeouts) => {
            assert!(matches!(late, Err(EstablishError::Late(_))));
        }
        () = trickle => panic!("the deadline never came"),
    }
}

#[tokio::test]
async fn a_dialled_client_says_nothing_before_the_proof() {
    let (server, client) = keys();
    let (mut raw, far) = duplex(1 << 10);
    let timeouts = Timeouts::default();
    let mut opening = Vec::new();
    let _ = hydra_proto::handshake::Handshake::initiate(&server, &mut opening).unwrap();
    raw.write_all(&opening).await.unwrap();
    let impostor = async {
        let mut answer = [0; 52];
        raw.read_exact(&mut answer).await.unwrap();
        let mut proof = Vec::new();
        encode(&[0; 16], &mut proof).unwrap();
        raw.write_all(&proof).await.unwrap();
        let mut more = Vec::new();
        raw.read_to_end(&mut more).await.unwrap();
        more
    };
    let (result, more) = tokio::join!(Connection::respond(far, &client, &timeouts), impostor);
    assert!(matches!(
        result,
        Err(EstablishError::Refused(HandshakeError::Unproven))
    ));
    assert!(more.is_empty());
}
