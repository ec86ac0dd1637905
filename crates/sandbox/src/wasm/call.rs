//! One call, from an event to an answer: what it needs, and what came of it.

use std::sync::Arc;

use bytes::Bytes;
use model::ids::{FunctionKey, RequestId};
use model::invocation::{CallContext, Failure};
use tokio::sync::{mpsc, oneshot};

use super::host::Environment;
use super::printed::Output;
use super::program::Program;
use super::{command, proxy};

/// What a call needs.
pub(super) struct Call {
    /// Its id.
    pub(super) id: RequestId,
    /// Whose it is.
    pub(super) function: FunctionKey,
    /// What it runs.
    pub(super) program: Arc<Program>,
    /// Its variables.
    pub(super) environment: Environment,
    /// Where what it prints goes.
    pub(super) output: Output,
    /// The event.
    pub(super) payload: Bytes,
    /// What else it may see.
    pub(super) context: CallContext,
    /// Its memory limit, in MiB.
    pub(super) memory_mb: u32,
}

/// What came of a call.
#[derive(Debug)]
pub(super) struct Ended {
    /// The answer, or how the function failed. Nothing where the answer went in pieces.
    pub(super) result: Result<Bytes, Failure>,
    /// Most memory that it used, in bytes.
    pub(super) memory_bytes: usize,
}

/// Where an answer in pieces goes.
#[derive(Debug)]
pub(super) struct Stream {
    /// What stands before the pieces, once.
    pub(super) prelude: oneshot::Sender<Bytes>,
    /// The pieces.
    pub(super) pieces: mpsc::Sender<Bytes>,
}

impl Call {
    /// Runs it in an instance of its own, which is gone afterwards.
    pub(super) async fn run(self, stream: Stream) -> Ended {
        match &*self.program {
            Program::Command(program) => command::run(program, &self).await,
            Program::Run(program) => command::run_component(program, &self).await,
            Program::Proxy(program) => proxy::run(program, &self, stream).await,
        }
    }
}
