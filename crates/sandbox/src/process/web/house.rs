//! A live instance with all calls that are in it: its processes, its connections, and whether it takes more.
//!
//! No task runs for it. Whoever waits for an answer also sees to what the processes print and to their end ([`House::beside`]); of many that wait one does, and
//! the next takes over when that one leaves.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use model::function::Version;
use model::ids::{FunctionKey, Qualifier, RequestId};
use model::invocation::{Failure, FailureKind, StartTimings};
use model::ports::{Later, LogLine, LogStream};

use super::readiness::Readiness;
use crate::process::failure;
use crate::process::image::Shared;
use crate::process::life::{Life, micros};
use crate::web::{Connection, ERROR_TYPE, Sockets};

/// First pause between two looks whether the server listens, and the longest; each is half as long again as the one before.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_MOST: Duration = Duration::from_millis(10);
/// How long a connection is kept that no call has: less than common servers do (Node.js and uvicorn five seconds, gunicorn two).
const KEEP_CONNECTION: Duration = Duration::from_secs(1);
/// How long the news may take that the processes are gone which have broken off an answer.
const GONE_MOST: Duration = Duration::from_millis(100);
/// The same where they have only closed a connection, which mostly means that they go on.
const GONE_SOON: Duration = Duration::from_millis(20);

/// A live instance.
#[derive(Debug)]
pub(super) struct House {
    /// Held by the one of those that wait who sees to it.
    life: tokio::sync::Mutex<Life>,
    pub(super) shared: Arc<Shared>,
    sockets: Arc<Sockets>,
    port: u16,
    /// Its authority, for requests that name none.
    pub(super) host: String,
    /// Connections that no call has, the one used last at the end.
    kept: Mutex<Vec<Connection>>,
    /// Calls that are in it.
    calls: AtomicUsize,
    /// Whether lines belong to no call: [`crate::output::Output::crowded`].
    crowded: Arc<AtomicBool>,
    /// Takes no more calls.
    closed: AtomicBool,
    /// How its processes ended.
    end: OnceLock<Failure>,
    pub(super) timings: StartTimings,
    /// What is asked before it takes calls.
    readiness: Option<Readiness>,
    function: FunctionKey,
    version: Qualifier,
}

impl House {
    pub(super) fn new(life: Life, sockets: Arc<Sockets>, port: u16, version: &Version) -> Self {
        Self {
            shared: Arc::clone(&life.shared),
            crowded: life.output.crowded(),
            timings: life.timings,
            life: tokio::sync::Mutex::new(life),
            sockets,
            port,
            host: format!("localhost:{port}"),
            kept: Mutex::default(),
            calls: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            end: OnceLock::new(),
            readiness: version.config.readiness_path.clone().map(Readiness::new),
            function: version.key.clone(),
            version: version.label(),
        }
    }

    /// Waits until the server takes calls. On an error it is gone.
    pub(super) async fn open(&mut self, begun: Instant, allowed: Duration) -> Result<(), Failure> {
        self.life.get_mut().output.keep_tail();
        let looked = tokio::time::timeout_at((begun + allowed).into(), self.listens()).await;
        let shared = Arc::clone(&self.shared);
        let life = self.life.get_mut();
        life.output.drain();
        life.timings.runtime_us = micros(begun, shared.clock.instant()).max(1);
        let lines = life.output.take_tail();
        let port = self.port;
        match looked {
            Ok(Ok(connection)) => {
                self.timings = life.timings;
                self.keep(connection);
                Ok(())
            }
            Ok(Err(end)) => {
                let message = format!("the server ended before it listened on port {port}");
                let failure = told(FailureKind::Init, &message, Some(&end), &lines);
                life.note(&failure);
                Err(failure)
            }
            Err(_) => {
                let seconds = allowed.as_secs_f64();
                let unready = self.readiness.as_ref().and_then(Readiness::unready);
                let why = unready.unwrap_or_else(|| {
                    format!("nothing listens on 127.0.0.1:{port} or 0.0.0.0:{port}, which is PORT")
                });
                let message = format!("Init timed out after {seconds:.2} seconds: {why}");
                let failure = told(FailureKind::InitTimeout, &message, None, &lines);
                Err(life.fail(failure).await)
            }
        }
    }

