//! `POST /2018-06-01/runtime/init/error`: the runtime cannot start.

use hyper::Request;
use hyper::body::Incoming;
use model::invocation::FailureKind;
use model::limits;

use super::answers::{Reply, accepted, refused, too_large, truncated};
use super::body::{Unread, failure, whole};
use super::desk::{Desk, Init};

pub(super) async fn handle(desk: &Desk, request: Request<Incoming>) -> Reply {
    let told = match desk.fail_init() {
        Ok(told) => told,
        Err(why) => return refused(why),
    };
    let (head, body) = request.into_parts();
    let body = match whole(body, limits::RESPONSE_BYTES).await {
        Ok(body) => body,
        Err(Unread::TooLarge(_)) => return too_large(limits::RESPONSE_BYTES),
        Err(Unread::Broken) => return truncated(),
    };
    // Nobody waits any more: then the instance is ending.
    told.send(Init::Failed(failure(FailureKind::Init, &head.headers, body))).unwrap_or_default();
    accepted()
}
