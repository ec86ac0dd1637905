//! `InvokeWithResponseStream`: an answer in pieces, as messages of the service's binary stream format
//! ([Amazon Event Stream](https://smithy.io/2.0/aws/amazon-eventstream.html)).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use engine::Reply;
use http::{HeaderValue, Response, header};
use hyper::body::Frame;
use model::ids::Qualifier;
use model::invocation::{ErrorCount, Failure, InvocationKind};
use model::stream::Part;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::asked::Asked;
use super::error::Fault;
use super::{Answer, invoke};
use crate::gateway;
use crate::parameters::RequestParameters;

/// Bytes of a message before its headers: two lengths and their checksum.
const PRELUDE_BYTES: usize = 12;
/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;
/// The type of a header that is text.
const TEXT: u8 = 7;
/// What stands between what a function says of its answer and the answer (AWS Lambda, "Using response streaming with HTTP responses").
const BREAK: [u8; 8] = [0; 8];

pub(super) async fn invoke(asked: Asked) -> Answer {
    let headers = &asked.parts.headers;
    let (kind, _, context) =
        (invoke::kind(headers)?, invoke::wants_log(headers)?, invoke::context(headers)?);
    let target = asked.target()?;
    let parameters = RequestParameters::of_call(headers, asked.from);
    if kind == InvocationKind::Async {
        return Err(Fault::invalid(
            "InvocationType is not valid: expected RequestResponse or DryRun",
        ));
    }
    if kind == InvocationKind::DryRun {
        return invoke::dry_run(&asked, &target, &parameters);
    }
    let call = invoke::call(&asked, &target, context);
    let answer = asked.app.engine.invoke_in_pieces(call, &parameters).await;
    Ok(match answer.map_err(|error| asked.not_found(error, &target))? {
        Reply::Whole(completed) => {
            let (_, parts) = mpsc::channel(1);
            let messages = match completed.outcome.result {
                Ok(body) if body.is_empty() => vec![complete(None)],
                Ok(body) => vec![chunk(&body), complete(None)],
                Err(failure) => vec![complete(Some(&failure))],
            };
            let events = Events { ready: messages.into(), parts, errors: None, over: true };
            answered(events, &completed.version)
        }
        Reply::Stream(stream) => {
            let said = gateway::prelude(&stream.prelude);
            let errors = stream.errors.filter(|_| said.status().is_server_error());
            let ready = before(&stream.prelude).map(|said| chunk(&said)).into_iter().collect();
            answered(Events { ready, parts: stream.parts, errors, over: false }, &stream.version)
        }
    })
}

fn answered(events: Events, version: &Qualifier) -> Response<Body> {
    let mut response = Response::new(Body::new(events));
    let stream = HeaderValue::from_static("application/vnd.amazon.eventstream");
    response.headers_mut().insert(header::CONTENT_TYPE, stream);
    invoke::versioned(response, version)
}

/// What a function said before its answer, if it speaks of HTTP: that is a part of the answer to these clients.
fn before(said: &Bytes) -> Option<Bytes> {
    let of: Value = serde_json::from_slice(said).ok()?;
    let members = of.as_object()?;
    let only_type = |headers: &Value| {
        headers.as_object().is_some_and(|h| h.keys().all(|name| name == "content-type"))
    };
    // A media type alone may come of a function that knows nothing of HTTP.
    if members.iter().all(|(name, value)| name == "headers" && only_type(value)) {
        return None;
    }
    Some([said, BREAK.as_slice()].concat().into())
}

/// The body: messages, made of the pieces as they come.
#[derive(Debug)]
struct Events {
    ready: VecDeque<Bytes>,
    parts: mpsc::Receiver<Part>,
    /// Where an error is counted that stands in the status, once the stream has ended without one of its own.
    errors: Option<ErrorCount>,
    /// Nothing more comes but what is ready.
    over: bool,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let message = match ready!(self.parts.poll_recv(cx)) {
            Some(Part::Piece(piece)) => chunk(&piece),
            Some(Part::End(end)) => {
                self.over = true;
                if let (Ok(()), Some(errors)) = (&end, &self.errors) {
                    errors.count();
                }
                complete(end.err().as_ref())
            }
            None => {
                self.over = true;
                let details = "the daemon stopped before the function had answered";
                event("InvokeComplete", "application/json", &ended("ServiceException", details))
            }
        };
        Poll::Ready(Some(Ok(Frame::data(message))))
    }
}

