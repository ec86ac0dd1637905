//! Functions that run in the process itself, for engines whose sandbox is not the question.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::clock::UnixMillis;
use crate::function::{CodeRef, Function, FunctionConfig, FunctionSettings, RuntimeInfo, Version};
use crate::ids::{Digest, FunctionKey, RequestId};
use crate::invocation::{Failure, Invocation, Outcome, StartTimings};
use crate::network::NetworkPolicy;
use crate::ports::{Image, Instance, PackageInfo, Patience, Sandbox, StartFailed, Turn};
use crate::stream::{StreamEnd, Taker};

/// What functions do.
#[async_trait]
pub trait Functions: fmt::Debug + Send + Sync + 'static {
    /// One call of the function of this name.
    async fn run(&self, function: &str, call: &Invocation) -> Result<Bytes, Failure>;
}

/// A sandbox in which functions start and stop at once, and each instance serves one call after the other.
#[derive(Debug)]
pub struct InProcess<F>(pub Arc<F>);

/// A function as it is when it was deployed for the first time, without code of its own.
pub fn deployed(key: &FunctionKey, config: FunctionConfig, now: UnixMillis) -> Function {
    let runtime = RuntimeInfo { name: config.runtime.clone(), version: "1".into() };
    let latest = Version {
        key: key.clone(),
        number: None,
        config,
        code: CodeRef { digest: Digest::of(b""), size_bytes: 10, unpacked_bytes: 10 },
        layers: Vec::new(),
        runtime,
        modified_at: now,
    };
    Function {
        id: RequestId::generate(),
        created_at: now,
        settings: FunctionSettings::default(),
        latest,
        versions: Vec::new(),
        next_version: 1,
        aliases: BTreeMap::new(),
        provisioned: BTreeMap::new(),
        revision: 1,
        change: None,
        deleted: false,
    }
}

#[async_trait]
impl<F: Functions> Sandbox for InProcess<F> {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        Vec::new()
    }

    fn resolve_runtime(&self, name: &str) -> Result<RuntimeInfo> {
        Ok(RuntimeInfo { name: name.into(), version: "1".into() })
    }

    fn check_network(&self, _: &NetworkPolicy) -> Result<()> {
        Ok(())
    }

    async fn check_package(&self, package: Bytes) -> Result<PackageInfo> {
        Ok(PackageInfo { digest: Digest::of(&package), unpacked_bytes: 0, entries: 0 })
    }

    async fn prepare(&self, version: Arc<Version>) -> Result<Arc<dyn Image>> {
        let (name, functions) = (version.key.name.as_str().into(), Arc::clone(&self.0));
        Ok(Arc::new(Named { name, functions }))
    }

    async fn forget_package(&self, _: &Digest) {}
}

/// One function, as image.
#[derive(Debug)]
struct Named<F> {
    name: Arc<str>,
    functions: Arc<F>,
}

#[async_trait]
impl<F: Functions> Image for Named<F> {
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed> {
        let (name, functions) = (Arc::clone(&self.name), Arc::clone(&self.functions));
        Ok(Box::new(Running { name, functions, call: None }))
    }
}

/// And as instance.
#[derive(Debug)]
struct Running<F> {
    name: Arc<str>,
    functions: Arc<F>,
    call: Option<Invocation>,
}

#[async_trait]
impl<F: Functions> Instance for Running<F> {
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
        let Some(call) = self.call.clone() else { panic!("it was handed no call") };
        let result = self.functions.run(&self.name, &call).await;
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
