//! Reply → response (AWS Lambda, "Invoking Lambda function URLs", response payload format).
//!
//! An object with `statusCode` says what to answer; any other JSON is the answer's body. The usual reply is parsed once, and a body
//! without escapes is answered from the reply's own bytes. A reply that cannot be used gives a sentence that says why.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::headers::is_hop_by_hop;

/// Most header lines of a reply.
pub(super) const HEADERS_MAX: usize = 200;
/// All header names and values of a reply together, in bytes.
pub(super) const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Longest explanation of what is wrong with a reply, in characters: it may quote the reply.
const EXPLANATION_CHARS: usize = 500;
/// What a body is when the reply does not say.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a body in pieces is when the function does not say (AWS Lambda, "Response streaming").
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The response that a function's reply asks for, or what is wrong with it.
pub(super) fn response(reply: &Bytes) -> Result<Response<Full<Bytes>>, String> {
    read(reply).map_err(short)
}

/// The response, but for its body, that a function asks for which answers in pieces: status, headers and cookies as in a reply. Without a content type it is bytes.
/// The status 101 is one for a function that was asked to switch protocols.
pub(super) fn prelude(prelude: &[u8], may_switch: bool) -> Result<Response<()>, String> {
    let read = || {
        if !prelude.trim_ascii_start().starts_with(b"{") {
            return Err("what it said before its body is not an object".to_owned());
        }
        let Reply { status, headers, multi, cookies, .. } =
            serde_json::from_slice(prelude).map_err(|e| e.to_string())?;
        let status = status.unwrap_or_default();
        if !(may_switch && status == StatusCode::SWITCHING_PROTOCOLS) {
            refuse_switch(status)?;
        }
        let mut response = head(status, headers, multi, cookies)?;
        if !is_bodiless(response.status()) {
            response.headers_mut().entry(header::CONTENT_TYPE).or_insert(BYTES);
        }
        Ok(response)
    };
    read().map_err(short)
}

fn short(mut what: String) -> String {
    if let Some((end, _)) = what.char_indices().nth(EXPLANATION_CHARS) {
        what.truncate(end);
        what.push('…');
    }
    what
}

fn read(reply: &Bytes) -> Result<Response<Full<Bytes>>, String> {
    if !reply.trim_ascii_start().starts_with(b"{") {
        return whole(reply);
    }
    match serde_json::from_slice::<Reply<'_>>(reply) {
        Ok(Reply { status: Some(status), headers, multi, cookies, body, base64 }) => {
            let body = body_bytes(reply, body, base64.unwrap_or(false))?;
            explicit(status, headers, multi, cookies, body)
        }
        Ok(Reply { status: None, .. }) => Ok(json(reply)),
        // It may still be an object of the function's own that happens to have a field `body`.
        Err(wrong) => match serde_json::from_slice::<Probe>(reply) {
            Ok(Probe { status: None }) => Ok(json(reply)),
            Ok(Probe { status: Some(_) }) => Err(wrong.to_string()),
            Err(e) => Err(format!("it is not JSON: {e}")),
        },
    }
}

/// A reply that is its own body, once it is known to be JSON.
fn whole(reply: &Bytes) -> Result<Response<Full<Bytes>>, String> {
    match serde_json::from_slice::<IgnoredAny>(reply) {
        Ok(_) => Ok(json(reply)),
        Err(e) => Err(format!("it is not JSON: {e}")),
    }
}

fn json(reply: &Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn explicit(
    status: StatusCode,
    headers: HeaderMap,
    multi: HeaderMap,
    cookies: Vec<HeaderValue>,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, String> {
    refuse_switch(status)?;
    let body = if is_bodiless(status) { Bytes::new() } else { body };
    let mut response = head(status, headers, multi, cookies)?;
    if !body.is_empty() && !response.headers().contains_key(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    }
    Ok(response.map(|()| Full::new(body)))
}

/// Whether a response with this status never has a body.
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    )
}

fn refuse_switch(status: StatusCode) -> Result<(), String> {
    match status {
        StatusCode::SWITCHING_PROTOCOLS => Err(bad_status(status.as_str())),
        _ => Ok(()),
    }
}

