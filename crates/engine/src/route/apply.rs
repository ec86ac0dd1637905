//! Following the catalogue: documents become routes, quotas and counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use model::alias::AliasRecord;
use model::change::Lying;
use model::function::Function;
use model::ids::{AliasName, FunctionKey, NamespaceName};
use model::keys;
use model::layer::Layer;
use model::namespace::Namespace;
use model::ports::{Change, Revision};
use serde::de::DeserializeOwned;

use super::alias::AliasRoute;
use super::pools::Pools;
use super::{Kept, Route, Routes};
use crate::admit::{Amount, Share};
use crate::namespace::Change as Count;
use crate::reserve;

/// Keys of the documents that the cache is made of.
const FOLLOWED: [&str; 3] = [keys::FUNCTIONS, keys::LAYERS, keys::NAMESPACES];

impl Routes {
    /// Applies one change of the catalogue.
    pub(crate) fn apply(&self, change: &Change) {
        let value = change.value.as_deref();
        if let Some(path) = change.key.strip_prefix(keys::FUNCTIONS) {
            match read::<Function>(&change.key, value).ok() {
                Some(Some(function)) if !function.deleted => self.put(function),
                Some(_) => self.remove(path),
                None => {}
            }
        } else if change.key.starts_with(keys::LAYERS) {
            if let Ok(layer) = read::<Layer>(&change.key, value) {
                self.put_layer(&change.key, layer.filter(|layer| !layer.deleted).as_ref());
            }
        } else if let Some(name) = change.key.strip_prefix(keys::NAMESPACES)
            && let Ok(name) = name.parse()
            && let Ok(namespace) = read::<Namespace>(&change.key, value)
        {
            let live = namespace.filter(|namespace| !namespace.deleted);
            let quotas = live.map(|namespace| namespace.settings.quotas).unwrap_or_default();
            self.pools.admission.set_quotas(&name, &quotas);
        }
        self.advance(change.revision);
    }

