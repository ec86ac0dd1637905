//! A client for HTTP/1.1 with as little work per answer as can be: what it costs is taken from the server under test.
//!
//! It knows what our own servers send: no 1xx answers, no trailers, a length or chunks. [`frame`] finds the end of an answer,
//! [`Connection`] keeps one alive.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// First size of a buffer, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// Where the parts of one answer lie in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) status: u16,
    /// Bytes of the head, with its blank line.
    head: usize,
    /// Bytes of the whole answer.
    total: usize,
    chunked: bool,
}

/// The answer at the start of `bytes`; `None` while it is incomplete.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = end + 4;
    let text = bytes.get(..end).and_then(|b| std::str::from_utf8(b).ok());
    let text = text.context("the head of an answer is not UTF-8")?;
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.context("expected a status line")?;
    if let Some(length) = header(text, "content-length") {
        let length: usize = length.parse().context("content-length is no number")?;
        let total = head + length;
        return Ok((bytes.len() >= total).then_some(Frame { status, head, total, chunked: false }));
    }
    if header(text, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        let rest = bytes.get(head..).unwrap_or_default();
        let body = chunks(rest, |_| {})?;
        return Ok(body.map(|n| Frame { status, head, total: head + n, chunked: true }));
    }
    if matches!(status, 204 | 304) {
        return Ok(Some(Frame { status, head, total: head, chunked: false }));
    }
    bail!("an answer {status} has neither a length nor chunks");
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Hands over each chunk; the bytes they take, or `None` while the last one is missing.
fn chunks(bytes: &[u8], mut chunk: impl FnMut(&[u8])) -> Result<Option<usize>> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line) = rest.windows(2).position(|w| w == b"\r\n") else {
            return Ok(None);
        };
        let size = rest.get(..line).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).context("a chunk's size is no number")?;
        let start = line + 2;
        let Some(data) = rest.get(start..start + size + 2) else {
            return Ok(None);
        };
        at += start + size + 2;
        if size == 0 {
            return Ok(Some(at));
        }
        chunk(data.get(..size).unwrap_or_default());
    }
}

/// One answer, apart from its buffer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The body as text, for messages.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn copy(bytes: &[u8], frame: Frame) -> Result<Self> {
        let head = bytes.get(..frame.head).unwrap_or_default();
        let raw = bytes.get(frame.head..frame.total).unwrap_or_default();
        let mut body = Vec::new();
        if frame.chunked {
            chunks(raw, |c| body.extend_from_slice(c))?;
        } else {
            body.extend_from_slice(raw);
        }
        Ok(Self { status: frame.status, head: String::from_utf8_lossy(head).into_owned(), body })
    }
}

/// The bytes of a request. `headers` end in `\r\n` each.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}").into_bytes();
    if !body.is_empty() {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A connection that is kept alive, with one request at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES], filled: 0 })
    }

    /// The socket, to wait for.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request; its answer has to be read before the next.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        self.filled = 0;
        self.stream.write_all(request).context("cannot send a request")
    }

    /// Reads what is there, once; the answer's place in the buffer when it is complete.
    pub(crate) fn receive_some(&mut self) -> Result<Option<Frame>> {
        if self.filled == self.buffer.len() {
            if self.filled >= ANSWER_BYTES {
                bail!("an answer is over {ANSWER_BYTES} bytes");
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        let space = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let n = self.stream.read(space).context("no answer")?;
        if n == 0 {
            bail!("the server closed the connection instead of an answer");
        }
        self.filled += n;
        frame(self.buffer.get(..self.filled).unwrap_or_default())
    }

    /// The value of a header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.text(), name).map(str::to_owned)
    }

    /// What was received of the answer, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.buffer.get(..self.filled).unwrap_or_default()).into_owned()
    }

    /// Sends a request and waits for its answer, which stays in the buffer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Frame> {
        self.send(request)?;
        loop {
            if let Some(frame) = self.receive_some()? {
                return Ok(frame);
            }
        }
    }

    /// Sends a request and copies its answer out.
    pub(crate) fn call(&mut self, request: &[u8]) -> Result<Answer> {
        let frame = self.exchange(request)?;
        Answer::copy(&self.buffer, frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-A: b\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";

    #[test]
    fn an_answer_is_complete_with_its_last_byte_and_not_before() {
        for (bytes, status) in [(PLAIN, 200), (CHUNKED, 404)] {
            for n in 0..bytes.len() {
                assert_eq!(frame(&bytes[..n]).unwrap(), None, "{n}");
            }
            let found = frame(bytes).unwrap().unwrap();
            assert_eq!((found.status, found.total), (status, bytes.len()));
            let answer = Answer::copy(bytes, found).unwrap();
            assert_eq!(answer.text(), "hello");
        }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let answer = Answer::copy(PLAIN, frame(PLAIN).unwrap().unwrap()).unwrap();
        assert_eq!(answer.header("x-a"), Some("b"));
        assert_eq!(answer.header("x-b"), None);
    }

    #[test]
    fn answers_that_nobody_can_delimit_are_refused() {
        for bad in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            frame(bad).unwrap_err();
        }
        assert!(frame(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn requests_carry_their_length() {
        let text = String::from_utf8(request("PUT", "/a", "X: y\r\n", b"12")).unwrap();
        assert_eq!(
            text,
            "PUT /a HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y\r\nContent-Length: 2\r\n\r\n12"
        );
        assert!(!String::from_utf8(request("GET", "/", "", b"")).unwrap().contains("Length"));
    }
}
