//! From a target to the pool that serves it: a local cache of all functions, kept current by a watch on the catalogue.
//!
//! The way of a call is [`Routes::lead`], the function's [`Route`] and the version that the target means ([`alias`], [`choose`], [`event`]), then
//! [`Routes::pool`], the pool of that version ([`pools`]). [`apply`] follows the catalogue, [`ready`] makes
//! pools ready for what it brings next, [`provide`] keeps instances started. [`explain`] says in words what a call would do.
//!
//! Reads take no lock shared by all calls. A call of an unknown name costs no trip to the store: the cache is complete.

pub(crate) mod alias;
mod apply;
mod choose;
mod event;
mod explain;
mod pools;
mod provide;
mod ready;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use model::Result;
use model::alias::Parameters;
use model::error::{Code, Error};
use model::function::{Fingerprint, FunctionSettings, Version, VersionSummary};
use model::ids::{AliasName, FunctionKey, FunctionRef, Qualifier, RequestId, VersionRef};
use model::invocation::Call;
use model::keys;
use model::ports::{Meta, Revision};
use model::provisioned::Provisioned;
use tokio::sync::watch;

use crate::admit::Share;
use crate::backlog::Entering;
use crate::config::EngineConfig;
use crate::namespace::Namespace;
use crate::pool::{Pool, PoolDeps};
use crate::shift::Shifting;
use alias::{AliasRoute, Overlay};
pub(crate) use event::Fields;
use pools::{PoolKey, Pools};
pub use provide::Readiness;
pub(crate) use ready::Holds;

/// How often a call looks again whose version was deleted between its look at the route and its look at the store.
const LOOKS: usize = 3;

/// One function as calls see it. Replaced whole by every change of the function.
#[derive(Debug)]
pub(crate) struct Route {
    key: FunctionKey,
    id: RequestId,
    pub(crate) settings: Arc<FunctionSettings>,
    latest: Arc<Version>,
    latest_fingerprint: Fingerprint,
    /// The published versions, by number.
    published: Vec<VersionSummary>,
    aliases: HashMap<AliasName, Arc<AliasRoute>>,
    /// Those of them that shift.
    shifting: Vec<Arc<AliasRoute>>,
    /// Instances that are kept started.
    provisioned: BTreeMap<Qualifier, Provisioned>,
    /// Environments of its aliases.
    overlays: HashSet<Fingerprint>,
    /// Bytes of its packages.
    code_bytes: u64,
    namespace: Arc<Namespace>,
    kept: Arc<Kept>,
}

/// What a function keeps from route to route.
#[derive(Debug)]
struct Kept {
    pools: Pools,
    share: Arc<Share>,
    /// What is on its way into the queue.
    entering: Arc<Entering>,
    /// Whether any pool may keep instances started.
    provides: AtomicBool,
}

/// What a route is chosen by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a FunctionRef,
    pub(crate) id: &'a RequestId,
    /// What rules and sticky keys may read besides the event.
    pub(crate) parameters: &'a dyn Parameters,
    pub(crate) event: &'a [u8],
}

impl<'a> Asked<'a> {
    pub(crate) fn of(call: &'a Call, parameters: &'a dyn Parameters) -> Self {
        Self { target: &call.target, id: &call.id, parameters, event: &call.payload }
    }
}

/// Where a call goes.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    pub(crate) route: Arc<Route>,
    pub(crate) version: VersionRef,
    /// The alias that the call named.
    pub(crate) alias: Option<Arc<AliasRoute>>,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Routes {
    map: papaya::HashMap<FunctionKey, Arc<Route>>,
    /// Functions with an alias that shifts: they are looked at often, and are few of many.
    shifting: papaya::HashSet<FunctionKey>,
    /// Bytes of the packages of each layer, by its key in the catalogue.
    layers: papaya::HashMap<String, u64>,
    meta: Arc<dyn Meta>,
    pools: Arc<PoolDeps>,
    instances_default: u32,
    /// What shares of memory are shares of.
    host_memory_mb: u64,
    seen: watch::Sender<Revision>,
}

impl Route {
    fn published(&self, number: u64) -> Option<&VersionSummary> {
        let found = self.published.binary_search_by_key(&number, |v| v.number).ok()?;
        self.published.get(found)
    }

