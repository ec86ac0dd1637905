//! A call's side of the pool: it takes an idle instance, or a place in the line, and waits there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::error::Error;
use model::ids::RequestId;
use model::invocation::Invocation;
use tokio::sync::oneshot;

use super::{Grant, Lent, Moved, Pool, Refused, START_GRACE, Stay, Wait, stopping};
use crate::line::{PATIENCE, PATIENCE_MAX, Waiter};

/// Why a function without instances serves no call.
const OFF: &str = "it is switched off, its reserved_instances or max_instances is 0";

impl Pool {
    /// Hands a call to an instance. Waits until `deadline` at the latest, longer only for a start that is under way: a start has
    /// its own time limit, and throwing it away would only make the next call wait for another.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        invocation: Invocation,
        deadline: Instant,
        stay: Stay,
    ) -> Grant {
        let id = invocation.id;
        let mut granted = match self.take_or_wait(invocation, stay) {
            Ok(lent) => return Ok(lent),
            Err(Wait::Never(why)) => return Err(Refused::Error(self.throttled(&why))),
            Err(Wait::Moved(moved)) => return Err(Refused::Moved(moved)),
            Err(Wait::For(granted)) => granted,
        };
        if self.pace.is_quick()
            && let Some(grant) = self.granted_in_line(&mut granted).await
        {
            return grant;
        }
        self.use_idle();
        self.grow();
        if let Some(waiting) = self.overrun()
            && self.withdraw(id)
        {
            return Err(Refused::Error(self.throttled(&format!("{waiting} calls wait already"))));
        }
        for deadline in [deadline, deadline + START_GRACE] {
            if let Some(grant) = self.granted(&mut granted, deadline).await {
                return grant;
            }
            if self.lock().starting == 0 {
                break;
            }
        }
        if self.withdraw(id) {
            return Err(Refused::Error(self.throttled("none became free while the call waited")));
        }
        // Handed over already: its turn comes.
        granted.await.unwrap_or_else(|_| Err(Refused::Error(stopping())))
    }

    /// Takes an idle instance, or a place among those that wait.
    fn take_or_wait(self: &Arc<Self>, invocation: Invocation, stay: Stay) -> Result<Lent, Wait> {
        loop {
            let mut lent = {
                let mut state = self.lock();
                if state.retired && stay != Stay::Here {
                    return Err(Wait::Moved(Moved { invocation: Box::new(invocation), to: None }));
                }
                if self.function.instances.limit() == 0 {
                    return Err(Wait::Never(OFF.into()));
                }
                if let Some(quiet) = state.wake() {
                    self.function.forecast.learn(self.now().saturating_duration_since(quiet));
                }
                // More at once would not make a quick function any faster.
                let full = self.pace.is_quick() && state.lent >= self.deps.processors;
                match if full { None } else { state.take(self.seats) } {
                    Some(lent) => lent,
                    None => {
                        if stay == Stay::Free
                            && let Some(relief) = &state.relief
                        {
                            let to = Some(Arc::clone(relief));
                            return Err(Wait::Moved(Moved {
                                invocation: Box::new(invocation),
                                to,
                            }));
                        }
                        if let Some(why) = self.never_admitted() {
                            return Err(Wait::Never(why));
                        }
                        let (grant, granted) = oneshot::channel();
                        let stays = stay == Stay::Here;
                        state.waiters.push_back(Waiter { invocation, stays, grant });
                        return Err(Wait::For(granted));
                    }
                }
            };
            if lent.instance.hand(&invocation) {
                return Ok(lent);
            }
            self.destroy(lent);
        }
    }

    /// Why no instance can ever live, if that is so.
    fn never_admitted(&self) -> Option<String> {
        self.namespace.never_admits(self.version.config.memory_mb)
    }

    /// What comes of waiting until `deadline`, if anything does.
    async fn granted(
        &self,
        granted: &mut oneshot::Receiver<Grant>,
        deadline: Instant,
    ) -> Option<Grant> {
        tokio::select! {
            biased;
            grant = granted => Some(grant.unwrap_or_else(|_| Err(Refused::Error(stopping())))),
            () = self.deps.clock.sleep_until(deadline) => None,
        }
    }

    /// What comes of waiting in the line of a quick function: a moment if nothing goes on, as long as a start would take if something does.
    async fn granted_in_line(&self, granted: &mut oneshot::Receiver<Grant>) -> Option<Grant> {
        let start = Duration::from_micros(self.start_us.load(Ordering::Relaxed).into());
        let moment = PATIENCE.max(start / 8).min(PATIENCE_MAX);
        let (mut wait, end) = (self.now() + moment, self.now() + start.min(PATIENCE_MAX));
        loop {
            let before = self.ended.load(Ordering::Relaxed);
            if let Some(grant) = self.granted(granted, wait).await {
                return Some(grant);
            }
            let stands_still = self.ended.load(Ordering::Relaxed) == before;
            if stands_still || self.now() >= end {
                return None;
            }
            wait = end.min(self.now() + moment);
        }
    }

    /// Takes a call out of the line. `false`: it has been handed over.
    fn withdraw(&self, id: RequestId) -> bool {
        let mut state = self.lock();
        let at = state.waiters.iter().position(|waiter| waiter.invocation.id == id);
        at.and_then(|at| state.waiters.remove(at)).is_some()
    }

    /// How many calls wait that no start is under way for, if they are more than may.
    fn overrun(&self) -> Option<usize> {
        let state = self.lock();
        let waiting = state.waiters.len().saturating_sub(state.starting * self.seats);
        (waiting > self.deps.waiters_max).then(|| waiting - 1)
    }

    fn throttled(&self, why: &str) -> Error {
        Error::throttled(
            format!("function '{}' has no instance to spare: {why}", self.version.key),
            Duration::from_secs(1),
        )
        .with_hint("try again after Retry-After, or raise max_instances of the function")
    }
}