    /// The first connection of a server that takes calls; else how the processes ended.
    async fn listens(&self) -> Result<Connection, Failure> {
        let look = async {
            let mut pause = LOOK_FIRST;
            loop {
                match (Connection::open(&self.sockets).await, &self.readiness) {
                    (Ok(connection), None) => return connection,
                    (Ok(connection), Some(readiness)) => {
                        if let Some(connection) = readiness.ask(connection, &self.host).await {
                            return connection;
                        }
                    }
                    (Err(error), _) => tracing::trace!(%error, "nothing listens yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(LOOK_MOST);
            }
        };
        let mut look = pin!(look);
        tokio::select! {
            biased;
            connection = &mut look => Ok(connection),
            failure = self.gone() => Err(failure),
        }
    }

    /// A connection that may have been used before, and whether it has been.
    pub(super) async fn connection(&self) -> std::io::Result<(Connection, bool)> {
        let now = self.shared.clock.instant();
        loop {
            let Some(mut connection) = self.connections().pop() else { break };
            let rested = connection.idle_since.map(|since| now.saturating_duration_since(since));
            if rested.is_none_or(|rested| rested < KEEP_CONNECTION) && connection.is_usable() {
                return Ok((connection, true));
            }
        }
        Ok((self.new_connection().await?, false))
    }

    /// A connection that has not been used before, in place of one that is kept: there are sockets for no more.
    pub(super) async fn fresh_connection(&self) -> std::io::Result<Connection> {
        drop(self.connections().pop());
        self.new_connection().await
    }

    pub(super) async fn new_connection(&self) -> std::io::Result<Connection> {
        Connection::open(&self.sockets).await
    }

    /// Keeps a connection for another call, if it can have one.
    pub(super) fn keep(&self, mut connection: Connection) {
        if connection.is_usable() && !self.is_closed() {
            connection.idle_since = Some(self.shared.clock.instant());
            self.connections().push(connection);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `what`, and sees to the processes meanwhile. Of processes that are gone whatever was connected is closed, so that `what` comes to its end.
    pub(super) async fn beside<T>(&self, what: impl Future<Output = T>) -> T {
        let (mut what, mut gone) = (pin!(what), pin!(self.gone()));
        tokio::select! {
            biased;
            done = &mut what => return done,
            _ = &mut gone => {}
        }
        what.await
    }

    /// How the processes ended, once they have; what they print is taken until then. Cancel-safe.
    async fn gone(&self) -> Failure {
        let mut life = self.life.lock().await;
        if let Some(end) = self.end.get() {
            return end.clone();
        }
        let Life { remains, output, .. } = &mut *life;
        tokio::select! {
            biased;
            _ = remains.gone() => {}
            never = output.run() => match never {},
        }
        self.closed.store(true, Ordering::Release);
        let failure = life.ended().await;
        self.end.get_or_init(|| failure).clone()
    }

    /// How the processes ended that have broken off an answer; `None` if they go on.
    pub(super) async fn broke_off(&self) -> Option<Failure> {
        tokio::time::timeout(GONE_MOST, self.gone()).await.ok()
    }

    /// The same of processes that have closed a connection.
    pub(super) async fn closed_by_end(&self) -> Option<Failure> {
        tokio::time::timeout(GONE_SOON, self.gone()).await.ok()
    }

    /// A call comes in; `None`: it is not taken.
    pub(super) fn enter(self: &Arc<Self>, id: RequestId) -> Option<(InCall, u64)> {
        let others = self.calls.fetch_add(1, Ordering::AcqRel);
        let entered = InCall(Arc::clone(self));
        // Before it is sent: what is printed from now on may be of either.
        if others > 0 {
            self.crowded.store(true, Ordering::Release);
        }
        let mut thaw_us = 0;
        // Whoever else holds it waits for an answer, so that it is awake.
        if let Ok(mut life) = self.life.try_lock() {
            if !life.alive() || !life.thaw() {
                self.closed.store(true, Ordering::Release);
            } else if others == 0 {
                life.output.begin(Some(id));
                self.crowded.store(false, Ordering::Release);
            }
            thaw_us = life.take_thaw_us();
        }
        (!self.is_closed()).then_some((entered, thaw_us))
    }

    /// Takes what a call has printed that is over.
    pub(super) fn settle(&self) {
        // Else whoever holds it takes it.
        if let Ok(mut life) = self.life.try_lock() {
            life.output.drain();
            if self.calls.load(Ordering::Acquire) <= 1 {
                life.output.begin(None);
            }
        }
    }

    /// Takes no more calls, as one of them has run over its deadline: with `call` itself alone in it, it ends. Others end first, or come to deadlines of their own.
    pub(super) async fn condemn(&self) {
        self.closed.store(true, Ordering::Release);
        self.connections().clear();
        if self.calls.load(Ordering::Acquire) <= 1 {
            let mut life = self.life.lock().await;
            life.destroy().await;
        }
    }

    /// Says in the function's log how a call failed.
    pub(super) fn note(&self, id: RequestId, failure: &Failure) {
        let payload = String::from_utf8_lossy(&failure.payload);
        self.say(id, format!("{}: {payload}", failure.kind.as_str()));
    }

    /// Says something of a call in the function's log.
    pub(super) fn say(&self, id: RequestId, text: String) {
        let line = LogLine {
            time: self.shared.clock.now(),
            function: self.function.clone(),
            version: self.version.clone(),
            request: Some(id),
            stream: LogStream::Platform,
            text,
        };
        if self.shared.logs.append(vec![line]) > 0 {
            tracing::debug!(function = %self.function, "the log store was busy");
        }
    }

    /// Most memory it ever used, in bytes, where that is known without asking.
    pub(super) fn memory_peak_bytes(&self) -> Option<u64> {
        self.life.try_lock().ok().and_then(|life| life.memory_peak_bytes())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether it takes calls.
    pub(super) fn alive(&self) -> bool {
        !self.is_closed() && self.life.try_lock().map_or(true, |life| life.alive())
    }

    /// As `Instance::freeze`.
    pub(super) fn freeze(&self) -> Option<Later> {
        if self.calls.load(Ordering::Acquire) > 0 {
            return None;
        }
        // A server that goes on finds them past their time.
        self.connections().clear();
        self.life.try_lock().ok()?.freeze()
    }

    /// Whether it stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.life.try_lock().is_ok_and(|life| life.is_frozen())
    }

    /// Ends every process of it.
    pub(super) async fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.connections().clear();
        self.life.lock().await.stop().await;
    }
}

/// A call that is in an instance, until this is dropped.
#[derive(Debug)]
pub(super) struct InCall(Arc<House>);

impl Drop for InCall {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A failure at the start: what happened, how it ended, what it said last.
fn told(kind: FailureKind, message: &str, end: Option<&Failure>, lines: &[String]) -> Failure {
    let mut message = message.to_owned();
    let end = end.map(|end| serde_json::from_slice::<serde_json::Value>(&end.payload));
    if let Some(Ok(end)) = end
        && let Some(text) = end.get("errorMessage").and_then(serde_json::Value::as_str)
    {
        message = format!("{message}: {text}");
    }
    if !lines.is_empty() {
        message = format!("{message}\nIts last lines:\n{}", lines.join("\n"));
    }
    let error_type = match kind {
        FailureKind::InitTimeout => "Sandbox.InitTimedout",
        _ => ERROR_TYPE,
    };
    Failure::new(kind, error_type, &message)
}

/// What a call is told that the server has not answered.
pub(super) fn unanswered(what: &str) -> Failure {
    let message = format!("the server has not answered: {what}");
    Failure::new(FailureKind::Protocol, ERROR_TYPE, &message)
}

pub(super) use failure::{response_too_large, timed_out};
