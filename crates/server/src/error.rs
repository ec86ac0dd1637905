//! Error code → HTTP: the status and the body of every refusal. The only place that knows both.
//!
//! A handler fails with a [`Refusal`], which rides in the response's extensions until the outermost layer, where the request id is
//! known, turns it into an [`ErrorBody`] by [`render`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use model::api::{ErrorBody, ErrorDetail, HEADER_REQUEST_ID};
use model::error::{Code, Error, Origin};
use model::ids::RequestId;

/// The status that a refusal with this code has.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidName
        | Code::InvalidParameter
        | Code::InvalidBody
        | Code::InvalidPackage
        | Code::UnknownRuntime => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound | Code::NoRoute => StatusCode::NOT_FOUND,
        Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::AlreadyExists | Code::Conflict | Code::NotEmpty => StatusCode::CONFLICT,
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::PackageTooLarge | Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::InitFailed | Code::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Throttled | Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        Code::StorageUnusable | Code::SandboxFailed | Code::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Code::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
    }
}

/// An error with the status it is answered with.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: Error,
}

impl Refusal {
    /// No such method on this path; the response keeps its `Allow`.
    pub(crate) fn method_not_allowed(error: Error) -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error }
    }

    /// The answer to the request `id`.
    pub(crate) fn render(&self, id: RequestId) -> http::Response<Full<Bytes>> {
        render(self.status, &self.error, id)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { status: status_of(error.code()), error }
    }
}

/// A refusal on its way to the outermost layer.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub Arc<Refusal>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Refused(Arc::new(self)));
        response
    }
}

fn render(status: StatusCode, error: &Error, id: RequestId) -> http::Response<Full<Bytes>> {
    log(error, id);
    let body = ErrorBody {
        error: ErrorDetail {
            code: error.code().as_str().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
            retryable: error.retry_hint().is_some(),
            request_id: Some(id.to_string()),
        },
    };
    // A struct of strings and one bool always serialises.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = http::Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HEADER_REQUEST_ID, request_id_value(id));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = error.retry_hint() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    response
}

/// `Retry-After` counts whole seconds; rounded up, so that nobody comes too early.
fn whole_seconds(after: Duration) -> u64 {
    after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1)
}

/// The value of the request-id header.
pub(crate) fn request_id_value(id: RequestId) -> HeaderValue {
    // A UUID is hexadecimal digits and hyphens, so it always is a header value.
    HeaderValue::from_maybe_shared(Bytes::from(id.to_string()))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Tells the log of a refusal, with its causes.
pub(crate) fn log(error: &Error, id: RequestId) {
    if error.origin() != Origin::Platform {
        tracing::debug!(request = %id, code = %error.code(), "refused: {}", error.message());
        return;
    }
    let mut causes = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push_str(": ");
        causes.push_str(&cause.to_string());
        source = cause.source();
    }
    tracing::error!(request = %id, code = %error.code(), "failed: {}{causes}", error.message());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_error_status() {
        for code in Code::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}: {status}");
        }
    }

    #[test]
    fn retry_hints_are_rounded_up_and_never_zero() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
        let error = Error::throttled("busy", Duration::from_millis(200));
        let response = Refusal::from(error).render(RequestId::generate());
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn the_source_never_reaches_the_caller() {
        let id = RequestId::generate();
        let body = format!("{:?}", Refusal::from(Error::internal("/secret broke")).render(id));
        assert!(!body.contains("secret"), "{body}");
        assert!(body.contains(&id.to_string()), "{body}");
    }
}
