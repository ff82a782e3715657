//! Answers that wait until they are due: a heap by time, and one thread that sends them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What sends an answer.
pub(super) type Send = Box<dyn FnOnce() + std::marker::Send>;

/// The answers that wait.
#[derive(Debug, Default)]
pub(super) struct DelayLine {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: BinaryHeap<Waiting>,
    hurried: bool,
    stopped: bool,
}

struct Waiting {
    due: Instant,
    send: Send,
}

impl DelayLine {
    /// Sends it when `due` has come.
    pub(super) fn push(&self, due: Instant, send: Send) {
        let mut queue = self.lock();
        let is_next = queue.waiting.peek().is_none_or(|next| due < next.due);
        queue.waiting.push(Waiting { due, send });
        drop(queue);
        if is_next {
            self.wake.notify_one();
        }
    }

    /// Sends all that waits now.
    pub(super) fn hurry(&self) {
        self.lock().hurried = true;
        self.wake.notify_one();
    }

    /// Ends [`DelayLine::run`]; what still waits is sent before.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.wake.notify_one();
    }

    /// Sends what is due, until it is stopped.
    pub(super) fn run(&self) {
        // The kernel lets timers be late by 50 microseconds, so that several can share a wake-up. Where
        // that cannot be changed, calls take a little longer, and the mean that is reported says so.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut due = Vec::new();
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let stopped = queue.stopped;
            let all = std::mem::take(&mut queue.hurried) || stopped;
            while queue
                .waiting
                .peek()
                .is_some_and(|next| all || next.due <= now)
            {
                due.extend(queue.waiting.pop());
            }
            if !due.is_empty() {
                drop(queue);
                due.drain(..).for_each(|waiting: Waiting| (waiting.send)());
                queue = self.lock();
                continue;
            }
            if stopped {
                return;
            }
            queue = match queue.waiting.peek().map(|next| next.due - now) {
                Some(left) => {
                    let waited = self.wake.wait_timeout(queue, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.wake.wait(queue);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} waiting)", self.waiting.len())
    }
}

// The heap gives the greatest first: the one that is due first.
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn what_is_due_first_is_sent_first_and_nothing_is_lost() {
        let line = DelayLine::default();
        let (sent, order) = mpsc::channel();
        let now = Instant::now();
        for wait in [3, 0, 2, 1, 3600] {
            let sent = sent.clone();
            let due = now + Duration::from_secs(wait) / 1000;
            line.push(due, Box::new(move || sent.send(wait).unwrap()));
        }
        let last = sent;
        std::thread::scope(|scope| {
            scope.spawn(|| line.run());
            let first: Vec<u64> = order.iter().take(4).collect();
            assert_eq!(first, [0, 1, 2, 3]);
            line.hurry();
            assert_eq!(order.recv(), Ok(3600));
            line.push(now + Duration::from_secs(3600), {
                let sent = last.clone();
                Box::new(move || sent.send(3600).unwrap())
            });
            line.stop();
            assert_eq!(order.recv(), Ok(3600));
        });
    }
}
