//! A shift of an alias to another version, step by step, that goes back by itself when the new version is worse.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Target;
use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::function::decimal;
use crate::histogram::Histogram;
use crate::ids::VersionRef;
use crate::limits;

/// A shift under way. Stored with its alias, so that it goes on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Where the calls shall go.
    pub to: VersionRef,
    /// Where they went before, and go again if it is stopped.
    pub before: Vec<Target>,
    /// Share of the new version in each step, ascending; the last is 100 %.
    pub steps: Vec<Percent>,
    /// The step under way, from 0.
    pub step: usize,
    /// When it began.
    pub step_since: UnixMillis,
    /// How long a step takes, in milliseconds; also the window over which calls are compared.
    pub every_ms: u64,
    /// What stops it; any of them.
    pub stop_if: Vec<StopIf>,
    /// Fewer calls of the new version than this within the window are not judged.
    pub min_calls: u64,
    /// When the first step began.
    pub started_at: UnixMillis,
}

impl Rollout {
    /// The targets of the step under way. Weights add up to a million; what the new version does not get is divided as it was before.
    pub fn targets(&self) -> Vec<Target> {
        let whole = u64::from(limits::ALIAS_WEIGHT_MAX);
        let share = self.steps.get(self.step).map_or(Percent::ALL, |share| *share);
        let new = whole * u64::from(share.hundredths()) / u64::from(Percent::ALL.hundredths());
        let others = || self.before.iter().filter(|target| target.version != self.to);
        let sum: u64 = others().map(|target| u64::from(target.weight)).sum();
        let mut left = whole - new;
        let mut left_of = sum;
        let mut targets = Vec::with_capacity(self.before.len() + 1);
        for target in others() {
            // By what is left, so that the rounding never loses a part.
            let weight = u64::from(target.weight);
            let part = (left * weight).checked_div(left_of).unwrap_or(0);
            left -= part;
            left_of -= weight;
            targets
                .push(Target { version: target.version, weight: u32::try_from(part).unwrap_or(0) });
        }
        if share == Percent::ALL {
            targets.clear();
        }
        targets.push(Target { version: self.to, weight: u32::try_from(new).unwrap_or(0) });
        targets
    }

    /// How long a step takes.
    pub fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms)
    }

    /// Checks every field against its rule; the error names the field and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.steps.is_empty() || self.steps.len() > limits::ROLLOUT_STEPS {
            return bad(format!(
                "canary has {} steps: expected 1 to {}, for instance 5%,30%,100%",
                self.steps.len(),
                limits::ROLLOUT_STEPS
            ));
        }
        let ascending = self.steps.is_sorted_by(|a, b| a < b);
        if !ascending
            || self.steps.first() == Some(&Percent::NONE)
            || self.steps.last() != Some(&Percent::ALL)
        {
            return bad("canary is not valid: expected ascending shares above 0% that end with 100%, for instance 5%,30%,100%".into());
        }
        if !(limits::ROLLOUT_EVERY_MIN_MS..=limits::ROLLOUT_EVERY_MAX_MS).contains(&self.every_ms) {
            return bad(format!(
                "every is {} ms: expected {} ms to {} ms",
                self.every_ms,
                limits::ROLLOUT_EVERY_MIN_MS,
                limits::ROLLOUT_EVERY_MAX_MS
            ));
        }
        if self.stop_if.len() > limits::ROLLOUT_CONDITIONS {
            return bad(format!(
                "stop_if has {} conditions: expected at most {}",
                self.stop_if.len(),
                limits::ROLLOUT_CONDITIONS
            ));
        }
        if self.before.iter().all(|target| target.version == self.to || target.weight == 0) {
            return bad(format!("to is {}: every call goes there already", self.to));
        }
        Ok(())
    }
}

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
    /// Why a shift has to stop, if it has to. A bound that is relative to the old version holds as long as that has no calls.
    pub fn judge(&self, new: &Sample, old: &Sample) -> Option<String> {
        let value = self.figure.of(new)?;
        let (limit, beside) = match self.bound {
            Bound::Share(share) => (f64::from(share.hundredths()) / 10_000.0, String::new()),
            Bound::Millis(millis) => (f64::from(millis) * 1000.0, String::new()),
            Bound::Times(thousandths) => {
                let old_value = self.figure.of(old)?;
                let beside = format!(", {} before", self.figure.text(old_value));
                (old_value * f64::from(thousandths) / 1000.0, beside)
            }
        };
        (value > limit).then(|| {
            format!(
                "{} of the new version is {}{beside}, over {} calls: stop if {self}",
                self.figure,
                self.figure.text(value),
                new.calls
            )
        })
    }
}

