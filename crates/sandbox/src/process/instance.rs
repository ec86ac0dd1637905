//! A live instance: one process tree in its sandbox, one socket, one call at a time, and a few behind it in the socket.
//!
//! The daemon keeps the function's end of the socket open as well, and reads from it what it wants back: a packet is read by the function or by the daemon,
//! never by both, so that a call taken back has not begun. That end being open, a closed socket cannot tell the end of the process; the spawner does.
//!
//! Whatever goes wrong with an instance destroys it ([`Life::fail`]): late or wrong frames can then never reach another call. That includes an
//! answer over the limit, which is not read to its end.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind, Invocation, Outcome, StartPath, StartTimings};
use model::ports::{Instance, Later, Patience, Turn};
use model::stream::{StreamEnd, Taker};
use rustix::net::RecvFlags;
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;

use super::failure;
use super::flow::Flow;
use super::life::{Life, checked, failed, idle, micros};
use crate::frame::{self, FrameError, FrameReader, Incoming, Outgoing, Told};
use crate::jail::{Step, Steps};

/// Calls that an instance holds at most: the one that is run, and those behind it. More than this saves nothing measurable: with four a trivial Node.js call costs
/// 7 µs of processor time on both sides of the socket together, with eight 7 µs, with one alone 34 µs (2 cores, Linux 6.18).
const CALLS_MAX: usize = 4;

/// A live instance.
#[derive(Debug)]
pub(super) struct ProcessInstance {
    pub(super) life: Life,
    pub(super) socket: UnixStream,
    /// The function's end of the socket.
    theirs: OwnedFd,
    frames: FrameReader,
    /// Handed over and not answered; the first is being run.
    calls: VecDeque<Handed>,
    /// The first call's frame, if the socket did not take it whole.
    unsent: Option<Outgoing>,
    /// Whether the bootstrap counted all that was written by the last call that could be checked, so that the output of calls in a row can be told apart.
    counts_output: bool,
    /// What the calls fail with that were behind the one at which it died.
    died: Option<Failure>,
}

/// A call that was handed over.
#[derive(Debug)]
struct Handed {
    id: RequestId,
    timeout: Duration,
    /// When it became the first.
    begun: Instant,
    /// Whether its frame is a single packet.
    one_packet: bool,
}

/// How long a start has a turn, at most: a library of the function's may run in its runtime before HELLO, and shall hold up nobody for long.
const TURN_MOST: Duration = Duration::from_millis(100);

/// Does it, and gives the turn back when it is done or has taken long.
async fn within_turn<T>(work: impl Future<Output = T>, turn: Option<OwnedSemaphorePermit>) -> T {
    let mut work = pin!(work);
    if turn.is_some()
        && let Ok(done) = tokio::time::timeout(TURN_MOST, &mut work).await
    {
        return done;
    }
    drop(turn);
    work.await
}

/// What came of waiting for a frame.
pub(super) type Frame = Result<Incoming, FrameError>;
/// The same, or the deadline.
type Timed = Result<Frame, Elapsed>;

impl ProcessInstance {
    pub(super) fn new(
        life: Life,
        (socket, theirs, frames): (UnixStream, OwnedFd, FrameReader),
    ) -> Self {
        Self {
            life,
            socket,
            theirs,
            frames,
            calls: VecDeque::new(),
            unsent: None,
            counts_output: false,
            died: None,
        }
    }

