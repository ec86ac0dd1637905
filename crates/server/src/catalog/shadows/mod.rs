//! What the shadows of aliases showed.
//!
//! [`Catalog::watch_shadows`] runs as long as the daemon. It compares the pairs of answers that the engine hands out ([`compare`]) and sums up
//! what they showed ([`record`]): in memory first, and within a second in a document of the alias. What is in memory is only what came since, so
//! a crash loses no more than that, and several daemons may add to one document.

mod compare;
mod record;

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use engine::Shadowed;
use model::api::ShadowReport;
use model::error::Code;
use model::ids::{AliasName, FunctionKey, FunctionRef, Qualifier, RequestId};
use model::{Result, keys};

use super::aliases::no_alias;
use super::{CHANGE_ATTEMPTS, Catalog, busy, expect};
use record::Record;

/// How long what was shown is in memory only.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Pairs that are compared in one go.
const BATCH: usize = 64;
/// Aliases with something in memory; pairs of further ones are not counted.
const ALIASES: usize = 1_000;

/// Which alias of which function.
type Id = (RequestId, AliasName);

/// What was shown and is in no document yet.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    fresh: std::sync::Mutex<HashMap<Id, Fresh>>,
    /// Held while something goes from memory to a document: whoever reads both holds it too.
    flushing: tokio::sync::Mutex<()>,
}

/// What an alias's shadow showed since its document was written.
#[derive(Clone, Debug)]
struct Fresh {
    function: FunctionKey,
    record: Record,
}

impl Shadows {
    fn add(&self, id: Id, fresh: Fresh) {
        let mut all = self.fresh();
        if all.len() >= ALIASES && !all.contains_key(&id) {
            return;
        }
        let function = fresh.function;
        let known = all.remove(&id).map(|known| known.record).unwrap_or_default();
        all.insert(id, Fresh { function, record: known.and(fresh.record) });
    }

    fn fresh(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Fresh>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    /// Records what shadows show, until the engine is gone.
    pub(crate) async fn watch_shadows(&self) {
        let Some(mut pairs) = self.engine.shadow_pairs() else { return };
        let mut flush_at: Option<Instant> = None;
        let mut batch = Vec::new();
        loop {
            // What comes after a pause is stored at once, and then not again before a second is over.
            let now = self.clock.instant();
            tokio::select! {
                received = pairs.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    self.record(std::mem::take(&mut batch)).await;
                    flush_at.get_or_insert(now + FLUSH_EVERY);
                }
                () = self.clock.sleep_until(flush_at.unwrap_or(now)), if flush_at.is_some() => {
                    self.flush_shadows().await;
                    // What could not be written is tried again.
                    let retry_at = self.clock.instant() + FLUSH_EVERY;
                    flush_at = (!self.shadows.fresh().is_empty()).then_some(retry_at);
                }
            }
        }
        self.flush_shadows().await;
    }

    async fn record(&self, news: Vec<Shadowed>) {
        // Comparing takes milliseconds: not on a thread that serves calls.
        let compared = tokio::task::spawn_blocking(move || {
            let compared = news.into_iter().map(|news| match news {
                Shadowed::Pair(pair) => {
                    let record = Record::of(&pair, compare::compare(&pair));
                    ((pair.function_id, pair.alias), Fresh { function: pair.function, record })
                }
                Shadowed::Skipped(skips) => {
                    let record = Record::of_skips(&skips);
                    ((skips.function_id, skips.alias), Fresh { function: skips.function, record })
                }
            });
            compared.collect::<Vec<_>>()
        });
        match compared.await {
            Ok(compared) => {
                compared.into_iter().for_each(|(id, fresh)| self.shadows.add(id, fresh))
            }
            Err(error) => tracing::error!(%error, "answers of shadows cannot be compared"),
        }
    }

    async fn flush_shadows(&self) {
        let ids: Vec<Id> = self.shadows.fresh().keys().cloned().collect();
        for id in ids {
            let _flushing = self.shadows.flushing.lock().await;
            let Some(fresh) = self.shadows.fresh().remove(&id) else { continue };
            let qualifier = Qualifier::Alias(id.1.clone());
            let target = FunctionRef { key: fresh.function.clone(), qualifier };
            if self.engine.settings(&target).is_err_and(|e| e.code() == Code::NotFound) {
                // Deleted meanwhile: nobody would remove the document any more.
                continue;
            }
            if let Err(error) = self.flush_shadow(&id, &fresh.record).await {
                tracing::warn!(%error, alias = %target, "what a shadow showed is not stored yet; trying again");
                // There is nothing newer: only whoever watches adds to it.
                self.shadows.add(id, fresh);
            }
        }
    }

    async fn flush_shadow(&self, id: &Id, record: &Record) -> Result<()> {
        let key = keys::shadow(&id.0, &id.1);
        for _ in 0..CHANGE_ATTEMPTS {
            let stored = self.read::<Record>(&key).await?;
            let expect = expect(stored.as_ref());
            let known = stored.map(|stored| stored.value).unwrap_or_default();
            match self.write(&key, expect, &known.and(record.clone()).bounded()).await {
                Err(e) if e.code() == Code::Conflict => {}
                written => return written.map(|_| ()),
            }
        }
        Err(busy("the report of a shadow"))
    }

    /// What the shadow of an alias showed so far; `not-found` if there is no such alias.
    pub(crate) async fn shadow_report(
        &self,
        key: &FunctionKey,
        alias: &AliasName,
    ) -> Result<ShadowReport> {
        let function = self.function_record(key).await?;
        if !function.aliases.contains_key(alias) {
            return Err(no_alias(key, alias));
        }
        let id = (function.id, alias.clone());
        let _flushing = self.shadows.flushing.lock().await;
        let stored = self.read::<Record>(&keys::shadow(&id.0, &id.1)).await?;
        let known = stored.map(|stored| stored.value).unwrap_or_default();
        let fresh = self.shadows.fresh().get(&id).map(|fresh| fresh.record.clone());
        Ok(known.and(fresh.unwrap_or_default()).into())
    }

    /// Forgets what the shadow of an alias showed. Never fails: what stays behind is only a report, and is logged.
    pub(crate) async fn forget_shadow(&self, id: &RequestId, alias: &AliasName) {
        let _flushing = self.shadows.flushing.lock().await;
        self.shadows.fresh().remove(&(*id, alias.clone()));
        let key = keys::shadow(id, alias);
        if let Err(error) = self.remove_shadow(&key).await {
            tracing::warn!(%error, key, "the report of a shadow stays behind");
        }
    }

    async fn remove_shadow(&self, key: &str) -> Result<()> {
        for _ in 0..CHANGE_ATTEMPTS {
            let Some(entry) = self.meta.get(key).await? else { return Ok(()) };
            match self.meta.delete_if(key, entry.revision).await {
                Err(e) if e.code() == Code::Conflict => {}
                deleted => return deleted.map(|_| ()),
            }
        }
        Err(busy("the report of a shadow"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let shadows = Shadows::default();
        let function = FunctionRef::parse("default", "f").unwrap().key;
        let add = |n: usize| {
            let id = (RequestId::from_bytes([0; 16]), format!("a{n}").parse().unwrap());
            shadows.add(id, Fresh { function: function.clone(), record: Record::default() });
        };
        (0..=ALIASES).for_each(add);
        assert_eq!(shadows.fresh().len(), ALIASES);
        add(0);
        assert_eq!(shadows.fresh().len(), ALIASES);
    }
}
