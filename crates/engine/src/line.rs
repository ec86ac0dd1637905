//! Calls in a line: when one waits behind another instead of taking an instance of its own.
//!
//! A function that answers within microseconds gains nothing from more instances than there are processors, and loses: each of them
//! has to be woken up, and none has its code warm. So calls of such a function wait a moment, and are handed to an instance that is still at another call: it
//! finds the next one without anybody being woken. Whoever waits longer than [`PATIENCE`] while nothing goes on gets an instance of
//! its own, as if there were no line.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use model::invocation::Invocation;
use tokio::sync::oneshot;

use crate::pool::Grant;

/// How long a call waits in the line of a quick function, or behind a call of an instance, before it gets an instance as if there were no line. A fraction
/// of what a start takes; a scheduler's time slice, so that an instance which has lost its processor to another process may get it back.
pub(crate) const PATIENCE: Duration = Duration::from_millis(4);
/// The same where a start takes long: the machine is busy, and would only be busier with one more.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_millis(50);
/// Calls handed to an instance behind the one that it is at.
pub(crate) const AHEAD_MAX: usize = 3;
/// Time of a call, in microseconds, up to which a function is quick: what waking up another instance costs, more or less.
const QUICK_US: u32 = 100;
/// What a call counts for at most, in microseconds: one that lost its processor for a while shall not turn a quick function into a slow one, some in a row shall.
const SAMPLE_MAX_US: u32 = 4 * QUICK_US;
/// A call counts one in so many.
const SMOOTHING: u32 = 8;
/// So many calls of an instance run code that the language has not compiled yet.
pub(crate) const WARM_UP_CALLS: u32 = 50;
/// Before the first call.
const UNKNOWN: u32 = u32::MAX;

/// A call that waits for an instance.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// What to hand over.
    pub(crate) invocation: Invocation,
    /// Whether it waits here even if the pool is retired, as no other one would serve it.
    pub(crate) stays: bool,
    /// Who waits: told when the call has been handed over and its turn has come.
    pub(crate) grant: oneshot::Sender<Grant>,
}

/// How long calls of a version take, smoothed. Updates may be lost to each other: it is an estimate.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU32);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU32::new(UNKNOWN))
    }
}

impl Pace {
    /// Learns from a call.
    pub(crate) fn learn(&self, busy_us: u32) {
        let busy_us = busy_us.min(SAMPLE_MAX_US);
        let old = self.0.load(Ordering::Relaxed);
        let new =
            if old == UNKNOWN { busy_us } else { old - old / SMOOTHING + busy_us / SMOOTHING };
        self.0.store(new, Ordering::Relaxed);
    }

    /// Begins as `other` is now.
    pub(crate) fn follow(&self, other: &Self) {
        if self.0.load(Ordering::Relaxed) == UNKNOWN {
            self.0.store(other.0.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Whether calls are over before another instance would be awake.
    pub(crate) fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= QUICK_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_quick_once_its_calls_are() {
        let pace = Pace::default();
        assert!(!pace.is_quick(), "unknown is not quick");
        pace.learn(4_000);
        assert!(!pace.is_quick());
        for _ in 0..50 {
            pace.learn(10);
        }
        assert!(pace.is_quick());
        pace.learn(u32::MAX);
        assert!(pace.is_quick(), "one slow call among many quick ones changes nothing");
        for _ in 0..4 {
            pace.learn(u32::MAX);
        }
        assert!(!pace.is_quick(), "several do");
    }
}
