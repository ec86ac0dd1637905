//! What a shadow showed, summed up: of one pair, of a second, of all. [`Record::and`] joins two.

use engine::{ShadowPair, ShadowSkips};
use model::api::{ShadowExample, ShadowReport};
use model::clock::UnixMillis;
use model::ids::VersionRef;
use serde::{Deserialize, Serialize};

use super::compare::Compared;

/// Examples that are kept.
const EXAMPLES: usize = 100;
/// All examples in a document, in bytes: 4 KiB less than the document, for the rest of it.
const EXAMPLES_BYTES: usize = 252 * 1024;

/// Joined answers of one shadow and the versions it was compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The version that answers were compared with; of the newest pair.
    version: Option<VersionRef>,
    /// The shadow; `None` in the empty record alone.
    shadow: Option<VersionRef>,
    /// When the first call was made.
    since: UnixMillis,
    compared: u64,
    same: u64,
    status: u64,
    body: u64,
    skipped: u64,
    /// Time of all answers, in microseconds.
    us: u64,
    /// Time of all answers of the shadow, in microseconds.
    shadow_us: u64,
    /// Newest first.
    examples: Vec<ShadowExample>,
}

impl Record {
    /// What one pair showed.
    pub(super) fn of(pair: &ShadowPair, compared: Compared) -> Self {
        let Compared { status, body, differences } = compared;
        let same = !status && !body;
        let example = (!same).then(|| ShadowExample {
            time: pair.time.to_string(),
            request_id: pair.request.to_string(),
            shadow_request_id: pair.shadow_request.to_string(),
            us: pair.answer.us,
            shadow_us: pair.shadow.us,
            differences,
        });
        Self {
            version: Some(pair.answer.version),
            shadow: Some(pair.shadow.version),
            since: pair.time,
            compared: 1,
            same: same.into(),
            status: status.into(),
            body: body.into(),
            skipped: pair.skipped,
            us: pair.answer.us,
            shadow_us: pair.shadow.us,
            examples: example.into_iter().collect(),
        }
    }

    /// That calls were not copied.
    pub(super) fn of_skips(skips: &ShadowSkips) -> Self {
        let ShadowSkips { version, time, skipped, .. } = skips;
        Self { shadow: Some(*version), since: *time, skipped: *skipped, ..Self::default() }
    }

    /// This record and a newer one. Those of different shadows do not add up: the later one stands.
    pub(super) fn and(self, newer: Self) -> Self {
        if newer.shadow.is_none() {
            return self;
        }
        if self.shadow != newer.shadow {
            // Of two calls the one that was made before a change may well end after the one that was made behind it.
            return if newer.since < self.since { self } else { newer };
        }
        let mut examples = newer.examples;
        examples.extend(self.examples);
        examples.truncate(EXAMPLES);
        Self {
            version: newer.version.or(self.version),
            shadow: newer.shadow,
            since: self.since.min(newer.since),
            compared: self.compared.saturating_add(newer.compared),
            same: self.same.saturating_add(newer.same),
            status: self.status.saturating_add(newer.status),
            body: self.body.saturating_add(newer.body),
            skipped: self.skipped.saturating_add(newer.skipped),
            us: self.us.saturating_add(newer.us),
            shadow_us: self.shadow_us.saturating_add(newer.shadow_us),
            examples,
        }
    }

    /// With as many of the newest examples as a document holds.
    pub(super) fn bounded(mut self) -> Self {
        let mut left = EXAMPLES_BYTES;
        let fit = self.examples.iter().map_while(|example| {
            // One byte more for the comma.
            let bytes = serde_json::to_vec(example).ok()?.len() + 1;
            left = left.checked_sub(bytes)?;
            Some(())
        });
        let fit = fit.count();
        self.examples.truncate(fit);
        self
    }
}

