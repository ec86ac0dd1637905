//! The daemon's side of an instance: the right to run one call at a time. Each call has a fresh WebAssembly instance, so nothing is left between calls but the
//! rate of what may be printed, and what stands idle here takes no memory of the guest's; unless the function has instances serve many calls: then one is kept here.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use model::function::Version;
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind, Invocation, Outcome, StartTimings};
use model::limits;
use model::ports::{Instance, Patience, Turn};
use model::stream::{Part, StreamEnd, Taker};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Shared;
use super::alive::Alive;
use super::call::{Call, Ended, Stream};
use super::failure;
use super::host::Given;
use super::meter::metered;
use super::printed::{Output, lock};
use super::program::Program;
use crate::output::Direct;
use crate::process::life::micros;

/// The right to run one call at a time.
#[derive(Debug)]
pub(super) struct WasmInstance {
    shared: Arc<Shared>,
    version: Arc<Version>,
    program: Arc<Program>,
    given: Arc<Given>,
    /// What serves the next call, if that is not to be a fresh instance.
    alive: Option<Box<Alive>>,
    output: Output,
    timings: StartTimings,
    call: Option<Handed>,
    /// Not to be used again.
    broken: bool,
}

/// A call that was handed over.
#[derive(Debug)]
struct Handed {
    timeout: Duration,
    begun: Instant,
    guest: Guest,
    prelude: Option<oneshot::Receiver<Bytes>>,
    pieces: mpsc::Receiver<Bytes>,
}

/// The task of a guest, which ends with this.
#[derive(Debug)]
struct Guest(JoinHandle<Timed>);

/// What came of a call, and how long it ran on the guest's side, in microseconds.
type Timed = (Ended, u64);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Handed {
    fn deadline(&self) -> tokio::time::Instant {
        (self.begun + self.timeout).into()
    }

    /// What came of it at last; the guest's instance is gone then.
    async fn ended(&mut self) -> Result<Timed, Failure> {
        (&mut self.guest.0).await.map_err(|broken| failure::task(&broken))
    }
}

impl WasmInstance {
    pub(super) fn new(
        shared: Arc<Shared>,
        version: Arc<Version>,
        (program, given, output): (Arc<Program>, Arc<Given>, Direct),
        timings: StartTimings,
    ) -> Self {
        let output = Arc::new(Mutex::new(output));
        Self {
            shared,
            version,
            program,
            given,
            alive: None,
            output,
            timings,
            call: None,
            broken: false,
        }
    }

    fn spawn(&mut self, invocation: &Invocation, stream: Stream) -> JoinHandle<Timed> {
        let mut call = Call {
            id: invocation.id,
            program: Arc::clone(&self.program),
            given: Arc::clone(&self.given),
            output: Arc::clone(&self.output),
            payload: invocation.payload.clone(),
            context: invocation.context.clone(),
            files: None,
        };
        let alive = self.alive.take();
        let (guests, clock) = (Arc::clone(&self.shared.guests), Arc::clone(&self.shared.clock));
        let cores = self.version.config.cpu_cores;
        let running = guests.enter();
        self.shared.guests.handle.spawn(async move {
            let _running = running;
            // It is never closed.
            let _room = guests.room.acquire().await;
            if call.given.files.is_some() && alive.is_none() {
                call.files = Arc::clone(&guests.files).acquire_owned().await.ok();
            }
            let (id, begun) = (call.id, clock.instant());
            let (ended, used) = metered(call.run(alive, stream, &guests), cores).await;
            tracing::trace!(target: "sandbox::wasm", request = %id, processor_us = used.as_micros());
            (ended, micros(begun, clock.instant()))
        })
    }

    fn note(&self, failure: &Failure) {
        let payload = String::from_utf8_lossy(&failure.payload);
        lock(&self.output).say(format!("{}: {payload}", failure.kind.as_str()));
    }

    /// The call is over. `ended`: what came of it; `None` at its deadline.
    async fn over(&mut self, mut call: Handed, ended: Option<Result<Timed, Failure>>) -> Outcome {
        let run_us = micros(call.begun, self.shared.clock.instant());
        let (ended, busy_us) = match ended {
            Some(Ok((ended, busy_us))) => (Ok(ended), u32::try_from(busy_us).ok()),
            Some(Err(failure)) => (Err(failure), None),
            None => {
                call.guest.0.abort();
                // At its next tick, or where it waits.
                drop(call.ended().await);
                (Err(failure::timed_out(call.timeout)), None)
            }
        };
        let memory_peak_bytes =
            ended.as_ref().ok().and_then(|ended| u64::try_from(ended.memory_bytes).ok());
        let result = ended.and_then(|ended| {
            self.alive = ended.alive;
            ended.result
        });
        lock(&self.output).end();
        if let Err(failure) = &result {
            self.note(failure);
            self.broken |= failure.kind != FailureKind::Handler;
        }
        Outcome { result, run_us, busy_us, memory_peak_bytes }
    }
}

