//! What a change of a function's document needs before it takes effect: pools with as many instances as what they replace is using.
//!
//! A change is looked at by entry: `$LATEST`, and each alias. Where an entry leads to a pool more than before, and what it led to before is alive, that
//! pool gets its share of the instances. Numbered versions never change, and nobody waits for a shadow.

use std::collections::HashMap;
use std::sync::Arc;

use model::Result;
use model::clock::UnixMillis;
use model::function::Function;
use model::ids::{AliasName, Qualifier, RequestId, VersionRef};

use super::alias::AliasRoute;
use super::pools::PoolKey;
use super::{Kept, Lead, Route, Routes};
use crate::pool::Pool;

/// Most instances that are started ahead for one pool, unless more are provisioned.
const AHEAD_MAX: usize = 10;
/// All calls of an entry.
pub(super) const ALL: u64 = 1_000_000;

/// One pool that calls of an entry may reach.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) key: PoolKey,
    pub(super) version: VersionRef,
    /// Of the entry's calls, in parts of [`ALL`], at most.
    pub(super) share: u64,
    /// By weights alone.
    pub(super) weighted: u64,
}

/// A pool that a change needs.
#[derive(Debug)]
struct Need {
    lead: Lead,
    key: PoolKey,
    instances: usize,
    /// One of those that it takes calls from.
    from: (PoolKey, Arc<Pool>),
}

/// Pools that are held for a change, of one function.
#[derive(Debug)]
pub(crate) struct Holds {
    route: Arc<Route>,
    /// Each with the number of instances that it shall have.
    pub(crate) pools: Vec<(Arc<Pool>, usize)>,
    keys: Vec<PoolKey>,
    /// Which of those that are new is relieved by which of those that are replaced, which is held as well.
    reliefs: Vec<Relief>,
}

/// A pool whose code is fresh, and the one that serves what would wait there.
#[derive(Debug)]
struct Relief {
    fresh: Arc<Pool>,
    by: Arc<Pool>,
    by_key: PoolKey,
}

impl Route {
    /// Where calls of an entry may go: `$LATEST`, or an alias. `None` for an alias that is not there.
    pub(super) fn ways(&self, entry: Option<&AliasName>) -> Option<Vec<Way>> {
        let Some(name) = entry else {
            let key = self.pool_key(VersionRef::Latest, None)?;
            return Some(vec![Way { key, version: VersionRef::Latest, share: ALL, weighted: ALL }]);
        };
        let AliasRoute { alias, overlay, .. } = &**self.aliases.get(name)?;
        let sum: u64 = alias.targets.iter().map(|target| u64::from(target.weight)).sum();
        let weighted = alias.targets.iter().filter(|target| target.weight > 0);
        let shares = weighted.map(|t| {
            let share = (u64::from(t.weight) * ALL).div_ceil(sum.max(1));
            (t.version, share, share)
        });
        // Nobody knows how many calls a rule takes.
        let ruled = alias.rules.iter().map(|rule| (rule.to, ALL, 0));
        let mut ways: Vec<Way> = Vec::new();
        for (version, share, weighted) in ruled.chain(shares) {
            let Some(key) = self.pool_key(version, overlay.as_ref()) else { continue };
            match ways.iter_mut().find(|way| way.key == key) {
                Some(way) => {
                    way.share = way.share.max(share);
                    way.weighted = way.weighted.max(weighted);
                }
                None => ways.push(Way { key, version, share, weighted }),
            }
        }
        Some(ways)
    }

    /// Whether any pool of the function has instances or calls that wait.
    fn is_live(&self) -> bool {
        self.kept.pools.others(&[]).iter().any(|pool| pool.demand().is_some())
    }

    /// The pools that `next` needs and this route does not have, or not with that many instances.
    fn needs(&self, next: &Arc<Self>, now: UnixMillis) -> Vec<Need> {
        let limit = usize::try_from(self.kept.share.instances.limit()).unwrap_or(usize::MAX);
        let mut needs: HashMap<PoolKey, Need> = HashMap::new();
        for entry in std::iter::once(None).chain(next.aliases.keys().map(Some)) {
            let (Some(before), Some(after)) = (self.ways(entry), next.ways(entry)) else {
                continue;
            };
            let pools = before.iter().filter_map(|w| Some((w.key, self.kept.pools.get(&w.key)?)));
            let live: Vec<_> = pools.filter_map(|from| Some((from.1.demand()?, from))).collect();
            let Some((_, from)) = live.iter().max_by_key(|(busy, _)| *busy) else { continue };
            let demand = live.iter().map(|(busy, _)| busy).sum::<usize>();
            let kept = entry.map_or(Qualifier::Latest, |name| Qualifier::Alias(name.clone()));
            let kept = usize::try_from(next.wanted(&kept, now)).unwrap_or(usize::MAX);
            let (demand, most) = (demand.max(kept).max(1), AHEAD_MAX.max(kept).min(limit));
            for Way { key, version, share, .. } in after {
                let had = before.iter().find(|way| way.key == key).map_or(0, |way| way.share);
                let wanted = (demand as u64 * share).div_ceil(ALL);
                let wanted = usize::try_from(wanted).unwrap_or(most).min(most);
                if share <= had || wanted == 0 {
                    continue;
                }
                let alias = entry.and_then(|name| next.aliases.get(name).cloned());
                let lead = Lead { route: Arc::clone(next), version, alias };
                let need = || Need { lead, key, instances: wanted, from: from.clone() };
                let need = needs.entry(key).or_insert_with(need);
                need.instances = need.instances.max(wanted);
            }
        }
        needs.into_values().collect()
    }
}

