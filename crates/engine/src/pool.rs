//! The instances of one version: idle ones last in, first out; calls that wait for one, first in, first out.
//!
//! A call takes an idle instance or waits; for each waiting call that no start is under way for, one instance is started while
//! the limits allow. Whatever becomes free first, a started instance or a busy one, serves the first that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::clock::Clock;
use model::error::Error;
use model::function::Version;
use model::invocation::Failure;
use model::limits;
use model::ports::{Image, Instance, Sandbox, StartFailed};
use model::tasks::Tasks;
use tokio::sync::{OnceCell, oneshot};

use crate::admit::{Admission, Denied, Permit, Quota};
use crate::meter::Meter;

/// How long the start of an instance may take at most: the limit on loading the code, and a margin for the sandbox.
const START_GRACE: Duration = Duration::from_millis(limits::INIT_TIMEOUT_MS as u64 + 5_000);

/// What all pools share.
#[derive(Debug)]
pub(crate) struct PoolDeps {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) admission: Arc<Admission>,
    pub(crate) registry: Registry,
    pub(crate) waiters_max: usize,
}

/// Every pool that has, or may soon have, instances or unreported use. Read by the slow paths only.
#[derive(Debug, Default)]
pub(crate) struct Registry(papaya::HashMap<usize, Arc<Pool>>);

impl Registry {
    pub(crate) fn add(&self, pool: &Arc<Pool>) {
        self.0.pin().insert(Arc::as_ptr(pool).addr(), Arc::clone(pool));
    }

    fn remove(&self, pool: &Pool) {
        self.0.pin().remove(&std::ptr::from_ref(pool).addr());
    }

    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        self.0.pin().values().cloned().collect()
    }

    /// Stops the instance that has been idle longest, other than those of `except`. Whether there was one.
    pub(crate) fn evict_one(&self, except: &Pool, fits: impl Fn(&Pool) -> bool) -> bool {
        let pools = self.all();
        let candidates = pools.iter().filter(|p| !std::ptr::eq(p.as_ref(), except) && fits(p));
        let oldest = candidates
            .filter_map(|p| p.oldest_idle().map(|since| (since, p)))
            .min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(since, pool)| pool.stop_idle(|idle| idle.since <= since, 1) > 0)
    }
}

/// An instance on loan to one call, with the right to exist.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) instance: Box<dyn Instance>,
    /// Whether it has served no call before.
    pub(crate) fresh: bool,
    permit: Permit,
}

/// Why a call got no instance.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The code cannot be loaded: the call's outcome.
    Function(Failure),
    /// A limit, or a fault of the platform.
    Error(Error),
}

type Grant = Result<Lent, Refused>;

#[derive(Debug)]
struct Idle {
    lent: Lent,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Idle>,
    waiters: VecDeque<oneshot::Sender<Grant>>,
    starting: usize,
    retired: bool,
}

/// The instances of one version.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) version: Arc<Version>,
    pub(crate) meter: Meter,
    function: Arc<Quota>,
    namespace: Arc<Quota>,
    image: OnceCell<Arc<dyn Image>>,
    state: Mutex<State>,
    deps: Arc<PoolDeps>,
}

impl Pool {
    pub(crate) fn new(
        version: Arc<Version>,
        function: Arc<Quota>,
        deps: Arc<PoolDeps>,
    ) -> Arc<Self> {
        let namespace = deps.admission.namespace(&version.key.namespace);
        let pool = Arc::new(Self {
            version,
            meter: Meter::default(),
            function,
            namespace,
            image: OnceCell::new(),
            state: Mutex::default(),
            deps,
        });
        pool.deps.registry.add(&pool);
        pool
    }