#[async_trait]
impl Instance for WasmInstance {
    fn hand(&mut self, invocation: &Invocation) -> bool {
        if self.broken || self.call.is_some() {
            return false;
        }
        lock(&self.output).begin(Some(invocation.id));
        let begun = self.shared.clock.instant();
        let ((tell, prelude), (send, pieces)) = (oneshot::channel(), mpsc::channel(1));
        let guest = Guest(self.spawn(invocation, Stream { prelude: tell, pieces: send }));
        let prelude = Some(prelude);
        let timeout = invocation.timeout;
        self.call = Some(Handed { timeout, begun, guest, prelude, pieces });
        true
    }

    fn take_back(&mut self) -> Vec<RequestId> {
        // None ever waits behind another.
        Vec::new()
    }

    async fn outcome(&mut self, _patience: Patience<'_>) -> Turn {
        let Some(mut call) = self.call.take() else { return Turn::Over(idle()) };
        let prelude = call.prelude.take();
        let begins = async {
            match prelude {
                Some(prelude) => prelude.await.ok(),
                None => None,
            }
        };
        let deadline = call.deadline();
        let came = tokio::time::timeout_at(deadline, async {
            // What was not sent never will be: then the end follows.
            match begins.await {
                Some(prelude) => Ok(prelude),
                None => Err(call.ended().await),
            }
        });
        match came.await {
            Ok(Ok(prelude)) => {
                let run_us = micros(call.begun, self.shared.clock.instant());
                self.call = Some(call);
                Turn::Streams { prelude, run_us }
            }
            Ok(Err(ended)) => Turn::Over(self.over(call, Some(ended)).await),
            Err(_) => Turn::Over(self.over(call, None).await),
        }
    }

    async fn stream(&mut self, taker: Taker<'_>) -> StreamEnd {
        let Some(mut call) = self.call.take() else {
            return StreamEnd { outcome: idle(), bytes: 0 };
        };
        let mut flow = Flow { taker, kept: BytesMut::new(), bytes: 0 };
        let deadline = call.deadline();
        let last = tokio::time::timeout_at(deadline, async {
            while let Some(piece) = call.pieces.recv().await {
                flow.take(piece).await?;
            }
            call.ended().await
        });
        let last = last.await;
        let Flow { kept, bytes, .. } = flow;
        let mut outcome = self.over(call, last.ok()).await;
        if let Ok(answer) = &mut outcome.result {
            *answer = kept.freeze();
        }
        StreamEnd { outcome, bytes }
    }

    fn alive(&self) -> bool {
        !self.broken
    }

    fn start_timings(&self) -> StartTimings {
        self.timings
    }

    async fn stop(mut self: Box<Self>) {
        if let Some(mut call) = self.call.take() {
            call.guest.0.abort();
            // How it ended is of no account.
            drop(call.ended().await);
        }
    }
}

/// Pieces on their way to who takes them.
struct Flow<'a> {
    taker: Taker<'a>,
    kept: BytesMut,
    bytes: u64,
}

impl Flow<'_> {
    /// Hands one on. A taker that has gone changes nothing.
    async fn take(&mut self, piece: Bytes) -> Result<(), Failure> {
        self.bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let room = match self.taker {
            Taker::Caller { keep_bytes, .. } => keep_bytes.saturating_sub(self.kept.len()),
            Taker::Whole => limits::RESPONSE_BYTES.saturating_sub(self.kept.len()),
        };
        self.kept.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        match self.taker {
            Taker::Caller { pieces, .. } => drop(pieces.send(Part::Piece(piece)).await),
            Taker::Whole if piece.len() > room => {
                let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
                return Err(failure::too_large(bytes));
            }
            Taker::Whole => {}
        }
        Ok(())
    }
}

/// The outcome of no call.
fn idle() -> Outcome {
    let failure = failure::protocol("no call was handed over");
    Outcome { result: Err(failure), run_us: 0, busy_us: None, memory_peak_bytes: None }
}
