//! Port: time. Injected everywhere, so that tests decide what time it is.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time plus `d`, saturating.
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time less `d`, not before 1970.
    #[must_use]
    pub fn before(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from this time until `later`; zero if `later` is not later.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }

    /// As a timestamp, for calendars and formatting.
    pub fn timestamp(self) -> jiff::Timestamp {
        i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for UnixMillis {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

/// Source of time. Contract: `suites::clock`.
///
/// `now` may jump (somebody sets the host's clock), `instant` never goes back, `sleep_until` never ends early.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time: for records and schedules, never for measuring.
    fn now(&self) -> UnixMillis;
    /// Monotonic time: for deadlines and durations.
    fn instant(&self) -> Instant;
    /// Returns at `deadline` or later.
    async fn sleep_until(&self, deadline: Instant);
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the host's clock")]
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn instant(&self) -> Instant {
        // Tokio's clock is the host's, except in tests that pause it: then sleeping and measuring agree.
        tokio::time::Instant::now().into_std()
    }

    async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline.into()).await;
    }
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// By so much.
    Forward(Duration),
    /// By so much.
    Back(Duration),
}

/// Notices that the wall clock was set, by comparing it with the monotonic one from look to look. A machine that slept looks as if its clock had been set forward.
#[derive(Debug)]
pub struct Jumps {
    wall: UnixMillis,
    steady: Instant,
}

impl Jumps {
    /// Less than this between two looks is a clock that is corrected gently, or a look that took its time.
    pub const LEAST: Duration = Duration::from_secs(1);

    /// Notices what happens from now on.
    pub fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), steady: clock.instant() }
    }

    /// The jumps since the last look, taken together.
    pub fn look(&mut self, clock: &dyn Clock) -> Option<Jump> {
        let now = Self::of(clock);
        let expected = self.wall.after(now.steady.saturating_duration_since(self.steady));
        let (forward, back) = (expected.until(now.wall), now.wall.until(expected));
        *self = now;
        if forward >= Self::LEAST {
            Some(Jump::Forward(forward))
        } else {
            (back >= Self::LEAST).then_some(Jump::Back(back))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wall clock beside the monotonic one of the host, which hardly moves in a test.
    #[derive(Debug)]
    struct Set(std::sync::atomic::AtomicU64);

    #[async_trait]
    impl Clock for Set {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.load(std::sync::atomic::Ordering::SeqCst))
        }

        fn instant(&self) -> Instant {
            SystemClock.instant()
        }

        async fn sleep_until(&self, deadline: Instant) {
            SystemClock.sleep_until(deadline).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_noticed_once() {
        let clock = Set(1_000_000.into());
        let mut jumps = Jumps::of(&clock);
        let mut set = |to_ms: u64| {
            clock.0.store(to_ms, std::sync::atomic::Ordering::SeqCst);
            [jumps.look(&clock), jumps.look(&clock)]
        };
        assert_eq!(set(1_000_999), [None, None], "a gentle correction");
        let hour = Duration::from_secs(3600);
        assert_eq!(set(4_600_999), [Some(Jump::Forward(hour)), None]);
        assert_eq!(set(1_000_999), [Some(Jump::Back(hour)), None]);
        tokio::time::sleep(hour).await;
        assert_eq!(set(4_600_999), [None, None], "time that passes is no jump");
    }

    #[test]
    fn times_print_as_rfc_3339() {
        assert_eq!(UnixMillis(1_767_225_600_042).to_string(), "2026-01-01T00:00:00.042Z");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(UnixMillis(u64::MAX).after(Duration::from_secs(9)).0, u64::MAX);
        assert_eq!(UnixMillis(9).until(UnixMillis(3)), Duration::ZERO);
    }
}
