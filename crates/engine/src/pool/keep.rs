//! How long idle instances are kept, when one is started before the next call, and which goes first when room is needed. What a function's calls say about
//! that is in [`crate::forecast`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Pool, State};
use crate::forecast::Plan;

impl Pool {
    /// Stops what is idle for too long or died meanwhile, freezes what is for a while, and starts an instance if a call is about to come.
    pub(crate) fn look_after(self: &Arc<Self>, now: Instant) {
        let bounds = &self.deps.keep_alive;
        {
            let mut state = self.lock();
            state.peak = [state.lent, state.peak[0]];
            if state.idle.is_empty() && (state.quiet.is_none() || state.foreseen || state.retired) {
                return;
            }
        }
        self.function.forecast.fade();
        let plan = self.function.forecast.plan(bounds);
        let (newest, quiet) = {
            let state = self.lock();
            (state.idle.last().map(|idle| idle.since), state.quiet)
        };
        // More than one is needed for bursts, of which the pauses say nothing.
        let spare = if plan.from.is_zero() { bounds.fixed.min(plan.until) } else { bounds.least };
        self.stop_idle(|idle| !idle.lent.instance.alive(), usize::MAX);
        let most = {
            let state = self.lock();
            state.there().saturating_sub(state.kept)
        };
        self.stop_idle(
            |idle| {
                let age = now.saturating_duration_since(idle.since);
                if Some(idle.since) == newest {
                    let pause = quiet.map_or(age, |quiet| now.saturating_duration_since(quiet));
                    pause > plan.until || pause < plan.from && age > bounds.least
                } else {
                    age > spare
                }
            },
            most,
        );
        self.freeze_idle(now);
        self.foresee(&plan, now);
    }

    /// Starts an instance if none is there and a call is about to come. Takes no room from others.
    fn foresee(self: &Arc<Self>, plan: &Plan, now: Instant) {
        {
            let mut state = self.lock();
            if plan.from.is_zero() || !state.awaits(plan, now) {
                return;
            }
            state.foreseen = true;
        }
        let memory_mb = self.version.config.memory_mb;
        if !self.deps.admission.has_room(&self.function, &self.namespace, memory_mb) {
            return;
        }
        let Ok(permit) = self.admit() else { return };
        self.lock().starting += 1;
        self.deps.counts.foreseen.fetch_add(1, Ordering::Relaxed);
        let (told, started) = oneshot::channel();
        drop(self.deps.tasks.spawn("start-foreseen", Arc::clone(self).start(permit, Some(told))));
        // A call would learn what is wrong.
        drop(started);
    }

    /// What an idle instance is worth, if one may be stopped: what its start costs, by how likely it is to be needed, for the memory it takes. What stands ready for
    /// a change, or is provisioned, may not.
    pub(crate) fn worth(&self, now: Instant) -> Option<f64> {
        let (since, idle) = {
            let state = self.lock();
            let may = state.held == 0 && state.there() > state.kept;
            let first = state.idle.first().filter(|_| may)?;
            (first.since, state.idle.len())
        };
        let pause = now.saturating_duration_since(since);
        let start_us = f64::from(self.start_us.load(Ordering::Relaxed).max(1));
        let likely = self.function.forecast.likelihood(pause);
        // The first to go is the last that would be used.
        let rank = u32::try_from(idle).map_or(f64::MAX, f64::from);
        Some(start_us * likely / rank / f64::from(self.version.config.memory_mb.max(1)))
    }

    /// Stops the instance that has been idle longest. Whether there was one.
    pub(crate) fn evict(&self) -> bool {
        let evicted = self.stop_idle(|_| true, 1) > 0;
        if evicted {
            self.deps.counts.evicted.fetch_add(1, Ordering::Relaxed);
        }
        evicted
    }

    /// How long a start takes, smoothed.
    pub(super) fn learn_start(&self, took_us: u64) {
        let took_us = u32::try_from(took_us).unwrap_or(u32::MAX);
        let old = self.start_us.load(Ordering::Relaxed);
        let new = if old == 0 { took_us } else { old - old / 4 + took_us / 4 };
        self.start_us.store(new, Ordering::Relaxed);
    }

    /// Whether its function's calls tell when the next one comes.
    pub(crate) fn has_learned(&self) -> bool {
        self.function.forecast.plan(&self.deps.keep_alive).learned
    }
}

impl State {
    /// A call begins; answers since when there was none, if this is the first again.
    pub(super) fn wake(&mut self) -> Option<Instant> {
        let quiet = self.quiet.take();
        self.foreseen &= quiet.is_none();
        quiet
    }

    /// An instance comes back, or ends.
    pub(super) fn give_back(&mut self, now: Instant) {
        self.lent -= 1;
        if self.lent == 0 {
            self.quiet.get_or_insert(now);
        }
    }

    /// Whether a call is about to come, and no instance there that would serve it.
    fn awaits(&self, plan: &Plan, now: Instant) -> bool {
        let pause = self.quiet.map_or(Duration::ZERO, |quiet| now.saturating_duration_since(quiet));
        let due = pause >= plan.from && pause < plan.until;
        due && self.there() == 0 && self.waiters.is_empty() && !self.foreseen && !self.retired
    }
}
