//! The frame protocol between daemon and bootstrap, the daemon's side: `runtimes/PROTOCOL.md`.
//!
//! [`write_init`] and [`write_invoke`] send, [`FrameReader::next`] receives. [`parse`] is the core of the receiving side, without
//! I/O. Whatever comes from the function's side is a stranger's: it is checked before it is believed, and no announcement
//! makes the daemon hold more memory than bytes that have arrived. The order of frames is not checked here but by whoever drives the
//! instance.
//!
//! A warm call with a small event and a small answer costs one `writev` and one `read`.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;

use bytes::Bytes;
use model::ids::RequestId;
use model::invocation::{CallContext, Invocation};
use model::limits;
use rustix::buffer::spare_capacity;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 8;
/// Bytes of a request id as it stands in a frame: a UUID with hyphens.
const ID_BYTES: usize = 36;
/// Bytes of an INVOKE frame's payload before its extra: id, deadline, length of extra.
const INVOKE_FIXED_BYTES: usize = ID_BYTES + 8 + 4;
/// Largest payload of a frame, in bytes: an event or answer, and 64 KiB for what stands around it.
pub(crate) const PAYLOAD_BYTES: usize = limits::SYNC_PAYLOAD_BYTES + 64 * 1024;
/// What one `read` takes at most while no large frame is under way, in bytes; it lies on the stack for the time of the call.
const CHUNK_BYTES: usize = 64 * 1024;

const KIND_INIT: u8 = 1;
const KIND_INVOKE: u8 = 2;
const KIND_HELLO: u8 = 16;
const KIND_READY: u8 = 17;
const KIND_INIT_ERROR: u8 = 18;
const KIND_RESPONSE: u8 = 19;
const KIND_ERROR: u8 = 20;
const KIND_LAST_ERROR: u8 = 21;

/// What a bootstrap says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// It runs.
    Hello,
    /// The code is loaded.
    Ready,
    /// The code could not be loaded: error JSON, not checked.
    InitError(Bytes),
    /// The handler's answer.
    Response {
        /// The call it claims to answer.
        id: RequestId,
        /// JSON, not checked; at most `limits::RESPONSE_BYTES`.
        body: Bytes,
    },
    /// The handler failed.
    Error {
        /// The call it claims to answer.
        id: RequestId,
        /// Error JSON, not checked.
        body: Bytes,
        /// The process ends with this answer.
        last: bool,
    },
}

/// Why no frame could be read or written. After any of these the socket is of no more use.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The other end is closed: the process ended, or closed its descriptor.
    Closed,
    /// An answer, or an event with what stands around it, is over its limit.
    TooLarge {
        /// Bytes announced.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// What came is no frame of the protocol; says what was wrong.
    Invalid(&'static str),
    /// The socket failed.
    Io(io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the other end of the socket is closed"),
            Self::TooLarge { bytes, limit } => {
                write!(f, "{bytes} bytes are too many: expected at most {limit}")
            }
            Self::Invalid(reason) => write!(f, "not a valid frame: {reason}"),
            Self::Io(e) => write!(f, "the socket failed: {e}"),
        }
    }
}

impl std::error::Error for FrameError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(e),
            _ => None,
        }
    }
}

impl From<io::Error> for FrameError {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            // Linux reports a peer that left while bytes to it were unread as a reset.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(e),
        }
    }
}

/// What an instance is told first.
#[derive(Debug, Serialize)]
pub(crate) struct Init<'a> {
    /// What to call, for instance `index.handler`.
    pub(crate) handler: &'a str,
    /// The folder that holds the code, as the function sees it.
    pub(crate) task_root: &'a str,
    /// What the handler's `context` says of the function.
    pub(crate) function: InitFunction<'a>,
}

/// What an instance is told of its function.
#[derive(Debug, Serialize)]
pub(crate) struct InitFunction<'a> {
    /// Its name, without the namespace.
    pub(crate) name: &'a str,
    /// `$LATEST` or the version's number.
    pub(crate) version: &'a str,
    /// The AWS-style name.
    pub(crate) arn: &'a str,
    /// The memory limit, in MiB.
    pub(crate) memory_mb: u32,
    /// The log group that AWS-style code expects.
    pub(crate) log_group: &'a str,
    /// The log stream that AWS-style code expects.
    pub(crate) log_stream: &'a str,
}

