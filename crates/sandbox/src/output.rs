//! What an instance writes to its standard output and error, as log lines.
//!
//! [`Output`] owns the reading ends of the two pipes. [`lines`] cuts bytes into lines, [`budget`] bounds how much an instance may
//! write. The pipes are always read: output over the budget is dropped, counted and said, and never blocks the function for ever. The daemon
//! holds at most one line per pipe and the lines of one read.
//!
//! A call without output costs one empty `read` per pipe, in [`Output::drain`]. While calls wait behind the one that is run, their output may follow its own at once: it is
//! then held back until the answer says how much of it belongs to the call ([`Output::split`]).

mod budget;
mod direct;
mod lines;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::clock::Clock;
use model::ids::{FunctionKey, Qualifier, RequestId};
use model::limits;
use model::ports::{LogLine, LogStream, Logs};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use budget::Budget;
pub(crate) use direct::Direct;
use lines::{Line, Lines};

/// What one `read` takes at most, in bytes: a whole pipe of the usual size. It lies on the stack for the time of the call.
const CHUNK_BYTES: usize = 64 * 1024;
/// Reads per pipe in one [`Output::drain`]: a full pipe of the largest size an unprivileged process can ask for (1 MiB).
const DRAIN_READS: usize = 16;
/// What a line uses of the budget beside its bytes: about what the daemon holds around its text.
const LINE_OVERHEAD_BYTES: usize = 128;
/// Lines that are kept of what was written last, and characters of each.
const TAIL_LINES: usize = 10;
const TAIL_CHARS: usize = 300;
/// How often dropped output is said while it goes on.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The output of one instance.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Pipe,
    stderr: Pipe,
    book: Book,
}

/// One pipe and the line that is under way in it.
#[derive(Debug)]
struct Pipe {
    /// `None` once every writer is gone.
    end: Option<Receiver>,
    stream: LogStream,
    lines: Lines,
    /// Read, and of a call that is not settled.
    held: Vec<u8>,
    /// Bytes that became lines of the call under way.
    fed_bytes: u64,
}

/// Where lines go, in whose name, and what has been dropped of them.
#[derive(Debug)]
struct Book {
    logs: Arc<dyn Logs>,
    clock: Arc<dyn Clock>,
    function: FunctionKey,
    version: Qualifier,
    request: Option<RequestId>,
    /// Set while other calls than that one are under way as well.
    crowded: Arc<AtomicBool>,
    /// The last lines, while they are kept.
    tail: Option<VecDeque<String>>,
    budget: Budget,
    dropped: Dropped,
    said_at: Option<Instant>,
}

/// Output that was dropped and not yet said.
#[derive(Debug, Default)]
struct Dropped {
    /// Over the budget.
    bytes: u64,
    /// Over the budget.
    lines: u64,
    /// Not taken by the log store.
    unstored: u64,
}

impl Output {
    /// Takes the reading ends and makes them non-blocking. Needs a tokio runtime.
    pub(crate) fn new(
        stdout: OwnedFd,
        stderr: OwnedFd,
        function: FunctionKey,
        version: Qualifier,
        bytes_per_second: u32,
        logs: Arc<dyn Logs>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        Ok(Self {
            stdout: Pipe::new(stdout, LogStream::Stdout)?,
            stderr: Pipe::new(stderr, LogStream::Stderr)?,
            book: Book::new(function, version, bytes_per_second, logs, clock),
        })
    }

    /// From now on lines belong to this call; `None` while the code is loaded.
    pub(crate) fn begin(&mut self, request: Option<RequestId>) {
        if self.stdout.lines.is_partial() || self.stderr.lines.is_partial() {
            self.end_lines();
        }
        self.book.request = request;
    }

