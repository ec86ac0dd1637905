//! A sandbox whose instances do what the version's handler says, in the test's own time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Deps, Engine, EngineConfig, Faulty};
use model::alias::{Alias, AliasRecord, Carried, Rollout};
use model::clock::Clock;
use model::error::{Code, Error};
use model::function::{Function, FunctionConfig, RuntimeInfo, Variable, Version, VersionSummary};
use model::ids::{Digest, FunctionKey, FunctionRef, NamespaceName, RequestId};
use model::invocation::{
    Call, CallContext, Failure, FailureKind, Invocation, Outcome, StartTimings,
};
use model::keys;
use model::namespace::{Namespace, NamespaceSettings, Quotas};
use model::network::NetworkPolicy;
use model::ports::{
    Ended, Expect, Image, Instance, Later, ListedStanding, Listing, Meta, PackageInfo, Patience,
    Queue, Sandbox, StartFailed, Turn,
};
use model::stream::{Part, StreamEnd, Taker};
use model::suites::functions::deployed;
use model::suites::memory::{MemoryBlobs, MemoryMeta, MemoryQueue, MemoryUsage, TestClock};

use crate::blind::{BlindMeta, Blindness};

/// What stands before the pieces of a stream.
pub(crate) const PRELUDE: &[u8] = br#"{"statusCode":200}"#;

/// What happened in the sandbox.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) started: AtomicUsize,
    pub(crate) stopped: AtomicUsize,
    pub(crate) finished: AtomicUsize,
    /// Pieces written.
    pub(crate) pieces: AtomicUsize,
}

/// Handlers: `echo`, `who` (the instance's number), `sleep:MS`, `fail`, `die`, `init-fail`, `no-sandbox`, `env:NAME` (a variable of the version),
/// `arn` (the name that the call came by), `late:MS` (as `echo`, but starts so much later); `quick`, which says that it takes microseconds, lets
/// calls wait behind each other, and takes the payload's milliseconds if that is a number, or dies at `die`; `stream:N`, N pieces of a kilobyte, each of
/// which takes a millisecond; `cut:N`, the same with an error behind them; `unloadable:WHY`, which shows before it is started; `crowd`, which takes several calls at once and
/// for each the payload's milliseconds, and at `die` takes no more; `sum` and `sum:MS`, the sum of a chunk of a map, or a failure where something is no number; `wide:N`, a text of N
/// characters.
#[derive(Debug, Default)]
pub(crate) struct ScriptedSandbox {
    pub(crate) counts: Arc<Counts>,
    pub(crate) start_ms: u64,
}

#[async_trait]
impl Sandbox for ScriptedSandbox {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        Vec::new()
    }

    fn resolve_runtime(&self, name: &str) -> model::Result<RuntimeInfo> {
        Ok(RuntimeInfo { name: name.into(), version: "1".into() })
    }

    fn check_network(&self, _: &NetworkPolicy) -> model::Result<()> {
        Ok(())
    }

    async fn check_package(&self, package: Bytes) -> model::Result<PackageInfo> {
        Ok(PackageInfo { digest: Digest::of(&package), unpacked_bytes: 0, entries: 0 })
    }

    async fn check_code(&self, version: &Version) -> Result<(), StartFailed> {
        match version.config.handler.strip_prefix("unloadable:") {
            Some(why) => Err(StartFailed::Function(Failure::new(FailureKind::Init, "E", why))),
            None => Ok(()),
        }
    }

    async fn prepare(&self, version: Arc<Version>) -> model::Result<Arc<dyn Image>> {
        Ok(Arc::new(ScriptedImage {
            handler: match version.config.handler.strip_prefix("env:") {
                Some(name) => match version.config.environment.get(name) {
                    Some(Variable::Plain(text)) => format!("say:{text}"),
                    _ => "say:".into(),
                },
                None => version.config.handler.clone(),
            },
            counts: Arc::clone(&self.counts),
            start: Duration::from_millis(self.start_ms),
        }))
    }

    async fn forget_package(&self, _digest: &Digest) {}
}

#[derive(Debug)]
struct ScriptedImage {
    handler: String,
    counts: Arc<Counts>,
    start: Duration,
}