    /// Whether the cache is made of the document under `key`, among others.
    pub(crate) fn follows(key: &str) -> bool {
        FOLLOWED.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Nothing older than `revision` is still to come.
    pub(crate) fn advance(&self, revision: Revision) {
        self.seen.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
    }

    /// Drops what no document is left of among those under `keys`: it was deleted while nobody watched.
    pub(crate) fn retain(&self, keys: &HashSet<String>) {
        let gone: Vec<FunctionKey> = {
            let map = self.map.pin();
            map.keys().filter(|key| !keys.contains(&keys::function(key))).cloned().collect()
        };
        for key in gone {
            self.remove(&key.to_string());
        }
        let gone: Vec<String> = {
            let layers = self.layers.pin();
            layers.keys().filter(|key| !keys.contains(*key)).cloned().collect()
        };
        for key in gone {
            self.put_layer(&key, None);
        }
        let names = keys.iter().filter_map(|key| key.strip_prefix(keys::NAMESPACES));
        self.pools.admission.retain_quotas(&names.map(str::to_owned).collect());
    }

    fn put_layer(&self, key: &str, layer: Option<&Layer>) {
        let namespace = key.strip_prefix(keys::LAYERS).and_then(|path| path.split('/').next());
        let Some(Ok(namespace)) = namespace.map(str::parse::<NamespaceName>) else { return };
        let layers = self.layers.pin();
        let bytes = layer.map(|l| l.versions.iter().map(|v| v.code.size_bytes).sum::<u64>());
        let before = match bytes {
            Some(bytes) => layers.insert(key.to_owned(), bytes),
            None => layers.remove(key),
        };
        let count = Count { from: before.copied().unwrap_or(0), to: bytes.unwrap_or(0) };
        self.pools.admission.namespace(&namespace).change_use(Count::default(), count);
    }

    fn put(&self, function: Function) {
        let key = function.key().clone();
        let old = self.map.pin().get(&key).cloned();
        let old = match old {
            Some(old) if old.id != function.id => {
                self.remove(&key.to_string());
                None
            }
            other => other,
        };
        let route = Arc::new(self.route_of(function, old.as_deref()));
        self.set_limits(&route);
        let functions = Count { from: u64::from(old.is_some()), to: 1 };
        let code_bytes = Count { from: old.map_or(0, |old| old.code_bytes), to: route.code_bytes };
        route.namespace.change_use(functions, code_bytes);
        if route.shifting.is_empty() {
            self.shifting.pin().remove(&key);
        } else {
            self.shifting.pin().insert(key.clone());
        }
        self.map.pin().insert(key, Arc::clone(&route));
        route.kept.pools.retain(|key| route.keeps(key));
    }

    /// What the function may have, and has for itself. Idle instances beyond a limit that is lower now end.
    fn set_limits(&self, route: &Route) {
        let share = &route.kept.share;
        let (before, now) =
            (share.instances.limit(), route.settings.instances_max(self.instances_default));
        share.instances.set_limit(now.into());
        self.pools.admission.reserve(share, &route.namespace, reserved(route));
        if u64::from(now) < before {
            for pool in route.kept.pools.others(&[]) {
                let excess = usize::try_from(share.instances.excess()).unwrap_or(usize::MAX);
                pool.stop_idle(|_| true, excess);
            }
        }
    }

    /// Whether the host and the namespace have room for what `next` reserves, beside what others have and what is left to all.
    pub(crate) fn check_reserved(&self, next: &Function) -> model::Result<()> {
        let mut latest = next.latest.config.clone();
        latest.resolve_memory(self.host_memory_mb);
        let wanted = Amount::reserved(next.settings.reserved_instances, latest.memory_mb);
        let (mut on_host, mut in_namespace) = (wanted, wanted);
        for route in self.map.pin().values() {
            if route.key == *next.key() {
                continue;
            }
            let amount = reserved(route);
            on_host = on_host.and(amount);
            if route.key.namespace == next.key().namespace {
                in_namespace = in_namespace.and(amount);
            }
        }
        let namespace = self.pools.admission.namespace(&next.key().namespace);
        reserve::check(wanted, on_host, in_namespace, &namespace, self.host_memory_mb)
    }

    /// The route of a function's document, which `old` comes before.
    pub(super) fn route_of(&self, function: Function, old: Option<&Route>) -> Route {
        let key = function.key().clone();
        let published = function.versions.iter().map(|version| version.size_bytes);
        let code_bytes = function.latest.code.size_bytes + published.sum::<u64>();
        let limit = function.settings.instances_max(self.instances_default);
        let mut latest = function.latest;
        latest.config.resolve_memory(self.host_memory_mb);
        let latest_fingerprint = latest.fingerprint();
        let latest = match old {
            Some(old) if old.latest_fingerprint == latest_fingerprint => Arc::clone(&old.latest),
            _ => Arc::new(latest),
        };
        let aliases = compile(&key, function.aliases, old);
        let kept = old.map_or_else(
            || {
                let share = Arc::new(Share::new(limit));
                Arc::new(Kept {
                    pools: Pools::default(),
                    share,
                    entering: Arc::default(),
                    provides: AtomicBool::new(false),
                })
            },
            |old| Arc::clone(&old.kept),
        );
        Route {
            id: function.id,
            settings: Arc::new(function.settings),
            latest,
            latest_fingerprint,
            published: function.versions,
            shifting: aliases.values().filter(|alias| alias.shift.is_some()).cloned().collect(),
            provisioned: function
                .provisioned
                .into_iter()
                .map(|(q, p)| (q, p.provisioned))
                .collect(),
            overlays: aliases.values().filter_map(|a| Some(a.overlay.as_ref()?.id)).collect(),
            aliases,
            code_bytes,
            namespace: self.pools.admission.namespace(&key.namespace),
            kept,
            key,
        }
    }

    fn remove(&self, path: &str) {
        let Some((namespace, name)) = path.split_once('/') else { return };
        let (Ok(namespace), Ok(name)) = (namespace.parse(), name.parse()) else { return };
        let key = FunctionKey { namespace, name };
        self.shifting.pin().remove(&key);
        let removed = self.map.pin().remove(&key).cloned();
        if let Some(route) = removed {
            route.kept.pools.retain(|_| false);
            let nothing = Amount::default();
            self.pools.admission.reserve(&route.kept.share, &route.namespace, nothing);
            let gone = |from| Count { from, to: 0 };
            route.namespace.change_use(gone(1), gone(route.code_bytes));
        }
    }
}

/// What a function has for itself.
fn reserved(route: &Route) -> Amount {
    Amount::reserved(route.settings.reserved_instances, route.latest.config.memory_mb)
}

fn compile(
    key: &FunctionKey,
    aliases: BTreeMap<AliasName, AliasRecord>,
    old: Option<&Route>,
) -> HashMap<AliasName, Arc<AliasRoute>> {
    let compiled = aliases.into_iter().map(|(name, record)| {
        let before = old.and_then(|old| old.aliases.get(&name));
        let alias = AliasRoute::new(key, &name, record, before);
        (name, alias)
    });
    compiled.collect()
}

/// A document, if there is one; `Err` if it cannot be read, which is logged.
fn read<T: DeserializeOwned>(key: &str, value: Option<&[u8]>) -> Result<Option<T>, ()> {
    let lying = value.map(Lying::read).transpose().map_err(|error| {
        tracing::error!(key, %error, "a document of the catalogue cannot be read");
    })?;
    Ok(lying.and_then(Lying::document))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_is_no_document_and_no_fault() {
        let tombstone: &[u8] = br#"{"deleted":true,"revision":7,"next_version":3}"#;
        assert_eq!(read::<Function>("function/default/f", Some(tombstone)), Ok(None));
        assert_eq!(read::<Layer>("layer/default/l", Some(tombstone)), Ok(None));
        assert_eq!(read::<Namespace>("namespace/n", Some(tombstone)), Ok(None));
        assert_eq!(read::<Layer>("layer/default/l", Some(b"{}")), Err(()));
    }
}
