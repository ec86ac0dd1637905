//! What goes to a server as a request's body: whole, or as it comes from its client.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use model::stream::{BodyCut, BodyPieces};

/// A request's body.
#[derive(Debug)]
pub(crate) enum Sent {
    /// All of it.
    Whole(Full<Bytes>),
    /// As it comes.
    Stream(BodyPieces),
}

impl Sent {
    /// The same request again, if it may be sent twice and nothing of it is gone then.
    pub(crate) fn again(request: &Request<Self>) -> Option<Request<Self>> {
        let Self::Whole(body) = request.body() else { return None };
        if !request.method().is_idempotent() {
            return None;
        }
        let mut copy = Request::new(Self::Whole(body.clone()));
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        copy.headers_mut().clone_from(request.headers());
        Some(copy)
    }
}

impl From<Bytes> for Sent {
    fn from(whole: Bytes) -> Self {
        Self::Whole(whole.into())
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never: Infallible| match never {}))),
            Self::Stream(pieces) => {
                pieces.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(pieces) => {
                pieces.length().map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}
