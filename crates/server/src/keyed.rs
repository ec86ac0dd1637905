//! Keys of calls as HTTP has them: read from requests, and said in answers.

use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use model::api::{HEADER_REPLAYED, HEADER_REQUEST_ID};
use model::error::Error;
use model::function::{CallKey, HEADER_IDEMPOTENCY_KEY, read_idempotency_key};
use model::ids::{Digest, RequestId};

use crate::error::request_id_value;

/// The key in the header of a call through the API.
///
/// Errors: `invalid-parameter`.
pub(crate) fn of_call(headers: &HeaderMap, payload: &[u8]) -> Result<Option<Box<CallKey>>, Error> {
    let Some(value) = headers.get(HEADER_IDEMPOTENCY_KEY) else { return Ok(None) };
    let given = Some(read_idempotency_key(value.as_bytes())?);
    Ok(Some(Box::new(CallKey { given, print: Digest::of(payload) })))
}

/// What makes a request to a function's URL the same as another: method, path, query and body. Headers change on the way, and its event has the time.
pub(crate) fn of_url(parts: &Parts, path: &str, body: &[u8]) -> Box<CallKey> {
    let mut whole = Vec::new();
    // None of them holds a zero.
    for part in [parts.method.as_str(), path, parts.uri.query().unwrap_or_default()] {
        whole.extend_from_slice(part.as_bytes());
        whole.push(0);
    }
    whole.extend_from_slice(body);
    Box::new(CallKey { given: None, print: Digest::of(&whole) })
}

/// Says in an answer that it is that of the call `first`, which came before the one that was asked for.
pub(crate) fn say_replayed(headers: &mut HeaderMap, first: RequestId) {
    headers.insert(HEADER_REQUEST_ID, request_id_value(first));
    headers.insert(HEADER_REPLAYED, HeaderValue::from_static("true"));
}
