//! Brings every secret of the catalogue under the vault's newest key: one step of changing keys, in a store that no daemon uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::change::{Change, Lying};
use model::function::{Function, FunctionState, Variable, Version};
use model::ids::FunctionKey;
use model::keys;
use model::ports::{Entry, Expect, Meta, Vault};
use model::secret::{Sealed, SecretPlace};
use model::{Code, Error, Result, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{self, KeyRecord};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets of functions, aliases, versions, kept changes and access keys that are under the newest key now and were not before.
    pub secrets: usize,
    /// Secrets that cannot be opened: `NAMESPACE/FUNCTION[:VERSION] VARIABLE`, or the key whose access key it is. They were left as they are.
    pub unopened: Vec<String>,
}

/// Reseals the secrets of all functions with their aliases, of published versions, of what is kept of either's changes, and of access keys. Documents without
/// secrets are not written. May be cut off and run again. Fails with `conflict` if somebody changes a document meanwhile.
pub async fn reseal(meta: &Arc<dyn Meta>, vault: &dyn Vault) -> Result<Resealed> {
    let mut done = Resealed::default();
    each(meta, keys::FUNCTIONS, |_, function: &mut Function| {
        let key = function.latest.key.clone();
        let mut places = vec![(key.to_string(), &mut function.latest.config.environment)];
        for (name, record) in &mut function.aliases {
            places.push((format!("{key}:{name}"), &mut record.alias.environment));
        }
        if let Some(change) = &mut function.change {
            places.extend(of_change(&key, change));
        }
        let resealed =
            places.into_iter().map(|(label, e)| environment(vault, &key, &label, e, &mut done));
        // Every one, not only up to the first that changed.
        resealed.fold(false, |changed, one| changed | one)
    })
    .await?;
    each(meta, keys::VERSIONS, |_, version: &mut Version| {
        let label = format!("{}:{}", version.key, version.number.unwrap_or_default());
        let key = version.key.clone();
        environment(vault, &key, &label, &mut version.config.environment, &mut done)
    })
    .await?;
    let functions = keys::history_of(keys::FUNCTIONS.trim_end_matches('/'));
    each(meta, &functions, |document, change: &mut Change<FunctionState>| {
        let Some(key) = function_of(&functions, document) else { return false };
        let resealed = of_change(&key, change)
            .into_iter()
            .map(|(label, e)| environment(vault, &key, &label, e, &mut done));
        resealed.fold(false, |changed, one| changed | one)
    })
    .await?;
    each(meta, auth::KEYS, |document, record: &mut KeyRecord| {
        let name = document.strip_prefix(auth::KEYS).unwrap_or(document);
        let (Some(access), Some(namespace)) = (&mut record.access_key, &record.namespace) else {
            return false;
        };
        let Ok(place) = auth::place_of(name, namespace) else { return false };
        let label = format!("key {name}: its access key");
        reseal_one(vault, SecretPlace::access_key(&place), &mut access.secret, label, &mut done)
    })
    .await?;
    Ok(done)
}

/// The function whose kept change lies under `document`.
fn function_of(prefix: &str, document: &str) -> Option<FunctionKey> {
    let mut parts = document.strip_prefix(prefix)?.split('/');
    let (namespace, name) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(FunctionKey { namespace, name })
}

/// The environments that a change tells of.
fn of_change<'a>(
    key: &FunctionKey,
    change: &'a mut Change<FunctionState>,
) -> Vec<(String, &'a mut BTreeMap<String, Variable>)> {
    let label = format!("{key} at revision {}", change.revision);
    let states = [&mut change.before, &mut change.after].into_iter().flatten();
    let environments = states.filter_map(|state| match state {
        FunctionState::Function { latest, .. } => Some(&mut latest.config.environment),
        FunctionState::Alias { alias, .. } => Some(&mut alias.environment),
        FunctionState::Version(_) | FunctionState::Provisioned(_) => None,
    });
    environments.map(|environment| (label.clone(), environment)).collect()
}

/// Lets `change` look at every document under `prefix`, and writes those that it changed.
async fn each<T: Serialize + DeserializeOwned>(
    meta: &Arc<dyn Meta>,
    prefix: &str,
    mut change: impl FnMut(&str, &mut T) -> bool,
) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let entries = meta.list(prefix, after.as_deref(), limits::PAGE_ENTRIES).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for Entry { key, value, revision } in entries {
            let lying = Lying::<T>::read(&value).map_err(|e| {
                Error::platform(Code::StorageUnusable, format!("the record '{key}' cannot be read"))
                    .with_source(e)
            })?;
            let Lying::Document(mut document) = lying else { continue };
            if change(&key, &mut document) {
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
        let place = SecretPlace { function, variable };
        changed |= reseal_one(vault, place, sealed, format!("{label} {variable}"), done);
    }
    changed
}

/// Reseals one secret; says whether it was changed.
fn reseal_one(
    vault: &dyn Vault,
    place: SecretPlace<'_>,
    sealed: &mut Sealed,
    label: String,
    done: &mut Resealed,
) -> bool {
    match vault.reseal(place, sealed) {
        Ok(None) => false,
        Ok(Some(new)) => {
            *sealed = new;
            done.secrets += 1;
            true
        }
        Err(_) => {
            done.unopened.push(label);
            false
        }
    }
}
