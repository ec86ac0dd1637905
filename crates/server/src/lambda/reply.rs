//! Answers: JSON, or nothing.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use model::clock::UnixMillis;
use model::ids::RequestId;
use serde::Serialize;

use crate::error::request_id_value;

/// JSON.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Body> {
    // What is answered here is made of texts, numbers and lists of them, which always serialise.
    let mut response = Response::new(Body::from(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A status without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The same answer with the id of its request.
pub(super) fn named(mut response: Response<Body>, id: RequestId) -> Response<Body> {
    response.headers_mut().insert("x-amzn-requestid", request_id_value(id));
    response
}

/// A time as the service writes it in JSON: `2026-01-31T12:00:00.042+0000`.
pub(super) fn time(at: UnixMillis) -> String {
    at.timestamp().strftime("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_service_does() {
        assert_eq!(time(UnixMillis(1_767_225_600_042)), "2026-01-01T00:00:00.042+0000");
        assert_eq!(time(UnixMillis(1_767_225_600_000)), "2026-01-01T00:00:00.000+0000");
    }
}
