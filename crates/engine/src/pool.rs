//! The instances of one version: idle ones last in, first out; calls that wait for one, first in, first out.
//!
//! A call takes an idle instance or waits; for each waiting call that no start is under way for, one instance is started while
//! the limits allow. Whatever becomes free first, a started instance or a busy one, serves the first that waits: whoever has the instance
//! hands it that call and then lets go of it. Calls of quick functions ([`crate::line`]) wait a little before any of this, and are handed
//! over behind others. `wait` is the call's side of it. `ready` starts instances ahead of a change, `provide` those
//! that are provisioned, `seats` has several calls in one instance, `keep` says how long idle ones stay, `idle` ends them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::clock::Clock;
use model::error::Error;
use model::function::Version;
use model::ids::RequestId;
use model::invocation::{Failure, IdleCounts, Invocation, Outcome};
use model::limits;
use model::ports::{Image, Instance, Patience, Sandbox, StartFailed, Turn};
use model::stream::{StreamEnd, Taker};
use model::tasks::Tasks;
use tokio::sync::{OnceCell, oneshot};

use crate::admit::{Admission, Denied, Permit, Share};
use crate::forecast::Bounds;
use crate::line::{AHEAD_MAX, PATIENCE, Pace, WARM_UP_CALLS, Waiter};
use crate::meter::Meter;
use crate::namespace::Namespace;
use crate::registry::Registry;

mod idle;
mod keep;
mod provide;
mod ready;
mod seats;
mod wait;

pub(crate) use ready::{NotReady, Room};
use seats::{House, HouseId};

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
    pub(crate) processors: usize,
    pub(crate) keep_alive: Bounds,
    /// How long an instance is idle before it is frozen; zero: none is.
    pub(crate) freeze_after: Duration,
    pub(crate) counts: Counts,
}

/// What was done of our own accord, since the daemon began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Instances started because a call was about to come.
    pub(crate) foreseen: AtomicU64,
    /// Idle instances stopped in favour of others.
    pub(crate) evicted: AtomicU64,
    /// Idle instances frozen.
    pub(crate) frozen: AtomicU64,
    /// Frozen instances that went on for a call.
    pub(crate) thawed: AtomicU64,
}

impl Counts {
    /// What was counted so far; what there is now is not known here.
    pub(crate) fn read(&self) -> IdleCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        IdleCounts {
            idle: 0,
            frozen: 0,
            freezes: read(&self.frozen),
            thaws: read(&self.thawed),
            evicted: read(&self.evicted),
            foreseen: read(&self.foreseen),
        }
    }
}

/// An instance on loan to one call, which has been handed to it, with the right to exist.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) instance: Box<dyn Instance>,
    /// Calls handed to it behind that one.
    ahead: VecDeque<Waiter>,
    /// Whether it has served no call before.
    pub(crate) fresh: bool,
    /// Calls that it has served.
    served: u32,
    /// The instance's; the place of one call among several has none.
    permit: Option<Permit>,
    /// Of such a place: which instance it is in.
    house: Option<HouseId>,
}

/// Why a call got no instance.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The code cannot be loaded: the call's outcome.
    Function(Failure),
    /// A limit, or a fault of the platform.
    Error(Error),
    /// Another pool serves the call.
    Moved(Moved),
}

/// A call that goes on at another pool.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) invocation: Box<Invocation>,
    /// The one that relieves this one. `None`: this one is retired, and whoever came after it serves the call.
    pub(crate) to: Option<Arc<Pool>>,
}

/// Whether a call may be sent on to another pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// It may.
    Free,
    /// Only if this one is retired: it has been sent to one that relieves another.
    Relieved,
    /// It may not: no other serves it.
    Here,
}

pub(crate) type Grant = Result<Lent, Refused>;
type Started = Result<(), Refused>;

/// There was no idle instance.
#[derive(Debug)]
enum Wait {
    For(oneshot::Receiver<Grant>),
    /// No instance can ever live, for this reason.
    Never(String),
    /// Elsewhere.
    Moved(Moved),
}

