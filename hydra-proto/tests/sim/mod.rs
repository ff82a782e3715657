//! A cluster in virtual time: the real ledgers of server, clients and workers, and everything that can go
//! wrong between them. Does no I/O and reads no clock: a seed is the whole story.
//!
//! Phase one: the job runs, faults strike, and every invariant is checked as things change. Phase two: the
//! faults are over, and the job must end within a bound, with every number of the tree accounted for.

mod actions;
mod client;
mod crash;
mod faults;
mod hand;
mod journal;
mod links;
mod net;
mod oracle;
mod rng;
mod setup;
mod step;
mod store;
mod strike;
mod total;
mod tree;
mod worker;
mod world;

pub(crate) use faults::Sabotage;
pub(crate) use world::Stats;
use world::World;

/// Runs one seed under faults. A panic of the machines counts as a failure like any other.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>, trace: bool) -> Result<Stats, String> {
    guarded(|| World::swarm(seed, sabotage, trace).run())
}

/// Runs one seed under faults, in which the server dies too, a few times.
pub(crate) fn run_with_deaths(
    seed: u64,
    sabotage: Option<Sabotage>,
    trace: bool,
) -> Result<Stats, String> {
    guarded(|| World::with_deaths(seed, sabotage, trace).run())
}

/// Runs one seed in which nothing goes wrong, or every link is lost once.
pub(crate) fn run_calmly(seed: u64, cut: bool) -> Result<Stats, String> {
    guarded(|| World::calm(seed, cut, false).run())
}

fn guarded(
    run: impl FnOnce() -> Result<Stats, String> + std::panic::UnwindSafe,
) -> Result<Stats, String> {
    match std::panic::catch_unwind(run) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}
