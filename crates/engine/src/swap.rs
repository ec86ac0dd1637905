//! Hot swap: instances of what a change brings stand ready before it takes effect, so that no call waits for a start.
//!
//! Whoever is about to change a function's document asks [`prepare`] first, makes the change, waits until the engine has seen it, and then drops what it
//! was given. Pools of the change are kept, those that it leaves are retired by the route itself; their calls in flight end on them.
//!
//! Code that has never run is slow at first. So until it has run some times ([`Prepared::settle`]), a call that would have to wait for one of the new instances
//! is served by what they replace.

use std::sync::Arc;
use std::time::Duration;

use model::Result;
use model::error::{Code, Error, Origin};
use model::function::{Function, FunctionState, RuntimeInfo, Version};
use model::ids::Digest;
use model::invocation::Failure;
use model::network::NetworkPolicy;
use model::ports::StartFailed;

use crate::Shared;
use crate::pool::{NotReady, Pool, Room, stopping};
use crate::route::Holds;

/// How long new code may take its time before all calls are its own.
const SETTLE_MAX: Duration = Duration::from_millis(150);
/// How often is looked whether it has settled. When no call has ended since the last time, nobody waits.
const SETTLE_LOOK: Duration = Duration::from_millis(10);

/// What becomes of a change whose code cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faulty {
    /// It is refused.
    Refused,
    /// It takes effect all the same.
    Accepted,
}

/// Instances that stand ready for a change of a function. Dropped before the engine has seen the change, they end.
#[derive(Debug)]
#[must_use = "what is dropped does not stand ready"]
pub struct Prepared {
    shared: Arc<Shared>,
    holds: Holds,
}

impl Prepared {
    /// Waits until the new code has settled, once the engine has seen the change: it is warm, or no calls come, or 150 ms are over. Until then what it replaces
    /// serves the calls that would wait for it.
    pub async fn settle(self) {
        let (mut before, clock) = (self.holds.settling(), &self.shared.clock);
        let end = clock.instant() + SETTLE_MAX;
        while before.1 && clock.instant() < end {
            clock.sleep_until(clock.instant() + SETTLE_LOOK).await;
            let now = self.holds.settling();
            if now.0 == before.0 {
                break;
            }
            before = now;
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.shared.routes.let_go(&self.holds);
    }
}

/// See [`crate::Engine::prepare`].
pub(crate) async fn prepare(
    shared: &Arc<Shared>,
    next: &Function,
    faulty: Faulty,
) -> Result<Option<Prepared>> {
    let named = next.key().to_string();
    check(shared, next, faulty).await?;
    let holds = match shared.routes.hold(next, shared.clock.now()).await {
        Ok(Some(holds)) => holds,
        Ok(None) => return Ok(None),
        Err(error) => {
            tracing::warn!(function = named, %error, "nothing stands ready for a change");
            return Ok(None);
        }
    };
    let prepared = Prepared { shared: Arc::clone(shared), holds };
    let start = |(pool, n): &(Arc<Pool>, usize)| {
        let (pool, n) = (Arc::clone(pool), *n);
        shared
            .pools
            .tasks
            .spawn("stand-ready", async move { pool.make_ready(n, Room::Beside).await })
    };
    let starts: Vec<_> = prepared.holds.pools.iter().map(start).collect();
    for (start, (pool, n)) in starts.into_iter().zip(&prepared.holds.pools) {
        let version = pool.version.label();
        match start.await.unwrap_or_else(|_| Err(NotReady::Platform(stopping()))) {
            Ok(()) => {}
            Err(NotReady::Function(failure)) if faulty == Faulty::Refused => {
                return Err(refusal(&format!("{named}:{version}"), &failure));
            }
            Err(why) => {
                let why = why.to_string();
                tracing::warn!(function = named, %version, instances = n, why, "not all instances stand ready for a change");
            }
        }
    }
    Ok(Some(prepared))
}

/// Whether a document's newest change made `$LATEST` something else to load.
fn changes_code(next: &Function) -> bool {
    let Some(change) = &next.change else { return !next.deleted };
    let latest = |state: &Option<FunctionState>| match state {
        Some(FunctionState::Function { latest, .. }) => Some(Loaded::of(latest)),
        _ => None,
    };
    let after = latest(&change.after);
    after.is_some() && after != latest(&change.before)
}

/// What decides whether code can be loaded.
#[derive(PartialEq, Eq)]
struct Loaded {
    code: Digest,
    handler: String,
    runtime: RuntimeInfo,
    network: NetworkPolicy,
}

impl Loaded {
    fn of(version: &Version) -> Self {
        Self {
            code: version.code.digest,
            handler: version.config.handler.clone(),
            runtime: version.runtime.clone(),
            network: version.config.network.clone(),
        }
    }
}

/// Whether `$LATEST` can be loaded, as far as that shows before it runs. The sandbox makes ready what it can by the way.
async fn check(shared: &Arc<Shared>, next: &Function, faulty: Faulty) -> Result<()> {
    let (named, latest) = (next.key(), &next.latest);
    if !changes_code(next) {
        return Ok(());
    }
    match shared.pools.sandbox.check_code(latest).await {
        Err(StartFailed::Function(failure)) if faulty == Faulty::Refused => {
            Err(refusal(&format!("{named}:{}", latest.label()), &failure))
        }
        Err(StartFailed::Platform(error)) if error.origin() == Origin::Caller => Err(error),
        Err(StartFailed::Platform(error)) => {
            tracing::warn!(function = %named, %error, "code is not checked before a change");
            Ok(())
        }
        Err(StartFailed::Function(_)) | Ok(()) => Ok(()),
    }
}

/// The change is refused; nothing is changed by then.
fn refusal(version: &str, failure: &Failure) -> Error {
    let message = format!("version '{version}' cannot take calls: {}", NotReady::shown(failure));
    Error::function(Code::InitFailed, message).with_hint(
        "mend the code or the configuration; with `hanshu deploy --force`, or `force` in the request, the change is made all the same",
    )
}

#[cfg(test)]
mod tests {
    use model::invocation::FailureKind;

    use super::*;

    #[test]
    fn a_refusal_says_what_the_function_said_within_bounds() {
        let failure = Failure::new(FailureKind::Init, "SyntaxError", &"x".repeat(10_000));
        let error = refusal("default/f:$LATEST", &failure);
        assert_eq!(error.code(), Code::InitFailed);
        let begin = "version 'default/f:$LATEST' cannot take calls: its code cannot be loaded (init): SyntaxError: xxx";
        assert!(error.message().starts_with(begin), "{error}");
        assert!(error.message().chars().count() < 700, "{error}");
    }
}
