//! Brings every secret of the catalogue under the vault's newest key: one step of changing keys, in a store that no daemon uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::function::{Function, Variable, Version};
use model::ids::FunctionKey;
use model::keys;
use model::ports::{Entry, Expect, Meta, Vault};
use model::secret::SecretPlace;
use model::{Code, Error, Result, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets of functions and versions that are under the newest key now and were not before.
    pub secrets: usize,
    /// Secrets that cannot be opened: `NAMESPACE/FUNCTION[:VERSION] VARIABLE`. They were left as they are.
    pub unopened: Vec<String>,
}

/// Reseals the secrets of all functions and published versions. Documents without secrets are not written. May be cut off and run
/// again. Fails with `conflict` if somebody changes a document meanwhile.
pub async fn reseal(meta: &Arc<dyn Meta>, vault: &dyn Vault) -> Result<Resealed> {
    let mut done = Resealed::default();
    each(meta, keys::FUNCTIONS, |function: &mut Function| {
        let label = function.key().to_string();
        let key = function.latest.key.clone();
        environment(vault, &key, &label, &mut function.latest.config.environment, &mut done)
    })
    .await?;
    each(meta, keys::VERSIONS, |version: &mut Version| {
        let label = format!("{}:{}", version.key, version.number.unwrap_or_default());
        let key = version.key.clone();
        environment(vault, &key, &label, &mut version.config.environment, &mut done)
    })
    .await?;
    Ok(done)
}

/// Lets `change` look at every document under `prefix`, and writes those that it changed.
async fn each<T: Serialize + DeserializeOwned>(
    meta: &Arc<dyn Meta>,
    prefix: &str,
    mut change: impl FnMut(&mut T) -> bool,
) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let entries = meta.list(prefix, after.as_deref(), limits::PAGE_ENTRIES).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for Entry { key, value, revision } in entries {
            let mut document: T = serde_json::from_slice(&value).map_err(|e| {
                Error::platform(Code::StorageUnusable, format!("the record '{key}' cannot be read"))
                    .with_source(e)
            })?;
            if change(&mut document) {
                let bytes = serde_json::to_vec(&document).map_err(Error::internal)?;
                meta.put_if(&key, Expect::Revision(revision), bytes.into()).await?;
            }
        }
    }
}

/// Reseals one environment; says whether it was changed.
fn environment(
    vault: &dyn Vault,
    function: &FunctionKey,
    label: &str,
    environment: &mut BTreeMap<String, Variable>,
    done: &mut Resealed,
) -> bool {
    let mut changed = false;
    for (variable, value) in environment {
        let Variable::Sealed { sealed } = value else { continue };
        match vault.reseal(SecretPlace { function, variable }, sealed) {
            Ok(None) => {}
            Ok(Some(new)) => {
                *sealed = new;
                done.secrets += 1;
                changed = true;
            }
            Err(_) => done.unopened.push(format!("{label} {variable}")),
        }
    }
    changed
}
