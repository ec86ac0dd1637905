//! A response's body that comes from the engine in pieces.
//!
//! It is asked for a piece when the connection has room for one; what it does not take stays in the engine's bounded channel, and so the function waits. A stream that
//! ends without the word for it is an error here: the connection is closed without the last chunk, by which clients know that something is missing.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use model::invocation::{ErrorCount, FailureKind};
use model::stream::Part;
use tokio::sync::mpsc;

/// The pieces of one answer.
#[derive(Debug)]
pub(crate) struct Pieces {
    parts: mpsc::Receiver<Part>,
    /// Where an error is counted that stands in the status, once the stream has ended without one of its own.
    errors: Option<ErrorCount>,
    /// What is said once the connection has had a moment to send what it was given: an error makes it forget that.
    cut: Option<Cut>,
    over: bool,
}

impl Pieces {
    /// `errors`: of an answer whose status is an error.
    pub(crate) fn new(parts: mpsc::Receiver<Part>, errors: Option<ErrorCount>) -> Self {
        Self { parts, errors, cut: None, over: false }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(cut) = self.cut.take() {
            self.over = true;
            return Poll::Ready(Some(Err(cut)));
        }
        let cut = match ready!(self.parts.poll_recv(cx)) {
            Some(Part::Piece(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(Part::End(Ok(()))) => {
                if let Some(errors) = &self.errors {
                    errors.count();
                }
                self.over = true;
                return Poll::Ready(None);
            }
            Some(Part::End(Err(failure))) => Cut(Some(failure.kind)),
            None => Cut(None),
        };
        self.cut = Some(cut);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

/// The answer is not whole: the function failed on the way, or the daemon stopped.
#[derive(Debug)]
pub(crate) struct Cut(Option<FailureKind>);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.0.map_or("the call was given up", FailureKind::as_str);
        write!(f, "the answer was cut off: {why}")
    }
}

impl std::error::Error for Cut {}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use model::invocation::Failure;

    use super::*;

    async fn read(parts: Vec<Part>) -> (Result<Bytes, String>, u64) {
        let (sender, receiver) = mpsc::channel(8);
        for part in parts {
            sender.send(part).await.unwrap();
        }
        drop(sender);
        let errors = ErrorCount::default();
        let body = Pieces::new(receiver, Some(errors.clone()));
        let read = body.collect().await.map(|read| read.to_bytes()).map_err(|e| e.to_string());
        (read, errors.get())
    }

    #[tokio::test]
    async fn only_the_word_for_it_is_an_end() {
        let piece = || Part::Piece(Bytes::from_static(b"a"));
        let whole = read(vec![piece(), piece(), Part::End(Ok(()))]).await;
        assert_eq!(whole, (Ok(Bytes::from_static(b"aa")), 1));
        let failed = Part::End(Err(Failure::new(FailureKind::Timeout, "T", "late")));
        let (cut, errors) = read(vec![piece(), failed]).await;
        assert_eq!((cut.unwrap_err().as_str(), errors), ("the answer was cut off: timeout", 0));
        let (cut, errors) = read(vec![piece()]).await;
        assert!(cut.unwrap_err().contains("given up") && errors == 0);
    }
}
