//! How much an instance may write: a token bucket.

use std::time::Instant;

use model::limits;

/// More than the longest line, in bytes: the least that a bucket holds, and mostly what a spent one must hold again before anything is taken from
/// it. What is kept of a flood is then runs of lines and not single ones.
const LONG_LINES_BYTES: u64 = 2 * limits::LOG_LINE_BYTES as u64;

/// Refilled at a function's `output_bytes_per_second`, holds as much as `limits::OUTPUT_BURST_SECONDS` give, and two of the longest lines in any case.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u64,
    left_bytes: u64,
    refilled_at: Instant,
    /// Something was refused and the bucket has not refilled to [`Budget::reopen_bytes`] since.
    spent: bool,
}

impl Budget {
    /// A full bucket.
    pub(super) fn full(now: Instant, bytes_per_second: u32) -> Self {
        let per_second = u64::from(bytes_per_second);
        let mut budget = Self { per_second, left_bytes: 0, refilled_at: now, spent: false };
        budget.left_bytes = budget.burst_bytes();
        budget
    }

    /// What it gives in the long run, in bytes per second.
    pub(super) fn per_second(&self) -> u64 {
        self.per_second
    }

    /// What it gives at once, in bytes.
    pub(super) fn burst_bytes(&self) -> u64 {
        (self.per_second * u64::from(limits::OUTPUT_BURST_SECONDS)).max(LONG_LINES_BYTES)
    }

    /// What it must hold again once it is spent, in bytes. A slow one does not make its function wait for minutes.
    fn reopen_bytes(&self) -> u64 {
        (self.per_second * u64::from(limits::OUTPUT_BURST_SECONDS)).min(LONG_LINES_BYTES)
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
            self.spent = self.left_bytes < self.reopen_bytes();
        }
        self.spent
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let earned = micros.saturating_mul(self.per_second) / 1_000_000;
        // Time too short to have earned a byte is kept for the next time.
        if earned > 0 {
            self.left_bytes = self.left_bytes.saturating_add(earned).min(self.burst_bytes());
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
    const RATE: u32 = limits::OUTPUT_DEFAULT_BYTES_PER_SECOND;

    fn full(now: Instant) -> Budget {
        Budget::full(now, RATE)
    }

    #[test]
    fn the_figures_are_those_of_the_model() {
        assert_eq!(u64::from(RATE), PER_SECOND as u64);
        assert_eq!(full(Instant::now()).burst_bytes(), BURST as u64);
    }

    #[test]
    fn a_slow_one_still_takes_a_long_line_and_opens_again_within_seconds() {
        let start = Instant::now();
        let mut budget = Budget::full(start, limits::OUTPUT_MIN_BYTES_PER_SECOND);
        assert!(budget.take(limits::LOG_LINE_BYTES, || start));
        assert!(budget.take(limits::LOG_LINE_BYTES, || start));
        assert!(!budget.take(1, || start));
        let soon = start + Duration::from_secs(3);
        assert!(budget.is_spent(|| soon));
        let later = start + Duration::from_secs(4);
        assert!(budget.take(4096, || later) && !budget.take(1, || later));
    }

    #[test]
    fn a_burst_then_the_sustained_rate() {
        let start = Instant::now();
        let mut budget = full(start);
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
        let mut budget = full(start);
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
        let mut budget = full(start);
        let later = start + Duration::from_secs(3600);
        assert!(!budget.take(BURST + 1, || later));
        assert!(budget.take(BURST, || later));
    }

    #[test]
    fn many_short_waits_earn_nearly_as_much_as_a_long_one() {
        let start = Instant::now();
        let mut budget = full(start);
        assert!(budget.take(BURST, || start));
        for step in 1..=1_000_000_u64 {
            budget.refill(start + Duration::from_micros(step));
        }
        // Rounding loses less than one byte at each step, of more than four.
        assert!(budget.left_bytes > u64::from(RATE) * 3 / 4);
    }
}
