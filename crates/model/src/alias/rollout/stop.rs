//! When a shift stops: a figure of the new version is clearly over a bound.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Figures, Percent, Sample};
use crate::function::decimal;

/// How many standard deviations a figure has to be over its bound. It is looked at often, so that what is rare does happen.
const CLEARLY: f64 = 3.0;
/// How many calls have to speak against the new version at least: failed ones, or ones that took too long.
const CALLS_MIN: u64 = 3;

/// What stops a shift: a figure of the new version over a bound. Text: `errors > 1%`, `p99 > 2x`, `p50 > 300ms`, `average > 1.5x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StopIf {
    figure: Figure,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    /// Share of the calls that failed.
    Errors,
    /// Mean duration.
    Average,
    /// A duration that so many per cent of the calls keep below.
    Percentile(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Share(Percent),
    Millis(u32),
    /// So many thousandths of the old version's figure over the same window.
    Times(u32),
}

impl StopIf {
    /// Why a shift has to stop, if it has to.
    ///
    /// A figure has to be over its bound by more than chance explains ([`CLEARLY`]), and by [`CALLS_MIN`] calls: one call decides nothing, and the fewer
    /// there are the worse they have to be. A bound that is relative to the old version holds as long as that has no calls; no failed call counts
    /// as one then, for nothing is twice nothing.
    pub fn judge(&self, new: &Sample, old: &Figures) -> Option<String> {
        let figures = Figures::from(new);
        let value = self.figure.of(&figures)?;
        let (limit, beside, compared) = match self.bound {
            Bound::Share(share) => (f64::from(share.hundredths()) / 10_000.0, String::new(), None),
            Bound::Millis(millis) => (f64::from(millis) * 1000.0, String::new(), None),
            Bound::Times(thousandths) => {
                let times = f64::from(thousandths) / 1000.0;
                let old_value = self.figure.of(old)?;
                let beside = format!(", {} before", self.figure.text(old_value));
                let least = self.figure.of(&Figures { errors: old.errors.max(1), ..*old })?;
                (least * times, beside, Some((old, times)))
            }
        };
        let clear = match self.figure {
            Figure::Errors => errors_clear(&figures, limit, compared),
            Figure::Average => average_clear(&figures, limit, compared),
            Figure::Percentile(percent) => {
                let allowed = f64::from(100 - percent) / 100.0;
                // Durations are whole microseconds; no bound is beyond 2^52 of them.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "see above"
                )]
                let beyond = new.durations.above(limit as u64);
                beyond_clear(beyond, figures.timed, allowed, compared.map(|(old, _)| old.timed))
            }
        };
        (value > limit && clear).then(|| {
            format!(
                "{} of the new version is {}{beside}, over {} calls: stop if {self}",
                self.figure,
                self.figure.text(value),
                new.calls
            )
        })
    }

    /// Whether the bound is relative to the versions before.
    pub fn is_relative(&self) -> bool {
        matches!(self.bound, Bound::Times(_))
    }
}

/// What is compared with: the old version's figures, and how many times them the bound is.
type Compared<'a> = Option<(&'a Figures, f64)>;

/// Whether a value is over a limit by more than chance explains, given the variance of their difference.
fn clear(value: f64, limit: f64, variance: f64) -> bool {
    value - limit > CLEARLY * variance.sqrt()
}

fn errors_clear(new: &Figures, limit: f64, compared: Compared<'_>) -> bool {
    let calls = float(new.calls);
    // Of a count of rare events the variance is the count, about; one more, for it may be low by chance.
    let of_old = compared
        .map_or(0.0, |(old, times)| (times / float(old.calls)).powi(2) * float(old.errors + 1));
    let variance = limit * (1.0 - limit).max(0.0) / calls + of_old;
    new.errors >= CALLS_MIN && clear(float(new.errors) / calls, limit, variance)
}

