//! A link that can be cut: a proxy between one client and the server. Needs no root.
//!
//! It listens only while its target does, so that who dials is refused as the target itself would refuse.

use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is looked whether the target listens.
const LOOK: Duration = Duration::from_millis(10);

/// What can be wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Connections end, and new ones are turned away.
    Closed,
    /// Nothing arrives, on either side.
    Silent,
    /// Nothing arrives at the server.
    Up,
    /// Nothing arrives at the client.
    Down,
}

/// The proxy. Its connections end with it.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    port: u16,
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// Whether the target is known to listen.
    up: bool,
    /// Whether bytes are held back: from whoever dials, to whoever dials.
    held: [bool; 2],
    over: bool,
    open: Vec<Weak<TcpStream>>,
}

impl Proxy {
    /// Listens at `port`, and passes everything on to `target`: ports of this host.
    pub(crate) fn new(port: u16, target: u16) -> Self {
        let shared = Arc::new(Shared {
            port,
            target,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || while shared.serve() {}
        });
        Self {
            port,
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whoever listened at the target is gone, or goes.
    pub(crate) fn target_dies(&self) {
        self.shared.lock().up = false;
        self.wake();
    }

    /// So that the acceptor looks up.
    fn wake(&self) {
        self.shared.changed.notify_all();
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }

    /// `up_is_out`: whether it is the client that dials.
    pub(crate) fn cut(&self, cut: Cut, up_is_out: bool) {
        let mut state = self.shared.lock();
        match cut {
            Cut::Closed => {
                (state.closed, state.up) = (true, false);
                state.hang_up();
                drop(state);
                self.wake();
            }
            Cut::Silent => state.held = [true; 2],
            Cut::Up => state.held[usize::from(!up_is_out)] = true,
            Cut::Down => state.held[usize::from(up_is_out)] = true,
        }
    }

    pub(crate) fn heal(&self) {
        let mut state = self.shared.lock();
        (state.closed, state.held) = (false, [false; 2]);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        (state.over, state.up) = (true, false);
        state.hang_up();
        drop(state);
        self.wake();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn hang_up(&mut self) {
        for stream in self.open.drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the target to listen, and listens until it does no more. Says whether to do so again.
    fn serve(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        while state.closed || !is_listening(self.target) {
            if state.over {
                return false;
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.up = true;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port));
        drop(state);
        let Ok(listener) = listener else {
            return !self.lock().over;
        };
        for dialler in listener.incoming().flatten() {
            if !self.lock().up {
                break;
            }
            match TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) {
                Ok(target) => self.join(dialler, target),
                Err(_) => {
                    let _ = set_socket_linger(&dialler, Some(Duration::ZERO));
                    break;
                }
            }
        }
        !self.lock().over
    }

    fn join(self: &Arc<Self>, dialler: TcpStream, target: TcpStream) {
        let (dialler, target) = (Arc::new(dialler), Arc::new(target));
        let mut state = self.lock();
        state.open.retain(|stream| stream.strong_count() > 0);
        for stream in [&dialler, &target] {
            let _ = stream.set_nodelay(true);
            state.open.push(Arc::downgrade(stream));
        }
        drop(state);
        let ways = [
            (0, Arc::clone(&dialler), Arc::clone(&target)),
            (1, target, dialler),
        ];
        for (way, from, to) in ways {
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                // However it ends, the other side has to know.
                let _ = shared.pass_on(way, &from, &to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }

    fn pass_on(&self, way: usize, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            self.wait(way);
            let count = from.read(&mut buffer)?;
            // What came in before the cut stays on the way.
            self.wait(way);
            if count == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..count])?;
        }
    }

    /// Waits until bytes may go that way.
    fn wait(&self, way: usize) {
        let waits = |state: &mut State| state.held[way] && !state.over;
        let state = self.changed.wait_while(self.lock(), waits);
        drop(state);
    }
}

fn is_listening(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|word| word.ends_with(&local)) && words.nth(1) == Some("0A")
    })
}