    /// An instance for one call. Waits until `deadline` at the latest, longer only for a start that is under way: a start has
    /// its own time limit, and throwing it away would only make the next call wait for another.
    pub(crate) async fn acquire(self: &Arc<Self>, deadline: Instant) -> Grant {
        let mut granted = {
            let mut state = self.lock();
            if let Some(lent) = state.take_idle() {
                return Ok(lent);
            }
            if self.function.limit() == 0 {
                return Err(Refused::Error(self.throttled("max_instances of the function is 0")));
            }
            let (grant, granted) = oneshot::channel();
            state.waiters.push_back(grant);
            granted
        };
        self.grow();
        if let Some(waiting) = self.overrun() {
            if let Some(grant) = withdraw(&mut granted) {
                return grant;
            }
            return Err(Refused::Error(self.throttled(&format!("{waiting} calls wait already"))));
        }
        for deadline in [deadline, deadline + START_GRACE] {
            tokio::select! {
                biased;
                grant = &mut granted => return grant.unwrap_or_else(|_| Err(Refused::Error(stopping()))),
                () = self.deps.clock.sleep_until(deadline) => {}
            }
            if self.lock().starting == 0 {
                break;
            }
        }
        withdraw(&mut granted).unwrap_or_else(|| {
            Err(Refused::Error(self.throttled("none became free while the call waited")))
        })
    }

    /// How many calls wait that no start is under way for, if they are more than may.
    fn overrun(&self) -> Option<usize> {
        let state = self.lock();
        let waiting = state.waiters.len().saturating_sub(state.starting);
        (waiting > self.deps.waiters_max).then(|| waiting - 1)
    }

    fn throttled(&self, why: &str) -> Error {
        Error::throttled(
            format!("function '{}' has no instance to spare: {why}", self.version.key),
            Duration::from_secs(1),
        )
        .with_hint("try again after Retry-After, or raise max_instances of the function")
    }

    /// Takes an instance back after a call, or learns that it died.
    pub(crate) fn release(self: &Arc<Self>, lent: Lent) {
        if lent.instance.alive() {
            self.hand_over(Lent { fresh: false, ..lent });
        } else {
            self.destroy(lent);
            self.grow();
        }
    }

    /// To the first that waits, else to the idle ones.
    fn hand_over(&self, mut lent: Lent) {
        let surplus = {
            let mut state = self.lock();
            loop {
                let Some(waiter) = state.waiters.pop_front() else {
                    if state.retired {
                        break Some(lent);
                    }
                    let since = self.deps.clock.instant();
                    state.idle.push(Idle { lent, since });
                    break None;
                };
                match waiter.send(Ok(lent)) {
                    Ok(()) => break None,
                    // That call gave up waiting; the next one may want it.
                    Err(Ok(back)) => lent = back,
                    Err(Err(_)) => break None,
                }
            }
        };
        match surplus {
            Some(lent) => self.destroy(lent),
            None => self.deps.admission.idled(),
        }
    }

    /// Starts an instance for each waiting call that has none coming, while the limits allow.
    pub(crate) fn grow(self: &Arc<Self>) {
        let mut refused = false;
        loop {
            let permit = {
                let mut state = self.lock();
                state.waiters.retain(|w| !w.is_closed());
                if state.starting >= state.waiters.len() {
                    return;
                }
                match self.admit() {
                    Ok(permit) => {
                        state.starting += 1;
                        Ok(permit)
                    }
                    Err(denied) => Err(denied),
                }
            };
            match permit {
                Ok(permit) => {
                    let pool = Arc::clone(self);
                    drop(self.deps.tasks.spawn("start-instance", pool.start(permit)));
                }
                // An instance of this very function has to come back first, and that one serves the waiter.
                Err(Denied::Function) => return,
                Err(_) if refused => return,
                Err(denied) => {
                    // Tried once more after this: what came back before the pool was on the list woke nobody.
                    refused = true;
                    self.deps.admission.starve(Arc::downgrade(self));
                    let fits = |p: &Pool| {
                        denied == Denied::HostMemory || Arc::ptr_eq(&p.namespace, &self.namespace)
                    };
                    // The permit of what is evicted comes back when its processes are gone; then the starved are fed.
                    self.deps.registry.evict_one(self, fits);
                }
            }
        }
    }

