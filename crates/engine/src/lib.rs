//! Decides which instance serves which call, and when instances start and stop. Knows no HTTP, no SQL, no process.
//!
//! [`Engine::invoke`] and [`Engine::enqueue`] are the only doors to execution.

use std::sync::Arc;

use model::Result;
use model::function::{FunctionSettings, Version};
use model::ids::FunctionRef;
use model::invocation::{Call, Completed};
use model::ports::{Enqueued, Revision};

/// Runs calls. Clones share one engine.
#[derive(Clone, Debug)]
pub struct Engine {}

/// What a target resolved to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The version that a call would run.
    pub version: Arc<Version>,
    /// The function's settings.
    pub settings: Arc<FunctionSettings>,
}

impl Engine {
    /// Runs a call and answers with its outcome. The call goes on if the caller goes away.
    pub async fn invoke(&self, _call: Call) -> Result<Completed> {
        unimplemented!()
    }

    /// Accepts an asynchronous call durably.
    pub async fn enqueue(&self, _call: Call) -> Result<Enqueued> {
        unimplemented!()
    }

    /// What a call of this target would run, from the local cache.
    pub async fn resolve(&self, _target: &FunctionRef) -> Result<Resolved> {
        unimplemented!()
    }

    /// Waits until the local cache knows the change `revision`, so that whoever made it sees its effect.
    pub async fn caught_up(&self, _revision: Revision) -> Result<()> {
        unimplemented!()
    }
}