#[async_trait]
impl Image for ScriptedImage {
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed> {
        let late = self.handler.strip_prefix("late:").map_or(0, |ms| ms.parse().unwrap());
        tokio::time::sleep(self.start + Duration::from_millis(late)).await;
        match self.handler.as_str() {
            "init-fail" => {
                let failure = Failure::new(FailureKind::Init, "Runtime.ImportModuleError", "no");
                return Err(StartFailed::Function(failure));
            }
            "no-sandbox" => {
                let error = Error::platform(Code::SandboxFailed, "no namespaces");
                return Err(StartFailed::Platform(error));
            }
            _ => {}
        }
        let number = self.counts.started.fetch_add(1, Ordering::SeqCst);
        let (handler, counts) = (self.handler.clone(), Arc::clone(&self.counts));
        let calls = VecDeque::new();
        let still = Arc::default();
        let (alive, thaw_us, seat) = (Arc::new(AtomicBool::new(true)), 0, false);
        Ok(Box::new(ScriptedInstance {
            handler,
            counts,
            number,
            calls,
            alive,
            still,
            thaw_us,
            seat,
        }))
    }
}

#[derive(Debug)]
struct ScriptedInstance {
    handler: String,
    counts: Arc<Counts>,
    number: usize,
    calls: VecDeque<Invocation>,
    /// Shared by all places of the instance.
    alive: Arc<AtomicBool>,
    /// Awake, asked to stand still, still.
    still: Arc<AtomicUsize>,
    thaw_us: u64,
    /// Whether it is the place of one call among several.
    seat: bool,
}

#[async_trait]
impl Instance for ScriptedInstance {
    fn seat(&self) -> Option<Box<dyn Instance>> {
        (self.handler == "crowd").then(|| -> Box<dyn Instance> {
            Box::new(Self {
                handler: self.handler.clone(),
                counts: Arc::clone(&self.counts),
                number: self.number,
                calls: VecDeque::new(),
                alive: Arc::clone(&self.alive),
                still: Arc::clone(&self.still),
                thaw_us: 0,
                seat: true,
            })
        })
    }

    fn hand(&mut self, invocation: &Invocation) -> bool {
        let room = self.calls.is_empty() || (self.handler == "quick" && self.calls.len() < 3);
        if self.still.swap(0, Ordering::SeqCst) == 2 {
            self.thaw_us = 40;
        }
        if room {
            self.calls.push_back(invocation.clone());
        }
        room && self.alive()
    }

    fn take_back(&mut self) -> Vec<RequestId> {
        let stay = usize::from(self.alive()).min(self.calls.len());
        self.calls.drain(stay..).map(|call| call.id).collect()
    }

    fn unbegun(&mut self) -> Option<Invocation> {
        (self.handler == "leave").then(|| self.calls.pop_front()).flatten()
    }

