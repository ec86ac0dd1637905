//! A live instance that fetches its calls over HTTP: one at a time, and none waits behind it.

use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind, Invocation, Outcome, StartTimings};
use model::limits;
use model::ports::{Instance, Later, Patience, StartFailed, Turn};
use model::stream::{StreamEnd, Taker};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::INVALID_ENTRYPOINT;
use crate::frame::FrameError;
use crate::jail::companions::{self, Told};
use crate::jail::{StartError, Steps};
use crate::process::birth::{SETUP_TIMEOUT, not_started, too_slow};
use crate::process::failure;
use crate::process::flow::Flow;
use crate::process::life::{Life, idle, micros};
use crate::runtime_api::{Answer, Api, Event, Init, Piece, Pieces};

/// How long a runtime that has reported an error may take to ask for its next call, or to end: some do the one, some the other.
const AFTER_ERROR_MOST: Duration = Duration::from_millis(100);

/// How long the runtime has to end by itself when extensions run beside it, and how long those have then: together the 2 s of AWS Lambda.
const RUNTIME_END_MOST: Duration = Duration::from_millis(300);
const EXTENSIONS_END_MOST: Duration = Duration::from_millis(1_700);
/// An extension's program cannot be executed.
const LAUNCH_ERROR: &str = "Extension.LaunchError";
/// Where their programs lie, as the function sees them.
const EXTENSIONS: &str = "/opt/extensions/";

/// A live instance.
#[derive(Debug)]
pub(super) struct ProvidedInstance {
    life: Life,
    api: Api,
    /// What comes of its start, until that is known.
    init: Option<oneshot::Receiver<Init>>,
    /// The function's AWS-style name.
    arn: String,
    /// To its first process.
    first: UnixStream,
    /// Whether extensions from layers run beside it.
    has_extensions: bool,
    call: Option<Handed>,
    /// The call that came too late: the runtime ended instead of fetching it.
    unbegun: Option<Invocation>,
}

/// The call that was handed over.
#[derive(Debug)]
struct Handed {
    timeout: Duration,
    begun: Instant,
    answer: Option<oneshot::Receiver<Answer>>,
    /// Once its answer has begun to come in pieces.
    pieces: Option<Pieces>,
}

/// What is waited for beside the processes' end and what they print.
enum Waited<T> {
    /// It came.
    Done(T),
    /// Every process is gone, and what they sent before has been read.
    Gone,
    /// An extension cannot go on.
    Fault(Failure),
}

impl ProvidedInstance {
    pub(super) fn new(
        life: Life,
        (api, init): (Api, oneshot::Receiver<Init>),
        first: UnixStream,
        arn: String,
        has_extensions: bool,
    ) -> Self {
        Self { life, api, init: Some(init), arn, first, has_extensions, call: None, unbegun: None }
    }

    /// Has the runtime executed, once all extensions from layers are there. How long what took, and when that was.
    pub(super) async fn launch(&mut self, begun: Instant) -> Result<(Steps, Instant), StartFailed> {
        let function = StartFailed::Function;
        if self.has_extensions {
            let allowed = Duration::from_millis(limits::INIT_TIMEOUT_MS.into());
            match tokio::time::timeout_at((begun + allowed).into(), self.registered()).await {
                Ok(Ok(())) => {}
                Ok(Err(End::Failed(failure) | End::Broken(failure))) => {
                    return Err(function(self.fail(failure).await));
                }
                Ok(Err(End::Gone)) => {}
                Err(_) => return Err(function(self.fail(failure::init_timed_out(allowed)).await)),
            }
            // One that is gone says why.
            companions::go(self.first.as_fd()).unwrap_or_default();
        }
        let started = tokio::time::timeout(SETUP_TIMEOUT, self.life.remains.started()).await;
        match started.map_err(too_slow).map_err(StartFailed::Platform)? {
            Ok(steps) => Ok((steps, self.life.shared.clock.instant())),
            Err(error) => match self.not_started(&error) {
                Some(failure) => Err(function(self.fail(failure).await)),
                None => Err(StartFailed::Platform(not_started(error))),
            },
        }
    }

    /// The function's failure behind an error of its start, if it is one.
    fn not_started(&self, error: &StartError) -> Option<Failure> {
        let StartError::Step(step) = error else { return None };
        if !step.is_execution() {
            return self.fallen();
        }
        let extension = step.step.contains(EXTENSIONS);
        let kind = if extension { LAUNCH_ERROR } else { INVALID_ENTRYPOINT };
        Some(Failure::new(FailureKind::Init, kind, &step.to_string()))
    }

    /// Waits until all extensions from layers have registered.
    async fn registered(&mut self) -> Result<(), End> {
        let Self { life, api, .. } = self;
        tokio::select! {
            biased;
            () = api.desk().registered() => Ok(()),
            failure = api.desk().fault() => Err(End::Broken(failure)),
            _ = life.remains.gone() => Err(End::Gone),
            never = life.output.run() => match never {},
        }
    }

