//! From the durable queue to the same attempt that synchronous calls take.
//!
//! A message is settled exactly once per lease: acknowledged on success, due again or dead otherwise. A daemon that dies in between
//! leaves the lease to expire, and the call runs again.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use model::Result;
use model::alias::{Carried, Parameters};
use model::error::{Code, Error};
use model::ids::{Digest, FunctionRef};
use model::invocation::{Call, CallContext};
use model::limits;
use model::ports::{Enqueued, Leased, NewMessage};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::Shared;
use crate::attempt::serve;
use crate::retry::{self, Verdict};
use crate::route::Asked;

/// Most messages taken by one lease.
const LEASE_AT_ONCE: usize = 32;
/// How long one lease call waits for a message to fall due.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// Pause after the queue itself failed.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);

/// What stands in front of the payload in a queued message.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    /// Version of this form.
    v: u32,
    target: FunctionRef,
    context: CallContext,
    /// What the alias's rules and sticky key may read besides the event: the choice is made when the call runs.
    #[serde(default, skip_serializing_if = "Carried::is_empty")]
    parameters: Carried,
}

/// `u32` length of the envelope, envelope as JSON, payload.
fn pack(call: &Call, parameters: Carried) -> Result<Bytes> {
    let (target, context) = (call.target.clone(), call.context.clone());
    let envelope = Envelope { v: 1, target, context, parameters };
    let head = serde_json::to_vec(&envelope).map_err(Error::internal)?;
    let length = u32::try_from(head.len()).map_err(Error::internal)?;
    let mut out = BytesMut::with_capacity(4 + head.len() + call.payload.len());
    out.put_u32_le(length);
    out.put_slice(&head);
    out.put_slice(&call.payload);
    Ok(out.freeze())
}

fn unpack(message: &Leased) -> Option<(Call, Carried)> {
    let length = u32::from_le_bytes(*message.payload.first_chunk()?);
    let end = 4_usize.checked_add(usize::try_from(length).ok()?)?;
    let envelope: Envelope = serde_json::from_slice(message.payload.get(4..end)?).ok()?;
    let call = Call {
        id: message.id,
        target: envelope.target,
        payload: message.payload.slice(end..),
        context: envelope.context,
    };
    (envelope.v == 1).then_some((call, envelope.parameters))
}

/// Accepts a call durably, with those of its parameters that it may need.
pub(crate) async fn enqueue(
    shared: &Shared,
    call: Call,
    parameters: &dyn Parameters,
) -> Result<Enqueued> {
    let (route, alias) = shared.routes.find(&call.target)?;
    if call.payload.len() > limits::ASYNC_PAYLOAD_BYTES {
        return Err(Error::caller(
            Code::PayloadTooLarge,
            format!(
                "payload of an asynchronous call is {} bytes: expected at most {}",
                call.payload.len(),
                limits::ASYNC_PAYLOAD_BYTES
            ),
        ));
    }
    route.namespace().take_call(|| shared.clock.instant())?;
    let named = alias.iter().flat_map(|alias| alias.parameters());
    let carried = Carried::take(parameters, named);
    let message = NewMessage {
        id: call.id,
        partition: partition(&call.target),
        run_at: shared.clock.now(),
        payload: pack(&call, carried)?,
    };
    let answers = shared.queue.enqueue(vec![message]).await?;
    answers.into_iter().next().ok_or_else(|| Error::internal("the queue gave no answer"))
}

/// All calls of a function share a partition, so that their order by due time means something.
fn partition(target: &FunctionRef) -> u16 {
    let hash = Digest::of(target.key.to_string().as_bytes());
    let [a, b, ..] = *hash.as_bytes();
    u16::from_be_bytes([a, b]) % limits::QUEUE_PARTITIONS
}

/// Leases messages and runs them until the engine stops.
pub(crate) async fn drain(shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(shared.config.async_concurrency));
    let stop = shared.tasks.cancelled();
    while !stop.is_cancelled() {
        let Ok(first) = Arc::clone(&room).acquire_owned().await else { return };
        let most = LEASE_AT_ONCE.min(room.available_permits() + 1);
        let leased = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            leased = shared.queue.lease(most, shared.config.async_lease, LEASE_WAIT) => leased,
        };
        let messages = match leased {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "cannot lease queued calls");
                shared.clock.sleep_until(shared.clock.instant() + QUEUE_PAUSE).await;
                continue;
            }
        };
        let mut spare = Some(first);
        for message in messages {
            // Permits for the others are free: only this loop takes them.
            let permit = match spare.take() {
                Some(permit) => permit,
                None => match Arc::clone(&room).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => return,
                },
            };
            let task = Arc::clone(&shared);
            drop(shared.tasks.spawn("queued-call", async move {
                run(&task, message).await;
                drop(permit);
            }));
        }
    }
}