#[derive(Debug)]
pub(crate) struct Idle {
    lent: Lent,
    pub(crate) since: Instant,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Idle>,
    /// Instances that take several calls at once and have some; each is on loan as long as it is here.
    houses: Vec<House>,
    /// Of the next of those.
    next_house: HouseId,
    waiters: VecDeque<Waiter>,
    /// Instances on loan.
    lent: usize,
    /// The most that were on loan in this second, and in the one before.
    peak: [usize; 2],
    starting: usize,
    retired: bool,
    /// When the last call ended, while there is none.
    quiet: Option<Instant>,
    /// Whether an instance was started for the call that ends this pause.
    foreseen: bool,
    /// Instances that are there whether calls come or not.
    kept: usize,
    /// Whether starts of those are under way.
    providing: bool,
    /// When they are tried again after one failed, and the pause until then.
    retry: Option<(Instant, Duration)>,
    /// Changes that the pool stands ready for.
    held: usize,
    /// Who serves calls that would wait here, while the code of the pool is fresh.
    relief: Option<Arc<Pool>>,
    /// Whether its instances make way while the function is over its limit.
    yields: bool,
}

/// The instances of one version.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) version: Arc<Version>,
    pub(crate) meter: Meter,
    function: Arc<Share>,
    namespace: Arc<Namespace>,
    image: OnceCell<Arc<dyn Image>>,
    pace: Pace,
    /// Calls that an instance takes at once.
    seats: usize,
    /// How long a start takes, smoothed, in microseconds; 0 before the first.
    start_us: AtomicU32,
    /// Calls that have ended.
    ended: AtomicU32,
    state: Mutex<State>,
    deps: Arc<PoolDeps>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.function.pools.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// A pool without instances. Whoever makes it puts it into the registry.
    pub(crate) fn new(
        version: Arc<Version>,
        function: Arc<Share>,
        namespace: Arc<Namespace>,
        deps: Arc<PoolDeps>,
    ) -> Arc<Self> {
        function.pools.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            seats: usize::try_from(version.config.calls_at_once()).unwrap_or(1).max(1),
            version,
            meter: Meter::default(),
            function,
            namespace,
            image: OnceCell::new(),
            pace: Pace::default(),
            start_us: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            state: Mutex::default(),
            deps,
        })
    }

    /// Whether a call that nobody waits for takes nothing from those that somebody waits for: an instance is idle, or there is room for more than
    /// one.
    pub(crate) fn has_room(&self) -> bool {
        let memory_mb = self.version.config.memory_mb;
        !self.lock().idle.is_empty()
            || self.deps.admission.has_room(&self.function, &self.namespace, memory_mb)
    }

    /// How long it took to let the instance go on for the call that has it, in microseconds; 0 if it was awake.
    pub(crate) fn thaw_us(&self, lent: &mut Lent) -> u64 {
        let thaw_us = lent.instance.thaw_us();
        if thaw_us > 0 {
            self.deps.counts.thawed.fetch_add(1, Ordering::Relaxed);
        }
        thaw_us
    }

    /// Waits for the outcome of the call that has `lent`, or for the beginning of an answer in pieces.
    pub(crate) async fn outcome(self: &Arc<Self>, lent: &mut Lent) -> Turn {
        let Lent { instance, ahead, served, .. } = lent;
        let returned = &mut |calls: &[RequestId]| self.return_to_line(ahead, calls);
        let turn = instance.outcome(Patience { limit: PATIENCE, returned }).await;
        if let Turn::Over(outcome) = &turn {
            self.learn(served, outcome);
        }
        turn
    }

    /// Waits for the end of such an answer.
    pub(crate) async fn stream(&self, lent: &mut Lent, taker: Taker<'_>) -> StreamEnd {
        let end = lent.instance.stream(taker).await;
        self.learn(&mut lent.served, &end.outcome);
        end
    }

    /// A call of an instance that has `served` others is over.
    fn learn(&self, served: &mut u32, outcome: &Outcome) {
        *served = served.saturating_add(1);
        self.ended.fetch_add(1, Ordering::Relaxed);
        // Code that is not compiled yet says nothing of a function known to be quick: to start more instances now would only make it worse.
        if let Some(busy_us) = outcome.busy_us
            && (*served > WARM_UP_CALLS || !self.pace.is_quick())
        {
            self.pace.learn(busy_us);
        }
    }

    /// Takes an instance back after a call, or learns that it died.
    pub(crate) fn release(self: &Arc<Self>, lent: Lent) {
        if let Some(house) = lent.house {
            return self.release_seat(lent, house);
        }
        let mut lent = Lent { fresh: false, ..lent };
        let alive = lent.instance.alive();
        if !alive && !lent.ahead.is_empty() {
            let calls = lent.instance.take_back();
            self.return_to_line(&mut lent.ahead, &calls);
        }
        match lent.ahead.pop_front() {
            Some(next) => self.pass_on(lent, next),
            None if alive => self.hand_over(lent),
            None => {
                self.destroy(lent);
                self.grow();
            }
        }
    }

    /// Calls that were handed ahead and taken back wait again, before all others.
    fn return_to_line(self: &Arc<Self>, ahead: &mut VecDeque<Waiter>, calls: &[RequestId]) {
        if calls.is_empty() {
            return;
        }
        let (mut back, stay): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(ahead).into_iter().partition(|w| calls.contains(&w.invocation.id));
        *ahead = stay;
        {
            let mut state = self.lock();
            back.append(&mut state.waiters);
            state.waiters = back;
        }
        self.use_idle();
        self.grow();
    }

    /// Gives an instance to the call whose turn it is.
    fn pass_on(self: &Arc<Self>, mut lent: Lent, next: Waiter) {
        if self.pace.is_quick() && lent.instance.alive() {
            self.hand_ahead(&mut lent);
        }
        if let Err(Ok(lent)) = next.grant.send(Ok(lent)) {
            // Whoever waits does so to the end; only the end of the daemon is no end of a wait.
            self.destroy(lent);
        }
    }

    /// Hands calls over behind the one whose turn it is.
    fn hand_ahead(&self, lent: &mut Lent) {
        while lent.ahead.len() < AHEAD_MAX {
            let Some(waiter) = self.lock().waiters.pop_front() else { return };
            if !lent.instance.hand(&waiter.invocation) {
                self.lock().waiters.push_front(waiter);
                return;
            }
            lent.ahead.push_back(waiter);
        }
    }

    /// To the first that waits, else to the idle ones.
    fn hand_over(self: &Arc<Self>, lent: Lent) {
        if self.deps.admission.is_in_the_way(&self.function, &self.namespace) {
            self.destroy(lent);
            return self.grow();
        }
        if self.seats == 1 {
            self.hand_over_alone(lent);
        } else if let Some(lent) = self.open_house(lent) {
            self.hand_over_alone(lent);
        }
    }

    /// To the first that waits, which has it for itself, else to the idle ones.
    fn hand_over_alone(self: &Arc<Self>, mut lent: Lent) {
        let next = {
            let mut state = self.lock();
            match state.waiters.pop_front() {
                Some(waiter) => waiter,
                None if state.retired || state.yields && self.function.instances.is_over() => {
                    drop(state);
                    return self.destroy(lent);
                }
                None => {
                    let since = self.now();
                    state.give_back(since);
                    state.idle.push(Idle { lent, since });
                    drop(state);
                    return self.deps.admission.idled();
                }
            }
        };
        if lent.instance.hand(&next.invocation) {
            self.pass_on(lent, next);
        } else {
            self.lock().waiters.push_front(next);
            self.destroy(lent);
            self.grow();
        }
    }

    /// Gives idle instances to calls that wait.
    fn use_idle(self: &Arc<Self>) {
        loop {
            let lent = {
                let mut state = self.lock();
                if state.waiters.is_empty() {
                    return;
                }
                let Some(idle) = state.take_idle() else { return };
                state.lend();
                idle.lent
            };
            self.hand_over(lent);
        }
    }

    /// Starts an instance for each waiting call that has none coming, while the limits allow.
    pub(crate) fn grow(self: &Arc<Self>) {
        self.move_on();
        let mut refused = false;
        loop {
            let permit = {
                let mut state = self.lock();
                let quick = self.pace.is_quick();
                if state.starting * self.seats >= state.waiters.len()
                    || quick && state.starting >= self.starts()
                {
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
                    drop(self.deps.tasks.spawn("start-instance", pool.start(permit, None)));
                }
                // An instance of this very pool has to come back first, and that one serves the waiter.
                Err(Denied::Function) if self.is_the_only_one() => return,
                Err(_) if refused => return,
                Err(denied) => {
                    // Tried once more after this: what came back before the pool was on the list woke nobody.
                    refused = true;
                    self.deps.admission.starve(Arc::downgrade(self));
                    let fits = |p: &Pool| match denied {
                        Denied::Function => Arc::ptr_eq(&p.function, &self.function),
                        Denied::Namespace => {
                            Arc::ptr_eq(&p.namespace, &self.namespace) && self.wins_by(p)
                        }
                        Denied::HostMemory => self.wins_by(p),
                    };
                    // The permit of what is evicted comes back when its processes are gone; then the starved are fed.
                    self.deps.registry.evict_one(self.now(), self, fits);
                }
            }
        }
    }

    /// Whether the end of an instance of `other` would leave room here: what is reserved for its function stays withheld.
    pub(crate) fn wins_by(&self, other: &Self) -> bool {
        Arc::ptr_eq(&other.function, &self.function) || other.function.is_beyond_reserve()
    }

    /// Starts at once that leave processors to the calls.
    fn starts(&self) -> usize {
        (self.deps.processors / 2).max(1)
    }

    /// Whether all instances of the function are of this pool.
    fn is_the_only_one(&self) -> bool {
        self.function.pools.load(Ordering::Relaxed) <= 1
    }

    fn admit(&self) -> Result<Permit, Denied> {
        let memory_mb = self.version.config.memory_mb;
        self.deps.admission.admit(&self.function, &self.namespace, memory_mb)
    }

    /// Starts an instance: for the first call that waits, or for whoever is told.
    async fn start(self: Arc<Self>, permit: Permit, told: Option<oneshot::Sender<Started>>) {
        let started = self.start_instance().await;
        {
            let mut state = self.lock();
            state.starting -= 1;
            match (&started, &told) {
                (Ok(_), None) => state.lend(),
                // No call has it.
                (Ok(_), Some(_)) => state.lent += 1,
                (Err(_), _) => {}
            }
        }
        let started = match started {
            Ok(instance) => {
                let took = instance.start_timings();
                self.learn_start(took.sandbox_us + took.runtime_us + took.code_us);
                let fresh = told.is_none();
                let ahead = VecDeque::new();
                let permit = Some(permit);
                self.hand_over(Lent { instance, ahead, fresh, served: 0, permit, house: None });
                Ok(())
            }
            Err(refused) => {
                drop(permit);
                Err(refused)
            }
        };
        match (told, started) {
            // Whoever is told may have given up waiting.
            (Some(told), started) => drop(told.send(started)),
            (None, Ok(())) => {}
            (None, Err(refused)) => self.refuse_waiting(refused),
        }
        self.grow();
    }

    async fn start_instance(&self) -> Result<Box<dyn Instance>, Refused> {
        let prepare = || self.deps.sandbox.prepare(Arc::clone(&self.version));
        let image = self.image.get_or_try_init(prepare).await.map_err(Refused::Error)?;
        image.start().await.map_err(|failed| match failed {
            StartFailed::Function(failure) => Refused::Function(failure),
            StartFailed::Platform(error) => Refused::Error(error),
        })
    }

    /// Ends an instance on loan.
    fn destroy(self: &Arc<Self>, lent: Lent) {
        if let Some(house) = lent.house {
            return self.leave_seat(lent, house);
        }
        self.lock().give_back(self.now());
        self.end(lent);
    }

    fn now(&self) -> Instant {
        self.deps.clock.instant()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock, so a poisoned state is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Instances that are there or coming.
    fn there(&self) -> usize {
        self.idle.len() + self.lent + self.starting
    }

    /// One more is on loan.
    fn lend(&mut self) {
        self.lent += 1;
        self.peak[0] = self.peak[0].max(self.lent);
    }

    /// The instance used last, if any lives. A dead one is dropped here, which ends it.
    fn take_idle(&mut self) -> Option<Idle> {
        while let Some(idle) = self.idle.pop() {
            if idle.lent.instance.alive() {
                return Some(idle);
            }
        }
        None
    }
}

/// The answer to calls that come, or still wait, while the daemon stops.
pub(crate) fn stopping() -> Error {
    Error::platform(model::Code::Unavailable, "the daemon is stopping")
        .retry_after(Duration::from_secs(1))
}
