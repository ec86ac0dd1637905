//! Running tails: each has a buffer of its own, filled by appenders, which never wait for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use model::ports::{LogLine, LogQuery, LogTail};
use tokio::sync::Notify;

/// Most bytes of text in a tail's buffer, and most lines; beyond, lines are skipped and counted.
const BUFFER_BYTES: usize = 1 << 20;
const BUFFER_LINES: usize = 4096;

/// All running tails.
#[derive(Debug, Default)]
pub(super) struct Tails {
    list: Mutex<Vec<Weak<Inner>>>,
    /// Length of `list`, to be read without the lock by appenders.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Inner {
    query: LogQuery,
    buffer: Mutex<Buffer>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: VecDeque<LogLine>,
    bytes: usize,
    skipped: u64,
    closed: bool,
}

impl Inner {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, line: &LogLine) {
        if !self.query.matches(line) {
            return;
        }
        let mut buffer = self.buffer();
        let fits = buffer.lines.is_empty()
            || (buffer.lines.len() < BUFFER_LINES
                && buffer.bytes + line.text.len() <= BUFFER_BYTES);
        // Once one is skipped, so are all until the reader has been told: it hears of the gap where the gap is.
        if buffer.skipped > 0 || !fits {
            buffer.skipped += 1;
        } else {
            buffer.bytes += line.text.len();
            buffer.lines.push_back(line.clone());
        }
        drop(buffer);
        self.changed.notify_one();
    }
}

impl Tails {
    fn list(&self) -> MutexGuard<'_, Vec<Weak<Inner>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a line to every tail.
    pub(super) fn publish(&self, line: &LogLine) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut list = self.list();
        list.retain(|tail| tail.upgrade().map(|t| t.publish(line)).is_some());
        self.count.store(list.len(), Ordering::Release);
    }

    /// Starts a tail.
    pub(super) fn start(&self, query: LogQuery) -> Tail {
        let query = LogQuery { since: None, until: None, ..query };
        let inner = Arc::new(Inner { query, buffer: Mutex::default(), changed: Notify::new() });
        let mut list = self.list();
        list.retain(|tail| tail.strong_count() > 0);
        list.push(Arc::downgrade(&inner));
        self.count.store(list.len(), Ordering::Release);
        Tail(inner)
    }

    /// Ends every tail once its buffer is read.
    pub(super) fn close(&self) {
        for tail in self.list().drain(..).filter_map(|t| t.upgrade()) {
            tail.buffer().closed = true;
            tail.changed.notify_one();
        }
        self.count.store(0, Ordering::Release);
    }
}

/// A running tail.
#[derive(Debug)]
pub(super) struct Tail(Arc<Inner>);

#[async_trait]
impl LogTail for Tail {
    async fn next(&mut self) -> Option<Result<LogLine, u64>> {
        loop {
            {
                let mut buffer = self.0.buffer();
                if let Some(line) = buffer.lines.pop_front() {
                    buffer.bytes -= line.text.len();
                    return Some(Ok(line));
                }
                if buffer.skipped > 0 {
                    return Some(Err(std::mem::take(&mut buffer.skipped)));
                }
                if buffer.closed {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}
