//! `POST /2018-06-01/runtime/invocation/ID/error`: the function failed.

use hyper::Request;
use hyper::body::Incoming;
use model::invocation::{Failure, FailureKind};
use model::limits;

use super::answers::{Reply, accepted, refused, too_large, truncated};
use super::body::{Unread, failure, whole};
use super::desk::{Answer, Desk, Phase};

pub(super) async fn handle(desk: &Desk, id: &str, request: Request<Incoming>) -> Reply {
    let mut answering = match desk.begin(id, Phase::InvocationErrorResponse) {
        Ok(answering) => answering,
        Err(why) => return refused(why),
    };
    let (head, body) = request.into_parts();
    match whole(body, limits::RESPONSE_BYTES).await {
        Ok(body) => {
            answering.give(Answer::Failed(failure(FailureKind::Handler, &head.headers, body)));
            accepted()
        }
        Err(Unread::TooLarge(bytes)) => {
            answering.give(Answer::Failed(oversized(bytes)));
            too_large(limits::RESPONSE_BYTES)
        }
        // Dropped: whoever asked finds out why the runtime broke off.
        Err(Unread::Broken) => truncated(),
    }
}

/// An answer over the limit.
pub(super) fn oversized(bytes: usize) -> Failure {
    let limit = limits::RESPONSE_BYTES;
    let message = format!(
        "Response payload size ({bytes} bytes) exceeded maximum allowed payload size ({limit} bytes)."
    );
    Failure::new(FailureKind::ResponseTooLarge, "Function.ResponseSizeTooLarge", &message)
}
