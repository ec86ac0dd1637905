//! `GET /2018-06-01/runtime/invocation/next`: the runtime asks for a call, and waits until there is one.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;

use super::answers::{Reply, refused};
use super::desk::{Desk, Event};

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");
/// Of all an event's headers.
const HEADERS: usize = 8;

pub(super) async fn handle(desk: &Desk) -> Reply {
    match desk.next().await {
        Ok(event) => {
            let mut reply = Response::new(Full::new(event.call.payload.clone()));
            *reply.headers_mut() = headers(&event);
            reply
        }
        Err(why) => refused(why),
    }
}

fn headers(event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (id, context) = (event.call.id.to_string(), &event.call.context);
    for (name, text) in [
        (REQUEST_ID, Some(id.as_str())),
        (ARN, context.arn.as_deref()),
        (TRACE, context.trace.as_deref()),
        (CLIENT_CONTEXT, context.client_context.as_deref()),
    ] {
        if let Some(value) = text.and_then(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(DEADLINE, HeaderValue::from(event.deadline.0));
    headers
}

/// A text as a header has it. JSON over several lines becomes one line: a line break in JSON is no more than a blank.
fn value(text: &str) -> Option<HeaderValue> {
    let known = HeaderValue::from_bytes(text.as_bytes());
    known.or_else(|_| HeaderValue::from_str(&text.replace(|c: char| c.is_control(), " "))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_over_several_lines_is_one_line_in_its_header() {
        assert_eq!(
            value("{\n\t\"a\": \"ä\"\r\n}").unwrap().as_bytes(),
            "{  \"a\": \"ä\"  }".as_bytes()
        );
        assert_eq!(value("{\"a\":1}").unwrap(), "{\"a\":1}");
    }
}