    async fn outcome(&mut self, patience: Patience<'_>) -> Turn {
        let invocation = self.calls.front().cloned().unwrap();
        // One that ends after each call, and may be handed another one meanwhile.
        if self.handler == "leave" && self.counts.finished.load(Ordering::SeqCst) > self.number {
            self.alive.store(false, Ordering::SeqCst);
            let failure = Failure::new(FailureKind::Exited, "Runtime.ExitError", "exit status 0");
            return Turn::Over(Outcome {
                result: Err(failure),
                run_us: 0,
                busy_us: None,
                memory_peak_bytes: None,
            });
        }
        if matches!(self.handler.split_once(':'), Some(("stream" | "cut", _))) {
            return Turn::Streams { prelude: Bytes::from_static(PRELUDE), run_us: 500 };
        }
        let result = match self.handler.split_once(':').unwrap_or((&self.handler, "")) {
            ("echo" | "late", _) => Ok(invocation.payload),
            ("say", text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            ("arn", _) => Ok(invocation.context.arn.unwrap_or_default().into()),
            ("who" | "leave", _) => Ok(Bytes::from(self.number.to_string())),
            ("sleep", ms) => {
                tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await;
                Ok(Bytes::from(self.number.to_string()))
            }
            ("crowd", _) => self.crowd(&invocation.payload).await,
            ("quick", _) => self.quick(&invocation.payload, patience).await,
            ("die", _) => {
                self.alive.store(false, Ordering::SeqCst);
                Err(Failure::new(FailureKind::Exited, "Runtime.ExitError", "exit status 1"))
            }
            ("sum", ms) => {
                tokio::time::sleep(Duration::from_millis(ms.parse().unwrap_or(0))).await;
                sum(&invocation.payload)
            }
            ("wide", bytes) => Ok(format!("\"{}\"", "x".repeat(bytes.parse().unwrap())).into()),
            ("fail", _) => Err(Failure::new(FailureKind::Handler, "Error", "no")),
            other => panic!("no such script: {other:?}"),
        };
        self.calls.pop_front();
        self.counts.finished.fetch_add(1, Ordering::SeqCst);
        let busy_us = (self.handler == "quick").then_some(5);
        Turn::Over(Outcome { result, run_us: 1_500, busy_us, memory_peak_bytes: None })
    }

    async fn stream(&mut self, taker: Taker<'_>) -> StreamEnd {
        let (how, count) = self.handler.split_once(':').unwrap();
        let count: usize = count.parse().unwrap();
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for _ in 0..count {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let piece = Bytes::from_static(&[b'x'; 1024]);
            bytes += piece.len() as u64;
            let keep_bytes = match taker {
                Taker::Whole => usize::MAX,
                Taker::Caller { keep_bytes, .. } => keep_bytes,
            };
            kept.extend_from_slice(&piece[..piece.len().min(keep_bytes - kept.len())]);
            if let Taker::Caller { pieces, .. } = taker {
                drop(pieces.send(Part::Piece(piece)).await);
            }
            self.counts.pieces.fetch_add(1, Ordering::SeqCst);
        }
        self.calls.pop_front();
        self.counts.finished.fetch_add(1, Ordering::SeqCst);
        let result = if how == "cut" {
            Err(Failure::new(FailureKind::Handler, "Error", "half-way"))
        } else {
            Ok(kept.into())
        };
        let outcome = Outcome { result, run_us: 9_500, busy_us: None, memory_peak_bytes: None };
        StreamEnd { outcome, bytes }
    }

    fn alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    fn start_timings(&self) -> StartTimings {
        let late_ms = self.handler.strip_prefix("late:").map_or(0, |ms| ms.parse().unwrap());
        StartTimings {
            sandbox_us: 1,
            runtime_us: 2,
            code_us: 3 + 1_000 * late_ms,
            ..StartTimings::default()
        }
    }

    fn freeze(&mut self) -> Option<Later> {
        assert!(self.calls.is_empty(), "it is at a call");
        let still = Arc::clone(&self.still);
        let asked = still.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        asked.ok()?;
        Some(Box::new(move || {
            still.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        }))
    }

    fn is_frozen(&self) -> bool {
        self.still.load(Ordering::SeqCst) == 2
    }

    fn thaw_us(&mut self) -> u64 {
        std::mem::take(&mut self.thaw_us)
    }

    async fn stop(self: Box<Self>) {}
}

impl ScriptedInstance {
    async fn crowd(&self, payload: &[u8]) -> Result<Bytes, Failure> {
        let text = std::str::from_utf8(payload).unwrap();
        if text == "die" {
            self.alive.store(false, Ordering::SeqCst);
            return Err(Failure::new(FailureKind::Timeout, "Sandbox.Timedout", "late"));
        }
        tokio::time::sleep(Duration::from_millis(text.parse().unwrap())).await;
        Ok(Bytes::from(self.number.to_string()))
    }

