//! A live instance: one process tree in its sandbox, one socket, one call at a time.
//!
//! Whatever goes wrong with an instance destroys it ([`ProcessInstance::fail`]): late or wrong frames can then never reach another call. That includes an
//! answer over the limit, which is not read to its end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::invocation::{Failure, FailureKind, Invocation, Outcome, StartTimings};
use model::ports::Instance;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use super::failure::{self, Autopsy};
use super::image::Shared;
use super::packages::Package;
use super::slots::Slot;
use crate::frame::{self, FrameError, FrameReader, Incoming};
use crate::jail::cgroup::{Group, MemoryUse};
use crate::jail::{Exit, Killer, Process, StartError, Step, Steps};
use crate::output::Output;

/// How long a process that has closed its socket may take to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(1);
/// How long a killed instance may take to be gone before it is hurried along. An idle one takes a millisecond.
const HURRY_AFTER: Duration = Duration::from_millis(2);
/// How often a control group is tried to be removed: the kernel may hold on to it a moment longer than to its processes.
const GROUP_REMOVALS: u32 = 12;
/// How long to wait after the first attempt; twice as long after each further one, so 10 s in all.
const GROUP_REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// A live instance.
#[derive(Debug)]
pub(super) struct ProcessInstance {
    pub(super) remains: Remains,
    pub(super) socket: UnixStream,
    frames: FrameReader,
    output: Output,
    shared: Arc<Shared>,
    pub(super) timings: StartTimings,
    memory_mb: u32,
    abort_means_memory_from: Option<u64>,
    /// Not to be used again.
    broken: bool,
}

/// What came of waiting for a frame.
type Frame = Result<Incoming, FrameError>;

impl ProcessInstance {
    pub(super) fn new(
        shared: Arc<Shared>,
        remains: Remains,
        socket: UnixStream,
        output: Output,
        memory_mb: u32,
        abort_means_memory_from: Option<u64>,
    ) -> Self {
        Self {
            remains,
            socket,
            frames: FrameReader::new(),
            output,
            shared,
            timings: StartTimings::default(),
            memory_mb,
            abort_means_memory_from,
            broken: false,
        }
    }

    /// Waits until the code is loaded. On an error the instance is gone.
    pub(super) async fn load(&mut self, begun: Instant, mut steps: Steps) -> Result<(), Failure> {
        let frame = self.next().await;
        if !matches!(frame, Ok(Incoming::Hello)) {
            return Err(self.unexpected(frame, "HELLO").await);
        }
        let hello = self.shared.clock.instant();
        steps.mark(Step::Hello);
        let frame = self.next().await;
        let ready = self.shared.clock.instant();
        self.output.drain();
        self.timings.runtime_us = micros(begun, hello);
        self.timings.code_us = micros(hello, ready);
        match frame {
            Ok(Incoming::Ready) => {
                steps.mark(Step::Ready);
                tracing::trace!(target: "sandbox::steps", steps = steps.json());
                Ok(())
            }
            Ok(Incoming::InitError(body)) => {
                let failure = checked(FailureKind::Init, body);
                Err(self.fail(failure).await)
            }
            frame => Err(self.unexpected(frame, "READY").await),
        }
    }

    /// The next frame; output is taken meanwhile.
    async fn next(&mut self) -> Frame {
        tokio::select! {
            biased;
            frame = self.frames.next(&self.socket) => frame,
            never = self.output.run() => match never {},
        }
    }

    /// Sends a call and waits for the next frame; output is taken meanwhile.
    async fn exchange(&mut self, invocation: &Invocation) -> Frame {
        let exchange = async {
            frame::write_invoke(&self.socket, invocation).await?;
            self.frames.next(&self.socket).await
        };
        tokio::select! {
            biased;
            frame = exchange => frame,
            never = self.output.run() => match never {},
        }
    }

    /// The failure behind a frame that ends the instance, which is gone afterwards.
    async fn unexpected(&mut self, frame: Frame, expected: &str) -> Failure {
        let failure = match frame {
            Err(FrameError::Closed) => return self.ended().await,
            Err(FrameError::TooLarge { bytes, limit }) => failure::response_too_large(bytes, limit),
            Err(e) => failure::protocol(&e.to_string()),
            Ok(_) => failure::protocol(&format!("a frame out of order, expected {expected}")),
        };
        self.fail(failure).await
    }

