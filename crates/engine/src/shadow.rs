//! Copies of calls for an alias's shadow: another version that runs them beside the first, so that both answers can be compared.
//!
//! A copy starts with its call, in the background. The caller never waits for it and never sees a fault of it; where it would get into anybody's way it is not
//! made but counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use model::Result;
use model::clock::UnixMillis;
use model::ids::{AliasName, FunctionKey, RequestId, VersionRef};
use model::invocation::{Call, Completed, Failure};
use model::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::Shared;
use crate::attempt::attempt;
use crate::route::Lead;
use crate::route::alias::AliasRoute;

/// Pairs that wait to be compared. Each may hold two answers of `limits::RESPONSE_BYTES`.
const PAIRS: usize = 32;

/// The two answers to one call.
#[derive(Clone, Debug)]
pub struct ShadowPair {
    /// The function's id.
    pub function_id: RequestId,
    /// The function.
    pub function: FunctionKey,
    /// Its alias that was called.
    pub alias: AliasName,
    /// When both answers were there.
    pub time: UnixMillis,
    /// The call.
    pub request: RequestId,
    /// The id under which the copy ran.
    pub shadow_request: RequestId,
    /// What the caller got.
    pub answer: Answer,
    /// What the shadow said.
    pub shadow: Answer,
    /// Copies of this alias's calls that were not made since the pair before.
    pub skipped: u64,
}

/// What one version answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The version.
    pub version: VersionRef,
    /// The answer, or how the function failed.
    pub result: Result<Bytes, Failure>,
    /// How long the function ran, in microseconds.
    pub us: u64,
}

impl Answer {
    fn of(version: VersionRef, completed: &Completed) -> Self {
        let outcome = &completed.outcome;
        Self { version, result: outcome.result.clone(), us: outcome.run_us }
    }
}

/// How many copies were not made.
#[derive(Debug, Default)]
pub(crate) struct Skipped(AtomicU64);

impl Skipped {
    fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Room for copies, and the line of pairs.
#[derive(Debug)]
pub(crate) struct Shadows {
    room: Arc<Semaphore>,
    pairs: mpsc::Sender<ShadowPair>,
    receiver: Mutex<Option<mpsc::Receiver<ShadowPair>>>,
}

impl Shadows {
    pub(crate) fn new() -> Self {
        let (pairs, receiver) = mpsc::channel(PAIRS);
        Self {
            room: Arc::new(Semaphore::new(limits::SHADOWS_AT_ONCE)),
            pairs,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// The pairs; handed out once.
    pub(crate) fn receiver(&self) -> Option<mpsc::Receiver<ShadowPair>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Who waits for the first answer.
#[derive(Debug)]
pub(crate) struct Copied(oneshot::Sender<Answer>);

impl Copied {
    /// Tells what the caller gets. A call that came to no outcome has nothing to compare.
    pub(crate) fn answered(self, version: VersionRef, result: &Result<Completed>) {
        if let Ok(completed) = result {
            // The copy may be over already, without an outcome.
            drop(self.0.send(Answer::of(version, completed)));
        }
    }
}

/// Starts a copy of `call`, if it is one of the share that is copied.
pub(crate) fn copy(shared: &Arc<Shared>, lead: &Lead, call: &Call) -> Option<Copied> {
    let alias = lead.alias.as_ref()?;
    let version = alias.copied(&call.id)?;
    let Ok(permit) = Arc::clone(&shared.shadows.room).try_acquire_owned() else {
        alias.skipped.add(1);
        return None;
    };
    let (sender, answered) = oneshot::channel();
    let task = Copy {
        shared: Arc::clone(shared),
        lead: lead.clone(),
        alias: Arc::clone(alias),
        version,
        request: call.id,
        call: Call { id: RequestId::generate(), ..call.clone() },
        answered,
    };
    shared.tasks.spawn_until_cancelled("shadow-call", task.run(permit));
    Some(Copied(sender))
}

/// One copy.
#[derive(Debug)]
struct Copy {
    shared: Arc<Shared>,
    lead: Lead,
    alias: Arc<AliasRoute>,
    version: VersionRef,
    request: RequestId,
    call: Call,
    answered: oneshot::Receiver<Answer>,
}

impl Copy {
    /// `permit` bounds how many payloads are held for copies; it comes back when the pair is under way.
    async fn run(self, permit: OwnedSemaphorePermit) {
        let Self { shared, lead, alias, version, request, call, answered } = self;
        let shadow_request = call.id;
        let Some(shadow) = attempt_copy(&shared, &lead, version, call).await else {
            return alias.skipped.add(1);
        };
        let Ok(answer) = answered.await else { return };
        let skipped = alias.skipped.take();
        let pair = ShadowPair {
            function_id: lead.route.id(),
            function: lead.route.key().clone(),
            alias: alias.name.clone(),
            time: shared.clock.now(),
            request,
            shadow_request,
            answer,
            shadow,
            skipped,
        };
        if shared.shadows.pairs.try_send(pair).is_err() {
            alias.skipped.add(skipped + 1);
        }
        drop(permit);
    }
}

/// What the shadow answers; `None` where there is no room for it, or it comes to no outcome.
async fn attempt_copy(
    shared: &Shared,
    lead: &Lead,
    version: VersionRef,
    call: Call,
) -> Option<Answer> {
    let accepted = shared.clock.instant();
    let pool = shared.routes.pool_of(lead, version).await.ok()?;
    if !pool.has_room() {
        return None;
    }
    let lead = Lead { version, ..lead.clone() };
    let completed = attempt(shared, &lead, pool, call, 1, accepted).await.ok()?;
    Some(Answer::of(version, &completed))
}
