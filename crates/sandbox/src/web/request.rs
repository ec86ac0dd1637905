//! Event → request. The event of an HTTP request (version 2.0, as function URLs make it) becomes that request again; any other is sent to [`EVENTS`].

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use model::clock::UnixMillis;
use model::ids::RequestId;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::reply::is_hop_by_hop;

/// Where events go that are no HTTP requests: the path that AWS Lambda Web Adapter has for them.
const EVENTS: &str = "/events";
/// The version of the events that are.
const HTTP_EVENT: &str = "2.0";
/// Until when the call may run, in milliseconds since 1970.
const DEADLINE: HeaderName = HeaderName::from_static("x-hanshu-deadline-ms");
/// The call's id.
const REQUEST_ID: HeaderName = HeaderName::from_static(model::api::HEADER_REQUEST_ID);
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const EVENT_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// What an event asks a server for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// What a client has asked for: it gets the server's answer, whatever that is.
    Http(Request<Full<Bytes>>),
    /// To take the event: its answer is the body of what the server answers.
    Event(Request<Full<Bytes>>),
}

/// What a request says beside the event.
#[derive(Clone, Debug)]
pub(crate) struct Extras<'a> {
    /// The call's id.
    pub(crate) id: RequestId,
    /// Until when it may run.
    pub(crate) deadline: UnixMillis,
    /// The official trace header's value.
    pub(crate) trace: Option<&'a str>,
    /// The server's port.
    pub(crate) port: u16,
}

/// The request of an event; what is wrong with it if it cannot be sent.
pub(crate) fn asked(event: &Bytes, extras: &Extras<'_>) -> Result<Asked, String> {
    let http: Option<HttpEvent<'_>> = serde_json::from_slice(event).ok();
    let (mut request, is_http) = match http.filter(|event| event.version.0 == HTTP_EVENT) {
        Some(http) => (http.into_request(event)?, true),
        None => (event_request(event), false),
    };
    let headers = request.headers_mut();
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, value(&format!("localhost:{}", extras.port))?);
    }
    // Nobody else says these.
    headers.insert(REQUEST_ID, value(&extras.id.to_string())?);
    headers.insert(DEADLINE, extras.deadline.0.into());
    if let Some(trace) = extras.trace {
        headers.insert(TRACE, value(trace)?);
    }
    Ok(if is_http { Asked::Http(request) } else { Asked::Event(request) })
}

fn event_request(event: &Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(event.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(EVENTS);
    request.headers_mut().insert(header::CONTENT_TYPE, EVENT_TYPE);
    request
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.as_bytes())
        .map_err(|_| "a header's value has characters that none may have".to_owned())
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
    fn into_request(self, event: &Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(self.body_bytes(event)?));
        *request.method_mut() = self.method()?;
        *request.uri_mut() = self.uri()?;
        *request.headers_mut() = self.header_map()?;
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
            Some(Text(Cow::Borrowed(body))) => Ok(event.slice_ref(body.as_bytes())),
            Some(Text(Cow::Owned(body))) => Ok(Bytes::copy_from_slice(body.as_bytes())),
        }
    }

    /// What the client sent, but for what concerned its connection alone; and who that was.
    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::with_capacity(self.headers.0.len() + 8);
        for (Text(name), Text(text)) in &self.headers.0 {
            let named = HeaderName::from_bytes(name.as_bytes());
            let named = named.map_err(|_| format!("{name:?} is not a header's name"))?;
            // The length is that of the body that is sent.
            if !is_hop_by_hop(&named) && named != header::CONTENT_LENGTH && named != header::EXPECT
            {
                headers.append(named, value(text)?);
            }
        }
        if let Some(cookies) = self.cookies.as_ref().filter(|cookies| !cookies.is_empty()) {
            let cookies: Vec<&str> = cookies.iter().map(|cookie| &*cookie.0).collect();
            headers.insert(header::COOKIE, value(&cookies.join("; "))?);
        }
        self.forwarded(&mut headers)?;
        Ok(headers)
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