    /// The failure of an instance whose socket is closed.
    async fn ended(&mut self) -> Failure {
        let by_itself = tokio::time::timeout(EXIT_GRACE, self.remains.gone()).await;
        let closed = by_itself.is_err();
        let autopsy = self.destroy().await;
        let failure = if closed {
            failure::protocol("the socket was closed by a process that goes on")
        } else {
            autopsy.failure()
        };
        self.note(&failure);
        failure
    }

    /// Destroys the instance and says why in the function's log.
    pub(super) async fn fail(&mut self, failure: Failure) -> Failure {
        self.destroy().await;
        self.note(&failure);
        failure
    }

    async fn destroy(&mut self) -> Autopsy {
        self.broken = true;
        let (exit, memory) = self.remains.destroy().await;
        // What was still in the pipes when it died.
        self.output.drain();
        Autopsy {
            exit,
            peak_bytes: memory.peak_bytes,
            oom_kills: memory.oom_kills,
            memory_mb: self.memory_mb,
            abort_means_memory_from: self.abort_means_memory_from,
        }
    }

    fn note(&mut self, failure: &Failure) {
        let payload = String::from_utf8_lossy(&failure.payload);
        self.output.say(format!("{}: {payload}", failure.kind.as_str()));
    }
}

#[async_trait]
impl Instance for ProcessInstance {
    async fn invoke(&mut self, invocation: Invocation) -> Outcome {
        let begun = self.shared.clock.instant();
        self.output.begin(Some(invocation.id));
        let answer = self.exchange(&invocation);
        let frame = tokio::time::timeout_at(invocation.deadline.into(), answer).await;
        let run_us = micros(begun, self.shared.clock.instant());
        // Before anything is decided: what was written before the answer belongs to this call.
        self.output.drain();
        let result = match frame {
            Ok(Ok(Incoming::Response { id, body })) if id == invocation.id => Ok(body),
            Ok(Ok(Incoming::Error { id, body, last })) if id == invocation.id => {
                let failure = checked(FailureKind::Handler, body);
                if failure.kind == FailureKind::Handler && !last {
                    self.note(&failure);
                    Err(failure)
                } else {
                    Err(self.fail(failure).await)
                }
            }
            Ok(frame) => Err(self.unexpected(frame, "the answer to this call").await),
            Err(_) => {
                let failure = failure::timed_out(invocation.deadline.duration_since(begun));
                Err(self.fail(failure).await)
            }
        };
        let memory_peak_bytes = self.remains.memory.and_then(|memory| memory.peak_bytes);
        Outcome { result, run_us, memory_peak_bytes }
    }

    fn alive(&self) -> bool {
        !self.broken && self.remains.exit().is_none()
    }

    fn start_timings(&self) -> StartTimings {
        self.timings
    }

    async fn stop(mut self: Box<Self>) {
        self.destroy().await;
    }
}

/// A failure in the function's own words, if they are JSON.
fn checked(kind: FailureKind, body: bytes::Bytes) -> Failure {
    match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        Ok(_) => Failure { kind, payload: body },
        Err(_) => failure::protocol("an error that is not JSON"),
    }
}

/// From one instant to another, in microseconds.
pub(super) fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// What has to be cleared up after an instance: its processes, then its control group, then its user id.
///
/// Dropping it kills the processes at once and leaves the waiting to a task.
#[derive(Debug)]
pub(super) struct Remains {
    shared: Arc<Shared>,
    /// `None` before the spawner was asked.
    pub(super) process: Option<Process>,
    slot: Option<Slot>,
    group: Option<Group>,
    oom: Option<OomWatch>,
    /// Keeps the code on disk.
    package: Option<Arc<Package>>,
    /// What it used, once it is gone.
    pub(super) memory: Option<MemoryUse>,
    /// Whether the task that clears up has it.
    in_task: bool,
}