/// A frame's header whose announcement is within the limits of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: u8,
    payload_bytes: usize,
}

impl Header {
    fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [a, b, c, d, kind, zeros @ ..] = bytes;
        // A length that does not fit is over every limit.
        let payload_bytes = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if zeros != [0; 3] {
            return Err(FrameError::Invalid("reserved bytes are not zero"));
        }
        match kind {
            KIND_HELLO | KIND_READY if payload_bytes != 0 => {
                return Err(FrameError::Invalid("a payload where none belongs"));
            }
            KIND_RESPONSE | KIND_ERROR | KIND_LAST_ERROR if payload_bytes < ID_BYTES => {
                return Err(FrameError::Invalid("an answer without a request id"));
            }
            KIND_RESPONSE if payload_bytes - ID_BYTES > limits::RESPONSE_BYTES => {
                let bytes = payload_bytes - ID_BYTES;
                return Err(FrameError::TooLarge { bytes, limit: limits::RESPONSE_BYTES });
            }
            KIND_HELLO | KIND_READY | KIND_INIT_ERROR | KIND_RESPONSE | KIND_ERROR
            | KIND_LAST_ERROR => {}
            _ => return Err(FrameError::Invalid("unknown kind")),
        }
        if payload_bytes > PAYLOAD_BYTES {
            return Err(FrameError::TooLarge { bytes: payload_bytes, limit: PAYLOAD_BYTES });
        }
        Ok(Self { kind, payload_bytes })
    }

    /// Bytes of the whole frame.
    fn frame_bytes(self) -> usize {
        HEADER_BYTES + self.payload_bytes
    }

    /// Makes a frame of a payload of exactly the announced length.
    fn decode(self, payload: Bytes) -> Result<Incoming, FrameError> {
        match self.kind {
            KIND_HELLO => Ok(Incoming::Hello),
            KIND_READY => Ok(Incoming::Ready),
            KIND_INIT_ERROR => Ok(Incoming::InitError(payload)),
            kind => {
                let (id, body) = split_id(payload)?;
                Ok(if kind == KIND_RESPONSE {
                    Incoming::Response { id, body }
                } else {
                    Incoming::Error { id, body, last: kind == KIND_LAST_ERROR }
                })
            }
        }
    }
}

fn split_id(mut payload: Bytes) -> Result<(RequestId, Bytes), FrameError> {
    const BAD: FrameError = FrameError::Invalid("the request id is no UUID");
    let id = payload.get(..ID_BYTES).ok_or(BAD)?;
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or(BAD)?;
    Ok((id, payload.split_off(ID_BYTES)))
}

/// Where the receiving side stands with the bytes it has.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A whole frame, and how many bytes it took.
    Frame(Incoming, usize),
    /// More is needed; how many bytes the frame has in all, once its header is there.
    Partial(Option<usize>),
}

/// Reads one frame from the start of `bytes`. Never panics, whatever they are.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, FrameError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(Parsed::Partial(None));
    };
    let header = Header::parse(*header)?;
    let total = header.frame_bytes();
    let Some(payload) = bytes.get(HEADER_BYTES..total) else {
        return Ok(Parsed::Partial(Some(total)));
    };
    Ok(Parsed::Frame(header.decode(Bytes::copy_from_slice(payload))?, total))
}

/// Receives frames. Holds memory only while a frame is half-way here.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// What arrived and is in no frame yet.
    pending: Vec<u8>,
}

