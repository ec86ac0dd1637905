//! What comes of an alias's calls while it shifts from version to version: counters that calls add to without a lock, and whoever judges the shift reads.

use std::sync::atomic::{AtomicU64, Ordering};

use model::Result;
use model::alias::Rollout;
use model::alias::rollout::Sample;
use model::error::Code;
use model::histogram::{BUCKETS, Histogram, bucket};
use model::ids::{AliasName, FunctionKey, VersionRef};
use model::invocation::{Completed, ErrorCount};

/// An alias that shifts.
#[derive(Clone, Debug)]
pub struct Shifting {
    /// The function.
    pub function: FunctionKey,
    /// Its alias.
    pub alias: AliasName,
    /// The shift.
    pub rollout: Rollout,
    /// What came of the calls of each version that the shift leads to or away from, since this process first saw the shift.
    pub samples: Vec<(VersionRef, Sample)>,
}

/// The counters of one shift: one set for each version that it leads to or away from.
#[derive(Debug)]
pub(crate) struct Counters(Vec<(VersionRef, Counter)>);

#[derive(Debug)]
struct Counter {
    calls: AtomicU64,
    errors: ErrorCount,
    /// Of the durations, in microseconds.
    sum: AtomicU64,
    buckets: Box<[AtomicU64]>,
}

impl Counters {
    pub(crate) fn of(rollout: &Rollout) -> Self {
        let before = rollout.before.iter().map(|target| target.version);
        let others = before.filter(|version| *version != rollout.to);
        let versions = std::iter::once(rollout.to).chain(others);
        Self(versions.map(|version| (version, Counter::new())).collect())
    }

    /// Counts a call that `version` served, and says where an error is counted that only shows in its answer. A call that was throttled, or that
    /// came while the daemon stopped, says nothing about a version; any other refusal is an error of it.
    pub(crate) fn count(&self, version: VersionRef, result: &mut Result<Completed>) {
        let Some((_, counter)) = self.0.iter().find(|(of, _)| *of == version) else { return };
        match result {
            Ok(completed) => {
                counter.add(Some(completed.outcome.run_us), completed.outcome.result.is_err());
                completed.errors = Some(counter.errors.clone());
            }
            Err(e) if matches!(e.code(), Code::Throttled | Code::Unavailable) => {}
            Err(_) => counter.add(None, true),
        }
    }

    /// Where errors of `version` are counted, if the shift leads to it or away from it.
    pub(crate) fn errors_of(&self, version: VersionRef) -> Option<ErrorCount> {
        let counter = self.0.iter().find(|(of, _)| *of == version);
        counter.map(|(_, counter)| counter.errors.clone())
    }

    pub(crate) fn samples(&self) -> Vec<(VersionRef, Sample)> {
        self.0.iter().map(|(version, counter)| (*version, counter.sample())).collect()
    }
}

impl Counter {
    fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            errors: ErrorCount::default(),
            sum: AtomicU64::new(0),
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn add(&self, run_us: Option<u64>, failed: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors.count();
        }
        if let Some(run_us) = run_us {
            self.sum.fetch_add(run_us, Ordering::Relaxed);
            if let Some(count) = self.buckets.get(bucket(run_us)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A call may be half counted; the next sample has the rest.
    fn sample(&self) -> Sample {
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        Sample {
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.get(),
            durations: Histogram::from_counts(counts, self.sum.load(Ordering::Relaxed)),
        }
    }
}
