//! Whether one more instance may live: per function, per namespace, per host memory.
//!
//! A [`Permit`] is the right to one instance; dropping it gives the right back and wakes the pools that were refused.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use model::ids::NamespaceName;
use model::namespace::Quotas;
use tokio::sync::Notify;

use crate::forecast::Forecast;
use crate::namespace::Namespace;
use crate::pool::Pool;

/// A count with a limit that may change while it is in use.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: AtomicU64,
    used: AtomicU64,
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit: AtomicU64::new(limit), used: AtomicU64::new(0) }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether `n` could be taken now.
    fn has(&self, n: u64) -> bool {
        self.used() + n <= self.limit()
    }

    /// Whether more is used than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.excess() > 0
    }

    /// How much more is used than may be.
    pub(crate) fn excess(&self) -> u64 {
        self.used().saturating_sub(self.limit())
    }

    fn try_take(&self, n: u64, limit: u64) -> bool {
        self.used
            .try_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used + n <= limit).then(|| used + n)
            })
            .is_ok()
    }

    fn give(&self, n: u64) {
        self.used.fetch_sub(n, Ordering::AcqRel);
    }
}

/// What all versions of a function share.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) instances: Quota,
    /// When calls come.
    pub(crate) forecast: Forecast,
    /// Pools that live; each has the instances of one version.
    pub(crate) pools: AtomicUsize,
}

impl Share {
    pub(crate) fn new(instances: u32) -> Self {
        Self {
            instances: Quota::new(instances.into()),
            forecast: Forecast::default(),
            pools: AtomicUsize::new(0),
        }
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
    memory_mb: Quota,
    namespace_default: u32,
    epoch: Instant,
    namespaces: papaya::HashMap<NamespaceName, Arc<Namespace>>,
    starved: Mutex<VecDeque<Weak<Pool>>>,
    /// Length of `starved`, for the hot path to look at without the lock.
    starving: AtomicUsize,
    freed: Notify,
}

impl Admission {
    /// `now`: before any time that a quota of calls is asked at.
    pub(crate) fn new(memory_limit_mb: u64, namespace_default: u32, now: Instant) -> Self {
        Self {
            memory_mb: Quota::new(memory_limit_mb),
            namespace_default,
            epoch: now,
            namespaces: papaya::HashMap::new(),
            starved: Mutex::default(),
            starving: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// The namespace; made without quotas of its own when first asked for.
    pub(crate) fn namespace(&self, name: &NamespaceName) -> Arc<Namespace> {
        let map = self.namespaces.pin();
        let make = || Arc::new(Namespace::new(name.clone(), self.namespace_default, self.epoch));
        Arc::clone(map.get_or_insert_with(name.clone(), make))
    }

    /// The namespace, if it was ever asked for.
    pub(crate) fn known_namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.namespaces.pin().get(name).cloned()
    }

    /// Sets a namespace's quotas.
    pub(crate) fn set_quotas(&self, name: &NamespaceName, quotas: &Quotas) {
        self.namespace(name).set_quotas(quotas);
        self.freed.notify_one();
    }

    /// Takes the quotas of all namespaces but those of `names` away.
    pub(crate) fn retain_quotas(&self, names: &HashSet<String>) {
        for (name, namespace) in &self.namespaces.pin() {
            if !names.contains(name.as_str()) {
                namespace.set_quotas(&Quotas::default());
            }
        }
    }

    /// The right to one more instance of `memory_mb`.
    pub(crate) fn admit(
        self: &Arc<Self>,
        function: &Arc<Share>,
        namespace: &Arc<Namespace>,
        memory_mb: u32,
    ) -> Result<Permit, Denied> {
        self.admit_within(function.instances.limit(), function, namespace, memory_mb)
    }

    /// The right to one more instance that stands ready for a change: until those that it replaces have made way, a function may have twice as
    /// many as its limit.
    pub(crate) fn admit_ahead(
        self: &Arc<Self>,
        function: &Arc<Share>,
        namespace: &Arc<Namespace>,
        memory_mb: u32,
    ) -> Result<Permit, Denied> {
        self.admit_within(2 * function.instances.limit(), function, namespace, memory_mb)
    }

    fn admit_within(
        self: &Arc<Self>,
        function_limit: u64,
        function: &Arc<Share>,
        namespace: &Arc<Namespace>,
        memory_mb: u32,
    ) -> Result<Permit, Denied> {
        let memory = u64::from(memory_mb);
        let Namespace { instances, memory_mb, .. } = &**namespace;
        let wanted = [
            (&function.instances, 1, function_limit, Denied::Function),
            (instances, 1, instances.limit(), Denied::Namespace),
            (memory_mb, memory, memory_mb.limit(), Denied::Namespace),
            (&self.memory_mb, memory, self.memory_mb.limit(), Denied::HostMemory),
        ];
        for (at, (quota, n, limit, denied)) in wanted.iter().enumerate() {
            if !quota.try_take(*n, *limit) {
                wanted.iter().take(at).for_each(|(quota, n, ..)| quota.give(*n));
                return Err(*denied);
            }
        }
        Ok(Permit {
            admission: Arc::clone(self),
            function: Arc::clone(function),
            namespace: Arc::clone(namespace),
            memory,
        })
    }

    /// Whether there is room for one more instance of `memory_mb`, and another one beside it.
    pub(crate) fn has_room(&self, function: &Share, namespace: &Namespace, memory_mb: u32) -> bool {
        let memory = 2 * u64::from(memory_mb);
        function.instances.has(2)
            && namespace.instances.has(2)
            && namespace.memory_mb.has(memory)
            && self.memory_mb.has(memory)
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
        self.memory_mb.used()
    }
}

/// The right to one live instance.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    function: Arc<Share>,
    namespace: Arc<Namespace>,
    /// In MiB.
    memory: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.function.instances.give(1);
        self.namespace.instances.give(1);
        self.namespace.memory_mb.give(self.memory);
        self.admission.memory_mb.give(self.memory);
        self.admission.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(memory_mb: u64) -> Arc<Admission> {
        Arc::new(Admission::new(memory_mb, 10, Instant::now()))
    }

