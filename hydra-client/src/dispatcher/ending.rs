//! How a job, a session and the client itself end: workers first, then the connection.

use super::{Dispatcher, Stage, new_relay};
use crate::doors::Want;
use crate::error::ClientError;
use hydra_proto::ledger::Time;
use hydra_proto::message::{BEING_STOPPED, Refusal, Up};
use tracing::{debug, error, info, warn};

/// Why the server ended a session, as a sentence.
fn told(refusal: &Refusal) -> String {
    let why = match refusal {
        Refusal::Version(header) => return ClientError::Version(header.clone()).to_string(),
        Refusal::Protocol(reason) => return ClientError::Refused(reason.clone()).to_string(),
        Refusal::Fenced => "it did not hear from this client for too long, and others do its work",
        Refusal::Unknown => "it does not know this session, as it is another server or a new one",
        Refusal::JobOver => "its job is nearly over, and needs nobody else",
    };
    format!("the server ended the session: {why}")
}

/// What the client does when its workers are gone.
#[derive(Debug)]
pub(super) enum Next {
    /// The job is over.
    Done,
    /// The session is over, the job perhaps not.
    Again,
    End(Result<(), ClientError>),
}

impl Dispatcher {
    pub(super) fn shut_down(&mut self, now: Time) {
        self.say(Up::Leave(BEING_STOPPED.to_owned()));
        self.relay = new_relay(&self.config, self.nonce, !self.doors.is_given());
        self.stop(now, Next::End(Ok(())));
    }

    /// Leaves the job: nothing that is not committed counts, and the server grants it to others.
    pub(super) fn give_up(&mut self, now: Time, reason: String) {
        error!(reason, "giving the job up");
        // The server may be done when it hears of it: nobody may write rows then.
        self.crew.kill();
        self.say(Up::Leave(reason.clone()));
        self.relay = new_relay(&self.config, self.nonce, !self.doors.is_given());
        let next = match self.doors.is_listening() && !self.config.once {
            true => Next::Again,
            false => Next::End(Err(ClientError::GaveUp(reason))),
        };
        self.stop(now, next);
    }

    pub(super) fn session_over(&mut self, now: Time, refusal: Option<Refusal>) {
        let had_job = self.job.is_some();
        let why = refusal.as_ref().map(told);
        let over = refusal == Some(Refusal::JobOver);
        let final_only = |error| match self.doors.is_listening() {
            true => Next::Again,
            false => Next::End(Err(error)),
        };
        let next = match refusal {
            None if had_job => Next::Done,
            None if self.doors.is_given() => Next::End(Err(ClientError::Lost)),
            Some(Refusal::Version(header)) => final_only(ClientError::Version(header)),
            Some(Refusal::Protocol(reason)) => final_only(ClientError::Refused(reason)),
            Some(Refusal::JobOver) if had_job => Next::Done,
            None | Some(Refusal::Fenced | Refusal::Unknown | Refusal::JobOver) => Next::Again,
        };
        match (&next, why) {
            (Next::Done, _) => info!("the job is over"),
            // It tries again twice a second until the server is gone.
            (Next::Again, Some(why)) if over => debug!("{why}"),
            (Next::Again, Some(why)) => warn!("{why}"),
            // Whoever ends this client says why.
            (Next::Again, None) | (Next::End(_), _) => {}
        }
        self.stop(now, next);
    }

    /// Ends the job here: workers are told to stop, and are killed if they do not. Those of a job that is done have
    /// nothing more to say: they are killed at once.
    pub(super) fn stop(&mut self, now: Time, next: Next) {
        self.forget_job();
        self.put_by.clear();
        self.unsent_lines.clear();
        match next {
            Next::Done => self.crew.kill(),
            Next::Again | Next::End(_) => self.crew.stop(),
        }
        let next = match (std::mem::replace(&mut self.stage, Stage::Serving), next) {
            // The first reason to end for good stands.
            (
                Stage::Stopping {
                    next: first @ Next::End(_),
                    ..
                },
                _,
            ) => first,
            (_, next) => next,
        };
        self.stage = Stage::Stopping {
            next,
            deadline: now + self.config.timings.worker_stop,
            killed: false,
        };
    }