    /// What is set by whoever has an instance take another call beside the one that lines belong to, before that call is sent: lines that are read from then on
    /// belong to none.
    pub(crate) fn crowded(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.book.crowded)
    }

    /// Keeps the last lines, until they are taken.
    pub(crate) fn keep_tail(&mut self) {
        self.book.tail = Some(VecDeque::with_capacity(TAIL_LINES + 1));
    }

    /// The last lines since they were kept.
    pub(crate) fn take_tail(&mut self) -> Vec<String> {
        self.book.tail.take().map(Vec::from).unwrap_or_default()
    }

    /// Reads what the pipes hold at this moment, without waiting, and ends the lines that are under way: to be called right after the answer, so
    /// that what was written before it belongs to the call; and once more after the last process is gone.
    pub(crate) fn drain(&mut self) {
        for pipe in [&mut self.stdout, &mut self.stderr] {
            pipe.read_out(&mut self.book, false);
        }
        self.end_lines();
    }

    /// Bytes written to the two pipes by the call under way, as far as they have been read; counts the next call's from zero.
    pub(crate) fn take_counts(&mut self) -> [u64; 2] {
        [&mut self.stdout, &mut self.stderr].map(|pipe| std::mem::take(&mut pipe.fed_bytes))
    }

    /// As [`Output::drain`], where the next call's output may follow: `written` bytes of each pipe belong to the call under way, the rest is held
    /// back. Whether that many were there.
    pub(crate) fn split(&mut self, written: [u32; 2]) -> bool {
        let mut exact = true;
        for (pipe, written) in [&mut self.stdout, &mut self.stderr].into_iter().zip(written) {
            // Nothing written is nothing to read; whatever else is in the pipe is found when calls pause.
            if written > 0 {
                pipe.read_out(&mut self.book, true);
            }
            exact &= pipe.feed_held(&mut self.book, u64::from(written));
        }
        self.end_lines();
        exact
    }

    /// Reads whatever comes, for ever. Cancel-safe: to be polled beside whatever else is waited for.
    pub(crate) async fn run(&mut self) -> Infallible {
        for pipe in [&mut self.stdout, &mut self.stderr] {
            pipe.feed_held(&mut self.book, u64::MAX);
        }
        loop {
            tokio::select! {
                () = self.stdout.readable() => self.stdout.read_ready(&mut self.book),
                () = self.stderr.readable() => self.stderr.read_ready(&mut self.book),
            }
            // A flood must not keep this task's other half, the answer, from being seen.
            tokio::task::yield_now().await;
        }
    }

    /// Adds a line of the platform's own, about the call that is under way.
    pub(crate) fn say(&mut self, text: String) {
        self.book.say(text);
    }

    fn end_lines(&mut self) {
        let mut batch = Vec::new();
        for pipe in [&mut self.stdout, &mut self.stderr] {
            let stream = pipe.stream;
            pipe.lines.end(|line| self.book.take(&mut batch, stream, line));
        }
        self.book.store(batch);
        self.book.say_dropped();
    }
}

impl Pipe {
    fn new(fd: OwnedFd, stream: LogStream) -> io::Result<Self> {
        let end = Some(Receiver::from_owned_fd(fd)?);
        Ok(Self { end, stream, lines: Lines::default(), held: Vec::new(), fed_bytes: 0 })
    }

    /// Reads what is there without waiting, and holds it or makes lines of it.
    fn read_out(&mut self, book: &mut Book, hold: bool) {
        if !hold {
            self.feed_held(book, u64::MAX);
        }
        for _ in 0..DRAIN_READS {
            if !self.read_now(book, hold) {
                break;
            }
        }
    }

    /// Makes lines of what is held, until the call under way has `most` bytes. Whether it has exactly that many.
    fn feed_held(&mut self, book: &mut Book, most: u64) -> bool {
        let missing = usize::try_from(most.saturating_sub(self.fed_bytes)).unwrap_or(usize::MAX);
        if missing > 0 && !self.held.is_empty() {
            let rest = self.held.split_off(missing.min(self.held.len()));
            let bytes = std::mem::replace(&mut self.held, rest);
            self.feed(book, &bytes);
        }
        self.fed_bytes == most
    }

    fn feed(&mut self, book: &mut Book, bytes: &[u8]) {
        self.fed_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        book.read(&mut self.lines, self.stream, bytes);
    }

    /// Returns when a read is worth while; never once the pipe has ended.
    async fn readable(&self) {
        if let Some(end) = &self.end
            && end.readable().await.is_ok()
        {
            return;
        }
        pending().await
    }

    /// One read of a pipe that tokio holds for readable.
    fn read_ready(&mut self, book: &mut Book) {
        let Some(end) = &self.end else { return };
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        match end.try_io(|| Ok(rustix::io::read(end, &mut chunk[..])?)) {
            Ok(([], _)) => self.end = None,
            Ok((bytes, _)) => self.feed(book, bytes),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.end = None,
        }
    }

    /// One read without waiting; whether another one is worth while. Asks the pipe itself rather than what tokio last heard of it: the answer on
    /// the socket may be seen before the news that the pipe was written to.
    fn read_now(&mut self, book: &mut Book, hold: bool) -> bool {
        let Some(end) = &self.end else { return false };
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        match rustix::io::read(end, &mut chunk[..]) {
            Ok((bytes, _)) if !bytes.is_empty() => {
                if hold {
                    self.held.extend_from_slice(bytes);
                } else {
                    self.feed(book, bytes);
                }
                // A pipe that gives less than it was asked for is empty.
                bytes.len() == CHUNK_BYTES
            }
            Err(Errno::AGAIN) => false,
            Err(Errno::INTR) => true,
            Ok(_) | Err(_) => {
                self.end = None;
                false
            }
        }
    }
}

