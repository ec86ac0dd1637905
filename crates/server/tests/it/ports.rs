//! Ports that the crate's tests need and `model::suites` does not have: a sandbox that runs nothing, packages and logs in memory.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::Result;
use model::error::{Code, Error};
use model::function::{RuntimeInfo, Variable, Version};
use model::ids::{Digest, FunctionKey, RequestId};
use model::invocation::{Failure, FailureKind, Invocation, Outcome, StartTimings};
use model::network::{NetworkMode, NetworkPolicy};
use model::ports::{
    Entry, Expect, Image, Instance, LogLine, LogQuery, LogTail, Logs, Meta, PackageInfo, Patience,
    Revision, Sandbox, StartFailed, Turn, Watch,
};
use model::stream::{Part, StreamEnd, Taker};
use model::suites::memory::MemoryMeta;
use tokio::sync::{Notify, broadcast};

/// A sandbox whose functions are named by their handler: `echo.event` answers with the event, `fixed.reply` with the variable
/// `REPLY`, `slow.reply` with the same after 300 ms, `fail.handler` and `fail.timeout` fail; of `fail.some` every twentieth call fails, of
/// `fail.status` every twentieth one is answered with status 500. A package with a file `big.bin` has 150 MiB unpacked.
#[derive(Debug, Default)]
pub(crate) struct EchoSandbox {
    pub(crate) calls: Arc<AtomicUsize>,
}

/// See [`EchoSandbox`].
const BIG: u64 = 150 * 1024 * 1024;

fn node() -> RuntimeInfo {
    RuntimeInfo { name: "nodejs20".into(), version: "20.0.0".into() }
}

#[async_trait]
impl Sandbox for EchoSandbox {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        vec![node()]
    }

    fn resolve_runtime(&self, name: &str) -> Result<RuntimeInfo> {
        if name == "nodejs20" {
            return Ok(node());
        }
        Err(Error::caller(
            Code::UnknownRuntime,
            format!("runtime '{name}' is not known: expected nodejs20"),
        ))
    }

    /// Everything but `private`.
    fn check_network(&self, policy: &NetworkPolicy) -> Result<()> {
        match policy.mode {
            NetworkMode::Private => {
                Err(Error::caller(Code::Unsupported, "network private is not to be had"))
            }
            _ => Ok(()),
        }
    }

    async fn check_package(&self, package: Bytes) -> Result<PackageInfo> {
        if !package.starts_with(b"PK") {
            return Err(Error::caller(Code::InvalidPackage, "the package is no zip"));
        }
        let digest = Digest::of(&package);
        let big = package.windows(7).any(|bytes| bytes == b"big.bin");
        let unpacked_bytes = if big { BIG } else { package.len() as u64 };
        Ok(PackageInfo { digest, unpacked_bytes, entries: 1 })
    }

    async fn prepare(&self, version: Arc<Version>) -> Result<Arc<dyn Image>> {
        let turn = Arc::default();
        Ok(Arc::new(Echo { version, calls: self.calls.clone(), turn, event: None }))
    }

    async fn forget_package(&self, _: &Digest) {}
}

#[derive(Clone, Debug)]
struct Echo {
    version: Arc<Version>,
    calls: Arc<AtomicUsize>,
    /// Calls of this version.
    turn: Arc<AtomicUsize>,
    /// Of the call that was handed over.
    event: Option<Bytes>,
}

