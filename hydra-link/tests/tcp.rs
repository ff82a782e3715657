//! Dialling and listening over loopback: both directions, and everybody who should not get in.

use std::sync::Arc;
use std::time::Duration;

use hydra_link::address::HostPort;
use hydra_link::{
    Connection, DialError, ListenError, Listener, PENDING_MAX, Timeouts, dial, dial_telling,
};
use hydra_proto::handshake::{ClientKey, Key, ServerKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SHORT: Duration = Duration::from_millis(300);

fn server_key() -> ServerKey {
    ServerKey::new(&[1; 32], &[2; 32]).unwrap()
}

fn client_key() -> ClientKey {
    server_key().client_key()
}

fn impatient() -> Timeouts {
    Timeouts {
        connect: SHORT,
        handshake: SHORT,
        ..Timeouts::default()
    }
}

fn loopback(port: u16) -> HostPort {
    HostPort::parse("127.0.0.1", port).unwrap()
}

async fn listener(key: impl Into<Key>) -> (Listener, HostPort) {
    let key = Arc::new(key.into());
    let listener = Listener::bind(&loopback(0), key, Timeouts::default()).await;
    let listener = listener.unwrap();
    let port = listener.local_address().unwrap().port();
    (listener, loopback(port))
}

async fn talk(mut near: Connection, mut far: Connection) {
    near.send(b"hello").await.unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), b"hello");
    far.send(b"welcome").await.unwrap();
    assert_eq!(near.next().await.unwrap().unwrap(), b"welcome");
}

#[tokio::test]
async fn a_server_dials_a_client_and_a_client_dials_a_server() {
    let pairs: [(Key, Key); 2] = [
        (server_key().into(), client_key().into()),
        (client_key().into(), server_key().into()),
    ];
    for (dialler, dialled) in pairs {
        let (mut listener, address) = listener(dialled).await;
        let timeouts = Timeouts::default();
        let (near, (far, from)) =
            tokio::join!(dial(&address, &dialler, &timeouts), listener.accept());
        assert!(from.ip().is_loopback());
        talk(near.unwrap(), far).await;
    }
}

#[tokio::test]
async fn a_wrong_key_is_silence_for_the_dialler_and_never_accepted() {
    let stranger = ServerKey::new(&[9; 32], &[2; 32]).unwrap();
    let (mut listener, address) = listener(client_key()).await;
    let key = stranger.into();
    let timeouts = Timeouts::default();
    let error = tokio::select! {
        error = dial(&address, &key, &timeouts) => error.unwrap_err(),
        _ = listener.accept() => panic!("let in"),
    };
    assert!(matches!(error, DialError::Silent { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "{address} accepts connections and says nothing: wrong key, or not Hydra; \
             give that client the client.key of this server"
        )
    );
}

#[tokio::test]
async fn a_port_that_never_speaks_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = loopback(silent.local_addr().unwrap().port());
    let error = dial(&address, &server_key().into(), &impatient()).await;
    assert!(matches!(error, Err(DialError::Silent { .. })));
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_told_apart() {
    let greetings: [&[u8]; 2] = [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x30\0\0\0................................................",
    ];
    for greeting in greetings {
        let foreign = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = loopback(foreign.local_addr().unwrap().port());
        let greet = async {
            let (mut stream, _) = foreign.accept().await.unwrap();
            stream.write_all(greeting).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let key = server_key().into();
        let timeouts = Timeouts::default();
        let (error, ()) = tokio::join!(dial(&address, &key, &timeouts), greet);
        assert!(matches!(error, Err(DialError::Foreign { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_refused_after_the_connect_timeout() {
    let port = {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        closed.local_addr().unwrap().port()
    };
    let address = loopback(port);
    let error = dial(&address, &server_key().into(), &impatient()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, DialError::Refused { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "nothing listens on {address}: start `hydra-client --listen` there, or correct the port"
        )
    );
}

#[tokio::test]
async fn a_refused_port_is_tried_again_until_somebody_listens() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = loopback(socket.local_addr().unwrap().port());
    let key = server_key().into();
    let timeouts = Timeouts::default();
    // Bound, not yet listening: the port refuses, and nobody else can take it.
    let dialling = dial(&address, &key, &timeouts);
    tokio::pin!(dialling);
    let first = TcpStream::connect(("127.0.0.1", address.port)).await;
    assert_eq!(
        first.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    let refused_once = tokio::time::timeout(Duration::from_millis(20), &mut dialling).await;
    assert!(refused_once.is_err(), "a refused port ended the dialling");
    let listening = socket.listen(16).unwrap();
    let answer = async {
        let (stream, _) = listening.accept().await.unwrap();
        let key = client_key().into();
        Connection::respond(stream, &key, &Timeouts::default()).await
    };
    let (near, far) = tokio::join!(dialling, answer);
    talk(near.unwrap(), far.unwrap()).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let address = HostPort::parse("no-such-host.invalid", 8101).unwrap();
    let error = dial(&address, &server_key().into(), &Timeouts::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, DialError::Unresolved { .. }), "{error}");
    assert!(error.to_string().contains("no-such-host.invalid"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (_listener, address) = listener(client_key()).await;
    let key = Arc::new(client_key().into());
    let error = Listener::bind(&address, key, Timeouts::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    assert!(error.to_string().starts_with(&address.to_string()));
}

/// Hundreds of connections that say nothing hold no more than their few places, the oldest are hung
/// up on, and whoever has the key gets in at once.
#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    const SILENT: usize = 500;
    let patient = Timeouts {
        handshake: Duration::from_secs(3600),
        ..Timeouts::default()
    };
    let key = Arc::new(client_key().into());
    let mut listener = Listener::bind(&loopback(0), key, patient).await.unwrap();
    let address = loopback(listener.local_address().unwrap().port());
    let key = server_key().into();
    let timeouts = Timeouts::default();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let connect = TcpStream::connect(("127.0.0.1", address.port));
        tokio::select! {
            stream = connect => silent.push(stream.unwrap()),
            _ = listener.accept() => panic!("a silent stranger was let in"),
        }
    }
    let (near, (far, _)) = tokio::join!(dial(&address, &key, &timeouts), listener.accept());
    talk(near.unwrap(), far).await;
    assert!(listener.pending() <= PENDING_MAX);

    let mut byte = [0];
    let oldest = silent.first_mut().unwrap().read(&mut byte);
    let oldest = tokio::time::timeout(Duration::from_secs(30), oldest).await;
    let oldest = oldest.expect("the oldest is still held");
    assert!(matches!(oldest, Ok(0) | Err(_)));
}

#[tokio::test]
async fn that_nothing_listens_was_told_only_when_the_time_to_connect_was_over() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = loopback(closed.local_addr().unwrap().port());
    drop(closed);
    let patient = Timeouts {
        connect: Duration::from_secs(3600),
        ..Timeouts::default()
    };
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut tell = |error: &DialError| {
        let _ = sender.send(error.to_string());
    };
    let key = Key::from(client_key());
    let text = tokio::select! {
        dialled = dial_telling(&address, &key, &patient, &mut tell) => panic!("{dialled:?}"),
        text = tokio::time::timeout(Duration::from_secs(30), told.recv()) => text.unwrap().unwrap(),
    };
    assert!(text.contains("nothing listens on"), "{text}");
}
