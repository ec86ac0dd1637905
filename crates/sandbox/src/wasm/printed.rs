//! A guest's streams: what it prints becomes log lines; what a command writes to its standard output is its answer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use model::limits;
use model::ports::LogStream;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::output::Direct;

/// As much as one write may bring, in bytes.
const WRITE_BYTES: usize = 64 << 10;
/// As much as is remembered of what was printed last, in bytes.
const LAST_BYTES: usize = 2048;

/// An instance's output; calls follow each other.
pub(super) type Output = Arc<Mutex<Direct>>;

/// Locks it. No code that can panic runs under these locks, so what is poisoned is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream whose lines go to the log.
#[derive(Clone)]
pub(super) struct Printed {
    output: Output,
    stream: LogStream,
    last: Arc<Mutex<Vec<u8>>>,
}

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printed").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Printed {
    /// Of an instance's output.
    pub(super) fn new(output: &Output, stream: LogStream) -> Self {
        Self { output: Arc::clone(output), stream, last: Arc::default() }
    }

    /// What was printed before concerns the next call no more.
    pub(super) fn begin(&self) {
        lock(&self.last).clear();
    }

    /// The last line that was printed.
    pub(super) fn last_line(&self) -> String {
        let last = lock(&self.last);
        let text = String::from_utf8_lossy(&last);
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or_default().to_owned()
    }

    fn remember(&self, bytes: &[u8]) {
        let mut last = lock(&self.last);
        last.extend_from_slice(
            bytes.get(bytes.len().saturating_sub(LAST_BYTES)..).unwrap_or(bytes),
        );
        let over = last.len().saturating_sub(LAST_BYTES);
        last.drain(..over);
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        lock(&self.output).write(self.stream, &bytes);
        if self.stream == LogStream::Stderr {
            self.remember(&bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

/// What a command answers, within the limit of answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    bytes: BytesMut,
    over: Option<usize>,
}

impl Answer {
    /// All of it; or how many bytes there were when it was over the limit.
    pub(super) fn take(&self) -> Result<Bytes, usize> {
        let mut gathered = lock(&self.0);
        match gathered.over {
            Some(bytes) => Err(bytes),
            None => Ok(std::mem::take(&mut gathered.bytes).freeze()),
        }
    }
}

impl OutputStream for Answer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut gathered = lock(&self.0);
        let all = gathered.bytes.len() + bytes.len();
        if all > limits::RESPONSE_BYTES {
            gathered.over = Some(all);
            return Err(StreamError::trap("the answer is too large"));
        }
        gathered.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

macro_rules! always_ready {
    ($($stream:ty,)*) => {$(
        #[async_trait::async_trait]
        impl Pollable for $stream {
            async fn ready(&mut self) {}
        }

        impl IsTerminal for $stream {
            fn is_terminal(&self) -> bool {
                false
            }
        }

        impl StdoutStream for $stream {
            fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
                // Of WASI 0.3, which is not linked to programs.
                Box::new(tokio::io::sink())
            }

            fn p2_stream(&self) -> Box<dyn OutputStream> {
                Box::new(self.clone())
            }
        }
    )*};
}

always_ready! { Printed, Answer, }
