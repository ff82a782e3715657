//! A link that can be cut: a proxy between one client and the server. Needs no root.

use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

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
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// Whether bytes are held back: from whoever dials, to whoever dials.
    held: [bool; 2],
    over: bool,
    open: Vec<Weak<TcpStream>>,
}

impl Proxy {
    /// Listens on a port of its own, and passes everything on to `target`.
    pub(crate) fn new(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `up_is_out`: whether it is the client that dials.
    pub(crate) fn cut(&self, cut: Cut, up_is_out: bool) {
        let mut state = self.shared.lock();
        match cut {
            Cut::Closed => {
                state.closed = true;
                state.hang_up();
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
        state.over = true;
        state.hang_up();
        drop(state);
        self.shared.changed.notify_all();
        // So that the acceptor looks up.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
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

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for dialler in listener.incoming().flatten() {
            let closed = match self.lock() {
                state if state.over => return,
                state => state.closed,
            };
            match TcpStream::connect(self.target) {
                Ok(target) if !closed => self.join(dialler, target),
                _ => {
                    // As if nobody listened here either.
                    let _ = set_socket_linger(&dialler, Some(Duration::ZERO));
                }
            }
        }
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
