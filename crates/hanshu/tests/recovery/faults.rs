//! The queue, and a process that dies of `SIGKILL` just before or just after a step of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::Result;
use model::ids::RequestId;
use model::ports::{
    Again, Batch, Begun, CutNote, Depth, End, Enqueued, Lane, LaneWatch, Listing, NewMessage,
    Queue, Record, Standing, Summary, Token,
};
use rustix::process::{Signal, getpid, kill_process};

const STEPS: [&str; 9] =
    ["enqueue", "begin", "lease", "extend", "again", "end", "cancel", "redrive", "reclaim"];

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which of [`STEPS`].
    step: usize,
    /// What the step did is on disk, and nobody knows.
    after: bool,
    /// The how manyth time.
    times: u32,
}

impl Fault {
    /// One before and one after each step.
    pub(crate) fn all() -> Vec<Self> {
        let both = |step| {
            [false, true].map(|after| {
                let times = match STEPS[step] {
                    "enqueue" | "lease" | "end" => 1 + u32::from(after) * 7,
                    _ => 1,
                };
                Self { step, after, times }
            })
        };
        (0..STEPS.len()).flat_map(both).collect()
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::all().into_iter().find(|fault| fault.to_string() == word)
    }

    /// Whether leases have to be renewed for it to come.
    pub(crate) fn is_of_long_calls(self) -> bool {
        STEPS[self.step] == "extend"
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.after { "after" } else { "before" };
        write!(f, "{when}-{}-{}", STEPS[self.step], self.times)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mortal {
    inner: Arc<dyn Queue>,
    fault: Option<Fault>,
    seen: AtomicU32,
}

impl Mortal {
    pub(crate) fn new(inner: Arc<dyn Queue>, fault: Option<Fault>) -> Self {
        Self { inner, fault, seen: AtomicU32::new(0) }
    }

    async fn step<T>(&self, name: &str, does: impl Future<Output = Result<T>>) -> Result<T> {
        self.at(name, false);
        let result = does.await;
        if result.is_ok() {
            self.at(name, true);
        }
        result
    }

    fn at(&self, name: &str, after: bool) {
        let Some(fault) = self.fault else { return };
        if STEPS[fault.step] == name
            && fault.after == after
            && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == fault.times
        {
            kill_process(getpid(), Signal::KILL).unwrap();
            // It comes at once, to whichever thread.
            loop {
                std::thread::park();
            }
        }
    }
}

#[async_trait]
impl Queue for Mortal {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        self.step("enqueue", self.inner.enqueue(messages)).await
    }

    async fn begin(&self, message: NewMessage, ttl: Duration) -> Result<Begun> {
        self.step("begin", self.inner.begin(message, ttl)).await
    }

    async fn lease(&self, lane: &Lane, n: usize, ttl: Duration) -> Result<Batch> {
        self.step("lease", self.inner.lease(lane, n, ttl)).await
    }

    async fn extend(&self, id: RequestId, token: Token, ttl: Duration) -> Result<()> {
        self.step("extend", self.inner.extend(id, token, ttl)).await
    }

    async fn again(&self, id: RequestId, token: Token, again: Again) -> Result<()> {
        self.step("again", self.inner.again(id, token, again)).await
    }

    async fn end(&self, id: RequestId, token: Token, end: End) -> Result<()> {
        self.step("end", self.inner.end(id, token, end)).await
    }

    async fn withdraw(&self, id: RequestId, token: Token) -> Result<()> {
        self.inner.withdraw(id, token).await
    }

    async fn cancel(&self, id: RequestId, note: Bytes, keep: Duration) -> Result<Standing> {
        self.step("cancel", self.inner.cancel(id, note, keep)).await
    }

    async fn redrive(&self, id: RequestId) -> Result<()> {
        self.step("redrive", self.inner.redrive(id)).await
    }

    async fn forget(&self, id: RequestId) -> Result<bool> {
        self.inner.forget(id).await
    }

    async fn reclaim(&self, note: CutNote) -> Result<usize> {
        self.step("reclaim", self.inner.reclaim(note)).await
    }

    async fn find(&self, id: RequestId) -> Result<Option<Record>> {
        self.inner.find(id).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Summary>> {
        self.inner.list(listing).await
    }

    fn depths(&self) -> Vec<(Lane, Depth)> {
        self.inner.depths()
    }

    fn depth(&self, lane: &Lane) -> Depth {
        self.inner.depth(lane)
    }

    fn group_depth(&self, group: &str) -> Depth {
        self.inner.group_depth(group)
    }

    fn watch(&self) -> Box<dyn LaneWatch> {
        self.inner.watch()
    }
}
