//! One connection to a function's server, by which one request goes at a time. Nothing of it runs but while somebody waits for it, in that task. A server that has been
//! asked to may take it for another protocol ([`Switched`]).

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use model::stream::PIECE_BYTES;

use super::Sent;
use super::sockets::{Sockets, Wire};

/// What is held of a connection, in bytes: the longest head of an answer, and a piece of its body.
const BUFFER_BYTES: usize = 64 * 1024;

/// A connection.
pub(crate) struct Connection {
    sender: SendRequest<Sent>,
    line: http1::Connection<TokioIo<Wire>, Sent>,
    /// Whether `line` has ended.
    ended: bool,
    /// What is left of a frame that is longer than a piece.
    rest: Bytes,
    /// When it was left last.
    pub(crate) idle_since: Option<Instant>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// A connection that speaks another protocol now.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) wire: Wire,
    /// What came behind the answer's head.
    pub(crate) first: Bytes,
}

/// A part of an answer's body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Some of it; never nothing.
    Bytes(Bytes),
    /// Headers behind it.
    Trailers(HeaderMap),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The server has seen nothing of the request.
    NotSent(Box<Request<Sent>>),
    /// It may have.
    Broken(hyper::Error),
}

impl Connection {
    /// Makes one.
    pub(crate) async fn open(sockets: &Arc<Sockets>) -> io::Result<Self> {
        let wire = sockets.connect().await?;
        let mut client = http1::Builder::new();
        client.max_buf_size(BUFFER_BYTES);
        let (sender, line) =
            client.handshake(TokioIo::new(wire)).await.map_err(io::Error::other)?;
        Ok(Self { sender, line, ended: false, rest: Bytes::new(), idle_since: None })
    }

    /// Whether it can take a request: it is whole, and the last answer has been read to its end.
    pub(crate) fn is_usable(&mut self) -> bool {
        // What has come since it was looked at last: mostly its end.
        self.advance(&mut Context::from_waker(Waker::noop()));
        !self.ended && self.rest.is_empty() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Sent>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let answer = self.sender.try_send_request(request);
        self.beside(answer).await.map_err(|mut error| match error.take_message() {
            Some(request) => Unanswered::NotSent(Box::new(request)),
            None => Unanswered::Broken(error.into_error()),
        })
    }

    /// What is left of it behind an answer by which the server switches protocols.
    pub(crate) async fn switched(mut self) -> Switched {
        poll_fn(|cx| {
            self.advance(cx);
            if self.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let http1::Parts { io, read_buf, .. } = self.line.into_parts();
        Switched { wire: io.into_inner(), first: read_buf }
    }

    /// What comes next of an answer's body; `None` at its end.
    pub(crate) async fn next(
        &mut self,
        body: &mut Incoming,
    ) -> Result<Option<Piece>, hyper::Error> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
                return Ok(Some(Piece::Bytes(piece)));
            }
            let Some(frame) = self.beside(body.frame()).await else { return Ok(None) };
            match frame?.into_data() {
                Ok(data) => self.rest = data,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Ok(Some(Piece::Trailers(trailers)));
                    }
                }
            }
        }
    }

    /// Waits for `what`, and goes on with the connection meanwhile.
    async fn beside<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        poll_fn(|cx| {
            self.advance(cx);
            what.as_mut().poll(cx)
        })
        .await
    }

    fn advance(&mut self, cx: &mut Context<'_>) {
        if !self.ended
            && let Poll::Ready(end) = Pin::new(&mut self.line).poll(cx)
        {
            self.ended = true;
            // Whoever waits for an answer hears of it.
            tracing::trace!(?end, "a connection to a function's server ended");
        }
    }
}
