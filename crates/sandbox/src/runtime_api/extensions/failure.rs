//! `POST /2020-01-01/extension/init/error` and `…/exit/error`: an extension cannot go on, and the instance ends.

use http::HeaderName;
use hyper::Request;
use hyper::body::Incoming;
use model::invocation::{Failure, FailureKind};

use super::{BODY_BYTES, Phase, Refused, identifier};
use crate::process::failure::is_json;
use crate::runtime_api::answers::{Reply, accepted, too_large, truncated};
use crate::runtime_api::body::{Unread, whole};
use crate::runtime_api::desk::Desk;

const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-extension-function-error-type");

/// `to`: which of the two.
pub(in crate::runtime_api) async fn handle(
    desk: &Desk,
    to: Phase,
    request: Request<Incoming>,
) -> Reply {
    let (head, body) = request.into_parts();
    let id = match identifier(&head.headers) {
        Ok(id) => id,
        Err(why) => return why.reply(),
    };
    let Some(error_type) = head.headers.get(ERROR_TYPE).and_then(|name| name.to_str().ok()) else {
        let message = "Lambda-Extension-Function-Error-Type not found";
        return Refused::new("Extension.MissingHeader", message).reply();
    };
    let body = match whole(body, BODY_BYTES).await {
        Ok(body) => body,
        Err(Unread::TooLarge(_)) => return too_large(BODY_BYTES),
        Err(Unread::Broken) => return truncated(),
    };
    let kind = if to == Phase::InitError { FailureKind::Init } else { FailureKind::Exited };
    let failure = if is_json(&body) {
        Failure { kind, payload: body }
    } else {
        Failure::new(kind, error_type, &String::from_utf8_lossy(&body))
    };
    match desk.fail_extension(id, to, failure) {
        Ok(()) => accepted(),
        Err(why) => why.reply(),
    }
}
