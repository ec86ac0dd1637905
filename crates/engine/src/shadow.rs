//! Copies of calls for an alias's shadow: another version that runs them beside the first, so that both answers can be compared.
//!
//! A copy starts with its call, in the background. The caller never waits for it and never sees a fault of it; where it would get into anybody's way it is not
//! made but counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::Result;
use model::clock::UnixMillis;
use model::ids::{AliasName, FunctionKey, RequestId, VersionRef};
use model::invocation::{Call, Completed, Failure};
use model::limits;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::Shared;
use crate::attempt::attempt;
use crate::route::alias::AliasRoute;
use crate::route::{Lead, Route};

/// Pairs that wait to be compared.
const PAIRS: usize = 32;
/// Largest answer that a pair holds whole, in bytes: of a larger one there is nothing to learn but whether it is the same.
pub const SHADOW_WHOLE_BYTES: usize = 256 * 1024;
/// What a pair holds of a larger one.
const BEGIN_BYTES: usize = 1024;
/// How long copies that were not made wait for a pair that tells of them.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// What there is to tell of the shadow of an alias.
#[derive(Debug)]
pub enum Shadowed {
    /// A call was copied.
    Pair(Box<ShadowPair>),
    /// No call was copied for a while, though some should have been.
    Skipped(ShadowSkips),
}

/// Copies that were not made.
#[derive(Debug)]
pub struct ShadowSkips {
    /// The function's id.
    pub function_id: RequestId,
    /// The function.
    pub function: FunctionKey,
    /// Its alias that was called.
    pub alias: AliasName,
    /// The shadow.
    pub version: VersionRef,
    /// When the first of them was not made.
    pub time: UnixMillis,
    /// How many they are.
    pub skipped: u64,
}

/// The two answers to one call.
#[derive(Debug)]
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
    /// Whether both are the same bytes.
    pub identical: bool,
    /// Copies of this alias's calls that were not made since the pair before.
    pub skipped: u64,
    /// Held until the answers were compared.
    pub room: Room,
}

/// Room for one copy. As long as it is held there is less for others.
#[derive(Debug, Default)]
pub struct Room {
    _permit: Option<OwnedSemaphorePermit>,
}

/// What one version answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The version.
    pub version: VersionRef,
    /// The answer, or how the function failed; of a large one its beginning.
    pub result: Result<Bytes, Failure>,
    /// How long the answer is, in bytes.
    pub length: usize,
    /// How long the function ran, in microseconds.
    pub us: u64,
}

impl Answer {
    fn of(version: VersionRef, completed: &Completed) -> Self {
        let outcome = &completed.outcome;
        Self::new(version, outcome.result.clone(), outcome.run_us)
    }

    /// What `version` answered, whole.
    pub fn new(version: VersionRef, result: Result<Bytes, Failure>, us: u64) -> Self {
        let mut answer = Self { version, result, length: 0, us };
        answer.length = answer.bytes().len();
        answer
    }

    /// The answer or the error, as far as it is there.
    pub fn bytes(&self) -> &Bytes {
        match &self.result {
            Ok(answer) => answer,
            Err(failure) => &failure.payload,
        }
    }

    /// Whether only its beginning is there.
    pub fn is_cut(&self) -> bool {
        self.bytes().len() < self.length
    }

    /// Of a large answer the beginning alone.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let bytes = match &mut self.result {
            Ok(answer) => answer,
            Err(failure) => &mut failure.payload,
        };
        if bytes.len() > SHADOW_WHOLE_BYTES {
            // A copy: a part would keep the whole.
            *bytes = Bytes::copy_from_slice(bytes.get(..BEGIN_BYTES).unwrap_or_default());
        }
        self
    }
}

/// How many copies of an alias's calls were not made.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    count: AtomicU64,
    /// Whether a task waits to tell of them.
    told: AtomicBool,
}

impl Skipped {
    fn add(&self, n: u64) {
        self.count.fetch_add(n, Ordering::Relaxed);
    }

    fn take(&self) -> u64 {
        self.count.swap(0, Ordering::Relaxed)
    }

    /// Whether nobody else is about to tell.
    fn will_tell(&self) -> bool {
        !self.told.swap(true, Ordering::SeqCst)
    }
}

