//! Request → event: version 2.0 of the HTTP event (AWS Lambda, "Invoking Lambda function URLs", request payload format).
//!
//! Written straight from borrowed parts into one buffer. Where AWS leaves a field out when it is empty, so do we.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Version};
use jiff::tz::Offset;
use model::Result;
use model::clock::UnixMillis;
use model::error::Error;
use model::function::account_id;
use model::ids::{FunctionRef, RequestId};
use percent_encoding::percent_decode_str;
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

use super::headers::{is_hop_by_hop, is_named_by_connection};
use crate::auth::without_port;

/// The one route and stage of a function URL.
const DEFAULT: &str = "$default";
/// What an event takes beside headers, path and body, in bytes; only sizes the buffer.
const FRAME_BYTES: usize = 1_024;

/// What an event is written from.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub parts: &'a Parts,
    pub raw_path: &'a str,
    pub target: &'a FunctionRef,
    pub body: &'a [u8],
    pub id: RequestId,
    pub peer: IpAddr,
    pub now: UnixMillis,
    /// The authorization is a key of the platform, not the function's business.
    pub hide_authorization: bool,
}

impl Event<'_> {
    /// The event as JSON.
    pub(super) fn to_json(&self) -> Result<Bytes> {
        let headers: usize =
            self.parts.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 8).sum();
        let capacity = FRAME_BYTES + headers + 2 * self.raw_path.len() + self.body.len() / 3 * 4;
        let mut json = Vec::with_capacity(capacity);
        serde_json::to_writer(&mut json, self).map_err(Error::internal)?;
        Ok(json.into())
    }

    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let headers = &self.parts.headers;
        let mut event = s.serialize_map(None)?;
        event.serialize_entry("version", "2.0")?;
        event.serialize_entry("routeKey", DEFAULT)?;
        event.serialize_entry("rawPath", self.raw_path)?;
        event.serialize_entry("rawQueryString", self.query())?;
        if headers.contains_key(header::COOKIE) {
            event.serialize_entry("cookies", &Cookies(headers))?;
        }
        event.serialize_entry("headers", &Headers(self))?;
        if !self.query().is_empty() {
            event.serialize_entry("queryStringParameters", &Query(self.query()))?;
        }
        event.serialize_entry("requestContext", &Context(self))?;
        event.serialize_entry("pathParameters", &())?;
        event.serialize_entry("stageVariables", &())?;
        let text = as_text(headers, self.body);
        if !self.body.is_empty() {
            match text {
                Some(text) => event.serialize_entry("body", text)?,
                None => event.serialize_entry("body", &Base64(self.body))?,
            }
        }
        event.serialize_entry("isBase64Encoded", &text.is_none())?;
        event.end()
    }
}

/// The body, if it is text: UTF-8 and of a media type that says so. The types are those that AWS passes as text; note that
/// `application/x-www-form-urlencoded` is not among them, and code made for AWS decodes it.
fn as_text<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<&'a str> {
    if body.is_empty() {
        return Some("");
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return None;
    }
    let media = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    is_text_type(media).then(|| std::str::from_utf8(body).ok()).flatten()
}

fn is_text_type(media: &str) -> bool {
    let name = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    name.starts_with("text/")
        || name.strip_prefix("application/").is_some_and(|subtype| {
            matches!(subtype, "json" | "xml" | "javascript")
                || subtype.ends_with("+json")
                || subtype.ends_with("+xml")
        })
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// Header values are bytes; what is no UTF-8 is replaced.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// All `Cookie` headers, split into their cookies.
struct Cookies<'a>(&'a HeaderMap);

impl Serialize for Cookies<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut cookies = s.serialize_seq(None)?;
        for value in self.0.get_all(header::COOKIE) {
            for cookie in text(value).split(';').map(str::trim).filter(|c| !c.is_empty()) {
                cookies.serialize_element(cookie)?;
            }
        }
        cookies.end()
    }
}

/// The headers that pass, values of one name joined by commas; cookies have their own place.
struct Headers<'a>(&'a Event<'a>);