#[async_trait]
impl Image for Echo {
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed> {
        if self.version.config.handler == "fail.init" {
            let failure = Failure::new(FailureKind::Init, "SyntaxError", "unexpected token");
            return Err(StartFailed::Function(failure));
        }
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Instance for Echo {
    fn hand(&mut self, invocation: &Invocation) -> bool {
        let free = self.event.is_none();
        if free {
            self.event = Some(invocation.payload.clone());
        }
        free
    }

    fn take_back(&mut self) -> Vec<RequestId> {
        Vec::new()
    }

    async fn outcome(&mut self, _: Patience<'_>) -> Turn {
        let event = self.event.take().unwrap();
        self.calls.fetch_add(1, Ordering::SeqCst);
        let config = &self.version.config;
        let reply = || match &config.environment["REPLY"] {
            Variable::Plain(text) => Bytes::from(text.clone()),
            Variable::Sealed { .. } => panic!("no test of the server runs with secrets"),
        };
        let twentieth = self.turn.fetch_add(1, Ordering::SeqCst) % 20 == 19;
        let result = match config.handler.as_str() {
            "echo.event" => Ok(event),
            "fixed.reply" => Ok(reply()),
            "slow.reply" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(reply())
            }
            "fail.some" if !twentieth => Ok(reply()),
            "fail.status" if !twentieth => Ok(reply()),
            "fail.status" => Ok(Bytes::from_static(br#"{"statusCode":500}"#)),
            "fail.handler" | "fail.some" => {
                Err(Failure::new(FailureKind::Handler, "Error", "it broke"))
            }
            "fail.timeout" => Err(Failure::new(FailureKind::Timeout, "Timeout", "too slow")),
            "stream.reply" | "stream.cut" => {
                return Turn::Streams { prelude: reply(), run_us: 1 };
            }
            other => panic!("no such handler: {other}"),
        };
        Turn::Over(Outcome { result, run_us: 1, busy_us: None, memory_peak_bytes: None })
    }

    async fn stream(&mut self, taker: Taker<'_>) -> StreamEnd {
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for piece in [&b"one "[..], b"two "].map(Bytes::from_static) {
            bytes += piece.len() as u64;
            match taker {
                Taker::Caller { pieces, .. } => drop(pieces.send(Part::Piece(piece)).await),
                Taker::Whole => kept.extend_from_slice(&piece),
            }
        }
        let result = if self.version.config.handler == "stream.cut" {
            Err(Failure::new(FailureKind::Handler, "Error", "it broke"))
        } else {
            Ok(kept.into())
        };
        let outcome = Outcome { result, run_us: 1, busy_us: None, memory_peak_bytes: None };
        StreamEnd { outcome, bytes }
    }

    fn alive(&self) -> bool {
        true
    }

    fn start_timings(&self) -> StartTimings {
        StartTimings::default()
    }

    async fn stop(self: Box<Self>) {}
}

/// A catalogue whose operations take now more, now less of the others' time before and after they act, so that callers
/// at once meet in many orders. It can die.
#[derive(Debug)]
pub(crate) struct JitteryMeta {
    inner: Arc<MemoryMeta>,
    turn: AtomicUsize,
    /// Writes that still succeed.
    left: AtomicI64,
    /// Of the write that fails first the answer is lost only.
    lose_answer: AtomicBool,
    /// How long a deletion's answer takes, in milliseconds.
    pub(crate) delete_ms: AtomicU64,
    hold: Mutex<Option<(Held, Arc<Hold>)>>,
}

/// What is held up: the read, or the write, of a document after so many others of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held {
    Read(&'static str, usize),
    Write(&'static str, usize),
}

/// An operation that is held up.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    reached: Notify,
    go_on: Notify,
}

impl Hold {
    /// Once it is there, does `meanwhile`, then lets it go on.
    pub(crate) async fn meanwhile<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), self.reached.notified()).await.unwrap();
        let done = meanwhile.await;
        self.go_on.notify_one();
        done
    }
}

impl JitteryMeta {
    /// Holds one operation up.
    pub(crate) fn hold(&self, held: Held) -> Arc<Hold> {
        let hold = Arc::<Hold>::default();
        *self.hold.lock().unwrap() = Some((held, hold.clone()));
        hold
    }

    async fn held(&self, read: bool, key: &str) {
        let mut found = None;
        if let Some((held, hold)) = &mut *self.hold.lock().unwrap() {
            let (of, left) = match held {
                Held::Read(of, left) if read => (of, left),
                Held::Write(of, left) if !read => (of, left),
                _ => return,
            };
            match (key == *of, left.checked_sub(1)) {
                (true, Some(fewer)) => *left = fewer,
                (true, None) => found = Some(hold.clone()),
                (false, _) => {}
            }
        }
        if let Some(hold) = found {
            *self.hold.lock().unwrap() = None;
            hold.reached.notify_one();
            hold.go_on.notified().await;
        }
    }

    pub(crate) fn new(inner: Arc<MemoryMeta>) -> Self {
        Self {
            inner,
            turn: AtomicUsize::new(0),
            left: AtomicI64::new(i64::MAX),
            lose_answer: AtomicBool::new(false),
            delete_ms: AtomicU64::new(0),
            hold: Mutex::default(),
        }
    }

