//! How much may wait in the queue: a function's quota of queued calls and bytes, and its namespace's.
//!
//! What waits already is counted by the queue, in memory. What is on its way there is counted here: a call takes its place before it is enqueued and gives it back
//! once the queue counts it, so that many callers at once cannot pass a quota that only one more fits in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Result;
use model::error::{Code, Error};
use model::ports::{Depth, Lane};

use crate::Shared;
use crate::namespace::Namespace;
use crate::route::Route;

/// When to try again: a queue that is full is not empty soon.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is on its way into the queue, of a function or of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Entering(Mutex<Depth>);

impl Entering {
    fn lock(&self) -> MutexGuard<'_, Depth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `new` in if that and what is there already is within `quota`, else says what is there. `waits` is asked while nobody else comes or goes here: what has left
    /// is in the queue by then.
    fn enter(
        self: &Arc<Self>,
        new: Depth,
        quota: Depth,
        waits: impl FnOnce() -> Depth,
    ) -> Result<Entered, Depth> {
        let mut entering = self.lock();
        let there = entering.and(waits());
        let after = there.and(new);
        if after.messages > quota.messages || after.bytes > quota.bytes {
            return Err(there);
        }
        *entering = entering.and(new);
        drop(entering);
        Ok(Entered { at: Arc::clone(self), new })
    }
}

/// A place on the way into the queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    at: Arc<Entering>,
    new: Depth,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut entering = self.at.lock();
        entering.messages = entering.messages.saturating_sub(self.new.messages);
        entering.bytes = entering.bytes.saturating_sub(self.new.bytes);
    }
}

/// Places on the way into the queue, of a call with its function and with its namespace; to be kept until the queue has answered.
#[derive(Debug)]
pub(crate) struct Places {
    _function: Option<Entered>,
    _namespace: Entered,
}

/// Takes places for `new` in `lane`, with the function if there still is one, and with its namespace.
///
/// Errors: `queue-full`.
pub(crate) fn enter(
    shared: &Shared,
    lane: &Lane,
    new: Depth,
    route: Option<&Route>,
    namespace: &Namespace,
) -> Result<Places> {
    let function = route.map(|route| of_function(shared, lane, new, route)).transpose()?;
    let (name, quota) =
        (namespace.name(), namespace.queued_quota(shared.config.queued_per_namespace));
    let waits = || shared.queue.group_depth(name.as_str());
    let entered = namespace.entering().enter(new, quota, waits);
    let entered = entered.map_err(|there| {
        let owner = format!("namespace '{name}'");
        let full = Full { owner, quotas: ["queued_calls", "queued_bytes"], there, new, quota };
        let option = full.which("--queued-calls", "--queued-bytes");
        full.error(&format!("hanshu namespaces set {name} {option} N"))
    })?;
    Ok(Places { _function: function, _namespace: entered })
}

fn of_function(shared: &Shared, lane: &Lane, new: Depth, route: &Route) -> Result<Entered> {
    let (settings, default) = (&route.settings, shared.config.queued_per_function);
    let quota = Depth {
        messages: settings.max_queued_calls.unwrap_or(default.messages),
        bytes: settings.max_queued_bytes.unwrap_or(default.bytes),
    };
    route.entering().enter(new, quota, || shared.queue.depth(lane)).map_err(|there| {
        let owner = format!("function '{}'", route.key());
        let quotas = ["max_queued_calls", "max_queued_bytes"];
        let full = Full { owner, quotas, there, new, quota };
        let field = full.which(quotas[0], quotas[1]);
        full.error(&format!("hanshu config set {} {field}=N", route.key().name))
    })
}

/// A quota that a call did not fit in.
struct Full {
    owner: String,
    /// What the quotas of calls and of bytes are called.
    quotas: [&'static str; 2],
    there: Depth,
    new: Depth,
    quota: Depth,
}

impl Full {
    /// What belongs to the quota that is full.
    fn which<T>(&self, calls: T, bytes: T) -> T {
        if self.there.and(self.new).messages > self.quota.messages { calls } else { bytes }
    }

    fn error(&self, raise: &str) -> Error {
        let Self { owner, quotas: [calls, bytes], there, new, quota } = self;
        let message = self.which(
            format!("{} calls wait or run, and its quota {calls} is {}", there.messages, quota.messages),
            format!(
                "the calls that wait or run have {} bytes, this one has {}, and its quota {bytes} is {}",
                there.bytes, new.bytes, quota.bytes
            ),
        );
        Error::caller(Code::QueueFull, format!("the queue of {owner} is full: {message}"))
            .with_hint(format!("try again after Retry-After, or raise the quota with `{raise}`"))
            .retry_after(RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const ONE: Depth = Depth { messages: 1, bytes: 10 };

    #[test]
    fn many_at_once_fill_a_quota_and_never_pass_it() {
        const QUOTA: Depth = Depth { messages: 500, bytes: u64::MAX };
        let (entering, queued) = (Arc::new(Entering::default()), Arc::new(AtomicU64::new(0)));
        let start = Arc::new(Barrier::new(8));
        let most = std::thread::scope(|scope| {
            let producers: Vec<_> = (0..8)
                .map(|_| {
                    let (entering, queued, start) = (&entering, &queued, &start);
                    scope.spawn(move || {
                        start.wait();
                        let mut most = 0;
                        for _ in 0..1_000 {
                            let waits = || Depth {
                                messages: queued.load(Ordering::SeqCst),
                                ..Depth::default()
                            };
                            if let Ok(entered) = entering.enter(ONE, QUOTA, waits) {
                                std::thread::yield_now();
                                most = most.max(queued.fetch_add(1, Ordering::SeqCst) + 1);
                                drop(entered);
                            }
                        }
                        most
                    })
                })
                .collect();
            producers.into_iter().map(|p| p.join().unwrap()).max()
        });
        assert_eq!(most, Some(500));
        assert_eq!(*entering.lock(), Depth::default());
    }

    #[test]
    fn what_was_refused_or_did_not_come_takes_no_place() {
        let entering = Arc::new(Entering::default());
        let quota = Depth { messages: 3, bytes: 25 };
        let empty = || Depth::default();
        let first = entering.enter(ONE, quota, empty).unwrap();
        let second = entering.enter(ONE, quota, empty).unwrap();
        let there = entering.enter(ONE, quota, empty).unwrap_err();
        assert_eq!(there, Depth { messages: 2, bytes: 20 });
        drop((first, second));
        let waits = || Depth { messages: 2, bytes: 0 };
        drop(entering.enter(ONE, quota, waits).unwrap());
        let waits = || Depth { messages: 3, bytes: 0 };
        assert_eq!(entering.enter(ONE, quota, waits).unwrap_err().messages, 3);
    }
}
