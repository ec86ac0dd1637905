//! The sockets of one instance, and the connections that they have in turn.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::jail::sockets::{hang_up, renew};

/// The ways into one instance's network namespace.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Without a connection, the one that had one last at the end: its end has had the time to pass.
    free: Mutex<VecDeque<OwnedFd>>,
    server: SocketAddrV4,
}

impl Sockets {
    /// All of them, to a server that listens on this port.
    pub(crate) fn new(all: Vec<OwnedFd>, port: u16) -> Arc<Self> {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Arc::new(Self { free: Mutex::new(all.into()), server })
    }

    /// Connects to the server.
    pub(super) async fn connect(self: &Arc<Self>) -> io::Result<Wire> {
        let socket = self.lock().pop_front();
        let socket = socket.ok_or_else(|| io::Error::other("every socket is in use"))?;
        if let Err(error) = renew(&socket).and_then(|()| self.begin(&socket)) {
            self.lock().push_back(socket);
            return Err(error);
        }
        let stream = TcpStream::from_std(socket.into())?;
        let wire = Wire { stream: Some(stream), home: Arc::clone(self) };
        let Some(stream) = &wire.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        stream.writable().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(wire),
        }
    }

    fn begin(&self, socket: &OwnedFd) -> io::Result<()> {
        match rustix::net::connect(socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<OwnedFd>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to the server. Dropped, it ends, and its socket is there for the next.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Always there, but while it is dropped.
    stream: Option<TcpStream>,
    home: Arc<Sockets>,
}

impl Wire {
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Without the reactor that it is taken from the daemon ends.
        let Some(Ok(stream)) = self.stream.take().map(TcpStream::into_std) else { return };
        hang_up(&stream);
        self.home.lock().push_back(stream.into());
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
