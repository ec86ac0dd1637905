//! Messages within this process: a list of channels per subject.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::Clock;
use model::ports::{Address, Bus, Message, NodeId, Subscription};
use model::{Code, Error, Result};
use tokio::sync::{mpsc, oneshot};

/// Messages a subscription holds; further ones are lost (the port's figure).
const BUFFER: usize = 256;
/// Largest body, in bytes (the port's figure).
const PAYLOAD_BYTES: usize = 1 << 20;

/// [`Bus`] of a single node.
#[derive(Debug)]
pub(crate) struct EmbeddedBus {
    node: NodeId,
    clock: Arc<dyn Clock>,
    subjects: Mutex<HashMap<Arc<str>, Vec<mpsc::Sender<Message>>>>,
}

impl EmbeddedBus {
    pub(crate) fn new(node: NodeId, clock: Arc<dyn Clock>) -> Self {
        Self { node, clock, subjects: Mutex::default() }
    }

    fn subjects(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<mpsc::Sender<Message>>>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request to one subscriber; the next request starts at the next one. `not-found` if there is none.
    fn hand_over(&self, subject: &str, mut message: Message) -> Result<()> {
        let mut subjects = self.subjects();
        let Some(senders) = live(&mut subjects, subject) else {
            return Err(Error::not_found("subscriber of", subject));
        };
        for _ in 0..senders.len() {
            senders.rotate_left(1);
            let Some(last) = senders.last() else { break };
            match last.try_send(message) {
                Ok(()) => return Ok(()),
                Err(
                    mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back),
                ) => message = back,
            }
        }
        // All are full: the message is lost, and dropping it now would tell the asker more than a cluster could.
        tracing::debug!(subject, "every subscriber's buffer is full; a request is lost");
        Ok(())
    }
}

/// The subject's subscriptions that are still read; `None` if there are none.
fn live<'a>(
    subjects: &'a mut HashMap<Arc<str>, Vec<mpsc::Sender<Message>>>,
    subject: &str,
) -> Option<&'a mut Vec<mpsc::Sender<Message>>> {
    subjects.get_mut(subject)?.retain(|s| !s.is_closed());
    if subjects.get(subject).is_some_and(Vec::is_empty) {
        subjects.remove(subject);
    }
    subjects.get_mut(subject)
}

fn check(payload: &Bytes) -> Result<()> {
    if payload.len() > PAYLOAD_BYTES {
        return Err(Error::caller(
            Code::InvalidParameter,
            format!("message has {} bytes: expected at most {PAYLOAD_BYTES}", payload.len()),
        ));
    }
    Ok(())
}

#[async_trait]
impl Bus for EmbeddedBus {
    fn node(&self) -> NodeId {
        self.node.clone()
    }

    async fn request(
        &self,
        to: Address,
        subject: &str,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Bytes> {
        check(&payload)?;
        if let Address::Node(node) = &to
            && *node != self.node
        {
            return Err(Error::not_found("node", &node.0));
        }
        let (reply, answer) = oneshot::channel();
        self.hand_over(subject, Message { subject: subject.into(), payload, reply: Some(reply) })?;
        let answered = async {
            match answer.await {
                Ok(bytes) => bytes,
                // Dropped unanswered: a cluster could not tell, so neither do we.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            bytes = answered => Ok(bytes),
            () = self.clock.sleep_until(deadline) => Err(Error::platform(
                Code::RequestTimeout,
                format!("no answer on '{subject}' before the deadline"),
            )),
        }
    }

    async fn publish(&self, subject: &str, payload: Bytes) -> Result<()> {
        check(&payload)?;
        let mut subjects = self.subjects();
        let Some(senders) = live(&mut subjects, subject) else { return Ok(()) };
        let subject: Arc<str> = subject.into();
        for sender in senders {
            let message =
                Message { subject: Arc::clone(&subject), payload: payload.clone(), reply: None };
            if sender.try_send(message).is_err() {
                tracing::debug!(%subject, "a subscriber's buffer is full; a message is lost");
            }
        }
        Ok(())
    }

    async fn subscribe(&self, subject: &str) -> Result<Subscription> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let mut subjects = self.subjects();
        if let Some(senders) = live(&mut subjects, subject) {
            senders.push(sender);
        } else {
            subjects.insert(subject.into(), vec![sender]);
        }
        Ok(receiver)
    }
}
