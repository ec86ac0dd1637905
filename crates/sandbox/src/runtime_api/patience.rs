//! How long a connection may take for the head of a request: from its first byte, so that one that is idle may be so for as long as it likes.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long the head of a request may take. A function's own program sends it at once.
const HEAD_MOST: Duration = Duration::from_secs(5);

/// The requests of a connection.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Heads that came whole.
    came: AtomicU64,
    /// Whether the last one is being answered.
    busy: AtomicBool,
}

impl Heads {
    /// A head is whole.
    pub(super) fn came(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    /// The request is answered.
    pub(super) fn done(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }
}

/// A connection that fails when a head takes too long.
#[derive(Debug)]
pub(super) struct Patient<'a> {
    stream: TcpStream,
    heads: &'a Heads,
    /// Until when the head that has begun has to be whole, and how many there were before it.
    due: Option<(Pin<Box<Sleep>>, u64)>,
}

impl<'a> Patient<'a> {
    pub(super) fn new(stream: TcpStream, heads: &'a Heads) -> Self {
        Self { stream, heads, due: None }
    }
}

impl AsyncRead for Patient<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let came = this.heads.came.load(Ordering::Relaxed);
        if this.due.as_ref().is_some_and(|(_, before)| *before != came) {
            this.due = None;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_ready() {
            let idle = !this.heads.busy.load(Ordering::Relaxed);
            if idle && this.due.is_none() && buffer.filled().len() > before {
                this.due = Some((Box::pin(tokio::time::sleep(HEAD_MOST)), came));
            }
        } else if let Some((due, _)) = &mut this.due
            && due.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Patient<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
