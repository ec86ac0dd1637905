//! Provisioned instances: kept started for a version or an alias, as many as a schedule says.

use std::fmt;
use std::str::FromStr;

use jiff::Zoned;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::Result;
use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::limits;

/// How many instances are kept started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provisioned {
    /// Until the first time of the schedule has come; always, without one.
    pub instances: u32,
    /// From each of these times on, until the next of any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Scheduled>,
    /// Where the schedule's times are; UTC where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    pub timezone: Option<Zone>,
}

/// A part of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// When: a cron expression.
    #[schema(value_type = String, example = "0 0 8 * * MON-FRI")]
    pub at: Cron,
    /// How many from then on.
    pub instances: u32,
}

/// What a function's document holds of one qualifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedRecord {
    /// How many.
    pub provisioned: Provisioned,
    /// Revision at which it last changed.
    pub revision: u64,
    /// When it last changed.
    pub modified_at: UnixMillis,
}

/// A time zone by its name in the IANA database, for instance `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl FromStr for Zone {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = (text.len() <= limits::TIMEZONE_CHARS).then(|| TimeZone::get(text).ok());
        // One without a name could not be written down.
        let named = known.flatten().filter(|zone| zone.iana_name().is_some());
        named.map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(limits::TIMEZONE_CHARS).collect();
            let message = format!(
                "timezone '{shown}' is not valid: expected a name of the IANA database, for instance Europe/Berlin"
            );
            Error::caller(Code::InvalidParameter, message)
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e.message()))
    }
}

/// A cron expression: five fields, or six with seconds before them, or seven with a year behind; names of months and days, `L`, `W`, `#`.
///
/// Where clocks are put forward, what falls into the hour that is left out comes at its end; where they are put back, a fixed time comes once, in the first of
/// the two hours, and what repeats in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// As it was given: the parsed one writes names as numbers.
    text: String,
    parsed: Box<croner::Cron>,
}

impl FromStr for Cron {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: String| {
            Error::caller(
                Code::InvalidParameter,
                format!(
                    "schedule is not valid: {why}: expected a cron expression such as '0 0 8 * * MON-FRI'"
                ),
            )
        };
        if text.len() > limits::CRON_CHARS {
            return Err(bad(format!("it has over {} characters", limits::CRON_CHARS)));
        }
        let parsed = text.parse().map_err(|e: croner::errors::CronError| bad(e.to_string()))?;
        Ok(Self { text: text.to_owned(), parsed: Box::new(parsed) })
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e.message()))
    }
}

impl Cron {
    /// The last time at or before `now`, if there is one.
    fn before(&self, now: &Zoned) -> Option<Zoned> {
        self.parsed.find_previous_occurrence(now, true).ok()
    }
}

impl FromStr for Scheduled {
    type Err = Error;

    /// `CRON=INSTANCES`.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.rsplit_once('=');
        let parsed = parts.and_then(|(at, n)| Some((at.trim(), n.trim().parse().ok()?)));
        let (at, instances) = parsed.ok_or_else(|| {
            let message = format!(
                "schedule '{text}' is not valid: expected CRON=INSTANCES, for instance '0 0 8 * * MON-FRI=20'"
            );
            Error::caller(Code::InvalidParameter, message)
        })?;
        Ok(Self { at: at.parse()?, instances })
    }
}

