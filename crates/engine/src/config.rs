//! The engine's section of the configuration.

use std::num::NonZeroUsize;
use std::time::Duration;

use model::limits;
use model::ports::Depth;

use crate::forecast::Bounds;

/// Limits and times of the engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Memory limits of all live instances together, in MiB; a function's share of memory is a share of this.
    pub host_memory_mb: u64,
    /// Live instances of a function that sets no limit of its own.
    pub instances_per_function: u32,
    /// Live instances of a namespace that sets no limit of its own.
    pub instances_per_namespace: u32,
    /// Calls of one version that may wait for an instance; the next one is throttled.
    pub waiters_per_version: usize,
    /// How long a call may wait for an instance before it is throttled.
    pub queue_wait: Duration,
    /// Processors of the host. So many calls of a function that takes microseconds keep the host busy; more at once would only get in each other's way.
    pub processors: usize,
    /// How long an instance may be idle before it is stopped, where the function's calls do not tell when the next one comes.
    pub keep_alive: Duration,
    /// Where they do: not less than this,
    pub keep_alive_min: Duration,
    /// and not more than this; 0: nothing is learned.
    pub keep_alive_max: Duration,
    /// How long an instance is idle, at least, before it stands still until its next call; zero: it never does.
    pub freeze_after: Duration,
    /// Asynchronous calls that run at once.
    pub async_concurrency: usize,
    /// Hold of a node on a queued call; renewed while the call runs. A killed daemon's calls run again after it.
    pub async_lease: Duration,
    /// Asynchronous calls of a function that sets no quota of its own, and their bytes, that may wait or run.
    pub queued_per_function: Depth,
    /// The same of a namespace.
    pub queued_per_namespace: Depth,
}

impl EngineConfig {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { fixed: self.keep_alive, least: self.keep_alive_min, most: self.keep_alive_max }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            host_memory_mb: 4096,
            instances_per_function: limits::INSTANCES_DEFAULT,
            instances_per_namespace: 1_000,
            waiters_per_version: limits::WAITERS_PER_VERSION,
            queue_wait: Duration::from_secs(30),
            processors: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            keep_alive: Duration::from_secs(300),
            keep_alive_min: Duration::from_secs(60),
            keep_alive_max: Duration::from_hours(4),
            freeze_after: Duration::from_secs(1),
            async_concurrency: 64,
            async_lease: Duration::from_secs(30),
            queued_per_function: Depth {
                messages: limits::QUEUED_CALLS_PER_FUNCTION,
                bytes: limits::QUEUED_BYTES_PER_FUNCTION,
            },
            queued_per_namespace: Depth {
                messages: limits::QUEUED_CALLS_PER_NAMESPACE,
                bytes: limits::QUEUED_BYTES_PER_NAMESPACE,
            },
        }
    }
}
