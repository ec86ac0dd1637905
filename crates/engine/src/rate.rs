//! Calls per second: a bucket of allowances that fills at a steady rate and holds a second's worth, in one atomic number.
//!
//! The generic cell rate algorithm (ITU-T I.371): what is kept is the time at which the bucket would be full again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What stands for no limit.
const NONE: u64 = u64::MAX;
const SECOND_NS: u64 = 1_000_000_000;
/// When to try again where nothing is ever allowed: somebody may have raised the limit.
const NEVER: Duration = Duration::from_secs(60);

/// So many calls a second, and as many at once.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: AtomicU64,
    /// In nanoseconds since `epoch`.
    full_at: AtomicU64,
    epoch: Instant,
}

impl Rate {
    /// No limit yet. `epoch` is before any time that [`Rate::take`] gets.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { per_second: AtomicU64::new(NONE), full_at: AtomicU64::new(0), epoch }
    }

    pub(crate) fn set_limit(&self, per_second: Option<u32>) {
        self.per_second.store(per_second.map_or(NONE, u64::from), Ordering::Relaxed);
    }

    /// Calls a second; `None` without a limit.
    pub(crate) fn limit(&self) -> Option<u64> {
        Some(self.per_second.load(Ordering::Relaxed)).filter(|limit| *limit != NONE)
    }

    /// Takes one allowance at `now`, else says how long until there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let Some(limit) = self.limit() else { return Ok(()) };
        let Some(each) = SECOND_NS.checked_div(limit) else { return Err(NEVER) };
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        let now = u64::try_from(since).unwrap_or(u64::MAX / 2);
        // One allowance has to be there by now.
        let latest = now + each * (limit - 1);
        let taken = self.full_at.try_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            (full_at <= latest).then(|| full_at.max(now) + each)
        });
        taken.map(drop).map_err(|full_at| {
            Duration::from_nanos(full_at.saturating_sub(latest)).min(Duration::from_secs(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_then_one_by_one() {
        let epoch = Instant::now();
        let rate = Rate::new(epoch);
        let at = |ms| epoch + Duration::from_millis(ms);
        for _ in 0..1_000 {
            rate.take(epoch).unwrap();
        }
        rate.set_limit(Some(10));
        for _ in 0..10 {
            rate.take(at(5_000)).unwrap();
        }
        assert_eq!(rate.take(at(5_000)), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(at(5_060)), Err(Duration::from_millis(40)));
        rate.take(at(5_100)).unwrap();
        rate.take(at(5_100)).unwrap_err();
        let taken = (0..100).filter(|_| rate.take(at(60_000)).is_ok()).count();
        assert_eq!(taken, 10, "no more than a second's worth is saved up");
    }

    #[test]
    fn limits_may_be_nothing_everything_and_change() {
        let epoch = Instant::now();
        let rate = Rate::new(epoch);
        rate.set_limit(Some(0));
        assert_eq!((rate.take(epoch), rate.limit()), (Err(NEVER), Some(0)));
        rate.set_limit(Some(1_000_000));
        assert_eq!((0..2_000_000).filter(|_| rate.take(epoch).is_ok()).count(), 1_000_000);
        rate.set_limit(Some(1));
        assert_eq!(rate.take(epoch), Err(Duration::from_secs(1)), "a lower rate owes no more");
        rate.set_limit(None);
        rate.take(epoch).unwrap();
    }
}