impl Remains {
    pub(super) fn new(
        shared: &Arc<Shared>,
        slot: Option<Slot>,
        group: Option<Group>,
        package: Arc<Package>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            process: None,
            slot,
            group,
            oom: None,
            package: Some(package),
            memory: None,
            in_task: false,
        }
    }

    /// Takes the process over and watches its memory.
    pub(super) fn watch(&mut self, process: Process) -> std::io::Result<()> {
        let killer = process.killer();
        // First of all, so that it is killed whatever fails below.
        self.process = Some(process);
        let oom = self.group.as_mut().map(Group::take_oom).transpose()?.flatten();
        self.oom = oom.map(|oom| OomWatch::start(&self.shared, oom, killer));
        Ok(())
    }

    pub(super) async fn started(&mut self) -> Result<Steps, StartError> {
        match &mut self.process {
            Some(process) => process.started().await,
            None => Ok(Steps::default()),
        }
    }

    fn exit(&self) -> Option<Exit> {
        self.process.as_ref().and_then(Process::exit)
    }

    async fn gone(&mut self) -> Exit {
        match &mut self.process {
            Some(process) => process.gone().await,
            None => Exit::Killed,
        }
    }

    /// Kills every process, waits until they are gone and takes the last figures.
    async fn destroy(&mut self) -> (Exit, MemoryUse) {
        let exit = match &mut self.process {
            Some(process) => destroy(process, self.group.as_ref()).await,
            None => Exit::Killed,
        };
        let mut memory = self.group.as_ref().map(Group::memory).unwrap_or_default();
        let rss = self.process.as_ref().and_then(Process::max_rss_bytes);
        memory.peak_bytes = memory.peak_bytes.or(rss);
        if self.oom.as_ref().is_some_and(|oom| oom.fired.load(Ordering::Acquire)) {
            // It may have been killed by us before the kernel chose a process and counted it.
            memory.oom_kills = memory.oom_kills.max(1);
        }
        self.memory = Some(memory);
        (exit, memory)
    }

    async fn clear_up(mut self) {
        self.destroy().await;
        // Nothing is left for `drop` to do.
        self.process = None;
        if let Some(group) = self.group.take() {
            remove(group).await;
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if self.process.is_none() && self.group.is_none() {
            return;
        }
        if let Some(process) = &self.process {
            process.kill();
        }
        // Off a runtime the daemon is ending, and what is left ends with it. The same goes for a runtime that drops the task unfinished: it would drop
        // the next one as well, and that the next.
        if self.in_task || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let remains = Self {
            shared: Arc::clone(&self.shared),
            process: self.process.take(),
            slot: self.slot.take(),
            group: self.group.take(),
            oom: self.oom.take(),
            package: self.package.take(),
            memory: None,
            in_task: true,
        };
        self.shared.tasks.clone().spawn("instance end", remains.clear_up());
    }
}

/// Kills a process tree and waits until it is gone. One that takes its time is put before everything else.
async fn destroy(process: &mut Process, group: Option<&Group>) -> Exit {
    if let Ok(exit) = tokio::time::timeout(HURRY_AFTER, process.destroy()).await {
        return exit;
    }
    let hurry = group.map(Group::hurry).transpose().unwrap_or_else(|error| {
        tracing::debug!(%error, "an instance has to die in its own share of processor time");
        None
    });
    let exit = process.destroy().await;
    drop(hurry);
    exit
}

/// Removes a control group. No thread is held while it waits.
async fn remove(group: Group) {
    let group = Arc::new(group);
    let mut pause = GROUP_REMOVAL_PAUSE;
    for attempt in 1..=GROUP_REMOVALS {
        let own = Arc::clone(&group);
        match tokio::task::spawn_blocking(move || own.remove()).await {
            Ok(Err(error)) if attempt == GROUP_REMOVALS => {
                // The next start of the daemon tries again.
                tracing::warn!(%error, "a control group could not be removed");
            }
            Ok(Err(_)) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Ok(Ok(())) | Err(_) => return,
        }
    }
}

/// Kills an instance when its memory has run out and the kernel would only kill one process of it.
#[derive(Debug)]
struct OomWatch {
    task: AbortHandle,
    fired: Arc<AtomicBool>,
}

impl OomWatch {
    fn start(shared: &Shared, oom: AsyncFd<OwnedFd>, killer: Killer) -> Self {
        let fired = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&fired);
        let task = shared.tasks.spawn("memory watch", async move {
            // An error would only say that the descriptor cannot be waited for, and it can.
            if oom.readable().await.is_ok() {
                said.store(true, Ordering::Release);
                killer.kill();
            }
        });
        Self { task: task.abort_handle(), fired }
    }
}

impl Drop for OomWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
