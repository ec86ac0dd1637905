//! Calls a function through the REST API.

use std::io::{self, Read as _};
use std::time::Duration;

use model::api::{
    HEADER_DELAY, HEADER_FUNCTION_ERROR, HEADER_INVOCATION, HEADER_REQUEST_ID, HEADER_STREAM,
    HEADER_TIMINGS, HEADER_VERSION,
};
use model::function::HEADER_IDEMPOTENCY_KEY;
use model::ids::FunctionRef;
use model::invocation::{InvocationKind, Timings};
use model::limits;
use ureq::http::{Method, Response};
use ureq::{Body, SendBody};

use super::{Answer, Ask, Client, encode};
use crate::cli::failure::CliError;

/// Longest run of a function, its start, and what a call may wait in the daemon's queue.
const INVOKE_TIMEOUT: Duration =
    Duration::from_millis(limits::TIMEOUT_MAX_MS as u64 + limits::INIT_TIMEOUT_MS as u64 + 60_000);

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Invoked {
    /// The call's id.
    pub request_id: String,
    /// The version that ran; empty if none did.
    pub version: String,
    /// The kind of failure, if the function failed; the body is then its error.
    pub failure: Option<String>,
    /// The function's answer, or its error, as it wrote it.
    pub body: Vec<u8>,
    /// Where the time went; absent for calls that did not run.
    pub timings: Option<Timings>,
    /// Whether the answer came in pieces, which were handed on and are not in `body`.
    pub in_pieces: bool,
}

/// What is said of a call whose answer came in pieces and broke off.
pub(crate) const CUT: &str = "stream-cut";
/// What is read of an answer at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// How a call is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How<'a> {
    pub(crate) kind: InvocationKind,
    /// An asynchronous one is due after so many seconds.
    pub(crate) delay_seconds: Option<u64>,
    /// The call's key.
    pub(crate) key: Option<&'a str>,
}

/// Who takes the pieces of an answer as they come.
pub(crate) type Pieces<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

impl Client {
    /// Calls a function. A failure of the function is no error here. Without anybody who takes `pieces` they are collected.
    pub(crate) fn invoke(
        &self,
        target: &FunctionRef,
        how: How<'_>,
        payload: &[u8],
        pieces: Option<Pieces<'_>>,
    ) -> Result<Invoked, CliError> {
        if payload.len() > limits::SYNC_PAYLOAD_BYTES {
            return Err(CliError::new(format!(
                "payload is too large: {} bytes, expected at most {}",
                payload.len(),
                limits::SYNC_PAYLOAD_BYTES
            ))
            .code("payload-too-large")
            .hint("put large data somewhere the function can read it, and pass its address"));
        }
        let path = format!(
            "/v1/namespaces/{}/functions/{}/invoke?qualifier={}",
            target.key.namespace,
            target.key.name,
            encode(&target.qualifier.to_string())
        );
        let How { kind, delay_seconds, key } = how;
        let kind = match kind {
            InvocationKind::Sync => "sync",
            InvocationKind::Async => "async",
            InvocationKind::DryRun => "dry-run",
        };
        // An absent body and an empty one mean the same, but a POST says how long its body is.
        let payload = if payload.is_empty() { b"{}" } else { payload };
        let (length, delay) = (payload.len().to_string(), delay_seconds.map(|s| s.to_string()));
        let mut headers = vec![
            ("content-type", "application/json"),
            ("content-length", &*length),
            (HEADER_INVOCATION, kind),
            (HEADER_TIMINGS, "1"),
        ];
        headers.extend(delay.as_deref().map(|delay| (HEADER_DELAY, delay)));
        headers.extend(key.map(|key| (HEADER_IDEMPOTENCY_KEY, key)));
        let ask = Ask {
            method: &Method::POST,
            path: &path,
            headers: &headers,
            patience: Some(INVOKE_TIMEOUT),
        };
        let response = self.send(ask, SendBody::from_reader(&mut &*payload))?;
        match pieces {
            Some(pieces) if response.headers().contains_key(HEADER_STREAM) => {
                hand_on(response, pieces)
                    .map_err(|e| CliError::new(format!("the answer cannot be written: {e}")))
            }
            _ => self.accept(response).map(Invoked::from),
        }
    }
}

/// Hands pieces on until there are no more.
fn hand_on(response: Response<Body>, pieces: Pieces<'_>) -> io::Result<Invoked> {
    let (parts, body) = response.into_parts();
    let head = Answer { status: parts.status.as_u16(), headers: parts.headers, body: Vec::new() };
    let mut invoked = Invoked { in_pieces: true, ..Invoked::from(head) };
    let (mut reader, mut buffer) = (body.into_reader(), vec![0; PIECE_BYTES]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(invoked),
            Ok(n) => pieces(buffer.get(..n).unwrap_or_default())?,
            Err(_) => {
                invoked.failure = Some(CUT.to_owned());
                return Ok(invoked);
            }
        }
    }
}

impl From<Answer> for Invoked {
    fn from(answer: Answer) -> Self {
        let text = |name| answer.header(name).unwrap_or_default().to_owned();
        Self {
            request_id: text(HEADER_REQUEST_ID),
            version: text(HEADER_VERSION),
            failure: answer.header(HEADER_FUNCTION_ERROR).map(str::to_owned),
            timings: answer.header(HEADER_TIMINGS).and_then(|t| serde_json::from_str(t).ok()),
            body: answer.body,
            in_pieces: false,
        }
    }
}
