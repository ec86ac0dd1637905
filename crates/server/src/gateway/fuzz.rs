//! The two fuzzed doors of the gateway: a stranger's request becomes an event, a stranger's reply becomes a response.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use model::clock::UnixMillis;
use model::ids::{FunctionRef, RequestId};
use serde_json::Value;

use super::event::Event;
use super::headers::is_hop_by_hop;
use super::reply;

/// Most that an event grows over the request: a byte that is no UTF-8 becomes three, a control character `\u0001`, and the query stands in it twice.
const GROWTH: usize = 9;
/// What an event takes beside its parts, in bytes.
const FRAME_BYTES: usize = 2_048;
/// Longest explanation of a reply that cannot be used, in bytes.
const EXPLANATION_BYTES: usize = 4_096;

/// Makes an event of a request: `METHOD URI`, then `name: value` lines, an empty line, the body. What is no request, HTTP's own parser would refuse.
///
/// It always becomes JSON of a bounded size, holds the body whole, and hides what is not the function's business.
///
/// # Panics
///
/// If any of this does not hold.
pub fn event(bytes: &[u8]) {
    let Some(request) = request(bytes) else { return };
    let (parts, body) = request.into_parts();
    let Ok(target) = FunctionRef::parse("default", "fuzzed") else { panic!("a bad name") };
    let event = Event {
        parts: &parts,
        raw_path: parts.uri.path(),
        target: &target,
        body,
        id: RequestId::from_bytes([1; 16]),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        now: UnixMillis(1_795_428_000_500),
        hide_authorization: true,
    };
    let Ok(json) = event.to_json() else { panic!("no event") };
    assert!(json.len() <= FRAME_BYTES + GROWTH * bytes.len(), "{} bytes", json.len());
    let Ok(event) = serde_json::from_slice::<Value>(&json) else { panic!("no JSON: {json:?}") };
    for name in event["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { panic!("{name:?}") };
        let hidden = name == header::AUTHORIZATION || name == header::COOKIE;
        assert!(!hidden && !is_hop_by_hop(&name), "{name} passes");
    }
    assert_eq!(event["rawPath"], parts.uri.path());
    assert_eq!(event["rawQueryString"], parts.uri.query().unwrap_or_default());
    assert_eq!(event["requestContext"]["http"]["method"], parts.method.as_str());
    assert_eq!(body_of(&event), body, "the body is another");
}

fn body_of(event: &Value) -> Vec<u8> {
    let text = event["body"].as_str().unwrap_or_default();
    if event["isBase64Encoded"] == true {
        let Ok(bytes) = STANDARD.decode(text) else { panic!("no base64: {text:?}") };
        return bytes;
    }
    text.as_bytes().to_vec()
}

fn request(bytes: &[u8]) -> Option<Request<&[u8]>> {
    let (first, mut rest) = line(bytes)?;
    let first = std::str::from_utf8(first).ok()?;
    let (method, uri) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(uri);
    loop {
        let (header, after) = line(rest)?;
        rest = after;
        if header.is_empty() {
            return request.body(rest).ok();
        }
        let colon = header.iter().position(|b| *b == b':')?;
        let (name, value) = (header.get(..colon)?, header.get(colon + 1..)?.trim_ascii());
        request = request.header(name, HeaderValue::from_bytes(value).ok()?);
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// Makes a response of a function's reply, and of what it may say before an answer in pieces.
///
/// It is a final answer with no header that is the server's to set, within the limits, and with a body no longer than the reply; or a
/// short explanation.
///
/// # Panics
///
/// If any of this does not hold.
pub fn reply(bytes: &[u8]) {
    if let Some(response) = usable(reply::prelude(bytes, false)) {
        head(&response);
    }
    let Some(response) = usable(reply::response(&Bytes::copy_from_slice(bytes))) else { return };
    head(&response);
    let status = response.status();
    let Some(Ok(body)) = response.into_body().collect().now_or_never() else {
        panic!("the body is not there whole");
    };
    let body = body.to_bytes();
    assert!(body.len() <= bytes.len(), "{} bytes of body", body.len());
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        assert!(body.is_empty(), "{status} with a body");
    }
}

fn usable<T>(made: Result<T, String>) -> Option<T> {
    made.map_err(|why| {
        assert!(!why.is_empty() && why.len() <= EXPLANATION_BYTES, "{} bytes", why.len());
    })
    .ok()
}

fn head<T>(response: &Response<T>) {
    let status = response.status();
    assert!((200..=599).contains(&status.as_u16()), "{status}");
    let headers = response.headers();
    assert!(headers.len() <= reply::HEADERS_MAX + 1, "{} headers", headers.len());
    let size: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len()).sum();
    assert!(size <= reply::HEADER_BYTES_MAX + 64, "{size} bytes of headers");
    for (name, value) in headers {
        assert!(!is_hop_by_hop(name) && name != header::CONTENT_LENGTH, "{name} passes");
        assert!(!value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "{value:?}");
    }
}
