//! Where an instance and the endpoints meet: the state of the runtime, the call that it has, and who waits for the answer.
//!
//! States and transitions are those of AWS Lambda's own emulator, `aws-lambda-runtime-interface-emulator`:
//!
//! ```text
//! Started ──next──▶ Ready ──a call──▶ Running ──response──▶ InvocationResponse ─────────▶ ResponseSent ──next──▶ Ready
//!    └──init/error──▶ InitError          └────error───────▶ InvocationErrorResponse ────────▲
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::clock::UnixMillis;
use model::ids::RequestId;
use model::invocation::{Failure, Invocation};
use serde_json::json;
use tokio::sync::{Notify, mpsc, oneshot};

use super::extensions::{self, Extensions};

/// One call, as the runtime gets it.
#[derive(Debug)]
pub(crate) struct Event {
    /// With the AWS-style name by which the function was called.
    pub(crate) call: Invocation,
    /// When it has to be over.
    pub(crate) deadline: UnixMillis,
}

/// What extensions are told of the function.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// Its name, without the namespace.
    pub(crate) name: String,
    /// `$LATEST` or the version's number.
    pub(crate) version: String,
    pub(crate) handler: String,
}

/// What comes of the runtime's start.
#[derive(Debug)]
pub(crate) enum Init {
    /// It asks for its first call, and so do all extensions.
    Ready,
    /// It says that it cannot.
    Failed(Failure),
}

/// What the runtime answers to a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All of it.
    Whole(Bytes),
    /// It failed, in its words or in ours. It goes on.
    Failed(Failure),
    /// It comes in pieces.
    Pieces {
        /// What stands before them: JSON, not checked.
        prelude: Bytes,
        pieces: Pieces,
    },
}

/// The pieces of an answer. If they end without [`Piece::End`] the runtime broke off.
pub(crate) type Pieces = mpsc::Receiver<Piece>;

/// A part of an answer that comes in pieces.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// Nothing more will come.
    End(Result<(), Failure>),
}

/// Where the runtime is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Started,
    InitError,
    Ready,
    Running,
    InvocationResponse,
    InvocationErrorResponse,
    ResponseSent,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "Started",
            Self::InitError => "InitError",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InvocationResponse => "InvocationResponse",
            Self::InvocationErrorResponse => "InvocationErrorResponse",
            Self::ResponseSent => "ResponseSent",
        })
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not the time for it.
    Transition { from: Phase, to: Phase },
    /// It is about another call than the one that is run.
    RequestId,
}

/// Where the answer of a call goes.
type Asker = oneshot::Sender<Answer>;

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Who waits for the runtime's start.
    init: Option<oneshot::Sender<Init>>,
    /// Handed over: the call that waits to be fetched, or is run.
    event: Option<Arc<Event>>,
    /// Who waits for its answer.
    asker: Option<Asker>,
    /// The call that was answered last.
    answered: Option<RequestId>,
    extensions: Extensions,
    /// Why an extension cannot go on.
    fault: Option<Failure>,
}

/// Of one instance.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Held for no longer than it takes to look.
    state: Mutex<State>,
    /// Wakes one of those who wait for a call.
    fetch: Notify,
    /// Wakes all of them: the call that another has fetched may have got lost.
    lost: Notify,
    /// Wakes who waits for the runtime or an extension to get anywhere.
    changed: Notify,
    /// Wakes extensions that wait for an event.
    events: Notify,
    about: About,
}

