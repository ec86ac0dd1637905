//! When the next call of a function comes, learned from the pauses between its calls: how long an idle instance is kept, when one is started ahead, and
//! how likely a call is soon.
//!
//! After Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020): a histogram of the pauses with one bucket a minute. Its head says how long nothing comes, its tail
//! until when something does. Where it has too few pauses, or they are spread over it, it says nothing, and a fixed time holds. The measure of that is theirs, the coefficient of
//! variation of the buckets' counts, but of no more buckets than there are pauses: of few pauses in many buckets it is always high.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// Buckets of a minute each: four hours.
const BUCKETS: usize = 240;
/// Fewer pauses say nothing.
const PAUSES_MIN: u32 = 10;
/// More pauses than this, and each counts half: what was is to fade.
const PAUSES_MAX: u32 = 10_000;
/// Least coefficient of variation of a histogram that says something.
const VARIATION_MIN: f64 = 2.0;
/// Part of the pauses, in hundredths, that are shorter than the head, and than the tail.
const HEAD: u32 = 5;
const TAIL: u32 = 99;
/// What the window is widened by on either side, in hundredths.
const MARGIN: u32 = 10;

/// How long instances are kept where nothing is learned, and the bounds of what is learned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) fixed: Duration,
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

/// What becomes of a function's last instance after its last call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// No call comes before this.
    pub(crate) from: Duration,
    /// None comes after this.
    pub(crate) until: Duration,
    pub(crate) learned: bool,
}

/// The pauses between a function's calls. Counts are estimates: updates may be lost to each other.
#[derive(Debug, Default)]
pub(crate) struct Forecast(OnceLock<Box<Pauses>>);

#[derive(Debug)]
struct Pauses {
    buckets: [AtomicU32; BUCKETS],
    /// Longer than all buckets.
    beyond: AtomicU32,
    total: AtomicU32,
}

impl Default for Pauses {
    fn default() -> Self {
        let (beyond, total) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { buckets: std::array::from_fn(|_| AtomicU32::new(0)), beyond, total }
    }
}

impl Forecast {
    /// A call came after this pause.
    pub(crate) fn learn(&self, pause: Duration) {
        let pauses = self.0.get_or_init(Box::default);
        let bucket = pauses.buckets.get(minutes(pause)).unwrap_or(&pauses.beyond);
        bucket.fetch_add(1, Ordering::Relaxed);
        pauses.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Halves the counts of a function that has many.
    pub(crate) fn fade(&self) {
        let Some(pauses) = self.0.get() else { return };
        if pauses.total.load(Ordering::Relaxed) > PAUSES_MAX {
            let counts = pauses.buckets.iter().chain([&pauses.beyond, &pauses.total]);
            counts.for_each(|count| {
                count.store(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed)
            });
        }
    }

    /// What becomes of an instance after a call.
    pub(crate) fn plan(&self, bounds: &Bounds) -> Plan {
        let fixed = Plan { from: Duration::ZERO, until: bounds.fixed, learned: false };
        let Some(pauses) = self.0.get().filter(|_| !bounds.most.is_zero()) else { return fixed };
        let counts = pauses.counts();
        let inside: u32 = counts.iter().sum();
        let beyond = pauses.beyond.load(Ordering::Relaxed);
        if inside < PAUSES_MIN || beyond > inside || variation(&counts, inside) < VARIATION_MIN {
            return fixed;
        }
        let (head, tail) = (bucket_at(&counts, inside, HEAD), bucket_at(&counts, inside, TAIL) + 1);
        let from = MINUTE * head * (100 - MARGIN) / 100;
        let until = (MINUTE * tail * (100 + MARGIN) / 100).max(bounds.least).min(bounds.most);
        // Where it has to go before a call can come, or would go and come back at once, it is not worth the trouble.
        let from = if from >= until || from <= bounds.least { Duration::ZERO } else { from };
        Plan { from, until, learned: true }
    }

    /// How likely a call is within a minute, when nothing has come for `idle`: between 0 and 1. Before anything is learned, less likely the longer it is ago.
    pub(crate) fn likelihood(&self, idle: Duration) -> f64 {
        let unknown = 1.0 / (1.0 + idle.as_secs_f64());
        let Some(pauses) = self.0.get() else { return unknown };
        let counts = pauses.counts();
        let now = minutes(idle).min(BUCKETS);
        let soon: u32 = counts.iter().skip(now).take(2).sum();
        let ever: u32 = counts.iter().skip(now).sum();
        let ever = ever + pauses.beyond.load(Ordering::Relaxed);
        (f64::from(soon) + unknown) / (f64::from(ever) + 1.0)
    }
}

impl Pauses {
    fn counts(&self) -> [u32; BUCKETS] {
        std::array::from_fn(|i| self.buckets.get(i).map_or(0, |n| n.load(Ordering::Relaxed)))
    }
}

fn minutes(time: Duration) -> usize {
    usize::try_from(time.as_secs() / MINUTE.as_secs()).unwrap_or(usize::MAX)
}

/// The bucket in which the part `hundredths` of `total` counts is reached.
fn bucket_at(counts: &[u32], total: u32, hundredths: u32) -> u32 {
    let wanted = (u64::from(total) * u64::from(hundredths)).div_ceil(100).max(1);
    let mut seen = 0;
    let at = counts.iter().position(|count| {
        seen += u64::from(*count);
        seen >= wanted
    });
    at.and_then(|at| u32::try_from(at).ok()).unwrap_or_default()
}

/// The coefficient of variation of the counts, in as many buckets as there are counts at most.
fn variation(counts: &[u32; BUCKETS], total: u32) -> f64 {
    let buckets = usize::try_from(total).unwrap_or(BUCKETS).clamp(1, BUCKETS);
    let coarse = counts.chunks(BUCKETS.div_ceil(buckets)).map(|chunk| chunk.iter().sum::<u32>());
    let coarse: Vec<f64> = coarse.map(f64::from).collect();
    let n = u32::try_from(coarse.len()).map_or(1.0, f64::from);
    let mean = f64::from(total) / n;
    let variance = coarse.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / n;
    variance.sqrt() / mean
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        fixed: Duration::from_secs(300),
        least: Duration::from_secs(10),
        most: Duration::from_secs(7_200),
    };

