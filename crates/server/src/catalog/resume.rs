//! What a daemon that died left half done, finished after the next start: deletions that were not cleared away, creations that were not undone
//! though their namespace had gone, functions that did not follow their layer yet. Harmless until then.

use std::collections::HashMap;

use model::function::Function;
use model::ids::NamespaceName;
use model::layer::{Layer, LayerAt};
use model::namespace::Namespace;
use model::{Result, keys, limits};

use super::Catalog;
use super::record::{Document, Intent};

impl Catalog {
    /// Finishes what was left half done. Errors are logged; the next start tries again.
    pub(crate) async fn resume(&self) {
        if let Err(error) = self.resume_functions().await {
            tracing::error!(%error, "deleted functions are not cleared away");
        }
        if let Err(error) = self.resume_layers().await {
            tracing::error!(%error, "deleted layers are not cleared away");
        }
        if let Err(error) = self.clear_namespaces().await {
            tracing::error!(%error, "deleted namespaces are not cleared away");
        }
        // It holds several documents of functions: boxed, the task of all this is small.
        if let Err(error) = Box::pin(self.follow_all()).await {
            tracing::error!(%error, "functions do not follow their layers");
        }
    }

    async fn resume_functions(&self) -> Result<()> {
        for function in self.clear_orphans::<Function>(keys::FUNCTIONS).await? {
            self.delete_function(function.key(), &undone()).await?;
        }
        Ok(())
    }

    async fn resume_layers(&self) -> Result<()> {
        for layer in self.clear_orphans::<Layer>(keys::LAYERS).await? {
            self.delete_layer(&layer.key, &undone()).await?;
        }
        Ok(())
    }

    /// Clears deleted documents away; answers with those whose namespace is gone.
    async fn clear_orphans<D: Document>(&self, prefix: &str) -> Result<Vec<D>> {
        let (mut orphans, mut stands) = (Vec::new(), HashMap::new());
        let mut after = None;
        while let Some(documents) = self.walk::<D>(prefix, &mut after, limits::PAGE_ENTRIES).await?
        {
            for (key, stored) in documents {
                if stored.value.deleted() {
                    self.clear(&key, &stored).await?;
                    continue;
                }
                let name = key.strip_prefix(prefix).and_then(|rest| rest.split('/').next());
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
        Ok(orphans)
    }

    async fn clear_namespaces(&self) -> Result<()> {
        let mut after = None;
        while let Some(namespaces) =
            self.walk::<Namespace>(keys::NAMESPACES, &mut after, limits::PAGE_ENTRIES).await?
        {
            for (key, gone) in namespaces.into_iter().filter(|(_, n)| n.value.deleted) {
                self.clear(&key, &gone).await?;
            }
        }
        Ok(())
    }

    /// Each function that refers to an alias of a layer gets what that means now.
    async fn follow_all(&self) -> Result<()> {
        let mut after = None;
        while let Some(functions) =
            self.walk::<Function>(keys::FUNCTIONS, &mut after, limits::PAGE_ENTRIES).await?
        {
            for (_, stored) in functions {
                let Function { latest, deleted, .. } = stored.value;
                let aliased = |at: &LayerAt| matches!(at, LayerAt::Alias(_));
                if deleted || !latest.config.layers.iter().any(|layer| aliased(&layer.at)) {
                    continue;
                }
                let reason = "a layer had moved on when the daemon started";
                if let Err(error) = self.follow_layers(&latest.key, reason).await {
                    tracing::error!(%error, function = %latest.key, "the function does not follow its layers");
                }
            }
        }
        Ok(())
    }
}

fn undone() -> Intent {
    Intent::daemon("its namespace is deleted")
}
