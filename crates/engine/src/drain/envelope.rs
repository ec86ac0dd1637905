//! A call as it lies in the queue: `u32` length of the envelope (little-endian), envelope as JSON, payload.

use bytes::{BufMut, Bytes, BytesMut};
use model::Result;
use model::alias::Carried;
use model::clock::UnixMillis;
use model::error::Error;
use model::ids::FunctionRef;
use model::invocation::{Call, CallContext};
use model::ports::Leased;
use serde::{Deserialize, Serialize};

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
}

/// What lies in a message.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) call: Call,
    pub(super) parameters: Carried,
    /// A synchronous call: the function's first failure is its result.
    pub(super) awaited: bool,
    /// When it was due first, if it was accepted with a delay.
    pub(super) due: Option<UnixMillis>,
}

/// The message of a call.
pub(super) fn pack(queued: Queued) -> Result<Bytes> {
    let Queued { call, parameters, awaited, due } = queued;
    let envelope =
        Envelope { v: 1, target: call.target, context: call.context, parameters, awaited, due };
    let head = serde_json::to_vec(&envelope).map_err(Error::internal)?;
    let length = u32::try_from(head.len()).map_err(Error::internal)?;
    let mut out = BytesMut::with_capacity(4 + head.len() + call.payload.len());
    out.put_u32_le(length);
    out.put_slice(&head);
    out.put_slice(&call.payload);
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
    let Envelope { v, parameters, awaited, due, .. } = envelope;
    (v == 1).then_some(Queued { call, parameters, awaited, due })
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
            for (due, awaited) in [(None, true), (Some(UnixMillis(7)), false)] {
                let (call, parameters) = (call.clone(), parameters.clone());
                let queued =
                    Queued { call: call.clone(), parameters: parameters.clone(), awaited, due };
                let back = unpack(&leased(pack(queued).unwrap())).unwrap();
                assert_eq!(
                    (&back.call.target, &back.call.payload, &back.call.context),
                    (&call.target, &call.payload, &call.context)
                );
                assert_eq!((&back.parameters, back.due, back.awaited), (&parameters, due, awaited));
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
        assert_eq!((back.due, back.awaited), (None, false));
    }

    #[test]
    fn damaged_messages_are_recognised() {
        for bad in [&b""[..], b"\x01", b"\xff\xff\xff\xff", b"\x02\0\0\0{}", b"\x00\0\0\0"] {
            assert!(unpack(&leased(Bytes::copy_from_slice(bad))).is_none(), "{bad:?}");
        }
    }
}
