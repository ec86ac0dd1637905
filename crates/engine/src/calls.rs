//! Asynchronous calls from outside: found, listed, waited for, cancelled, brought back to life.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::Result;
use model::calls::Attempt;
use model::error::{Code, Error};
use model::ids::RequestId;
use model::ports::{Depth, Ended, Listing, Record, Standing, Summary};
use tokio::sync::{Notify, mpsc};

use crate::drain::{self, OnEnd};
use crate::{Engine, Shared, backlog};

/// Who may wait for calls at once.
const WAITERS_MAX: usize = 1_024;
/// How often a waiter looks by itself: a call may end on another node.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Calls that somebody here runs, or waits for.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    running: Mutex<HashMap<RequestId, Arc<Notify>>>,
    awaited: Mutex<HashMap<RequestId, Awaited>>,
    /// Who is told by a message that a call has ended, once.
    followed: Mutex<HashMap<RequestId, mpsc::Sender<RequestId>>>,
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
        if let Some(follower) = lock(&self.followed).remove(&id) {
            // One who has gone, or has as much to look at as was agreed, looks at the calls by itself.
            follower.try_send(id).unwrap_or_default();
        }
    }

    /// For one who waits for many calls, at most `most` at once.
    pub(crate) fn follower(&self, most: usize) -> Follower<'_> {
        let (sender, receiver) = mpsc::channel(most.max(1));
        Follower { watched: self, sender, receiver, ids: HashSet::new() }
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

/// Hears of the ends of the calls that it follows. One that ended before it was followed is not told.
#[derive(Debug)]
pub(crate) struct Follower<'a> {
    watched: &'a Watched,
    sender: mpsc::Sender<RequestId>,
    receiver: mpsc::Receiver<RequestId>,
    ids: HashSet<RequestId>,
}

impl Follower<'_> {
    pub(crate) fn follow(&mut self, id: RequestId) {
        self.ids.insert(id);
        lock(&self.watched.followed).insert(id, self.sender.clone());
    }

    /// It is known how this call ended.
    pub(crate) fn leave(&mut self, id: RequestId) {
        if self.ids.remove(&id) {
            lock(&self.watched.followed).remove(&id);
        }
    }

    /// The next call that has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> RequestId {
        match self.receiver.recv().await {
            Some(id) => id,
            // Never: there is a sender here.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        let mut followed = lock(&self.watched.followed);
        for id in &self.ids {
            followed.remove(id);
        }
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
    /// What tells somebody of its end.
    pub destination: Option<KeptDestination>,
}

/// What is kept of a message that tells of a call's end.
#[derive(Clone, Debug)]
pub struct KeptDestination {
    /// Where it stands.
    pub summary: Summary,
    /// What was said when it was tried last, if there is something to say.
    pub message: Option<String>,
}

impl From<Record> for KeptCall {
    fn from(record: Record) -> Self {
        let history = record.notes.iter().filter_map(|note| Attempt::read(note)).collect();
        let event = record.payload.as_ref().and_then(drain::event);
        let prelude = record.notes.last().and_then(|note| drain::prelude(note));
        let (summary, result, destination) = (record.summary, record.result, None);
        Self { summary, history, result, prelude, event, destination }
    }
}

impl Engine {
    /// What is kept of an asynchronous call.
    pub async fn call(&self, id: RequestId) -> Result<Option<KeptCall>> {
        match self.kept(id).await? {
            Some(call) => self.with_destination(call).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same without what tells of its end.
    pub(crate) async fn kept(&self, id: RequestId) -> Result<Option<KeptCall>> {
        Ok(self.shared.queue.find(id).await?.map(KeptCall::from))
    }

    async fn with_destination(&self, call: KeptCall) -> Result<KeptCall> {
        let Summary { id, standing, enqueued_at, .. } = call.summary;
        let on = match standing {
            Standing::Ended(Ended::Succeeded, _) => OnEnd::Success,
            Standing::Ended(Ended::Dead, _) => OnEnd::Failure,
            _ => return Ok(call),
        };
        let told = self.shared.queue.find(drain::told_by(id, enqueued_at, on)).await?;
        let destination = told.map(|record| {
            let last = record.notes.last().and_then(|note| Attempt::read(note));
            KeptDestination { summary: record.summary, message: last.and_then(|a| a.message) }
        });
        Ok(KeptCall { destination, ..call })
    }

    /// What is kept of a call once it has ended, or at `until` as it stands then.
    ///
    /// Errors: `throttled` where very many are waited for already.
    pub async fn call_ended(&self, id: RequestId, until: Instant) -> Result<Option<KeptCall>> {
        match self.kept_ended(id, until).await? {
            Some(call) => self.with_destination(call).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same without what tells of its end.
    pub(crate) async fn kept_ended(
        &self,
        id: RequestId,
        until: Instant,
    ) -> Result<Option<KeptCall>> {
        let (clock, waiting) = (&self.shared.clock, self.shared.watched.wait(id)?);
        loop {
            // Registered before the look: an end after it wakes us.
            let mut ended = std::pin::pin!(waiting.ended.notified());
            ended.as_mut().enable();
            let call = self.kept(id).await?;
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

    /// Calls an asynchronous call off that was found; one that runs is ended with its instance.
    ///
    /// Errors: `not-found`; `conflict` once it has ended.
    pub async fn cancel_call(&self, call: &Summary) -> Result<()> {
        self.shared.cancel_call(call).await
    }

    /// Accepts a dead call that was found once more, with all its attempts before it.
    ///
    /// Errors: `not-found`; `conflict` if it is not dead; `queue-full` where there is no room for it.
    pub async fn redrive_call(&self, call: &Summary) -> Result<()> {
        let shared = &self.shared;
        let key = call.lane.function();
        let is_dead = matches!(call.standing, Standing::Ended(Ended::Dead, _));
        let _places = match key.filter(|_| is_dead) {
            None => None,
            Some(key) => {
                let new = Depth { messages: 1, bytes: call.bytes };
                let namespace = shared.pools.admission.namespace(&key.namespace);
                // Of a function that is gone, only its namespace is left.
                let route = shared.routes.route(&key).ok();
                Some(backlog::enter(shared, &call.lane, new, route.as_deref(), &namespace)?)
            }
        };
        shared.queue.redrive(call.id).await
    }

    /// Forgets a call that has ended; says whether there was one.
    ///
    /// Errors: `conflict` if it has not ended.
    pub async fn forget_call(&self, id: RequestId) -> Result<bool> {
        self.shared.queue.forget(id).await
    }
}

impl Shared {
    /// See [`Engine::cancel_call`].
    pub(crate) async fn cancel_call(&self, call: &Summary) -> Result<()> {
        let attempt = Attempt::without_run(self.clock.now(), 0, "cancelled", None);
        let settings = call.lane.function().and_then(|key| self.routes.settings(&key));
        let keep = settings.unwrap_or_default().async_calls.keep_result();
        self.queue.cancel(call.id, attempt.note(), keep).await?;
        self.watched.cancel(call.id);
        self.watched.ended(call.id);
        Ok(())
    }
}
