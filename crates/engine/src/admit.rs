//! Whether one more instance may live: per function, per namespace, per host memory.
//!
//! A [`Permit`] is the right to one instance; dropping it gives the right back and wakes the pools that were refused. What a function has reserved and does not
//! use is withheld from all others: of its namespace's instances and memory, and of the host's memory.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use model::ids::NamespaceName;
use model::namespace::Quotas;
use tokio::sync::Notify;

use crate::forecast::Forecast;
use crate::namespace::{Change, Namespace};
use crate::pool::Pool;

/// A count with a limit that may change while it is in use. Changed under the ledger of [`Admission`] alone, read by everybody.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: AtomicU64,
    used: AtomicU64,
    /// Reserved by functions that do not use it now.
    withheld: AtomicU64,
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Self {
        let (used, withheld) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limit: AtomicU64::new(limit), used, withheld }
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

    fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Whether `n` could be taken now, `own` of them out of what is withheld for who takes them. What is reserved is to be had as soon as others have left
    /// it; what is not, only if it is beside all that is reserved.
    fn has(&self, n: u64, own: u64) -> bool {
        let after = self.used().saturating_add(n);
        let others = self.withheld().saturating_sub(own);
        after <= self.limit() && (own >= n || after.saturating_add(others) <= self.limit())
    }

    /// Whether more is used than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.excess() > 0
    }

    /// How much more is used than may be.
    pub(crate) fn excess(&self) -> u64 {
        self.used().saturating_sub(self.limit())
    }

    /// Whether others use what is reserved.
    fn is_crowded(&self) -> bool {
        let withheld = self.withheld();
        withheld > 0 && self.used().saturating_add(withheld) > self.limit()
    }

    fn take(&self, n: u64) {
        self.used.fetch_add(n, Ordering::AcqRel);
    }

    fn give(&self, n: u64) {
        self.used.fetch_sub(n, Ordering::AcqRel);
    }

    /// What is withheld for somebody was `before` and is `after`.
    fn withhold(&self, before: u64, after: u64) {
        // Wraps, and back.
        self.withheld.fetch_add(after.wrapping_sub(before), Ordering::AcqRel);
    }
}

/// Instances, and their memory in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) instances: u64,
    pub(crate) memory_mb: u64,
}

impl Amount {
    /// So many instances of this size.
    pub(crate) fn reserved(instances: Option<u32>, memory_mb: u32) -> Self {
        let instances = u64::from(instances.unwrap_or(0));
        Self { instances, memory_mb: instances * u64::from(memory_mb) }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            instances: self.instances + other.instances,
            memory_mb: self.memory_mb + other.memory_mb,
        }
    }
}

/// What a function has for itself, whether it uses it or not.
#[derive(Debug, Default)]
struct Reserve {
    instances: AtomicU64,
    memory_mb: AtomicU64,
    /// Memory limits of the function's live instances.
    used_mb: AtomicU64,
}

/// What all versions of a function share.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) instances: Quota,
    reserve: Reserve,
    /// When calls come.
    pub(crate) forecast: Forecast,
    /// Pools that live; each has the instances of one version.
    pub(crate) pools: AtomicUsize,
}

impl Share {
    pub(crate) fn new(instances: u32) -> Self {
        Self {
            instances: Quota::new(instances.into()),
            reserve: Reserve::default(),
            forecast: Forecast::default(),
            pools: AtomicUsize::new(0),
        }
    }

    /// What is withheld from others for it.
    fn held(&self) -> Amount {
        let Reserve { instances, memory_mb, used_mb } = &self.reserve;
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Amount {
            instances: load(instances).saturating_sub(self.instances.used()),
            memory_mb: load(memory_mb).saturating_sub(load(used_mb)),
        }
    }

