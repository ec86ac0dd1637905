//! What an instance is whatever it speaks: its processes, what it prints, how it is frozen, how it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::invocation::{Failure, FailureKind, Outcome, StartTimings};
use model::ports::Later;

use super::failure::{self, Autopsy};
use super::freeze::Freezer;
use super::image::Shared;
use super::remains::Remains;
use super::runtimes::MemoryEnd;
use crate::output::Output;

/// How long a process that has closed its end may take to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// A live instance, without its protocol.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) remains: Remains,
    pub(super) output: Output,
    pub(super) shared: Arc<Shared>,
    pub(super) timings: StartTimings,
    memory_mb: u32,
    memory_end: Option<MemoryEnd>,
    /// Once it was to be frozen.
    freezer: Option<Arc<Freezer>>,
    /// What its thaw took for the call that was handed over last, in microseconds.
    thaw_us: u64,
    /// Not to be used again.
    pub(super) broken: bool,
}

impl Life {
    pub(super) fn new(
        shared: Arc<Shared>,
        remains: Remains,
        output: Output,
        memory_mb: u32,
        memory_end: Option<MemoryEnd>,
    ) -> Self {
        Self {
            remains,
            output,
            shared,
            timings: StartTimings::default(),
            memory_mb,
            memory_end,
            freezer: None,
            thaw_us: 0,
            broken: false,
        }
    }

    /// Whether it can serve another call.
    pub(super) fn alive(&self) -> bool {
        !self.broken && self.remains.exit().is_none()
    }

    /// The failure of an instance whose end of the connection is closed.
    pub(super) async fn ended(&mut self) -> Failure {
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

    /// Ends every process of it, at leisure: for one that no call waits for.
    pub(super) async fn stop(&mut self) {
        self.end(false).await;
    }

    /// Ends every process of it.
    pub(super) async fn destroy(&mut self) -> Autopsy {
        self.end(true).await
    }

    async fn end(&mut self, awaited: bool) -> Autopsy {
        self.broken = true;
        let (exit, memory) = self.remains.destroy(awaited).await;
        // What was still in the pipes when it died.
        self.output.drain();
        Autopsy {
            exit,
            peak_bytes: memory.peak_bytes,
            oom_kills: memory.oom_kills,
            memory_mb: self.memory_mb,
            memory_end: self.memory_end,
        }
    }

    /// Says in the function's log how a call failed.
    pub(super) fn note(&mut self, failure: &Failure) {
        let payload = String::from_utf8_lossy(&failure.payload);
        self.output.say(format!("{}: {payload}", failure.kind.as_str()));
    }

    /// Lets it go on if it is frozen; `false` if that cannot be.
    pub(super) fn thaw(&mut self) -> bool {
        let Some(freezer) = self.freezer.as_ref().filter(|freezer| !freezer.is_awake()) else {
            return true;
        };
        let begun = self.shared.clock.instant();
        match freezer.thaw() {
            Ok(true) => self.thaw_us = micros(begun, self.shared.clock.instant()).max(1),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "a frozen instance cannot be used again");
                self.broken = true;
            }
        }
        !self.broken
    }

    /// As `Instance::freeze`, of one that has no call.
    pub(super) fn freeze(&mut self) -> Option<Later> {
        if !self.alive() {
            return None;
        }
        if self.freezer.is_none() {
            self.freezer = self.remains.freezer().map(|means| Arc::new(Freezer::new(means)));
        }
        let freezer = self.freezer.as_ref().filter(|freezer| freezer.is_awake())?;
        freezer.ask();
        let freezer = Arc::clone(freezer);
        Some(Box::new(move || freezer.carry_out()))
    }

    /// Whether it stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.freezer.as_ref().is_some_and(|freezer| freezer.is_frozen())
    }

    /// As `Instance::thaw_us`.
    pub(super) fn take_thaw_us(&mut self) -> u64 {
        std::mem::take(&mut self.thaw_us)
    }

    /// Most memory it ever used, in bytes, where that is known without asking.
    pub(super) fn memory_peak_bytes(&self) -> Option<u64> {
        self.remains.memory.and_then(|memory| memory.peak_bytes)
    }
}

/// The outcome of no call.
pub(super) fn idle() -> Outcome {
    failed(failure::protocol("no call was handed over"))
}

/// The outcome of a call that had no turn.
pub(super) fn failed(failure: Failure) -> Outcome {
    Outcome { result: Err(failure), run_us: 0, busy_us: None, memory_peak_bytes: None }
}

/// A failure in the function's own words, if they are JSON.
pub(super) fn checked(kind: FailureKind, body: Bytes) -> Failure {
    match failure::is_json(&body) {
        true => Failure { kind, payload: body },
        false => failure::protocol("an error that is not JSON"),
    }
}

/// From one instant to another, in microseconds.
pub(crate) fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