impl Headers<'_> {
    fn passes(&self, name: &HeaderName, check_connection: bool) -> bool {
        !(is_hop_by_hop(name)
            || *name == header::COOKIE
            || (self.0.hide_authorization && *name == header::AUTHORIZATION)
            || (check_connection && is_named_by_connection(&self.0.parts.headers, name)))
    }
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let headers = &self.0.parts.headers;
        let check_connection = headers.contains_key(header::CONNECTION);
        let mut map = s.serialize_map(None)?;
        // Values of one name come one after the other.
        let mut pairs = headers.iter().peekable();
        while let Some((name, value)) = pairs.next() {
            let mut joined = text(value);
            while let Some((_, more)) = pairs.next_if(|(next, _)| *next == name) {
                let joined = joined.to_mut();
                joined.push(',');
                joined.push_str(&text(more));
            }
            if self.passes(name, check_connection) {
                map.serialize_entry(name.as_str(), &joined)?;
            }
        }
        map.end()
    }
}

/// The query's parameters, decoded; values of one name joined by commas.
struct Query<'a>(&'a str);

impl Serialize for Query<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = self
            .0
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded_query(name), decoded_query(value)))
            .collect();
        // Stable, so that the values of one name keep their order.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut map = s.serialize_map(None)?;
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            match same {
                [(name, value)] => map.serialize_entry(name, value)?,
                [(name, _), ..] => {
                    let values: Vec<&str> = same.iter().map(|(_, value)| &**value).collect();
                    map.serialize_entry(name, &values.join(","))?;
                }
                [] => {}
            }
        }
        map.end()
    }
}

/// A name or value of a query string, decoded (WHATWG URL, `application/x-www-form-urlencoded` parsing).
pub(crate) fn decoded_query(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

struct Context<'a>(&'a Event<'a>);

impl Serialize for Context<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Event { parts, target, .. } = self.0;
        let domain = domain(parts);
        let mut context = s.serialize_map(None)?;
        context.serialize_entry("accountId", &account_id(&target.key.namespace))?;
        context.serialize_entry("apiId", &target.key.name)?;
        context.serialize_entry("domainName", &domain)?;
        context.serialize_entry("domainPrefix", prefix(&domain))?;
        context.serialize_entry("http", &Http(self.0))?;
        context.serialize_entry("requestId", &Shown(self.0.id))?;
        context.serialize_entry("routeKey", DEFAULT)?;
        context.serialize_entry("stage", DEFAULT)?;
        context.serialize_entry("time", &Shown(Clf(self.0.now)))?;
        context.serialize_entry("timeEpoch", &self.0.now.0)?;
        context.end()
    }
}

/// The host that the client asked for, without its port.
fn domain(parts: &Parts) -> Cow<'_, str> {
    let host = parts.headers.get(header::HOST).map(text);
    match host {
        Some(Cow::Borrowed(host)) => without_port(host).into(),
        Some(Cow::Owned(host)) => without_port(&host).to_owned().into(),
        None => parts.uri.host().unwrap_or_default().into(),
    }
}

/// The first label of a domain name; an address stays whole.
fn prefix(domain: &str) -> &str {
    if domain.starts_with('[') || domain.parse::<IpAddr>().is_ok() {
        return domain;
    }
    domain.split('.').next().unwrap_or_default()
}

struct Http<'a>(&'a Event<'a>);

impl Serialize for Http<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Parts { method, version, headers, .. } = self.0.parts;
        let mut http = s.serialize_map(None)?;
        http.serialize_entry("method", Method::as_str(method))?;
        http.serialize_entry("path", self.0.raw_path)?;
        let protocol = if *version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
        http.serialize_entry("protocol", protocol)?;
        http.serialize_entry("sourceIp", &self.0.peer)?;
        let agent = headers.get(header::USER_AGENT).map(text).unwrap_or_default();
        http.serialize_entry("userAgent", &agent)?;
        http.end()
    }
}

/// Serialises what can be displayed.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

/// A time in the common log format, UTC: `23/Nov/2026:10:00:00 +0000`.
struct Clf(UnixMillis);

impl fmt::Display for Clf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let t = Offset::UTC.to_datetime(self.0.timestamp());
        let month = usize::try_from(t.month() - 1).ok().and_then(|m| MONTHS.get(m)).unwrap_or(&"");
        let (hour, minute, second) = (t.hour(), t.minute(), t.second());
        write!(f, "{:02}/{month}/{:04}:{hour:02}:{minute:02}:{second:02} +0000", t.day(), t.year())
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