    /// After `writes` more, nothing succeeds any more, as if the daemon were gone. The first write that fails is made all the same where
    /// `lose_answer` says so.
    pub(crate) fn die_after(&self, writes: i64, lose_answer: bool) {
        self.lose_answer.store(lose_answer, Ordering::SeqCst);
        self.left.store(writes, Ordering::SeqCst);
    }

    /// Whether a write failed since [`Self::die_after`].
    pub(crate) fn died(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn dead<T>() -> Result<T> {
        Err(Error::platform(Code::StorageUnusable, "the store is gone"))
    }

    /// Takes the turn of one write.
    async fn write(
        &self,
        write: impl Future<Output = Result<Revision>> + Send,
    ) -> Result<Revision> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => write.await,
            0 if self.lose_answer.load(Ordering::SeqCst) => {
                // Made, as far as it can be; nobody learns of it.
                write.await.ok();
                Self::dead()
            }
            _ => Self::dead(),
        }
    }

    async fn jitter(&self) {
        // Multiples of one prime modulo another: spread, and the same in every run.
        let turns = self.turn.fetch_add(1, Ordering::SeqCst) * 7919 % 13;
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Meta for JitteryMeta {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        if self.died() {
            return Self::dead();
        }
        self.held(true, key).await;
        self.jitter().await;
        let got = self.inner.get(key).await;
        self.jitter().await;
        got
    }

    async fn put_if(&self, key: &str, expect: Expect, value: Bytes) -> Result<Revision> {
        self.held(false, key).await;
        self.jitter().await;
        let put = self.write(self.inner.put_if(key, expect, value)).await;
        self.jitter().await;
        put
    }

    async fn delete_if(&self, key: &str, revision: Revision) -> Result<Revision> {
        self.jitter().await;
        let deleted = self.write(self.inner.delete_if(key, revision)).await;
        tokio::time::sleep(Duration::from_millis(self.delete_ms.load(Ordering::SeqCst))).await;
        self.jitter().await;
        deleted
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        if self.died() {
            return Self::dead();
        }
        self.jitter().await;
        let listed = self.inner.list(prefix, after, limit).await;
        self.jitter().await;
        listed
    }

    async fn watch(&self, prefix: &str, revision: Revision) -> Result<Box<dyn Watch>> {
        self.inner.watch(prefix, revision).await
    }

    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }
}

/// Lines in memory.
#[derive(Debug)]
pub(crate) struct MemoryLogs {
    lines: Mutex<Vec<LogLine>>,
    live: broadcast::Sender<LogLine>,
    /// How long a deletion takes, in milliseconds.
    pub(crate) delete_ms: AtomicU64,
}

impl Default for MemoryLogs {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            live: broadcast::Sender::new(4),
            delete_ms: AtomicU64::new(0),
        }
    }
}

#[async_trait]
impl Logs for MemoryLogs {
    fn append(&self, lines: Vec<LogLine>) -> usize {
        for line in lines {
            self.lines.lock().unwrap().push(line.clone());
            // Nobody may be listening.
            self.live.send(line).ok();
        }
        0
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn query(&self, query: LogQuery) -> Result<Vec<LogLine>> {
        let lines = self.lines.lock().unwrap();
        let mut found: Vec<_> = lines.iter().filter(|l| query.matches(l)).cloned().collect();
        let newest = found.len().saturating_sub(query.limit);
        Ok(found.split_off(newest))
    }

    fn tail(&self, query: LogQuery) -> Box<dyn LogTail> {
        Box::new(Tail { query, live: self.live.subscribe() })
    }

    async fn delete(&self, function: &FunctionKey) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(self.delete_ms.load(Ordering::SeqCst))).await;
        self.lines.lock().unwrap().retain(|l| l.function != *function);
        Ok(())
    }
}

#[derive(Debug)]
struct Tail {
    query: LogQuery,
    live: broadcast::Receiver<LogLine>,
}

#[async_trait]
impl LogTail for Tail {
    async fn next(&mut self) -> Option<Result<LogLine, u64>> {
        loop {
            match self.live.recv().await {
                Ok(line) if self.query.matches(&line) => return Some(Ok(line)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(n)) => return Some(Err(n)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
