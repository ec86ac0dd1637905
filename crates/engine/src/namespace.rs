//! What the functions of one namespace may use together, and what they use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use model::Result;
use model::api::NamespaceUse;
use model::error::Error;
use model::ids::NamespaceName;
use model::namespace::Quotas;
use model::ports::Depth;

use crate::admit::Quota;
use crate::backlog::Entering;
use crate::rate::Rate;

/// One namespace. Lives as long as the engine, so that counts survive the record.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: NamespaceName,
    instances_default: u32,
    pub(crate) instances: Quota,
    pub(crate) memory_mb: Quota,
    calls: Rate,
    /// Quotas of the queue; `u64::MAX` where none is set.
    queued_calls: AtomicU64,
    queued_bytes: AtomicU64,
    entering: Arc<Entering>,
    /// Instances that functions have for themselves.
    reserved: AtomicU64,
    functions: AtomicU64,
    code_bytes: AtomicU64,
}

impl Namespace {
    /// Without quotas of its own.
    pub(crate) fn new(name: NamespaceName, instances_default: u32, now: Instant) -> Self {
        Self {
            name,
            instances_default,
            instances: Quota::new(instances_default.into()),
            memory_mb: Quota::new(u64::MAX),
            calls: Rate::new(now),
            queued_calls: AtomicU64::new(u64::MAX),
            queued_bytes: AtomicU64::new(u64::MAX),
            entering: Arc::default(),
            reserved: AtomicU64::new(0),
            functions: AtomicU64::new(0),
            code_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &NamespaceName {
        &self.name
    }

    pub(crate) fn set_quotas(&self, quotas: &Quotas) {
        let instances = quotas.instances.unwrap_or(self.instances_default);
        self.instances.set_limit(instances.into());
        self.memory_mb.set_limit(quotas.memory_mb.unwrap_or(u64::MAX));
        self.calls.set_limit(quotas.calls_per_second);
        self.queued_calls.store(quotas.queued_calls.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.queued_bytes.store(quotas.queued_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How much of its calls may be queued; `default` where nothing is set.
    pub(crate) fn queued_quota(&self, default: Depth) -> Depth {
        let set = |quota: &AtomicU64, default| match quota.load(Ordering::Relaxed) {
            u64::MAX => default,
            quota => quota,
        };
        Depth {
            messages: set(&self.queued_calls, default.messages),
            bytes: set(&self.queued_bytes, default.bytes),
        }
    }

    /// What is on its way into the queue.
    pub(crate) fn entering(&self) -> &Arc<Entering> {
        &self.entering
    }

    /// Counts one accepted call, or refuses it.
    pub(crate) fn take_call(&self, now: impl FnOnce() -> Instant) -> Result<()> {
        let Some(limit) = self.calls.limit() else { return Ok(()) };
        self.calls.take(now()).map_err(|wait| {
            let message =
                format!("namespace '{}' is over its quota of {limit} calls_per_second", self.name);
            Error::throttled(message, wait)
                .with_hint("try again after Retry-After, or raise the quota of the namespace")
        })
    }

    /// Why no instance of `memory_mb` can ever live here, if that is so.
    pub(crate) fn never_admits(&self, memory_mb: u32) -> Option<String> {
        let (instances, memory) = (self.instances.limit(), self.memory_mb.limit());
        if instances == 0 {
            return Some(format!("the quota of instances of namespace '{}' is 0", self.name));
        }
        (memory < memory_mb.into()).then(|| {
            format!(
                "it takes {memory_mb} MiB, and the quota of memory_mb of namespace '{}' is {memory}",
                self.name
            )
        })
    }

    /// There are other functions, or other packages of functions and layers, than there were.
    pub(crate) fn change_use(&self, functions: Change, code_bytes: Change) {
        functions.apply(&self.functions);
        code_bytes.apply(&self.code_bytes);
    }

    /// Its functions have other reservations than they had.
    pub(crate) fn change_reserved(&self, instances: Change) {
        instances.apply(&self.reserved);
    }

    /// What it uses; what it has in the queue, the queue knows.
    pub(crate) fn used(&self) -> NamespaceUse {
        NamespaceUse {
            functions: self.functions.load(Ordering::Relaxed),
            instances: self.instances.used(),
            memory_mb: self.memory_mb.used(),
            code_bytes: self.code_bytes.load(Ordering::Relaxed),
            reserved_instances: self.reserved.load(Ordering::Relaxed),
            ..NamespaceUse::default()
        }
    }
}

/// From what it was to what it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Change {
    fn apply(self, count: &AtomicU64) {
        // Wraps, and back.
        count.fetch_add(self.to.wrapping_sub(self.from), Ordering::Relaxed);
    }
}