    fn after(pauses: impl IntoIterator<Item = u64>) -> Forecast {
        let forecast = Forecast::default();
        pauses.into_iter().for_each(|seconds| forecast.learn(Duration::from_secs(seconds)));
        forecast
    }

    fn fixed(forecast: &Forecast) -> bool {
        let plan = forecast.plan(&BOUNDS);
        !plan.learned && (plan.from, plan.until) == (Duration::ZERO, BOUNDS.fixed)
    }

    #[test]
    fn every_half_hour_leaves_time_to_be_away() {
        let plan = after([1_805; 12]).plan(&BOUNDS);
        assert!(plan.learned);
        assert_eq!((plan.from.as_secs(), plan.until.as_secs()), (27 * 60, 31 * 66));
    }

    #[test]
    fn every_ten_seconds_keeps_it_for_a_minute() {
        let plan = after([10; 50]).plan(&BOUNDS);
        assert_eq!((plan.from.as_secs(), plan.until.as_secs(), plan.learned), (0, 66, true));
    }

    #[test]
    fn bursts_keep_it_until_the_next_one() {
        let bursts = (0..20).flat_map(|_| [1, 1, 2, 1_200]);
        let plan = after(bursts).plan(&BOUNDS);
        assert_eq!((plan.from.as_secs(), plan.until.as_secs(), plan.learned), (0, 21 * 66, true));
    }

    #[test]
    fn few_spread_or_endless_pauses_say_nothing() {
        assert!(fixed(&Forecast::default()));
        assert!(fixed(&after([1_800; 9])), "few");
        for n in [10, 40, 240, 2_000] {
            assert!(fixed(&after((0..n).map(|i| i * 14_400 / n))), "{n} spread evenly");
        }
        assert!(fixed(&after([20_000; 50])), "beyond the histogram");
    }

    #[test]
    fn what_is_learned_stays_within_bounds() {
        let long = after([4 * 3_600 - 1; 20]).plan(&BOUNDS);
        assert_eq!((long.from, long.until), (Duration::ZERO, BOUNDS.most));
        let least = Bounds { least: Duration::from_secs(200), ..BOUNDS };
        assert_eq!(after([1; 20]).plan(&least).until, least.least);
        let off = Bounds { most: Duration::ZERO, ..BOUNDS };
        assert!(!after([1_800; 20]).plan(&off).learned);
    }

    #[test]
    fn what_was_fades() {
        let forecast = after([10; 10_001]);
        forecast.fade();
        (0..5_100).for_each(|_| forecast.learn(Duration::from_secs(600)));
        assert_eq!(forecast.plan(&BOUNDS).until.as_secs(), 11 * 66);
    }

    #[test]
    fn a_call_is_likely_when_its_time_has_come() {
        let forecast = after([1_800; 20]);
        let at = |minutes: u64| forecast.likelihood(Duration::from_secs(minutes * 60));
        assert!(at(29) > 0.9 && at(30) > 0.9, "{} {}", at(29), at(30));
        assert!(at(5) < 0.01 && at(45) < 0.01, "{} {}", at(5), at(45));
        let unknown = Forecast::default();
        let (soon, late) = (Duration::from_millis(10), Duration::from_millis(20));
        assert!(unknown.likelihood(soon) > unknown.likelihood(late));
    }
}
