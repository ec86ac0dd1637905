//! Reads request bodies: bounded in size, bounded in time, into one buffer.
//!
//! A body is read whole before anything is done with it, so that a slow client holds nothing but its connection, and a body that was
//! cut off half-way has no effect.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use model::Result;
use model::error::{Code, Error};
use model::limits;
use model::tasks::Tasks;

/// What is read of a body that was refused for its size, in bytes, so that a client that writes everything before it reads gets to
/// see the refusal rather than a reset connection.
const DISCARD_BYTES: usize = 32 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);
/// Buffer of a body that does not announce its length, in bytes, to begin with.
const UNANNOUNCED_BYTES: usize = 8 * 1024;

/// How large a body may be, and what it is called in the refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    what: &'static str,
    bytes: usize,
    code: Code,
}

impl Limit {
    /// The payload of a synchronous call.
    pub(crate) const SYNC_PAYLOAD: Self =
        Self { what: "payload", bytes: limits::SYNC_PAYLOAD_BYTES, code: Code::PayloadTooLarge };
    /// The payload of an asynchronous call.
    pub(crate) const ASYNC_PAYLOAD: Self = Self {
        what: "payload of an asynchronous call",
        bytes: limits::ASYNC_PAYLOAD_BYTES,
        code: Code::PayloadTooLarge,
    };
    /// A package, or the one source file of it.
    pub(crate) const PACKAGE: Self =
        Self { what: "package", bytes: limits::PACKAGE_BYTES, code: Code::PackageTooLarge };
    /// JSON that holds a package in base64, as clients of the AWS Lambda API send one.
    pub(crate) const PACKAGE_IN_JSON: Self =
        Self { what: "request", bytes: limits::PACKAGE_IN_JSON_BYTES, code: Code::PackageTooLarge };
    /// The JSON body of a control call.
    pub(crate) const CONTROL: Self =
        Self { what: "body", bytes: limits::CONTROL_BODY_BYTES, code: Code::PayloadTooLarge };

    /// The refusal of what is larger.
    pub(crate) fn exceeded(&self) -> Error {
        let Self { what, bytes, code } = self;
        Error::caller(*code, format!("{what} is too large: expected at most {bytes} bytes"))
    }
}

/// Reads the whole body within `limit` and `timeout`.
///
/// Fails with the limit's code (at once when the announced length is over it), `request-timeout` or `invalid-body` (cut off).
pub(crate) async fn collect<B>(
    headers: &HeaderMap,
    mut body: B,
    limit: Limit,
    timeout: Duration,
    tasks: &Tasks,
) -> Result<Bytes>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Send
        + Unpin
        + 'static,
{
    let announced = body.size_hint().exact();
    let fits = |n: u64| usize::try_from(n).is_ok_and(|n| n <= limit.bytes);
    let read = if announced.is_some_and(|n| !fits(n)) {
        Err(limit.exceeded())
    } else {
        match tokio::time::timeout(timeout, read(&mut body, announced, limit)).await {
            Ok(read) => read,
            Err(_) => Err(Error::caller(
                Code::RequestTimeout,
                format!("the body did not arrive within {} s", timeout.as_secs_f32()),
            )),
        }
    };
    if read.as_ref().is_err_and(|e| e.code() == limit.code) && waits_for_nothing(headers) {
        discard(body, tasks);
    }
    read
}

async fn read<B>(body: &mut B, announced: Option<u64>, limit: Limit) -> Result<Bytes>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + Unpin,
{
    let announced = announced.and_then(|n| usize::try_from(n).ok());
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| cut_off(whole.len(), announced, e))?;
        // Trailers carry nothing that an operation reads.
        let Ok(data) = frame.into_data() else { continue };
        if whole.is_empty() {
            if announced == Some(data.len()) {
                // The usual case: it all came in one piece, which needs no copy.
                return Ok(data);
            }
            whole.reserve(announced.unwrap_or(UNANNOUNCED_BYTES).max(data.len()));
        }
        if whole.len() + data.len() > limit.bytes {
            return Err(limit.exceeded());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn cut_off<E>(arrived: usize, announced: Option<usize>, source: E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let message = match announced {
        Some(n) => format!("the body was cut off: {arrived} of {n} bytes arrived"),
        None => format!("the body was cut off after {arrived} bytes"),
    };
    Error::caller(Code::InvalidBody, message).with_source(source)
}

/// Whether the client sends its body without being asked to (RFC 9110, section 10.1.1).
pub(crate) fn waits_for_nothing(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::EXPECT)
}

/// Lets the client finish its sending while the refusal is on its way.
pub(crate) fn discard<B>(mut body: B, tasks: &Tasks)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let read = async move {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    tasks.spawn_until_cancelled("discard-body", async move {
        // Past the time limit the rest is not worth reading.
        let read = pin!(read);
        tokio::time::timeout(DISCARD_TIME, read).await.unwrap_or_default();
    });
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::{Empty, Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    const LIMIT: Limit = Limit { what: "thing", bytes: 10, code: Code::PayloadTooLarge };

    async fn run<B>(body: B) -> Result<Bytes>
    where
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
            + Send
            + Unpin
            + 'static,
    {
        collect(&HeaderMap::new(), body, LIMIT, Duration::from_millis(50), &Tasks::new()).await
    }

    fn pieces(
        pieces: &'static [&'static str],
    ) -> impl Body<Data = Bytes, Error = Infallible> + Send + Unpin {
        let frames = pieces.iter().map(|p| Ok(Frame::data(Bytes::from_static(p.as_bytes()))));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn bodies_within_the_limit_arrive_whole() {
        assert_eq!(run(Empty::<Bytes>::new()).await.unwrap(), "");
        assert_eq!(run(Full::new(Bytes::from_static(b"0123456789"))).await.unwrap(), "0123456789");
        assert_eq!(run(pieces(&["01234", "", "56789"])).await.unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let bytes = Bytes::from(vec![7; 9]);
        let read = run(Full::new(bytes.clone())).await.unwrap();
        assert_eq!(read.as_ptr(), bytes.as_ptr());
    }

    #[tokio::test]
    async fn larger_bodies_are_refused_with_the_limit() {
        for e in [
            run(Full::new(Bytes::from_static(b"0123456789a"))).await.unwrap_err(),
            run(pieces(&["01234", "56789", "a"])).await.unwrap_err(),
        ] {
            assert_eq!(e.code(), Code::PayloadTooLarge);
            assert_eq!(e.message(), "thing is too large: expected at most 10 bytes");
        }
    }

    struct Broken(bool);

    impl Body for Broken {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            if std::mem::replace(&mut self.0, true) {
                Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())))
            } else {
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"abc")))))
            }
        }
    }

    struct Stuck;

    impl Body for Stuck {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn broken_and_slow_bodies_are_told_apart() {
        let e = run(Broken(false)).await.unwrap_err();
        assert_eq!(e.code(), Code::InvalidBody);
        assert!(e.message().contains("after 3 bytes"), "{}", e.message());
        assert_eq!(run(Stuck).await.unwrap_err().code(), Code::RequestTimeout);
    }
}
