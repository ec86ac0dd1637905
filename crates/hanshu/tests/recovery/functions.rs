//! Functions that run in the child itself and write down that they do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::function::{RuntimeInfo, Version};
use model::ids::{Digest, RequestId};
use model::invocation::{Failure, FailureKind, Invocation, Outcome, StartTimings};
use model::network::NetworkPolicy;
use model::ports::{Image, Instance, PackageInfo, Patience, Sandbox, StartFailed, Turn};
use model::stream::{StreamEnd, Taker};

use crate::ledger::{Entry, Ledger};

/// The functions: what their calls do.
pub(crate) const ALL: [&str; 4] = ["good", "flaky", "bad", "slow"];
/// How long a call of `slow` takes, of the host's time.
const SLOW: Duration = Duration::from_millis(15);

/// Where functions run, and what they know of each other's calls.
#[derive(Clone, Debug)]
pub(crate) struct Functions(Arc<Known>);

#[derive(Debug)]
struct Known {
    ledger: Arc<Ledger>,
    /// Calls that have done what they are to do once.
    done: Mutex<HashSet<RequestId>>,
    slow: Duration,
}

impl Functions {
    /// With calls of `slow` that take so many times as long.
    pub(crate) fn new(ledger: Arc<Ledger>, done: HashSet<RequestId>, times_as_slow: u32) -> Self {
        Self(Arc::new(Known { ledger, done: Mutex::new(done), slow: SLOW * times_as_slow }))
    }
}

impl Known {
    /// Does once what a call is to do once: a function looks whether it did it already.
    fn effect(&self, call: &Invocation) {
        let mut done = self.done.lock().unwrap();
        if done.insert(call.id) {
            self.ledger.write(call.id, Entry::Done);
            let event = std::str::from_utf8(&call.payload).unwrap();
            if let Some(key) = event.strip_prefix("key ") {
                self.ledger.write(call.id, Entry::Did(key.parse().unwrap()));
            }
        }
    }

    async fn run(&self, function: &str, call: &Invocation) -> Result<Bytes, Failure> {
        self.ledger.write(call.id, Entry::Began(call.attempt));
        let fails = || Err(Failure::new(FailureKind::Handler, "Error", "no"));
        match function {
            "bad" => return fails(),
            "flaky" if call.attempt == 1 => return fails(),
            "slow" => tokio::time::sleep(self.slow).await,
            _ => {}
        }
        self.effect(call);
        Ok(Bytes::from(call.id.to_string()))
    }
}

#[async_trait]
impl Sandbox for Functions {
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

    async fn prepare(&self, version: Arc<Version>) -> model::Result<Arc<dyn Image>> {
        Ok(Arc::new(Function { name: version.key.name.to_string(), known: Arc::clone(&self.0) }))
    }

    async fn forget_package(&self, _: &Digest) {}
}

/// One of [`ALL`], as image and as instance.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    known: Arc<Known>,
}

#[async_trait]
impl Image for Function {
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed> {
        Ok(Box::new(Running { function: self.clone(), call: None }))
    }
}

#[derive(Debug)]
struct Running {
    function: Function,
    call: Option<Invocation>,
}

#[async_trait]
impl Instance for Running {
    fn hand(&mut self, invocation: &Invocation) -> bool {
        let is_free = self.call.is_none();
        if is_free {
            self.call = Some(invocation.clone());
        }
        is_free
    }

    fn take_back(&mut self) -> Vec<RequestId> {
        Vec::new()
    }

    async fn outcome(&mut self, _: Patience<'_>) -> Turn {
        let call = self.call.clone().expect("it was handed a call");
        let result = self.function.known.run(&self.function.name, &call).await;
        self.call = None;
        Turn::Over(Outcome { result, run_us: 1_000, busy_us: None, memory_peak_bytes: None })
    }

    async fn stream(&mut self, _: Taker<'_>) -> StreamEnd {
        unreachable!("no answer comes in pieces")
    }

    fn alive(&self) -> bool {
        true
    }

    fn start_timings(&self) -> StartTimings {
        StartTimings::default()
    }

    async fn stop(self: Box<Self>) {}
}
