//! WebSockets (RFC 6455): a request by which a client asks for one, and what passes once the function has agreed.
//!
//! The request goes to the function as any other, with what the client will send as the body beside it ([`Offer`]). A function that answers with 101 has the connection from
//! then on: a [`Tunnel`] hands its pieces to the client, and the sandbox asks the client for the next bytes when the function has taken those before. Nothing else is held, so each side waits for the other.
//! No byte is looked at. Not here: the function's side (`sandbox`), and other protocols that a connection can change to, which no function is asked for.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Body;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use model::stream::{BodyCut, BodySource, BodyStream, Part};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// The one protocol that connections change to.
const WEBSOCKET: &str = "websocket";
/// Bytes that are read at once: so many at first, and at most.
const READ_FIRST: usize = 4 * 1024;
const READ_MOST: usize = 64 * 1024;
/// How long a client may take to close its side once the function has closed its own. What it sends until then is dropped: to close at once would take from it what it has not read yet.
const LINGER: Duration = Duration::from_secs(2);

/// Whether a request asks for a WebSocket: a `GET` without a body that names no other protocol. To any other upgrade the answer is as if nobody had asked.
pub(super) fn is_asked<B: Body>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let (protocol, more) = (protocols.next(), protocols.next());
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && protocol.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
        && more.is_none()
        && super::headers::is_named_by_connection(headers, &header::UPGRADE)
        && request.body().size_hint().exact() == Some(0)
}

/// A client's connection, which becomes a WebSocket if the function agrees.
#[derive(Debug)]
pub(super) struct Offer {
    upgrade: OnUpgrade,
    line: oneshot::Sender<Arc<Line>>,
    seen: Arc<Seen>,
}

impl Offer {
    /// The offer of a request, and what its client will send.
    pub(super) fn new<B>(request: &mut Request<B>) -> (Self, BodyStream) {
        let upgrade = hyper::upgrade::on(request);
        let (sender, line) = oneshot::channel();
        let seen = Arc::new(Seen::new());
        let source =
            Client { line: Err(line), seen: Arc::clone(&seen), buffer: BytesMut::new(), next: 0 };
        (Self { upgrade, line: sender, seen }, BodyStream::behind_upgrade(Box::new(source)))
    }

    /// Completes the answer of a function that agrees. What it says from then on comes as `parts`.
    pub(super) fn agreed(
        self,
        response: &mut Response<()>,
        parts: mpsc::Receiver<Part>,
        idle: Duration,
    ) -> Tunnel {
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        Tunnel { offer: self, parts, idle }
    }
}

/// A WebSocket, once the client has been told. Dropped, it is closed on both sides.
#[derive(Debug)]
pub(crate) struct Tunnel {
    offer: Offer,
    parts: mpsc::Receiver<Part>,
    /// How long nothing may pass.
    idle: Duration,
}

impl Tunnel {
    /// Hands what the function says to its client, until one of them is gone, or nothing passes for too long.
    pub(crate) async fn run(self) {
        let Self { offer: Offer { upgrade, line, seen }, mut parts, idle } = self;
        // The client may go away before it has been told.
        let Ok(upgraded) = upgrade.await else { return };
        let ours = Arc::new(Line(Mutex::new(TokioIo::new(upgraded))));
        seen.now();
        // A function that has said all it has to say already does not hear it.
        drop(line.send(Arc::clone(&ours)));
        let ended = tokio::select! {
            ended = ours.hand(&mut parts, &seen) => ended,
            () = seen.nothing_for(idle) => false,
        };
        // The function hears that nobody takes what it says.
        drop(parts);
        if ours.close().await.is_ok() && ended {
            timeout(LINGER, ours.drain()).await.unwrap_or_default();
        }
    }
}

/// The client's connection, of which one task reads and one writes.
#[derive(Debug)]
struct Line(Mutex<TokioIo<Upgraded>>);

