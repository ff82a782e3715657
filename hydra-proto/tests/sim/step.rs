//! The steps of workers: what they cost, and that no two of them act on one thing.

use super::worker::{Acted, Step};
use super::world::{Event, World};
use hydra_proto::item::Parcel;
use std::rc::Rc;
use std::time::Duration;

impl World {
    /// A worker goes one step on, or dies of it.
    pub(crate) fn step(&mut self, at: usize) {
        let tree = Rc::clone(&self.tree);
        let (now, worker) = (self.now, &mut self.workers[at]);
        worker.stepping = false;
        if !worker.alive {
            return;
        }
        let step = worker.step(now, &tree);
        if let Some(acted) = worker.acted.take() {
            self.acted(at, &acted);
        }
        let percent = self.rng.below(100) as u32;
        let cost = self.cost(at, percent);
        match step {
            Step::Went => {
                self.stats.busy += cost;
                self.walk_on(at, cost);
            }
            Step::Idle => {}
            Step::Barred => self.walk_on(at, Duration::from_millis(5)),
            Step::Died => {
                self.say(|| format!("worker {at} dies of what it touches"));
                self.kill_worker(at, false);
            }
        }
        self.flush_worker(at);
    }

    /// How long a worker's step takes, and so many percent.
    pub(crate) fn cost(&self, at: usize, percent: u32) -> Duration {
        self.step_cost * self.workers[at].slow * (100 + percent) / 100
    }

    /// Schedules the next step of a worker.
    pub(crate) fn walk_on(&mut self, at: usize, delay: Duration) {
        let worker = &mut self.workers[at];
        if worker.alive && !worker.stepping {
            worker.stepping = true;
            self.after(delay, Event::Step(at));
        }
    }

    fn is_on_record(&self, acted: &Acted) -> bool {
        self.durable.items().any(|item| match item.parcel() {
            Parcel::Names(names) => {
                names.root == acted.place.0
                    && names.dir[..] == acted.place.1[..]
                    && names.names.iter().any(|name| name == acted.name)
            }
            _ => false,
        })
    }

    /// No two processes may act on one thing while both may believe that it is theirs. What is acted on with intents
    /// is by its name on the server's durable record, and who acts second knows that he may be that.
    fn acted(&mut self, at: usize, acted: &Acted) {
        let id = acted.id;
        if self.habits.intents && !self.is_on_record(acted) {
            let what = self.tree.describe(id);
            self.fail(format!(
                "worker {at} acts on {what}, which is not on record"
            ));
        }
        let before = self.oracle.actors[id as usize].replace(at);
        let Some(other) = before.filter(|&other| other != at) else {
            return;
        };
        if self.habits.intents && !acted.begun {
            let what = self.tree.describe(id);
            self.fail(format!(
                "worker {at} does not know that {other} acted on {what}"
            ));
        }
        let may_act = self.workers[other]
            .uplink
            .acts_until()
            .is_some_and(|until| until > self.now);
        if self.workers[other].alive && may_act {
            let what = self.tree.describe(id);
            self.fail(format!("workers {other} and {at} may both act on {what}"));
        }
    }
}
