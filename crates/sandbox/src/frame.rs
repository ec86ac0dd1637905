//! The frame protocol between daemon and bootstrap, the daemon's side: `runtimes/PROTOCOL.md`.
//!
//! [`init`] and [`invoke`] make frames, [`Outgoing`] sends them, [`FrameReader::next`] receives. [`parse`] is the core of the receiving side,
//! without I/O. Whatever comes from the function's side is a stranger's: it is checked before it is believed, and no announcement
//! makes the daemon hold more memory than bytes that have arrived. The order of frames is not checked here but by whoever drives the
//! instance.
//!
//! The socket keeps packets apart: what a frame of up to [`PACKET_BYTES`] is sent in is read whole or not at all, so that a call which the function
//! has not begun can be taken back. A warm call with a small event and a small answer costs one `writev` and one `read`.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;

use bytes::Bytes;
use model::clock::UnixMillis;
use model::ids::RequestId;
use model::invocation::{CallContext, Invocation};
use model::limits;
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::jail::Environment;

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 8;
/// Bytes of a request id as it stands in a frame: a UUID with hyphens.
const ID_BYTES: usize = 36;
/// Bytes of an INVOKE frame's payload before its extra: id, deadline, length of extra.
const INVOKE_FIXED_BYTES: usize = ID_BYTES + 8 + 4;
/// Largest payload of a frame, in bytes: an event or answer, and 64 KiB for what stands around it.
pub(crate) const PAYLOAD_BYTES: usize = limits::SYNC_PAYLOAD_BYTES + 64 * 1024;
/// Bytes of a packet at most, in both directions, but for pieces of answers; a larger frame takes several.
pub(crate) const PACKET_BYTES: usize = 64 * 1024;
/// Bytes of a piece at most: what most programs read and write at once, so that it takes one packet and not two.
const PIECE_BYTES: usize = 64 * 1024;
/// What one `read` takes: any packet. It lies on the stack for the time of the call.
const READ_BYTES: usize = HEADER_BYTES + ID_BYTES + PIECE_BYTES;
/// Bytes of an answer's payload before its body: request id, [`Told`].
const ANSWER_FIXED_BYTES: usize = ID_BYTES + 3 * 4;
/// What a bootstrap says that does not count its output.
const UNCOUNTED: u32 = u32::MAX;
const SHORT_ANSWER: &str = "an answer without a request id and counts";

const KIND_INIT: u8 = 1;
const KIND_INVOKE: u8 = 2;
const KIND_HELLO: u8 = 16;
const KIND_READY: u8 = 17;
const KIND_INIT_ERROR: u8 = 18;
const KIND_RESPONSE: u8 = 19;
const KIND_ERROR: u8 = 20;
const KIND_LAST_ERROR: u8 = 21;
const KIND_STREAM_START: u8 = 22;
const KIND_CHUNK: u8 = 23;
const KIND_STREAM_END: u8 = 24;

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
        /// What the bootstrap says of the call.
        told: Told,
        /// JSON, not checked; at most `limits::RESPONSE_BYTES`.
        body: Bytes,
    },
    /// The handler failed.
    Error {
        /// The call it claims to answer.
        id: RequestId,
        /// What the bootstrap says of the call.
        told: Told,
        /// Error JSON, not checked.
        body: Bytes,
        /// The process ends with this answer.
        last: bool,
    },
    /// The answer comes in pieces from here on.
    StreamStart {
        /// The call it claims to answer.
        id: RequestId,
        /// What stands before the pieces: JSON, not checked.
        prelude: Bytes,
    },
    /// A piece of an answer.
    Chunk {
        /// The call it claims to answer.
        id: RequestId,
        /// At least one byte, and no more than fit a packet.
        piece: Bytes,
    },
    /// The answer that came in pieces is whole.
    StreamEnd {
        /// The call it claims to answer.
        id: RequestId,
        /// What the bootstrap says of the call.
        told: Told,
    },
}

