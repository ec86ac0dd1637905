//! Processor time of a guest, by the clock of the thread that polls it; and the ceiling that a function may set to it.
//!
//! A guest yields at each tick, so what it is over its ceiling by is little: then it pauses until its time is earned.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use model::function::Cores;
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::Sleep;

/// What a guest may use before it is held to its ceiling: most calls are over before.
const BURST: Duration = Duration::from_millis(10);

/// Runs `guest`, and answers with the processor time that it took as well. `cores`: most processors that it may keep busy.
pub(super) async fn metered<T>(
    guest: impl Future<Output = T>,
    cores: Option<Cores>,
) -> (T, Duration) {
    let (mut guest, mut meter) = (pin!(guest), Meter::new(cores));
    let left = poll_fn(|cx| meter.poll(cx, guest.as_mut())).await;
    (left, meter.used)
}

struct Meter {
    cores: Option<Cores>,
    begun: Instant,
    used: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Meter {
    fn new(cores: Option<Cores>) -> Self {
        Self { cores, begun: Instant::now(), used: Duration::ZERO, pause: None }
    }

    fn poll<F: Future>(&mut self, cx: &mut Context<'_>, guest: Pin<&mut F>) -> Poll<F::Output> {
        if let Some(pause) = &mut self.pause
            && pause.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        self.pause = None;
        let before = thread_time();
        let polled = guest.poll(cx);
        self.used += thread_time().saturating_sub(before);
        if polled.is_pending()
            && let Some(pause) = self.pause_needed()
        {
            let mut pause = Box::pin(tokio::time::sleep(pause));
            // So that it wakes this task; whatever else wakes it finds it pausing.
            if pause.as_mut().poll(cx).is_pending() {
                self.pause = Some(pause);
            }
        }
        polled
    }

    /// How long until what was used is earned.
    fn pause_needed(&self) -> Option<Duration> {
        let millis = self.cores?.millis().max(1);
        let over = self.used.checked_sub(BURST)?;
        let earned_after = over.saturating_mul(1000) / millis;
        earned_after.checked_sub(self.begun.elapsed()).filter(|pause| !pause.is_zero())
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so much processor time, a millisecond at a time.
    async fn work(time: Duration) {
        let end = thread_time() + time;
        while thread_time() < end {
            let tick = thread_time() + Duration::from_millis(1);
            while thread_time() < tick {}
            tokio::task::yield_now().await;
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn time_is_counted_where_it_is_used() {
        let used = Duration::from_millis(20);
        let ((), metered) = run(metered(work(used), None));
        assert!(metered >= used, "{metered:?}");
        let ((), waited) = run(metered_sleep());
        assert!(waited < used, "{waited:?}");
    }

    async fn metered_sleep() -> ((), Duration) {
        metered(tokio::time::sleep(Duration::from_millis(50)), None).await
    }

    #[test]
    fn whoever_is_over_the_ceiling_waits_until_it_is_earned() {
        let begun = Instant::now();
        let ((), used) =
            run(metered(work(Duration::from_millis(40)), Some(Cores::from_millis(100))));
        // All but the burst and the last millisecond, at a tenth of a processor.
        let earned = used.saturating_sub(BURST + Duration::from_millis(2)) * 10;
        assert!(begun.elapsed() >= earned.min(Duration::from_millis(280)), "{:?}", begun.elapsed());
    }
}
