//! What happens to a function's asynchronous calls: how often they are tried, for how long, and how long what came of them is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::resources::within;
use super::{Destination, Variable};
use crate::calls::{KEEP_DEAD_SECONDS, KEEP_SECONDS};
use crate::error::{Code, Error};
use crate::ids::DEFAULT_NAMESPACE;
use crate::limits;

/// What happens to a function's asynchronous calls, whatever version they run. Changes hold at once, for calls that wait already as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AsyncPolicy {
    /// Attempts of a call in all: 1 to 100; absent means 3. What the platform refuses, a throttle for instance, is no attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How old a call may become, in seconds, counted from when it is due first: 60 to 604 800; absent means 21 600, which is 6 hours. An older one is not run any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    /// How long a call waits after a failed attempt; absent means a minute, then twice as long each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Box<RetryCurve>>,
    /// How long what came of a call is kept once it has succeeded or was cancelled, in seconds: 60 to 2 592 000; absent means 86 400, which is a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_result_seconds: Option<u64>,
    /// How long a dead call is kept, with its event, in seconds: 60 to 2 592 000; absent means 1 209 600, which is 14 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_dead_seconds: Option<u64>,
    /// Who is told of a call that has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Box<Destination>>,
    /// Who is told of a call that was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Box<Destination>>,
}

/// How long a call waits after a failed attempt: a first pause and a factor, or pauses one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryCurve {
    /// Pause after the first failed attempt, in seconds: 1 to 86 400; absent means 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seconds: Option<u32>,
    /// Each pause is so many times the one before: 1 to 10; absent means 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<u32>,
    /// No pause is longer, in seconds: 1 to 86 400; absent means 3 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling_seconds: Option<u32>,
    /// The pauses one by one instead, in seconds, each 1 to 86 400; the last one holds for all further attempts. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses_seconds: Vec<u32>,
    /// A pause is shortened by a random part of up to so many per cent, so that calls that failed together do not come back together: 0 to 100; absent means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u32>,
}

impl AsyncPolicy {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Attempts of a call in all.
    pub fn attempts(&self) -> u32 {
        self.attempts.unwrap_or(limits::ASYNC_ATTEMPTS)
    }

    /// Age at which a call is given up.
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_seconds.unwrap_or(limits::ASYNC_MAX_AGE_SECONDS))
    }

    /// How long what came of a call is kept that has succeeded or was cancelled.
    pub fn keep_result(&self) -> Duration {
        Duration::from_secs(self.keep_result_seconds.unwrap_or(KEEP_SECONDS))
    }

    /// How long a dead call is kept.
    pub fn keep_dead(&self) -> Duration {
        Duration::from_secs(self.keep_dead_seconds.unwrap_or(KEEP_DEAD_SECONDS))
    }

    /// Checks every field against its rule; the error names the field and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        if let Some(attempts) = self.attempts {
            within("async.attempts", attempts, &(1..=limits::ASYNC_ATTEMPTS_MAX))?;
        }
        if let Some(age) = self.max_age_seconds {
            let ages = limits::ASYNC_MAX_AGE_LEAST_SECONDS..=limits::ASYNC_MAX_AGE_MOST_SECONDS;
            within("async.max_age_seconds", age, &ages)?;
        }
        let keep = limits::ASYNC_KEEP_LEAST_SECONDS..=limits::ASYNC_KEEP_MOST_SECONDS;
        for (field, seconds) in [
            ("async.keep_result_seconds", self.keep_result_seconds),
            ("async.keep_dead_seconds", self.keep_dead_seconds),
        ] {
            seconds.map_or(Ok(()), |seconds| within(field, seconds, &keep))?;
        }
        for (field, destination) in self.destinations() {
            destination.read(field, DEFAULT_NAMESPACE)?;
        }
        self.retry.as_deref().map_or(Ok(()), RetryCurve::validate)
    }

    /// Checks that webhooks are signed with secrets that there are.
    pub fn check_secrets(&self, environment: &BTreeMap<String, Variable>) -> Result<(), Error> {
        for (field, destination) in self.destinations() {
            if let Some(name) = &destination.secret
                && !matches!(environment.get(name), Some(Variable::Sealed { .. }))
            {
                let message = format!(
                    "{field}.secret '{name}' is not there: expected the name of a secret environment variable of the function"
                );
                return Err(Error::caller(Code::InvalidParameter, message).with_hint(format!(
                    "set it with `hanshu config set NAME secret.{name}=@FILE`"
                )));
            }
        }
        Ok(())
    }

    fn destinations(&self) -> impl Iterator<Item = (&'static str, &Destination)> {
        let both = [("async.on_success", &self.on_success), ("async.on_failure", &self.on_failure)];
        both.into_iter().filter_map(|(field, destination)| Some((field, destination.as_deref()?)))
    }
}

impl RetryCurve {
    /// Pause after so many failed attempts, from 1, without what jitter takes from it.
    pub fn pause(&self, failed: u32) -> Duration {
        let place = failed.saturating_sub(1);
        let ceiling = self.ceiling_seconds.unwrap_or(limits::RETRY_CEILING_SECONDS);
        let listed = usize::try_from(place).ok().and_then(|place| self.pauses_seconds.get(place));
        let seconds = match listed.or(self.pauses_seconds.last()) {
            Some(listed) => *listed,
            None => {
                let first = self.first_seconds.unwrap_or(limits::RETRY_FIRST_SECONDS);
                let factor = self.factor.unwrap_or(limits::RETRY_FACTOR);
                first.saturating_mul(factor.saturating_pow(place)).min(ceiling)
            }
        };
        Duration::from_secs(seconds.into())
    }

