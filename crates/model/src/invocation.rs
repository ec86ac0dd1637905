//! One call: what is asked ([`Call`]), what an instance is given ([`Invocation`]), what came of it ([`Outcome`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::function::CallKey;
use crate::ids::{FunctionRef, Qualifier, RequestId};
use crate::stream::BodyStream;

/// How a call is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvocationKind {
    /// The caller waits for the outcome.
    #[default]
    Sync,
    /// Accepted durably, run later.
    Async,
    /// Only checked.
    DryRun,
}

/// A request to run a function, as it enters the engine.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id, given by whoever accepted it.
    pub id: RequestId,
    /// What to run.
    pub target: FunctionRef,
    /// The event, as the function shall see it. Never parsed on the way.
    pub payload: Bytes,
    /// What else the function sees of the call.
    pub context: CallContext,
}

/// What a function sees of a call beside the event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallContext {
    /// The official trace header's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The client context, as JSON text (AWS Lambda API, `X-Amz-Client-Context` decoded).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<String>,
    /// The AWS-style name that the caller used, where it is not the version's own: that of an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// How many functions called each other to get here.
    #[serde(default)]
    pub hops: u32,
    /// The request's body, where it comes in pieces beside an event that has none; or what comes behind a request for a WebSocket. Only instances whose function [`takes_body_streams`] have such calls, and the
    /// engine sees to it. It is not kept: no call that is queued has one.
    ///
    /// [`takes_body_streams`]: crate::function::FunctionConfig::takes_body_streams
    #[serde(skip)]
    pub body: Option<BodyStream>,
    /// The key that the call came with, and nobody's business behind the door of the engine.
    #[serde(skip)]
    pub key: Option<Box<CallKey>>,
}

/// One attempt, as it is handed to an instance.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The call's id; the same for every attempt.
    pub id: RequestId,
    /// From 1.
    pub attempt: u32,
    /// The event.
    pub payload: Bytes,
    /// How long it may run, from the moment when it is the instance's turn; then the instance is destroyed.
    pub timeout: Duration,
    /// What else the function sees.
    pub context: CallContext,
}

/// The typed result of one attempt.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The function's answer, or how it failed.
    pub result: Result<Bytes, Failure>,
    /// Time spent in the instance, from its turn to the answer received, in microseconds.
    pub run_us: u64,
    /// Time between the function's side taking the call up and its answer, in microseconds, as the runtime says: without any wait for a processor or
    /// for the daemon, and a stranger's word, so good for scheduling and nothing else. `None` if it says nothing.
    pub busy_us: Option<u32>,
    /// Most memory the instance ever used, in bytes, where the sandbox knows it without asking.
    pub memory_peak_bytes: Option<u64>,
}

/// How a function failed. Not an [`crate::error::Error`]: the platform did its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// JSON in the form of the function's language: `{errorMessage, errorType, stackTrace|trace}`.
    pub payload: Bytes,
}

/// The kinds of function failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The handler threw, rejected, or called back with an error.
    Handler,
    /// The code could not be loaded: missing file or export, syntax error, an error at load.
    Init,
    /// Loading took longer than the limit.
    InitTimeout,
    /// The deadline passed; the instance is gone.
    Timeout,
    /// Over the memory limit; the instance is gone.
    MemoryExceeded,
    /// The process ended by itself or by a signal.
    Exited,
    /// The answer was over the response limit.
    ResponseTooLarge,
    /// The process broke the protocol.
    Protocol,
}

impl FailureKind {
    /// The kind as it stands in answers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Init => "init",
            Self::InitTimeout => "init-timeout",
            Self::Timeout => "timeout",
            Self::MemoryExceeded => "memory-exceeded",
            Self::Exited => "exited",
            Self::ResponseTooLarge => "response-too-large",
            Self::Protocol => "protocol",
        }
    }
}

impl Failure {
    /// A failure that the platform words: the function had no chance to.
    pub fn new(kind: FailureKind, error_type: &str, message: &str) -> Self {
        let payload =
            serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string();
        Self { kind, payload: payload.into() }
    }
}

