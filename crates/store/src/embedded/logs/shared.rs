//! What appenders, queries and the writer share: the lines that are not in a block yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::ids::FunctionKey;
use model::ports::LogLine;
use model::{Code, Error};
use tokio::sync::watch;

use super::chunk::Chunk;
use super::line;
use super::tail::Tails;
use crate::fault;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// The writer sleeps on this.
    wake: Condvar,
    flushed: watch::Sender<Flushed>,
    pub(super) tails: Tails,
    /// Most bytes in memory.
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    /// Chunks that wait to become blocks, oldest first.
    full: VecDeque<Arc<Chunk>>,
    /// The chunk that is filled.
    open: Chunk,
    /// Lines of `open` that are in the journal, and their bytes.
    journaled: (u32, usize),
    /// Bytes of all chunks.
    bytes: usize,
    /// Flushes asked for.
    flush_wanted: u64,
    /// Lines of these functions with a lower number are deleted.
    deleted: HashMap<FunctionKey, u64>,
    /// The writer has nothing to wait for but us.
    idle: bool,
    closed: bool,
}

/// How far flushes have come.
#[derive(Clone, Debug, Default)]
struct Flushed {
    /// The number of the last flush that was tried.
    attempt: u64,
    /// Why it failed.
    failed: Option<(Code, String)>,
}

/// What a query sees of the lines in memory.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Newest first.
    pub(super) chunks: Vec<Arc<Chunk>>,
    /// Lines before this one are in blocks.
    pub(super) floor: u64,
    /// The function's lines before this one are deleted.
    pub(super) deleted_before: u64,
}

/// What the writer shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// Make everything durable; this attempt answers all flushes up to this number.
    pub(super) flush: Option<u64>,
    /// And then end.
    pub(super) end: bool,
}

impl Shared {
    /// Goes on after the lines of `recovered`, which are in the journal; no new line gets a number below `next_seq`.
    pub(super) fn new(
        recovered: Chunk,
        next_seq: u64,
        deleted: HashMap<FunctionKey, u64>,
        bytes_max: usize,
    ) -> Self {
        let bytes = recovered.bytes.len();
        let journaled = (recovered.count, bytes);
        let mut state = State {
            full: VecDeque::new(),
            open: recovered,
            journaled,
            bytes,
            flush_wanted: 0,
            deleted,
            idle: false,
            closed: false,
        };
        if state.open.is_full() || state.open.end() < next_seq {
            let sealed = std::mem::replace(&mut state.open, Chunk::empty(next_seq));
            state.open.first_seq = next_seq.max(sealed.end());
            state.journaled = (0, 0);
            if sealed.count > 0 {
                state.full.push_back(Arc::new(sealed));
            }
        }
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            flushed: watch::Sender::new(Flushed::default()),
            tails: Tails::default(),
            bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes lines; answers how many did not fit. Holds the lock for as long as it takes to copy them.
    pub(super) fn append(&self, lines: &[LogLine]) -> usize {
        let mut state = self.lock();
        if state.closed {
            return lines.len();
        }
        let (mut dropped, mut wake) = (0, state.idle);
        for line in lines {
            let size = line::kept(&line.text).len() + line::OVERHEAD_BYTES;
            if state.bytes + size > self.bytes_max {
                dropped += 1;
                continue;
            }
            let before = state.open.bytes.len();
            state.open.push(line);
            state.bytes += state.open.bytes.len() - before;
            self.tails.publish(line);
            if state.open.is_full() {
                let next = Chunk::empty(state.open.end());
                let full = std::mem::replace(&mut state.open, next);
                state.full.push_back(Arc::new(full));
                state.journaled = (0, 0);
                wake = true;
            }
        }
        state.idle = false;
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        dropped
    }

    /// Waits until everything appended before is durable.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let mut flushed = self.flushed.subscribe();
        let wanted = {
            let mut state = self.lock();
            if state.closed {
                return Err(fault::closed());
            }
            state.flush_wanted += 1;
            state.flush_wanted
        };
        self.wake.notify_one();
        let done = flushed.wait_for(|f| f.attempt >= wanted).await.map_err(|_| fault::closed())?;
        match &done.failed {
            None => Ok(()),
            Some((code, message)) => Err(Error::platform(*code, message.clone())),
        }
    }

