//! Busy polling: the socket of a quick call is read again and again for a moment, before a thread sleeps until the answer comes.
//!
//! To wake a thread takes longer than a quick function takes for its call. Polling delays nobody: it is done while a single quick call is under way
//! ([`QuickCalls`]), whatever else is ready gets its turn between two reads, and where it is of no use it is done ever more rarely ([`BusyPoll`]).
//! Not here: the wait itself, which is [`super::instance`]'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::clock::Clock;

/// So many calls in a row that were polled for in vain make the pause no longer.
const PAUSE_DOUBLINGS: u32 = 10;

/// What all instances of a sandbox share: how long to poll, and how many quick calls are under way.
#[derive(Debug)]
pub(super) struct QuickCalls {
    /// Zero: no call is quick, and none is polled for.
    poll_most: Duration,
    under_way: AtomicUsize,
}

impl QuickCalls {
    /// Polls for `poll_us` microseconds at most. On a single processor it never does: the function could not run meanwhile.
    pub(super) fn new(poll_us: u32, processors: usize) -> Self {
        let poll_us = if processors > 1 { poll_us } else { 0 };
        let poll_most = Duration::from_micros(poll_us.into());
        Self { poll_most, under_way: AtomicUsize::new(0) }
    }
}

/// A quick call, counted for as long as it is under way.
#[derive(Debug)]
pub(super) struct QuickCall(Arc<QuickCalls>);

impl QuickCall {
    /// Whether no other is under way.
    fn is_alone(&self) -> bool {
        self.0.under_way.load(Ordering::Relaxed) == 1
    }
}

impl Drop for QuickCall {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an instance knows of its calls, and of polling for them.
#[derive(Debug, Default)]
pub(super) struct BusyPoll {
    /// How long the last call took by the function's word, in microseconds; `None` before the first.
    busy_us: Option<u32>,
    /// Calls in a row that were polled for in vain.
    misses: u32,
    /// Calls that are not polled for before the next one is.
    pause: u32,
}

impl BusyPoll {
    /// A call begins: counted if it should be over within the time for polling, as the last one was.
    pub(super) fn begin(&self, calls: &Arc<QuickCalls>) -> Option<QuickCall> {
        let quick = |busy_us: u32| Duration::from_micros(busy_us.into()) < calls.poll_most;
        self.busy_us.filter(|busy_us| quick(*busy_us))?;
        calls.under_way.fetch_add(1, Ordering::Relaxed);
        Some(QuickCall(Arc::clone(calls)))
    }

    /// A call is over that was so long by the function's word.
    pub(super) fn learn(&mut self, busy_us: Option<u32>) {
        self.busy_us = busy_us;
    }

    /// Polls by `read` until it gives something, the time for it is over, or another quick call begins.
    pub(super) async fn poll<T>(
        &mut self,
        call: &QuickCall,
        clock: &dyn Clock,
        mut read: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let end = clock.instant() + call.0.poll_most;
        while call.is_alone() {
            tokio::task::yield_now().await;
            let got = read();
            if got.is_some() || clock.instant() >= end {
                self.note(got.is_some());
                return got;
            }
        }
        None
    }

    /// Whether it was of use.
    fn note(&mut self, hit: bool) {
        if hit {
            self.misses = 0;
        } else {
            // The first is nothing yet: any call may lose its processor once.
            self.pause = (1 << self.misses) - 1;
            self.misses = (self.misses + 1).min(PAUSE_DOUBLINGS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use model::clock::SystemClock;
    use model::tasks::Tasks;

    use super::*;

    const MOST_US: u32 = 80;

    fn quick_calls(poll_us: u32) -> Arc<QuickCalls> {
        Arc::new(QuickCalls::new(poll_us, 2))
    }

    /// Of an instance whose last call took so long.
    fn after(busy_us: u32) -> BusyPoll {
        BusyPoll { busy_us: Some(busy_us), ..BusyPoll::default() }
    }

    #[test]
    fn calls_are_quick_if_the_last_one_was() {
        let calls = quick_calls(MOST_US);
        let mut poll = BusyPoll::default();
        assert!(poll.begin(&calls).is_none(), "unknown is not quick");
        for (busy_us, quick) in [(Some(79), true), (Some(80), false), (None, false)] {
            poll.learn(busy_us);
            assert_eq!(poll.begin(&calls).is_some(), quick, "{busy_us:?}");
        }
    }

    #[test]
    fn none_is_quick_where_polling_is_off_or_only_one_can_run() {
        for calls in [QuickCalls::new(0, 8), QuickCalls::new(MOST_US, 1)] {
            assert!(after(0).begin(&Arc::new(calls)).is_none());
        }
    }

    #[tokio::test]
    async fn what_is_in_vain_is_done_ever_more_rarely_until_it_helps() {
        let calls = quick_calls(1);
        let mut poll = after(0);
        let call = poll.begin(&calls).unwrap();
        let mut polled_for = 0;
        for _ in 0..100_000 {
            let mut polled = false;
            let read = || {
                polled = true;
                None::<()>
            };
            assert!(poll.poll(&call, &SystemClock, read).await.is_none());
            polled_for += u32::from(polled);
        }
        assert!((50..150).contains(&polled_for), "{polled_for}");
        while poll.poll(&call, &SystemClock, || Some(())).await.is_none() {}
        assert!(poll.poll(&call, &SystemClock, || None::<()>).await.is_none());
        let got = poll.poll(&call, &SystemClock, || Some(())).await;
        assert!(got.is_some(), "one in vain changes nothing");
    }

    #[tokio::test]
    async fn it_ends_when_another_quick_call_begins_and_goes_on_when_that_is_over() {
        let calls = quick_calls(u32::MAX);
        let (mut poll, other) = (after(0), after(0));
        let call = poll.begin(&calls).unwrap();
        let (mut reads, mut second) = (0, None);
        let read = || {
            reads += 1;
            if reads == 3 {
                second = other.begin(&calls);
            }
            None::<()>
        };
        assert!(poll.poll(&call, &SystemClock, read).await.is_none());
        assert_eq!(reads, 3);
        assert!(poll.poll(&call, &SystemClock, || Some(())).await.is_none());
        drop(second);
        assert!(poll.poll(&call, &SystemClock, || Some(())).await.is_some());
    }

    // On a runtime of one thread: it would not end if the other task got no turn.
    #[tokio::test]
    async fn others_have_their_turns_meanwhile() {
        let calls = quick_calls(10_000_000);
        let mut poll = after(0);
        let call = poll.begin(&calls).unwrap();
        let (tasks, done) = (Tasks::new(), Arc::new(AtomicBool::new(false)));
        let other = Arc::clone(&done);
        drop(tasks.spawn("other", async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            other.store(true, Ordering::Relaxed);
        }));
        let read = || done.load(Ordering::Relaxed).then_some(());
        assert!(poll.poll(&call, &SystemClock, read).await.is_some());
    }
}