/// Runs one leased message and settles it.
async fn run(shared: &Arc<Shared>, message: Leased) {
    let (id, token) = (message.id, message.token);
    let verdict = match unpack(&message) {
        None => Some(Verdict::Dead("the queued message cannot be read".into())),
        Some((call, parameters)) => {
            let kept = keep_lease(shared, &message);
            tokio::select! {
                verdict = judge(shared, call, &parameters, &message) => verdict,
                // Somebody else has the message now, and settles it.
                () = kept => return,
            }
        }
    };
    let settled = match verdict {
        None => shared.queue.ack(id, token).await,
        Some(Verdict::Again { delay, counted }) => {
            shared.queue.nack(id, token, delay, counted).await
        }
        Some(Verdict::Dead(reason)) => shared.queue.dead(id, token, &reason).await,
    };
    if let Err(error) = settled {
        // The lease expires and the call runs again: at least once.
        tracing::warn!(request = %id, %error, "cannot settle a queued call");
    }
}

/// Runs the call; `None` if it succeeded.
async fn judge(
    shared: &Arc<Shared>,
    call: Call,
    parameters: &Carried,
    message: &Leased,
) -> Option<Verdict> {
    let accepted = shared.clock.instant();
    let (routes, asked) = (&shared.routes, Asked::of(&call, parameters));
    let led = async { routes.pool(asked, routes.lead(asked)?).await };
    let led = match led.await {
        Ok(led) => led,
        Err(e) if e.code() == Code::NotFound => return Some(Verdict::Dead(e.to_string())),
        Err(e) => return Some(refused(shared, message, &e)),
    };
    match serve(shared, led, call, message.deliveries, accepted).await {
        Ok(done) => match done.outcome.result {
            Ok(_) => None,
            Err(failure) => Some(retry::after_failure(message.deliveries, failure.kind.as_str())),
        },
        Err(e) => Some(refused(shared, message, &e)),
    }
}

fn refused(shared: &Shared, message: &Leased, error: &Error) -> Verdict {
    retry::after_refusal(message.enqueued_at, shared.clock.now(), error.message())
}

/// Renews the lease while the call runs; returns once it is lost.
async fn keep_lease(shared: &Shared, message: &Leased) {
    let ttl = shared.config.async_lease;
    loop {
        shared.clock.sleep_until(shared.clock.instant() + ttl / 3).await;
        match shared.queue.extend(message.id, message.token, ttl).await {
            Ok(()) => {}
            Err(error) if error.code() == Code::Conflict => return,
            Err(error) => tracing::warn!(request = %message.id, %error, "cannot renew a lease"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::UnixMillis;
    use model::ids::RequestId;
    use model::ports::Token;

    fn leased(payload: Bytes) -> Leased {
        let (id, enqueued_at) = (RequestId::generate(), UnixMillis(1));
        Leased { id, token: Token(1), deliveries: 1, enqueued_at, payload }
    }

    #[test]
    fn a_call_survives_the_queue() {
        let call = Call {
            id: RequestId::generate(),
            target: FunctionRef::parse("default", "hello:7").unwrap(),
            payload: Bytes::from_static(b"\xff not json"),
            context: CallContext { hops: 3, ..CallContext::default() },
        };
        let mut parameters = Carried::default();
        for parameters in [parameters.clone(), {
            parameters.insert("header.x-beta".parse().unwrap(), "yes".into());
            parameters
        }] {
            let packed = pack(&call, parameters.clone()).unwrap();
            let (back, carried) = unpack(&leased(packed)).unwrap();
            assert_eq!(
                (&back.target, &back.payload, &back.context, carried),
                (&call.target, &call.payload, &call.context, parameters)
            );
        }
    }

    #[test]
    fn messages_of_older_releases_are_read() {
        let head = br#"{"v":1,"target":{"namespace":"default","name":"f","qualifier":"$LATEST"},"context":{"hops":0}}"#;
        let length = u32::try_from(head.len()).unwrap().to_le_bytes();
        let packed = [&length[..], head, b"x"].concat();
        let (call, parameters) = unpack(&leased(packed.into())).unwrap();
        assert_eq!((&*call.payload, parameters.is_empty()), (&b"x"[..], true));
    }

    #[test]
    fn damaged_messages_are_recognised() {
        for bad in [&b""[..], b"\x01", b"\xff\xff\xff\xff", b"\x02\0\0\0{}", b"\x00\0\0\0"] {
            assert!(unpack(&leased(Bytes::copy_from_slice(bad))).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_function_keeps_its_partition() {
        let a = FunctionRef::parse("default", "hello").unwrap();
        let b = FunctionRef::parse("default", "hello:3").unwrap();
        assert_eq!(partition(&a), partition(&b));
        assert!(partition(&a) < limits::QUEUE_PARTITIONS);
    }
}
