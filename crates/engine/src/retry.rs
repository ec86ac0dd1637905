//! When an asynchronous call that did not succeed runs again, and when it is given up, as its function says. Defaults: `docs/asynchronous-calls.md`.

use std::time::Duration;

use model::clock::UnixMillis;
use model::function::AsyncPolicy;
use model::ids::RequestId;

/// What to do with an asynchronous call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Again after `delay`. `counted`: whether this try was one of the function's attempts.
    Again { delay: Duration, counted: bool },
    /// Given up.
    Dead(Dead),
}

/// Why a call is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) why: Why,
    /// In words.
    pub(crate) reason: String,
}

/// The kinds of reasons, as destinations are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// There were as many attempts as there may be.
    Attempts,
    /// It is too old.
    Age,
    /// It cannot run at all.
    Other,
}

impl Why {
    /// In the words of AWS Lambda's destinations, which have none for the last.
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Self::Attempts => "RetriesExhausted",
            Self::Age => "EventAgeExceeded",
            Self::Other => "Undeliverable",
        }
    }

    pub(crate) fn because(self, reason: impl Into<String>) -> Dead {
        Dead { why: self, reason: reason.into() }
    }
}

impl From<&str> for Dead {
    fn from(reason: &str) -> Self {
        Why::Other.because(reason)
    }
}

/// Where a call stands when it is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) id: RequestId,
    /// The function's attempts so far, this one included.
    pub(crate) attempts: u32,
    /// When it was due first.
    pub(crate) due: UnixMillis,
    pub(crate) now: UnixMillis,
}

impl Tried {
    fn age(&self) -> Duration {
        self.due.until(self.now)
    }

    /// Why the call is not run any more, if it is too old for that.
    pub(crate) fn too_old(&self, policy: &AsyncPolicy) -> Option<Dead> {
        let (age, most) = (self.age(), policy.max_age());
        let reason = || format!("too old: {} s, at most {} s", age.as_secs(), most.as_secs());
        (age >= most).then(|| Why::Age.because(reason()))
    }
}

/// The function failed: as many attempts as its policy says, with its pauses between them, and none that would be due when the call is too old.
pub(crate) fn after_failure(policy: &AsyncPolicy, tried: Tried, kind: &str) -> Verdict {
    let attempts = tried.attempts;
    if attempts >= policy.attempts() {
        return Verdict::Dead(
            Why::Attempts.because(format!("it failed {attempts} times, last by {kind}")),
        );
    }
    let delay = pause(policy, tried);
    if tried.age() + delay >= policy.max_age() {
        let most = policy.max_age().as_secs();
        return Verdict::Dead(
            Why::Age.because(format!("too old: the next attempt would be due after {most} s")),
        );
    }
    Verdict::Again { delay, counted: true }
}