    /// Which extension took the instance along, if one did.
    fn fallen(&self) -> Option<Failure> {
        let told = companions::told(self.first.as_fd()).ok()?;
        let Told::Fallen { program, wait_status } = told else { return None };
        let status = ExitStatus::from_raw(wait_status);
        let kind = if self.init.is_some() { FailureKind::Init } else { FailureKind::Exited };
        let message = format!("extension {program} ended: {status}");
        Some(Failure::new(kind, "Extension.Crash", &message))
    }

    /// Waits until it asks for its first call. On an error it is gone.
    pub(super) async fn load(&mut self, begun: Instant, allowed: Duration) -> Result<(), Failure> {
        let Some(mut init) = self.init.take() else { return Ok(()) };
        let told = wait(&mut self.life, &mut self.api, &mut init);
        let told = tokio::time::timeout_at((begun + allowed).into(), told).await;
        self.life.output.drain();
        self.life.timings.runtime_us = micros(begun, self.life.shared.clock.instant()).max(1);
        match told {
            Ok(Waited::Done(Ok(Init::Ready))) => Ok(()),
            Ok(Waited::Done(Ok(Init::Failed(failure)))) => Err(self.fail(failure).await),
            Ok(Waited::Done(Err(_)) | Waited::Gone) => Err(self.ended().await),
            Ok(Waited::Fault(failure)) => Err(self.fail(failure).await),
            Err(_) => Err(self.fail(failure::init_timed_out(allowed)).await),
        }
    }

    async fn fail(&mut self, failure: Failure) -> Failure {
        self.api.close();
        self.life.fail(failure).await
    }

    /// The failure of one that broke off.
    async fn ended(&mut self) -> Failure {
        if self.life.remains.exit().is_some()
            && let Some(failure) = self.fallen()
        {
            return self.fail(failure).await;
        }
        let failure = self.life.ended().await;
        self.api.close();
        failure
    }

    /// The call's failure; the instance goes on, if it does.
    async fn failed(&mut self, failure: Failure) -> Failure {
        self.life.note(&failure);
        let Self { life, api, .. } = self;
        let settled = async {
            tokio::select! {
                () = api.desk().ready() => {}
                _ = life.remains.gone() => {}
            }
        };
        // One that does neither is found out by its next call.
        tokio::time::timeout(AFTER_ERROR_MOST, settled).await.unwrap_or_default();
        failure
    }

    /// The call is over.
    async fn over(&mut self, call: Handed, result: Result<Bytes, End>) -> Outcome {
        let run_us = micros(call.begun, self.life.shared.clock.instant());
        // Before anything is decided: what was written before the answer belongs to this call.
        self.life.output.drain();
        let result = match result {
            Ok(answer) => Ok(answer),
            Err(End::Failed(failure)) => Err(self.failed(failure).await),
            Err(End::Broken(failure)) => Err(self.fail(failure).await),
            Err(End::Gone) => {
                self.unbegun = self.api.desk().take_back();
                Err(self.ended().await)
            }
        };
        self.life.output.begin(None);
        let memory_peak_bytes = self.life.memory_peak_bytes();
        Outcome { result, run_us, busy_us: None, memory_peak_bytes }
    }
}

impl ProvidedInstance {
    /// Ends it in order: the runtime is asked to, extensions hear of it, and all have a moment.
    async fn shut_down(&mut self) {
        if companions::end(self.first.as_fd()).is_err() {
            return;
        }
        let Self { life, api, first, .. } = self;
        let runtime = tokio::time::timeout(RUNTIME_END_MOST, async {
            let told = first.async_io(Interest::READABLE, || companions::told(first.as_fd()));
            tokio::select! {
                _ = life.remains.gone() => true,
                told = told => told.is_err(),
                never = life.output.run() => match never {},
            }
        });
        if runtime.await == Ok(true) {
            return;
        }
        let deadline = life.shared.clock.now().after(EXTENSIONS_END_MOST);
        if !api.desk().shut_down("spindown", deadline) {
            return;
        }
        let all = tokio::time::timeout(EXTENSIONS_END_MOST, async {
            tokio::select! {
                _ = life.remains.gone() => {}
                never = life.output.run() => match never {},
            }
        });
        // Those that take longer are killed.
        all.await.unwrap_or_default();
    }
}

/// How a call ends without an answer.
enum End {
    /// The runtime goes on.
    Failed(Failure),
    /// It does not, by our doing.
    Broken(Failure),
    /// It does not, by its own.
    Gone,
}

/// Waits for something of the runtime's; output is taken meanwhile. Cancel-safe if `what` is.
async fn wait<T>(
    life: &mut Life,
    api: &mut Api,
    what: impl Future<Output = T> + Unpin,
) -> Waited<T> {
    let mut what = what;
    let mut gone = false;
    let desk = Arc::clone(api.desk());
    loop {
        tokio::select! {
            biased;
            done = &mut what => return Waited::Done(done),
            failure = desk.fault() => return Waited::Fault(failure),
            _ = life.remains.gone(), if !gone => gone = true,
            () = api.leave(), if gone => break,
            never = life.output.run() => match never {},
        }
    }
    // What was read last is told by now.
    match futures_util::FutureExt::now_or_never(&mut what) {
        Some(done) => Waited::Done(done),
        None => Waited::Gone,
    }
}

