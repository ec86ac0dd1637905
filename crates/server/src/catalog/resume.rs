//! What a daemon that died left half done, finished after the next start: deletions that were not cleared away, functions that did not follow
//! their layer yet. Harmless until then.

use model::function::Function;
use model::layer::Layer;
use model::{Result, keys, limits};

use super::record::Document;
use super::{Catalog, Stored, decode};

impl Catalog {
    /// Finishes what was left half done. Errors are logged; the next start tries again.
    pub(crate) async fn resume(&self) {
        if let Err(error) = self.clear_all::<Function>(keys::FUNCTIONS).await {
            tracing::error!(%error, "deleted functions are not cleared away");
        }
        if let Err(error) = self.clear_all::<Layer>(keys::LAYERS).await {
            tracing::error!(%error, "deleted layers are not cleared away");
        }
        if let Err(error) = self.follow_all().await {
            tracing::error!(%error, "functions do not follow their layers");
        }
    }

    async fn clear_all<D: Document>(&self, prefix: &str) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let entries = self.meta.list(prefix, after.as_deref(), limits::PAGE_ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for entry in &entries {
                let stored: Stored<D> = decode(entry)?;
                if stored.value.deleted() {
                    self.clear(&entry.key, &stored).await?;
                }
            }
        }
    }

    async fn follow_all(&self) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let entries =
                self.meta.list(keys::LAYERS, after.as_deref(), limits::PAGE_ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for entry in &entries {
                let layer = decode::<Layer>(entry)?.value;
                for name in layer.aliases.keys() {
                    if let Err(error) = self.move_followers(&layer.key, name).await {
                        let alias = format!("{}:{name}", layer.key);
                        tracing::error!(%error, alias, "not every function follows its layer");
                    }
                }
            }
        }
    }
}
