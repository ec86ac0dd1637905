//! Event → request. The event of an HTTP request (version 2.0, as function URLs make it) becomes that request again; any other is posted as it is.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Uri};
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::Form;
use super::headers::{is_hop_by_hop, named};

/// The version of the events that are requests.
const HTTP_EVENT: &str = "2.0";
/// The call's id.
const REQUEST_ID: HeaderName = HeaderName::from_static(model::api::HEADER_REQUEST_ID);
/// The header of a trace (AWS X-Ray).
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const EVENT_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// What a request says beside the event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// The call's id.
    pub(crate) id: RequestId,
    /// The official trace header's value.
    pub(crate) trace: Option<&'a str>,
    /// The authority of a request that has none.
    pub(crate) host: &'a str,
    /// Where an event goes that is no request.
    pub(crate) path: &'static str,
}

/// The request of an event, its target in origin form (RFC 9112, 3.2.1); a failure of the function's if it cannot be sent.
pub(crate) fn request(
    event: &Bytes,
    asking: &Asking<'_>,
) -> Result<(Request<Bytes>, Form), Failure> {
    asked(event, asking).map_err(|why| {
        let message = format!("the event cannot be made a request again: {why}");
        Failure::new(FailureKind::Handler, "Runtime.InvalidEvent", &message)
    })
}

fn asked(event: &Bytes, asking: &Asking<'_>) -> Result<(Request<Bytes>, Form), String> {
    let http: Option<HttpEvent<'_>> = serde_json::from_slice(event).ok();
    let (mut request, form) = match http.filter(|event| event.version.0 == HTTP_EVENT) {
        Some(http) => (http.into_request(event)?, Form::Http),
        None => (plain(event, asking.path), Form::Plain),
    };
    let headers = request.headers_mut();
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, value(asking.host)?);
    }
    // Nobody else says these.
    headers.insert(REQUEST_ID, value(&asking.id.to_string())?);
    if let Some(trace) = asking.trace {
        headers.insert(TRACE, value(trace)?);
    }
    Ok((request, form))
}

fn plain(event: &Bytes, path: &'static str) -> Request<Bytes> {
    let mut request = Request::new(event.clone());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    request.headers_mut().insert(header::CONTENT_TYPE, EVENT_TYPE);
    request
}

fn value(text: &str) -> Result<HeaderValue, String> {
    valid(HeaderValue::from_bytes(text.as_bytes()))
}

fn valid<E>(value: Result<HeaderValue, E>) -> Result<HeaderValue, String> {
    value.map_err(|_| "a header's value has characters that none may have".to_owned())
}

/// As much of such an event as makes the request.
#[derive(Deserialize)]
struct HttpEvent<'a> {
    #[serde(borrow)]
    version: Text<'a>,
    #[serde(borrow, rename = "rawPath")]
    path: Text<'a>,
    #[serde(borrow, rename = "rawQueryString", default)]
    query: Option<Text<'a>>,
    #[serde(borrow, default)]
    cookies: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    headers: Pairs<'a>,
    #[serde(borrow, rename = "requestContext")]
    context: Context<'a>,
    #[serde(borrow, default)]
    body: Option<Text<'a>>,
    #[serde(rename = "isBase64Encoded", default)]
    base64: bool,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    http: Http<'a>,
    #[serde(borrow, rename = "domainName", default)]
    domain: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Http<'a> {
    #[serde(borrow)]
    method: Text<'a>,
    #[serde(borrow, rename = "sourceIp", default)]
    source_ip: Option<Text<'a>>,
}

/// Text that is borrowed from the event where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    /// Its bytes, shared with the event where they are of it.
    fn bytes(&self, event: &Bytes) -> Bytes {
        match &self.0 {
            Cow::Borrowed(text) => event.slice_ref(text.as_bytes()),
            Cow::Owned(text) => Bytes::copy_from_slice(text.as_bytes()),
        }
    }
}

/// An object of texts.
#[derive(Default)]
struct Pairs<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Pairs::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(16);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        d.deserialize_any(Seen)
    }
}

