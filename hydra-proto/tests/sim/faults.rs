//! What goes wrong in one seed, and when: decided before the first event, by weights that the seed draws.

use super::rng::Rng;
use hydra_proto::ledger::Time;
use std::time::Duration;

/// A thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillWorker,
    StopWorker(Duration),
    KillClient(Duration),
    StopClient(Duration),
    /// The connection to the server is gone, both ends told soon, or never.
    Cut,
    /// What goes up is lost from now on.
    CutUp,
    /// What goes down is lost from now on.
    CutDown,
    /// No connection can be made for a while.
    Partition(Duration),
    /// A second connection is opened beside the first.
    Duplicate,
    /// Everything on the connection takes longer.
    Slow(Duration),
    /// What goes up is held back for a while, and then comes all at once.
    Hold(Duration),
    Pause(Duration),
    /// The disk of the journal takes nothing for a while.
    DiskFull(Duration),
    /// A file system does not answer at one client for a while.
    Wall(Duration),
    StopServer(Duration),
}

/// Deliberate faults, put in between the real machines: the harness has to catch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Children hand work on without telling their parent.
    GiveWithoutCommit,
    /// Results of sessions that were given up are counted.
    NoFenceCheck,
    /// Results of commits that come again are counted again.
    NoSequenceCheck,
    /// What a lost client owned is not granted again.
    ForgetWork,
    /// Resume attempts cannot be told apart.
    NoAttemptCounter,
    /// A second Hello on a connection opens a second session.
    TwoSessions,
    /// Commits are acknowledged when they arrive, before they are applied.
    AckBeforeApplied,
    /// Commits are acknowledged before their records are durable.
    AckBeforeDurable,
    /// Grants are sent before their records are durable.
    GrantBeforeDurable,
    /// Children believe that they may act for longer than their parent thinks.
    LongLease,
    /// Children say that they have finished the neighbour of what they have finished, too.
    RangeTooLong,
    /// Workers act on what they have found before it is on record.
    ActBeforeRecord,
    /// Clients acknowledge what workers intend before it is on the server's record.
    AckBeforeServer,
    /// What was put away comes back without what was in it.
    LoseAway,
    /// That a lost worker may have acted on something is not said.
    ForgetBegun,
}

impl Sabotage {
    /// Whether it is about what is on record before it is acted on.
    pub(crate) fn is_about_intents(self) -> bool {
        matches!(
            self,
            Self::ActBeforeRecord | Self::AckBeforeServer | Self::ForgetBegun
        )
    }
}

/// The faults of one seed, in the order of time.
pub(crate) fn plan(rng: &mut Rng, span: Duration) -> Vec<(Time, Fault)> {
    let weights: Vec<u64> = (0..15)
        .map(|_| if rng.chance(45) { rng.range(1, 6) } else { 0 })
        .collect();
    let sum: u64 = weights.iter().sum();
    let count = if sum == 0 { 0 } else { rng.below(20) };
    let mut plan: Vec<(Time, Fault)> = (0..count)
        .map(|_| {
            let mut drawn = rng.below(sum);
            let kind = weights.iter().position(|&weight| match drawn < weight {
                true => true,
                false => {
                    drawn -= weight;
                    false
                }
            });
            let at = Duration::from_micros(rng.below(span.as_micros() as u64));
            (at, draw(rng, kind.unwrap_or(0)))
        })
        .collect();
    plan.sort_by_key(|&(at, _)| at);
    plan
}

fn draw(rng: &mut Rng, kind: usize) -> Fault {
    let long = rng.chance(35);
    let mut ms = |least: u64, most: u64| {
        let more = if long {
            rng.below(most - least)
        } else {
            rng.skewed(most - least)
        };
        Duration::from_millis(least + more)
    };
    match kind {
        0 => Fault::KillWorker,
        1 => Fault::StopWorker(ms(5, 3000)),
        2 => Fault::KillClient(ms(1, 3000)),
        3 => Fault::StopClient(ms(5, 4000)),
        4 => Fault::Cut,
        5 => Fault::CutUp,
        6 => Fault::CutDown,
        7 => Fault::Partition(ms(20, 4000)),
        8 => Fault::Duplicate,
        // A round trip has to stay below the lease, or nobody may ever act.
        9 => Fault::Slow(ms(1, 180)),
        10 => Fault::Pause(ms(10, 1000)),
        11 => Fault::DiskFull(ms(10, 3000)),
        12 => Fault::Wall(ms(5, 2000)),
        13 => Fault::Hold(ms(10, 4000)),
        _ => Fault::StopServer(ms(10, 4000)),
    }
}
