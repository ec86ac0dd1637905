//! The daemon's side of `runtimes/PROTOCOL.md`, as far as a bench needs it.

use std::io::{BufReader, Read, Write};

use anyhow::{Context as _, Result, bail};

/// Largest payload of a frame, in bytes (`runtimes/PROTOCOL.md`).
const PAYLOAD_BYTES: usize = 6 * 1024 * 1024 + 64 * 1024;
const HEADER_BYTES: usize = 8;
const ID_BYTES: usize = 36;
/// What stands between an answer's id and its body.
const TOLD_BYTES: usize = 12;

const INIT: u8 = 1;
const INVOKE: u8 = 2;
const HELLO: u8 = 16;
const READY: u8 = 17;
const RESPONSE: u8 = 19;

/// The id that every call of a bench has.
const REQUEST_ID: &[u8; ID_BYTES] = b"00000000-0000-7000-8000-000000000000";
/// 2100-01-01, in Unix milliseconds: calls of a bench have all the time they want.
const DEADLINE_MS: u64 = 4_102_444_800_000;

/// A frame's bytes.
fn encode(kind: u8, payload: &[u8]) -> Result<Vec<u8>> {
    if payload.len() > PAYLOAD_BYTES {
        bail!("a payload of {} bytes is over {PAYLOAD_BYTES}", payload.len());
    }
    let length = u32::try_from(payload.len())?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, 0, 0, 0]);
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// A call with `event`, as bytes to send.
pub(crate) fn invoke(event: &[u8]) -> Result<Vec<u8>> {
    let mut payload = REQUEST_ID.to_vec();
    payload.extend_from_slice(&DEADLINE_MS.to_le_bytes());
    payload.extend_from_slice(&0_u32.to_le_bytes());
    payload.extend_from_slice(event);
    encode(INVOKE, &payload)
}

/// One end of the socket pair that a bootstrap serves.
#[derive(Debug)]
pub(crate) struct Wire<S: Read + Write> {
    reader: BufReader<S>,
}

impl<S: Read + Write> Wire<S> {
    /// Speaks over `socket`.
    pub(crate) fn new(socket: S) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, socket) }
    }

    /// Tells the bootstrap what to load.
    pub(crate) fn send_init(&mut self, handler: &str, task_root: &str) -> Result<()> {
        let init = serde_json::json!({
            "handler": handler,
            "task_root": task_root,
            "function": {
                "name": "bench",
                "version": "$LATEST",
                "arn": "arn:aws:lambda:local:000000000000:function:bench",
                "memory_mb": 128,
                "log_group": "/aws/lambda/bench",
                "log_stream": "bench",
            },
        });
        self.send(&encode(INIT, init.to_string().as_bytes())?)
    }

    /// Waits until the bootstrap runs.
    pub(crate) fn expect_hello(&mut self) -> Result<()> {
        self.expect(HELLO, "HELLO").map(drop)
    }

    /// Waits until the code is loaded.
    pub(crate) fn expect_ready(&mut self) -> Result<()> {
        self.expect(READY, "READY").map(drop)
    }

    /// Sends a call made by [`invoke`] and returns the function's answer.
    pub(crate) fn call(&mut self, invoke: &[u8]) -> Result<Vec<u8>> {
        self.send(invoke)?;
        let mut payload = self.expect(RESPONSE, "RESPONSE")?;
        if !payload.starts_with(REQUEST_ID) || payload.len() < ID_BYTES + TOLD_BYTES {
            bail!("the answer has another call's id");
        }
        Ok(payload.split_off(ID_BYTES + TOLD_BYTES))
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(frame).context("the bootstrap went away")
    }

    fn expect(&mut self, kind: u8, name: &str) -> Result<Vec<u8>> {
        let mut header = [0; HEADER_BYTES];
        self.reader.read_exact(&mut header).with_context(|| format!("no {name} frame"))?;
        let [a, b, c, d, got, zeros @ ..] = header;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d]))?;
        if length > PAYLOAD_BYTES || zeros != [0; 3] {
            bail!("expected {name}, got a header that breaks the protocol: {header:?}");
        }
        let mut payload = vec![0; length];
        self.reader.read_exact(&mut payload).with_context(|| format!("{name} is cut off"))?;
        if got != kind {
            let text = String::from_utf8_lossy(&payload);
            bail!("expected {name}, got a frame of kind {got}: {text}");
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn wire() -> (Wire<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Wire::new(ours), theirs)
    }

    #[test]
    fn calls_are_laid_out_as_the_protocol_says() {
        let bytes = invoke(b"{}").unwrap();
        assert_eq!(&bytes[..8], [36 + 8 + 4 + 2, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(&bytes[8..44], REQUEST_ID);
        assert_eq!(bytes[44..52], DEADLINE_MS.to_le_bytes());
        assert_eq!(&bytes[52..], b"\0\0\0\0{}");
    }

    #[test]
    fn a_whole_conversation() {
        let (mut wire, mut theirs) = wire();
        for (kind, payload) in [(HELLO, &b""[..]), (READY, b"")] {
            theirs.write_all(&encode(kind, payload).unwrap()).unwrap();
        }
        let answer = [&REQUEST_ID[..], &[0; TOLD_BYTES], b"\"hi\""].concat();
        theirs.write_all(&encode(RESPONSE, &answer).unwrap()).unwrap();
        wire.send_init("index.handler", "/code").unwrap();
        wire.expect_hello().unwrap();
        wire.expect_ready().unwrap();
        assert_eq!(wire.call(&invoke(b"{}").unwrap()).unwrap(), b"\"hi\"");
        let mut header = [0; HEADER_BYTES];
        theirs.read_exact(&mut header).unwrap();
        assert_eq!(header[4], INIT);
    }

    #[test]
    fn errors_show_what_came_instead() {
        let (mut wire, mut theirs) = wire();
        theirs.write_all(&encode(18, b"{\"errorMessage\":\"no file\"}").unwrap()).unwrap();
        let error = wire.expect_ready().unwrap_err().to_string();
        assert!(error.contains("kind 18") && error.contains("no file"), "{error}");
        theirs.write_all(&[255, 255, 255, 255, READY, 0, 0, 0]).unwrap();
        assert!(wire.expect_ready().unwrap_err().to_string().contains("breaks the protocol"));
        drop(theirs);
        wire.expect_ready().unwrap_err();
    }
}
