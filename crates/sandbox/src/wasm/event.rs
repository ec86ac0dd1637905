//! An event as an HTTP request, for components that know nothing else.
//!
//! An event of a function URL (the format `lambda`, version 2.0) becomes the request that it was made of. Any other event, of an invocation or of a
//! queue, becomes `POST /` with the event as its JSON body.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use model::invocation::{CallContext, Failure, FailureKind};
use serde::Deserialize;

/// What an event was, and so what its answer shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A request: status, headers and body.
    Http,
    /// Anything else: what the body says.
    Plain,
}

/// The authority of a request that has none.
const NOWHERE: &str = "localhost";
/// The header of a trace (AWS X-Ray).
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    raw_path: Cow<'a, str>,
    #[serde(borrow, default)]
    raw_query_string: Cow<'a, str>,
    #[serde(borrow, default)]
    cookies: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow)]
    request_context: RequestContext<'a>,
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    #[serde(borrow)]
    http: Http<'a>,
    #[serde(borrow, default)]
    domain_name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Http<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
}

/// The request that an event stands for.
pub(super) fn request(
    payload: &Bytes,
    context: &CallContext,
) -> Result<(Request<Bytes>, Form), Failure> {
    match serde_json::from_slice::<Event<'_>>(payload) {
        Ok(event) if event.version == "2.0" => {
            let request = of_event(event).map_err(|why| {
                let message = format!("the event cannot be made a request again: {why}");
                Failure::new(FailureKind::Handler, "Runtime.InvalidEvent", &message)
            })?;
            Ok((request, Form::Http))
        }
        _ => Ok((plain(payload.clone(), context), Form::Plain)),
    }
}

fn of_event(event: Event<'_>) -> Result<Request<Bytes>, String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    let method = Method::from_bytes(event.request_context.http.method.as_bytes());
    let headers = headers(&event)?;
    let authority = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = authority.or(event.request_context.domain_name.as_deref()).unwrap_or(NOWHERE);
    let query = &event.raw_query_string;
    let target = match query.is_empty() {
        true => event.raw_path.into_owned(),
        false => format!("{}?{query}", event.raw_path),
    };
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(target);
    let body = match event.body {
        None => Bytes::new(),
        Some(text) if event.is_base64_encoded => {
            BASE64_STANDARD.decode(text.as_bytes()).map_err(|e| words(&e))?.into()
        }
        Some(text) => text.into_owned().into(),
    };
    let mut request = Request::new(body);
    *request.method_mut() = method.map_err(|e| words(&e))?;
    *request.uri_mut() = uri.build().map_err(|e| words(&e))?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn headers(event: &Event<'_>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(event.headers.len() + 1);
    for (name, value) in &event.headers {
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
        let value = HeaderValue::from_str(value).map_err(|e| format!("header {name}: {e}"))?;
        headers.append(field, value);
    }
    if !event.cookies.is_empty() {
        let cookies = HeaderValue::from_str(&event.cookies.join("; "));
        headers.insert(COOKIE, cookies.map_err(|e| format!("cookies: {e}"))?);
    }
    Ok(headers)
}

fn plain(payload: Bytes, context: &CallContext) -> Request<Bytes> {
    let mut request = Request::new(payload);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("http://localhost/");
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(Ok(trace)) = context.trace.as_deref().map(HeaderValue::from_str) {
        headers.insert(TRACE, trace);
    }
    request
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> serde_json::Value {
        json!({
            "version": "2.0", "rawPath": "/a%20b", "rawQueryString": "x=1&x=2",
            "cookies": ["a=1", "b=2"],
            "headers": {"host": "f.example:81", "x-many": "1,2"},
            "requestContext": {"domainName": "f.example", "http": {"method": "PUT", "path": "/a b"}},
            "body": "aGVsbG8=", "isBase64Encoded": true,
        })
    }

    fn made(event: &serde_json::Value) -> Result<(Request<Bytes>, Form), Failure> {
        request(&event.to_string().into(), &CallContext::default())
    }

    #[test]
    fn an_event_becomes_the_request_that_it_was_made_of() {
        let (request, form) = made(&event()).unwrap();
        assert_eq!(form, Form::Http);
        assert_eq!(request.method(), "PUT");
        assert_eq!(request.uri(), "http://f.example:81/a%20b?x=1&x=2");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert_eq!(request.headers()["x-many"], "1,2");
        assert_eq!(&request.body()[..], b"hello");
    }

    #[test]
    fn whatever_else_is_posted() {
        for other in [json!(null), json!({"version": "2.0"}), json!({"op": "echo"}), json!("x")] {
            let (request, form) = made(&other).unwrap();
            assert_eq!((form, request.method().as_str()), (Form::Plain, "POST"));
            assert_eq!(request.uri(), "http://localhost/");
            assert_eq!(request.body(), &other.to_string());
            assert_eq!(request.headers()["content-type"], "application/json");
        }
    }

    #[test]
    fn what_no_request_can_hold_is_refused() {
        for (field, value) in [
            ("/headers/host", json!("a b")),
            ("/headers/x-many", json!("line\nbreak")),
            ("/requestContext/http/method", json!("G T")),
            ("/rawPath", json!("no slash")),
            ("/body", json!("not base64!")),
        ] {
            let mut event = event();
            *event.pointer_mut(field).unwrap() = value;
            let failure = made(&event).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Handler, "{field}");
        }
    }
}
