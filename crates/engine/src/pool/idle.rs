//! The end of instances that nobody uses, and of pools that no route leads to any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use model::ports::Later;

use super::{Idle, Lent, Moved, Pool, Refused};
use crate::line::Waiter;

impl Pool {
    /// Ends an instance in the background; its permit lives until its processes are gone.
    pub(super) fn end(&self, lent: Lent) {
        let Lent { instance, permit, .. } = lent;
        drop(self.deps.tasks.spawn("stop-instance", async move {
            instance.stop().await;
            drop(permit);
        }));
    }

    /// No new calls come: idle instances end now, busy ones when their call does, and calls that wait move on. Whoever retires a pool takes it off its
    /// route first, so that they find the pool that came after it.
    pub(crate) fn retire(&self) {
        self.lock().retired = true;
        self.move_on();
        self.stop_idle(|_| true, usize::MAX);
    }

    /// Sends calls that wait at a retired pool to the one that came after it.
    pub(super) fn move_on(&self) {
        let waiters: VecDeque<Waiter> = {
            let mut state = self.lock();
            if !state.retired {
                return;
            }
            let waiters = std::mem::take(&mut state.waiters);
            let (stay, go) = waiters.into_iter().partition(|waiter| waiter.stays);
            state.waiters = stay;
            go
        };
        for Waiter { invocation, grant, .. } in waiters {
            // Whoever waits does so to the end.
            let moved = Moved { invocation: Box::new(invocation), to: None };
            grant.send(Err(Refused::Moved(moved))).unwrap_or_default();
        }
    }

    /// Leaves the registry once it is retired and nobody else holds it: no route, no attempt, no start under way.
    pub(crate) fn forget_if_done(self: Arc<Self>) {
        // The registry's and this one; a retired pool gets no new holders.
        const NOBODY_ELSE: usize = 2;
        if self.lock().retired && Arc::strong_count(&self) <= NOBODY_ELSE && self.meter.is_zero() {
            self.deps.registry.remove(&self);
        }
    }

    /// Stops idle instances, `most` at most; answers how many.
    pub(crate) fn stop_idle(&self, which: impl Fn(&Idle) -> bool, most: usize) -> usize {
        let stopped: Vec<Idle> = {
            let mut state = self.lock();
            let mut left = most;
            let picked = state.idle.extract_if(.., |idle| {
                let take = left > 0 && which(idle);
                left -= usize::from(take);
                take
            });
            picked.collect()
        };
        let count = stopped.len();
        for idle in stopped {
            self.end(idle.lent);
        }
        count
    }

    /// Idle instances, those of them that stand still, and waiting calls now.
    pub(crate) fn counts(&self) -> (u64, u64, usize) {
        let state = self.lock();
        let frozen = state.idle.iter().filter(|idle| idle.lent.instance.is_frozen()).count();
        let number = |n| u64::try_from(n).unwrap_or(u64::MAX);
        (number(state.idle.len()), number(frozen), state.waiters.len())
    }

    /// Has instances that have been idle for a while stand still until their next call.
    pub(super) fn freeze_idle(&self, now: Instant) {
        let after = self.deps.freeze_after;
        if after.is_zero() {
            return;
        }
        let asked: Vec<Later> = {
            let mut state = self.lock();
            let old = |idle: &&mut Idle| now.saturating_duration_since(idle.since) >= after;
            let freeze = |idle: &mut Idle| idle.lent.instance.freeze();
            state.idle.iter_mut().filter(old).filter_map(freeze).collect()
        };
        if asked.is_empty() {
            return;
        }
        let deps = Arc::clone(&self.deps);
        drop(self.deps.tasks.spawn("freeze-idle", async move {
            let freeze = || asked.into_iter().filter_map(|later| later().then_some(())).count();
            // It waits for locks of the kernel's.
            if let Ok(frozen) = tokio::task::spawn_blocking(freeze).await {
                let frozen = u64::try_from(frozen).unwrap_or(u64::MAX);
                deps.counts.frozen.fetch_add(frozen, Ordering::Relaxed);
            }
        }));
    }
}