    fn share(n: u32) -> Arc<Share> {
        Arc::new(Share::new(n))
    }

    fn namespace(instances: u32, memory_mb: u64) -> Arc<Namespace> {
        let namespace = Namespace::new(NamespaceName::default_namespace(), 10, Instant::now());
        let (instances, memory_mb) = (Some(instances), Some(memory_mb));
        namespace.set_quotas(&Quotas { instances, memory_mb, ..Quotas::default() });
        Arc::new(namespace)
    }

    #[test]
    fn each_limit_stands_in_the_way_and_a_refusal_takes_nothing() {
        let admission = admission(300);
        let (f, n) = (share(2), namespace(9, 999));
        let first = admission.admit(&f, &n, 128).unwrap();
        let _second = admission.admit(&f, &n, 128).unwrap();
        for (f, n, memory_mb, denied) in [
            (&f, &n, 1, Denied::Function),
            (&share(5), &namespace(0, 999), 1, Denied::Namespace),
            (&share(5), &namespace(9, 127), 128, Denied::Namespace),
            (&share(5), &n, 128, Denied::HostMemory),
        ] {
            assert_eq!(admission.admit(f, n, memory_mb).unwrap_err(), denied);
        }
        assert_eq!((admission.memory_used_mb(), n.used().memory_mb), (256, 256));
        drop(first);
        assert_eq!((admission.memory_used_mb(), n.used().memory_mb), (128, 128));
        let _third = admission.admit(&f, &n, 128).unwrap();
        assert_eq!(n.used().instances, 2);
    }

    #[test]
    fn a_lowered_limit_holds_for_what_comes() {
        let admission = admission(1000);
        let (f, n) = (share(3), namespace(9, 999));
        let _held: Vec<_> = (0..3).map(|_| admission.admit(&f, &n, 1).unwrap()).collect();
        f.instances.set_limit(1);
        admission.admit(&f, &n, 1).unwrap_err();
    }

    #[test]
    fn room_is_for_two() {
        let admission = admission(1000);
        assert!(admission.has_room(&share(2), &namespace(2, 200), 100));
        for (f, n) in [(1, namespace(2, 200)), (2, namespace(1, 200)), (2, namespace(2, 199))] {
            assert!(!admission.has_room(&share(f), &n, 100));
        }
        assert!(!admission.has_room(&share(2), &namespace(9, 9999), 501));
    }
}
