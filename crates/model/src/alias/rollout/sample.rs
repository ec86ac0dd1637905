//! What came of the calls of one version: counted ([`Sample`]), and as a few figures ([`Figures`]).

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// What came of the calls of one version within a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Calls that ended.
    pub calls: u64,
    /// Of them failed.
    pub errors: u64,
    /// How long they ran, in microseconds.
    pub durations: Histogram,
}

impl Sample {
    /// Adds another sample's calls.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.durations.add(&other.durations);
    }

    /// What came after `earlier`, a sample of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            errors: self.errors.saturating_sub(earlier.errors),
            durations: self.durations.since(&earlier.durations),
        }
    }
}

/// A sample in a few numbers, small enough to be stored with an alias. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Calls that ended.
    pub calls: u64,
    /// Of them failed.
    pub errors: u64,
    /// Calls that ran at all: the times are theirs.
    pub timed: u64,
    /// Mean.
    pub mean_us: u64,
    /// Standard deviation.
    pub deviation_us: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 90 of 100 took no longer.
    pub p90_us: u64,
    /// 95 of 100 took no longer.
    pub p95_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
}

impl From<&Sample> for Figures {
    fn from(sample: &Sample) -> Self {
        let Sample { calls, errors, durations } = sample;
        let quantile = |q| durations.quantile(q).unwrap_or(0);
        Self {
            calls: *calls,
            errors: *errors,
            timed: durations.len(),
            mean_us: durations.mean().unwrap_or(0),
            deviation_us: durations.deviation().unwrap_or(0),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p95_us: quantile(0.95),
            p99_us: quantile(0.99),
        }
    }
}