    fn admit(&self) -> Result<Permit, Denied> {
        let memory_mb = self.version.config.memory_mb;
        self.deps.admission.admit(&self.function, &self.namespace, memory_mb)
    }

    async fn start(self: Arc<Self>, permit: Permit) {
        let started = self.start_instance().await;
        self.lock().starting -= 1;
        match started {
            Ok(instance) => self.hand_over(Lent { instance, fresh: true, permit }),
            Err(refused) => {
                drop(permit);
                self.refuse_first(refused);
                self.grow();
            }
        }
    }

    async fn start_instance(&self) -> Result<Box<dyn Instance>, Refused> {
        let prepare = || self.deps.sandbox.prepare(Arc::clone(&self.version));
        let image = self.image.get_or_try_init(prepare).await.map_err(Refused::Error)?;
        image.start().await.map_err(|failed| match failed {
            StartFailed::Function(failure) => Refused::Function(failure),
            StartFailed::Platform(error) => Refused::Error(error),
        })
    }

    /// A start that failed is the answer to the first call that waits.
    fn refuse_first(&self, mut refused: Refused) {
        let mut state = self.lock();
        while let Some(waiter) = state.waiters.pop_front() {
            match waiter.send(Err(refused)) {
                Ok(()) | Err(Ok(_)) => return,
                Err(Err(back)) => refused = back,
            }
        }
    }

    /// Ends an instance in the background; its permit lives until its processes are gone.
    fn destroy(&self, lent: Lent) {
        let Lent { instance, permit, .. } = lent;
        drop(self.deps.tasks.spawn("stop-instance", async move {
            instance.stop().await;
            drop(permit);
        }));
    }

    /// No new calls come: idle instances end now, busy ones when their call does.
    pub(crate) fn retire(&self) {
        self.lock().retired = true;
        self.stop_idle(|_| true, usize::MAX);
    }

    /// Stops instances that have been idle since before `limit`, and those that died meanwhile.
    pub(crate) fn reap(&self, limit: Instant) {
        self.stop_idle(|idle| idle.since < limit || !idle.lent.instance.alive(), usize::MAX);
    }

    /// Leaves the registry once it is retired and nobody else holds it: no route, no attempt, no start under way.
    pub(crate) fn forget_if_done(self: Arc<Self>) {
        // The registry's and this one; a retired pool gets no new holders.
        const NOBODY_ELSE: usize = 2;
        if self.lock().retired && Arc::strong_count(&self) <= NOBODY_ELSE && self.meter.is_zero() {
            self.deps.registry.remove(&self);
        }
    }

    fn oldest_idle(&self) -> Option<Instant> {
        self.lock().idle.first().map(|idle| idle.since)
    }

    fn stop_idle(&self, which: impl Fn(&Idle) -> bool, most: usize) -> usize {
        let stopped: Vec<Idle> = {
            let mut state = self.lock();
            let mut left = most;
            let picked = state.idle.extract_if(.., |idle| {
                let take = left > 0 && which(idle);
                left -= usize::from(take);
                take
            });
            picked.collect()
        };
        let count = stopped.len();
        for idle in stopped {
            self.destroy(idle.lent);
        }
        count
    }

    /// Idle instances and waiting calls now.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.idle.len(), state.waiters.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock, so a poisoned state is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The instance used last, if any lives. A dead one is dropped here, which ends it.
    fn take_idle(&mut self) -> Option<Lent> {
        while let Some(idle) = self.idle.pop() {
            if idle.lent.instance.alive() {
                return Some(idle.lent);
            }
        }
        None
    }
}

/// Takes a call out of the line; the grant that came at the last moment is its own all the same.
fn withdraw(granted: &mut oneshot::Receiver<Grant>) -> Option<Grant> {
    granted.close();
    granted.try_recv().ok()
}

/// The answer to calls that come, or still wait, while the daemon stops.
pub(crate) fn stopping() -> Error {
    Error::platform(model::Code::Unavailable, "the daemon is stopping")
        .retry_after(Duration::from_secs(1))
}
