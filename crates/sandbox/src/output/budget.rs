//! How much an instance may write: a token bucket.

use std::time::Instant;

use model::limits;

/// What a spent bucket must hold again before anything is taken from it, in bytes: more than the longest line. What is kept of a flood is then
/// runs of lines and not single ones.
const REOPEN_BYTES: u64 = 2 * limits::LOG_LINE_BYTES as u64;

/// Holds up to `limits::LOG_BURST_BYTES`, refilled at `limits::LOG_BYTES_PER_SECOND`.
#[derive(Debug)]
pub(super) struct Budget {
    left_bytes: u64,
    refilled_at: Instant,
    /// Something was refused and the bucket has not refilled to [`REOPEN_BYTES`] since.
    spent: bool,
}

impl Budget {
    /// A full bucket.
    pub(super) fn full(now: Instant) -> Self {
        Self { left_bytes: limits::LOG_BURST_BYTES, refilled_at: now, spent: false }
    }

    /// Takes `bytes` if they are there. The clock is only asked when they are not.
    pub(super) fn take(&mut self, bytes: usize, now: impl Fn() -> Instant) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.is_spent(&now) {
            return false;
        }
        if self.left_bytes < bytes {
            self.refill(now());
        }
        self.spent = self.left_bytes < bytes;
        if !self.spent {
            self.left_bytes -= bytes;
        }
        !self.spent
    }

    /// Whether nothing can be taken at the moment, however little.
    pub(super) fn is_spent(&mut self, now: impl Fn() -> Instant) -> bool {
        if self.spent {
            self.refill(now());
            self.spent = self.left_bytes < REOPEN_BYTES;
        }
        self.spent
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let earned = micros.saturating_mul(limits::LOG_BYTES_PER_SECOND) / 1_000_000;
        // Time too short to have earned a byte is kept for the next time.
        if earned > 0 {
            self.left_bytes = self.left_bytes.saturating_add(earned).min(limits::LOG_BURST_BYTES);
            self.refilled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BURST: usize = 16 << 20;
    const PER_SECOND: usize = 4 << 20;

    #[test]
    fn the_figures_are_those_of_the_model() {
        assert_eq!(u64::try_from(BURST).unwrap(), limits::LOG_BURST_BYTES);
        assert_eq!(u64::try_from(PER_SECOND).unwrap(), limits::LOG_BYTES_PER_SECOND);
    }

    #[test]
    fn a_burst_then_the_sustained_rate() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        assert!(budget.take(BURST, || start));
        assert!(!budget.take(1, || start));
        let later = start + Duration::from_millis(500);
        assert!(!budget.take(PER_SECOND / 2 + 1, || later));
        assert!(budget.take(PER_SECOND / 2, || later));
        assert!(!budget.take(1, || later));
    }

    #[test]
    fn once_spent_it_refills_before_it_gives_again() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        assert!(budget.take(BURST, || start));
        assert!(!budget.take(1, || start));
        let soon = start + Duration::from_millis(100);
        assert!(budget.is_spent(|| soon) && !budget.take(1, || soon));
        let later = start + Duration::from_millis(130);
        assert!(!budget.is_spent(|| later) && budget.take(limits::LOG_LINE_BYTES, || later));
    }

    #[test]
    fn it_never_holds_more_than_a_burst() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        let later = start + Duration::from_secs(3600);
        assert!(!budget.take(BURST + 1, || later));
        assert!(budget.take(BURST, || later));
    }

    #[test]
    fn many_short_waits_earn_nearly_as_much_as_a_long_one() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        assert!(budget.take(BURST, || start));
        for step in 1..=1_000_000_u64 {
            budget.refill(start + Duration::from_micros(step));
        }
        // Rounding loses less than one byte at each step, of more than four.
        assert!(budget.left_bytes > limits::LOG_BYTES_PER_SECOND * 3 / 4);
    }
}