fn bad_status(status: &str) -> String {
    format!("statusCode {status:?} is not valid: expected 200 to 599")
}

/// A response without its body.
fn head(
    status: StatusCode,
    headers: HeaderMap,
    multi: HeaderMap,
    cookies: Vec<HeaderValue>,
) -> Result<Response<()>, String> {
    let mut all = merged(headers, multi);
    for cookie in cookies {
        all.append(header::SET_COOKIE, cookie);
    }
    let size: usize = all.iter().map(|(n, v)| n.as_str().len() + v.len()).sum();
    if all.len() > HEADERS_MAX || size > HEADER_BYTES_MAX {
        return Err(format!(
            "its headers are too large: {} lines of {size} bytes, expected at most {HEADERS_MAX} of {HEADER_BYTES_MAX}",
            all.len()
        ));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = all;
    Ok(response)
}

/// `headers` and `multiValueHeaders` as one: a pair that both have counts once (Amazon API Gateway, proxy output format).
fn merged(headers: HeaderMap, multi: HeaderMap) -> HeaderMap {
    if multi.is_empty() {
        return headers;
    }
    let mut all = multi;
    for (name, value) in &headers {
        if !all.get_all(name).iter().any(|present| present == value) {
            all.append(name, value.clone());
        }
    }
    all
}

fn body_bytes(reply: &Bytes, body: Option<Text<'_>>, base64: bool) -> Result<Bytes, String> {
    let Some(Text(body)) = body else { return Ok(Bytes::new()) };
    if base64 {
        return match STANDARD.decode(body.as_bytes()) {
            Ok(bytes) => Ok(bytes.into()),
            Err(e) => Err(format!("body: isBase64Encoded is true, but it is not base64: {e}")),
        };
    }
    Ok(match body {
        Cow::Borrowed(text) => reply.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    })
}

/// A reply object, as far as it is looked at.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(rename = "statusCode", default, deserialize_with = "status")]
    status: Option<StatusCode>,
    #[serde(default, deserialize_with = "headers")]
    headers: HeaderMap,
    #[serde(rename = "multiValueHeaders", default, deserialize_with = "multi_value_headers")]
    multi: HeaderMap,
    #[serde(default, deserialize_with = "cookies")]
    cookies: Vec<HeaderValue>,
    #[serde(borrow, default, deserialize_with = "body")]
    body: Option<Text<'a>>,
    #[serde(rename = "isBase64Encoded", default, deserialize_with = "base64_flag")]
    base64: Option<bool>,
}

/// Only whether the object speaks about a status.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "statusCode")]
    status: Option<IgnoredAny>,
}

/// Text that is borrowed from the reply where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Puts the field's name before what is wrong with its value.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: &str, d: D) -> Result<T, D::Error> {
    T::deserialize(d).map_err(|e| D::Error::custom(format_args!("{field}: {e}")))
}

fn body<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Text<'de>>, D::Error> {
    named("body", d)
}

fn base64_flag<'de, D: Deserializer<'de>>(d: D) -> Result<Option<bool>, D::Error> {
    named("isBase64Encoded", d)
}

/// A number, or its digits as a string, as AWS takes them.
fn status<'de, D: Deserializer<'de>>(d: D) -> Result<Option<StatusCode>, D::Error> {
    let Some(Scalar(text)) = named("statusCode", d)? else { return Ok(None) };
    text.parse::<u16>()
        .ok()
        // Other 1xx are no final answers, and nothing above 599 has a meaning.
        .filter(|code| (200..=599).contains(code) || *code == 101)
        .and_then(|code| StatusCode::from_u16(code).ok())
        .map(Some)
        .ok_or_else(|| D::Error::custom(bad_status(&text)))
}

fn headers<'de, D: Deserializer<'de>>(d: D) -> Result<HeaderMap, D::Error> {
    let found: Option<Lines<Scalar<'de>>> = named("headers", d)?;
    Ok(found.map(|lines| lines.0).unwrap_or_default())
}

fn multi_value_headers<'de, D: Deserializer<'de>>(d: D) -> Result<HeaderMap, D::Error> {
    let found: Option<Lines<Few<Scalar<'de>>>> = named("multiValueHeaders", d)?;
    Ok(found.map(|lines| lines.0).unwrap_or_default())
}