/// Hands pieces on until the answer's end.
async fn flow(
    life: &mut Life,
    api: &mut Api,
    pieces: &mut Pieces,
    flow: &mut Flow<'_>,
) -> Result<(), End> {
    loop {
        let room = flow.room(&mut life.output, true).await;
        let next = Box::pin(pieces.recv());
        match wait(life, api, next).await {
            Waited::Done(Some(Piece::Bytes(piece))) => flow.take(piece, room).map_err(broken)?,
            Waited::Done(Some(Piece::End(end))) => return end.map_err(End::Failed),
            Waited::Done(None) | Waited::Gone => return Err(End::Gone),
            Waited::Fault(failure) => return Err(End::Broken(failure)),
        }
    }
}

fn broken(error: FrameError) -> End {
    End::Broken(match error {
        FrameError::TooLarge { bytes, limit } => failure::response_too_large(bytes, limit),
        error => failure::protocol(&error.to_string()),
    })
}

#[async_trait]
impl Instance for ProvidedInstance {
    fn hand(&mut self, invocation: &Invocation) -> bool {
        if self.call.is_some() || !self.life.alive() || !self.life.thaw() {
            return false;
        }
        let begun = self.life.shared.clock.instant();
        let mut call = invocation.clone();
        let (id, timeout) = (call.id, call.timeout);
        call.context.arn.get_or_insert_with(|| self.arn.clone());
        let deadline = self.life.shared.clock.now().after(timeout);
        self.life.output.begin(Some(id));
        let answer = Some(self.api.desk().hand(Event { call, deadline }));
        self.call = Some(Handed { timeout, begun, answer, pieces: None });
        true
    }

    fn take_back(&mut self) -> Vec<RequestId> {
        Vec::new()
    }

    fn unbegun(&mut self) -> Option<Invocation> {
        self.unbegun.take()
    }

    async fn outcome(&mut self, _: Patience<'_>) -> Turn {
        let Some(mut call) = self.call.take() else { return Turn::Over(idle()) };
        let Some(mut answer) = call.answer.take() else { return Turn::Over(idle()) };
        let deadline = call.begun + call.timeout;
        let waited = wait(&mut self.life, &mut self.api, &mut answer);
        let result = match tokio::time::timeout_at(deadline.into(), waited).await {
            Ok(Waited::Done(Ok(Answer::Whole(body)))) => Ok(body),
            Ok(Waited::Done(Ok(Answer::Pieces { prelude, pieces }))) => {
                let run_us = micros(call.begun, self.life.shared.clock.instant());
                call.pieces = Some(pieces);
                self.call = Some(call);
                return Turn::Streams { prelude, run_us };
            }
            Ok(Waited::Done(Ok(Answer::Failed(failure)))) => Err(End::Failed(failure)),
            Ok(Waited::Done(Err(_)) | Waited::Gone) => Err(End::Gone),
            Ok(Waited::Fault(failure)) => Err(End::Broken(failure)),
            Err(_) => Err(End::Broken(failure::timed_out(call.timeout))),
        };
        Turn::Over(self.over(call, result).await)
    }

    async fn stream(&mut self, taker: Taker<'_>) -> StreamEnd {
        let Some(pieces) = self.call.as_mut().and_then(|call| call.pieces.take()) else {
            return StreamEnd { outcome: idle(), bytes: 0 };
        };
        let Some(call) = self.call.take() else {
            return StreamEnd { outcome: idle(), bytes: 0 };
        };
        let (mut pieces, mut handed) = (pieces, Flow::new(taker));
        let deadline = call.begun + call.timeout;
        let flowing = flow(&mut self.life, &mut self.api, &mut pieces, &mut handed);
        let ended = match tokio::time::timeout_at(deadline.into(), flowing).await {
            Ok(ended) => ended,
            Err(_) => Err(End::Broken(failure::timed_out(call.timeout))),
        };
        let Flow { kept, bytes, .. } = handed;
        let outcome = self.over(call, ended.map(|()| kept.into())).await;
        StreamEnd { outcome, bytes }
    }

    fn alive(&self) -> bool {
        self.life.alive()
    }

    fn start_timings(&self) -> StartTimings {
        self.life.timings
    }

    fn freeze(&mut self) -> Option<Later> {
        if self.call.is_none() { self.life.freeze() } else { None }
    }

    fn is_frozen(&self) -> bool {
        self.life.is_frozen()
    }

    fn thaw_us(&mut self) -> u64 {
        self.life.take_thaw_us()
    }

    async fn stop(mut self: Box<Self>) {
        if self.has_extensions && self.life.alive() && self.life.thaw() {
            self.shut_down().await;
        }
        self.api.close();
        self.life.stop().await;
    }
}
