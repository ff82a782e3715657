//! Where connections to servers come from: a port, a dialler, or the one that was given.
//!
//! What becomes of a connection is the dispatcher's to say.

use crate::config::{Config, Mode};
use crate::error::ClientError;
use hydra_link::address::HostPort;
use hydra_link::{Connection, DialError, Listener, Timeouts, dial_telling};
use hydra_proto::handshake::{ClientKey, Key};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// Servers that may wait for the dispatcher.
const WAITING_MAX: usize = 4;
/// The first pause before a server is dialled again; it doubles each time.
const REDIAL_MIN: Duration = Duration::from_millis(50);
/// The pause after a connection that brought no job.
const FRUITLESS_PAUSE: Duration = Duration::from_millis(500);

/// What comes in.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A server that has proven the key, and its address.
    Connected(Box<Connection>, String),
    /// No server will ever come.
    Failed(ClientError),
    /// The server is gone, and nothing but its one job was wanted.
    Gone,
}

/// Why a connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// There was none yet.
    First,
    /// That of the present job was lost.
    Back,
    /// A job is over.
    Next,
    /// The last one brought no job.
    Again,
}

pub(crate) struct Doors {
    arrivals: mpsc::Receiver<Arrival>,
    kind: Kind,
}

enum Kind {
    Listening(AbortHandle),
    Dialling(Dialler),
    Given,
}

struct Dialler {
    address: HostPort,
    key: Arc<Key>,
    link: Timeouts,
    pause_max: Duration,
    sender: mpsc::Sender<Arrival>,
    once: bool,
    task: Option<JoinHandle<()>>,
    /// That it waits was said since the last job.
    said_waiting: bool,
}

/// One connection to be made.
struct Errand {
    address: HostPort,
    key: Arc<Key>,
    link: Timeouts,
    pause_max: Duration,
    once: bool,
    want: Want,
}

impl Doors {
    /// The door for one connection that is there already.
    pub(crate) async fn given(connection: Connection) -> Self {
        let (sender, arrivals) = mpsc::channel(WAITING_MAX);
        let arrival = Arrival::Connected(Box::new(connection), "this process".to_owned());
        // There is room, and the receiver is here.
        let _ = sender.send(arrival).await;
        Self {
            arrivals,
            kind: Kind::Given,
        }
    }

    /// The door that the configuration asks for.
    pub(crate) async fn open(config: &Config) -> Result<Self, ClientError> {
        let key = config.key.as_deref().ok_or(ClientError::NoKey)?;
        let key = Arc::new(Key::Client(ClientKey::clone(key)));
        let (sender, arrivals) = mpsc::channel(WAITING_MAX);
        let kind = match &config.mode {
            Mode::Listen(address) => {
                let listener = Listener::bind(address, key, config.timings.link).await?;
                if let Ok(address) = listener.local_address() {
                    info!(%address, "listening");
                    (config.on_listening)(address);
                }
                Kind::Listening(tokio::spawn(let_in(listener, sender)).abort_handle())
            }
            Mode::Connect(address) => {
                info!(%address, "dialling the server");
                Kind::Dialling(Dialler {
                    address: address.clone(),
                    key,
                    link: config.timings.link,
                    pause_max: config.timings.redial_max,
                    once: config.once,
                    sender,
                    task: None,
                    said_waiting: false,
                })
            }
        };
        Ok(Self { arrivals, kind })
    }

    /// Whether more than one connection can come.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self.kind, Kind::Given)
    }

    /// Whether servers come by themselves.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.kind, Kind::Listening(_))
    }

    /// A connection is wanted: dials, if that is how they come.
    pub(crate) fn want(&mut self, want: Want) {
        if let Kind::Dialling(dialler) = &mut self.kind {
            dialler.dial(want);
        }
    }

    /// The next arrival. May be dropped half-way.
    pub(crate) async fn next(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // Nothing more will come; the session's own deadlines decide.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Listening(task) => task.abort(),
            Kind::Dialling(dialler) => {
                if let Some(task) = &dialler.task {
                    task.abort();
                }
            }
            Kind::Given => {}
        }
    }
}

async fn let_in(mut listener: Listener, sender: mpsc::Sender<Arrival>) {
    loop {
        let (connection, from) = listener.accept().await;
        let arrival = Arrival::Connected(Box::new(connection), from.to_string());
        if sender.send(arrival).await.is_err() {
            return;
        }
    }
}

impl Dialler {
    fn dial(&mut self, want: Want) {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.tell(want);
        let errand = Errand {
            address: self.address.clone(),
            key: Arc::clone(&self.key),
            link: self.link,
            pause_max: self.pause_max,
            once: self.once,
            want,
        };
        let sender = self.sender.clone();
        self.task = Some(tokio::spawn(async move {
            if want == Want::Again {
                sleep(FRUITLESS_PAUSE).await;
            }
            let arrival = errand.run().await;
            // The dispatcher may have ended meanwhile.
            let _ = sender.send(arrival).await;
        }));
    }

    /// Says once after each job that it waits for the next.
    fn tell(&mut self, want: Want) {
        match want {
            Want::First | Want::Back => self.said_waiting = false,
            Want::Again if self.said_waiting || self.once => {}
            Want::Next | Want::Again => {
                self.said_waiting = true;
                info!("waiting for the next job at {}", self.address);
            }
        }
    }
}

impl Errand {
    /// Dials until the server answers.
    async fn run(&self) -> Arrival {
        let mut pause = REDIAL_MIN;
        let (mut said, mut before) = (String::new(), String::new());
        loop {
            // Whoever has just started the client looks at what it says: the time to connect may be long.
            let mut tell = |error: &DialError| {
                if self.want == Want::First {
                    self.complain_once(error, &mut said);
                }
            };
            let dialled = dial_telling(&self.address, &self.key, &self.link, &mut tell).await;
            let error = match dialled {
                Ok(connection) => {
                    let address = self.address.to_string();
                    return Arrival::Connected(Box::new(connection), address);
                }
                Err(error) => error,
            };
            if self.want == Want::First && is_final(&error) {
                return Arrival::Failed(error.into());
            }
            if self.want == Want::Again && self.once && !is_final(&error) {
                return Arrival::Gone;
            }
            let says = error.to_string();
            // A server that is just ending still takes connections: only what lasts is worth a word.
            let counts = self.want == Want::First || says == before;
            if counts {
                self.complain_once(&error, &mut said);
            }
            before = says;
            sleep(pause).await;
            pause = (pause * 2).min(self.pause_max);
        }
    }

    /// Says what was not `said` last.
    fn complain_once(&self, error: &DialError, said: &mut String) {
        let says = error.to_string();
        if says != *said {
            self.complain(error);
            *said = says;
        }
    }

    /// A server that is not there is nothing odd where it is waited for.
    fn complain(&self, error: &DialError) {
        match self.want {
            Want::Back | Want::Next | Want::Again if !is_final(error) => debug!("{error}"),
            _ => warn!("{error}; still trying"),
        }
    }
}

/// Whether it looks like a mistake that waiting does not mend.
fn is_final(error: &DialError) -> bool {
    match error {
        DialError::Unresolved { .. }
        | DialError::Silent { .. }
        | DialError::Foreign { .. }
        | DialError::Handshake { .. } => true,
        DialError::Refused { .. }
        | DialError::Unanswered { .. }
        | DialError::Unreachable { .. } => false,
    }
}
