//! Port: the durable queue behind asynchronous calls.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::clock::UnixMillis;
use crate::ids::RequestId;

/// A message to enqueue.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its id, also the key of de-duplication.
    pub id: RequestId,
    /// Hash partition: `0..limits::QUEUE_PARTITIONS`.
    pub partition: u16,
    /// Not leased before this time.
    pub run_at: UnixMillis,
    /// At most 1 MiB plus an envelope of 64 KiB.
    pub payload: Bytes,
}

/// Answer to an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// Stored.
    New,
    /// A message of this id was enqueued before, within the window; nothing was stored.
    Duplicate,
}

/// Fences a lease: worthless once the lease has expired and the message was leased again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A message on lease.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Its id.
    pub id: RequestId,
    /// What to show when settling it.
    pub token: Token,
    /// How often it was leased, this time included, deliveries taken back left out.
    pub deliveries: u32,
    /// When it was first enqueued.
    pub enqueued_at: UnixMillis,
    /// The payload.
    pub payload: Bytes,
}

/// A message that was given up.
#[derive(Clone, Debug)]
pub struct DeadMessage {
    /// Its id.
    pub id: RequestId,
    /// Why.
    pub reason: String,
    /// How often it was leased.
    pub deliveries: u32,
    /// When it was given up.
    pub dead_at: UnixMillis,
    /// The payload.
    pub payload: Bytes,
}

/// At-least-once messages. Contract: `suites::queue`.
///
/// Durable before acknowledged, in every method. No order over the whole queue; among due messages of a partition the one due first is
/// leased first. De-duplication by id holds for at least [`DEDUPE_WINDOW`] after the enqueue, also once the message is settled.
/// Settling with a stale token fails with `conflict` and changes nothing.
#[async_trait]
pub trait Queue: Send + Sync + std::fmt::Debug {
    /// Stores messages, all or none; an answer each, in order.
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>>;

    /// Up to `n` due messages, hidden from others for `ttl`. Returns as soon as there is one, or empty after `wait`.
    async fn lease(&self, n: usize, ttl: Duration, wait: Duration) -> Result<Vec<Leased>>;

    /// Done: removes the message.
    async fn ack(&self, id: RequestId, token: Token) -> Result<()>;

    /// Not done: due again after `delay`. With `counted` false the delivery is taken back: [`Leased::deliveries`] of the next
    /// lease does not count it (the message never reached the function: a throttle, a fault of the platform).
    async fn nack(&self, id: RequestId, token: Token, delay: Duration, counted: bool)
    -> Result<()>;

    /// Still at it: hidden for `ttl` from now. The token stays good.
    async fn extend(&self, id: RequestId, token: Token, ttl: Duration) -> Result<()>;

    /// Given up: moves the message to the dead ones.
    async fn dead(&self, id: RequestId, token: Token, reason: &str) -> Result<()>;

    /// Dead messages, oldest first, after `after`, at most `limit`.
    async fn dead_messages(
        &self,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<DeadMessage>>;

    /// Messages waiting or on lease.
    async fn depth(&self) -> Result<u64>;
}

/// De-duplication window of [`Queue::enqueue`].
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(10 * 60);
