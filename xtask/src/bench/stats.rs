//! Medians, percentiles and ratios of what was measured.

use std::time::Duration;

/// One round of load: how long each answer took, and how long all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    /// In the order they came.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
}

impl Round {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        // Counts of one round are far below 2^52, where f64 stops being exact.
        let count = u32::try_from(self.latencies.len()).map_or(f64::from(u32::MAX), f64::from);
        count / self.elapsed.as_secs_f64()
    }
}

/// The value below or at which `percent` of the samples lie (nearest rank); zero for none.
pub(crate) fn percentile(samples: &[Duration], percent: usize) -> Duration {
    permille(samples, 10 * percent)
}

/// The same, in thousandths; 1000 is the largest.
pub(crate) fn permille(samples: &[Duration], thousandths: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * thousandths).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// The middle of the samples.
pub(crate) fn median(samples: &[Duration]) -> Duration {
    percentile(samples, 50)
}

/// A figure with the range it came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Median, least and most of `values`; NaN for none, which meets no bound.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Self { median: at(last / 2), low: at(0), high: at(last) }
    }
}

/// Subject and baseline, measured in turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pair {
    pub(crate) subject: Vec<Round>,
    pub(crate) baseline: Vec<Round>,
}

impl Pair {
    /// Per round, subject by baseline: drift of the machine hits both halves of a round alike.
    pub(crate) fn ratio(&self, of: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.subject.iter().zip(&self.baseline).map(|(s, b)| of(s) / of(b)).collect())
    }
}

/// Runs `rounds` of both, and who goes first alternates.
pub(crate) fn interleave(
    rounds: usize,
    mut subject: impl FnMut() -> anyhow::Result<Round>,
    mut baseline: impl FnMut() -> anyhow::Result<Round>,
) -> anyhow::Result<Pair> {
    let mut pair = Pair::default();
    for round in 0..rounds {
        if round % 2 == 0 {
            pair.subject.push(subject()?);
            pair.baseline.push(baseline()?);
        } else {
            pair.baseline.push(baseline()?);
            pair.subject.push(subject()?);
        }
    }
    Ok(pair)
}

/// All latencies of some rounds.
pub(crate) fn pooled(rounds: &[Round]) -> Vec<Duration> {
    rounds.iter().flat_map(|r| r.latencies.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    fn round(values: impl IntoIterator<Item = u64>) -> Round {
        Round { latencies: ms(values), elapsed: Duration::from_secs(1) }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples = ms((1..=100).rev());
        assert_eq!(percentile(&samples, 50), Duration::from_millis(50));
        assert_eq!(percentile(&samples, 99), Duration::from_millis(99));
        assert_eq!(percentile(&samples, 100), Duration::from_millis(100));
        assert_eq!(percentile(&ms([7]), 1), Duration::from_millis(7));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let pair = Pair {
            subject: vec![round([2]), round([30]), round([8])],
            baseline: vec![round([1]), round([10]), round([2])],
        };
        let ratio = pair.ratio(|r| median(&r.latencies).as_secs_f64());
        assert!((ratio.median - 3.0).abs() < 1e-9, "{ratio:?}");
        assert!((ratio.low - 2.0).abs() < 1e-9 && (ratio.high - 4.0).abs() < 1e-9, "{ratio:?}");
        assert!(Spread::of(vec![]).median.is_nan());
    }

    #[test]
    fn rounds_alternate_who_goes_first() {
        let order = std::cell::RefCell::new(String::new());
        let turn = |c: char| {
            order.borrow_mut().push(c);
            Ok(round([1, 1, 1]))
        };
        let pair = interleave(3, || turn('s'), || turn('b')).unwrap();
        assert_eq!(*order.borrow(), "sbbssb");
        assert_eq!(pooled(&pair.subject).len(), 9);
        assert!((pair.subject[0].rate() - 3.0).abs() < 1e-9);
    }
}
