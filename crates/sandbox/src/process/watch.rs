//! Looking for an answer for a moment instead of sleeping until it comes ([`Watch`]).
//!
//! To wake a sleeping thread takes longer than a quick function takes for its call. So the thread that waits for such a call keeps looking at the socket, and
//! gives everything else that is ready its turn between two looks. It looks only where that delays nobody: while this is the only quick call under way
//! ([`Watchers`]), and while it has been of use. Not here: the wait itself, which `instance` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::clock::Clock;

/// So many calls in a row that were looked for in vain make the pause no longer.
const PAUSE_DOUBLINGS: u32 = 10;

/// What all instances of a sandbox share: how long to look, and how many quick calls are under way.
#[derive(Debug)]
pub(super) struct Watchers {
    most: Duration,
    calls: AtomicUsize,
}

impl Watchers {
    /// Looks for `most_us` microseconds at most. On a single processor it never looks: the function could not run meanwhile.
    pub(super) fn new(most_us: u32, processors: usize) -> Self {
        let most_us = if processors > 1 { most_us } else { 0 };
        Self { most: Duration::from_micros(most_us.into()), calls: AtomicUsize::new(0) }
    }
}

/// A quick call that is under way, and counted.
#[derive(Debug)]
pub(super) struct Watching(Arc<Watchers>);

impl Watching {
    /// Counts it until this is dropped.
    pub(super) fn begin(watchers: &Arc<Watchers>) -> Self {
        watchers.calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(watchers))
    }

    /// Whether it is the only one.
    fn is_alone(&self) -> bool {
        self.0.calls.load(Ordering::Relaxed) == 1
    }

    fn most(&self) -> Duration {
        self.0.most
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether it is worth while to look for the answers of an instance.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// How long its last call took by its own word, in microseconds; `None` before the first.
    busy_us: Option<u32>,
    /// Calls in a row that were looked for in vain.
    misses: u32,
    /// Calls that are not looked for before the next one is.
    pause: u32,
}

impl Watch {
    /// Whether the next call should be over before a thread would be awake.
    pub(super) fn expects_quick(&self, watchers: &Watchers) -> bool {
        self.busy_us.is_some_and(|busy_us| Duration::from_micros(busy_us.into()) < watchers.most)
    }

    /// Looks for the answer to the call that `watching` counts, if it is time to: until it is there, or was not for long enough, or another quick call
    /// begins. Whatever else is ready gets its turn before each look.
    pub(super) async fn look<T>(
        &mut self,
        watching: &Watching,
        clock: &dyn Clock,
        mut answer: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let begun = clock.instant();
        while watching.is_alone() {
            tokio::task::yield_now().await;
            let seen = answer();
            if seen.is_some() || clock.instant().saturating_duration_since(begun) >= watching.most()
            {
                self.looked(seen.is_some());
                return seen;
            }
        }
        None
    }

    fn looked(&mut self, seen: bool) {
        if seen {
            self.misses = 0;
        } else {
            // The first is nothing yet: any call may lose its processor once.
            self.pause = (1 << self.misses) - 1;
            self.misses = (self.misses + 1).min(PAUSE_DOUBLINGS);
        }
    }

    /// A call is over that was so long by the function's word.
    pub(super) fn learn(&mut self, busy_us: Option<u32>) {
        self.busy_us = busy_us;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use model::clock::SystemClock;
    use model::tasks::Tasks;

    use super::*;

    const MOST_US: u32 = 80;

    /// An instance whose last call was quick, and whose next one has begun.
    fn quick(watchers: &Arc<Watchers>) -> (Watch, Watching) {
        let mut watch = Watch::default();
        watch.learn(Some(10));
        (watch, Watching::begin(watchers))
    }

    #[test]
    fn only_quick_calls_are_looked_for() {
        let watchers = Watchers::new(MOST_US, 2);
        let mut watch = Watch::default();
        assert!(!watch.expects_quick(&watchers), "unknown is not quick");
        for (busy_us, quick) in [(Some(79), true), (Some(80), false), (None, false)] {
            watch.learn(busy_us);
            assert_eq!(watch.expects_quick(&watchers), quick, "{busy_us:?}");
        }
    }

    #[test]
    fn nobody_looks_where_it_is_off_or_only_one_can_run() {
        for watchers in [Watchers::new(0, 8), Watchers::new(MOST_US, 1)] {
            let watchers = Arc::new(watchers);
            assert!(!quick(&watchers).0.expects_quick(&watchers));
        }
    }

    #[tokio::test]
    async fn what_is_in_vain_is_done_ever_more_rarely_until_it_helps() {
        let watchers = Arc::new(Watchers::new(1, 2));
        let (mut watch, watching) = quick(&watchers);
        let mut calls_looked_for = 0;
        for _ in 0..100_000 {
            let mut looked = false;
            let seen = watch.look(&watching, &SystemClock, || {
                looked = true;
                None::<()>
            });
            assert!(seen.await.is_none());
            calls_looked_for += u32::from(looked);
        }
        assert!((50..150).contains(&calls_looked_for), "{calls_looked_for}");
        while watch.look(&watching, &SystemClock, || Some(())).await.is_none() {}
        assert!(watch.look(&watching, &SystemClock, || None::<()>).await.is_none());
        let seen = watch.look(&watching, &SystemClock, || Some(())).await;
        assert!(seen.is_some(), "one in vain changes nothing");
    }

    #[tokio::test]
    async fn it_ends_when_another_quick_call_begins_and_is_not_held_against_it() {
        let watchers = Arc::new(Watchers::new(u32::MAX, 2));
        let (mut watch, watching) = quick(&watchers);
        let (mut looks, mut second) = (0, None);
        let seen = watch.look(&watching, &SystemClock, || {
            looks += 1;
            if looks == 3 {
                second = Some(Watching::begin(&watchers));
            }
            None::<()>
        });
        assert!(seen.await.is_none());
        assert_eq!(looks, 3);
        assert!(watch.look(&watching, &SystemClock, || Some(())).await.is_none());
        drop(second);
        assert!(watch.look(&watching, &SystemClock, || Some(())).await.is_some());
    }

    // On a runtime of one thread: it would wait for ever if the other task got no turn.
    #[tokio::test]
    async fn others_have_their_turns_while_it_looks() {
        let watchers = Arc::new(Watchers::new(u32::MAX, 2));
        let (mut watch, watching) = quick(&watchers);
        let (tasks, done) = (Tasks::new(), Arc::new(AtomicBool::new(false)));
        let other = Arc::clone(&done);
        drop(tasks.spawn("other", async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            other.store(true, Ordering::Relaxed);
        }));
        let answer = || done.load(Ordering::Relaxed).then_some(());
        assert!(watch.look(&watching, &SystemClock, answer).await.is_some());
    }
}
