//! What the tests share: a store in a folder that goes away, lines and messages, noise.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::{Clock, SystemClock};
use model::ids::{FunctionKey, FunctionRef, Qualifier, RequestId};
use model::ports::{End, Ended, Lane, LogLine, LogStream, NewMessage};
use model::suites::Subject;
use model::tasks::Tasks;
use store::{Store, StoreConfig, open};
use tempfile::TempDir;

pub(crate) async fn open_at(path: &Path) -> model::Result<Store> {
    open_with(StoreConfig::at(path)).await
}

pub(crate) async fn open_with(config: StoreConfig) -> model::Result<Store> {
    open_by(config, Arc::new(SystemClock)).await
}

/// The same, with a clock of the test's.
pub(crate) async fn open_by(config: StoreConfig, clock: Arc<dyn Clock>) -> model::Result<Store> {
    open(config, clock, &Tasks::new()).await
}

/// One port of a store in a folder of its own.
pub(crate) struct Embedded<P: ?Sized> {
    folder: TempDir,
    clock: Arc<dyn Clock>,
    store: Store,
    port: fn(&Store) -> Arc<P>,
}

impl<P: ?Sized + Send + Sync + 'static> Embedded<P> {
    pub(crate) async fn make(port: fn(&Store) -> Arc<P>) -> Box<dyn Subject<P>> {
        Self::by(Arc::new(SystemClock), port).await
    }

    /// The same, with a clock of the test's.
    pub(crate) async fn by(
        clock: Arc<dyn Clock>,
        port: fn(&Store) -> Arc<P>,
    ) -> Box<dyn Subject<P>> {
        let folder = tempfile::tempdir().unwrap();
        let store = open_by(StoreConfig::at(folder.path()), Arc::clone(&clock)).await.unwrap();
        Box::new(Self { folder, clock, store, port })
    }
}

#[async_trait]
impl<P: ?Sized + Send + Sync + 'static> Subject<P> for Embedded<P> {
    fn port(&self) -> Arc<P> {
        (self.port)(&self.store)
    }

    async fn reopen(&mut self) {
        self.store.close().await.unwrap();
        // A process that another test is just starting has our lock until it is another program.
        for _ in 0..100 {
            let config = StoreConfig::at(self.folder.path());
            match open_by(config, Arc::clone(&self.clock)).await {
                Ok(store) => {
                    self.store = store;
                    return;
                }
                Err(error) if error.message().contains("in use") => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the folder stays in use");
    }
}

/// A port that has no disk: it is its own reopening.
pub(crate) struct InMemory<P: ?Sized>(Arc<P>);

impl<P: ?Sized + Send + Sync + 'static> InMemory<P> {
    pub(crate) fn make(port: Arc<P>) -> Box<dyn Subject<P>> {
        Box::new(Self(port))
    }
}

#[async_trait]
impl<P: ?Sized + Send + Sync + 'static> Subject<P> for InMemory<P> {
    fn port(&self) -> Arc<P> {
        Arc::clone(&self.0)
    }

    async fn reopen(&mut self) {}
}

pub(crate) fn key(name: &str) -> FunctionKey {
    FunctionRef::parse("default", name).unwrap().key
}

pub(crate) fn line(function: &str, text: impl Into<String>) -> LogLine {
    LogLine {
        time: SystemClock.now(),
        function: key(function),
        version: Qualifier::Latest,
        request: None,
        stream: LogStream::Stdout,
        text: text.into(),
    }
}

pub(crate) fn message(payload: Bytes) -> NewMessage {
    let (id, lane, run_at) = (RequestId::generate(), lane(), SystemClock.now());
    NewMessage { id, lane, run_at, key: None, payload }
}

/// Bytes that do not compress: hashes of a counter.
pub(crate) fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut out = Vec::with_capacity(bytes + 32);
    for n in 0_u64.. {
        if out.len() >= bytes {
            break;
        }
        let block = model::ids::Digest::of(&[seed.to_le_bytes(), n.to_le_bytes()].concat());
        out.extend_from_slice(block.as_bytes());
    }
    out.truncate(bytes);
    out.into()
}

/// Starts this test binary again to run one ignored test, which gets `input` as its first line.
#[expect(clippy::disallowed_methods, reason = "a test of what a killed or confined process leaves")]
pub(crate) fn child(wrapper: &[&str], test: &str, input: &str) -> Child {
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let arguments = [this, "--ignored", "--exact", test, "--nocapture", "--test-threads=1"];
    let all: Vec<&str> = wrapper.iter().copied().chain(arguments).collect();
    let mut child = Command::new(all[0])
        .args(&all[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("'{}' cannot be started: {e}", all[0]));
    writeln!(child.stdin.take().unwrap(), "{input}").unwrap();
    child
}

/// In a child: what [`child`] sent; `None` if a person started the test.
pub(crate) fn child_input() -> Option<String> {
    let mut input = String::new();
    std::io::stdin().lock().read_line(&mut input).unwrap();
    let input = input.trim_end().to_owned();
    (!input.is_empty()).then_some(input)
}

/// Where [`message`]s wait.
pub(crate) fn lane() -> Lane {
    Lane::new("default/f").unwrap()
}

/// Ended well, and kept for an hour.
pub(crate) fn succeeded() -> End {
    let keep = std::time::Duration::from_secs(3600);
    End { as_what: Ended::Succeeded, note: None, result: None, keep, counted: true }
}
