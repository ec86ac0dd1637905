//! Port: where strangers' code runs. Three nouns: sandbox → image → instance.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::error::Error;
use crate::function::{RuntimeInfo, Version};
use crate::ids::Digest;
use crate::invocation::{Failure, Invocation, Outcome, StartTimings};
use crate::network::NetworkPolicy;

/// What a package turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageInfo {
    /// SHA-256 of the package.
    pub digest: Digest,
    /// Bytes of all files, unpacked.
    pub unpacked_bytes: u64,
    /// Files and folders.
    pub entries: usize,
}

/// An isolation technique. Contract: `suites::sandbox`.
#[async_trait]
pub trait Sandbox: Send + Sync + std::fmt::Debug {
    /// What can run here.
    fn runtimes(&self) -> Vec<RuntimeInfo>;

    /// The installed runtime that a name or alias stands for; `unknown-runtime` names those there are.
    fn resolve_runtime(&self, name: &str) -> Result<RuntimeInfo>;

    /// Whether instances can have this network here; `unsupported` says what the host lacks.
    fn check_network(&self, policy: &NetworkPolicy) -> Result<()>;

    /// Reads a package whole, within its limits, and keeps it unpacked for the instances to come; `invalid-package`,
    /// `package-too-large` or `storage-full` if it cannot be used, and then nothing of it stays behind.
    async fn check_package(&self, package: Bytes) -> Result<PackageInfo>;

    /// Makes a version ready to start instances of. Idempotent; cheap when the package is unpacked already.
    async fn prepare(&self, version: Arc<Version>) -> Result<Arc<dyn Image>>;

    /// Removes what [`Sandbox::check_package`] or [`Sandbox::prepare`] kept of a package that no version names any more.
    async fn forget_package(&self, digest: &Digest);
}

/// One version, ready to be started.
#[async_trait]
pub trait Image: Send + Sync + std::fmt::Debug {
    /// Starts an instance and loads the code, within `limits::INIT_TIMEOUT_MS`.
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed>;
}

/// Why no instance came up.
#[derive(Debug)]
pub enum StartFailed {
    /// The function's fault: its code could not be loaded. Callers get it as their outcome.
    Function(Failure),
    /// The platform's fault.
    Platform(Error),
}

/// One live, isolated execution environment. Serves one call at a time. Dropping it destroys it, with every process in it.
#[async_trait]
pub trait Instance: Send + std::fmt::Debug {
    /// Runs one call. Enforces the deadline: when it passes, every process of the instance is gone and the outcome is a timeout.
    /// Not cancel-safe: dropped half-way, the instance must be dropped as well.
    async fn invoke(&mut self, invocation: Invocation) -> Outcome;

    /// Whether it can serve another call. `false` after a timeout, an exit, a broken protocol; also if it died while idle.
    fn alive(&self) -> bool;

    /// How long its start took.
    fn start_timings(&self) -> StartTimings;

    /// Ends it and returns once every process of it is gone.
    async fn stop(self: Box<Self>);
}
