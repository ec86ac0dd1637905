//! A call whose connection becomes a WebSocket (RFC 6455): bytes pass both ways, unread, until one side closes it.
//!
//! Nothing is held but one piece in each direction: more is read of a side when the other has taken what was read before.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use model::stream::{BodyCut, BodyPieces, PIECE_BYTES};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::frame::FrameError;
use crate::process::flow::Flow;
use crate::web::{Switched, Wire};

/// The one protocol that is asked for.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Bytes of a server's that are read at once, at first.
const READ_FIRST: usize = 4 * 1024;
/// How long the server may take to close its side once its client has closed its own.
const FAREWELL: Duration = Duration::from_secs(5);

/// Asks for it. What the client has said about it (`Sec-WebSocket-…`) is in the request already.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, WEBSOCKET);
}

/// Whether an answer that switches protocols switches to the one that was asked for.
pub(super) fn is_agreed(answer: &Parts) -> bool {
    let protocol = answer.headers.get(header::UPGRADE);
    protocol.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
}

/// A WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    /// The server's side.
    pub(super) switched: Switched,
    /// What its client sends.
    pub(super) sent: BodyPieces,
}

/// How one ended.
#[derive(Debug)]
pub(super) enum Closed {
    /// The server has closed it, or is gone.
    ByServer,
    /// The client has, or is gone.
    ByClient,
    /// Somebody collects what the server says, and it is too much.
    TooLarge(FrameError),
}

impl Socket {
    /// Lets bytes pass until the end. Cancel-safe, in that it is closed then.
    pub(super) async fn pass(self, flow: &mut Flow<'_>) -> Closed {
        let Self { switched: Switched { wire, first }, sent } = self;
        let (reading, writing) = tokio::io::split(wire);
        let (mut out, mut back) = (pin!(out(sent, writing)), pin!(back(first, reading, flow)));
        // Neither goes first: whoever floods one direction does not stop the other.
        let end = tokio::select! {
            closed = &mut back => return closed,
            end = &mut out => end,
        };
        match end {
            Out::End => timeout(FAREWELL, back).await.unwrap_or(Closed::ByClient),
            Out::Cut => Closed::ByClient,
            Out::Refused => back.await,
        }
    }
}

/// Why no more goes to the server.
enum Out {
    /// The client has said that nothing more will come, and so does the server hear.
    End,
    /// The client is gone.
    Cut,
    /// The server takes no more.
    Refused,
}

async fn out(mut sent: BodyPieces, mut writing: WriteHalf<Wire>) -> Out {
    loop {
        let written = match poll_fn(|cx| sent.poll_piece(cx)).await {
            Some(Ok(piece)) => writing.write_all(&piece).await,
            Some(Err(BodyCut)) => return Out::Cut,
            None => return writing.shutdown().await.map_or(Out::Refused, |()| Out::End),
        };
        if written.is_err() {
            return Out::Refused;
        }
    }
}

async fn back(mut first: Bytes, mut reading: ReadHalf<Wire>, flow: &mut Flow<'_>) -> Closed {
    let (mut buffer, mut next) = (BytesMut::new(), READ_FIRST);
    loop {
        let room = flow.reserve().await;
        if !first.is_empty() {
            let piece = first.split_to(first.len().min(PIECE_BYTES));
            if let Err(error) = flow.take(piece, room) {
                return Closed::TooLarge(error);
            }
            continue;
        }
        buffer.reserve(next);
        let mut into = (&mut buffer).limit(next);
        let read = tokio::select! {
            biased;
            read = reading.read_buf(&mut into) => read,
            () = flow.abandoned() => return Closed::ByClient,
        };
        let Ok(count @ 1..) = read else { return Closed::ByServer };
        // A server that says much says more.
        next = if count == next { (next * 4).min(PIECE_BYTES) } else { READ_FIRST };
        if let Err(error) = flow.take(buffer.split().freeze(), room) {
            return Closed::TooLarge(error);
        }
    }
}