impl FrameReader {
    /// A reader for a fresh socket.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The next frame. Cancel-safe: dropped half-way, the next call goes on where this one was.
    pub(crate) async fn next(&mut self, socket: &UnixStream) -> Result<Incoming, FrameError> {
        loop {
            let wanted = match self.take_pending()? {
                Parsed::Frame(frame, _) => return Ok(frame),
                Parsed::Partial(wanted) => wanted,
            };
            socket.readable().await?;
            let large = wanted.filter(|total| *total > CHUNK_BYTES);
            let done = match large {
                Some(total) => self.fill_large(socket, total).map(|()| None),
                None => self.fill_small(socket),
            };
            match done {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(FrameError::Io(e)) if passes(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes a frame out of what is pending, if it is there whole.
    fn take_pending(&mut self) -> Result<Parsed, FrameError> {
        let Some(header) = self.pending.first_chunk::<HEADER_BYTES>() else {
            return Ok(Parsed::Partial(None));
        };
        let header = Header::parse(*header)?;
        let total = header.frame_bytes();
        if self.pending.len() < total {
            return Ok(Parsed::Partial(Some(total)));
        }
        let rest = self.pending.split_off(total);
        // The answer keeps this buffer: megabytes are not copied.
        let payload = Bytes::from(std::mem::replace(&mut self.pending, rest)).slice(HEADER_BYTES..);
        Ok(Parsed::Frame(header.decode(payload)?, total))
    }

    /// One read by way of the stack. A frame that arrives whole, the usual case, never passes through `pending`.
    fn fill_small(&mut self, socket: &UnixStream) -> Result<Option<Incoming>, FrameError> {
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let mut got: &[u8] = &[];
        read_once(socket, CHUNK_BYTES, || {
            let (bytes, _) = rustix::io::read(socket, &mut chunk[..])?;
            got = bytes;
            Ok(bytes.len())
        })?;
        if self.pending.is_empty()
            && let Parsed::Frame(frame, total) = parse(got)?
        {
            self.pending.extend_from_slice(got.get(total..).unwrap_or_default());
            return Ok(Some(frame));
        }
        self.pending.extend_from_slice(got);
        Ok(None)
    }

    /// One read into `pending`, which grows with what has come, not with what was announced.
    fn fill_large(&mut self, socket: &UnixStream, total: usize) -> Result<(), FrameError> {
        if self.pending.len() == self.pending.capacity() {
            let missing = total - self.pending.len();
            self.pending.reserve_exact(missing.min(self.pending.len().max(CHUNK_BYTES)));
        }
        let room = self.pending.capacity() - self.pending.len();
        read_once(socket, room, || {
            Ok(rustix::io::read(socket, spare_capacity(&mut self.pending))?)
        })?;
        Ok(())
    }
}

/// Runs one `read` that can take `room` bytes; an empty one is the end of the stream.
///
/// A short read means that the socket is empty. Telling tokio so (`WouldBlock`) makes the next wait a real one; with the
/// readiness left standing every frame would cost a second, empty read. The kernel reads short as well where descriptors were
/// sent along; a function that does so only makes its own call wait until the deadline.
fn read_once(
    socket: &UnixStream,
    room: usize,
    read: impl FnOnce() -> io::Result<usize>,
) -> Result<(), FrameError> {
    let mut read_bytes = None;
    let result = socket.try_io(Interest::READABLE, || {
        let n = read()?;
        read_bytes = Some(n);
        if n > 0 && n < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match (read_bytes, result) {
        (Some(0), _) => Err(FrameError::Closed),
        (Some(_), _) | (None, Ok(())) => Ok(()),
        (None, Err(e)) => Err(e.into()),
    }
}

/// Whether the same operation may succeed when it is tried again.
fn passes(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Sends the INIT frame.
pub(crate) async fn write_init(socket: &UnixStream, init: &Init<'_>) -> Result<(), FrameError> {
    let payload = serde_json::to_vec(init).map_err(io::Error::from)?;
    let head = header(KIND_INIT, payload.len())?;
    write_all(socket, &head, &payload).await
}

/// Sends a call. The event is not copied; an empty one is left for the bootstrap to read as `{}`.
pub(crate) async fn write_invoke(
    socket: &UnixStream,
    invocation: &Invocation,
) -> Result<(), FrameError> {
    let extra = if invocation.context == CallContext::default() {
        Vec::new()
    } else {
        serde_json::to_vec(&invocation.context).map_err(io::Error::from)?
    };
    let payload_bytes = INVOKE_FIXED_BYTES + extra.len() + invocation.payload.len();
    let mut head = Vec::with_capacity(HEADER_BYTES + INVOKE_FIXED_BYTES + extra.len());
    head.extend_from_slice(&header(KIND_INVOKE, payload_bytes)?);
    // Writing to a Vec cannot fail.
    io::Write::write_fmt(&mut head, format_args!("{}", invocation.id))?;
    head.extend_from_slice(&invocation.deadline_unix.0.to_le_bytes());
    // The header's check above bounds this far below 4 GiB.
    head.extend_from_slice(&u32::try_from(extra.len()).unwrap_or(u32::MAX).to_le_bytes());
    head.extend_from_slice(&extra);
    write_all(socket, &head, &invocation.payload).await
}

fn header(kind: u8, payload_bytes: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    let too_large = FrameError::TooLarge { bytes: payload_bytes, limit: PAYLOAD_BYTES };
    if payload_bytes > PAYLOAD_BYTES {
        return Err(too_large);
    }
    let [a, b, c, d] = u32::try_from(payload_bytes).map_err(|_| too_large)?.to_le_bytes();
    Ok([a, b, c, d, kind, 0, 0, 0])
}

/// Writes both parts, in one system call if the socket takes them at once.
async fn write_all(socket: &UnixStream, head: &[u8], body: &[u8]) -> Result<(), FrameError> {
    let mut parts = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut parts[..];
    // Drops empty parts, so that an empty body ends the loop.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        // Tried before it is waited for: a socket between two calls has room.
        match socket.try_write_vectored(left) {
            Ok(0) => return Err(FrameError::Closed),
            Ok(n) => IoSlice::advance_slices(&mut left, n),
            Err(e) if passes(&e) => socket.writable().await?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use model::clock::UnixMillis;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
        out.extend([kind, 0, 0, 0]);
        out.extend(payload);
        out
    }

    fn answer(kind: u8, id: RequestId, body: &[u8]) -> Vec<u8> {
        frame(kind, &[id.to_string().as_bytes(), body].concat())
    }

    /// One of each kind, and what they should read as.
    fn conversation(id: RequestId, body: &[u8]) -> (Vec<u8>, Vec<Incoming>) {
        let body_bytes = Bytes::copy_from_slice(body);
        let bytes = [
            frame(KIND_HELLO, b""),
            frame(KIND_READY, b""),
            answer(KIND_RESPONSE, id, body),
            answer(KIND_ERROR, id, body),
            frame(KIND_INIT_ERROR, body),
            answer(KIND_RESPONSE, id, b""),
        ];
        let incoming = vec![
            Incoming::Hello,
            Incoming::Ready,
            Incoming::Response { id, body: body_bytes.clone() },
            Incoming::Error { id, body: body_bytes.clone(), last: false },
            Incoming::InitError(body_bytes),
            Incoming::Response { id, body: Bytes::new() },
        ];
        (bytes.concat(), incoming)
    }

    fn invocation(payload: Bytes, context: CallContext) -> Invocation {
        Invocation {
            id: RequestId::generate(),
            attempt: 1,
            payload,
            deadline: Instant::now() + Duration::from_secs(3),
            deadline_unix: UnixMillis(1_767_225_600_042),
            context,
        }
    }

    fn invalid(bytes: &[u8]) -> &'static str {
        match parse(bytes) {
            Err(FrameError::Invalid(reason)) => reason,
            other => panic!("expected an invalid frame, got {other:?}"),
        }
    }

    #[test]
    fn each_violation_is_named() {
        assert_eq!(invalid(&frame(KIND_HELLO, b"x")), "a payload where none belongs");
        assert_eq!(invalid(&frame(KIND_READY, b"x")), "a payload where none belongs");
        assert_eq!(invalid(&frame(KIND_INIT, b"{}")), "unknown kind");
        assert_eq!(invalid(&frame(0, b"")), "unknown kind");
        assert_eq!(invalid(&frame(255, b"")), "unknown kind");
        assert_eq!(invalid(&frame(KIND_RESPONSE, &[b'0'; 35])), "an answer without a request id");
        for id in [[b'x'; 36], [0xff; 36], [b'-'; 36]] {
            assert_eq!(invalid(&frame(KIND_ERROR, &id)), "the request id is no UUID");
        }
        for reserved in 5..8 {
            let mut bytes = frame(KIND_HELLO, b"");
            bytes[reserved] = 1;
            assert_eq!(invalid(&bytes), "reserved bytes are not zero");
        }
    }

    #[test]
    fn lengths_are_judged_by_the_header_alone() {
        let announce = |kind, length: u32| {
            let [a, b, c, d] = length.to_le_bytes();
            parse(&[a, b, c, d, kind, 0, 0, 0])
        };
        let most = u32::try_from(limits::RESPONSE_BYTES + ID_BYTES).unwrap();
        assert!(matches!(announce(KIND_RESPONSE, most), Ok(Parsed::Partial(Some(_)))));
        for (kind, length, limit) in [
            (KIND_RESPONSE, most + 1, limits::RESPONSE_BYTES),
            (KIND_RESPONSE, u32::MAX, limits::RESPONSE_BYTES),
            (KIND_ERROR, u32::MAX, PAYLOAD_BYTES),
            (KIND_INIT_ERROR, u32::MAX, PAYLOAD_BYTES),
        ] {
            match announce(kind, length) {
                Err(FrameError::TooLarge { limit: l, .. }) => assert_eq!(l, limit),
                other => panic!("kind {kind}, {length} bytes: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn frames_arrive_whole_wherever_they_are_split() {
        let id = RequestId::generate();
        let (bytes, expected) = conversation(id, br#"{"statusCode":200}"#);
        for at in 0..=bytes.len() {
            let (mut theirs, ours) = UnixStream::pair().unwrap();
            let mut reader = FrameReader::new();
            let (first, second) = bytes.split_at(at);
            let feed = async {
                theirs.write_all(first).await.unwrap();
                tokio::task::yield_now().await;
                theirs.write_all(second).await.unwrap();
            };
            let read = async {
                for frame in &expected {
                    assert_eq!(&reader.next(&ours).await.unwrap(), frame, "split at {at}");
                }
            };
            tokio::join!(feed, read);
        }
    }

    #[tokio::test]
    async fn large_frames_arrive_unharmed_and_the_next_one_too() {
        let id = RequestId::generate();
        let body: Vec<u8> =
            (0..limits::RESPONSE_BYTES).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let (bytes, expected) = conversation(id, &body);
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut reader = FrameReader::new();
        let read = async {
            for frame in &expected {
                assert!(&reader.next(&ours).await.unwrap() == frame);
            }
        };
        let (sent, ()) = tokio::join!(theirs.write_all(&bytes), read);
        sent.unwrap();
        assert_eq!(reader.pending.capacity(), 0, "memory is held between frames");
    }

    #[tokio::test]
    async fn an_announcement_costs_no_memory() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let whole = answer(KIND_RESPONSE, RequestId::generate(), &vec![0; limits::RESPONSE_BYTES]);
        theirs.write_all(&whole[..100]).await.unwrap();
        let mut reader = FrameReader::new();
        let waiting = tokio::time::timeout(Duration::from_millis(20), reader.next(&ours));
        waiting.await.unwrap_err();
        assert!(reader.pending.capacity() <= 2 * CHUNK_BYTES, "{}", reader.pending.capacity());
        // Cut off half-way.
        drop(theirs);
        assert!(matches!(reader.next(&ours).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn a_closed_socket_is_said() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(matches!(FrameReader::new().next(&ours).await, Err(FrameError::Closed)));
        let call = invocation(Bytes::new(), CallContext::default());
        assert!(matches!(write_invoke(&ours, &call).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn a_short_read_leaves_no_stale_readiness() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut reader = FrameReader::new();
        for _ in 0..3 {
            theirs.write_all(&frame(KIND_HELLO, b"")).await.unwrap();
            assert_eq!(reader.next(&ours).await.unwrap(), Incoming::Hello);
            let mut asked = false;
            let stale = ours.try_io(Interest::READABLE, || {
                asked = true;
                Ok(())
            });
            assert!(stale.is_err() && !asked, "the next wait would cost an empty read");
        }
    }

    #[tokio::test]
    async fn calls_are_sent_as_the_protocol_says() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let context = CallContext {
            trace: Some("Root=1".into()),
            client_context: Some(r#"{"custom":{"a":1}}"#.into()),
            hops: 2,
        };
        for context in [CallContext::default(), context] {
            for payload in
                [Bytes::new(), Bytes::from_static(b"{\"a\":1}"), vec![b' '; 3 << 20].into()]
            {
                let call = invocation(payload.clone(), context.clone());
                let mut header = [0; 8];
                let read = async {
                    theirs.read_exact(&mut header).await.unwrap();
                    let length = u32::from_le_bytes(*header.first_chunk().unwrap());
                    let mut rest = vec![0; usize::try_from(length).unwrap()];
                    theirs.read_exact(&mut rest).await.unwrap();
                    rest
                };
                let (sent, rest) = tokio::join!(write_invoke(&ours, &call), read);
                sent.unwrap();
                assert_eq!(header[4..], [KIND_INVOKE, 0, 0, 0]);
                assert_eq!(rest[..36], *call.id.to_string().as_bytes());
                assert_eq!(rest[36..44], 1_767_225_600_042_u64.to_le_bytes());
                let extra = u32::from_le_bytes(*rest[44..].first_chunk().unwrap());
                let (extra, event) = rest[48..].split_at(usize::try_from(extra).unwrap());
                assert_eq!(event, payload);
                match extra {
                    b"" => assert_eq!(context, CallContext::default()),
                    _ => assert_eq!(serde_json::from_slice::<CallContext>(extra).unwrap(), context),
                }
            }
        }
    }

    #[tokio::test]
    async fn init_is_sent_as_the_protocol_says() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let function = InitFunction {
            name: "hello",
            version: "$LATEST",
            arn: "arn",
            memory_mb: 128,
            log_group: "/g",
            log_stream: "s",
        };
        let init = Init { handler: "index.handler", task_root: "/var/task", function };
        write_init(&ours, &init).await.unwrap();
        drop(ours);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes[4], KIND_INIT);
        let sent: serde_json::Value = serde_json::from_slice(&bytes[8..]).unwrap();
        let expected = serde_json::json!({
            "handler": "index.handler",
            "task_root": "/var/task",
            "function": {
                "name": "hello", "version": "$LATEST", "arn": "arn",
                "memory_mb": 128, "log_group": "/g", "log_stream": "s",
            },
        });
        assert_eq!(sent, expected);
    }

    #[tokio::test]
    async fn an_event_over_the_limit_is_not_sent() {
        let (_theirs, ours) = UnixStream::pair().unwrap();
        let call = invocation(vec![0; PAYLOAD_BYTES].into(), CallContext::default());
        let refused = write_invoke(&ours, &call).await;
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })), "{refused:?}");
    }

    proptest! {
        #[test]
        fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            match parse(&bytes) {
                Ok(Parsed::Frame(_, used)) => prop_assert!(used <= bytes.len()),
                Ok(Parsed::Partial(Some(total))) => {
                    prop_assert!(total > bytes.len() && total <= PAYLOAD_BYTES + HEADER_BYTES);
                }
                Ok(Parsed::Partial(None)) => prop_assert!(bytes.len() < HEADER_BYTES),
                Err(_) => {}
            }
        }

        #[test]
        fn spoiled_frames_never_panic(at in 0_usize..52, to in any::<u8>(), cut in 0_usize..52) {
            let mut bytes = answer(KIND_RESPONSE, RequestId::generate(), b"{\"a\":1}\n");
            bytes[at] = to;
            bytes.truncate(cut.max(1));
            // Either answer will do: what counts is that there is one.
            drop(parse(&bytes));
        }

        #[test]
        fn what_is_sent_in_one_piece_is_read_back(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let id = RequestId::generate();
            let bytes = answer(KIND_ERROR, id, &body);
            match parse(&bytes).unwrap() {
                Parsed::Frame(got, used) => {
                    prop_assert_eq!(used, bytes.len());
                    prop_assert_eq!(got, Incoming::Error { id, body: body.into(), last: false });
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