impl Figure {
    /// A share of 1, or microseconds; `None` without calls.
    fn of(self, sample: &Sample) -> Option<f64> {
        if sample.calls == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of calls, far below 2^52")]
        match self {
            Self::Errors => Some(sample.errors as f64 / sample.calls as f64),
            Self::Average => sample.durations.mean().map(|mean| mean as f64),
            Self::Percentile(percent) => {
                sample.durations.quantile(f64::from(percent) / 100.0).map(|d| d as f64)
            }
        }
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

/// A share in hundredths of a per cent. Text: `5%`, `0.25%`; the sign may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u32);

impl Percent {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// 100 %.
    pub const ALL: Self = Self(10_000);

    /// 0 to 10 000.
    pub fn hundredths(self) -> u32 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = text.strip_suffix('%').map_or(text, str::trim_end);
        decimal(number, 2).map(Self).filter(|share| *share <= Self::ALL).ok_or_else(|| {
            let text: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            format!("share '{text}' is not valid: expected 0% to 100%, for instance 5% or 0.25%")
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(share: Percent) -> Self {
        share.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(before: &[(u64, u32)], steps: &str) -> Rollout {
        Rollout {
            to: VersionRef::Number(7),
            before: before
                .iter()
                .map(|&(n, weight)| Target { version: VersionRef::Number(n), weight })
                .collect(),
            steps: steps.split(',').map(|s| s.parse().unwrap()).collect(),
            step: 0,
            step_since: UnixMillis(0),
            every_ms: 120_000,
            stop_if: vec!["errors > 1%".parse().unwrap()],
            min_calls: 10,
            started_at: UnixMillis(0),
        }
    }

    fn weights(rollout: &Rollout) -> Vec<(String, u32)> {
        rollout.targets().iter().map(|t| (t.version.to_string(), t.weight)).collect()
    }

    #[test]
    fn a_step_keeps_the_proportions_of_the_others() {
        let mut shift = rollout(&[(5, 1), (6, 2)], "5%,30%,100%");
        shift.validate().unwrap();
        assert_eq!(
            weights(&shift),
            [("5".into(), 316_666), ("6".into(), 633_334), ("7".into(), 50_000)]
        );
        shift.step = 2;
        assert_eq!(weights(&shift), [("7".into(), 1_000_000)]);
        let back = rollout(&[(6, 95), (7, 5)], "30%,100%");
        assert_eq!(weights(&back), [("6".into(), 700_000), ("7".into(), 300_000)]);
    }

    #[test]
    fn shifts_are_checked() {
        for (shift, part) in [
            (rollout(&[(6, 1)], "5%,5%,100%"), "canary"),
            (rollout(&[(6, 1)], "0%,100%"), "canary"),
            (rollout(&[(6, 1)], "5%,30%"), "canary"),
            (rollout(&[(7, 1), (6, 0)], "5%,100%"), "to is 7"),
            (Rollout { every_ms: 1, ..rollout(&[(6, 1)], "100%") }, "every"),
        ] {
            let e = shift.validate().unwrap_err();
            assert!(e.message().contains(part), "{e}");
        }
    }

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
            text.parse::<StopIf>().unwrap().judge(new, old)
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
    fn shares_have_two_places() {
        for (text, hundredths) in [("5%", 500), ("0.25%", 25), ("100", 10_000), ("0%", 0)] {
            assert_eq!(text.parse::<Percent>().unwrap().hundredths(), hundredths);
        }
        for bad in ["", "%", "100.01%", "-1%", "1.234%", "five"] {
            bad.parse::<Percent>().unwrap_err();
        }
        assert_eq!("0.25%".parse::<Percent>().unwrap().to_string(), "0.25%");
    }
}
