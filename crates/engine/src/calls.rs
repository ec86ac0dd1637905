//! Asynchronous calls from outside: found, listed, waited for, cancelled, brought back to life.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::Result;
use model::calls::Attempt;
use model::error::{Code, Error};
use model::ids::RequestId;
use model::ports::{Listing, Record, Standing, Summary};
use tokio::sync::Notify;

use crate::{Engine, drain};

/// Who may wait for calls at once.
const WAITERS_MAX: usize = 1_024;
/// How often a waiter looks by itself: a call may end on another node.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Calls that somebody here runs, or waits for.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    running: Mutex<HashMap<RequestId, Arc<Notify>>>,
    awaited: Mutex<HashMap<RequestId, Awaited>>,
}

#[derive(Debug, Default)]
struct Awaited {
    ended: Arc<Notify>,
    waiters: usize,
}

impl Watched {
    /// This call runs here, until the answer is dropped.
    pub(crate) fn run(&self, id: RequestId) -> Running<'_> {
        let cancelled = Arc::new(Notify::new());
        lock(&self.running).insert(id, Arc::clone(&cancelled));
        Running { watched: self, id, cancelled }
    }

    /// Ends the attempt at this call, if it runs here.
    fn cancel(&self, id: RequestId) {
        if let Some(cancelled) = lock(&self.running).get(&id) {
            cancelled.notify_one();
        }
    }

    /// Whoever waits for this call looks at it.
    pub(crate) fn ended(&self, id: RequestId) {
        if let Some(awaited) = lock(&self.awaited).get(&id) {
            awaited.ended.notify_waiters();
        }
    }

    fn wait(&self, id: RequestId) -> Result<Waiting<'_>> {
        let mut awaited = lock(&self.awaited);
        let count = awaited.len();
        let entry = match awaited.entry(id) {
            Entry::Vacant(_) if count >= WAITERS_MAX => {
                return Err(Error::caller(
                    Code::Throttled,
                    format!("{WAITERS_MAX} calls are waited for already"),
                ));
            }
            entry => entry.or_default(),
        };
        entry.waiters += 1;
        Ok(Waiting { watched: self, id, ended: Arc::clone(&entry.ended) })
    }
}

/// See [`Watched::run`].
#[derive(Debug)]
pub(crate) struct Running<'a> {
    watched: &'a Watched,
    id: RequestId,
    cancelled: Arc<Notify>,
}

impl Running<'_> {
    /// Returns once the call is cancelled.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = lock(&self.watched.running);
        // A lease that was lost and taken again here is another's.
        if running.get(&self.id).is_some_and(|known| Arc::ptr_eq(known, &self.cancelled)) {
            running.remove(&self.id);
        }
    }
}

struct Waiting<'a> {
    watched: &'a Watched,
    id: RequestId,
    ended: Arc<Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut awaited = lock(&self.watched.awaited);
        if let Entry::Occupied(mut entry) = awaited.entry(self.id) {
            entry.get_mut().waiters -= 1;
            if entry.get().waiters == 0 {
                entry.remove();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is kept of an asynchronous call.
#[derive(Clone, Debug)]
pub struct KeptCall {
    /// Where it stands.
    pub summary: Summary,
    /// What became of each attempt and refusal, oldest first.
    pub history: Vec<Attempt>,
    /// The function's answer, if it succeeded and that was not too long to keep.
    pub result: Option<Bytes>,
    /// What the function said before that, if it answered in pieces to a caller who waited.
    pub(crate) prelude: Option<Bytes>,
    /// Its event, unless it succeeded or was cancelled.
    pub event: Option<Bytes>,
}

impl From<Record> for KeptCall {
    fn from(record: Record) -> Self {
        let history = record.notes.iter().filter_map(|note| Attempt::read(note)).collect();
        let event = record.payload.as_ref().and_then(drain::event);
        let prelude = record.notes.last().and_then(|note| drain::prelude(note));
        Self { prelude, summary: record.summary, history, result: record.result, event }
    }
}

impl Engine {
    /// What is kept of an asynchronous call.
    pub async fn call(&self, id: RequestId) -> Result<Option<KeptCall>> {
        Ok(self.shared.queue.find(id).await?.map(KeptCall::from))
    }

    /// The same once it has ended, or at `until` as it stands then.
    ///
    /// Errors: `throttled` where very many are waited for already.
    pub async fn call_ended(&self, id: RequestId, until: Instant) -> Result<Option<KeptCall>> {
        let (clock, waiting) = (&self.shared.clock, self.shared.watched.wait(id)?);
        loop {
            // Registered before the look: an end after it wakes us.
            let mut ended = std::pin::pin!(waiting.ended.notified());
            ended.as_mut().enable();
            let call = self.call(id).await?;
            let now = clock.instant();
            let goes_on =
                call.as_ref().is_some_and(|c| !matches!(c.summary.standing, Standing::Ended(..)));
            if !goes_on || now >= until || self.shared.tasks.is_ending() {
                return Ok(call);
            }
            tokio::select! {
                () = ended => {}
                () = clock.sleep_until(until.min(now + LOOK_AGAIN)) => {}
            }
        }
    }

    /// Asynchronous calls, the newest first.
    ///
    /// Errors: `not-found` where the page's beginning is not known any more.
    pub async fn calls(&self, listing: Listing) -> Result<Vec<Summary>> {
        self.shared.queue.list(listing).await
    }

    /// Calls an asynchronous call off; one that runs is ended with its instance.
    ///
    /// Errors: `not-found`; `conflict` once it has ended.
    pub async fn cancel_call(&self, id: RequestId) -> Result<()> {
        let attempt = Attempt {
            at: self.shared.clock.now(),
            attempt: 0,
            version: None,
            duration_ms: None,
            outcome: "cancelled".into(),
            message: None,
        };
        let keep = self.keep_result(id).await?;
        self.shared.queue.cancel(id, attempt.note(), keep).await?;
        self.shared.watched.cancel(id);
        self.shared.watched.ended(id);
        Ok(())
    }

    /// How long what came of a call is kept, as its function says.
    async fn keep_result(&self, id: RequestId) -> Result<Duration> {
        let record = self.shared.queue.find(id).await?;
        let key = record.and_then(|record| record.summary.lane.function());
        let settings = key.and_then(|key| self.shared.routes.settings(&key)).unwrap_or_default();
        Ok(settings.async_calls.keep_result())
    }

    /// Accepts a dead call once more, with all its attempts before it.
    ///
    /// Errors: `not-found`; `conflict` if it is not dead.
    pub async fn redrive_call(&self, id: RequestId) -> Result<()> {
        self.shared.queue.redrive(id).await
    }

    /// Forgets a call that has ended; says whether there was one.
    ///
    /// Errors: `conflict` if it has not ended.
    pub async fn forget_call(&self, id: RequestId) -> Result<bool> {
        self.shared.queue.forget(id).await
    }
}
