//! Leases where there is one node: always granted to it. Fences still ascend for ever, also over restarts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::Result;
use model::clock::Clock;
use model::ports::{Fence, Lease};

use super::db::Db;

/// Name in `number` of the last fence given.
const FENCE: &str = "lease-fence";

/// [`Lease`] for a single node.
#[derive(Debug)]
pub(crate) struct EmbeddedLease {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    held: Mutex<HashMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    fence: Fence,
    until: Instant,
}

impl EmbeddedLease {
    pub(crate) fn new(db: Arc<Db>, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Lease for EmbeddedLease {
    async fn acquire(&self, name: &str, ttl: Duration) -> Result<Option<Fence>> {
        let fence = self
            .db
            .write(|tx| {
                let fence = tx
                    .conn
                    .prepare_cached(
                        "INSERT INTO number (name, value) VALUES (?1, 1)
                         ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                    )?
                    .query_row([FENCE], |row| row.get(0))?;
                Ok(Fence(fence))
            })
            .await?;
        let now = self.clock.instant();
        let mut held = self.held();
        held.retain(|_, h| h.until > now);
        // Two acquisitions may come back in either order: the higher fence holds.
        if held.get(name).is_none_or(|h| h.fence < fence) {
            held.insert(name.to_owned(), Held { fence, until: now + ttl });
        }
        Ok(Some(fence))
    }

    async fn renew(&self, name: &str, fence: Fence, ttl: Duration) -> Result<bool> {
        let now = self.clock.instant();
        Ok(match self.held().get_mut(name) {
            Some(h) if h.fence == fence && h.until > now => {
                h.until = now + ttl;
                true
            }
            _ => false,
        })
    }

    async fn release(&self, name: &str, fence: Fence) -> Result<()> {
        let mut held = self.held();
        if held.get(name).is_some_and(|h| h.fence == fence) {
            held.remove(name);
        }
        Ok(())
    }
}