    /// Whether it has more than is reserved for it, so that others win by the end of an instance.
    pub(crate) fn is_beyond_reserve(&self) -> bool {
        self.instances.used() > self.reserve.instances.load(Ordering::Relaxed)
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
    /// Held while anything is taken or given back: starts and ends of instances, never a warm call.
    ledger: Mutex<()>,
    /// Whether any function has ever reserved instances.
    reserving: AtomicBool,
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
            ledger: Mutex::new(()),
            reserving: AtomicBool::new(false),
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
        let wanted = Amount { instances: 1, memory_mb: memory_mb.into() };
        let _ledger = self.ledger();
        if let Some(denied) = self.denies(function_limit, function, namespace, wanted) {
            return Err(denied);
        }
        self.change(function, namespace, |quotas| {
            function.reserve.used_mb.fetch_add(wanted.memory_mb, Ordering::AcqRel);
            quotas.iter().for_each(|(quota, of)| quota.take(of(wanted)));
        });
        Ok(Permit {
            admission: Arc::clone(self),
            function: Arc::clone(function),
            namespace: Arc::clone(namespace),
            amount: wanted,
        })
    }

    /// Which limit stands in the way of so much, if one does.
    fn denies(
        &self,
        function_limit: u64,
        function: &Share,
        namespace: &Namespace,
        wanted: Amount,
    ) -> Option<Denied> {
        let held = function.held();
        let own = Amount {
            instances: held.instances.min(wanted.instances),
            memory_mb: held.memory_mb.min(wanted.memory_mb),
        };
        let in_namespace = namespace.instances.has(wanted.instances, own.instances)
            && namespace.memory_mb.has(wanted.memory_mb, own.memory_mb);
        if function.instances.used() + wanted.instances > function_limit {
            Some(Denied::Function)
        } else if !in_namespace {
            Some(Denied::Namespace)
        } else {
            let on_host = self.memory_mb.has(wanted.memory_mb, own.memory_mb);
            (!on_host).then_some(Denied::HostMemory)
        }
    }

    /// Changes what a function uses, or what is reserved for it, and what is withheld from others by that.
    fn change(
        &self,
        function: &Share,
        namespace: &Namespace,
        change: impl FnOnce(&[(&Quota, fn(Amount) -> u64)]),
    ) {
        let instances: fn(Amount) -> u64 = |amount| amount.instances;
        let memory_mb: fn(Amount) -> u64 = |amount| amount.memory_mb;
        let shared = [
            (&namespace.instances, instances),
            (&namespace.memory_mb, memory_mb),
            (&self.memory_mb, memory_mb),
        ];
        let [a, b, c] = shared;
        let before = function.held();
        change(&[(&function.instances, instances), a, b, c]);
        let after = function.held();
        shared.iter().for_each(|(quota, of)| quota.withhold(of(before), of(after)));
    }

    /// From now on so much is the function's own, whether it uses it or not. Who has it now keeps it until a call ends.
    pub(crate) fn reserve(&self, function: &Share, namespace: &Namespace, amount: Amount) {
        let _ledger = self.ledger();
        self.change(function, namespace, |_| {
            let from = function.reserve.instances.swap(amount.instances, Ordering::Relaxed);
            namespace.change_reserved(Change { from, to: amount.instances });
            function.reserve.memory_mb.store(amount.memory_mb, Ordering::Relaxed);
        });
        if amount.instances > 0 {
            self.reserving.store(true, Ordering::Relaxed);
        }
        self.freed.notify_one();
    }

    /// Whether an instance of the function stands where another function has room reserved.
    pub(crate) fn is_in_the_way(&self, function: &Share, namespace: &Namespace) -> bool {
        if !self.reserving.load(Ordering::Relaxed) {
            return false;
        }
        let quotas = [&namespace.instances, &namespace.memory_mb, &self.memory_mb];
        function.is_beyond_reserve() && quotas.into_iter().any(Quota::is_crowded)
    }