    /// Where the pool of a version under an overlay lies; `None` for a version that is not there.
    fn pool_key(&self, version: VersionRef, overlay: Option<&Overlay>) -> Option<PoolKey> {
        let number = version.number();
        let body = match number {
            None => self.latest_fingerprint,
            Some(number) => self.published(number)?.fingerprint,
        };
        Some(PoolKey { number, body, overlay: overlay.map(|overlay| overlay.id) })
    }

    /// Whether a call may need the pool.
    fn keeps(&self, key: &PoolKey) -> bool {
        let body = match key.number {
            None => Some(self.latest_fingerprint),
            Some(number) => self.published(number).map(|listed| listed.fingerprint),
        };
        body == Some(key.body) && key.overlay.is_none_or(|overlay| self.overlays.contains(&overlay))
    }

    fn alias(&self, name: &AliasName, target: &FunctionRef) -> Result<&Arc<AliasRoute>> {
        self.aliases.get(name).ok_or_else(|| Error::not_found("alias", target))
    }

    pub(crate) fn key(&self) -> &FunctionKey {
        &self.key
    }

    /// Tells two functions apart that had the same name one after the other.
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// What of its calls is on its way into the queue.
    pub(crate) fn entering(&self) -> &Arc<Entering> {
        &self.kept.entering
    }

    /// The namespace that it lives in.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Routes {
    pub(crate) fn new(meta: Arc<dyn Meta>, pools: Arc<PoolDeps>, config: &EngineConfig) -> Self {
        Self {
            map: papaya::HashMap::new(),
            shifting: papaya::HashSet::new(),
            layers: papaya::HashMap::new(),
            meta,
            pools,
            instances_default: config.instances_per_function,
            host_memory_mb: config.host_memory_mb,
            seen: watch::Sender::new(0),
        }
    }

    /// The function of a target that exists, and the alias that it names.
    pub(crate) fn find(
        &self,
        target: &FunctionRef,
    ) -> Result<(Arc<Route>, Option<Arc<AliasRoute>>)> {
        let route = self.route(&target.key)?;
        let alias = match &target.qualifier {
            Qualifier::Latest => None,
            Qualifier::Version(number) => {
                route.published(*number).ok_or_else(|| missing(target))?;
                None
            }
            Qualifier::Alias(name) => Some(Arc::clone(route.alias(name, target)?)),
        };
        Ok((route, alias))
    }

    /// The settings of a function, if there is one.
    pub(crate) fn settings(&self, key: &FunctionKey) -> Option<Arc<FunctionSettings>> {
        self.map.pin().get(key).map(|route| Arc::clone(&route.settings))
    }

    /// The settings of a function and its `$LATEST`, if there is one.
    pub(crate) fn latest(
        &self,
        key: &FunctionKey,
    ) -> Option<(Arc<FunctionSettings>, Arc<Version>)> {
        let map = self.map.pin();
        map.get(key).map(|route| (Arc::clone(&route.settings), Arc::clone(&route.latest)))
    }

    /// Where a call goes.
    pub(crate) fn lead(&self, asked: Asked<'_>) -> Result<Lead> {
        let Asked { target, id, parameters, event } = asked;
        let (route, alias) = self.find(target)?;
        let version = match (&alias, &target.qualifier) {
            (Some(alias), _) => {
                alias.choose(id, parameters, event).ok_or_else(|| missing(target))?
            }
            (None, Qualifier::Version(number)) => VersionRef::Number(*number),
            (None, _) => VersionRef::Latest,
        };
        Ok(Lead { route, version, alias })
    }

    /// The pool that serves a call which goes by `lead`, or where it would go by now.
    pub(crate) async fn pool(&self, asked: Asked<'_>, lead: Lead) -> Result<(Lead, Arc<Pool>)> {
        let (mut lead, mut looks) = (lead, 1);
        loop {
            match self.pool_of(&lead, lead.version).await {
                Ok(pool) => return Ok((lead, pool)),
                Err(e) if e.code() == Code::NotFound && looks < LOOKS => looks += 1,
                Err(e) => return Err(e),
            }
            lead = self.lead(asked)?;
        }
    }

    /// The pool of a version, with the environment of the alias that the call named.
    pub(crate) async fn pool_of(&self, lead: &Lead, version: VersionRef) -> Result<Arc<Pool>> {
        let Lead { route, alias, .. } = lead;
        let overlay = alias.as_ref().and_then(|alias| alias.overlay.as_ref());
        let missing =
            || missing(&FunctionRef { key: route.key.clone(), qualifier: version.into() });
        let key = route.pool_key(version, overlay).ok_or_else(missing)?;
        if let Some(pool) = route.kept.pools.get(&key) {
            return Ok(pool);
        }
        let body = self.body_of(route, version, overlay).await?;
        Ok(self.add_pool(route, key, body))
    }

