//! From the durable queue to the same attempt that synchronous calls take.
//!
//! A message is settled exactly once per lease: ended on success, due again or dead otherwise. A daemon that dies in between takes its leases back when it starts
//! again, and the calls run again: what was cut counts as an attempt, so that a call that kills the daemon each time is given up like any other. [`lanes`] decides whose turn it is, [`run`] runs one call, [`envelope`] is its form in the queue.

mod destination;
mod envelope;
mod lanes;
mod prelude;
mod run;
mod webhook;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::Result;
use model::alias::{Carried, Parameters};
use model::clock::Jumps;
use model::error::{Code, Error};
use model::invocation::{Call, Completed};
use model::limits;
use model::map::is_of_map;
use model::ports::{Batch, Begun, Depth, Enqueued, Lane, Leased, NewMessage, UniqueKey};
use tokio::sync::mpsc;

pub(crate) use self::destination::{OnEnd, told_by};
pub(crate) use self::envelope::{ChunkRules, Queued, event, pack};
use self::lanes::{Found, Lanes, Turn};
pub(crate) use self::prelude::prelude;
use crate::route::Route;
use crate::route::alias::AliasRoute;
use crate::{Shared, backlog, once};

/// Leases under way at once: they share the store's commits.
const LEASES: usize = 32;
/// Pause after the queue itself failed.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);
/// Longest sleep: bounds what a jump of the host's clock can delay.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// What can be asked of an asynchronous call beside what it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnqueueOptions {
    /// It is due after this: at most [`limits::ASYNC_DELAY_SECONDS`].
    pub delay: Duration,
}

impl EnqueueOptions {
    /// Errors: `invalid-parameter`.
    fn check(&self) -> Result<()> {
        let (delay, most) = (self.delay.as_secs(), limits::ASYNC_DELAY_SECONDS);
        if self.delay <= Duration::from_secs(most) {
            return Ok(());
        }
        let message = format!("delay {delay} s is too long: expected at most {most}");
        Err(Error::caller(Code::InvalidParameter, message))
    }
}

/// Accepts a call durably, with those of its parameters that it may need.
pub(crate) async fn enqueue(
    shared: &Shared,
    call: Call,
    parameters: &dyn Parameters,
    options: EnqueueOptions,
) -> Result<Enqueued> {
    options.check()?;
    let (route, alias) = shared.routes.find(&call.target)?;
    route.namespace().take_call(|| shared.clock.instant())?;
    let key = once::key(&route.settings, &call, parameters, &*shared.clock)?;
    let run_at = shared.clock.now().after(options.delay);
    let due = (!options.delay.is_zero()).then_some(run_at);
    let queued = Queued { due, ..Queued::of(call) };
    let message = message(shared, queued, parameters, alias.as_deref(), key)?;
    let _places = enter(shared, &message, &route)?;
    let answers = shared.queue.enqueue(vec![NewMessage { run_at, ..message }]).await?;
    match answers.into_iter().next() {
        Some(Enqueued::Different(first)) => Err(once::reused(first)),
        Some(answer) => Ok(answer),
        None => Err(Error::internal("the queue gave no answer")),
    }
}

/// The message of a call whose caller waits.
pub(crate) fn awaited(
    shared: &Shared,
    call: Call,
    parameters: &dyn Parameters,
    alias: Option<&AliasRoute>,
    key: UniqueKey,
) -> Result<NewMessage> {
    let queued = Queued { awaited: true, ..Queued::of(call) };
    message(shared, queued, parameters, alias, Some(key))
}

/// Stores the message of a call whose caller waits, on lease from the beginning.
///
/// Errors: `queue-full` among others.
pub(crate) async fn begin(shared: &Shared, route: &Route, message: NewMessage) -> Result<Begun> {
    let _places = enter(shared, &message, route)?;
    shared.queue.begin(message, shared.config.async_lease).await
}

/// Places on the way into the queue.
fn enter(shared: &Shared, message: &NewMessage, route: &Route) -> Result<backlog::Places> {
    let new = Depth { messages: 1, bytes: message.payload.len() as u64 };
    backlog::enter(shared, &message.lane, new, Some(route), route.namespace())
}

/// Runs a call whose caller waits, once; `None` if somebody else has it now, or it was called off.
pub(crate) async fn run_awaited(
    shared: &Arc<Shared>,
    message: Leased,
) -> Option<Result<Completed>> {
    run::run(shared, message, true).await.1
}