    async fn quick(&mut self, payload: &[u8], patience: Patience<'_>) -> Result<Bytes, Failure> {
        let text = std::str::from_utf8(payload).unwrap();
        if text == "die" {
            self.alive.store(false, Ordering::SeqCst);
            return Err(Failure::new(FailureKind::Exited, "Runtime.ExitError", "exit status 1"));
        }
        let takes = text.parse().map_or(Duration::ZERO, Duration::from_millis);
        if takes > patience.limit {
            tokio::time::sleep(patience.limit).await;
            (patience.returned)(&self.take_back());
            tokio::time::sleep(takes - patience.limit).await;
        } else {
            tokio::time::sleep(takes).await;
        }
        Ok(Bytes::from(self.number.to_string()))
    }
}

/// The sum of the items, or results, of a chunk of a map.
fn sum(payload: &[u8]) -> Result<Bytes, Failure> {
    let event: serde_json::Value = serde_json::from_slice(payload).unwrap();
    let numbers = event.get("items").or(event.get("results")).unwrap().as_array().unwrap();
    let sum = numbers.iter().map(serde_json::Value::as_i64).sum::<Option<i64>>();
    sum.map(|sum| sum.to_string().into())
        .ok_or_else(|| Failure::new(FailureKind::Handler, "TypeError", "not a number"))
}

impl Drop for ScriptedInstance {
    fn drop(&mut self) {
        self.counts.stopped.fetch_add(usize::from(!self.seat), Ordering::SeqCst);
    }
}

/// An engine on ports in memory.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) meta: Arc<MemoryMeta>,
    /// Of the engine to changes of `meta`.
    pub(crate) blindness: Blindness,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) blobs: Arc<MemoryBlobs>,
    pub(crate) usage: Arc<MemoryUsage>,
    pub(crate) webhooks: Arc<ScriptedWebhooks>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The same, to be set.
    pub(crate) wall: Arc<TestClock>,
    config: EngineConfig,
}

impl World {
    pub(crate) async fn new(config: EngineConfig) -> Self {
        Self::with_start(config, 10).await
    }

    /// `start_ms`: how long an instance takes to start.
    pub(crate) async fn with_start(config: EngineConfig, start_ms: u64) -> Self {
        let wall = Arc::new(TestClock::new());
        let clock: Arc<dyn Clock> = wall.clone();
        let meta = Arc::new(MemoryMeta::default());
        let blindness = Blindness::default();
        let queue = Arc::new(MemoryQueue::new(Arc::clone(&clock)));
        let blobs = Arc::new(MemoryBlobs::default());
        let usage = Arc::new(MemoryUsage::default());
        let sandbox = ScriptedSandbox { start_ms, ..ScriptedSandbox::default() };
        let counts = Arc::clone(&sandbox.counts);
        let webhooks = Arc::new(ScriptedWebhooks::default());
        let deps = Deps {
            meta: Arc::new(BlindMeta { inner: meta.clone(), blindness: blindness.clone() }),
            queue: queue.clone(),
            blobs: blobs.clone(),
            sandbox: Arc::new(sandbox),
            usage: usage.clone(),
            webhooks: webhooks.clone(),
            clock: clock.clone(),
        };
        let engine = Engine::start(config, deps).await.unwrap();
        Self { engine, meta, blindness, queue, blobs, usage, webhooks, counts, clock, wall, config }
    }

    /// The daemon is killed, and starts again.
    pub(crate) async fn kill(&mut self) {
        self.engine.drain(Duration::ZERO).await;
        let sandbox = ScriptedSandbox { counts: Arc::clone(&self.counts), start_ms: 10 };
        let deps = Deps {
            meta: self.meta.clone(),
            queue: self.queue.clone(),
            blobs: self.blobs.clone(),
            sandbox: Arc::new(sandbox),
            usage: self.usage.clone(),
            webhooks: self.webhooks.clone(),
            clock: self.clock.clone(),
        };
        self.engine = Engine::start(self.config, deps).await.unwrap();
    }

    /// Deploys or changes a function; the engine knows it when this returns.
    pub(crate) async fn deploy(&self, name: &str, handler: &str) {
        self.deploy_with(name, handler, |_| {}).await;
    }

    pub(crate) async fn deploy_with(
        &self,
        name: &str,
        handler: &str,
        change: impl FnOnce(&mut Function),
    ) {
        let key = key(name);
        let old = self.meta.get(&keys::function(&key)).await.unwrap();
        let config = FunctionConfig::new("scripted", handler);
        let new = deployed(&key, config, self.clock.now());
        let (expect, mut function) = match old {
            Some(entry) => {
                let function: Function = serde_json::from_slice(&entry.value).unwrap();
                (Expect::Revision(entry.revision), Function { latest: new.latest, ..function })
            }
            None => (Expect::Absent, new),
        };
        change(&mut function);
        let value = serde_json::to_vec(&function).unwrap();
        let revision = self.meta.put_if(&keys::function(&key), expect, value.into()).await.unwrap();
        self.engine.caught_up(revision).await.unwrap();
    }

