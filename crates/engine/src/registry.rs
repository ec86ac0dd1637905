//! All pools, for whoever looks after them: reports of use, idle instances that have to go.

use std::sync::Arc;
use std::time::Instant;

use crate::pool::Pool;

/// Every pool that has, or may soon have, instances or unreported use. Read by the slow paths only.
#[derive(Debug, Default)]
pub(crate) struct Registry(papaya::HashMap<usize, Arc<Pool>>);

impl Registry {
    pub(crate) fn add(&self, pool: &Arc<Pool>) {
        self.0.pin().insert(Arc::as_ptr(pool).addr(), Arc::clone(pool));
    }

    pub(crate) fn remove(&self, pool: &Pool) {
        self.0.pin().remove(&std::ptr::from_ref(pool).addr());
    }

    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        self.0.pin().values().cloned().collect()
    }

    /// Stops the idle instance that is worth least, other than those of `except`. Whether there was one.
    pub(crate) fn evict_one(
        &self,
        now: Instant,
        except: &Pool,
        fits: impl Fn(&Pool) -> bool,
    ) -> bool {
        let pools = self.all();
        let candidates = pools.iter().filter(|p| !std::ptr::eq(p.as_ref(), except) && fits(p));
        let least = candidates
            .filter_map(|pool| Some((pool.worth(now)?, pool)))
            .min_by(|(a, _), (b, _)| a.total_cmp(b));
        least.is_some_and(|(_, pool)| pool.evict())
    }
}