/// The message of a call that is due now. `alias`: the one that it names.
fn message(
    shared: &Shared,
    mut queued: Queued,
    parameters: &dyn Parameters,
    alias: Option<&AliasRoute>,
    key: Option<UniqueKey>,
) -> Result<NewMessage> {
    let call = &queued.call;
    if call.payload.len() > limits::ASYNC_PAYLOAD_BYTES {
        return Err(Error::caller(
            Code::PayloadTooLarge,
            format!(
                "payload of an asynchronous call, or of one with a key, is {} bytes: expected at most {}",
                call.payload.len(),
                limits::ASYNC_PAYLOAD_BYTES
            ),
        ));
    }
    let (id, lane) = (call.id, Lane::from(&call.target.key));
    queued.parameters = Carried::take(parameters, alias.iter().flat_map(|a| a.parameters()));
    let payload = pack(queued)?;
    Ok(NewMessage { id, lane, run_at: shared.clock.now(), key, payload })
}

/// Takes back what an earlier run of this daemon had on lease: nobody else is at it.
async fn take_back(shared: &Arc<Shared>) {
    loop {
        let (now, known) = (shared.clock.now(), Arc::clone(shared));
        let note = move |lane: &Lane, attempt| {
            let most = if is_of_map(lane) {
                limits::MAP_ATTEMPTS_MAX
            } else if destination::is_webhook(lane) {
                destination::WEBHOOK_ATTEMPTS
            } else {
                let settings = lane.function().and_then(|key| known.routes.settings(&key));
                settings.unwrap_or_default().async_calls.attempts()
            };
            run::cut(most, now, attempt).map(|cut| cut.note())
        };
        match shared.queue.reclaim(Arc::new(note)).await {
            Ok(calls) => {
                if calls > 0 {
                    tracing::info!(calls, "calls that were cut wait again");
                }
                shared.taken_back.send_replace(true);
                return;
            }
            Err(error) => {
                tracing::error!(%error, "cannot take back the calls that were cut");
                shared.clock.sleep_until(shared.clock.instant() + QUEUE_PAUSE).await;
            }
        }
    }
}

/// Leases messages and runs them until the engine stops.
pub(crate) async fn drain(shared: Arc<Shared>) {
    let stop = shared.tasks.cancelled();
    tokio::select! {
        () = stop.cancelled() => return,
        () = take_back(&shared) => {}
    }
    let mut jumps = Jumps::of(&*shared.clock);
    let (mut watch, mut lanes) =
        (shared.queue.watch(), Lanes::new(shared.config.async_concurrency));
    let (tell, mut told) = mpsc::channel(shared.config.async_concurrency.max(1));
    let mut leases = FuturesUnordered::new();
    while !stop.is_cancelled() {
        if jumps.look(&*shared.clock).is_some() {
            lanes.look_at_all();
        }
        lanes.time(shared.clock.now());
        while leases.len() < LEASES
            && let Some(turn) = lanes.next()
        {
            leases.push(lease(&shared, turn));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((turn, batch)) = leases.next() => {
                let (n, more) = (batch.messages.len(), batch.messages.len() == turn.n);
                lanes.leased(&turn, n, more, batch.next_due);
                start(&shared, &turn.lane, batch, &tell);
            }
            Some((lane, found)) = told.recv() => lanes.over(&lane, found),
            changed = watch.changed() => match changed {
                Ok(changed) => changed.iter().for_each(|lane| lanes.due(lane)),
                // Closed: the daemon is about to end.
                Err(_) => shared.clock.sleep_until(shared.clock.instant() + QUEUE_PAUSE).await,
            },
            () = shared.clock.sleep_until(wake_at(&shared, &lanes)) => {}
        }
    }
}

/// When to look at the lanes again if nothing is heard of any.
fn wake_at(shared: &Shared, lanes: &Lanes) -> Instant {
    let until = lanes.next_time().map_or(SLEEP_MAX, |at| shared.clock.now().until(at));
    shared.clock.instant() + until.min(SLEEP_MAX)
}

/// A lane's turn; a queue that fails is asked again after a pause.
async fn lease(shared: &Shared, turn: Turn) -> (Turn, Batch) {
    match shared.queue.lease(&turn.lane, turn.n, shared.config.async_lease).await {
        Ok(batch) => (turn, batch),
        Err(error) => {
            tracing::error!(lane = %turn.lane, %error, source = ?std::error::Error::source(&error), "cannot lease queued calls");
            shared.clock.sleep_until(shared.clock.instant() + QUEUE_PAUSE).await;
            let next_due = Some(shared.clock.now());
            (turn, Batch { messages: Vec::new(), next_due })
        }
    }
}

/// Runs the messages of a lease, each in a task of its own.
fn start(shared: &Arc<Shared>, lane: &Lane, batch: Batch, tell: &mpsc::Sender<(Lane, Found)>) {
    for message in batch.messages {
        let (shared, lane, tell) = (Arc::clone(shared), lane.clone(), tell.clone());
        let tasks = shared.tasks.clone();
        drop(tasks.spawn("queued-call", async move {
            let (found, _) = run::run(&shared, message, false).await;
            // There is room for as many as run; the receiver goes when the engine stops.
            drop(tell.send((lane, found)).await);
        }));
    }
}