impl Holds {
    /// Calls that have ended where others are relieved, and whether any of those is still fresh.
    pub(crate) fn settling(&self) -> (u64, bool) {
        let ended = self.reliefs.iter().flat_map(|r| [&r.fresh, &r.by]);
        let ended = ended.map(|pool| u64::from(pool.ended())).sum();
        (ended, self.reliefs.iter().any(|relief| !relief.fresh.is_warm()))
    }
}

impl Routes {
    /// Holds the pools that a function needs whose document is to be `next`; `None` if no call would miss anything.
    pub(crate) async fn hold(&self, next: &Function, now: UnixMillis) -> Result<Option<Holds>> {
        let key = next.key().clone();
        let old = self.map.pin().get(&key).filter(|old| old.id == next.id).cloned();
        let Some(old) = old.filter(|old| !next.deleted && old.is_live()) else { return Ok(None) };
        let route = Arc::new(self.route_of(next.clone(), Some(&old)));
        let needs = old.needs(&route, now);
        if needs.is_empty() {
            return Ok(None);
        }
        let (pools, keys, reliefs) = (Vec::new(), Vec::new(), Vec::new());
        let mut holds = Holds { route, pools, keys, reliefs };
        for need in needs {
            match self.hold_one(&need).await {
                Ok(pool) => {
                    let (by_key, by) = need.from;
                    pool.follow(&by);
                    if by.is_busy() && !pool.is_warm() && !Arc::ptr_eq(&by, &pool) && by.hold() {
                        pool.relieve(Some(&by));
                        holds.reliefs.push(Relief { fresh: Arc::clone(&pool), by, by_key });
                    }
                    holds.pools.push((pool, need.instances));
                    holds.keys.push(need.key);
                }
                Err(error) => {
                    self.let_go(&holds);
                    return Err(error);
                }
            }
        }
        Ok(Some(holds))
    }

    async fn hold_one(&self, need: &Need) -> Result<Arc<Pool>> {
        let Lead { route, version, alias } = &need.lead;
        let pools = &route.kept.pools;
        loop {
            if let Some(pool) = pools.get(&need.key).filter(|pool| pool.hold()) {
                return Ok(pool);
            }
            let overlay = alias.as_ref().and_then(|alias| alias.overlay.as_ref());
            let made = self.new_pool(route, self.body_of(route, *version, overlay).await?);
            made.hold();
            let pool = pools.get_or_add(need.key, &made);
            if Arc::ptr_eq(&pool, &made) {
                self.pools.registry.add(&pool);
                return Ok(pool);
            }
        }
    }

    /// Ends a hold: pools that calls can reach by now stay, and others of the function make way for them; the rest is retired.
    pub(crate) fn let_go(&self, holds: &Holds) {
        let Kept { pools, .. } = &*holds.route.kept;
        let now = self.current(&holds.route);
        for Relief { fresh, by, by_key } in &holds.reliefs {
            fresh.relieve(None);
            if by.let_go() && !now.as_ref().is_some_and(|now| now.keeps(by_key)) {
                pools.remove(by_key);
                by.retire();
            }
        }
        let mut stay = false;
        for ((pool, _), key) in holds.pools.iter().zip(&holds.keys) {
            let unheld = pool.let_go();
            if now.as_ref().is_some_and(|now| now.keeps(key)) {
                stay = true;
            } else if unheld {
                pools.remove(key);
                pool.retire();
            }
        }
        if stay {
            pools.others(&holds.keys).iter().for_each(|pool| pool.make_way());
        }
    }

    /// The function's route as it is now, if it is still the same function.
    fn current(&self, route: &Route) -> Option<Arc<Route>> {
        let id: RequestId = route.id;
        self.map.pin().get(&route.key).filter(|now| now.id == id).cloned()
    }
}