    /// Waits until the code is loaded; until the runtime is there it has its `turn` (`Shared::turns`). On an error the instance is gone.
    pub(super) async fn load(
        &mut self,
        begun: Instant,
        mut steps: Steps,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Failure> {
        let mut hello = begun;
        // A pre-started one has said it long ago.
        if self.life.timings.path != StartPath::PreStarted {
            let frame = within_turn(self.next(), turn).await;
            if !matches!(frame, Ok(Incoming::Hello)) {
                return Err(self.unexpected(frame, "HELLO").await);
            }
            hello = self.life.shared.clock.instant();
            steps.mark(Step::Hello);
        }
        let frame = self.next().await;
        let ready = self.life.shared.clock.instant();
        self.life.output.drain();
        self.life.timings.runtime_us = micros(begun, hello);
        self.life.timings.code_us = micros(hello, ready);
        match frame {
            Ok(Incoming::Ready) => {
                steps.mark(Step::Ready);
                tracing::trace!(target: "sandbox::steps", steps = steps.json());
                Ok(())
            }
            Ok(Incoming::InitError(body)) => {
                let failure = checked(FailureKind::Init, body);
                Err(self.life.fail(failure).await)
            }
            frame => Err(self.unexpected(frame, "READY").await),
        }
    }

    /// The next frame; output is taken meanwhile.
    pub(super) async fn next(&mut self) -> Frame {
        let mut nobody = |_: &[RequestId]| {};
        self.answer(&mut Patience { limit: Duration::MAX, returned: &mut nobody }).await
    }

    /// The next frame, once what is still to be sent has been; output is taken meanwhile.
    async fn answer(&mut self, patience: &mut Patience<'_>) -> Frame {
        loop {
            let alone = self.is_alone();
            // While it loads, READY may come close behind HELLO.
            let last = self.calls.len() == 1;
            let (socket, frames, unsent) = (&self.socket, &mut self.frames, &mut self.unsent);
            let exchange = async {
                if let Some(frame) = unsent {
                    frame.send(socket).await?;
                }
                *unsent = None;
                frames.next(socket, last).await
            };
            tokio::select! {
                biased;
                frame = exchange => return frame,
                _ = self.life.remains.gone() => return self.frames.next_now(&self.socket),
                never = self.life.output.run(), if alone => match never {},
                () = lapse(patience.limit, alone) => {}
            }
            (patience.returned)(&self.take_back());
        }
    }

    /// The first call's answer, or what comes instead of it until the deadline.
    async fn answer_until(&mut self, deadline: Instant, patience: &mut Patience<'_>) -> Timed {
        tokio::time::timeout_at(deadline.into(), self.answer(patience)).await
    }

    /// Whether what is written now can only be the first call's. While other calls wait it may be theirs: it stays in the pipes until the answer tells.
    pub(super) fn is_alone(&self) -> bool {
        self.calls.len() <= 1
    }

    /// The failure behind a frame that ends the instance, which is gone afterwards.
    async fn unexpected(&mut self, frame: Frame, expected: &str) -> Failure {
        let failure = match frame {
            Err(FrameError::Closed) => return self.life.ended().await,
            Err(FrameError::TooLarge { bytes, limit }) => failure::response_too_large(bytes, limit),
            Err(e) => failure::protocol(&e.to_string()),
            Ok(_) => failure::protocol(&format!("a frame out of order, expected {expected}")),
        };
        self.life.fail(failure).await
    }

    /// Sends a call's frame, if it can be sent in the place where it would stand; whether it is a single packet.
    fn send(&mut self, invocation: &Invocation) -> Option<bool> {
        let behind = !self.calls.is_empty();
        if behind && !self.takes_more() {
            return None;
        }
        let deadline = self.life.shared.clock.now().after(invocation.timeout);
        let mut frame = match frame::invoke(invocation, deadline) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, request = %invocation.id, "a call cannot be framed");
                return None;
            }
        };
        let one_packet = frame.is_one_packet();
        if behind && !one_packet {
            return None;
        }
        match frame.send_now(&self.socket) {
            Ok(true) => Some(one_packet),
            Ok(false) if behind => None,
            Ok(false) => {
                self.unsent = Some(frame);
                Some(one_packet)
            }
            Err(error) => {
                tracing::debug!(%error, "an instance takes no call");
                self.life.broken = true;
                None
            }
        }
    }

    /// Whether a call may be sent behind those there are. Only where every frame is one packet can calls be taken back.
    fn takes_more(&self) -> bool {
        let room = self.calls.len() < CALLS_MAX && self.unsent.is_none();
        room && self.counts_output && self.calls.iter().all(|call| call.one_packet)
    }

    /// Reads at the function's end what the function has not read.
    fn receive_back(&self, flags: RecvFlags) -> Option<RequestId> {
        // As much as says which call it is: the rest of a packet goes with it.
        let mut packet = [0; frame::INVOKE_ID_END];
        let flags = flags | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.theirs, &mut packet, flags).ok()?;
        frame::invoked(&packet)
    }

    /// The next call's turn.
    fn turn(&mut self) {
        if let Some(first) = self.calls.front_mut() {
            first.begun = self.life.shared.clock.instant();
            self.life.output.begin(Some(first.id));
        }
    }

    /// Takes the output of the call that `told` tells of, and nothing of the next one's.
    fn settle(&mut self, told: Option<Told>) {
        let last = self.calls.is_empty();
        let written = told.and_then(|told| told.written);
        match written {
            Some(written) if !last => self.counts_output &= self.life.output.split(written),
            _ => self.life.output.drain(),
        }
        let counted = self.life.output.take_counts();
        if last {
            self.counts_output = written.is_some_and(|written| written.map(u64::from) == counted);
        }
    }

    /// The outcome's half that an answer to `call` gives. `kept`: of one that came in pieces.
    async fn judge(
        &mut self,
        call: RequestId,
        frame: Frame,
        kept: Option<Bytes>,
    ) -> Result<Bytes, Failure> {
        match (frame, kept) {
            (Ok(Incoming::Response { id, body, .. }), None) if id == call => Ok(body),
            (Ok(Incoming::StreamEnd { id, .. }), Some(kept)) if id == call => Ok(kept),
            (Ok(Incoming::Error { id, body, last, .. }), _) if id == call => {
                let failure = checked(FailureKind::Handler, body);
                if failure.kind == FailureKind::Handler && !last {
                    self.life.note(&failure);
                    Err(failure)
                } else {
                    Err(self.life.fail(failure).await)
                }
            }
            (frame, _) => Err(self.unexpected(frame, "the answer to this call").await),
        }
    }

    /// The first call is over: with this frame, at this time.
    async fn over(&mut self, frame: Timed, kept: Option<Bytes>) -> Outcome {
        let now = self.life.shared.clock.instant();
        let told = frame.as_ref().ok().and_then(|frame| frame.as_ref().ok()?.told());
        let Some(call) = self.calls.pop_front() else { return idle() };
        let run_us = micros(call.begun, now);
        // Before anything is decided: what was written before the answer belongs to this call.
        self.settle(told);
        let result = match frame {
            Ok(frame) => self.judge(call.id, frame, kept).await,
            Err(_) => Err(self.life.fail(failure::timed_out(call.timeout)).await),
        };
        if self.life.broken {
            self.died = result.as_ref().err().cloned();
        }
        self.turn();
        let memory_peak_bytes = self.life.memory_peak_bytes();
        Outcome { result, run_us, busy_us: told.map(|told| told.busy_us), memory_peak_bytes }
    }
}

