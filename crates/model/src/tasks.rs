//! Background work: named, cancellable, drained at shutdown. The only door to `tokio::spawn`.

use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// A group of tasks that end together. Clones share the group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
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
        self.cancel.cancel();
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_and_counts_those_that_stay() {
        let tasks = Tasks::new();
        let cancel = tasks.cancelled();
        tasks.spawn("polite", async move { cancel.cancelled().await });
        tasks.spawn_until_cancelled("endless", std::future::pending());
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);

        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_millis(20)).await, 1);
    }
}
