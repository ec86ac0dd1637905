//! A clock that goes on from life to life, and fast.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::clock::{Clock, SystemClock, UnixMillis};

/// So much faster than the host's: a minute takes 0.3 s.
pub(crate) const SPEED: u32 = 200;

/// See the module.
#[derive(Debug)]
pub(crate) struct FastClock {
    /// Both are the host's; `wall_ms` since the clock began.
    start: Instant,
    wall_ms: u64,
}

impl FastClock {
    /// That began when the host's clock said so.
    pub(crate) fn since(began_ms: u64) -> Self {
        let wall_ms = SystemClock.now().0.saturating_sub(began_ms) * u64::from(SPEED);
        Self { start: SystemClock.instant(), wall_ms }
    }

    fn passed(&self) -> Duration {
        (SystemClock.instant() - self.start) * SPEED
    }
}

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_767_225_600_000 + self.wall_ms).after(self.passed())
    }

    fn instant(&self) -> Instant {
        self.start + self.passed()
    }

    async fn sleep_until(&self, deadline: Instant) {
        loop {
            let left = deadline.saturating_duration_since(self.instant());
            if left.is_zero() {
                return;
            }
            let real = (left / SPEED).max(Duration::from_millis(1));
            SystemClock.sleep_until(SystemClock.instant() + real).await;
        }
    }
}
