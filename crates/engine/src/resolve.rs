//! From a name to the pool that serves it: a local cache of all functions, kept current by a watch on the catalogue.
//!
//! Reads take no lock shared by all calls. A call of an unknown name costs no trip to the store: the cache is complete.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use model::error::Error;
use model::function::{Function, FunctionSettings, Version, VersionSummary};
use model::ids::{FunctionKey, FunctionRef, Qualifier, RequestId};
use model::keys;
use model::namespace::Namespace;
use model::ports::{Change, Meta, Revision};
use model::{Result, ids};
use tokio::sync::watch;

use crate::admit::Quota;
use crate::config::EngineConfig;
use crate::pool::{Pool, PoolDeps};

/// One function as calls see it. Replaced whole by every change of the function.
#[derive(Debug)]
struct Route {
    id: RequestId,
    settings: Arc<FunctionSettings>,
    latest: Arc<Version>,
    latest_pool: OnceLock<Arc<Pool>>,
    /// The published versions, by number.
    published: Vec<VersionSummary>,
    /// Kept from route to route: published versions do not change.
    published_pools: Arc<papaya::HashMap<u64, Arc<Pool>>>,
    /// Kept from route to route: instances of all versions together.
    instances: Arc<Quota>,
}

impl Route {
    fn pools(&self) -> Vec<Arc<Pool>> {
        let published = self.published_pools.pin().values().cloned().collect::<Vec<_>>();
        self.latest_pool.get().cloned().into_iter().chain(published).collect()
    }
}

/// What a target resolved to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The version that a call would run.
    pub version: Arc<Version>,
    /// The function's settings.
    pub settings: Arc<FunctionSettings>,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Routes {
    map: papaya::HashMap<FunctionKey, Arc<Route>>,
    meta: Arc<dyn Meta>,
    pools: Arc<PoolDeps>,
    instances_default: u32,
    /// What shares of memory are shares of.
    host_memory_mb: u64,
    seen: watch::Sender<Revision>,
}

impl Routes {
    pub(crate) fn new(meta: Arc<dyn Meta>, pools: Arc<PoolDeps>, config: &EngineConfig) -> Self {
        Self {
            map: papaya::HashMap::new(),
            meta,
            pools,
            instances_default: config.instances_per_function,
            host_memory_mb: config.host_memory_mb,
            seen: watch::Sender::new(0),
        }
    }

    /// The version that a call of `target` would run.
    pub(crate) async fn resolve(&self, target: &FunctionRef) -> Result<Resolved> {
        let route = self.route(&target.key)?;
        let version = match &target.qualifier {
            Qualifier::Latest => Arc::clone(&route.latest),
            q => Arc::clone(&self.published_pool(&route, q, target).await?.version),
        };
        Ok(Resolved { version, settings: Arc::clone(&route.settings) })
    }

    /// The pool that serves `target`.
    pub(crate) async fn pool(&self, target: &FunctionRef) -> Result<Arc<Pool>> {
        let route = self.route(&target.key)?;
        match &target.qualifier {
            Qualifier::Latest => {
                let make = || self.new_pool(&route.latest, &route);
                Ok(Arc::clone(route.latest_pool.get_or_init(make)))
            }
            q => self.published_pool(&route, q, target).await,
        }
    }

    fn route(&self, key: &FunctionKey) -> Result<Arc<Route>> {
        self.map.pin().get(key).cloned().ok_or_else(|| {
            Error::not_found("function", key)
                .with_hint("list the functions there are with `hanshu list`")
        })
    }

    fn new_pool(&self, version: &Arc<Version>, route: &Route) -> Arc<Pool> {
        Pool::new(Arc::clone(version), Arc::clone(&route.instances), Arc::clone(&self.pools))
    }

    async fn published_pool(
        &self,
        route: &Route,
        qualifier: &Qualifier,
        target: &FunctionRef,
    ) -> Result<Arc<Pool>> {
        let missing = || Error::not_found("function version", target);
        let Qualifier::Version(number) = qualifier else { return Err(missing()) };
        let found = route.published.binary_search_by_key(number, |v| v.number);
        let summary = found.ok().and_then(|at| route.published.get(at)).ok_or_else(missing)?;
        if let Some(pool) = route.published_pools.pin().get(number) {
            return Ok(Arc::clone(pool));
        }
        let key = keys::version_of(&route.id, summary);
        let entry = self.meta.get(&key).await?.ok_or_else(missing)?;
        let mut version: Version = serde_json::from_slice(&entry.value).map_err(Error::internal)?;
        version.config.resolve_memory(self.host_memory_mb);
        let pools = route.published_pools.pin();
        Ok(Arc::clone(
            pools.get_or_insert_with(*number, || self.new_pool(&Arc::new(version), route)),
        ))
    }