    fn validate(&self) -> Result<(), Error> {
        let pauses = 1..=limits::RETRY_PAUSE_MAX_SECONDS;
        let fields = [
            ("async.retry.first_seconds", self.first_seconds, pauses.clone()),
            ("async.retry.factor", self.factor, 1..=limits::RETRY_FACTOR_MAX),
            ("async.retry.ceiling_seconds", self.ceiling_seconds, pauses.clone()),
            ("async.retry.jitter_percent", self.jitter_percent, 0..=100),
        ];
        for (field, value, range) in fields {
            value.map_or(Ok(()), |value| within(field, value, &range))?;
        }
        for (at, pause) in self.pauses_seconds.iter().enumerate() {
            within(&format!("async.retry.pauses_seconds[{at}]"), *pause, &pauses)?;
        }
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.pauses_seconds.len() > limits::RETRY_PAUSES {
            let (n, most) = (self.pauses_seconds.len(), limits::RETRY_PAUSES);
            return bad(format!(
                "async.retry.pauses_seconds has {n} entries: expected at most {most}"
            ));
        }
        let curve = [self.first_seconds, self.factor, self.ceiling_seconds];
        if !self.pauses_seconds.is_empty() && curve.iter().any(Option::is_some) {
            return bad(
                "async.retry.pauses_seconds is given beside a curve: expected either that, or first_seconds, factor and ceiling_seconds"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> AsyncPolicy {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let none = policy("{}");
        assert!(none.is_default());
        none.validate().unwrap();
        assert_eq!((none.attempts(), none.max_age().as_secs()), (3, 6 * 3600));
        assert_eq!(
            (none.keep_result().as_secs(), none.keep_dead().as_secs()),
            (86_400, 14 * 86_400)
        );
        let said = policy(r#"{"attempts":5,"max_age_seconds":60,"keep_result_seconds":3600}"#);
        said.validate().unwrap();
        assert_eq!((said.attempts(), said.max_age().as_secs()), (5, 60));
        assert_eq!(
            serde_json::from_value::<AsyncPolicy>(serde_json::to_value(&said).unwrap()).unwrap(),
            said
        );
    }

    #[test]
    fn pauses_follow_their_curve_or_their_list() {
        let pauses = |json: &str| -> Vec<u64> {
            let curve: RetryCurve = serde_json::from_str(json).unwrap();
            curve.validate().unwrap();
            (1..=5).map(|failed| curve.pause(failed).as_secs()).collect()
        };
        assert_eq!(pauses("{}"), [60, 120, 240, 480, 960]);
        assert_eq!(pauses(r#"{"first_seconds":1,"factor":1}"#), [1; 5]);
        let steep = r#"{"first_seconds":5,"factor":10,"ceiling_seconds":600}"#;
        assert_eq!(pauses(steep), [5, 50, 500, 600, 600]);
        assert_eq!(pauses(r#"{"pauses_seconds":[1,10,7200]}"#), [1, 10, 7200, 7200, 7200]);
        assert_eq!(RetryCurve::default().pause(u32::MAX).as_secs(), 3600);
    }

    #[test]
    fn each_field_out_of_range_is_named_with_its_range() {
        for (json, words) in [
            (r#"{"attempts":0}"#, "async.attempts 0 is out of range: expected 1 to 100"),
            (r#"{"attempts":101}"#, "async.attempts 101"),
            (r#"{"max_age_seconds":59}"#, "async.max_age_seconds 59"),
            (r#"{"max_age_seconds":604801}"#, "expected 60 to 604800"),
            (r#"{"keep_result_seconds":1}"#, "async.keep_result_seconds 1"),
            (r#"{"keep_dead_seconds":2592001}"#, "async.keep_dead_seconds 2592001"),
            (r#"{"on_success":{"queue":"q"}}"#, "async.on_success.queue is not possible"),
            (r#"{"on_failure":{"function":""}}"#, "async.on_failure.function"),
            (r#"{"retry":{"first_seconds":0}}"#, "async.retry.first_seconds 0"),
            (r#"{"retry":{"factor":11}}"#, "async.retry.factor 11"),
            (r#"{"retry":{"ceiling_seconds":86401}}"#, "async.retry.ceiling_seconds 86401"),
            (r#"{"retry":{"jitter_percent":101}}"#, "async.retry.jitter_percent 101"),
            (r#"{"retry":{"pauses_seconds":[1,0]}}"#, "async.retry.pauses_seconds[1] 0"),
            (r#"{"retry":{"pauses_seconds":[1],"factor":2}}"#, "beside a curve"),
        ] {
            let error = policy(json).validate().unwrap_err();
            assert_eq!(error.code(), Code::InvalidParameter);
            assert!(error.message().contains(words), "{json}: {}", error.message());
        }
        let many = RetryCurve { pauses_seconds: vec![1; 21], ..RetryCurve::default() };
        assert!(many.validate().unwrap_err().message().contains("21 entries: expected at most 20"));
        serde_json::from_str::<AsyncPolicy>(r#"{"attempt":1}"#).unwrap_err();
    }
}
