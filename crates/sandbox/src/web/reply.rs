//! Answer → reply: what a server answers, in the form that functions answer HTTP events with (AWS Lambda, "Response payload format"), or as what stands before
//! an answer in pieces.

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use model::invocation::{Failure, FailureKind};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::process::failure::is_json;

/// Longest quotation of a body in an error, in characters.
const QUOTED_CHARS: usize = 500;

/// Headers about one connection, not about the message (RFC 9110, 7.6.1).
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    const NAMES: [&str; 5] =
        ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "trailers"];
    [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE]
        .contains(name)
        || NAMES.contains(&name.as_str())
}

/// The reply of a whole answer.
pub(crate) fn whole(parts: &Parts, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(512 + body.len() / 3 * 4);
    serde_json::to_writer(&mut out, &Reply { parts, body: Some(body) })?;
    Ok(out)
}

/// What stands before the pieces of an answer.
pub(crate) fn prelude(parts: &Parts) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Reply { parts, body: None })
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
        let passing = Passing::of(headers);
        reply.serialize_entry("headers", &Lines { passing: &passing, several: false })?;
        if passing.has_several() {
            reply.serialize_entry(
                "multiValueHeaders",
                &Lines { passing: &passing, several: true },
            )?;
        }
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

/// The headers that pass on.
struct Passing<'a> {
    headers: &'a HeaderMap,
    /// Those that the server has named as its connection's.
    connection: Vec<String>,
}

impl<'a> Passing<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let lines = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
        let names = lines.flat_map(|line| line.split(',')).map(|n| n.trim().to_ascii_lowercase());
        let connection = names.filter(|n| n != "close" && n != "keep-alive").collect();
        Self { headers, connection }
    }

    fn names(&self) -> impl Iterator<Item = &'a HeaderName> {
        self.headers.keys().filter(|name| {
            !is_hop_by_hop(name)
                && **name != header::SET_COOKIE
                && **name != header::CONTENT_LENGTH
                && !self.connection.iter().any(|own| own == name.as_str())
        })
    }

    fn is_several(&self, name: &HeaderName) -> bool {
        self.headers.get_all(name).iter().nth(1).is_some()
    }

    fn has_several(&self) -> bool {
        // Mostly there are as many names as lines.
        self.headers.keys_len() < self.headers.len() && self.names().any(|n| self.is_several(n))
    }
}

struct Lines<'a> {
    passing: &'a Passing<'a>,
    /// Those that stand several times, or the others.
    several: bool,
}

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        let names = self.passing.names().filter(|n| self.passing.is_several(n) == self.several);
        for name in names {
            let mut values = self.passing.headers.get_all(name).iter().map(text);
            if self.several {
                map.serialize_entry(name.as_str(), &values.collect::<Vec<_>>())?;
            } else if let Some(value) = values.next() {
                map.serialize_entry(name.as_str(), &value)?;
            }
        }
        map.end()
    }
}

/// Header values are bytes; what is no UTF-8 is replaced.
fn text(value: &HeaderValue) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// What an event's answer comes to: JSON stands as it is, anything else becomes a string.
pub(crate) fn event_result(status: StatusCode, body: Bytes) -> Result<Bytes, Failure> {
    if !status.is_success() {
        return Err(event_failure(status, body));
    }
    if is_json(&body) {
        return Ok(body);
    }
    let json = match std::str::from_utf8(&body) {
        Ok("") => Ok(b"null".to_vec()),
        Ok(text) => serde_json::to_vec(text),
        Err(_) => serde_json::to_vec(&Base64(&body)),
    };
    json.map(Into::into)
        .map_err(|e| Failure::new(FailureKind::Protocol, ERROR_TYPE, &e.to_string()))
}

/// A refused event is a failed call, in the server's own words if they have the form.
fn event_failure(status: StatusCode, body: Bytes) -> Failure {
    #[derive(serde::Deserialize)]
    struct Own {
        #[serde(rename = "errorMessage")]
        _message: String,
    }
    if serde_json::from_slice::<Own>(&body).is_ok() {
        return Failure { kind: FailureKind::Handler, payload: body };
    }
    let quoted: String = String::from_utf8_lossy(&body).chars().take(QUOTED_CHARS).collect();
    let message = format!("the event was answered with {status}: {quoted}");
    Failure::new(FailureKind::Handler, ERROR_TYPE, message.trim_end_matches([':', ' ']))
}

/// What an error of a server's is called.
pub(crate) const ERROR_TYPE: &str = "Web.Error";

/// The error that stands behind an answer in pieces, in the trailers that the Runtime API of AWS Lambda has for it.
pub(crate) fn trailing_failure(trailers: &HeaderMap) -> Option<Failure> {
    let error_type = trailers.get(TRAILING_TYPE)?.to_str().unwrap_or(ERROR_TYPE);
    let body = trailers.get(TRAILING_BODY).and_then(|body| STANDARD.decode(body.as_bytes()).ok());
    let payload = body.filter(|body| is_json(body));
    Some(payload.map_or_else(
        || Failure::new(FailureKind::Handler, error_type, "the server gave up its answer"),
        |payload| Failure { kind: FailureKind::Handler, payload: payload.into() },
    ))
}

const TRAILING_TYPE: &str = "lambda-runtime-function-error-type";
const TRAILING_BODY: &str = "lambda-runtime-function-error-body";
