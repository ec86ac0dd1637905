//! Counts what a version used, without a lock; a background task carries the counts to the `Usage` port.

use std::sync::atomic::{AtomicU64, Ordering};

use model::ports::UsageSums;

/// Use since the last [`Meter::take`]. Counters are independent: a reader may see a call half counted, the next one sees the rest.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: AtomicU64,
    failures: AtomicU64,
    cold_starts: AtomicU64,
    throttles: AtomicU64,
    duration_ms: AtomicU64,
    memory_mb_ms: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Meter {
    /// Adds `sums`.
    pub(crate) fn add(&self, sums: &UsageSums) {
        for (counter, n) in [
            (&self.requests, sums.requests),
            (&self.failures, sums.failures),
            (&self.cold_starts, sums.cold_starts),
            (&self.throttles, sums.throttles),
            (&self.duration_ms, sums.duration_ms),
            (&self.memory_mb_ms, sums.memory_mb_ms),
            (&self.bytes_in, sums.bytes_in),
            (&self.bytes_out, sums.bytes_out),
        ] {
            if n > 0 {
                counter.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// What was used, and starts again from zero; `None` if nothing was.
    pub(crate) fn take(&self) -> Option<UsageSums> {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let sums = UsageSums {
            requests: take(&self.requests),
            failures: take(&self.failures),
            cold_starts: take(&self.cold_starts),
            throttles: take(&self.throttles),
            duration_ms: take(&self.duration_ms),
            memory_mb_ms: take(&self.memory_mb_ms),
            bytes_in: take(&self.bytes_in),
            bytes_out: take(&self.bytes_out),
        };
        (sums != UsageSums::default()).then_some(sums)
    }

    /// Whether there is nothing to take.
    pub(crate) fn is_zero(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && self.throttles.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_once() {
        let meter = Meter::default();
        assert!(meter.is_zero());
        let sums = UsageSums { requests: 2, duration_ms: 7, ..UsageSums::default() };
        meter.add(&sums);
        meter.add(&UsageSums { throttles: 1, ..UsageSums::default() });
        assert!(!meter.is_zero());
        assert_eq!(meter.take(), Some(UsageSums { throttles: 1, ..sums }));
        assert_eq!(meter.take(), None);
    }
}