impl Desk {
    /// `external`: names of the extensions that come from layers.
    pub(super) fn new(about: About, external: Vec<String>) -> (Self, oneshot::Receiver<Init>) {
        let (init, told) = oneshot::channel();
        let state = State {
            phase: Phase::Started,
            init: Some(init),
            event: None,
            asker: None,
            answered: None,
            extensions: Extensions::of(external),
            fault: None,
        };
        let desk = Self {
            state: Mutex::new(state),
            fetch: Notify::new(),
            lost: Notify::new(),
            changed: Notify::new(),
            events: Notify::new(),
            about,
        };
        (desk, told)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a call over to a runtime that has none. The answer comes by the receiver; one that closes says that the runtime broke off while it answered.
    pub(crate) fn hand(&self, event: Event) -> oneshot::Receiver<Answer> {
        let (asker, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            state.event = Some(Arc::new(event));
            state.asker = Some(asker);
        }
        self.fetch.notify_one();
        answer
    }

    /// Takes the call that was handed over back, if the runtime has not fetched it.
    pub(crate) fn take_back(&self) -> Option<Invocation> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Ready | Phase::ResponseSent) {
            return None;
        }
        state.asker = None;
        state.event.take().map(|event| event.call.clone())
    }

    /// Returns once the runtime asks for a call, as it does after every answer while it goes on.
    pub(crate) async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().phase == Phase::Ready {
                return;
            }
            changed.await;
        }
    }

    /// The next call, when there is one. A runtime that is at a call gets that call again. Cancel-safe.
    pub(super) async fn next(&self) -> Result<Arc<Event>, Refused> {
        let mut begun = true;
        loop {
            let (handed, lost) = (self.fetch.notified(), self.lost.notified());
            if let Some(event) = self.try_next(begun)? {
                return Ok(event);
            }
            tokio::select! {
                () = handed => begun = false,
                () = lost => begun = true,
            }
        }
    }

    /// A connection has ended: perhaps the one by which the call was to be fetched.
    pub(super) fn disconnected(&self) {
        if self.lock().phase == Phase::Running {
            self.lost.notify_waiters();
        }
    }

    fn try_next(&self, begun: bool) -> Result<Option<Arc<Event>>, Refused> {
        let mut state = self.lock();
        match state.phase {
            Phase::Started | Phase::ResponseSent => {
                state.phase = Phase::Ready;
                state.tell_ready();
                self.changed.notify_waiters();
            }
            Phase::Running if begun => return Ok(state.event.clone()),
            // Another of its requests was first.
            Phase::Running | Phase::Ready => {}
            from if begun => return Err(Refused::Transition { from, to: Phase::Ready }),
            _ => {}
        }
        // An extension that is still at the event before holds the next one up.
        let event = state.event.clone().filter(|_| state.extensions.are_ready());
        let Some(event) = event.filter(|_| state.phase == Phase::Ready) else { return Ok(None) };
        state.phase = Phase::Running;
        if state.extensions.hear_calls() {
            state.extensions.invoke(&event.for_extensions());
            self.events.notify_waiters();
        }
        Ok(Some(event))
    }

    /// The runtime says that it cannot start.
    pub(super) fn fail_init(&self) -> Result<oneshot::Sender<Init>, Refused> {
        let mut state = self.lock();
        let refused = Refused::Transition { from: state.phase, to: Phase::InitError };
        if state.phase != Phase::Started {
            return Err(refused);
        }
        state.phase = Phase::InitError;
        state.init.take().ok_or(refused)
    }

    /// The runtime begins to answer the call with this id.
    pub(super) fn begin(&self, id: &str, to: Phase) -> Result<Answering<'_>, Refused> {
        let mut state = self.lock();
        let running = state.event.as_ref().filter(|_| state.phase != Phase::Ready);
        let current = running.map(|event| event.call.id).or(state.answered);
        let id = id.parse().ok().filter(|id| Some(*id) == current).ok_or(Refused::RequestId)?;
        let refused = Refused::Transition { from: state.phase, to };
        if state.phase != Phase::Running {
            return Err(refused);
        }
        let asker = state.asker.take().ok_or(refused)?;
        state.phase = to;
        Ok(Answering { desk: self, id, asker: Some(asker) })
    }
}

