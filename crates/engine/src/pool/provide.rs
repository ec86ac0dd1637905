//! Instances that are kept started whether calls come or not.

use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use super::ready::Room;

/// Pause after a start that failed; twice as long after each further one.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

impl Pool {
    /// From now on `n` instances are there: what is missing is started in the background, what dies is replaced.
    pub(crate) fn keep_started(self: &Arc<Self>, n: usize) {
        let now = self.now();
        {
            let mut state = self.lock();
            state.kept = n;
            let early = state.retry.is_some_and(|(at, _)| now < at);
            if state.there() >= n || state.providing || state.retired || early {
                return;
            }
            state.providing = true;
        }
        let pool = Arc::clone(self);
        drop(self.deps.tasks.spawn("keep-started", async move {
            let outcome = pool.make_ready(n, Room::Within).await;
            let now = pool.now();
            let mut state = pool.lock();
            state.providing = false;
            let Err(why) = outcome else {
                state.retry = None;
                return;
            };
            let pause = state.retry.map_or(RETRY_PAUSE, |(_, pause)| (pause * 2).min(RETRY_PAUSE_MAX));
            state.retry = Some((now + pause, pause));
            drop(state);
            let (function, version) = (&pool.version.key, pool.version.label());
            let why = why.to_string();
            tracing::warn!(%function, %version, instances = n, why, "not all provisioned instances are there; trying again");
        }));
    }

    /// Instances that are there, busy or idle.
    pub(crate) fn started_count(&self) -> usize {
        let state = self.lock();
        state.idle.iter().filter(|idle| idle.lent.instance.alive()).count() + state.lent
    }
}
