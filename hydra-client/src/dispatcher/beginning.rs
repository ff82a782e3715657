//! The beginning of a job: may this client do it, where are the roots, what does it see there.
//!
//! A job that this client must not or cannot do is answered by refusing all its roots, with the reason; so the
//! server can name it, and has no reason to call again.

use super::Dispatcher;
use crate::breaker::Breakers;
use crate::mounts::Mounts;
use crate::results::Results;
use crate::roots::{self, Found, Looked};
use crate::rows::{self, Pieces};
use hydra_proto::ids::Epoch;
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::Time;
use hydra_proto::message::{RootView, Up, Welcome};
use hydra_proto::reduce::{Merger, Reduce};
use std::sync::Arc;
use tracing::{info, warn};

/// What this host has of a job.
pub(super) struct Around {
    roots: Found,
    /// Where the directory for rows is, if the job has one.
    rows: Option<Result<Vec<u8>, String>>,
}

/// The job in hand.
pub(super) struct Job {
    /// What workers are told: the roots where this host has them.
    pub(super) spec: JobSpec,
    pub(super) results: Results,
    /// Rows on their way to the server.
    pub(super) pieces: Pieces,
    pub(super) forward_logs: bool,
    /// Where the roots are, without symbolic links.
    pub(super) real_roots: Vec<Vec<u8>>,
    pub(super) breakers: Breakers,
    epoch: Epoch,
}

impl Dispatcher {
    /// A job begins: looks at its roots, beside everything else.
    pub(super) fn begin(&mut self, welcome: Welcome) {
        let Welcome {
            epoch,
            job: spec,
            forward_logs,
            ..
        } = welcome;
        info!(plugin = spec.plugin, %epoch, "a job begins");
        self.calls = 0;
        self.forget_job();
        let (reducer, refusal) = match self.reducer(&spec) {
            Ok(reducer) => (reducer, None),
            Err(reason) => (
                Box::new(Merger::<()>::default()) as Box<dyn Reduce>,
                Some(reason),
            ),
        };
        let (roots, rows) = (spec.roots.clone(), spec.rows.clone());
        self.job = Some(Job {
            real_roots: Vec::new(),
            breakers: Breakers::new(spec.timing.stall),
            spec,
            results: Results::new(reducer),
            pieces: Pieces::default(),
            forward_logs,
            epoch,
        });
        match refusal {
            Some(reason) => {
                warn!(reason, "the job is refused");
                self.relay
                    .ready(vec![RootView::Refused(reason); roots.len()]);
            }
            None => {
                let (config, looked) = (Arc::clone(&self.config), self.looked.0.clone());
                let shunned = self.lookers.shunned();
                tokio::spawn(async move {
                    let roots = roots::look(&config, &roots, &shunned).await;
                    let rows = match &rows {
                        Some(rows) => Some(rows::look(&config, rows).await),
                        None => None,
                    };
                    let around = Box::new(Around { roots, rows });
                    // The dispatcher may have ended meanwhile.
                    let _ = looked.send((epoch, around)).await;
                });
            }
        }
    }

    /// What adds up the job's results, if this client does such jobs.
    fn reducer(&self, spec: &JobSpec) -> Result<Box<dyn Reduce>, String> {
        if spec.acts && !self.config.allow_plugins.allows(&spec.plugin) {
            return Err(format!(
                "{} changes things, and this client was not started with --allow {}",
                spec.plugin, spec.plugin
            ));
        }
        (self.config.make_reducer)(spec)
    }

    /// The roots were looked at: says what was seen, and starts the workers if there is anything for them.
    pub(super) fn looked_around(&mut self, now: Time, epoch: Epoch, around: Around) {
        self.lookers.add(around.roots.left);
        let Some(job) = self.job.as_mut().filter(|job| job.epoch == epoch) else {
            return;
        };
        let mut trouble = None;
        if let (Some(dir), Some(found)) = (&mut job.spec.rows, around.rows) {
            dir.session = epoch.number;
            // Without a path workers send their rows.
            dir.path = found.unwrap_or_else(|reason| {
                let path = dir.path.escape_ascii();
                trouble = Some(format!(
                    "rows come through its connection, as it does not write to {path}: {reason}"
                ));
                Vec::new()
            });
        }
        let found = around.roots.roots;
        let mut views = Vec::with_capacity(found.len());
        for (root, Looked { view, local, real }) in job.spec.roots.iter_mut().zip(found) {
            root.local = local;
            job.real_roots.push(real);
            views.push(view);
        }
        if views.iter().any(|view| matches!(view, RootView::Seen(_))) {
            self.crew.hire(now, job.spec.timing.stall);
        }
        self.relay.ready(views);
        self.hold_back(now);
        if let Some(trouble) = trouble {
            self.relay.send(Up::Warning(trouble));
        }
    }

    /// Sends nobody, or few, where workers of earlier jobs still hang.
    fn hold_back(&mut self, now: Time) {
        if self.left_behind.is_empty() {
            return;
        }
        let (Some(job), Ok(mounts)) = (&mut self.job, Mounts::read()) else {
            return;
        };
        for (mount, workers) in std::mem::take(&mut self.left_behind) {
            let (name, count) = (mount.escape_ascii(), workers.len());
            let reason = format!(
                "the file system at {name} does not answer: {count} workers of earlier jobs still hang there"
            );
            warn!("{reason}");
            let walls = mounts.walls(&mount, &job.real_roots, &reason);
            let without_breaker = job.breakers.haunted(now, &mount, workers, walls);
            if !without_breaker.is_empty() {
                self.left_behind.insert(mount, without_breaker);
            }
        }
        let held_back = job.breakers.mounts();
        self.relay.set_mounts(held_back);
    }
}
