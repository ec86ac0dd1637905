//! How many instances of a class should lie ready: by how often one was wanted of late.

use std::time::{Duration, Instant};

/// Over which time the rate of cold starts is taken: each weighs less by the factor e when it is so old.
const MEMORY: Duration = Duration::from_secs(60);
/// So many lie ready for a class that is in use, however seldom: the first call after a deployment, and one beside it.
pub(super) const FLOOR: usize = 2;
/// Beyond that, what arrives in this time at the present rate: a refill of some.
const COVER: Duration = Duration::from_secs(2);
/// Most, whatever the rate.
const MOST: usize = 64;
/// A class that nobody started or deployed a function of for so long is not stocked any more.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The demand for one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Cold starts a second, as of `at`.
    rate: f64,
    at: Instant,
    /// When it was wanted last, by a start or a deployment.
    wanted_at: Instant,
}

impl Demand {
    /// Of a class that is expected to be wanted.
    pub(super) fn new(now: Instant) -> Self {
        Self { rate: 0.0, at: now, wanted_at: now }
    }

    /// A function of this class was deployed.
    pub(super) fn expect(&mut self, now: Instant) {
        self.wanted_at = now;
    }

    /// A cold start.
    pub(super) fn arrive(&mut self, now: Instant) {
        self.rate = self.rate(now) + 1.0 / MEMORY.as_secs_f64();
        (self.at, self.wanted_at) = (now, now);
    }

    /// Cold starts a second.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        self.rate * (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp()
    }

    /// Whether the class is out of use.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.wanted_at) >= FORGOTTEN_AFTER
    }

    /// How many should lie ready.
    pub(super) fn target(&self, now: Instant) -> usize {
        if self.is_over(now) {
            return 0;
        }
        let expected = self.rate(now) * COVER.as_secs_f64();
        let more = (1..MOST).take_while(|n| f64::from(u32::try_from(*n).unwrap_or(0)) <= expected);
        (FLOOR + more.count()).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_follows_the_rate_and_falls_back_to_the_floor() {
        let start = Instant::now();
        let mut demand = Demand::new(start);
        assert_eq!(demand.target(start), FLOOR);
        let mut now = start;
        for _ in 0..1200 {
            now += Duration::from_millis(100);
            demand.arrive(now);
        }
        let rate = demand.rate(now);
        assert!((8.0..10.5).contains(&rate), "{rate}");
        assert!((FLOOR + 15..=FLOOR + 20).contains(&demand.target(now)), "{}", demand.target(now));
        now += Duration::from_secs(500);
        assert_eq!(demand.target(now), FLOOR);
        now += Duration::from_secs(100);
        assert!(demand.is_over(now) && demand.target(now) == 0);
        demand.expect(now);
        assert_eq!(demand.target(now), FLOOR);
    }

    #[test]
    fn a_flood_has_its_limit() {
        let now = Instant::now();
        let mut demand = Demand::new(now);
        (0..1_000_000).for_each(|_| demand.arrive(now));
        assert_eq!(demand.target(now), MOST);
    }
}