    /// Changes the document of a function that is there, as a deploy does: first everything is made ready.
    pub(crate) async fn swap(
        &self,
        name: &str,
        faulty: Faulty,
        change: impl FnOnce(&mut Function),
    ) -> model::Result<()> {
        let at = keys::function(&key(name));
        let entry = self.meta.get(&at).await?.unwrap();
        let mut function: Function = serde_json::from_slice(&entry.value).unwrap();
        change(&mut function);
        let value = serde_json::to_vec(&function).unwrap();
        let prepared = self.engine.prepare(&function, faulty).await?;
        let revision =
            self.meta.put_if(&at, Expect::Revision(entry.revision), value.into()).await?;
        self.engine.caught_up(revision).await?;
        if let Some(prepared) = prepared {
            prepared.settle().await;
        }
        Ok(())
    }

    /// New code for `$LATEST`.
    pub(crate) async fn swap_code(&self, name: &str, handler: &str) -> model::Result<()> {
        self.swap(name, Faulty::Refused, |f| f.latest.config.handler = handler.into()).await
    }

    /// Publishes `$LATEST` under `number`.
    pub(crate) async fn publish(&self, name: &str, number: u64) {
        let entry = self.meta.get(&keys::function(&key(name))).await.unwrap().unwrap();
        let function: Function = serde_json::from_slice(&entry.value).unwrap();
        let version = Version { number: Some(number), ..function.latest.clone() };
        let value = serde_json::to_vec(&version).unwrap();
        let fingerprint = function.latest.fingerprint();
        let at = keys::version(&function.id, number, fingerprint);
        self.meta.put_if(&at, Expect::Absent, value.into()).await.unwrap();
        self.change(name, |f| {
            let (published_at, size_bytes) = (f.created_at, 10);
            f.versions.push(VersionSummary { number, fingerprint, published_at, size_bytes });
        })
        .await;
    }

    /// Deploys `$LATEST` with each handler and publishes it, from version 1.
    pub(crate) async fn versions(&self, name: &str, handlers: &[&str]) {
        for (number, handler) in (1..).zip(handlers) {
            self.deploy(name, handler).await;
            self.publish(name, number).await;
        }
    }

    /// Changes the document of a function that is there.
    pub(crate) async fn change(&self, name: &str, change: impl FnOnce(&mut Function)) {
        let at = keys::function(&key(name));
        let entry = self.meta.get(&at).await.unwrap().unwrap();
        let mut function: Function = serde_json::from_slice(&entry.value).unwrap();
        change(&mut function);
        let value = serde_json::to_vec(&function).unwrap();
        let expect = Expect::Revision(entry.revision);
        let revision = self.meta.put_if(&at, expect, value.into()).await.unwrap();
        self.engine.caught_up(revision).await.unwrap();
    }

    /// Creates or replaces an alias.
    pub(crate) async fn alias(&self, name: &str, alias: &str, json: &str) {
        self.shift(name, alias, json, None).await;
    }

    /// Creates or replaces an alias, with a shift.
    pub(crate) async fn shift(
        &self,
        name: &str,
        alias: &str,
        json: &str,
        rollout: Option<Rollout>,
    ) {
        let read: Alias = serde_json::from_str(json).unwrap();
        read.validate().unwrap();
        let (created_at, modified_at) = (self.clock.now(), self.clock.now());
        let record = AliasRecord { alias: read, revision: 1, created_at, modified_at, rollout };
        self.change(name, |f| drop(f.aliases.insert(alias.parse().unwrap(), record))).await;
    }

    /// The version that a call with these parameters reaches.
    pub(crate) fn reached(&self, name: &str, event: &str, parameters: &[(&str, &str)]) -> String {
        let target = FunctionRef::parse("default", name).unwrap();
        let (id, parameters) = (RequestId::generate(), carried(parameters));
        let reached = self.engine.route(&target, &id, &parameters, event.as_bytes());
        reached.map_or_else(|e| e.code().to_string(), |version| version.to_string())
    }