/// Where the time of a call went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Whether this call waited for a new instance.
    pub cold: bool,
    /// Accepted until an instance was at hand, less the start below.
    pub queue_us: u64,
    /// How that instance came up; absent when warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartPath>,
    /// Sandbox set-up, of the instance that served the call; 0 when warm. Of a pre-started one: what was still to be done to it.
    pub sandbox_us: u64,
    /// Runtime start, until its bootstrap ran; 0 when warm or pre-started.
    pub runtime_us: u64,
    /// Loading the code; 0 when warm.
    pub code_us: u64,
    /// Letting the instance go on, which stood still while it was idle; absent if it did not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub thaw_us: u64,
    /// The handler.
    pub handler_us: u64,
    /// Accepted until answered.
    pub total_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How an instance came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartPath {
    /// Its process was made and its runtime executed for this start.
    #[default]
    Exec,
    /// A process that had its runtime loaded and no function yet was given one.
    PreStarted,
    /// Its process was forked from a runtime that was loaded already.
    Zygote,
}

impl StartPath {
    /// The path as it stands in answers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::PreStarted => "pre-started",
            Self::Zygote => "zygote",
        }
    }
}

/// How instances came up since the daemon started, and what lies ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartCounts {
    /// Pre-started instances that wait for a function.
    pub ready: u64,
    /// Starts that a pre-started instance served.
    pub pre_started: u64,
    /// Starts that forked a runtime that was loaded already.
    #[serde(default)]
    pub forked: u64,
    /// Starts that made a process.
    pub executed: u64,
    /// Warm runtimes that wait to be forked.
    #[serde(default)]
    pub zygotes: u64,
    /// Why there are not more of them: runtime and reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_forked: Vec<String>,
}

/// Idle instances, and what was done with such of the daemon's own accord since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdleCounts {
    /// Instances that wait for a call.
    pub idle: u64,
    /// Those of them that stand still, so that their timers and threads do nothing.
    pub frozen: u64,
    /// How often one was made to stand still.
    pub freezes: u64,
    /// How often one went on because a call came.
    pub thaws: u64,
    /// Instances stopped to make room for others.
    pub evicted: u64,
    /// Instances started because a call was about to come.
    pub foreseen: u64,
}

/// How long the start of an instance took, in microseconds, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartTimings {
    /// Which way it was.
    pub path: StartPath,
    /// Namespaces, root, limits.
    pub sandbox_us: u64,
    /// Until the bootstrap ran.
    pub runtime_us: u64,
    /// Loading the code.
    pub code_us: u64,
}

/// The count of failed calls of a version that is watched while an alias shifts to it or away from it.
#[derive(Clone, Debug, Default)]
pub struct ErrorCount(Arc<AtomicU64>);

impl ErrorCount {
    /// Counts one: the function failed, or answered with an error of its own (HTTP, a status from 500).
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the engine answers to a call.
#[derive(Clone, Debug)]
pub struct Completed {
    /// The call's id.
    pub id: RequestId,
    /// The version that ran.
    pub version: Qualifier,
    /// What came of it.
    pub outcome: Outcome,
    /// Where the time went.
    pub timings: Timings,
    /// Where whoever reads the answer counts an error that stands in it; a failure is counted already. `None` if nobody watches.
    pub errors: Option<ErrorCount>,
    /// What the function said before an answer in pieces that was collected: JSON, not checked.
    pub prelude: Option<Box<Bytes>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_they_serialise() {
        for kind in [
            FailureKind::Handler,
            FailureKind::Init,
            FailureKind::InitTimeout,
            FailureKind::Timeout,
            FailureKind::MemoryExceeded,
            FailureKind::Exited,
            FailureKind::ResponseTooLarge,
            FailureKind::Protocol,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for path in [StartPath::Exec, StartPath::PreStarted, StartPath::Zygote] {
            assert_eq!(serde_json::to_value(path).unwrap(), path.as_str());
        }
    }

    #[test]
    fn timings_of_before_there_were_paths_are_read() {
        let json = serde_json::to_value(Timings::default()).unwrap();
        assert!(json.get("start").is_none());
        assert_eq!(serde_json::from_value::<Timings>(json).unwrap(), Timings::default());
    }
}
