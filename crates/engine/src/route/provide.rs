//! Provisioned instances: which pools keep how many started, by the function's document and the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::Result;
use model::clock::UnixMillis;
use model::ids::{FunctionRef, Qualifier, VersionRef};

use super::pools::PoolKey;
use super::ready::{ALL, Way};
use super::{Lead, Route, Routes};

/// What is kept started for a version or an alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Instances that are to be there now.
    pub wanted: u32,
    /// Those of them that are, busy or idle.
    pub ready: u32,
}

impl Route {
    /// Instances that are to be there now for a qualifier.
    pub(super) fn wanted(&self, qualifier: &Qualifier, now: UnixMillis) -> u32 {
        self.provisioned.get(qualifier).map_or(0, |provisioned| provisioned.at(now))
    }

    /// The pools of a qualifier, each with its part of `instances`.
    fn parts(&self, qualifier: &Qualifier, instances: u32) -> Vec<(PoolKey, VersionRef, usize)> {
        let ways = match qualifier {
            Qualifier::Latest => self.ways(None),
            Qualifier::Alias(name) => self.ways(Some(name)),
            Qualifier::Version(number) => {
                let version = VersionRef::Number(*number);
                let key = self.pool_key(version, None);
                key.map(|key| vec![Way { key, version, share: ALL, weighted: ALL }])
            }
        };
        let part = |way: Way| {
            // Nobody knows how many calls a rule takes: one is there for them.
            let part = (u64::from(instances) * way.weighted).div_ceil(ALL).max(1);
            (way.key, way.version, usize::try_from(part).unwrap_or(usize::MAX))
        };
        ways.unwrap_or_default().into_iter().filter(|_| instances > 0).map(part).collect()
    }

    /// How many instances each pool keeps started now.
    fn kept_started(self: &Arc<Self>, now: UnixMillis) -> HashMap<PoolKey, (Lead, usize)> {
        let mut kept: HashMap<PoolKey, (Lead, usize)> = HashMap::new();
        for qualifier in self.provisioned.keys() {
            let alias = match qualifier {
                Qualifier::Alias(name) => self.aliases.get(name),
                _ => None,
            };
            for (key, version, part) in self.parts(qualifier, self.wanted(qualifier, now)) {
                let lead = || Lead { route: Arc::clone(self), version, alias: alias.cloned() };
                let (_, most) = kept.entry(key).or_insert_with(|| (lead(), 0));
                *most = part.max(*most);
            }
        }
        kept
    }
}

impl Routes {
    /// Sees to it that every pool keeps as many instances started as it is to.
    pub(crate) async fn provide(&self, now: UnixMillis) {
        let routes: Vec<Arc<Route>> = {
            let map = self.map.pin();
            let concerned = |route: &&Arc<Route>| {
                !route.provisioned.is_empty() || route.kept.provides.load(Ordering::Relaxed)
            };
            map.values().filter(concerned).cloned().collect()
        };
        for route in routes {
            let kept = route.kept_started(now);
            route.kept.provides.store(!kept.is_empty(), Ordering::Relaxed);
            let keys: Vec<PoolKey> = kept.keys().copied().collect();
            route.kept.pools.others(&keys).iter().for_each(|pool| pool.keep_started(0));
            for (lead, instances) in kept.into_values() {
                match self.pool_of(&lead, lead.version).await {
                    Ok(pool) => pool.keep_started(instances),
                    Err(error) => {
                        tracing::warn!(function = %route.key, %error, "cannot keep instances started");
                    }
                }
            }
        }
    }

    /// What is kept started for a target.
    pub(crate) fn readiness(&self, target: &FunctionRef, now: UnixMillis) -> Result<Readiness> {
        let (route, _) = self.find(target)?;
        let wanted = route.wanted(&target.qualifier, now);
        let parts = route.parts(&target.qualifier, wanted).into_iter();
        let there = parts.filter_map(|(key, _, part)| {
            Some(route.kept.pools.get(&key)?.started_count().min(part))
        });
        let ready = u32::try_from(there.sum::<usize>()).unwrap_or(u32::MAX).min(wanted);
        Ok(Readiness { wanted, ready })
    }
}
