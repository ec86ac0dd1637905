//! Work on files, on threads that may block, so much of it at once.

use std::sync::Arc;

use model::{Error, Result};
use tokio::sync::Semaphore;

use crate::fault;

/// How much of it may be done at once; further callers wait.
#[derive(Debug)]
pub(super) struct AtOnce {
    permits: Arc<Semaphore>,
    most: u32,
}

impl AtOnce {
    pub(super) fn new(most: u32) -> Self {
        Self { permits: Arc::new(Semaphore::new(most as usize)), most }
    }

    /// Runs `work` on a blocking thread; `unavailable` once closed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.map_err(|_| fault::closed())?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .map_err(Error::internal)?
    }

    /// Waits for what runs and refuses the rest.
    pub(super) async fn close(&self) {
        drop(self.permits.acquire_many(self.most).await);
        self.permits.close();
    }
}