    fn ledger(&self) -> MutexGuard<'_, ()> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more instance of `memory_mb`, and another one beside it.
    pub(crate) fn has_room(&self, function: &Share, namespace: &Namespace, memory_mb: u32) -> bool {
        let wanted = Amount { instances: 2, memory_mb: 2 * u64::from(memory_mb) };
        self.denies(function.instances.limit(), function, namespace, wanted).is_none()
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
    amount: Amount,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self { admission, function, namespace, amount } = self;
        let ledger = admission.ledger();
        admission.change(function, namespace, |quotas| {
            function.reserve.used_mb.fetch_sub(amount.memory_mb, Ordering::AcqRel);
            quotas.iter().for_each(|(quota, of)| quota.give(of(*amount)));
        });
        drop(ledger);
        admission.freed.notify_one();
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

    fn reserved(instances: u64, memory_mb: u64) -> Amount {
        Amount { instances, memory_mb }
    }

    #[test]
    fn what_is_reserved_is_there_for_who_reserved_it_and_for_nobody_else() {
        let admission = admission(400);
        let (f, other, n) = (share(2), share(9), namespace(9, 999));
        admission.reserve(&f, &n, reserved(2, 200));
        let others: Vec<_> =
            std::iter::from_fn(|| admission.admit(&other, &n, 100).ok()).take(9).collect();
        assert_eq!(others.len(), 2, "200 of 400 MiB");
        assert_eq!(admission.admit(&other, &n, 100).unwrap_err(), Denied::HostMemory);
        assert!(!admission.has_room(&other, &n, 1) && admission.has_room(&f, &n, 100));
        let own = [admission.admit(&f, &n, 100).unwrap(), admission.admit(&f, &n, 100).unwrap()];
        assert_eq!(admission.memory_used_mb(), 400);
        assert_eq!(admission.admit(&f, &n, 100).unwrap_err(), Denied::Function);
        // Given back, it is withheld again.
        drop(own);
        assert_eq!(admission.admit(&other, &n, 100).unwrap_err(), Denied::HostMemory);
        admission.reserve(&f, &n, Amount::default());
        admission.admit(&other, &n, 100).unwrap();
    }

    #[test]
    fn what_a_namespace_has_is_withheld_from_its_other_functions_alone() {
        let admission = admission(10_000);
        let (f, other, n) = (share(3), share(9), namespace(4, 400));
        admission.reserve(&f, &n, reserved(3, 300));
        let held = admission.admit(&other, &n, 100).unwrap();
        assert_eq!(admission.admit(&other, &n, 1).unwrap_err(), Denied::Namespace);
        let elsewhere = namespace(4, 400);
        let _elsewhere = [(); 4].map(|()| admission.admit(&share(9), &elsewhere, 100).unwrap());
        // Larger than what is reserved for each: the rest comes from what is free.
        let large = admission.admit(&f, &n, 300).unwrap();
        assert_eq!(admission.admit(&f, &n, 100).unwrap_err(), Denied::Namespace);
        drop(held);
        admission.admit(&f, &n, 100).unwrap();
        drop(large);
        assert_eq!((n.used().instances, n.used().memory_mb), (0, 0));
    }

    #[test]
    fn a_reservation_waits_for_those_who_are_there_already() {
        let admission = admission(200);
        let (f, other, n) = (share(1), share(9), namespace(9, 999));
        let mut there = vec![admission.admit(&other, &n, 100).unwrap()];
        assert!(!admission.is_in_the_way(&other, &n));
        there.push(admission.admit(&other, &n, 100).unwrap());
        admission.reserve(&f, &n, reserved(1, 100));
        assert!(admission.is_in_the_way(&other, &n) && !admission.is_in_the_way(&f, &n));
        assert_eq!(admission.admit(&f, &n, 100).unwrap_err(), Denied::HostMemory);
        there.pop();
        assert!(!admission.is_in_the_way(&other, &n));
        assert_eq!(admission.admit(&other, &n, 100).unwrap_err(), Denied::HostMemory);
        let _own = admission.admit(&f, &n, 100).unwrap();
        assert!(!f.is_beyond_reserve() && other.is_beyond_reserve());
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