impl Incoming {
    /// What it says beside the answer, if it is one.
    pub(crate) fn told(&self) -> Option<Told> {
        match self {
            Self::Response { told, .. }
            | Self::Error { told, .. }
            | Self::StreamEnd { told, .. } => Some(*told),
            _ => None,
        }
    }

    /// Whether more frames of the same call come behind it, perhaps at once.
    fn goes_on(&self) -> bool {
        matches!(self, Self::StreamStart { .. } | Self::Chunk { .. })
    }
}

/// What a bootstrap says of a call beside its answer. A stranger's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// From taking the call up to this answer, in microseconds.
    pub(crate) busy_us: u32,
    /// Bytes written to standard output and to standard error since the answer before; `None` from a bootstrap that does not count them.
    pub(crate) written: Option<[u32; 2]>,
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
    /// For a process that was started without the function's variables: those that it lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<&'a Environment>,
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
            KIND_RESPONSE | KIND_ERROR | KIND_LAST_ERROR if payload_bytes < ANSWER_FIXED_BYTES => {
                return Err(FrameError::Invalid(SHORT_ANSWER));
            }
            KIND_RESPONSE if payload_bytes - ANSWER_FIXED_BYTES > limits::RESPONSE_BYTES => {
                let bytes = payload_bytes - ANSWER_FIXED_BYTES;
                return Err(FrameError::TooLarge { bytes, limit: limits::RESPONSE_BYTES });
            }
            KIND_STREAM_START | KIND_CHUNK | KIND_STREAM_END => stream_length(kind, payload_bytes)?,
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
            KIND_STREAM_START => {
                let (id, prelude) = split_id(payload)?;
                Ok(Incoming::StreamStart { id, prelude })
            }
            KIND_CHUNK => {
                let (id, piece) = split_id(payload)?;
                Ok(Incoming::Chunk { id, piece })
            }
            kind => {
                let (id, told, body) = split_answer(payload)?;
                Ok(match kind {
                    KIND_RESPONSE => Incoming::Response { id, told, body },
                    KIND_STREAM_END => Incoming::StreamEnd { id, told },
                    _ => Incoming::Error { id, told, body, last: kind == KIND_LAST_ERROR },
                })
            }
        }
    }
}

/// Whether a frame of a stream may be so long: start and pieces are one packet each, so that none of them is held half-way for longer than that.
fn stream_length(kind: u8, payload_bytes: usize) -> Result<(), FrameError> {
    let allowed = match kind {
        KIND_STREAM_START => ID_BYTES..=PACKET_BYTES - HEADER_BYTES,
        KIND_CHUNK => ID_BYTES + 1..=ID_BYTES + PIECE_BYTES,
        _ => ANSWER_FIXED_BYTES..=ANSWER_FIXED_BYTES,
    };
    if allowed.contains(&payload_bytes) {
        return Ok(());
    }
    Err(FrameError::Invalid("a frame of a stream that is too short or too long"))
}

fn split_id(mut payload: Bytes) -> Result<(RequestId, Bytes), FrameError> {
    const BAD: FrameError = FrameError::Invalid("the request id is no UUID");
    let (id, _) = payload.split_first_chunk::<ID_BYTES>().ok_or(BAD)?;
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or(BAD)?;
    Ok((id, payload.split_off(ID_BYTES)))
}

