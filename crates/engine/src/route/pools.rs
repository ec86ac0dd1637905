//! The pools of one function: one for each version that was called, and one more for each environment of an alias over it.

use std::sync::Arc;

use model::function::{Fingerprint, Version};

use super::alias::Overlay;
use crate::pool::Pool;

/// What the instances of a pool have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    /// `None` for `$LATEST`.
    pub(super) number: Option<u64>,
    /// Of the version.
    pub(super) body: Fingerprint,
    /// Of the alias's environment.
    pub(super) overlay: Option<Fingerprint>,
}

/// The pools of one function.
#[derive(Debug, Default)]
pub(super) struct Pools(papaya::HashMap<PoolKey, Arc<Pool>>);

impl Pools {
    pub(super) fn get(&self, key: &PoolKey) -> Option<Arc<Pool>> {
        self.0.pin().get(key).cloned()
    }

    /// The pool that is there, else `pool`, which is now.
    pub(super) fn get_or_add(&self, key: PoolKey, pool: &Arc<Pool>) -> Arc<Pool> {
        Arc::clone(self.0.pin().get_or_insert_with(key, || Arc::clone(pool)))
    }

    pub(super) fn remove(&self, key: &PoolKey) {
        self.0.pin().remove(key);
    }

    /// All of them but `but`.
    pub(super) fn others(&self, but: &[PoolKey]) -> Vec<Arc<Pool>> {
        let map = self.0.pin();
        map.iter().filter(|(key, _)| !but.contains(key)).map(|(_, pool)| Arc::clone(pool)).collect()
    }

    /// Retires the pools that `keep` does not want, and that no change holds: calls in flight end on their instances.
    pub(super) fn retain(&self, keep: impl Fn(&PoolKey) -> bool) {
        let map = self.0.pin();
        let unwanted = |(key, pool): &(&PoolKey, &Arc<Pool>)| !keep(key) && !pool.is_held();
        let gone: Vec<_> = map.iter().filter(unwanted).collect();
        for (key, pool) in gone {
            map.remove(key);
            pool.retire();
        }
    }
}

impl Overlay {
    /// The version with this environment over its own.
    pub(super) fn over(&self, version: &Version) -> Version {
        let mut version = version.clone();
        let variables = self.environment.iter().map(|(name, value)| (name.clone(), value.clone()));
        version.config.environment.extend(variables);
        version
    }
}
