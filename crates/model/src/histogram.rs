//! Durations by the thousand in a few kilobytes: counts in buckets whose width grows with the value, 1/16 of it at most.

/// Buckets of equal width within a power of two.
const SUB: usize = 16;
const SUB_BITS: u32 = SUB.ilog2();
/// Powers of two above the exact ones: values up to 2^40 microseconds, twelve days.
const OCTAVES: usize = 37;
/// How many buckets there are.
pub const BUCKETS: usize = SUB * OCTAVES;

/// The bucket of a value.
pub fn bucket(value: u64) -> usize {
    if value < SUB as u64 {
        return usize::try_from(value).unwrap_or(0);
    }
    let octave = value.ilog2() - SUB_BITS;
    let within = usize::try_from((value >> octave) & (SUB as u64 - 1)).unwrap_or(0);
    let octave = usize::try_from(octave).unwrap_or(OCTAVES);
    (SUB * (octave + 1) + within).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let (octave, within) = (bucket / SUB, (bucket % SUB) as u64);
    match octave.checked_sub(1) {
        None => within,
        Some(octave) => {
            let width = 1_u64 << octave;
            ((SUB as u64 + within) << octave) + width / 2
        }
    }
}

/// How often values fell into each bucket. Values above 2^40 count as that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Up to the last bucket that holds anything.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// From the counts of [`BUCKETS`] buckets and the sum of the values.
    pub fn from_counts(counts: impl IntoIterator<Item = u64>, sum: u64) -> Self {
        let mut counts: Vec<u64> = counts.into_iter().take(BUCKETS).collect();
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        counts.truncate(used);
        Self { counts, sum }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        let bucket = bucket(value);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds another's values.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// What was recorded after `earlier` was copied from this.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let earlier_counts = earlier.counts.iter().chain(std::iter::repeat(&0));
        let counts =
            self.counts.iter().zip(earlier_counts).map(|(now, then)| now.saturating_sub(*then));
        Self::from_counts(counts, self.sum.saturating_sub(earlier.sum))
    }

    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The mean; `None` without values.
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.len())
    }

    /// How many values are above `limit`, to 1/32 of it.
    pub fn above(&self, limit: u64) -> u64 {
        let counts = self.counts.iter().enumerate();
        counts.filter(|(bucket, _)| middle(*bucket) > limit).map(|(_, count)| count).sum()
    }

    /// The standard deviation, to 1/32 of the values; `None` without values.
    pub fn deviation(&self) -> Option<u64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "values below 2^41"
        )]
        self.mean().map(|mean| {
            let square = |bucket| (middle(bucket) as f64 - mean as f64).powi(2);
            let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
            let sum: f64 = counts.map(|(bucket, count)| square(bucket) * *count as f64).sum();
            (sum / self.len() as f64).sqrt() as u64
        })
    }

    /// A value that a share `q` of all values, from 0 to 1, keeps at or below, to 1/32 of it; `None` without values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts far below 2^52, times 0 to 1"
        )]
        let rank = ((self.len() as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thirty_second() {
        let mut histogram = Histogram::default();
        for value in 1..=10_000 {
            histogram.record(value);
        }
        for (q, exact) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = f64::from(u32::try_from(histogram.quantile(q).unwrap()).unwrap());
            assert!((found / exact - 1.0).abs() <= 1.0 / 31.0, "{q}: {found} for {exact}");
        }
        assert_eq!(histogram.len(), 10_000);
        assert_eq!(histogram.mean(), Some(5_000));
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert!((700..=1_300).contains(&histogram.above(9_000)), "{}", histogram.above(9_000));
        assert!((2_800..=2_980).contains(&histogram.deviation().unwrap()));
        assert_eq!((Histogram::default().above(0), Histogram::default().deviation()), (0, None));
    }

    #[test]
    fn every_value_has_a_bucket_and_order_is_kept() {
        let mut last = 0;
        for value in (0..40).flat_map(|bits| [1_u64 << bits, (1_u64 << bits) + 1]).chain([u64::MAX])
        {
            let bucket = bucket(value);
            assert!(bucket >= last && bucket < BUCKETS, "{value}");
            last = bucket;
        }
    }

    #[test]
    fn a_window_is_a_difference() {
        let mut all = Histogram::default();
        all.record(5);
        all.record(1_000);
        let earlier = all.clone();
        all.record(7);
        let window = all.since(&earlier);
        assert_eq!((window.len(), window.quantile(0.5), window.mean()), (1, Some(7), Some(7)));
        let mut both = earlier.clone();
        both.add(&window);
        assert_eq!(both, all);
        assert!(all.since(&all).is_empty());
    }
}
