//! What the daemon answers: statuses, bodies and error types of AWS Lambda's own.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::desk::Refused;

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer with a body of this type.
pub(super) fn reply(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, JSON, body)
}

/// What was sent is taken.
pub(super) fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, &br#"{"status":"OK"}"#[..])
}

/// An error.
pub(super) fn error(status: StatusCode, error_type: &str, message: &str) -> Reply {
    json(status, json!({ "errorMessage": message, "errorType": error_type }).to_string())
}

/// No endpoint has this path.
pub(super) fn not_found() -> Reply {
    reply(StatusCode::NOT_FOUND, TEXT, &b"404 page not found\n"[..])
}

/// The endpoint with this path has no such method.
pub(super) fn wrong_method() -> Reply {
    reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, Bytes::new())
}

/// The runtime asks for what is not in order.
pub(super) fn refused(why: Refused) -> Reply {
    match why {
        Refused::Transition { from, to } => {
            let message = format!(
                "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
            );
            error(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
        }
        Refused::RequestId => {
            error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
        }
    }
}

/// A body is over its limit.
pub(super) fn too_large(limit: usize) -> Reply {
    let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

/// A body ended before its end.
pub(super) fn truncated() -> Reply {
    let message = "HTTP request detected as truncated";
    error(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", message)
}

/// A response in a mode that there is not.
pub(super) fn invalid_mode() -> Reply {
    let message = "Invalid function response mode";
    error(StatusCode::BAD_REQUEST, "InvalidFunctionResponseMode", message)
}
