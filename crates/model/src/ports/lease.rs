//! Port: who of several nodes may do a thing.

use std::time::Duration;

use async_trait::async_trait;

use crate::Result;

/// Ascends with every change of the holder: an action that carries it can be refused once it is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// Named, expiring, exclusive rights. Contract: `suites::lease`.
///
/// At most one holder at a time, up to the drift of the nodes' clocks. Actions carry the fence and a key that makes them idempotent.
#[async_trait]
pub trait Lease: Send + Sync + std::fmt::Debug {
    /// Takes `name` for `ttl`; `None` while somebody else holds it. Whoever holds it already gets a new, higher fence.
    async fn acquire(&self, name: &str, ttl: Duration) -> Result<Option<Fence>>;

    /// Keeps it for `ttl` from now; `false` if it is no longer held under this fence.
    async fn renew(&self, name: &str, fence: Fence, ttl: Duration) -> Result<bool>;

    /// Gives it back early.
    async fn release(&self, name: &str, fence: Fence) -> Result<()>;
}