    /// Sets the quotas of a namespace.
    pub(crate) async fn quotas(&self, name: &str, quotas: Quotas) {
        let name: NamespaceName = name.parse().unwrap();
        let at = keys::namespace(&name);
        let old = self.meta.get(&at).await.unwrap();
        let settings = NamespaceSettings { quotas, ..NamespaceSettings::default() };
        let namespace = Namespace {
            name,
            settings,
            created_at: self.clock.now(),
            change: None,
            deleting_since: None,
            deleted: false,
        };
        let expect = old.map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
        let value = serde_json::to_vec(&namespace).unwrap();
        let revision = self.meta.put_if(&at, expect, value.into()).await.unwrap();
        self.engine.caught_up(revision).await.unwrap();
    }

    pub(crate) async fn invoke(&self, name: &str) -> model::Result<String> {
        self.invoke_with(name, "hello", &[]).await
    }

    /// Calls with a payload and parameters.
    pub(crate) async fn invoke_with(
        &self,
        name: &str,
        payload: &'static str,
        parameters: &[(&str, &str)],
    ) -> model::Result<String> {
        let done = self.engine.invoke(call(name, payload), &carried(parameters)).await?;
        Ok(match done.outcome.result {
            Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
            Err(failure) => format!("failed: {}", failure.kind.as_str()),
        })
    }

    pub(crate) fn started(&self) -> usize {
        self.counts.started.load(Ordering::SeqCst)
    }

    pub(crate) fn stopped(&self) -> usize {
        self.counts.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn finished(&self) -> usize {
        self.counts.finished.load(Ordering::SeqCst)
    }

    /// Calls off a call that is there.
    pub(crate) async fn cancel(&self, id: RequestId) -> model::Result<()> {
        let call = self.engine.call(id).await?.unwrap();
        self.engine.cancel_call(&call.summary).await
    }

    /// Brings a call back to life that is there.
    pub(crate) async fn redrive(&self, id: RequestId) -> model::Result<()> {
        let call = self.engine.call(id).await?.unwrap();
        self.engine.redrive_call(&call.summary).await
    }

    /// How many messages the queue still holds, and how many are dead.
    pub(crate) async fn queued(&self) -> (u64, usize) {
        let waiting = self.queue.depths().iter().map(|(_, depth)| depth.messages).sum();
        (waiting, self.dead().await.len())
    }

    /// What is kept of each dead call.
    pub(crate) async fn dead(&self) -> Vec<model::ports::Record> {
        let standing = Some(ListedStanding::Ended(Ended::Dead));
        let listing = Listing { standing, limit: 100, ..Listing::default() };
        let mut dead = Vec::new();
        for summary in self.queue.list(listing).await.unwrap() {
            dead.push(self.queue.find(summary.id).await.unwrap().unwrap());
        }
        dead
    }
}

pub(crate) fn key(name: &str) -> FunctionKey {
    FunctionRef::parse("default", name).unwrap().key
}

/// No parameters.
pub(crate) fn bare() -> Carried {
    Carried::default()
}

/// Parameters by name.
pub(crate) fn carried(parameters: &[(&str, &str)]) -> Carried {
    let mut carried = Carried::default();
    for (name, value) in parameters {
        carried.insert(name.parse().unwrap(), (*value).to_owned());
    }
    carried
}

pub(crate) fn call(name: &str, payload: &'static str) -> Call {
    Call {
        id: RequestId::generate(),
        target: FunctionRef::parse("default", name).unwrap(),
        payload: Bytes::from_static(payload.as_bytes()),
        context: CallContext::default(),
    }
}

pub(crate) async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// A receiver of webhooks: what it got, and what it answers; 503 at first.
#[derive(Debug, Default)]
pub(crate) struct ScriptedWebhooks {
    pub(crate) got: std::sync::Mutex<Vec<model::ports::Webhook>>,
    pub(crate) answers: std::sync::Mutex<Vec<u16>>,
}

#[async_trait]
impl model::ports::Webhooks for ScriptedWebhooks {
    async fn send(&self, webhook: &model::ports::Webhook) -> model::Result<u16> {
        self.got.lock().unwrap().push(webhook.clone());
        Ok(self.answers.lock().unwrap().pop().unwrap_or(503))
    }
}