impl Line {
    fn lock(&self) -> MutexGuard<'_, TokioIo<Upgraded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands pieces on. Whether that ended with the last of them.
    async fn hand(&self, parts: &mut mpsc::Receiver<Part>, seen: &Seen) -> bool {
        while let Some(Part::Piece(piece)) = parts.recv().await {
            if self.write(piece, seen).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn write(&self, mut piece: Bytes, seen: &Seen) -> io::Result<()> {
        while !piece.is_empty() {
            let write = |cx: &mut Context<'_>| Pin::new(&mut *self.lock()).poll_write(cx, &piece);
            let written = std::future::poll_fn(write).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            seen.now();
            drop(piece.split_to(written));
        }
        std::future::poll_fn(|cx| Pin::new(&mut *self.lock()).poll_flush(cx)).await
    }

    async fn close(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| Pin::new(&mut *self.lock()).poll_shutdown(cx)).await
    }

    /// Reads to the end, and keeps nothing.
    async fn drain(&self) {
        let mut buffer = BytesMut::new();
        let mut read = |cx: &mut Context<'_>| self.poll_read(cx, &mut buffer, READ_FIRST);
        while let Ok(Some(_)) = std::future::poll_fn(&mut read).await {}
    }

    /// The next bytes, at most `most`; `None` at the end.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        buffer.resize(most, 0);
        let mut into = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *self.lock()).poll_read(cx, &mut into))?;
        let read = into.filled().len();
        let bytes = buffer.split_to(read).freeze();
        Poll::Ready(Ok((!bytes.is_empty()).then_some(bytes)))
    }
}

/// What the client sends, for whoever runs the call.
struct Client {
    /// Its connection, or where that comes from.
    line: Result<Arc<Line>, oneshot::Receiver<Arc<Line>>>,
    seen: Arc<Seen>,
    buffer: BytesMut,
    /// Bytes that are read next.
    next: usize,
}

impl BodySource for Client {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyCut>>> {
        if let Err(coming) = &mut self.line {
            let Ok(line) = ready!(Pin::new(coming).poll(cx)) else {
                return Poll::Ready(Some(Err(BodyCut)));
            };
            self.line = Ok(line);
        }
        let Ok(line) = &self.line else { return Poll::Pending };
        let most = self.next.clamp(READ_FIRST, READ_MOST);
        let read = ready!(line.poll_read(cx, &mut self.buffer, most));
        self.seen.now();
        // Who sends much sends more.
        let full = matches!(&read, Ok(Some(bytes)) if bytes.len() == most);
        self.next = if full { most * 4 } else { READ_FIRST };
        Poll::Ready(read.map_err(|_| BodyCut).transpose())
    }
}

/// When something passed last.
#[derive(Debug)]
struct Seen {
    begun: Instant,
    /// Since `begun`, in milliseconds.
    last_ms: AtomicU64,
}

impl Seen {
    fn new() -> Self {
        Self { begun: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn now(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    /// Returns once nothing has passed for so long.
    async fn nothing_for(&self, idle: Duration) {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let until = self.begun + last + idle;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    #[test]
    fn a_websocket_is_asked_for_by_one_request_only() {
        let ask = |method: &str, headers: &[(&'static str, &'static str)]| {
            let mut request = Request::builder().method(method);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(Empty::<Bytes>::new()).unwrap()
        };
        let full = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(is_asked(&ask("GET", &full)));
        for (method, headers) in [
            ("POST", &full[..]),
            ("GET", &full[..1]),
            ("GET", &full[1..]),
            ("GET", &[("connection", "upgrade"), ("upgrade", "h2c")]),
            ("GET", &[("connection", "upgrade"), ("upgrade", "websocket, h2c")]),
            (
                "GET",
                &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "websocket")],
            ),
        ] {
            assert!(!is_asked(&ask(method, headers)), "{method} {headers:?}");
        }
        let mut old = ask("GET", &full);
        *old.version_mut() = Version::HTTP_10;
        assert!(!is_asked(&old));
        assert!(!is_asked(&ask("GET", &full).map(|_| Full::new(Bytes::from_static(b"body")))));
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_passes_begins_the_time_anew() {
        const IDLE: Duration = Duration::from_secs(600);
        let seen = Seen::new();
        let pass = async {
            for _ in 0..3 {
                tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
                seen.now();
            }
        };
        tokio::join!(seen.nothing_for(IDLE), pass);
        assert_eq!(seen.begun.elapsed(), 3 * (IDLE - Duration::from_secs(1)) + IDLE);
    }
}
