//! Port: what ran, metered.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Result;
use crate::clock::UnixMillis;
use crate::ids::{FunctionKey, Qualifier};

/// What was used since the last delta, of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageDelta {
    /// Whose.
    pub function: FunctionKey,
    /// Which version.
    pub version: Qualifier,
    /// When; kept to the minute.
    pub time: UnixMillis,
    /// The sums.
    pub sums: UsageSums,
}

/// Sums of metered use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageSums {
    /// Attempts that ran.
    pub requests: u64,
    /// Of them failed.
    pub failures: u64,
    /// Of them cold.
    pub cold_starts: u64,
    /// Calls refused by a limit.
    pub throttles: u64,
    /// Billed duration, each attempt rounded up to a millisecond.
    pub duration_ms: u64,
    /// Billed duration times memory limit, in MiB-milliseconds.
    pub memory_mb_ms: u64,
    /// Payload bytes in.
    pub bytes_in: u64,
    /// Response bytes out.
    pub bytes_out: u64,
}

impl UsageSums {
    /// Adds `other`, saturating.
    pub fn add(&mut self, other: &Self) {
        for (a, b) in [
            (&mut self.requests, other.requests),
            (&mut self.failures, other.failures),
            (&mut self.cold_starts, other.cold_starts),
            (&mut self.throttles, other.throttles),
            (&mut self.duration_ms, other.duration_ms),
            (&mut self.memory_mb_ms, other.memory_mb_ms),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
        ] {
            *a = a.saturating_add(b);
        }
    }
}

/// Which rows to return.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// Of this function.
    pub function: FunctionKey,
    /// At or after, to the minute.
    pub since: UnixMillis,
    /// Before.
    pub until: UnixMillis,
}

/// The sums of one version in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Which version.
    pub version: Qualifier,
    /// Start of the minute.
    pub minute: UnixMillis,
    /// The sums.
    pub sums: UsageSums,
}

/// Metered use. Contract: `suites::usage`.
#[async_trait]
pub trait Usage: Send + Sync + std::fmt::Debug {
    /// Adds deltas, all or none, durable before it returns.
    async fn add(&self, deltas: Vec<UsageDelta>) -> Result<()>;

    /// Rows by minute, then version.
    async fn query(&self, query: UsageQuery) -> Result<Vec<UsageRow>>;
}
