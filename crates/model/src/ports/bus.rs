//! Port: messages between nodes that may be lost.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::Result;

/// One daemon among those that share a store.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NodeId(pub Arc<str>);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who shall answer a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// This node.
    Node(NodeId),
    /// Any one node that subscribes to the subject.
    AnyOf,
}

/// Takes the answer to a request; absent for a publish. Dropping it unanswered lets the asker run into its deadline.
pub type Reply = oneshot::Sender<Bytes>;

/// What a subscriber receives.
#[derive(Debug)]
pub struct Message {
    /// The subject it was sent to.
    pub subject: Arc<str>,
    /// The body; at most 1 MiB.
    pub payload: Bytes,
    /// Where to answer, for a request.
    pub reply: Option<Reply>,
}

/// A running subscription; dropping it ends it. Messages beyond its buffer of 256 are lost.
pub type Subscription = mpsc::Receiver<Message>;

/// At-most-once messages. Contract: `suites::bus`. Whoever sends owns the retry.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug {
    /// This node.
    fn node(&self) -> NodeId;

    /// Asks one node; `not-found` if nobody subscribes, `request-timeout` at the deadline.
    async fn request(
        &self,
        to: Address,
        subject: &str,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Bytes>;

    /// Tells every subscriber of the subject, on every node.
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<()>;

    /// Receives what is sent to the subject.
    async fn subscribe(&self, subject: &str) -> Result<Subscription>;
}
