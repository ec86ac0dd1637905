//! When an asynchronous call that did not succeed runs again, and when it is given up. Defaults: `events.md`, Delivery.

use std::time::Duration;

use model::clock::UnixMillis;
use model::limits;

/// What to do with an asynchronous call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Again after `delay`. `counted`: whether this try was one of the function's attempts.
    Again { delay: Duration, counted: bool },
    /// Given up, for this reason.
    Dead(String),
}

/// The function failed: a minute more of pause each time, three attempts in all.
pub(crate) fn after_failure(attempts: u32, kind: &str) -> Verdict {
    if attempts >= limits::ASYNC_ATTEMPTS {
        return Verdict::Dead(format!("the function failed {attempts} times, last by {kind}"));
    }
    Verdict::Again { delay: Duration::from_secs(60 * u64::from(attempts.max(1))), counted: true }
}

/// The function failed at a chunk of a map, which may be tried `most` times: a second of pause at first, doubling, at most a minute. Somebody waits for the whole of it.
pub(crate) fn after_chunk_failure(attempts: u32, most: u32, kind: &str) -> Verdict {
    /// Longest pause, in seconds.
    const MOST_SECONDS: u64 = 60;
    if attempts >= most {
        let times = if attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
        return Verdict::Dead(format!("the function failed {times}, last by {kind}"));
    }
    let seconds = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(MOST_SECONDS);
    Verdict::Again { delay: Duration::from_secs(seconds.min(MOST_SECONDS)), counted: true }
}

/// The platform could not run it: from a second, doubling with age, to five minutes, until the call is too old.
///
/// The pause follows from the age alone, so it needs no state: waiting as long again as one has waited doubles it.
pub(crate) fn after_refusal(enqueued: UnixMillis, now: UnixMillis) -> Verdict {
    const LEAST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(5 * 60);
    let age = enqueued.until(now);
    if age >= Duration::from_secs(limits::ASYNC_MAX_AGE_SECONDS) {
        return Verdict::Dead(format!("too old: not run within {} s", age.as_secs()));
    }
    Verdict::Again { delay: age.clamp(LEAST, MOST), counted: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_a_minute_then_two_then_are_given_up() {
        let again = |s| Verdict::Again { delay: Duration::from_secs(s), counted: true };
        assert_eq!(after_failure(1, "handler"), again(60));
        assert_eq!(after_failure(2, "handler"), again(120));
        assert!(
            matches!(after_failure(3, "timeout"), Verdict::Dead(why) if why.contains("timeout"))
        );
    }

    #[test]
    fn chunks_are_tried_again_soon() {
        let pauses: Vec<_> = (1..=100).map(|n| after_chunk_failure(n, 101, "handler")).collect();
        let again = |s| Verdict::Again { delay: Duration::from_secs(s), counted: true };
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 32, 60].map(again));
        assert_eq!(pauses.last(), Some(&again(60)));
        assert_eq!(
            after_chunk_failure(1, 1, "timeout"),
            Verdict::Dead("the function failed once, last by timeout".into())
        );
    }

    #[test]
    fn refusals_double_from_a_second_to_five_minutes_until_too_old() {
        let mut now = UnixMillis(1_000);
        let mut delays = Vec::new();
        let last = loop {
            match after_refusal(UnixMillis(1_000), now) {
                Verdict::Again { delay, counted } => {
                    assert!(!counted);
                    delays.push(delay.as_secs());
                    now = now.after(delay);
                }
                dead @ Verdict::Dead(_) => break dead,
            }
        };
        assert_eq!(delays.get(..5), Some([1, 1, 2, 4, 8].as_slice()));
        assert_eq!(delays.last(), Some(&300));
        assert!(now.0 >= limits::ASYNC_MAX_AGE_SECONDS * 1000);
        assert!(matches!(last, Verdict::Dead(why) if why.contains("too old")));
    }
}