    /// What instances of a version run, under an overlay.
    async fn body_of(
        &self,
        route: &Route,
        version: VersionRef,
        overlay: Option<&Overlay>,
    ) -> Result<Arc<Version>> {
        let missing =
            || missing(&FunctionRef { key: route.key.clone(), qualifier: version.into() });
        let body = match version.number() {
            None => Arc::clone(&route.latest),
            Some(number) => {
                let summary = route.published(number).ok_or_else(missing)?;
                let stored = self.meta.get(&keys::version_of(&route.id, summary)).await?;
                let stored = stored.ok_or_else(missing)?;
                let mut version: Version =
                    serde_json::from_slice(&stored.value).map_err(Error::internal)?;
                version.config.resolve_memory(self.host_memory_mb);
                Arc::new(version)
            }
        };
        Ok(match overlay {
            None => body,
            Some(overlay) => Arc::new(overlay.over(&body)),
        })
    }

    /// The pool that serves a call which came to `pool`, now that this one is retired; `None` if no other does: what it would run is gone.
    pub(crate) async fn moved(&self, lead: &Lead, pool: &Arc<Pool>) -> Result<Option<Arc<Pool>>> {
        let version = lead.version;
        let qualifier = lead.alias.as_ref().map(|alias| Qualifier::Alias(alias.name.clone()));
        let qualifier = qualifier.unwrap_or(version.into());
        let target = FunctionRef { key: lead.route.key.clone(), qualifier };
        let found = self.find(&target).ok().filter(|(route, _)| route.id == lead.route.id);
        let Some((route, alias)) = found else { return Ok(None) };
        match self.pool_of(&Lead { route, version, alias }, version).await {
            Ok(next) => Ok(Some(next).filter(|next| !Arc::ptr_eq(next, pool))),
            Err(e) if e.code() == Code::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn add_pool(&self, route: &Route, key: PoolKey, version: Arc<Version>) -> Arc<Pool> {
        let pools = &route.kept.pools;
        let made = self.new_pool(route, version);
        let pool = pools.get_or_add(key, &made);
        if Arc::ptr_eq(&pool, &made) {
            self.pools.registry.add(&pool);
            // Whoever replaced the route meanwhile may have looked through the pools before this one was there.
            let map = self.map.pin();
            let now = map.get(&route.key).filter(|now| now.id == route.id);
            if !now.is_some_and(|now| now.keeps(&key)) && !pool.is_held() {
                pools.remove(&key);
                pool.retire();
            }
        }
        pool
    }

    fn new_pool(&self, route: &Route, version: Arc<Version>) -> Arc<Pool> {
        let (share, namespace) = (Arc::clone(&route.kept.share), Arc::clone(&route.namespace));
        Pool::new(version, share, namespace, Arc::clone(&self.pools))
    }

    /// A function.
    pub(crate) fn route(&self, key: &FunctionKey) -> Result<Arc<Route>> {
        self.map.pin().get(key).cloned().ok_or_else(|| {
            Error::not_found("function", key)
                .with_hint("list the functions there are with `hanshu list`")
        })
    }

    /// Every alias that shifts.
    pub(crate) fn shifts(&self) -> Vec<Shifting> {
        let (shifting, map) = (self.shifting.pin(), self.map.pin());
        let routes = shifting.iter().filter_map(|key| map.get(key));
        let aliases = routes.flat_map(|route| route.shifting.iter().map(move |a| (route, a)));
        let shifts = aliases.filter_map(|(route, alias)| {
            let (rollout, counters) = alias.shift.as_ref()?;
            Some(Shifting {
                function: route.key.clone(),
                alias: alias.name.clone(),
                rollout: rollout.clone(),
                samples: counters.samples(),
            })
        });
        shifts.collect()
    }

    /// Waits until the change `revision` has been applied.
    pub(crate) async fn caught_up(&self, revision: Revision) -> Result<()> {
        let mut seen = self.seen.subscribe();
        let waited = seen.wait_for(|seen| *seen >= revision).await;
        waited.map(drop).map_err(Error::internal)
    }
}

fn missing(target: &FunctionRef) -> Error {
    Error::not_found("function version", target)
}
