//! Whether one more instance may live: per function, per namespace, per host memory.
//!
//! A [`Permit`] is the right to one instance; dropping it gives the right back and wakes the pools that were refused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::ids::NamespaceName;
use tokio::sync::Notify;

use crate::pool::Pool;

/// A count with a limit that may change while it is in use.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: AtomicU32,
    used: AtomicU32,
}

impl Quota {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit: AtomicU32::new(limit), used: AtomicU32::new(0) }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn try_take(&self) -> bool {
        let limit = self.limit();
        self.used
            .try_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used < limit).then(|| used + 1)
            })
            .is_ok()
    }

    fn give(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Which limit stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Function,
    Namespace,
    HostMemory,
}

/// The limits that all pools share.
#[derive(Debug)]
pub(crate) struct Admission {
    memory_limit_mb: u64,
    memory_used_mb: AtomicU64,
    namespace_default: u32,
    namespaces: papaya::HashMap<NamespaceName, Arc<Quota>>,
    starved: Mutex<VecDeque<Weak<Pool>>>,
    /// Length of `starved`, for the hot path to look at without the lock.
    starving: AtomicUsize,
    freed: Notify,
}

impl Admission {
    pub(crate) fn new(memory_limit_mb: u64, namespace_default: u32) -> Self {
        Self {
            memory_limit_mb,
            memory_used_mb: AtomicU64::new(0),
            namespace_default,
            namespaces: papaya::HashMap::new(),
            starved: Mutex::default(),
            starving: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// The namespace's quota; made with the default limit when first asked for.
    pub(crate) fn namespace(&self, name: &NamespaceName) -> Arc<Quota> {
        let map = self.namespaces.pin();
        let make = || Arc::new(Quota::new(self.namespace_default));
        Arc::clone(map.get_or_insert_with(name.clone(), make))
    }

    /// Sets a namespace's limit; `None` is the default.
    pub(crate) fn set_namespace_limit(&self, name: &NamespaceName, limit: Option<u32>) {
        self.namespace(name).set_limit(limit.unwrap_or(self.namespace_default));
        self.freed.notify_one();
    }

    /// The right to one more instance of `memory_mb`.
    pub(crate) fn admit(
        self: &Arc<Self>,
        function: &Arc<Quota>,
        namespace: &Arc<Quota>,
        memory_mb: u32,
    ) -> Result<Permit, Denied> {
        if !function.try_take() {
            return Err(Denied::Function);
        }
        if !namespace.try_take() {
            function.give();
            return Err(Denied::Namespace);
        }
        let wanted = u64::from(memory_mb);
        let memory = self.memory_used_mb.try_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            (used + wanted <= self.memory_limit_mb).then_some(used + wanted)
        });
        if memory.is_err() {
            namespace.give();
            function.give();
            return Err(Denied::HostMemory);
        }
        Ok(Permit {
            admission: Arc::clone(self),
            function: Arc::clone(function),
            namespace: Arc::clone(namespace),
            memory_mb,
        })
    }

    /// Remembers a pool that has waiters and was refused, until something is given back.
    pub(crate) fn starve(&self, pool: Weak<Pool>) {
        let mut starved = self.starved.lock().unwrap_or_else(PoisonError::into_inner);
        if !starved.iter().any(|p| p.ptr_eq(&pool)) {
            starved.push_back(pool);
            self.starving.store(starved.len(), Ordering::Release);
        }
    }

    /// An instance went idle: a refused pool may have it stopped in favour of its own.
    pub(crate) fn idled(&self) {
        if self.starving.load(Ordering::Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    /// Gives the refused pools another try whenever a permit comes back. Runs as a task, so that a permit may be dropped under
    /// any lock.
    pub(crate) async fn feed_starved(&self) {
        loop {
            self.freed.notified().await;
            let starved = {
                let mut starved = self.starved.lock().unwrap_or_else(PoisonError::into_inner);
                self.starving.store(0, Ordering::Release);
                std::mem::take(&mut *starved)
            };
            for pool in starved.iter().filter_map(Weak::upgrade) {
                pool.grow();
            }
        }
    }

    /// Memory limits of the live instances together, in MiB.
    pub(crate) fn memory_used_mb(&self) -> u64 {
        self.memory_used_mb.load(Ordering::Relaxed)
    }
}

/// The right to one live instance.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    function: Arc<Quota>,
    namespace: Arc<Quota>,
    memory_mb: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.function.give();
        self.namespace.give();
        self.admission.memory_used_mb.fetch_sub(u64::from(self.memory_mb), Ordering::AcqRel);
        self.admission.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(n: u32) -> Arc<Quota> {
        Arc::new(Quota::new(n))
    }

    #[test]
    fn each_limit_stands_in_the_way_and_a_refusal_takes_nothing() {
        let admission = Arc::new(Admission::new(300, 10));
        let (f, n) = (quota(2), quota(9));
        let first = admission.admit(&f, &n, 128).unwrap();
        let _second = admission.admit(&f, &n, 128).unwrap();
        assert_eq!(admission.admit(&f, &n, 1).unwrap_err(), Denied::Function);
        assert_eq!(admission.admit(&quota(5), &quota(0), 1).unwrap_err(), Denied::Namespace);
        assert_eq!(admission.admit(&quota(5), &n, 128).unwrap_err(), Denied::HostMemory);
        assert_eq!(admission.memory_used_mb(), 256);
        drop(first);
        assert_eq!(admission.memory_used_mb(), 128);
        let _third = admission.admit(&f, &n, 128).unwrap();
    }

    #[test]
    fn a_lowered_limit_holds_for_what_comes() {
        let admission = Arc::new(Admission::new(1000, 10));
        let (f, n) = (quota(3), quota(9));
        let _held: Vec<_> = (0..3).map(|_| admission.admit(&f, &n, 1).unwrap()).collect();
        f.set_limit(1);
        admission.admit(&f, &n, 1).unwrap_err();
    }
}