    /// What a query of this function sees in memory.
    pub(super) fn snapshot(&self, function: &FunctionKey) -> Snapshot {
        let state = self.lock();
        let mut chunks = Vec::with_capacity(state.full.len() + 1);
        chunks.push(Arc::new(state.open.clone()));
        chunks.extend(state.full.iter().rev().cloned());
        let floor = chunks.last().map_or(0, |c| c.first_seq);
        let deleted_before = state.deleted.get(function).copied().unwrap_or(0);
        Snapshot { chunks, floor, deleted_before }
    }

    /// The number of the next line.
    pub(super) fn next_seq(&self) -> u64 {
        self.lock().open.end()
    }

    /// Hides a function's lines before this one.
    pub(super) fn hide(&self, function: FunctionKey, before: u64) {
        let mut state = self.lock();
        let entry = state.deleted.entry(function).or_default();
        *entry = before.max(*entry);
    }

    /// Forgets what hides lines before `oldest`: there are none left.
    pub(super) fn forget_hidden(&self, oldest: u64) {
        self.lock().deleted.retain(|_, before| *before > oldest);
    }

    /// Ends the writer once everything is durable; nothing is taken any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
        self.tails.close();
    }

    /// For the writer: sleeps until there is work. `stuck`: writing failed, do not try blocks before `flush_at`.
    pub(super) fn wait(&self, durable: u64, flush_at: &mut Option<Instant>, stuck: bool) -> Work {
        let done = self.flushed.borrow().attempt;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let dirty = state.open.end() > durable;
            if !dirty {
                *flush_at = None;
            }
            if state.closed || state.flush_wanted > done || flush_at.is_some_and(|t| t <= now) {
                return Work { flush: Some(state.flush_wanted), end: state.closed };
            }
            if !state.full.is_empty() && !stuck {
                return Work { flush: None, end: false };
            }
            state = if dirty {
                let at = *flush_at.get_or_insert(now + super::writer::FLUSH_EVERY);
                let (state, _) =
                    self.wake.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner);
                state
            } else {
                state.idle = true;
                self.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// For the writer: the oldest full chunk.
    pub(super) fn oldest_full(&self) -> Option<Arc<Chunk>> {
        self.lock().full.front().cloned()
    }

    /// For the writer: the oldest full chunk is in a block.
    pub(super) fn drop_oldest_full(&self) {
        let mut state = self.lock();
        if let Some(chunk) = state.full.pop_front() {
            state.bytes -= chunk.bytes.len();
        }
    }

    /// For the writer: the lines of the open chunk that are not in the journal yet; none if a full chunk has to go first.
    pub(super) fn unjournaled(&self) -> Option<Chunk> {
        let state = self.lock();
        let (count, bytes) = state.journaled;
        (state.full.is_empty() && state.open.count > count).then(|| state.open.tail(count, bytes))
    }

    /// For the writer: these lines are in the journal.
    pub(super) fn set_journaled(&self, lines: &Chunk) {
        let mut state = self.lock();
        // Otherwise the chunk became full meanwhile and goes into a block as a whole.
        if state.open.first_seq + u64::from(state.journaled.0) == lines.first_seq {
            state.journaled.0 += lines.count;
            state.journaled.1 += lines.bytes.len();
        }
    }

    /// For the writer: the outcome of a flush.
    pub(super) fn set_flushed(&self, attempt: u64, result: Result<(), &Error>) {
        let failed = result.err().map(|e| (e.code(), e.message().to_owned()));
        self.flushed.send_replace(Flushed { attempt, failed });
    }
}
