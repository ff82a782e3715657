//! The ledgers of a whole cluster under seeded faults, in virtual time. `sim/mod.rs` says how.
//!
//! `HYDRA_SIM_SEEDS=100000` runs so many seeds, `HYDRA_SIM_SEED=17` runs that one and prints what happens.

mod sim;

use sim::Sabotage;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds that run unless told otherwise.
const SEEDS: u64 = 2000;
/// Seeds within which a deliberate fault has to be found.
const SABOTAGE_SEEDS: u64 = 3000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_is_lost_nothing_is_done_twice_and_nothing_gets_stuck() {
    if let Some(seed) = number("HYDRA_SIM_SEED") {
        println!("{:?}", sim::run(seed, None, true).expect("this seed"));
        return;
    }
    let first = number("HYDRA_SIM_FIRST").unwrap_or(0);
    let seeds = number("HYDRA_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sums = std::sync::Mutex::new([0u64; 10]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < 10 {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    match sim::run(seed, None, false) {
                        Ok(stats) => {
                            let parts = [
                                stats.events,
                                stats.faults,
                                stats.hits,
                                stats.entries,
                                stats.lost_clients,
                                stats.resumed,
                                stats.sheds,
                                stats.aside,
                                stats.put_away,
                                stats.kept,
                            ];
                            let mut sums = sums.lock().expect("no panic while it is held");
                            sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("seed {seed}: {failure}");
                            println!(
                                "again: HYDRA_SIM_SEED={seed} cargo test -p hydra-proto --test simulator \
                                 nothing_is_lost -- --nocapture"
                            );
                        }
                    }
                }
            });
        }
    });
    let sums = sums.into_inner().expect("no panic while it was held");
    println!(
        "{seeds} seeds; events, faults, hits, entries, lost clients, resumed links, sheds, set aside, put away, not: {sums:?}"
    );
    assert_eq!(failed.into_inner(), 0, "seeds failed");
    assert!(
        seeds < 100 || sums[1..].iter().all(|&sum| sum > 0),
        "some kind of event never happened"
    );
}

#[test]
fn a_server_that_dies_loses_nothing() {
    if let Some(seed) = number("HYDRA_SIM_SEED") {
        println!(
            "{:?}",
            sim::run_with_deaths(seed, None, true).expect("this seed")
        );
        return;
    }
    let seeds = number("HYDRA_SIM_SEEDS").unwrap_or(SEEDS) / 2;
    let first = number("HYDRA_SIM_FIRST").unwrap_or(0);
    let (mut resumed, mut torn, mut compacted) = (0, 0, 0);
    for seed in first..first + seeds {
        match sim::run_with_deaths(seed, None, false) {
            Ok(stats) => {
                resumed += stats.resumed;
                torn += stats.torn;
                compacted += stats.compacted;
            }
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
    }
    println!(
        "{seeds} seeds; resumed links, records lost with the server, journals made shorter: \
         {resumed}, {torn}, {compacted}"
    );
    assert!(resumed > 0 && torn > 0 && compacted > 0);
}

/// How much of the workers' time is work, in percent, over some seeds with six workers.
fn efficiency(cut: bool) -> u128 {
    let (mut busy, mut whole) = (0, 0);
    for seed in 0..40 {
        let stats = sim::run_calmly(seed, cut).expect("this seed");
        busy += stats.busy.as_micros();
        whole += 6 * stats.finished.as_micros();
    }
    busy * 100 / whole
}

#[test]
fn work_is_spread() {
    let percent = efficiency(false);
    println!("{percent} % of the time of six workers at three clients is work");
    assert!(percent >= 75);
}

#[test]
fn work_is_spread_after_links_were_lost() {
    let percent = efficiency(true);
    println!("{percent} % of the time is work where links are lost");
    assert!(percent >= 70);
}

/// The harness must find a deliberate fault.
fn finds(sabotage: Sabotage) {
    let found = (0..SABOTAGE_SEEDS).find_map(|seed| {
        let outcome = match sabotage {
            Sabotage::AckBeforeDurable | Sabotage::GrantBeforeDurable => {
                sim::run_with_deaths(seed, Some(sabotage), false)
            }
            _ => sim::run(seed, Some(sabotage), false),
        };
        let failure = outcome.err()?;
        Some((seed, failure))
    });
    let (seed, failure) = found.unwrap_or_else(|| panic!("{sabotage:?} was not found"));
    println!("{sabotage:?} was found by seed {seed}: {failure}");
}

#[test]
fn giving_without_a_commit_is_found() {
    finds(Sabotage::GiveWithoutCommit);
}

#[test]
fn a_missing_fence_check_is_found() {
    finds(Sabotage::NoFenceCheck);
}

#[test]
fn a_missing_sequence_check_is_found() {
    finds(Sabotage::NoSequenceCheck);
}

#[test]
fn work_forgotten_when_a_client_is_lost_is_found() {
    finds(Sabotage::ForgetWork);
}

#[test]
fn a_lost_attempt_counter_is_found() {
    finds(Sabotage::NoAttemptCounter);
}

#[test]
fn two_sessions_on_one_link_are_found() {
    finds(Sabotage::TwoSessions);
}

#[test]
fn an_acknowledgement_before_the_commit_is_applied_is_found() {
    finds(Sabotage::AckBeforeApplied);
}

#[test]
fn an_acknowledgement_before_the_commit_is_durable_is_found() {
    finds(Sabotage::AckBeforeDurable);
}

#[test]
fn a_grant_before_it_is_durable_is_found() {
    finds(Sabotage::GrantBeforeDurable);
}

#[test]
fn a_lease_that_the_parent_does_not_know_of_is_found() {
    finds(Sabotage::LongLease);
}

#[test]
fn a_range_that_is_too_long_is_found() {
    finds(Sabotage::RangeTooLong);
}

#[test]
fn an_action_before_it_is_on_record_is_found() {
    finds(Sabotage::ActBeforeRecord);
}

#[test]
fn an_acknowledgement_before_the_server_has_the_intents_is_found() {
    finds(Sabotage::AckBeforeServer);
}

#[test]
fn a_store_that_loses_what_it_was_given_is_found() {
    finds(Sabotage::LoseAway);
}

#[test]
fn that_nobody_says_what_a_lost_worker_may_have_done_is_found() {
    finds(Sabotage::ForgetBegun);
}