impl From<Record> for ShadowReport {
    fn from(record: Record) -> Self {
        let mean = |us: u64| us.checked_div(record.compared).unwrap_or(0);
        Self {
            version: record.version.map(|version| version.to_string()),
            shadow: record.shadow.map(|shadow| shadow.to_string()),
            since: record.shadow.map(|_| record.since.to_string()),
            compared: record.compared,
            same: record.same,
            status: record.status,
            body: record.body,
            skipped: record.skipped,
            mean_us: mean(record.us),
            shadow_mean_us: mean(record.shadow_us),
            examples: record.examples,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engine::Answer;
    use model::api::Difference;
    use model::ids::{FunctionRef, RequestId};

    use super::*;

    fn pair(time: u64, shadow: u64) -> ShadowPair {
        let answer = |version, us| {
            Answer::new(VersionRef::Number(version), Ok(Bytes::from_static(b"1")), us)
        };
        ShadowPair {
            function_id: RequestId::from_bytes([1; 16]),
            function: FunctionRef::parse("default", "f").unwrap().key,
            alias: "live".parse().unwrap(),
            time: UnixMillis(time),
            request: RequestId::from_bytes([2; 16]),
            shadow_request: RequestId::from_bytes([3; 16]),
            answer: answer(7, 10),
            shadow: answer(shadow, 30),
            identical: true,
            skipped: 2,
            room: engine::Room::default(),
        }
    }

    fn record(time: u64, shadow: u64, status: bool, body: bool) -> Record {
        let differences =
            vec![Difference { path: format!("body[{time}]"), before: None, after: None }];
        Record::of(&pair(time, shadow), Compared { status, body, differences })
    }

    #[test]
    fn pairs_add_up() {
        let all = [
            record(5, 8, false, false),
            record(4, 8, true, false),
            record(6, 8, false, true),
            record(7, 8, true, true),
        ];
        let joined = all.into_iter().fold(Record::default(), Record::and);
        assert_eq!(joined.clone().and(Record::default()), joined);
        let report = ShadowReport::from(joined);
        assert_eq!((report.compared, report.same, report.status, report.body), (4, 1, 2, 2));
        assert_eq!((report.skipped, report.mean_us, report.shadow_mean_us), (8, 10, 30));
        assert_eq!((report.version.as_deref(), report.shadow.as_deref()), (Some("7"), Some("8")));
        assert_eq!(report.since.as_deref(), Some("1970-01-01T00:00:00.004Z"));
        let paths: Vec<&str> =
            report.examples.iter().map(|e| e.differences[0].path.as_str()).collect();
        assert_eq!(paths, ["body[7]", "body[6]", "body[4]"]);
        assert_eq!(ShadowReport::from(Record::default()), ShadowReport::default());
    }

    #[test]
    fn skips_count_without_a_pair() {
        let ShadowPair { function_id, function, alias, .. } = pair(5, 8);
        let (version, time) = (VersionRef::Number(8), UnixMillis(9));
        let skips = ShadowSkips { function_id, function, alias, version, time, skipped: 7 };
        let alone = ShadowReport::from(Record::default().and(Record::of_skips(&skips)));
        assert_eq!((alone.compared, alone.skipped, alone.mean_us), (0, 7, 0));
        assert_eq!((alone.version, alone.shadow.as_deref()), (None, Some("8")));
        let both = ShadowReport::from(record(5, 8, true, false).and(Record::of_skips(&skips)));
        assert_eq!((both.compared, both.skipped, both.version.as_deref()), (1, 9, Some("7")));
        // Those of a shadow that is another one by now are nobody's.
        let old = ShadowSkips { version: VersionRef::Number(7), time: UnixMillis(4), ..skips };
        let same = record(5, 8, true, false).and(Record::of_skips(&old));
        assert_eq!(same, record(5, 8, true, false));
    }

    #[test]
    fn another_shadow_starts_anew() {
        let first = record(5, 8, true, false).and(record(6, 8, true, false));
        let second = first.and(record(7, 9, false, false));
        assert_eq!((second.shadow, second.compared), (Some(VersionRef::Number(9)), 1));
        // A straggler of the shadow before.
        let second = second.and(record(6, 8, true, false));
        assert_eq!(
            (second.shadow, second.compared, second.status),
            (Some(VersionRef::Number(9)), 1, 0)
        );
        // Another version that is compared with is no new beginning.
        let mut other = record(8, 9, false, false);
        other.version = Some(VersionRef::Latest);
        let second = second.and(other);
        assert_eq!((second.version, second.compared), (Some(VersionRef::Latest), 2));
    }

    #[test]
    fn examples_are_bounded_in_number_and_size() {
        let many = (0..150).map(|time| record(time, 8, true, false));
        let joined = many.fold(Record::default(), Record::and);
        assert_eq!((joined.examples.len(), joined.status), (EXAMPLES, 150));
        assert_eq!(joined.examples[0].differences[0].path, "body[149]");
        assert_eq!(joined.clone().bounded(), joined);

        let mut large = joined;
        for example in &mut large.examples {
            example.differences[0].path = "\0".repeat(1_000);
        }
        let stored = large.bounded();
        assert!(stored.examples.len() > 20, "{}", stored.examples.len());
        let json = serde_json::to_vec(&stored).unwrap();
        assert!(json.len() <= 256 * 1024, "{}", json.len());
        assert_eq!(serde_json::from_slice::<Record>(&json).unwrap(), stored);
    }
}
