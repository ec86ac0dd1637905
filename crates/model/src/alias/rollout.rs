//! A shift of an alias to another version, step by step, that goes back by itself when the new version is worse: [`stop`] says when it is, by the
//! [`sample`]s of both.

mod sample;
mod stop;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Target;
use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::function::decimal;
use crate::ids::VersionRef;
use crate::limits;

pub use sample::{Figures, Sample};
pub use stop::StopIf;

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
    /// How the other versions did before the step in which no call goes to them any more; `None` before that step, or if they had too few calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Figures>,
}

impl Rollout {
    /// The targets of the step under way. Weights add up to a million; what the new version does not get is divided as it was before.
    pub fn targets(&self) -> Vec<Target> {
        let whole = u64::from(limits::ALIAS_WEIGHT_MAX);
        let share = self.share();
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

    /// Share of the new version in the step under way.
    pub fn share(&self) -> Percent {
        self.share_of(self.step)
    }

    /// Share of the new version in a step.
    pub fn share_of(&self, step: usize) -> Percent {
        self.steps.get(step).map_or(Percent::ALL, |share| *share)
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
        let never_judged = self.stop_if.iter().find(|stop| stop.is_relative());
        if let (Some(stop), Some(&Percent::ALL)) = (never_judged, self.steps.first()) {
            return bad(format!(
                "stop_if has '{stop}', and canary has 100% at once: expected a first step below 100%, in which there are calls of the other versions to compare with"
            ));
        }
        if self.before.iter().all(|target| target.version == self.to || target.weight == 0) {
            return bad(format!("to is {}: every call goes there already", self.to));
        }
        Ok(())
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
            baseline: None,
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
            (
                Rollout {
                    stop_if: vec!["p99 > 2x".parse().unwrap()],
                    ..rollout(&[(6, 1)], "100%")
                },
                "stop_if has 'p99 > 2x'",
            ),
            (Rollout { every_ms: 1, ..rollout(&[(6, 1)], "100%") }, "every"),
        ] {
            let e = shift.validate().unwrap_err();
            assert!(e.message().contains(part), "{e}");
        }
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
