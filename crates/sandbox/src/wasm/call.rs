//! One call, from an event to an answer: what it needs, and what came of it.

use std::sync::Arc;

use bytes::Bytes;
use model::ids::RequestId;
use model::invocation::{CallContext, Failure};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::alive::Alive;
use super::guests::Guests;
use super::host::Given;
use super::printed::Output;
use super::program::Program;
use super::{command, proxy};

/// What a call needs.
pub(super) struct Call {
    /// Its id.
    pub(super) id: RequestId,
    /// What it runs.
    pub(super) program: Arc<Program>,
    /// What its instance is given.
    pub(super) given: Arc<Given>,
    /// Where what it prints goes.
    pub(super) output: Output,
    /// The event.
    pub(super) payload: Bytes,
    /// What else it may see.
    pub(super) context: CallContext,
    /// The right to have files.
    pub(super) files: Option<OwnedSemaphorePermit>,
}

/// What came of a call.
#[derive(Debug)]
pub(super) struct Ended {
    /// The answer, or how the function failed. Nothing where the answer went in pieces.
    pub(super) result: Result<Bytes, Failure>,
    /// Most memory that it used, in bytes.
    pub(super) memory_bytes: usize,
    /// The instance, if it may serve another call.
    pub(super) alive: Option<Box<Alive>>,
}

impl Ended {
    /// With nothing left of its instance.
    pub(super) fn of(result: Result<Bytes, Failure>, memory_bytes: usize) -> Self {
        Self { result, memory_bytes, alive: None }
    }
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
    /// Runs it in an instance of its own, which is gone afterwards; unless its function has it serve more calls. `alive`: an instance that has served before, and is to
    /// serve this call as well.
    pub(super) async fn run(
        mut self,
        alive: Option<Box<Alive>>,
        stream: Stream,
        guests: &Guests,
    ) -> Ended {
        let program = Arc::clone(&self.program);
        match &*program {
            Program::Command(program) => command::run(program, &self).await,
            Program::Run(program) => command::run_component(program, &self).await,
            Program::Proxy(program) => {
                proxy::run(program, &mut self, (alive, guests), stream).await
            }
        }
    }
}