/// For extensions.
impl Desk {
    /// What they are told of the function.
    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// Returns once all external ones have registered.
    pub(crate) async fn registered(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().extensions.are_registered() {
                return;
            }
            changed.await;
        }
    }

    /// Why one of them cannot go on, if that comes to be. Cancel-safe.
    pub(crate) async fn fault(&self) -> Failure {
        loop {
            let changed = self.changed.notified();
            if let Some(failure) = self.lock().fault.take() {
                return failure;
            }
            changed.await;
        }
    }

    /// Tells those that want to know that the instance ends; whether there are such.
    pub(crate) fn shut_down(&self, reason: &str, deadline: UnixMillis) -> bool {
        let event = json!({
            "eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline.0,
        });
        let told = self.lock().extensions.shut_down(&event.to_string().into());
        self.events.notify_waiters();
        told
    }

    pub(super) fn register(
        &self,
        name: &str,
        events: &[String],
    ) -> Result<RequestId, extensions::Refused> {
        let mut state = self.lock();
        let open = state.phase == Phase::Started;
        let id = state.extensions.register(name, events, open)?;
        self.changed.notify_waiters();
        Ok(id)
    }

    /// The next event of an extension, when there is one.
    pub(super) async fn next_event(&self, id: RequestId) -> Result<Bytes, extensions::Refused> {
        {
            let mut state = self.lock();
            state.extensions.ask(id)?;
            state.tell_ready();
        }
        // A call may wait for this one.
        self.fetch.notify_one();
        loop {
            let told = self.events.notified();
            if let Some(event) = self.lock().extensions.take(id) {
                return Ok(event);
            }
            told.await;
        }
    }

    /// An extension cannot go on.
    pub(super) fn fail_extension(
        &self,
        id: RequestId,
        to: extensions::Phase,
        failure: Failure,
    ) -> Result<(), extensions::Refused> {
        let mut state = self.lock();
        if state.extensions.fail(id, to)? {
            state.fault.get_or_insert(failure);
            self.changed.notify_waiters();
        }
        Ok(())
    }
}

impl State {
    /// Tells who waits for the start, once nothing is missing.
    fn tell_ready(&mut self) {
        if self.phase == Phase::Ready
            && self.extensions.are_ready()
            && let Some(init) = self.init.take()
        {
            // Nobody waits any more: then the instance is ending.
            init.send(Init::Ready).unwrap_or_default();
        }
    }
}

impl Event {
    /// What extensions hear of it.
    fn for_extensions(&self) -> Bytes {
        let mut event = json!({
            "eventType": "INVOKE",
            "deadlineMs": self.deadline.0,
            "requestId": self.call.id.to_string(),
            "invokedFunctionArn": self.call.context.arn,
        });
        if let Some(trace) = &self.call.context.trace {
            event["tracing"] = json!({ "type": "X-Amzn-Trace-Id", "value": trace });
        }
        event.to_string().into()
    }
}

/// An answer that is under way. Dropped without one, the runtime has broken off.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    desk: &'a Desk,
    id: RequestId,
    asker: Option<Asker>,
}

impl Answering<'_> {
    /// Hands the answer, or its beginning, to whoever asked.
    pub(super) fn give(&mut self, answer: Answer) {
        if !matches!(answer, Answer::Pieces { .. }) {
            self.settle();
        }
        if let Some(asker) = self.asker.take() {
            // Nobody waits any more: then the instance is ending.
            drop(asker.send(answer));
        }
    }

    /// The call is over: before whoever asked hears of it, and may hand over the next one.
    pub(super) fn settle(&mut self) {
        let mut state = self.desk.lock();
        if state.phase != Phase::ResponseSent {
            state.phase = Phase::ResponseSent;
            state.answered = Some(self.id);
            state.event = None;
        }
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        let of_this = state.event.as_ref().is_some_and(|event| event.call.id == self.id);
        if of_this && state.phase != Phase::ResponseSent {
            state.phase = Phase::ResponseSent;
            state.answered = Some(self.id);
            state.event = None;
        }
    }
}
