//! `POST /2018-06-01/runtime/invocation/ID/response`: the function's answer, whole or in pieces.
//!
//! It comes in pieces if a header says so, or its content type: some clients leave the header out. They are handed on as they come, and read no faster than they are taken. What stands before them, status and
//! headers, begins the body if its content type says so, and ends with eight zero bytes; else there is only the content type. An error behind the first piece
//! stands in the trailers, as it may behind an answer that is whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use model::invocation::{Failure, FailureKind};
use model::limits;
use model::stream::PIECE_BYTES;
use serde_json::json;
use tokio::sync::mpsc;

use super::answers::{Reply, accepted, invalid_mode, refused, too_large, truncated};
use super::body::{ERROR_TYPE, Unread, failure, whole_with_trailers};
use super::desk::{Answer, Answering, Desk, Phase, Piece};
use super::error::oversized;

const MODE: HeaderName = HeaderName::from_static("lambda-runtime-function-response-mode");
const STREAMING: &str = "streaming";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";
/// The content type of a body that begins with status and headers.
const WITH_PRELUDE: &str = "application/vnd.awslambda.http-integration-response";
/// What ends them.
const PRELUDE_END: [u8; 8] = [0; 8];
/// Most of them, in bytes.
const PRELUDE_BYTES: usize = 64 * 1024;
/// Pieces that wait between the connection and the call.
const PIECES: usize = 1;

pub(super) async fn handle(desk: &Desk, id: &str, request: Request<Incoming>) -> Reply {
    let mut answering = match desk.begin(id, Phase::InvocationResponse) {
        Ok(answering) => answering,
        Err(why) => return refused(why),
    };
    let (head, body) = request.into_parts();
    let with_prelude = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == WITH_PRELUDE);
    match head.headers.get(MODE).map(|mode| mode == STREAMING) {
        None if !with_prelude => in_one(answering, body).await,
        Some(true) | None => in_pieces(answering, &head.headers, body).await,
        Some(false) => {
            let message = "Invalid function response mode";
            let failure =
                Failure::new(FailureKind::Handler, "Runtime.InvalidResponseModeHeader", message);
            answering.give(Answer::Failed(failure));
            invalid_mode()
        }
    }
}

async fn in_one(mut answering: Answering<'_>, body: Incoming) -> Reply {
    match whole_with_trailers(body, limits::RESPONSE_BYTES).await {
        Ok((body, trailers)) => {
            let failure = trailers.as_ref().and_then(said);
            answering.give(failure.map_or(Answer::Whole(body), Answer::Failed));
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

async fn in_pieces(mut answering: Answering<'_>, headers: &HeaderMap, mut body: Incoming) -> Reply {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let (prelude, first) = if kind == Some(WITH_PRELUDE) {
        match prelude(&mut body).await {
            Ok(begun) => begun,
            Err(Begun::Without) => {
                let message = format!(
                    "expected status and headers, of at most {PRELUDE_BYTES} bytes, and eight zero bytes behind them"
                );
                let failure =
                    Failure::new(FailureKind::Handler, "Runtime.InvalidResponsePrelude", &message);
                answering.give(Answer::Failed(failure));
                return accepted();
            }
            Err(Begun::Broken) => return truncated(),
        }
    } else {
        let prelude =
            kind.map_or_else(|| json!({}), |kind| json!({"headers": {"content-type": kind}}));
        (prelude.to_string().into(), Bytes::new())
    };
    let (pieces, taken) = mpsc::channel(PIECES);
    answering.give(Answer::Pieces { prelude, pieces: taken });
    let trailers = match hand_on(&pieces, first, body).await {
        Ok(trailers) => trailers,
        Err(Unread::Broken | Unread::TooLarge(_)) => return truncated(),
    };
    let end = trailers.as_ref().and_then(said).map_or(Ok(()), Err);
    answering.settle();
    // Nobody takes it any more: then the instance is ending.
    pieces.send(Piece::End(end)).await.unwrap_or_default();
    accepted()
}

/// Hands pieces on until the body's end; what stands behind it.
async fn hand_on(
    pieces: &mpsc::Sender<Piece>,
    first: Bytes,
    mut body: Incoming,
) -> Result<Option<HeaderMap>, Unread> {
    let mut piece = first;
    loop {
        while !piece.is_empty() {
            let next = piece.split_to(piece.len().min(PIECE_BYTES));
            // Nobody takes it any more: then the instance is ending.
            pieces.send(Piece::Bytes(next)).await.map_err(|_| Unread::Broken)?;
        }
        let Some(frame) = body.frame().await else { return Ok(None) };
        match frame.map_err(|_| Unread::Broken)?.into_data() {
            Ok(bytes) => piece = bytes,
            Err(frame) => return Ok(frame.into_trailers().ok()),
        }
    }
}

/// The failure that stands in trailers, if one does.
fn said(trailers: &HeaderMap) -> Option<Failure> {
    trailers.get(ERROR_TYPE)?;
    let body = trailers.get(ERROR_BODY).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let body = STANDARD.decode(body).unwrap_or_else(|_| body.to_vec());
    Some(failure(FailureKind::Handler, trailers, body.into()))
}

/// Why an answer in pieces does not begin.
enum Begun {
    /// It has no prelude, or too long a one.
    Without,
    /// It breaks off.
    Broken,
}

/// What stands before the pieces, and what came with it of the first one.
async fn prelude(body: &mut Incoming) -> Result<(Bytes, Bytes), Begun> {
    let mut all = BytesMut::new();
    loop {
        let frame = body.frame().await.ok_or(Begun::Without)?.map_err(|_| Begun::Broken)?;
        let Ok(bytes) = frame.into_data() else { return Err(Begun::Without) };
        // The mark may have begun in what was there before.
        let from = all.len().saturating_sub(PRELUDE_END.len() - 1);
        all.extend_from_slice(&bytes);
        let fresh = all.get(from..).unwrap_or_default();
        if let Some(at) = memchr::memmem::find(fresh, &PRELUDE_END) {
            let prelude = all.split_to(from + at).freeze();
            let first = all.split_off(PRELUDE_END.len()).freeze();
            let fits = prelude.len() <= PRELUDE_BYTES;
            return if fits { Ok((prelude, first)) } else { Err(Begun::Without) };
        }
        if all.len() > PRELUDE_BYTES {
            return Err(Begun::Without);
        }
    }
}