impl HttpEvent<'_> {
    fn into_request(self, event: &Bytes) -> Result<Request<Bytes>, String> {
        let mut request = Request::new(self.body_bytes(event)?);
        *request.method_mut() = self.method()?;
        *request.uri_mut() = self.uri()?;
        *request.headers_mut() = self.header_map(event)?;
        Ok(request)
    }

    fn method(&self) -> Result<Method, String> {
        let name = &self.context.http.method.0;
        match Method::from_bytes(name.as_bytes()) {
            Ok(method) if method != Method::CONNECT => Ok(method),
            _ => Err(format!("requestContext.http.method {name:?} is not one that can be sent")),
        }
    }

    fn uri(&self) -> Result<Uri, String> {
        let path = &self.path.0;
        let query = self.query.as_ref().filter(|query| !query.0.is_empty());
        let target = match query {
            Some(query) => format!("{path}?{}", query.0),
            None => path.clone().into_owned(),
        };
        let is_path = target.starts_with('/');
        let parsed = target.parse().ok().filter(|_| is_path);
        parsed.ok_or_else(|| format!("rawPath and rawQueryString are not a path: {target:?}"))
    }

    fn body_bytes(&self, event: &Bytes) -> Result<Bytes, String> {
        match &self.body {
            None => Ok(Bytes::new()),
            Some(Text(body)) if self.base64 => {
                let decoded = STANDARD.decode(body.as_bytes());
                decoded.map(Into::into).map_err(|e| format!("body is not base64: {e}"))
            }
            Some(body) => Ok(body.bytes(event)),
        }
    }

    /// What the client sent, but for what concerned its connection alone; and who that was.
    fn header_map(&self, event: &Bytes) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::with_capacity(self.headers.0.len() + 8);
        let mut connection = Vec::new();
        for (Text(name), text) in &self.headers.0 {
            let field = HeaderName::from_bytes(name.as_bytes());
            let field = field.map_err(|_| format!("{name:?} is not a header's name"))?;
            if field == header::CONNECTION {
                connection.extend(named(&value(&text.0)?));
            }
            // The length is that of the body that is sent, which nobody is asked about first.
            if !is_hop_by_hop(&field) && field != header::CONTENT_LENGTH && field != header::EXPECT
            {
                let text = HeaderValue::from_maybe_shared(text.bytes(event));
                headers.append(field, valid(text)?);
            }
        }
        for own in connection {
            headers.remove(own);
        }
        if let Some(cookies) = self.cookies.as_ref().filter(|cookies| !cookies.is_empty()) {
            let cookies: Vec<&str> = cookies.iter().map(|cookie| &*cookie.0).collect();
            headers.insert(header::COOKIE, value(&cookies.join("; "))?);
        }
        self.asked_of(&mut headers)?;
        self.forwarded(&mut headers)?;
        Ok(headers)
    }

    /// Whom the request is for: what the client said, else the name that it came by.
    fn asked_of(&self, headers: &mut HeaderMap) -> Result<(), String> {
        if let Some(Text(domain)) = &self.context.domain
            && !headers.contains_key(header::HOST)
        {
            headers.insert(header::HOST, value(domain)?);
        }
        let Some(host) = headers.get(header::HOST) else { return Ok(()) };
        match host.is_empty() || Authority::try_from(host.as_bytes()).is_ok() {
            true => Ok(()),
            false => Err(format!("{host:?} is not a host")),
        }
    }

    fn forwarded(&self, headers: &mut HeaderMap) -> Result<(), String> {
        if let Some(Text(peer)) = &self.context.http.source_ip {
            let before = headers.get(&FORWARDED_FOR).map(HeaderValue::as_bytes);
            let line = match before {
                Some(before) => [before, b", ", peer.as_bytes()].concat(),
                None => peer.as_bytes().to_vec(),
            };
            let line = HeaderValue::from_bytes(&line);
            headers.insert(FORWARDED_FOR, line.map_err(|e| format!("sourceIp: {e}"))?);
        }
        if let Some(host) = headers.get(header::HOST).cloned() {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        Ok(())
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
