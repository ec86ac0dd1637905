//! Background work: named, cancellable, drained at shutdown. The only door to `tokio::spawn`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

/// A group of tasks that end together. Clones share the group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
    /// The same as `cancel`, readable without its lock.
    ending: Arc<AtomicBool>,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires when the group shall end: loops select on it.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Whether the group shall end. Takes no lock, so the hot path may ask.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Runs `future` in the caller's own task and answers with its output. If the caller goes away before the end, a task of this
    /// group goes on with it. The drain waits for it either way.
    ///
    /// What a task for each call would cost, two wake-ups and a table entry, is only paid when a caller does go away.
    pub fn run_to_end<F>(&self, name: &'static str, future: F) -> RunToEnd<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        RunToEnd {
            future: Some(Box::pin(future)),
            name,
            tasks: self.clone(),
            _counted: self.tracker.token(),
        }
    }

    /// Starts a task that lives until it ends or, if it ignores [`Tasks::cancelled`], until the drain's grace is over.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "the one place that may")]
        tokio::spawn(
            self.tracker.track_future(future.instrument(tracing::debug_span!("task", name))),
        )
    }

    /// Starts a task that is aborted as soon as the group is cancelled.
    pub fn spawn_until_cancelled<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        self.spawn(name, async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = future => {}
            }
        })
        .abort_handle()
    }

    /// Tasks that have not ended.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Cancels the group and waits until all tasks have ended, at most `grace`. Returns how many had not.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.ending.store(true, Ordering::Release);
        self.cancel.cancel();
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}

/// See [`Tasks::run_to_end`].
#[must_use = "nothing runs until it is awaited"]
pub struct RunToEnd<T: Send + 'static> {
    /// `None` once it has ended.
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    name: &'static str,
    tasks: Tasks,
    /// Makes a drain wait.
    _counted: TaskTrackerToken,
}

impl<T: Send + 'static> std::fmt::Debug for RunToEnd<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunToEnd").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.future else {
            // Polled again after its end, which the trait leaves open: nothing more will come.
            return Poll::Pending;
        };
        let ended = future.as_mut().poll(cx);
        if ended.is_ready() {
            self.future = None;
        }
        ended
    }
}

impl<T: Send + 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the daemon itself is ending.
        if let (Some(future), Ok(_)) = (self.future.take(), tokio::runtime::Handle::try_current()) {
            drop(self.tasks.spawn(self.name, future));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_and_counts_those_that_stay() {
        let tasks = Tasks::new();
        let cancel = tasks.cancelled();
        tasks.spawn("polite", async move { cancel.cancelled().await });
        tasks.spawn_until_cancelled("endless", std::future::pending());
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);

        assert!(tasks.is_ending());

        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_millis(20)).await, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_runs_to_its_end_does_so_without_its_caller() {
        let (tasks, ended) = (Tasks::new(), Arc::new(AtomicUsize::new(0)));
        let work = |ms| {
            let ended = Arc::clone(&ended);
            tasks.run_to_end("work", async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                ended.fetch_add(1, Ordering::SeqCst)
            })
        };
        assert_eq!(work(1).await, 0);
        assert!(tokio::time::timeout(Duration::from_millis(5), work(60)).await.is_err());
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
        assert_eq!(ended.load(Ordering::SeqCst), 2, "the drain waited for it");
    }
}
