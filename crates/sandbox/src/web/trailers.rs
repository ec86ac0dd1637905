//! What stands behind an answer in pieces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use model::invocation::{Failure, FailureKind};

use super::ERROR_TYPE;
use crate::process::failure::is_json;

/// What an error is called, and its words in base64.
const TRAILING_TYPE: &str = "lambda-runtime-function-error-type";
const TRAILING_BODY: &str = "lambda-runtime-function-error-body";

/// The error that stands behind an answer in pieces, in the trailers that the Runtime API of AWS Lambda has for it.
pub(crate) fn trailing_failure(trailers: &HeaderMap) -> Option<Failure> {
    let error_type = trailers.get(TRAILING_TYPE)?.to_str().unwrap_or(ERROR_TYPE);
    let body = trailers.get(TRAILING_BODY).and_then(|body| STANDARD.decode(body.as_bytes()).ok());
    let payload = body.filter(|body| is_json(body));
    Some(payload.map_or_else(
        || Failure::new(FailureKind::Handler, error_type, "the server gave up its answer"),
        |payload| Failure { kind: FailureKind::Handler, payload: payload.into() },
    ))
}
