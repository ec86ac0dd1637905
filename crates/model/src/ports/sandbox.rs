//! Port: where strangers' code runs. Three nouns: sandbox → image → instance.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::error::Error;
use crate::function::{RuntimeInfo, Version};
use crate::ids::{Digest, RequestId};
use crate::invocation::{Failure, Invocation, Outcome, StartCounts, StartTimings};
use crate::network::NetworkPolicy;
use crate::stream::{StreamEnd, Taker};

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

    /// Told that calls of this version may come soon, as it was deployed just now. What a sandbox makes of it is up to the sandbox; never waits.
    fn expect(&self, _version: &Version) {}

    /// Makes ready what can be before anybody calls a version, and finds out whether its code can be loaded, as far as that shows without running it. Repeating it
    /// is cheap. What it finds no fault with may still fail when it is started.
    async fn check_code(&self, _version: &Version) -> Result<(), StartFailed> {
        Ok(())
    }

    /// Ends every instance, whatever it is at, so that its calls fail at once. For a daemon that stops and has waited long enough; what ends with the daemon's
    /// own process by itself may go on until then. Whether there was anything to end: if not, waiting for it is in vain.
    fn end_calls(&self) -> bool {
        false
    }

    /// How instances came up. None are counted by a sandbox that knows one way only.
    fn starts(&self) -> StartCounts {
        StartCounts::default()
    }

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

/// What becomes of calls that wait behind one that takes long.
pub struct Patience<'a> {
    /// How long a call takes before those behind it are taken back.
    pub limit: Duration,
    /// Told which were taken back ([`Instance::take_back`]).
    pub returned: &'a mut (dyn FnMut(&[RequestId]) + Send),
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Something to be done in a moment, by a thread that may wait; whether it was done.
pub type Later = Box<dyn FnOnce() -> bool + Send>;

/// What came of a call's turn.
#[derive(Debug)]
pub enum Turn {
    /// All of it: the call is over.
    Over(Outcome),
    /// Its answer comes in pieces, and the first are about to. The call is over once [`Instance::stream`] says so.
    Streams {
        /// What stands before the pieces: JSON, not checked, of at most a packet.
        prelude: Bytes,
        /// Time until then since its turn came, in microseconds.
        run_us: u64,
    },
}

/// Why no instance came up.
#[derive(Debug)]
pub enum StartFailed {
    /// The function's fault: its code could not be loaded. Callers get it as their outcome.
    Function(Failure),
    /// The platform's fault.
    Platform(Error),
}

/// One live, isolated execution environment. Runs one call at a time, in the order in which they were handed over. Dropping it destroys it, with
/// every process in it.
#[async_trait]
pub trait Instance: Send + std::fmt::Debug {
    /// Hands a call over, without waiting. Behind another one it waits at the function's side, which goes on with it without asking anybody.
    /// `false`: it was not taken, and nothing of it was seen by the function. Whether more than one call is ever taken is up to the sandbox.
    fn hand(&mut self, invocation: &Invocation) -> bool;

    /// The place of another call in the same instance, to be run at the same time: for functions that take several at once
    /// ([`crate::function::FunctionConfig::calls_at_once`]). It is one with the instance in all but its call: stopping it stops nothing, and it must be dropped
    /// before the instance is stopped. `None`: the instance runs one call at a time.
    fn seat(&self) -> Option<Box<dyn Instance>> {
        None
    }

    /// Takes calls back that the function has not begun, and answers which: they will never run here. While the instance lives the call
    /// whose turn it is stays.
    fn take_back(&mut self) -> Vec<RequestId>;

    /// The call whose outcome came last, if the function has seen nothing of it: the instance died of itself before it took it up. Another instance may run it.
    /// `None` from a sandbox that does not know.
    fn unbegun(&mut self) -> Option<Invocation> {
        None
    }

    /// What came of the first call that was handed over and has no outcome yet. Enforces its deadline: when it passes, every process of the instance is gone and
    /// the outcome is a timeout. Once an instance has died, the calls that are not taken back fail without a wait.
    ///
    /// A call whose answer comes in pieces is not over yet: [`Instance::stream`] has to follow. What waits behind it is taken back.
    ///
    /// Not cancel-safe: dropped half-way, the instance must be dropped as well.
    async fn outcome(&mut self, patience: Patience<'_>) -> Turn;

    /// Hands on the pieces of an answer that has begun, until the call is over. As long as the taker has no room nothing is read, so that the function
    /// waits when it writes. A taker that goes away changes nothing for the function: what it writes is dropped. The deadline holds as for any call.
    ///
    /// Not cancel-safe: dropped half-way, the instance must be dropped as well.
    async fn stream(&mut self, taker: Taker<'_>) -> StreamEnd;

    /// Whether it can serve another call. `false` after a timeout, an exit, a broken protocol; also if it died while idle.
    fn alive(&self) -> bool;

    /// How long its start took.
    fn start_timings(&self) -> StartTimings;

    /// Asks for it to stand still until the next call is handed over; only while it has no call. What has to be done for that is handed back, to be done
    /// off any lock and whenever there is time: whether it stands still then. A call that was handed over meanwhile goes first. `None`: it
    /// stands still already, or cannot.
    fn freeze(&mut self) -> Option<Later> {
        None
    }

    /// Whether it stands still.
    fn is_frozen(&self) -> bool {
        false
    }

    /// How long it took to let it go on for a call that was handed over since this was asked last, in microseconds; 0: it did not stand still.
    fn thaw_us(&mut self) -> u64 {
        0
    }

    /// Ends it and returns once every process of it is gone.
    async fn stop(self: Box<Self>);
}