fn cookies<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<HeaderValue>, D::Error> {
    let found: Option<Few<Text<'de>>> = named("cookies", d)?;
    let values = found.into_iter().flat_map(|few| few.0).map(|Text(cookie)| {
        HeaderValue::from_str(&cookie).map_err(|_| {
            D::Error::custom(format_args!("cookies: {cookie:?} is not a header's value"))
        })
    });
    values.collect()
}

/// A string, a number or a boolean, as text.
struct Scalar<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(text.into())
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.to_owned().into())
            }

            fn visit_u64<E>(self, n: u64) -> Result<Self::Value, E> {
                Ok(n.to_string().into())
            }

            fn visit_i64<E>(self, n: i64) -> Result<Self::Value, E> {
                Ok(n.to_string().into())
            }

            fn visit_f64<E>(self, n: f64) -> Result<Self::Value, E> {
                Ok(n.to_string().into())
            }

            fn visit_bool<E>(self, b: bool) -> Result<Self::Value, E> {
                Ok(if b { "true" } else { "false" }.into())
            }
        }

        d.deserialize_any(Seen).map(Scalar)
    }
}

/// As many as there may be header lines. More are refused as they are read: an empty string takes three bytes in a reply and dozens in memory.
struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Seen<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Seen<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut few = Vec::new();
                while let Some(one) = seq.next_element()? {
                    if few.len() >= HEADERS_MAX {
                        return Err(A::Error::custom(format_args!(
                            "more than {HEADERS_MAX} lines"
                        )));
                    }
                    few.push(one);
                }
                Ok(few)
            }
        }

        d.deserialize_seq(Seen(PhantomData)).map(Self)
    }
}

/// One value or several under a header's name.
trait Values {
    fn add<E: serde::de::Error>(self, name: &HeaderName, to: &mut HeaderMap) -> Result<(), E>;
}

impl Values for Scalar<'_> {
    fn add<E: serde::de::Error>(self, name: &HeaderName, to: &mut HeaderMap) -> Result<(), E> {
        // Names that differ in case only are one name: the last one counts.
        to.insert(name, value(name, &self)?);
        Ok(())
    }
}

impl Values for Few<Scalar<'_>> {
    fn add<E: serde::de::Error>(self, name: &HeaderName, to: &mut HeaderMap) -> Result<(), E> {
        for one in self.0 {
            to.append(name, value(name, &one)?);
        }
        Ok(())
    }
}

fn value<E: serde::de::Error>(name: &HeaderName, text: &Scalar<'_>) -> Result<HeaderValue, E> {
    // Beyond ASCII it is bytes, as it came.
    HeaderValue::from_bytes(text.0.as_bytes()).map_err(|_| {
        E::custom(format_args!("the value of '{name}' has characters that no header may have"))
    })
}

/// An object of headers. Those that are the server's to set, or about one connection, are left out.
struct Lines<V>(HeaderMap, PhantomData<V>);

impl<'de, V: Values + Deserialize<'de>> Deserialize<'de> for Lines<V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Seen<V>(PhantomData<V>);

        impl<'de, V: Values + Deserialize<'de>> Visitor<'de> for Seen<V> {
            type Value = HeaderMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderMap, A::Error> {
                let mut headers = HeaderMap::new();
                while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
                    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                        A::Error::custom(format_args!("{name:?} is not a header's name"))
                    })?;
                    let values: V = map
                        .next_value()
                        .map_err(|e| A::Error::custom(format_args!("'{parsed}': {e}")))?;
                    if headers.len() >= HEADERS_MAX {
                        return Err(A::Error::custom(format_args!(
                            "more than {HEADERS_MAX} lines"
                        )));
                    }
                    if !is_hop_by_hop(&parsed) && parsed != header::CONTENT_LENGTH {
                        values.add(&parsed, &mut headers)?;
                    }
                }
                Ok(headers)
            }
        }

        d.deserialize_map(Seen::<V>(PhantomData)).map(|headers| Self(headers, PhantomData))
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