fn chunk(piece: &[u8]) -> Bytes {
    event("PayloadChunk", "application/octet-stream", piece)
}

fn complete(failure: Option<&Failure>) -> Bytes {
    let body = match failure {
        None => b"{}".to_vec(),
        Some(failure) => ended("Unhandled", &String::from_utf8_lossy(&failure.payload)),
    };
    event("InvokeComplete", "application/json", &body)
}

fn ended(code: &str, details: &str) -> Vec<u8> {
    json!({ "ErrorCode": code, "ErrorDetails": details }).to_string().into_bytes()
}

/// One message.
fn event(kind: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::with_capacity(128);
    for (name, value) in
        [(":event-type", kind), (":content-type", content_type), (":message-type", "event")]
    {
        // These names and values are far below the bounds of their lengths.
        headers.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        headers.put_slice(value.as_bytes());
    }
    let length = PRELUDE_BYTES + headers.len() + payload.len() + CHECKSUM_BYTES;
    let mut message = BytesMut::with_capacity(length);
    message.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.put_u32(u32::try_from(headers.len()).unwrap_or(u32::MAX));
    message.put_u32(crc32fast::hash(&message));
    message.put_slice(&headers);
    message.put_slice(payload);
    message.put_u32(crc32fast::hash(&message));
    message.freeze()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use model::invocation::FailureKind;

    use super::*;

    /// The messages in some bytes: what they are called, and their payloads.
    fn read(mut bytes: Bytes) -> Vec<(String, Bytes)> {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let message = bytes.split_to(number(&bytes) as usize);
            assert_eq!(number(&message[8..]), crc32fast::hash(&message[..8]));
            let (body, sum) = message.split_at(message.len() - CHECKSUM_BYTES);
            assert_eq!(number(sum), crc32fast::hash(body));
            let headers = &body[PRELUDE_BYTES..][..number(&body[4..]) as usize];
            let text = String::from_utf8_lossy(headers);
            let kind = ["PayloadChunk", "InvokeComplete"].into_iter().find(|k| text.contains(k));
            let payload = Bytes::copy_from_slice(&body[PRELUDE_BYTES + headers.len()..]);
            found.push((kind.unwrap().to_owned(), payload));
        }
        found
    }

    async fn sent(parts: Vec<Part>) -> Vec<(String, Bytes)> {
        let (sender, receiver) = mpsc::channel(8);
        for part in parts {
            sender.send(part).await.unwrap();
        }
        drop(sender);
        let events = Events { ready: VecDeque::new(), parts: receiver, errors: None, over: false };
        read(events.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn pieces_are_messages_and_the_end_is_one() {
        let piece = || Part::Piece(Bytes::from_static(b"abc"));
        let chunk = ("PayloadChunk".to_owned(), Bytes::from_static(b"abc"));
        let good = sent(vec![piece(), piece(), Part::End(Ok(()))]).await;
        let end = ("InvokeComplete".to_owned(), Bytes::from_static(b"{}"));
        assert_eq!(good, [chunk.clone(), chunk.clone(), end]);

        let failure = Failure::new(FailureKind::Timeout, "T", "late");
        for (parts, code) in [
            (vec![piece(), Part::End(Err(failure))], "Unhandled"),
            (vec![piece()], "ServiceException"),
        ] {
            let sent = sent(parts).await;
            let end: Value = serde_json::from_slice(&sent[1].1).unwrap();
            assert_eq!((sent[0].clone(), end["ErrorCode"].as_str()), (chunk.clone(), Some(code)));
        }
    }

    #[test]
    fn what_is_said_of_http_is_a_part_of_the_answer() {
        let before = |said: &'static str| before(&Bytes::from_static(said.as_bytes()));
        assert_eq!(
            before(r#"{"statusCode":201}"#).unwrap(),
            "{\"statusCode\":201}\0\0\0\0\0\0\0\0"
        );
        assert!(before(r#"{"headers":{"x-a":"b"}}"#).is_some());
        for none in ["{}", r#"{"headers":{"content-type":"text/plain"}}"#, "", "[]"] {
            assert_eq!(before(none), None, "{none}");
        }
    }
}
