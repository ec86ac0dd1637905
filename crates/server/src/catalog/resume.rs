//! What a daemon that died left half done, finished after the next start: deletions that were not cleared away, creations that were not undone
//! though their namespace had gone, functions that did not follow their layer yet. Harmless until then.

use std::collections::HashMap;

use model::function::Function;
use model::ids::NamespaceName;
use model::layer::Layer;
use model::{Result, keys, limits};

use super::record::{Document, Intent};
use super::{Catalog, Stored, decode};

impl Catalog {
    /// Finishes what was left half done. Errors are logged; the next start tries again.
    pub(crate) async fn resume(&self) {
        if let Err(error) = self.resume_functions().await {
            tracing::error!(%error, "deleted functions are not cleared away");
        }
        if let Err(error) = self.resume_layers().await {
            tracing::error!(%error, "deleted layers are not cleared away");
        }
        if let Err(error) = self.follow_all().await {
            tracing::error!(%error, "functions do not follow their layers");
        }
    }

    async fn resume_functions(&self) -> Result<()> {
        for function in self.clear_all::<Function>(keys::FUNCTIONS).await? {
            self.delete_function(function.key(), &undone()).await?;
        }
        Ok(())
    }

    async fn resume_layers(&self) -> Result<()> {
        for layer in self.clear_all::<Layer>(keys::LAYERS).await? {
            self.delete_layer(&layer.key, &undone()).await?;
        }
        Ok(())
    }

    /// Clears deleted documents away; answers with those whose namespace is gone.
    async fn clear_all<D: Document>(&self, prefix: &str) -> Result<Vec<D>> {
        let (mut orphans, mut stands) = (Vec::new(), HashMap::new());
        let mut after: Option<String> = None;
        loop {
            let entries = self.meta.list(prefix, after.as_deref(), limits::PAGE_ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(orphans) };
            after = Some(last.key.clone());
            for entry in &entries {
                let stored: Stored<D> = decode(entry)?;
                if stored.value.deleted() {
                    self.clear(&entry.key, &stored).await?;
                    continue;
                }
                let name = entry.key.strip_prefix(prefix).and_then(|rest| rest.split('/').next());
                let Some(name) = name.and_then(|name| name.parse::<NamespaceName>().ok()) else {
                    continue;
                };
                let there = match stands.get(&name) {
                    Some(there) => *there,
                    None => self.has_namespace(&name).await?,
                };
                stands.insert(name, there);
                if !there {
                    orphans.push(stored.value);
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

fn undone() -> Intent {
    Intent::daemon("its namespace is deleted")
}