fn average_clear(new: &Figures, limit: f64, compared: Compared<'_>) -> bool {
    let variance = |figures: &Figures| float(figures.deviation_us).powi(2) / float(figures.timed);
    let of_old = compared.map_or(0.0, |(old, times)| times.powi(2) * variance(old));
    new.timed >= CALLS_MIN && clear(float(new.mean_us), limit, variance(new) + of_old)
}

/// Whether more than a share of `calls` took longer than a limit: one that is fixed, or where that share of `old` calls lay.
fn beyond_clear(beyond: u64, calls: u64, allowed: f64, old: Option<u64>) -> bool {
    let per_old = old.map_or(0.0, |old| 1.0 / float(old));
    let variance = allowed * (1.0 - allowed) * (1.0 / float(calls) + per_old);
    // Of so few calls that none lies beyond the percentile, it is the longest one: another call is longer with a chance of one in so many.
    beyond >= CALLS_MIN && clear(float(beyond) / float(calls), allowed + per_old, variance)
}

fn float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of calls and durations, far below 2^52")]
    let float = count as f64;
    float
}

impl Figure {
    /// A share of 1, or microseconds; `None` without calls.
    fn of(self, figures: &Figures) -> Option<f64> {
        let (calls, value) = match self {
            Self::Errors => (figures.calls, float(figures.errors) / float(figures.calls)),
            Self::Average => (figures.timed, float(figures.mean_us)),
            Self::Percentile(50) => (figures.timed, float(figures.p50_us)),
            Self::Percentile(90) => (figures.timed, float(figures.p90_us)),
            Self::Percentile(95) => (figures.timed, float(figures.p95_us)),
            Self::Percentile(_) => (figures.timed, float(figures.p99_us)),
        };
        (calls > 0).then_some(value)
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::Errors => format!("{:.2}%", value * 100.0),
            Self::Average | Self::Percentile(_) => format!("{:.2}ms", value / 1000.0),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors => f.write_str("errors"),
            Self::Average => f.write_str("average"),
            Self::Percentile(percent) => write!(f, "p{percent}"),
        }
    }
}

impl FromStr for StopIf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (figure, bound) = text.split_once('>')?;
            let figure = match figure.trim() {
                "errors" => Figure::Errors,
                "average" => Figure::Average,
                "p50" => Figure::Percentile(50),
                "p90" => Figure::Percentile(90),
                "p95" => Figure::Percentile(95),
                "p99" => Figure::Percentile(99),
                _ => return None,
            };
            let bound = bound.trim();
            let number =
                |suffix: &str, places| decimal(bound.strip_suffix(suffix)?.trim_end(), places);
            let bound = if let Some(thousandths) = number("x", 3) {
                Bound::Times(thousandths)
            } else if figure == Figure::Errors {
                Bound::Share(bound.parse().ok()?)
            } else if let Some(millis) = number("ms", 0) {
                Bound::Millis(millis)
            } else {
                Bound::Millis(number("s", 3)?)
            };
            Some(Self { figure, bound })
        };
        parse().ok_or_else(|| {
            let text: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            format!(
                "condition '{text}' is not valid: expected errors, average, p50, p90, p95 or p99, then > and a bound, \
                 for instance 'errors > 1%', 'p99 > 2x' or 'p95 > 300ms'"
            )
        })
    }
}

impl fmt::Display for StopIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > ", self.figure)?;
        match self.bound {
            Bound::Share(share) => write!(f, "{share}"),
            Bound::Millis(millis) => write!(f, "{millis}ms"),
            Bound::Times(thousandths) => write!(f, "{}x", f64::from(thousandths) / 1000.0),
        }
    }
}

