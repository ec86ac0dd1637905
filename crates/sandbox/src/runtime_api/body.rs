//! Reads bodies, within a limit, and errors from them.

use crate::process::failure::is_json;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use model::invocation::{Failure, FailureKind};

/// Which error a runtime reports, where its body does not say.
pub(super) const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
/// The type of an error that has none of its own.
const UNKNOWN: &str = "Runtime.Unknown";
/// Of an error that is no JSON, as much as is kept of its text, in bytes.
const TEXT_BYTES: usize = 32 * 1024;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is larger than allowed: at least so many bytes.
    TooLarge(usize),
    /// It ended before its end, or is no body of HTTP.
    Broken,
}

/// Reads a body of at most `limit` bytes. One that announces more is not read.
pub(super) async fn whole(body: Incoming, limit: usize) -> Result<Bytes, Unread> {
    whole_with_trailers(body, limit).await.map(|(bytes, _)| bytes)
}

/// As [`whole`], with what stands behind the body.
pub(super) async fn whole_with_trailers(
    mut body: Incoming,
    limit: usize,
) -> Result<(Bytes, Option<HeaderMap>), Unread> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Unread::TooLarge(announced));
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let bytes = match frame.map_err(|_| Unread::Broken)?.into_data() {
            Ok(bytes) => bytes,
            Err(frame) => return Ok((all.freeze(), frame.into_trailers().ok())),
        };
        if all.is_empty() && bytes.len() == announced {
            // It came in one piece: the usual case.
            return Ok((bytes, None));
        }
        if bytes.len() > limit - all.len() {
            return Err(Unread::TooLarge(all.len() + bytes.len()));
        }
        if all.is_empty() {
            all.reserve(announced.max(bytes.len()));
        }
        all.extend_from_slice(&bytes);
    }
    Ok((all.freeze(), None))
}

/// The failure that a runtime reports: its body if that is JSON, else its text in the form of an error.
pub(super) fn failure(kind: FailureKind, headers: &HeaderMap, body: Bytes) -> Failure {
    if is_json(&body) {
        return Failure { kind, payload: body };
    }
    let error_type = headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    let text = body.get(..TEXT_BYTES).unwrap_or(&body);
    Failure::new(kind, error_type.unwrap_or(UNKNOWN), &String::from_utf8_lossy(text))
}