/// The pause after this attempt. What chance takes from it follows from the call's id and the attempt: the same call waits as long each time.
fn pause(policy: &AsyncPolicy, tried: Tried) -> Duration {
    let curve = policy.retry.clone().unwrap_or_default();
    let pause = curve.pause(tried.attempts.max(1));
    let Some(percent) = curve.jitter_percent.filter(|percent| *percent > 0) else { return pause };
    let seed = tried
        .id
        .as_bytes()
        .iter()
        .fold(u64::from(tried.attempts), |seed, byte| mix(seed ^ u64::from(*byte)));
    // A part of 0 to `percent` hundredths, in millionths.
    let part = seed % (u64::from(percent) * 10_000 + 1);
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis - millis.saturating_mul(part) / 1_000_000)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): each bit depends on all.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The platform could not run it: from a second, doubling with age, to five minutes, until the call is too old; the last time a second before that.
///
/// The pause follows from the age alone, so it needs no state: waiting as long again as one has waited doubles it.
pub(crate) fn after_refusal(policy: &AsyncPolicy, tried: Tried) -> Verdict {
    const LEAST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(5 * 60);
    let (age, most) = (tried.age(), policy.max_age());
    let left = most.saturating_sub(age);
    if left <= LEAST {
        return Verdict::Dead(
            Why::Age.because(format!("too old: not run within {} s", most.as_secs())),
        );
    }
    let delay = age.clamp(LEAST, MOST).min(left - LEAST).max(Duration::from_millis(1));
    Verdict::Again { delay, counted: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> AsyncPolicy {
        serde_json::from_str(json).unwrap()
    }

    fn tried(attempts: u32, age_seconds: u64) -> Tried {
        let (id, due) = (RequestId::from_bytes([7; 16]), UnixMillis(1_000));
        Tried { id, attempts, due, now: due.after(Duration::from_secs(age_seconds)) }
    }

    fn again(seconds: u64) -> Verdict {
        Verdict::Again { delay: Duration::from_secs(seconds), counted: true }
    }

    #[test]
    fn failures_wait_a_minute_then_two_then_are_given_up() {
        let policy = AsyncPolicy::default();
        assert_eq!(after_failure(&policy, tried(1, 1), "handler"), again(60));
        assert_eq!(after_failure(&policy, tried(2, 62), "handler"), again(120));
        let last = after_failure(&policy, tried(3, 183), "timeout");
        assert!(matches!(last, Verdict::Dead(why) if why.reason.contains("timeout")));
    }

    #[test]
    fn a_function_says_how_often_how_long_and_with_what_pauses() {
        let policy =
            policy(r#"{"attempts":4,"max_age_seconds":60,"retry":{"pauses_seconds":[2,20,50]}}"#);
        assert_eq!(after_failure(&policy, tried(1, 0), "handler"), again(2));
        assert_eq!(after_failure(&policy, tried(2, 2), "handler"), again(20));
        let third = after_failure(&policy, tried(3, 22), "handler");
        assert!(
            matches!(third, Verdict::Dead(why) if why.reason.contains("too old")),
            "50 s more are too many"
        );
        assert_eq!(tried(1, 59).too_old(&policy), None);
        assert!(tried(1, 60).too_old(&policy).is_some());
    }

    #[test]
    fn jitter_takes_a_part_of_a_pause_and_the_same_one_each_time() {
        let policy = policy(
            r#"{"attempts":100,"retry":{"first_seconds":100,"factor":1,"jitter_percent":50}}"#,
        );
        let mut pauses = Vec::new();
        for attempts in 1..100 {
            let Verdict::Again { delay, .. } =
                after_failure(&policy, tried(attempts, 0), "handler")
            else {
                panic!("attempt {attempts} is not the last");
            };
            assert_eq!(
                after_failure(&policy, tried(attempts, 0), "handler"),
                Verdict::Again { delay, counted: true }
            );
            assert!((50_000..=100_000).contains(&delay.as_millis()), "{delay:?}");
            pauses.push(delay);
        }
        let mean = pauses.iter().sum::<Duration>().as_secs() / 99;
        assert!((70..=80).contains(&mean), "{mean}");
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() > 90, "{}", pauses.len());
    }

    #[test]
    fn refusals_double_from_a_second_to_five_minutes_until_too_old() {
        let (policy, mut now) = (AsyncPolicy::default(), UnixMillis(1_000));
        let mut delays = Vec::new();
        let last = loop {
            match after_refusal(&policy, Tried { now, ..tried(0, 0) }) {
                Verdict::Again { delay, counted } => {
                    assert!(!counted);
                    delays.push(delay.as_secs());
                    now = now.after(delay);
                }
                dead @ Verdict::Dead(_) => break dead,
            }
        };
        assert_eq!(delays.get(..5), Some([1, 1, 2, 4, 8].as_slice()));
        assert_eq!(delays.iter().max(), Some(&300));
        assert_eq!(now.0, 1_000 + 6 * 3600 * 1000 - 1_000, "tried a second before it is too old");
        assert!(matches!(last, Verdict::Dead(why) if why.reason.contains("too old")));
    }
}