    /// Keeps nothing of the job but who is left behind.
    pub(super) fn forget_job(&mut self) {
        let Some(job) = self.job.take() else {
            return;
        };
        // Those of earlier jobs are still here, if this one has not come so far as to send anybody.
        for (mount, mut workers) in job.breakers.into_left() {
            let left = self.left_behind.entry(mount).or_default();
            left.append(&mut workers);
        }
    }

    /// Goes on from a job that is being stopped: `Some` when this client ends.
    pub(super) fn advance(&mut self, now: Time) -> Option<Result<(), ClientError>> {
        let Stage::Stopping {
            deadline, killed, ..
        } = &mut self.stage
        else {
            return None;
        };
        if !self.crew.is_gone() {
            if now < *deadline {
                return None;
            }
            if !*killed {
                *killed = true;
                *deadline = now + self.config.timings.worker_stop;
                self.crew.kill();
                return None;
            }
            self.crew.abandon();
        }
        self.go_on()
    }

    pub(super) fn go_on(&mut self) -> Option<Result<(), ClientError>> {
        let stage = std::mem::replace(&mut self.stage, Stage::Serving);
        let Stage::Stopping { next, .. } = stage else {
            return None;
        };
        let want = match next {
            Next::End(result) => return Some(result),
            Next::Done if self.config.once || self.doors.is_given() => return Some(Ok(())),
            Next::Again if self.doors.is_given() => return Some(Err(ClientError::Lost)),
            Next::Done => Want::Next,
            Next::Again => Want::Again,
        };
        // Closing tells the server that this client has let go of the job.
        self.link = None;
        self.has_said_why = false;
        self.doors.want(want);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, WorkerCommand};
    use crate::crew::Crew;
    use crate::doors::Doors;
    use crate::logs::LogSocket;
    use hydra_link::{Connection, Timeouts};
    use hydra_proto::ids::{ConnId, Epoch, IdRange, JobId, Secret};
    use hydra_proto::job::JobSpec;
    use hydra_proto::message::Welcome;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use tokio::sync::mpsc;

    /// A client that does no job.
    async fn unwilling() -> Dispatcher {
        let none = WorkerCommand {
            program: "/nonexistent".into(),
            args: Vec::new(),
            env: Vec::new(),
        };
        let refuses = Arc::new(|_: &JobSpec| Err("not here".to_owned()));
        let name = "test".to_owned();
        let config = Config::new(name, none.clone(), refuses, none, Arc::new(|_| None));
        let config = Arc::new(config);
        let (ours, _) = tokio::io::duplex(64);
        let doors = Doors::given(Connection::plain(ours, &Timeouts::default())).await;
        let (forward, lines) = mpsc::channel(1);
        let socket = LogSocket::open(Arc::clone(&config.log_sink), forward).unwrap();
        let (events, workers) = mpsc::channel(1);
        let crew = Crew::new(Arc::clone(&config), events, socket.desk());
        Dispatcher::new(config, doors, crew, workers, lines)
    }

    fn welcome() -> Welcome {
        Welcome {
            epoch: Epoch {
                job: JobId(1),
                number: 1,
            },
            secret: Secret([0; 16]),
            ids: IdRange { start: 1, end: 2 },
            job: JobSpec {
                rows: None,
                plugin: "test".to_owned(),
                options: Vec::new(),
                acts: false,
                roots: Vec::new(),
                walk: Default::default(),
                timing: Default::default(),
            },
            forward_logs: false,
            journaled: false,
        }
    }

    #[tokio::test]
    async fn workers_left_behind_were_forgotten_by_a_job_that_sent_nobody() {
        let mut client = unwilling().await;
        let left = BTreeMap::from([(b"/mnt".to_vec(), BTreeSet::from([ConnId(1), ConnId(2)]))]);
        client.left_behind = left.clone();
        client.begin(welcome());
        client.forget_job();
        assert_eq!(client.left_behind, left);
        // What hangs there besides comes to them.
        client.begin(welcome());
        let job = client.job.as_mut().unwrap();
        job.breakers.stands(b"/mnt", ConnId(3), Vec::new());
        client.forget_job();
        let workers = client.left_behind.get(b"/mnt".as_slice());
        assert_eq!(workers.map(BTreeSet::len), Some(3));
    }
}
