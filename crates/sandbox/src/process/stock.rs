//! Instances that are started before anybody calls: the first call of a function then waits for its code alone.
//!
//! ```text
//! deployment ─ expect ─┐                         ┌─ take ── the start of an instance (image::assign)
//!                      ▼                         ▼
//!                   Demand ── target ──▶ keep ── Kit::make ──▶ the shelf of a Class
//! ```
//!
//! A [`zygote::Zygote`] is a runtime that is forked, to fill the shelves and for starts that find theirs empty ([`nest`]); without one both are by exec. What
//! lies ready by exec when it comes is replaced, for a copy takes a third of the memory.
//!
//! A [`kit::Kit`] is one, a [`class::Class`] what it can be used for, [`demand::Demand`] says how many should lie ready. The keeper ([`keep`]) makes them, one
//! at a time, in pauses between starts, and never so many that they go over the budget. None is made for a class before a start or a deployment of this
//! daemon has asked for it, nor before one of its class has passed a test ([`proof`]).
//!
//! Kits are no instances to the engine: their memory is what the setting `sandbox.prestart_memory_mb` allows, beside what the engine admits.

mod class;
mod demand;
mod kit;
mod nest;
mod proof;
mod zygote;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::invocation::{StartCounts, StartPath};
use tokio::sync::Notify;

use super::image::Shared;
use class::Class;
pub(super) use class::{Plain, Recipe, plain};
use demand::{Demand, FLOOR};
pub(super) use kit::Kit;
use nest::Nests;
pub use nest::ZygoteUse;
use zygote::Wish;
pub(super) use zygote::{CHILD_PATIENCE, Zygote};

/// What counts as a pause between starts.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a host that is busy with other things goes first, at most: stock spares it work, so in the end it is made.
const CROWDED_AT_MOST: Duration = Duration::from_millis(200);
/// How often that is asked.
const CROWDED_PAUSE: Duration = Duration::from_millis(20);
/// How often the stock is looked over when nothing happens.
const REVIEW: Duration = Duration::from_secs(30);
/// How old a kit becomes: then a fresh one takes its place.
const AGE: Duration = Duration::from_secs(1_800);
/// How long a class is left alone after a kit of it could not be made; twice as long each further time, up to eight minutes.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_DOUBLINGS: u32 = 10;
/// What part of the budget zygotes may take together, beside kits.
const ZYGOTES_PART: u32 = 2;
/// Most classes; functions of further ones are started the plain way.
const CLASSES: usize = 64;

/// All pre-started instances.
#[derive(Debug)]
pub(super) struct Stock {
    shared: Arc<Shared>,
    /// Expected memory of all kits together, in MiB; 0: none is made.
    budget_mb: u32,
    zygotes: ZygoteUse,
    /// Children of one zygote.
    children: u32,
    state: Mutex<State>,
    /// Starts that are under way.
    busy: AtomicUsize,
    pre_started: AtomicU64,
    forked: AtomicU64,
    executed: AtomicU64,
    /// Told when something was taken or is wanted, and when the stock is given up.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    shelves: HashMap<Class, Shelf>,
    nests: Nests,
    closed: bool,
}

/// One class.
#[derive(Debug)]
struct Shelf {
    recipe: Recipe,
    demand: Demand,
    /// The oldest first.
    kits: VecDeque<Kit>,
    /// Whether one has passed the test.
    proven: bool,
    /// How often in a row none could be made, and until when none is tried.
    failures: u32,
    rests_until: Option<Instant>,
}

/// A start that is under way.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a Stock);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

