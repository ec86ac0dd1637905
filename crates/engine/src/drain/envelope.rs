//! A call as it lies in the queue: `u32` length of the envelope (little-endian), envelope as JSON, payload.

use bytes::{BufMut, Bytes, BytesMut};
use model::Result;
use model::alias::Carried;
use model::calls::KEEP_DEAD_SECONDS;
use model::clock::UnixMillis;
use model::error::Error;
use model::function::{AsyncPolicy, RetryCurve};
use model::ids::FunctionRef;
use model::invocation::{Call, CallContext};
use model::ports::Leased;
use serde::{Deserialize, Serialize};

use super::destination::OnEnd;

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
    /// Somebody waited for it when it was accepted: see [`Queued::awaited`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    awaited: bool,
    /// When it was due first, if it was accepted with a delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<UnixMillis>,
    /// Of what tells the function's webhook of an end: of which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<OnEnd>,
    /// Of a call that is a chunk of a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk: Option<ChunkRules>,
}

/// What holds for a chunk of a map instead of what its function says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkRules {
    /// Attempts in all.
    pub(crate) attempts: u32,
}

impl ChunkRules {
    /// The same as a function would say it. Pauses are short: somebody waits for the whole map. What came of a chunk is kept until the map has it, and forgets it itself.
    pub(super) fn policy(self) -> AsyncPolicy {
        let (first_seconds, factor, ceiling_seconds) = (Some(1), Some(2), Some(60));
        let retry = RetryCurve { first_seconds, factor, ceiling_seconds, ..RetryCurve::default() };
        AsyncPolicy {
            attempts: Some(self.attempts),
            retry: Some(Box::new(retry)),
            keep_result_seconds: Some(KEEP_DEAD_SECONDS),
            ..AsyncPolicy::default()
        }
    }
}

/// What lies in a message.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) call: Call,
    pub(crate) parameters: Carried,
    /// A synchronous call: the function's first failure is its result.
    pub(crate) awaited: bool,
    /// When it was due first, if it was accepted with a delay.
    pub(crate) due: Option<UnixMillis>,
    /// Of a chunk of a map.
    pub(crate) chunk: Option<ChunkRules>,
    /// Not the function is called, but its webhook for this end.
    pub(crate) webhook: Option<OnEnd>,
}

impl Queued {
    /// A call of which nothing special is asked.
    pub(crate) fn of(call: Call) -> Self {
        let parameters = Carried::default();
        Self { call, parameters, awaited: false, due: None, chunk: None, webhook: None }
    }
}

/// The message of a call.
pub(crate) fn pack(queued: Queued) -> Result<Bytes> {
    let Queued { call, parameters, awaited, due, chunk, webhook } = queued;
    let Call { target, context, payload, .. } = call;
    let envelope = Envelope { v: 1, target, context, parameters, awaited, due, chunk, webhook };
    let head = serde_json::to_vec(&envelope).map_err(Error::internal)?;
    let length = u32::try_from(head.len()).map_err(Error::internal)?;
    let mut out = BytesMut::with_capacity(4 + head.len() + payload.len());
    out.put_u32_le(length);
    out.put_slice(&head);
    out.put_slice(&payload);
    Ok(out.freeze())
}

/// Where the envelope ends and the event begins.
fn end(payload: &Bytes) -> Option<usize> {
    let length = u32::from_le_bytes(*payload.first_chunk()?);
    let end = 4_usize.checked_add(usize::try_from(length).ok()?)?;
    (end <= payload.len()).then_some(end)
}

/// The event of a message; none if it is damaged.
pub(crate) fn event(payload: &Bytes) -> Option<Bytes> {
    Some(payload.slice(end(payload)?..))
}

/// The call of a message; none if it is damaged.
pub(super) fn unpack(message: &Leased) -> Option<Queued> {
    let end = end(&message.payload)?;
    let envelope: Envelope = serde_json::from_slice(message.payload.get(4..end)?).ok()?;
    let call = Call {
        id: message.id,
        target: envelope.target,
        payload: message.payload.slice(end..),
        context: envelope.context,
    };
    let Envelope { v, parameters, awaited, due, chunk, webhook, .. } = envelope;
    (v == 1).then_some(Queued { call, parameters, awaited, due, chunk, webhook })
}

#[cfg(test)]
mod tests {
    use super::*;
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
            for due in [None, Some(UnixMillis(7))] {
                let (chunk, awaited) = (due.map(|_| ChunkRules { attempts: 7 }), due.is_none());
                let webhook = due.map(|_| OnEnd::Failure);
                let queued = Queued {
                    parameters: parameters.clone(),
                    awaited,
                    due,
                    chunk,
                    webhook,
                    ..Queued::of(call.clone())
                };
                let back = unpack(&leased(pack(queued).unwrap())).unwrap();
                assert_eq!(
                    (&back.call.target, &back.call.payload, &back.call.context),
                    (&call.target, &call.payload, &call.context)
                );
                assert_eq!((&back.parameters, back.due, back.chunk), (&parameters, due, chunk));
                assert_eq!((back.awaited, back.webhook), (awaited, webhook));
            }
        }
    }

    #[test]
    fn messages_of_older_releases_are_read() {
        let head = br#"{"v":1,"target":{"namespace":"default","name":"f","qualifier":"$LATEST"},"context":{"hops":0}}"#;
        let length = u32::try_from(head.len()).unwrap().to_le_bytes();
        let packed = [&length[..], head, b"x"].concat();
        let back = unpack(&leased(packed.into())).unwrap();
        assert_eq!((&*back.call.payload, back.parameters.is_empty()), (&b"x"[..], true));
        assert_eq!((back.due, back.chunk, back.awaited), (None, None, false));
    }

    #[test]
    fn a_chunk_is_tried_again_soon() {
        let policy = ChunkRules { attempts: 9 }.policy();
        policy.validate().unwrap();
        let pauses = (1..9).map(|failed| policy.retry.as_ref().unwrap().pause(failed).as_secs());
        assert_eq!(pauses.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.attempts(), 9);
    }

    #[test]
    fn damaged_messages_are_recognised() {
        for bad in [&b""[..], b"\x01", b"\xff\xff\xff\xff", b"\x02\0\0\0{}", b"\x00\0\0\0"] {
            assert!(unpack(&leased(Bytes::copy_from_slice(bad))).is_none(), "{bad:?}");
        }
    }
}