impl TryFrom<String> for StopIf {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StopIf> for String {
    fn from(condition: StopIf) -> Self {
        condition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;

    #[test]
    fn conditions_are_text() {
        for (text, back) in [
            ("errors > 1%", "errors > 1%"),
            ("errors>0.5 %", "errors > 0.5%"),
            ("errors > 2x", "errors > 2x"),
            ("p99 > 2x", "p99 > 2x"),
            ("p50 > 300ms", "p50 > 300ms"),
            ("average > 1.5s", "average > 1500ms"),
        ] {
            assert_eq!(text.parse::<StopIf>().unwrap().to_string(), back);
        }
        for bad in
            ["", "errors", "errors < 1%", "errors > 5ms", "p42 > 1s", "p99 > 1%", "p99 > -1s"]
        {
            assert!(bad.parse::<StopIf>().unwrap_err().contains("expected"), "{bad}");
        }
    }

    fn sample(calls: u64, errors: u64, micros: u64) -> Sample {
        let mut durations = Histogram::default();
        for _ in 0..calls {
            durations.record(micros);
        }
        Sample { calls, errors, durations }
    }

    #[test]
    fn figures_are_judged_against_bounds_and_the_old_version() {
        let judge = |text: &str, new: &Sample, old: &Sample| {
            text.parse::<StopIf>().unwrap().judge(new, &Figures::from(old))
        };
        let (good, bad) = (sample(100, 1, 10_000), sample(100, 5, 30_000));
        assert_eq!(judge("errors > 1%", &good, &good), None);
        let why = judge("errors > 1%", &bad, &good).unwrap();
        assert_eq!(why, "errors of the new version is 5.00%, over 100 calls: stop if errors > 1%");
        assert_eq!(judge("p99 > 2x", &good, &good), None);
        assert!(judge("p99 > 2x", &bad, &good).unwrap().contains("before"));
        assert!(judge("p50 > 20ms", &bad, &good).is_some());
        assert_eq!(judge("average > 31ms", &bad, &good), None);
        let none = Sample::default();
        assert_eq!(judge("p99 > 2x", &bad, &none), None);
        assert_eq!(judge("errors > 1%", &none, &good), None);
    }

    #[test]
    fn few_calls_decide_nothing() {
        let judge = |text: &str, new: &Sample, old: &Sample| {
            text.parse::<StopIf>().unwrap().judge(new, &Figures::from(old)).is_some()
        };
        let good = sample(1_000, 0, 10_000);
        for (calls, errors, stops) in [
            (20, 1, false),
            (20, 2, false),
            (20, 3, true),
            (200, 3, false),
            (400, 9, false),
            (400, 10, true),
        ] {
            assert_eq!(
                judge("errors > 1%", &sample(calls, errors, 1), &good),
                stops,
                "{errors} of {calls}"
            );
        }
        // No error before: as if it had been one.
        for (errors, stops) in [(3, false), (5, false), (10, true)] {
            assert_eq!(judge("errors > 2x", &sample(1_000, errors, 1), &good), stops, "{errors}");
        }
        let some_slow = |calls, slow| {
            let mut some = sample(calls - slow, 0, 10_000);
            some.add(&sample(slow, 0, 900_000));
            some
        };
        for (calls, slow, p99, average) in [
            (20, 1, false, false),
            (20, 3, true, false),
            (20, 8, true, true),
            (1_000, 12, false, false),
            (1_000, 30, true, true),
        ] {
            let new = some_slow(calls, slow);
            assert_eq!(judge("p99 > 2x", &new, &good), p99, "{slow} of {calls}");
            assert_eq!(judge("p99 > 300ms", &new, &good), p99, "{slow} of {calls}");
            assert_eq!(judge("average > 1.5x", &new, &good), average, "{slow} of {calls}");
        }
        // All of it slow: a few calls are enough.
        assert!(judge("p99 > 2x", &sample(20, 0, 30_000), &sample(20, 0, 10_000)));
    }

    #[test]
    fn figures_are_stored_small() {
        let figures = Figures::from(&sample(100, 3, 10_000));
        let json = serde_json::to_string(&figures).unwrap();
        assert!(json.len() < 200, "{json}");
        assert_eq!(serde_json::from_str::<Figures>(&json).unwrap(), figures);
        assert_eq!((figures.calls, figures.errors, figures.mean_us), (100, 3, 10_000));
    }
}
