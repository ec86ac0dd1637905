//! Bodies of requests that come in pieces, beside the event: [`BodyStream`] on the way to an instance, [`BodyPieces`] for whoever hands them to the function.
//!
//! Nothing holds a piece. Whoever hands them on asks for the next one when the function has taken the one before, and the source asks its client no sooner.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;

/// Where the pieces come from.
pub trait BodySource: Send {
    /// The next bytes, never none; `None` at the end, after which nobody asks again.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyCut>>>;
}

/// The body is not whole: its client went away, or sent nothing for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body was cut off")]
pub struct BodyCut;

/// A body that is to come. It can be taken once, whoever holds copies of it: what was read of it is gone, and so nothing that has one is tried again.
#[derive(Clone)]
pub struct BodyStream(Arc<Shared>);

struct Shared {
    length: Option<u64>,
    behind_upgrade: bool,
    source: Mutex<Option<Box<dyn BodySource>>>,
    cut: AtomicBool,
    awaited: AtomicBool,
}

impl BodyStream {
    /// `length`: in bytes, where the client has said it.
    pub fn new(length: Option<u64>, source: Box<dyn BodySource>) -> Self {
        Self::make(length, false, source)
    }

    /// What a client sends once its connection has become a WebSocket (RFC 6455): the request asks for that, and has no body. The source has something to give
    /// only after whoever runs the call has answered with a prelude of status 101, behind which the answer's pieces are what goes back.
    pub fn behind_upgrade(source: Box<dyn BodySource>) -> Self {
        Self::make(None, true, source)
    }

    fn make(length: Option<u64>, behind_upgrade: bool, source: Box<dyn BodySource>) -> Self {
        let source = Mutex::new(Some(source));
        let (cut, awaited) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Shared { length, behind_upgrade, source, cut, awaited }))
    }

    /// Whether the request has no body, but asks for a WebSocket.
    pub fn is_behind_upgrade(&self) -> bool {
        self.0.behind_upgrade
    }

    /// The pieces; `None` if somebody has them.
    pub fn take(&self) -> Option<BodyPieces> {
        let source = self.0.source.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(BodyPieces { source: Mutex::new(source), shared: Arc::clone(&self.0) })
    }

    /// Whether it was cut off.
    pub fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }

    /// Whether whoever took it waited for the client when last seen, be it given up since.
    pub fn is_awaited(&self) -> bool {
        self.0.awaited.load(Ordering::Acquire)
    }
}

impl PartialEq for BodyStream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BodyStream {}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyStream").field("length", &self.0.length).finish_non_exhaustive()
    }
}

/// The pieces of a body. Dropped, the client is asked for no more.
pub struct BodyPieces {
    /// Never locked: it only makes this shareable.
    source: Mutex<Box<dyn BodySource>>,
    shared: Arc<Shared>,
}

impl BodyPieces {
    /// Bytes of the whole body, where the client has said it.
    pub fn length(&self) -> Option<u64> {
        self.shared.length
    }

    /// The next bytes; `None` at the end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyCut>>> {
        let source = self.source.get_mut().unwrap_or_else(PoisonError::into_inner);
        let piece = source.poll_piece(cx);
        self.shared.awaited.store(piece.is_pending(), Ordering::Release);
        if let Poll::Ready(Some(Err(BodyCut))) = piece {
            self.shared.cut.store(true, Ordering::Release);
        }
        piece
    }
}

impl fmt::Debug for BodyPieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyPieces").field("length", &self.length()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    struct Script(Vec<Poll<Option<Result<Bytes, BodyCut>>>>);

    impl BodySource for Script {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyCut>>> {
            self.0.remove(0)
        }
    }

    #[test]
    fn it_is_taken_once_and_says_whom_it_waits_for() {
        let piece = || Poll::Ready(Some(Ok(Bytes::from_static(b"a"))));
        let script = vec![piece(), Poll::Pending, piece(), Poll::Ready(Some(Err(BodyCut)))];
        let body = BodyStream::new(None, Box::new(Script(script)));
        let mut pieces = body.clone().take().unwrap();
        assert!(body.take().is_none());
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        for _ in 0..4 {
            let poll = pieces.poll_piece(&mut cx);
            seen.push((poll.is_ready(), body.is_awaited(), body.is_cut()));
        }
        let expected =
            [(true, false, false), (false, true, false), (true, false, false), (true, false, true)];
        assert_eq!(seen, expected);
    }
}
