//! Answer → reply: what a server or a component answers, in the form that functions answer HTTP events with (AWS Lambda, "Response payload format"), or as what
//! stands before an answer in pieces.

use std::borrow::Cow;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use model::invocation::{Failure, FailureKind};
use model::limits;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::Form;
use super::headers::{all_named, is_hop_by_hop};
use crate::process::failure::{is_json, is_own, response_too_large};

/// Longest quotation of a body in an error, in characters.
const QUOTED_CHARS: usize = 1000;
/// What the error of a status other than success is called, where the function has no words of its own.
const STATUS_ERROR: &str = "Function.HttpStatus";

/// A whole answer to an event of this form: at most [`limits::RESPONSE_BYTES`].
pub(crate) fn whole(parts: &Parts, body: Bytes, form: Form) -> Result<Bytes, Failure> {
    let answer = match form {
        Form::Http => reply(parts, &body),
        Form::Plain if parts.status.is_success() => plain(body),
        Form::Plain => Err(refusal(parts, body)),
    }?;
    match answer.len() > limits::RESPONSE_BYTES {
        true => Err(response_too_large(answer.len(), limits::RESPONSE_BYTES)),
        false => Ok(answer),
    }
}

/// What stands before the pieces of an answer.
pub(crate) fn prelude(parts: &Parts) -> Result<Bytes, Failure> {
    written(serde_json::to_vec(&Reply { parts, body: None }))
}

fn reply(parts: &Parts, body: &[u8]) -> Result<Bytes, Failure> {
    let mut out = Vec::with_capacity(512 + body.len() / 3 * 4);
    let done = serde_json::to_writer(&mut out, &Reply { parts, body: Some(body) });
    written(done.map(|()| out))
}

fn written(json: serde_json::Result<Vec<u8>>) -> Result<Bytes, Failure> {
    json.map(Into::into).map_err(|error| {
        Failure::new(FailureKind::Protocol, "Runtime.MarshalError", &error.to_string())
    })
}

/// JSON as it is, other text as a string, nothing as `null`.
fn plain(body: Bytes) -> Result<Bytes, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    if is_json(&body) {
        return Ok(body);
    }
    written(match std::str::from_utf8(&body) {
        Ok(text) => serde_json::to_vec(text),
        Err(_) => serde_json::to_vec(&Base64(&body)),
    })
}

/// Whoever did not ask by HTTP knows no status: any but success is a failed call, in the function's own words if they have the form of errors.
fn refusal(parts: &Parts, body: Bytes) -> Failure {
    if is_own(&body) {
        return Failure { kind: FailureKind::Handler, payload: body };
    }
    let quoted: String = String::from_utf8_lossy(&body).chars().take(QUOTED_CHARS).collect();
    let message = format!("the event was answered with {}: {quoted}", parts.status);
    Failure::new(FailureKind::Handler, STATUS_ERROR, message.trim_end_matches([':', ' ']))
}

struct Reply<'a> {
    parts: &'a Parts,
    body: Option<&'a [u8]>,
}

impl Serialize for Reply<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let headers = &self.parts.headers;
        let mut reply = s.serialize_map(None)?;
        reply.serialize_entry("statusCode", &self.parts.status.as_u16())?;
        reply.serialize_entry("headers", &Lines(headers))?;
        if headers.contains_key(header::SET_COOKIE) {
            let cookies: Vec<_> = headers.get_all(header::SET_COOKIE).iter().map(text).collect();
            reply.serialize_entry("cookies", &cookies)?;
        }
        if let Some(body) = self.body {
            let text = std::str::from_utf8(body).ok();
            match text {
                Some(text) => reply.serialize_entry("body", text)?,
                None => reply.serialize_entry("body", &Base64(body))?,
            }
            reply.serialize_entry("isBase64Encoded", &text.is_none())?;
        }
        reply.end()
    }
}

/// The headers that pass on, each once; cookies go apart.
struct Lines<'a>(&'a HeaderMap);

impl Lines<'_> {
    fn value(&self, name: &HeaderName) -> Cow<'_, str> {
        let mut values = self.0.get_all(name).iter().map(text);
        let first = values.next().unwrap_or_default();
        values.fold(first, |joined, value| Cow::Owned(format!("{joined},{value}")))
    }
}

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let connection = all_named(self.0);
        let mut map = s.serialize_map(None)?;
        for name in self.0.keys() {
            let passes = *name != header::SET_COOKIE
                && *name != header::CONTENT_LENGTH
                && !is_hop_by_hop(name)
                && !connection.contains(name);
            if passes {
                map.serialize_entry(name.as_str(), &self.value(name))?;
            }
        }
        map.end()
    }
}

/// Header values are bytes; what is no UTF-8 is replaced.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