/// Counts copies that were not made. The next pair tells of them, or, if none comes, a task.
fn skip(shared: &Arc<Shared>, route: &Route, alias: &Arc<AliasRoute>, n: u64) {
    alias.skipped.add(n);
    let Some(shadow) = alias.alias.shadow else { return };
    if alias.skipped.will_tell() {
        let skips = ShadowSkips {
            function_id: route.id(),
            function: route.key().clone(),
            alias: alias.name.clone(),
            version: shadow.version,
            time: shared.clock.now(),
            skipped: 0,
        };
        let telling = tell(Arc::clone(shared), Arc::clone(&alias.skipped), skips);
        shared.tasks.spawn_until_cancelled("shadow-skips", telling);
    }
}

/// Tells of copies that were not made, once they waited for a pair for long enough.
async fn tell(shared: Arc<Shared>, counted: Arc<Skipped>, mut skips: ShadowSkips) {
    loop {
        shared.clock.sleep_until(shared.clock.instant() + TELL_AFTER).await;
        // What comes from here on may need another task.
        counted.told.store(false, Ordering::SeqCst);
        skips.skipped = counted.take();
        if skips.skipped == 0 {
            return;
        }
        match shared.shadows.news.try_send(Shadowed::Skipped(skips)) {
            Err(TrySendError::Full(Shadowed::Skipped(again))) => {
                counted.add(again.skipped);
                skips = again;
            }
            _ => return,
        }
        if !counted.will_tell() {
            return;
        }
    }
}

/// Room for copies, and the line of pairs.
#[derive(Debug)]
pub(crate) struct Shadows {
    room: Arc<Semaphore>,
    news: mpsc::Sender<Shadowed>,
    receiver: Mutex<Option<mpsc::Receiver<Shadowed>>>,
}

impl Shadows {
    pub(crate) fn new() -> Self {
        let (news, receiver) = mpsc::channel(PAIRS);
        Self {
            room: Arc::new(Semaphore::new(limits::SHADOWS_AT_ONCE)),
            news,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// What there is to tell; handed out once.
    pub(crate) fn receiver(&self) -> Option<mpsc::Receiver<Shadowed>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Who waits for the first answer.
#[derive(Debug)]
pub(crate) struct Copied(oneshot::Sender<Option<Answer>>);

impl Copied {
    /// Tells what the caller gets. A call that came to no outcome has nothing to compare.
    pub(crate) fn answered(self, version: VersionRef, result: &Result<Completed>) {
        if let Ok(completed) = result {
            // The copy may be over already, without an outcome.
            drop(self.0.send(Some(Answer::of(version, completed))));
        }
    }

    /// Tells that the caller's answer was not held.
    pub(crate) fn not_comparable(self) {
        drop(self.0.send(None));
    }
}

/// Starts a copy of `call`, if it is one of the share that is copied.
pub(crate) fn copy(shared: &Arc<Shared>, lead: &Lead, call: &Call) -> Option<Copied> {
    let alias = lead.alias.as_ref()?;
    let version = alias.copied(&call.id)?;
    // What was read of a body is gone.
    if call.context.body.is_some() {
        skip(shared, &lead.route, alias, 1);
        return None;
    }
    let Ok(permit) = Arc::clone(&shared.shadows.room).try_acquire_owned() else {
        skip(shared, &lead.route, alias, 1);
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
    answered: oneshot::Receiver<Option<Answer>>,
}

impl Copy {
    /// `permit` bounds how many payloads and answers are held for copies; it goes with the pair.
    async fn run(self, permit: OwnedSemaphorePermit) {
        let Self { shared, lead, alias, version, request, call, answered } = self;
        let shadow_request = call.id;
        let Some(shadow) = attempt_copy(&shared, &lead, version, call).await else {
            return skip(&shared, &lead.route, &alias, 1);
        };
        let Ok(answer) = answered.await else { return };
        let Some(answer) = answer else { return skip(&shared, &lead.route, &alias, 1) };
        let skipped = alias.skipped.take();
        let identical = answer.result == shadow.result;
        let pair = ShadowPair {
            function_id: lead.route.id(),
            function: lead.route.key().clone(),
            alias: alias.name.clone(),
            time: shared.clock.now(),
            request,
            shadow_request,
            answer: answer.cut(),
            shadow: shadow.cut(),
            identical,
            skipped,
            room: Room { _permit: Some(permit) },
        };
        if shared.shadows.news.try_send(Shadowed::Pair(Box::new(pair))).is_err() {
            skip(&shared, &lead.route, &alias, skipped + 1);
        }
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