    /// Waits until the change `revision` has been applied.
    pub(crate) async fn caught_up(&self, revision: Revision) -> Result<()> {
        let mut seen = self.seen.subscribe();
        let waited = seen.wait_for(|seen| *seen >= revision).await;
        waited.map(drop).map_err(Error::internal)
    }

    /// Drops the functions that are not among `names` (`NAMESPACE/NAME`): they were deleted while nobody watched.
    pub(crate) fn retain(&self, names: &HashSet<String>) {
        let gone: Vec<String> = {
            let map = self.map.pin();
            map.keys().map(ToString::to_string).filter(|name| !names.contains(name)).collect()
        };
        for name in gone {
            self.remove(&name);
        }
    }

    /// Applies one change of the catalogue.
    pub(crate) fn apply(&self, change: &Change) {
        if let Some(rest) = change.key.strip_prefix(keys::FUNCTIONS) {
            match &change.value {
                Some(value) => match serde_json::from_slice::<Function>(value) {
                    Ok(function) => self.put(function),
                    Err(e) => tracing::error!(key = change.key, error = %e, "unreadable function"),
                },
                None => self.remove(rest),
            }
        } else if let Some(name) = change.key.strip_prefix(keys::NAMESPACES) {
            self.apply_namespace(name, change.value.as_deref());
        }
        self.advance(change.revision);
    }

    /// Nothing older than `revision` is still to come.
    pub(crate) fn advance(&self, revision: Revision) {
        self.seen.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
    }

    fn apply_namespace(&self, name: &str, value: Option<&[u8]>) {
        let Ok(name) = name.parse::<ids::NamespaceName>() else { return };
        let limit = value
            .and_then(|v| serde_json::from_slice::<Namespace>(v).ok())
            .and_then(|namespace| namespace.settings.quotas.instances);
        self.pools.admission.set_namespace_limit(&name, limit);
    }

    fn put(&self, function: Function) {
        let key = function.key().clone();
        let limit = function.settings.max_instances.unwrap_or(self.instances_default);
        let old = self.map.pin().get(&key).cloned();
        let old = match old {
            Some(old) if old.id != function.id => {
                self.retire(&old);
                None
            }
            other => other,
        };
        let latest_pool = OnceLock::new();
        let mut latest = function.latest;
        latest.config.resolve_memory(self.host_memory_mb);
        let mut latest = Arc::new(latest);
        if let Some(old) = &old
            && old.latest.fingerprint() == latest.fingerprint()
        {
            // The same code and configuration: its instances stay.
            latest = Arc::clone(&old.latest);
            if let Some(pool) = old.latest_pool.get() {
                latest_pool.get_or_init(|| Arc::clone(pool));
            }
        }
        let route = Arc::new(Route {
            id: function.id,
            settings: Arc::new(function.settings),
            latest,
            latest_pool,
            published: function.versions,
            published_pools: old
                .as_ref()
                .map_or_else(Arc::default, |o| Arc::clone(&o.published_pools)),
            instances: old
                .as_ref()
                .map_or_else(|| Arc::new(Quota::new(limit)), |o| Arc::clone(&o.instances)),
        });
        route.instances.set_limit(limit);
        self.map.pin().insert(key, Arc::clone(&route));
        let Some(old_pool) = old.as_ref().and_then(|o| o.latest_pool.get()) else { return };
        if !route.latest_pool.get().is_some_and(|p| Arc::ptr_eq(p, old_pool)) {
            old_pool.retire();
        }
    }

    fn remove(&self, path: &str) {
        let Some((namespace, name)) = path.split_once('/') else { return };
        let (Ok(namespace), Ok(name)) = (namespace.parse(), name.parse()) else { return };
        let removed = self.map.pin().remove(&FunctionKey { namespace, name }).cloned();
        if let Some(route) = removed {
            self.retire(&route);
        }
    }

    fn retire(&self, route: &Route) {
        for pool in route.pools() {
            pool.retire();
        }
    }
}