impl Book {
    fn new(
        function: FunctionKey,
        version: Qualifier,
        bytes_per_second: u32,
        logs: Arc<dyn Logs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            budget: Budget::full(clock.instant(), bytes_per_second),
            logs,
            clock,
            function,
            version,
            request: None,
            crowded: Arc::default(),
            tail: None,
            dropped: Dropped::default(),
            said_at: None,
        }
    }

    /// Takes what one read gave.
    fn read(&mut self, lines: &mut Lines, stream: LogStream, bytes: &[u8]) {
        if self.budget.is_spent(|| self.clock.instant()) {
            // Nothing of it would be kept: counted in bulk, so that a flood costs little more than reading it.
            let skipped = lines.skip(bytes);
            self.dropped.add(skipped.bytes, skipped.lines);
        } else {
            let mut batch = Vec::new();
            lines.feed(bytes, |line| self.take(&mut batch, stream, line));
            self.store(batch);
        }
        self.say_dropped_now_and_then();
    }

    /// Puts a line into the batch, or counts it as dropped.
    fn take(&mut self, batch: &mut Vec<LogLine>, stream: LogStream, line: Line<'_>) {
        if !self.budget.take(line.kept_bytes() + LINE_OVERHEAD_BYTES, || self.clock.instant()) {
            self.dropped.add(line.bytes(), 1);
            return;
        }
        let cut = line.cut_bytes;
        let text = line.text();
        if let Some(tail) = &mut self.tail {
            tail.push_back(text.chars().take(TAIL_CHARS).collect());
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
        }
        batch.push(self.line(stream, text));
        if cut > 0 {
            batch.push(self.line(
                LogStream::Platform,
                format!(
                    "{cut} bytes of the line above dropped: expected at most {} bytes",
                    limits::LOG_LINE_BYTES
                ),
            ));
        }
    }

    fn line(&self, stream: LogStream, text: String) -> LogLine {
        let (function, version) = (self.function.clone(), self.version.clone());
        let request = self.request.filter(|_| !self.crowded.load(Ordering::Acquire));
        LogLine { time: self.clock.now(), function, version, request, stream, text }
    }

    fn store(&mut self, batch: Vec<LogLine>) {
        if !batch.is_empty() {
            let unstored = u64::try_from(self.logs.append(batch)).unwrap_or(u64::MAX);
            self.dropped.unstored = self.dropped.unstored.saturating_add(unstored);
        }
    }

    fn say(&mut self, text: String) {
        let line = self.line(LogStream::Platform, text);
        self.store(vec![line]);
    }

    /// While a flood goes on.
    fn say_dropped_now_and_then(&mut self) {
        if self.dropped.is_nothing() {
            return;
        }
        let now = self.clock.instant();
        let due = |at| now.saturating_duration_since(at) >= SAY_EVERY;
        match self.said_at {
            Some(at) if due(at) => self.say_dropped(),
            Some(_) => {}
            // The first time a second after the first loss, so that one burst is said in one line.
            None => self.said_at = Some(now),
        }
    }

    /// Says what was dropped since it was last said. What the log store does not take stays counted.
    fn say_dropped(&mut self) {
        if self.dropped.is_nothing() {
            self.said_at = None;
            return;
        }
        let Dropped { bytes, lines, unstored } = std::mem::take(&mut self.dropped);
        self.said_at = Some(self.clock.instant());
        if lines > 0 {
            self.say(format!(
                "{bytes} bytes ({lines} lines) of output dropped: over the limit of {} bytes per second and {} at once",
                self.budget.per_second(),
                self.budget.burst_bytes(),
            ));
            if self.dropped.unstored > 0 {
                self.dropped = Dropped { bytes, lines, unstored };
                return;
            }
        }
        if unstored > 0 {
            self.say(format!("{unstored} lines of output dropped: the log store was busy"));
            if self.dropped.unstored > 0 {
                self.dropped.unstored = unstored;
            }
        }
    }
}

impl Dropped {
    fn add(&mut self, bytes: usize, lines: usize) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.lines = self.lines.saturating_add(u64::try_from(lines).unwrap_or(u64::MAX));
    }

    fn is_nothing(&self) -> bool {
        self.lines == 0 && self.unstored == 0
    }
}

#[cfg(test)]
mod tests;
