//! Contract of [`Clock`].

use std::time::Duration;

use crate::clock::{Clock, UnixMillis};

/// 2024-01-01T00:00:00Z: no clock that works is before it.
const PLAUSIBLE: UnixMillis = UnixMillis(1_704_067_200_000);

/// Runs the suite; it takes a tenth of a second of the clock's time.
pub async fn run(clock: &dyn Clock) {
    assert!(clock.now() > PLAUSIBLE, "the wall clock says {}", clock.now());

    let mut last = clock.instant();
    for _ in 0..1000 {
        let now = clock.instant();
        assert!(now >= last, "the monotonic clock went back");
        last = now;
    }

    for ms in [0, 1, 7, 50] {
        let deadline = clock.instant() + Duration::from_millis(ms);
        clock.sleep_until(deadline).await;
        assert!(clock.instant() >= deadline, "a sleep of {ms} ms ended early");
    }

    let past = clock.instant();
    clock.sleep_until(past).await;
}