#[async_trait]
impl Instance for ProcessInstance {
    fn hand(&mut self, invocation: &Invocation) -> bool {
        if !self.alive() || !self.life.thaw() {
            return false;
        }
        // Before it is sent: the function may have begun before this thread goes on.
        let begun = self.life.shared.clock.instant();
        let Some(one_packet) = self.send(invocation) else { return false };
        let &Invocation { id, timeout, .. } = invocation;
        self.calls.push_back(Handed { id, timeout, begun, one_packet });
        if self.calls.len() == 1 {
            self.life.output.begin(Some(id));
        }
        true
    }

    fn take_back(&mut self) -> Vec<RequestId> {
        let mut taken = Vec::new();
        let dead = self.died.is_some();
        // A call that was not taken up yet, though it is its turn, must stay in front.
        if !dead && self.receive_back(RecvFlags::PEEK) == self.calls.front().map(|call| call.id) {
            return taken;
        }
        while self.calls.len() > usize::from(!dead)
            && let Some(id) = self.receive_back(RecvFlags::empty())
        {
            self.calls.retain(|call| call.id != id);
            taken.push(id);
        }
        taken
    }

    async fn outcome(&mut self, mut patience: Patience<'_>) -> Turn {
        let Some(first) = self.calls.front() else { return Turn::Over(idle()) };
        if let Some(failure) = self.died.clone() {
            self.calls.pop_front();
            return Turn::Over(failed(failure));
        }
        let (call, begun, deadline) = (first.id, first.begun, first.begun + first.timeout);
        match self.answer_until(deadline, &mut patience).await {
            Ok(Ok(Incoming::StreamStart { id, prelude })) if id == call => {
                let run_us = micros(begun, self.life.shared.clock.instant());
                let behind = self.take_back();
                if !behind.is_empty() {
                    (patience.returned)(&behind);
                }
                Turn::Streams { prelude, run_us }
            }
            frame => Turn::Over(self.over(frame, None).await),
        }
    }

    async fn stream(&mut self, taker: Taker<'_>) -> StreamEnd {
        let Some(first) = self.calls.front() else {
            return StreamEnd { outcome: idle(), bytes: 0 };
        };
        let (call, deadline) = (first.id, first.begun + first.timeout);
        let mut flow = Flow::new(taker);
        let last = tokio::time::timeout_at(deadline.into(), flow.run(self, call)).await;
        let Flow { kept, bytes, .. } = flow;
        StreamEnd { outcome: self.over(last, Some(kept.into())).await, bytes }
    }

    fn alive(&self) -> bool {
        self.life.alive()
    }

    fn start_timings(&self) -> StartTimings {
        self.life.timings
    }

    fn freeze(&mut self) -> Option<Later> {
        if self.calls.is_empty() { self.life.freeze() } else { None }
    }

    fn is_frozen(&self) -> bool {
        self.life.is_frozen()
    }

    fn thaw_us(&mut self) -> u64 {
        self.life.take_thaw_us()
    }

    async fn stop(mut self: Box<Self>) {
        self.life.stop().await;
    }
}

/// Returns after `limit`; never where no call waits.
async fn lapse(limit: Duration, alone: bool) {
    if alone {
        std::future::pending().await
    } else {
        tokio::time::sleep(limit).await;
    }
}
