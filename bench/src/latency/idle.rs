//! How long clients wait for work: read from their trace log, as it is written.
//!
//! A client is idle from when the last of its workers has said that it has nothing until it sends one of
//! them the next items. What a worker says may have crossed a grant on its way: then it counts for nothing.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a client has to log for this.
pub(super) const FILTER: &str = "hydra_client::dispatcher=trace";

/// Waits of one client, as far as its log has been read.
#[derive(Debug, Default)]
pub(super) struct Log {
    workers: BTreeMap<u64, Worker>,
    idle_since: Option<f64>,
    waits: Vec<f64>,
}

#[derive(Debug, Default)]
struct Worker {
    busy: bool,
    /// The last grant that was sent to it, if it has not shown yet that it has come.
    on_its_way: Option<u64>,
}

impl Log {
    /// Reads one line.
    pub(super) fn read(&mut self, line: &str) {
        let (Some(time), Some(worker)) = (seconds_of_day(line), number(line, "ConnId(")) else {
            return;
        };
        if let Some(report) = line.split("load: Load { ").nth(1) {
            self.said(time, worker, line, report);
        } else if line.contains("message: Grant(") && !line.contains("items: []") {
            self.granted(time, worker, number(line, " }, seq: "));
        }
    }

    fn said(&mut self, time: f64, worker: u64, line: &str, report: &str) {
        let worker = self.workers.entry(worker).or_default();
        let busy = number(report, "busy: ") != Some(0) || number(report, "held: ") != Some(0);
        if let Some(grant) = worker.on_its_way {
            let has_come = number(line, "last_grant: ").is_some_and(|last| last >= grant);
            if !busy && !has_come && !line.contains("done: [IdRange") {
                return;
            }
        }
        *worker = Worker {
            busy,
            on_its_way: None,
        };
        if self.workers.values().any(|worker| worker.busy) {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(time);
        }
    }

    fn granted(&mut self, time: f64, worker: u64, grant: Option<u64>) {
        let granted = Worker {
            busy: true,
            on_its_way: grant,
        };
        self.workers.insert(worker, granted);
        if let Some(since) = self.idle_since.take() {
            self.waits.push((time - since) * 1e3);
        }
    }

    /// The waits so far, in milliseconds.
    pub(super) fn waits(self) -> Vec<f64> {
        self.waits
    }
}

/// The waits of all clients in one run, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waits {
    /// How many there were.
    pub count: usize,
    /// Half of them were no longer.
    pub median: f64,
    /// Nine of ten were no longer.
    pub ninth_tenth: f64,
    /// The longest.
    pub longest: f64,
}

impl Waits {
    pub(super) fn new(mut waits: Vec<f64>) -> Self {
        waits.sort_by(f64::total_cmp);
        let at = |tenths: usize| {
            let index = waits.len().saturating_sub(1) * tenths / 10;
            waits.get(index).copied().unwrap_or_default()
        };
        Self {
            count: waits.len(),
            median: at(5),
            ninth_tenth: at(9),
            longest: at(10),
        }
    }
}

/// The time with which a line begins: `2026-11-22T05:41:02.653637Z`.
fn seconds_of_day(line: &str) -> Option<f64> {
    let time = line.split('T').nth(1)?.split('Z').next()?;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let mut part = || parts.next()?.ok();
    Some(part()? * 3600.0 + part()? * 60.0 + part()?)
}

/// The number right behind the first `label`.
fn number(line: &str, label: &str) -> Option<u64> {
    let (_, rest) = line.split_once(label)?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(lines: &[(&str, &str)]) -> Vec<f64> {
        let mut log = Log::default();
        for (time, rest) in lines {
            log.read(&format!("2026-01-01T00:00:{time}Z TRACE module: {rest}"));
        }
        log.waits().iter().map(|wait| wait.round()).collect()
    }

    const IDLE: &str = "conn=ConnId(1) Beat(UpBeat { epoch: Epoch { job: JobId(1), number: 1 }, number: 2, last_grant: 1, load: Load { held: 0, hungry: true, busy: 0, ids: 5 } })";
    const GRANT: &str = "action=Worker(Send { conn: ConnId(1), message: Grant(Grant { epoch: Epoch { job: JobId(1), number: 1 }, seq: 2, items: [Dirs(";
    const OTHER_BUSY: &str = "conn=ConnId(2) Beat(UpBeat { last_grant: 1, load: Load { held: 0, hungry: true, busy: 1, ids: 5 } })";

    #[test]
    fn a_wait_lasts_until_items_are_granted() {
        let ids_only = GRANT.replace("[Dirs(", "[], ");
        let lines = [
            ("01.000000", IDLE),
            ("01.001000", &ids_only),
            ("01.003000", GRANT),
        ];
        assert_eq!(waits(&lines), [3.0]);
    }

    #[test]
    fn a_client_with_a_busy_worker_is_not_idle() {
        let lines = [
            ("01.000000", OTHER_BUSY),
            ("01.001000", IDLE),
            ("01.002000", GRANT),
        ];
        assert_eq!(waits(&lines), [] as [f64; 0]);
    }

    #[test]
    fn what_crossed_a_grant_is_old() {
        let lines = [
            ("01.000000", IDLE),
            ("01.001000", GRANT),
            ("01.001500", IDLE),
            ("09.000000", GRANT),
        ];
        assert_eq!(waits(&lines), [1.0]);
        let done = "conn=ConnId(1) Commit(Commit { seq: 1, done: [IdRange { start: 1, end: 2 }], load: Load { held: 0, hungry: true, busy: 0, ids: 5 } })";
        let finished = [
            ("01.000000", GRANT),
            ("01.002000", done),
            ("01.004000", GRANT),
        ];
        assert_eq!(waits(&finished), [2.0]);
    }

    #[test]
    fn the_tenths_of_few_waits_are_among_them() {
        let all = Waits::new((1..=11).rev().map(f64::from).collect());
        assert_eq!(
            (all.count, all.median, all.ninth_tenth, all.longest),
            (11, 6.0, 10.0, 11.0)
        );
        assert_eq!(Waits::new(Vec::new()), Waits::default());
    }
}