impl Stock {
    /// An empty one. `zygotes`: whether there are any, and how many children one has.
    pub(super) fn new(
        shared: Arc<Shared>,
        budget_mb: u32,
        (zygotes, children): (ZygoteUse, u32),
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            budget_mb,
            zygotes,
            children,
            state: Mutex::default(),
            busy: AtomicUsize::new(0),
            pre_started: AtomicU64::new(0),
            forked: AtomicU64::new(0),
            executed: AtomicU64::new(0),
            changed: Arc::default(),
        })
    }

    /// Says that a start is under way, for as long as the answer lives.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.busy.fetch_add(1, Ordering::AcqRel);
        UnderWay(self)
    }

    /// Says that a function of this kind may be called soon.
    pub(super) fn expect(&self, recipe: &Recipe) {
        let now = self.shared.clock.instant();
        if let Some(shelf) = self.lock().shelf(recipe, self.budget_mb, now) {
            shelf.demand.expect(now);
        }
        self.changed.notify_one();
    }

    /// One for a start that is under way, if one lies ready.
    pub(super) fn take(&self, recipe: &Recipe) -> Option<Kit> {
        let now = self.shared.clock.instant();
        let mut state = self.lock();
        let shelf = state.shelf(recipe, self.budget_mb, now)?;
        shelf.demand.arrive(now);
        loop {
            // One that died meanwhile clears up after itself when it is dropped.
            let kit = shelf.kits.pop_front()?;
            if kit.waits() {
                return Some(kit);
            }
        }
    }

    /// Counts a start that has come up.
    pub(super) fn count(&self, path: StartPath) {
        let counter = match path {
            StartPath::PreStarted => &self.pre_started,
            StartPath::Zygote => &self.forked,
            StartPath::Exec => &self.executed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What there is and was.
    pub(super) fn counts(&self) -> StartCounts {
        let state = self.lock();
        let (zygotes, not_forked) = state.nests.state();
        let ready = state.shelves.values().map(Shelf::ready).sum();
        drop(state);
        StartCounts {
            ready,
            zygotes,
            not_forked,
            pre_started: self.pre_started.load(Ordering::Relaxed),
            forked: self.forked.load(Ordering::Relaxed),
            executed: self.executed.load(Ordering::Relaxed),
        }
    }

    /// How many lie ready for one kind of function.
    pub(super) fn ready(&self, recipe: &Recipe) -> u64 {
        let now = self.shared.clock.instant();
        let state = self.lock();
        if self.zygotes == ZygoteUse::Alone {
            return u64::from(state.nests.get(recipe, now).is_some());
        }
        state.shelves.get(&recipe.class).map_or(0, Shelf::ready)
    }

    /// One to be forked for a start that found nothing ready.
    pub(super) fn zygote(&self, recipe: &Recipe) -> Option<Arc<Zygote>> {
        let now = self.shared.clock.instant();
        self.lock().nests.get(recipe, now).cloned()
    }

    /// How long nothing need be done unless something happens.
    fn rest(&self) -> Duration {
        let now = self.shared.clock.instant();
        let state = self.lock();
        let rests = state.shelves.values().filter_map(|shelf| shelf.rests_until);
        let soonest = rests.filter(|until| *until > now).min();
        soonest.map_or(REVIEW, |until| (until - now).min(REVIEW))
    }

    /// Ends all, for good.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let shelves = std::mem::take(&mut state.shelves);
        state.nests.clear();
        drop(state);
        drop(shelves);
    }

    /// Ends those that are dead, old or of no use any more.
    fn look_over(&self) {
        let now = self.shared.clock.instant();
        let fresh = |kit: &Kit| kit.waits() && now.saturating_duration_since(kit.born) < AGE;
        let mut state = self.lock();
        state.shelves.retain(|_, shelf| {
            shelf.kits.retain(fresh);
            !shelf.demand.is_over(now)
        });
        let State { shelves, nests, .. } = &mut *state;
        nests.look_over(|argv| shelves.values().any(|s| s.recipe.zygote_argv() == argv), now);
    }

    /// What should be made next, if there is room for it. First what has less than its floor, then what is wanted most often; room is made by what lies ready
    /// beyond the demand, and for a floor also by what lies beyond other floors and then by zygotes of other classes.
    fn lacking(&self) -> Option<(Recipe, Option<Arc<Zygote>>)> {
        if self.zygotes == ZygoteUse::Alone {
            return None;
        }
        let now = self.shared.clock.instant();
        let mut state = self.lock();
        let rested = |shelf: &&Shelf| shelf.is_rested(now);
        let lacks = |shelf: &&Shelf| shelf.kits.len() < shelf.demand.target(now);
        let lacking = state.shelves.values().filter(lacks).filter(rested);
        let urgency = |shelf: &Shelf| (shelf.kits.len() < FLOOR, shelf.demand.rate(now));
        let most = lacking.max_by(|a, b| {
            let ((a_bare, a_rate), (b_bare, b_rate)) = (urgency(a), urgency(b));
            a_bare.cmp(&b_bare).then(a_rate.total_cmp(&b_rate))
        })?;
        let (recipe, (bare, _)) = (most.recipe.clone(), urgency(most));
        let zygote = state.nests.get(&recipe, now).cloned();
        let kit_mb = recipe.kit_mb(zygote.is_some());
        while state.memory_mb() + kit_mb > self.budget_mb {
            let surplus = |shelf: &&mut Shelf| {
                let target = shelf.demand.target(now);
                shelf.kits.len() > if bare { target.min(FLOOR) } else { target }
            };
            if let Some(shelf) = state.shelves.values_mut().find(surplus) {
                drop(shelf.kits.pop_front());
            } else if !bare || !state.evict_zygote(&recipe, now) {
                return None;
            }
        }
        Some((recipe, zygote))
    }

    /// Something that lies ready by exec, and the zygote by which another one can take its place, once all is there that should be.
    fn replaceable(&self) -> Option<(Recipe, Arc<Zygote>)> {
        let now = self.shared.clock.instant();
        let state = self.lock();
        state.shelves.values().filter(|shelf| shelf.kits.iter().any(|kit| !kit.forked)).find_map(
            |shelf| {
                let zygote = state.nests.get(&shelf.recipe, now)?;
                let fits = state.memory_mb() + shelf.recipe.kit_mb(true) <= self.budget_mb;
                (fits && shelf.is_rested(now)).then(|| (shelf.recipe.clone(), Arc::clone(zygote)))
            },
        )
    }

    /// Makes one, by a zygote if one is given, or tries whether what comes of it works.
    async fn make(&self, recipe: &Recipe, zygote: Option<&Zygote>) {
        let proven = self.lock().shelves.get(&recipe.class).is_some_and(|shelf| shelf.proven);
        let made = match proven {
            true => Kit::make(&self.shared, recipe, zygote).await.map(Some),
            false => proof::prove(&self.shared, recipe, None).await.map(|()| None),
        };
        let now = self.shared.clock.instant();
        let mut state = self.lock();
        let Some(shelf) = state.shelves.get_mut(&recipe.class) else { return };
        match made {
            Ok(made) => {
                (shelf.failures, shelf.rests_until) = (0, None);
                shelf.proven = true;
                shelf.kits.extend(made);
                if shelf.kits.len() > shelf.demand.target(now) {
                    shelf.drop_executed();
                }
            }
            // The zygote was given up: the next one is made without.
            Err(error) if zygote.is_some() && proven => {
                tracing::debug!(%error, "a zygote made nothing");
            }
            Err(error) => {
                shelf.rests_until = Some(now + RETRY * (1 << shelf.failures));
                shelf.failures = (shelf.failures + 1).min(RETRY_DOUBLINGS);
                drop(state);
                let runtime = &recipe.runtime.info.name;
                tracing::warn!(runtime, %error, "instances cannot be pre-started: they start the plain way");
            }
        }
    }

    /// A class that should have a zygote, if there is room for one.
    fn lacking_zygote(&self) -> Option<Recipe> {
        if self.zygotes == ZygoteUse::Off || !self.shared.users.are_strangers() {
            return None;
        }
        let now = self.shared.clock.instant();
        let state = self.lock();
        let alone = self.zygotes == ZygoteUse::Alone;
        let part = if alone { self.budget_mb } else { self.budget_mb / ZYGOTES_PART };
        let free_mb = self.budget_mb.saturating_sub(state.memory_mb());
        let free_mb = free_mb.min(part.saturating_sub(state.nests.memory_mb()));
        let lacks = |shelf: &&Shelf| {
            let (proven, recipe) = (shelf.proven, &shelf.recipe);
            let fits = |(own, child)| own + child <= free_mb;
            (proven || alone)
                && recipe.runtime.zygote_mb().is_some_and(fits)
                && state.nests.lacks(recipe, now)
        };
        state.shelves.values().find(lacks).map(|shelf| shelf.recipe.clone())
    }

    /// Makes the successor of a zygote that is worn, in the background, if there is room for both.
    fn make_successor(self: &Arc<Self>) {
        let now = self.shared.clock.instant();
        let mut state = self.lock();
        if state.closed || state.nests.is_succeeding() {
            return;
        }
        let free_mb = self.budget_mb.saturating_sub(state.memory_mb());
        let lacks = |shelf: &&Shelf| {
            let fits = |(own, child)| own + child <= free_mb;
            shelf.recipe.runtime.zygote_mb().is_some_and(fits)
                && state.nests.lacks_successor(&shelf.recipe, now)
        };
        let Some(recipe) = state.shelves.values().find(lacks).map(|shelf| shelf.recipe.clone())
        else {
            return;
        };
        state.nests.succeed(&recipe);
        drop(state);
        let stock = Arc::clone(self);
        self.shared.tasks.spawn_until_cancelled("zygote's successor", async move {
            stock.make_zygote(&recipe, true).await;
            stock.changed.notify_one();
        });
    }

    /// Makes a zygote, and tries what comes of it. `succeeds`: whether it takes the place of another.
    async fn make_zygote(&self, recipe: &Recipe, succeeds: bool) {
        let wish = Wish { children: self.children, succeeds };
        let made = match Zygote::make(&self.shared, recipe, wish).await {
            Ok(zygote) => {
                let proven = proof::prove(&self.shared, recipe, Some(&zygote)).await;
                let said = zygote.last_words();
                proven.map(|()| zygote).map_err(|error| format!("{error}; it said '{said}'"))
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &made {
            let runtime = &recipe.runtime.info.name;
            match succeeds {
                true => tracing::warn!(runtime, %error, "a zygote has no successor"),
                false => {
                    tracing::warn!(runtime, %error, "this runtime is not forked: its instances come up by exec")
                }
            }
        }
        let now = self.shared.clock.instant();
        let made = made.map_err(|error| format!("{}: {error}", recipe.runtime.info.name));
        let mut state = self.lock();
        if !state.closed {
            state.nests.settle(recipe, made, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        // The keeper shall see that this is the end.
        self.changed.notify_one();
    }
}

impl Shelf {
    /// Whether it may be tried to make one.
    fn is_rested(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| until <= now)
    }

    /// Ends the oldest of those by exec.
    fn drop_executed(&mut self) {
        if let Some(at) = self.kits.iter().position(|kit| !kit.forked) {
            drop(self.kits.remove(at));
        }
    }

    fn ready(&self) -> u64 {
        self.kits.iter().map(|kit| u64::from(kit.waits())).sum()
    }
}

impl State {
    /// Ends the zygote that is wanted least, but for that of `recipe`. Whether there was one.
    fn evict_zygote(&mut self, recipe: &Recipe, now: Instant) -> bool {
        let Self { shelves, nests, .. } = self;
        let rate = |argv: &[String]| {
            let of = shelves.values().filter(|shelf| shelf.recipe.zygote_argv() == argv);
            of.map(|shelf| shelf.demand.rate(now)).sum()
        };
        nests.evict(recipe, rate)
    }

    /// The shelf of a class, a new one if there is room for it; `None` where nothing is stocked.
    fn shelf(&mut self, recipe: &Recipe, budget_mb: u32, now: Instant) -> Option<&mut Shelf> {
        let full = self.shelves.len() >= CLASSES && !self.shelves.contains_key(&recipe.class);
        if budget_mb == 0 || self.closed || full {
            return None;
        }
        Some(self.shelves.entry(recipe.class.clone()).or_insert_with(|| Shelf {
            recipe: recipe.clone(),
            demand: Demand::new(now),
            kits: VecDeque::new(),
            proven: false,
            failures: 0,
            rests_until: None,
        }))
    }

    /// Expected memory of all kits and zygotes.
    fn memory_mb(&self) -> u32 {
        let of = |shelf: &Shelf| {
            shelf.kits.iter().map(|kit| kit.expected_mb).fold(0, u32::saturating_add)
        };
        let kits = self.shelves.values().map(of).fold(0, u32::saturating_add);
        kits.saturating_add(self.nests.memory_mb())
    }
}

/// Keeps a stock filled for as long as it is there, and empties it when the daemon ends.
pub(super) fn keep(stock: &Arc<Stock>) -> impl Future<Output = ()> + use<> {
    let (changed, cancelled) = (Arc::clone(&stock.changed), stock.shared.tasks.cancelled());
    let stock = Arc::downgrade(stock);
    async move {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = fill(&stock, &changed) => {}
        }
        if let Some(stock) = stock.upgrade() {
            stock.close();
        }
    }
}

/// Until the stock is gone.
async fn fill(stock: &Weak<Stock>, changed: &Notify) {
    loop {
        // Whether it was told or the time is over, the same is to be done.
        let Some(wait) = stock.upgrade().map(|stock| stock.rest()) else { return };
        tokio::time::timeout(wait, changed.notified()).await.unwrap_or_default();
        loop {
            pause(stock, changed).await;
            let Some(stock) = stock.upgrade() else { return };
            stock.look_over();
            stock.make_successor();
            if let Some((recipe, zygote)) = stock.lacking() {
                stock.make(&recipe, zygote.as_deref()).await;
            } else if let Some(recipe) = stock.lacking_zygote() {
                stock.make_zygote(&recipe, false).await;
            } else if let Some((recipe, zygote)) = stock.replaceable() {
                stock.make(&recipe, Some(&zygote)).await;
            } else {
                break;
            }
        }
    }
}

/// A start shall have the processors to itself, and so shall the next if it comes at once; others go first, for a while.
async fn pause(stock: &Weak<Stock>, changed: &Notify) {
    let busy = || stock.upgrade().is_some_and(|stock| stock.busy.load(Ordering::Acquire) > 0);
    let mut patience = CROWDED_AT_MOST;
    loop {
        while tokio::time::timeout(PAUSE, changed.notified()).await.is_ok() || busy() {
            // Starts without a pause between them are those that use a zygote up.
            stock.upgrade().iter().for_each(Stock::make_successor);
        }
        if patience.is_zero() || !is_crowded() {
            return;
        }
        patience = patience.saturating_sub(CROWDED_PAUSE);
        tokio::time::sleep(CROWDED_PAUSE).await;
    }
}

/// Whether more threads of the host want to run now than there are processors. Who asks is one of them.
fn is_crowded() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = text.split(' ').nth(3).and_then(|field| field.split('/').next()?.parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    running.is_some_and(|running: usize| running > processors)
}