fn split_answer(mut payload: Bytes) -> Result<(RequestId, Told, Bytes), FrameError> {
    const SHORT: FrameError = FrameError::Invalid(SHORT_ANSWER);
    const BAD: FrameError = FrameError::Invalid("the request id is no UUID");
    let (id, rest) = payload.split_first_chunk::<ID_BYTES>().ok_or(SHORT)?;
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or(BAD)?;
    let (words, []) = rest.get(..ANSWER_FIXED_BYTES - ID_BYTES).ok_or(SHORT)?.as_chunks() else {
        return Err(SHORT);
    };
    let &[busy_us, out, err] = words else { return Err(SHORT) };
    let [busy_us, out, err] = [busy_us, out, err].map(u32::from_le_bytes);
    let written = (out != UNCOUNTED && err != UNCOUNTED).then_some([out, err]);
    Ok((id, Told { busy_us, written }, payload.split_off(ANSWER_FIXED_BYTES)))
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
    ///
    /// `last`: nothing is expected behind it. Telling tokio so makes the next wait a real one; with the readiness left standing it would
    /// cost an empty read. A function that sends more than it owes only makes its own next answer be seen late.
    pub(crate) async fn next(
        &mut self,
        socket: &UnixStream,
        last: bool,
    ) -> Result<Incoming, FrameError> {
        loop {
            if let Parsed::Frame(frame, _) = self.take_pending()? {
                return Ok(frame);
            }
            socket.readable().await?;
            let read = socket.try_io(Interest::READABLE, || match self.read(socket) {
                Err(FrameError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
                done => Ok(done),
            });
            match read {
                Ok(Ok(Some(frame))) => {
                    if last && !frame.goes_on() {
                        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                        socket.try_io(Interest::READABLE, empty).unwrap_or_default();
                    }
                    return Ok(frame);
                }
                Ok(Ok(None)) => {}
                Ok(Err(FrameError::Io(e))) | Err(e) if passes(&e) => {}
                Ok(Err(e)) => return Err(e),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The next frame, if it is here whole: what a process that has ended left behind.
    pub(crate) fn next_now(&mut self, socket: &UnixStream) -> Result<Incoming, FrameError> {
        loop {
            match self.read(socket) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(FrameError::Io(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(FrameError::Io(_)) => return Err(FrameError::Closed),
                Err(e) => return Err(e),
            }
        }
    }

    /// One read; the frame that it completes.
    fn read(&mut self, socket: &UnixStream) -> Result<Option<Incoming>, FrameError> {
        let wanted = match self.take_pending()? {
            Parsed::Frame(frame, _) => return Ok(Some(frame)),
            Parsed::Partial(wanted) => wanted,
        };
        match wanted.filter(|total| *total > READ_BYTES) {
            Some(total) => self.fill_large(socket, total)?,
            None => return self.fill_small(socket),
        }
        Ok(match self.take_pending()? {
            Parsed::Frame(frame, _) => Some(frame),
            Parsed::Partial(_) => None,
        })
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
        let mut chunk = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        // Cheaper than `read`, which is for files as well.
        let received = rustix::net::recv(socket, &mut chunk[..], RecvFlags::DONTWAIT);
        let ((got, _), _) = received.map_err(io::Error::from)?;
        if got.is_empty() {
            return Err(FrameError::Closed);
        }
        if self.pending.is_empty()
            && let Parsed::Frame(frame, total) = parse(got)?
        {
            self.pending.extend_from_slice(got.get(total..).unwrap_or_default());
            return Ok(Some(frame));
        }
        self.pending.extend_from_slice(got);
        match self.take_pending()? {
            Parsed::Frame(frame, _) => Ok(Some(frame)),
            Parsed::Partial(_) => Ok(None),
        }
    }

    /// One read into `pending`, which grows with what has come, not with what was announced.
    fn fill_large(&mut self, socket: &UnixStream, total: usize) -> Result<(), FrameError> {
        // Room for a whole packet: what a read has no room for is lost.
        if self.pending.capacity() - self.pending.len() < READ_BYTES {
            let missing = (total - self.pending.len()).max(READ_BYTES);
            self.pending.reserve_exact(missing.min(self.pending.len().max(READ_BYTES)));
        }
        let read = rustix::io::read(socket, spare_capacity(&mut self.pending));
        if read.map_err(io::Error::from)? == 0 {
            return Err(FrameError::Closed);
        }
        Ok(())
    }
}

/// Whether the same operation may succeed when it is tried again.
fn passes(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The INIT frame; wiped on drop, for it may hold secrets.
pub(crate) fn init(init: &Init<'_>) -> Result<Outgoing, FrameError> {
    const FIXED_BYTES: usize = 2_048;
    // One that grows leaves copies behind.
    let room = FIXED_BYTES + init.environment.map_or(0, Environment::json_bytes);
    let mut payload = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *payload, init).map_err(io::Error::from)?;
    let head = header(KIND_INIT, payload.len())?.to_vec();
    Ok(Outgoing { head, body: Bytes::from_owner(payload), sent_bytes: 0 })
}

/// A call. The event is not copied; an empty one is left for the bootstrap to read as `{}`.
pub(crate) fn invoke(
    invocation: &Invocation,
    deadline: UnixMillis,
) -> Result<Outgoing, FrameError> {
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
    head.extend_from_slice(&deadline.0.to_le_bytes());
    // The header's check above bounds this far below 4 GiB.
    head.extend_from_slice(&u32::try_from(extra.len()).unwrap_or(u32::MAX).to_le_bytes());
    head.extend_from_slice(&extra);
    Ok(Outgoing { head, body: invocation.payload.clone(), sent_bytes: 0 })
}

/// Where the request id of an INVOKE frame ends.
pub(crate) const INVOKE_ID_END: usize = HEADER_BYTES + ID_BYTES;

/// The call that a packet begins with, if it is one that [`invoke`] made.
pub(crate) fn invoked(packet: &[u8; INVOKE_ID_END]) -> Option<RequestId> {
    let (_, id) = packet.split_first_chunk::<HEADER_BYTES>()?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

fn header(kind: u8, payload_bytes: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    let too_large = FrameError::TooLarge { bytes: payload_bytes, limit: PAYLOAD_BYTES };
    if payload_bytes > PAYLOAD_BYTES {
        return Err(too_large);
    }
    let [a, b, c, d] = u32::try_from(payload_bytes).map_err(|_| too_large)?.to_le_bytes();
    Ok([a, b, c, d, kind, 0, 0, 0])
}

/// A frame on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: Vec<u8>,
    body: Bytes,
    sent_bytes: usize,
}

impl Outgoing {
    /// Whether it fits one packet.
    pub(crate) fn is_one_packet(&self) -> bool {
        self.head.len() + self.body.len() <= PACKET_BYTES
    }

    /// Sends what the socket takes at once; whether that was the rest.
    pub(crate) fn send_now(&mut self, socket: &UnixStream) -> Result<bool, FrameError> {
        // Tried before it is waited for: a socket between two calls has room.
        self.send_with(|packet| {
            socket.try_io(Interest::WRITABLE, || {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let mut nothing = SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(socket, packet, &mut nothing, flags)?)
            })
        })
    }

    /// Sends it whole. Cancel-safe: dropped half-way, the next call goes on where this one was.
    pub(crate) async fn send(&mut self, socket: &UnixStream) -> Result<(), FrameError> {
        while !self.send_now(socket)? {
            socket.writable().await?;
        }
        Ok(())
    }

    fn send_with(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Result<bool, FrameError> {
        loop {
            let head = self.head.get(self.sent_bytes..).unwrap_or_default();
            let head = head.get(..PACKET_BYTES).unwrap_or(head);
            let body = self.body.get(self.sent_bytes.saturating_sub(self.head.len())..);
            let body = body.unwrap_or_default();
            let body = body.get(..PACKET_BYTES - head.len()).unwrap_or(body);
            if head.is_empty() && body.is_empty() {
                return Ok(true);
            }
            match write(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(n) => self.sent_bytes += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::os::fd::OwnedFd;

    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
        out.extend([kind, 0, 0, 0]);
        out.extend(payload);
        out
    }

    const TOLD: Told = Told { busy_us: 7, written: Some([258, 0]) };

    fn answer(kind: u8, id: RequestId, body: &[u8]) -> Vec<u8> {
        let told = [7, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0];
        frame(kind, &[id.to_string().as_bytes(), &told, body].concat())
    }

    fn stream(kind: u8, id: RequestId, body: &[u8]) -> Vec<u8> {
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
            stream(KIND_STREAM_START, id, b"{}"),
            stream(KIND_CHUNK, id, b"x"),
            answer(KIND_STREAM_END, id, b""),
            answer(KIND_RESPONSE, id, b""),
        ];
        let incoming = vec![
            Incoming::Hello,
            Incoming::Ready,
            Incoming::Response { id, told: TOLD, body: body_bytes.clone() },
            Incoming::Error { id, told: TOLD, body: body_bytes.clone(), last: false },
            Incoming::InitError(body_bytes),
            Incoming::StreamStart { id, prelude: Bytes::from_static(b"{}") },
            Incoming::Chunk { id, piece: Bytes::from_static(b"x") },
            Incoming::StreamEnd { id, told: TOLD },
            Incoming::Response { id, told: TOLD, body: Bytes::new() },
        ];
        (bytes.concat(), incoming)
    }

    fn invocation(payload: Bytes, context: CallContext) -> Invocation {
        Invocation {
            id: RequestId::generate(),
            attempt: 1,
            payload,
            timeout: Duration::from_secs(3),
            context,
        }
    }

    async fn sent(socket: &UnixStream, call: &Invocation) -> Result<(), FrameError> {
        invoke(call, UnixMillis(1_767_225_600_042))?.send(socket).await
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
        assert_eq!(invalid(&frame(KIND_RESPONSE, &[b'0'; 47])), SHORT_ANSWER);
        for id in [[b'x'; 48], [0xff; 48], [b'-'; 48]] {
            assert_eq!(invalid(&frame(KIND_ERROR, &id)), "the request id is no UUID");
        }
        let id = RequestId::generate();
        for bytes in [
            frame(KIND_STREAM_START, &[b'0'; 35]),
            stream(KIND_STREAM_START, id, &vec![b' '; PACKET_BYTES - HEADER_BYTES - ID_BYTES + 1]),
            stream(KIND_CHUNK, id, b""),
            stream(KIND_CHUNK, id, &vec![0; PIECE_BYTES + 1]),
            stream(KIND_STREAM_END, id, &[0; 11]),
            stream(KIND_STREAM_END, id, &[0; 13]),
        ] {
            assert_eq!(invalid(&bytes), "a frame of a stream that is too short or too long");
        }
        assert_eq!(invalid(&frame(KIND_CHUNK, &[b'x'; 40])), "the request id is no UUID");
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
        let most = u32::try_from(limits::RESPONSE_BYTES + ANSWER_FIXED_BYTES).unwrap();
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
                    assert_eq!(&reader.next(&ours, false).await.unwrap(), frame, "split at {at}");
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
                assert!(&reader.next(&ours, false).await.unwrap() == frame);
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
        let waiting = tokio::time::timeout(Duration::from_millis(20), reader.next(&ours, true));
        waiting.await.unwrap_err();
        assert!(reader.pending.capacity() <= 2 * PACKET_BYTES, "{}", reader.pending.capacity());
        // Cut off half-way.
        drop(theirs);
        assert!(matches!(reader.next(&ours, true).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn a_closed_socket_is_said() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(matches!(FrameReader::new().next(&ours, true).await, Err(FrameError::Closed)));
        let call = invocation(Bytes::new(), CallContext::default());
        assert!(matches!(sent(&ours, &call).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn a_short_read_leaves_no_stale_readiness() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut reader = FrameReader::new();
        for _ in 0..3 {
            theirs.write_all(&frame(KIND_HELLO, b"")).await.unwrap();
            assert_eq!(reader.next(&ours, true).await.unwrap(), Incoming::Hello);
            let mut asked = false;
            let stale = ours.try_io(Interest::READABLE, || {
                asked = true;
                Ok(())
            });
            assert!(stale.is_err() && !asked, "the next wait would cost an empty read");
        }
    }

    /// Two ends that keep packets apart.
    fn packets() -> (UnixStream, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (UnixStream::from_std(ours.into()).unwrap(), theirs)
    }

    #[tokio::test]
    async fn frames_in_packets_are_seen_one_by_one_and_none_is_lost() {
        let (ours, theirs) = packets();
        let id = RequestId::generate();
        let body = vec![b'x'; 5 * PACKET_BYTES];
        let (_, expected) = conversation(id, &body);
        let (mut reader, mut seen) = (FrameReader::new(), 0);
        for bytes in [
            frame(KIND_HELLO, b""),
            frame(KIND_READY, b""),
            answer(KIND_RESPONSE, id, &body),
            answer(KIND_ERROR, id, &body),
        ] {
            for packet in bytes.chunks(PACKET_BYTES) {
                // The socket holds three packets or so: room is made by reading on.
                while rustix::io::write(&theirs, packet).is_err() {
                    let next = reader.next(&ours, false);
                    if let Ok(frame) = tokio::time::timeout(Duration::from_millis(1), next).await {
                        assert!(frame.unwrap() == expected[seen]);
                        seen += 1;
                    }
                }
            }
        }
        while seen < 4 {
            assert!(reader.next(&ours, seen == 3).await.unwrap() == expected[seen]);
            seen += 1;
        }
        assert!(matches!(reader.next_now(&ours), Err(FrameError::Closed)), "nothing is left");
    }

    #[tokio::test]
    async fn what_lies_behind_a_frame_of_a_stream_is_not_waited_for() {
        let (ours, theirs) = packets();
        let (id, mut reader) = (RequestId::generate(), FrameReader::new());
        let piece = [b'y'; PIECE_BYTES];
        for bytes in [
            stream(KIND_STREAM_START, id, b"{}"),
            stream(KIND_CHUNK, id, &piece),
            answer(KIND_STREAM_END, id, b""),
        ] {
            assert!(bytes.len() <= READ_BYTES);
            rustix::io::write(&theirs, &bytes).unwrap();
        }
        // `last`, as of a call with none behind it: no readiness that still counts may be forgotten.
        for expected in [
            Incoming::StreamStart { id, prelude: Bytes::from_static(b"{}") },
            Incoming::Chunk { id, piece: Bytes::copy_from_slice(&piece) },
            Incoming::StreamEnd { id, told: TOLD },
        ] {
            let next = tokio::time::timeout(Duration::from_secs(20), reader.next(&ours, true));
            assert!(next.await.unwrap().unwrap() == expected);
        }
    }

    #[tokio::test]
    async fn a_small_call_is_one_packet_and_says_whose() {
        let (ours, theirs) = packets();
        let call = invocation(Bytes::from_static(b"{}"), CallContext::default());
        let mut frame = invoke(&call, UnixMillis(0)).unwrap();
        ours.writable().await.unwrap();
        assert!(frame.is_one_packet() && frame.send_now(&ours).unwrap());
        let mut packet = [0; INVOKE_ID_END];
        rustix::io::read(&theirs, &mut packet).unwrap();
        assert_eq!(invoked(&packet), Some(call.id));
        packet[HEADER_BYTES] = b'x';
        assert_eq!(invoked(&packet), None);
        let large = invocation(vec![b' '; PACKET_BYTES].into(), CallContext::default());
        assert!(!invoke(&large, UnixMillis(0)).unwrap().is_one_packet());
    }

    #[tokio::test]
    async fn calls_are_sent_as_the_protocol_says() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let context = CallContext {
            trace: Some("Root=1".into()),
            client_context: Some(r#"{"custom":{"a":1}}"#.into()),
            arn: Some("arn:live".into()),
            hops: 2,
            key: None,
            body: None,
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
                let (sent, rest) = tokio::join!(sent(&ours, &call), read);
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
        let init =
            Init { handler: "index.handler", task_root: "/var/task", function, environment: None };
        super::init(&init).unwrap().send(&ours).await.unwrap();
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
        let refused = sent(&ours, &call).await;
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
                    prop_assert_eq!(got, Incoming::Error { id, told: TOLD, body: body.into(), last: false });
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