impl Provisioned {
    /// Whether all numbers are within their limits.
    pub fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.schedule.len() > limits::SCHEDULE_TIMES {
            return bad(format!(
                "schedule has {} times: expected at most {}",
                self.schedule.len(),
                limits::SCHEDULE_TIMES
            ));
        }
        let most = self.most();
        if most > limits::PROVISIONED_INSTANCES {
            return bad(format!(
                "instances is {most}: expected at most {}",
                limits::PROVISIONED_INSTANCES
            ));
        }
        if most == 0 {
            return bad("instances is 0 at all times: expected more, or a deletion".into());
        }
        Ok(())
    }

    /// The most that are ever wanted.
    pub fn most(&self) -> u32 {
        self.schedule.iter().map(|s| s.instances).fold(self.instances, u32::max)
    }

    /// How many are wanted at `now`.
    pub fn at(&self, now: UnixMillis) -> u32 {
        if self.schedule.is_empty() {
            return self.instances;
        }
        let zone = self.timezone.as_ref().map_or(TimeZone::UTC, |zone| zone.0.clone());
        let now = now.timestamp().to_zoned(zone);
        let last = self.schedule.iter().filter_map(|s| Some((s.at.before(&now)?, s.instances)));
        // Of two at the same time the later in the list holds.
        last.max_by(|(a, _), (b, _)| a.timestamp().cmp(&b.timestamp()))
            .map_or(self.instances, |(_, instances)| instances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(provisioned: &Provisioned, time: &str) -> u32 {
        let time: jiff::Timestamp = time.parse().unwrap();
        provisioned.at(UnixMillis(u64::try_from(time.as_millisecond()).unwrap()))
    }

    fn provisioned(instances: u32, schedule: &[&str]) -> Provisioned {
        let schedule = schedule.iter().map(|s| s.parse().unwrap()).collect();
        Provisioned { instances, schedule, timezone: None }
    }

    fn in_zone(zone: &str, schedule: &[&str]) -> Provisioned {
        Provisioned { timezone: Some(zone.parse().unwrap()), ..provisioned(1, schedule) }
    }

    #[test]
    fn times_are_those_of_the_zone() {
        let office = in_zone("Europe/Berlin", &["0 0 8 * * *=20", "0 0 18 * * *=2"]);
        for (time, wanted) in [
            // Winter: UTC+1. Summer: UTC+2.
            ("2026-01-02T06:59:59Z", 2),
            ("2026-01-02T07:00:00Z", 20),
            ("2026-07-02T05:59:59Z", 2),
            ("2026-07-02T06:00:00Z", 20),
            ("2026-07-02T16:00:00Z", 2),
        ] {
            assert_eq!(at(&office, time), wanted, "{time}");
        }
        let half = in_zone("Asia/Kolkata", &["0 0 8 * * *=20", "0 0 18 * * *=2"]);
        assert_eq!((at(&half, "2026-01-02T02:29:59Z"), at(&half, "2026-01-02T02:30:00Z")), (2, 20));
    }

    /// On 29 March 2026 clocks in Berlin go from 02:00 to 03:00, at 01:00 UTC.
    #[test]
    fn a_time_in_a_gap_comes_at_its_end() {
        let gap = in_zone("Europe/Berlin", &["0 30 2 * * *=7", "0 0 12 * * *=3"]);
        for (time, wanted) in [
            ("2026-03-28T01:30:00Z", 7),
            ("2026-03-29T00:59:59Z", 3),
            ("2026-03-29T01:00:00Z", 7),
            ("2026-03-29T01:30:00Z", 7),
            ("2026-03-29T09:59:59Z", 7),
            ("2026-03-29T10:00:00Z", 3),
            ("2026-03-30T00:29:59Z", 3),
            ("2026-03-30T00:30:00Z", 7),
        ] {
            assert_eq!(at(&gap, time), wanted, "{time}");
        }
    }

    /// On 25 October 2026 clocks in Berlin go from 03:00 back to 02:00, at 01:00 UTC.
    #[test]
    fn a_time_in_an_overlap_comes_once() {
        let overlap = in_zone("Europe/Berlin", &["0 30 2 * * *=7", "0 45 2 * * *=3"]);
        for (time, wanted) in [
            ("2026-10-25T00:29:59Z", 3),
            ("2026-10-25T00:30:00Z", 7),
            ("2026-10-25T00:45:00Z", 3),
            // 02:30 for the second time.
            ("2026-10-25T01:30:00Z", 3),
            ("2026-10-25T01:45:00Z", 3),
            ("2026-10-26T01:29:59Z", 3),
            ("2026-10-26T01:30:00Z", 7),
        ] {
            assert_eq!(at(&overlap, time), wanted, "{time}");
        }
    }

    #[test]
    fn zones_are_names_of_the_database() {
        for (given, kept) in [
            ("Europe/Berlin", "Europe/Berlin"),
            ("america/new_york", "America/New_York"),
            ("UTC", "UTC"),
        ] {
            let zone: Zone = given.parse().unwrap();
            assert_eq!(serde_json::to_value(&zone).unwrap(), kept);
            assert_eq!(serde_json::from_value::<Zone>(kept.into()).unwrap(), zone);
        }
        for bad in ["", "Berlin", "+02:00", "Europe/Berlin ", "../../etc/passwd", &"x".repeat(300)]
        {
            let error = bad.parse::<Zone>().unwrap_err();
            assert!(error.message().starts_with("timezone '"), "{error}");
        }
        let json = r#"{"instances":1,"schedule":[{"at":"0 0 8 * * *","instances":2}]}"#;
        let old: Provisioned = serde_json::from_str(json).unwrap();
        assert_eq!(old.timezone, None);
        assert_eq!(serde_json::to_string(&old).unwrap(), json);
    }

    #[test]
    fn the_last_time_that_has_come_holds() {
        let office = provisioned(5, &["0 0 8 * * MON-FRI=20", "0 30 17 * * MON-FRI = 2"]);
        office.validate().unwrap();
        // The second of January 2026 is a Friday.
        for (time, wanted) in [
            ("2026-01-02T07:59:59Z", 2),
            ("2026-01-02T08:00:00Z", 20),
            ("2026-01-02T17:29:59.999Z", 20),
            ("2026-01-02T17:30:00Z", 2),
            ("2026-01-04T12:00:00Z", 2),
            ("2026-01-05T08:00:00.001Z", 20),
        ] {
            assert_eq!(at(&office, time), wanted, "{time}");
        }
        assert_eq!(at(&provisioned(5, &[]), "2026-01-02T08:00:00Z"), 5);
        let never = provisioned(5, &["0 0 8 1 1 * 2099=9"]);
        assert_eq!(at(&never, "2026-01-02T08:00:00Z"), 5, "nothing has come yet");
    }

    #[test]
    fn expressions_have_seconds_years_and_special_days() {
        for good in [
            "*/5 * * * *",
            "*/10 * * * * *",
            "0 0 8 L * *",
            "0 0 8 15W * *",
            "0 0 8 * * FRI#L",
            "0 0 8 ? * 2#1 2027",
        ] {
            let cron: Cron = good.parse().unwrap_or_else(|e| panic!("{good}: {e}"));
            let json = serde_json::to_string(&cron).unwrap();
            assert_eq!(serde_json::from_str::<Cron>(&json).unwrap(), cron, "{good}");
        }
        for bad in ["", "* * *", "61 * * * * *", "0 0 8 * * XYZ", &"*".repeat(500)] {
            let error = bad.parse::<Cron>().unwrap_err();
            assert!(error.message().contains("expected a cron expression"), "{error}");
        }
        for bad in ["0 0 8 * * *", "0 0 8 * * *=", "0 0 8 * * *=many", "=3"] {
            bad.parse::<Scheduled>().unwrap_err();
        }
    }

    #[test]
    fn numbers_have_limits() {
        let most = limits::PROVISIONED_INSTANCES;
        provisioned(most, &[]).validate().unwrap();
        provisioned(0, &["* * * * *=1"]).validate().unwrap();
        for bad in
            [provisioned(most + 1, &[]), provisioned(0, &[]), provisioned(1, &["* * * * *=1"; 25])]
        {
            assert!(bad.validate().unwrap_err().message().contains("expected"));
        }
    }
}
