//! Decides which instance serves which call, and when instances start and stop. Knows no HTTP, no SQL, no process.
//!
//! [`Engine::invoke`], [`Engine::invoke_in_pieces`] and [`Engine::enqueue`] are the only doors to execution. Inside, a call passes `route` (name, alias → version → pool), `pool` with
//! `admit` (an instance, within the limits of function, `namespace` and host) and `attempt` (run it); queued calls take the same way through `drain`, answers in pieces go on in `stream`. `maps` has a queued call for each chunk of an input.
//! `swap` makes ready what a change of a function brings, `forecast` learns when calls come. What an alias wants to know of its calls is counted in `shift` and compared by way of `shadow`.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::Result;
use model::alias::Parameters;
use model::api::{NamespaceUse, ResolvedView};
use model::clock::Clock;
use model::error::{Code, Error};
use model::function::{Function, FunctionSettings};
use model::ids::{FunctionRef, NamespaceName, RequestId, VersionRef};
use model::invocation::{Call, Completed, IdleCounts};
use model::ports::{
    Blobs, Enqueued, Meta, Queue, Revision, Sandbox, UniqueKey, Usage, UsageDelta, Watch, Webhooks,
};
use model::tasks::Tasks;
use tokio::sync::{mpsc, watch};

mod admit;
mod attempt;
mod backlog;
mod calls;
mod config;
mod dead;
mod drain;
mod forecast;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod line;
mod maps;
mod meter;
mod namespace;
mod once;
mod pool;
mod rate;
mod registry;
mod reserve;
mod retry;
mod route;
mod shadow;
mod shift;
mod stream;
mod swap;

pub use calls::{KeptCall, KeptDestination};
pub use config::EngineConfig;
pub use dead::{DeadCalls, Sweep, Swept};
pub use drain::EnqueueOptions;
pub use maps::{KeptMap, MapProgress};
pub use route::Readiness;
pub use shadow::{Answer, Room, SHADOW_WHOLE_BYTES, ShadowPair, ShadowSkips, Shadowed};
pub use shift::Shifting;
pub use stream::{Reply, Stream};
pub use swap::{Faulty, Prepared};

use admit::Admission;
use pool::{Counts, Pool, PoolDeps};
use registry::Registry;
use route::{Asked, Lead, Routes};
use shadow::Shadows;

/// How often idle instances are looked over and use is reported.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long calls that were cut off may take to notice.
const CUT_OFF_GRACE: Duration = Duration::from_secs(1);
/// Longest wait for the local cache to learn of a change.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Pause after the catalogue's watch failed.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

/// What the engine stands on.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The catalogue.
    pub meta: Arc<dyn Meta>,
    /// Asynchronous calls.
    pub queue: Arc<dyn Queue>,
    /// Inputs and results of maps.
    pub blobs: Arc<dyn Blobs>,
    /// Where code runs.
    pub sandbox: Arc<dyn Sandbox>,
    /// Where use is reported.
    pub usage: Arc<dyn Usage>,
    /// Who sends webhooks.
    pub webhooks: Arc<dyn Webhooks>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Runs calls. Clones share one engine.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) webhooks: Arc<dyn Webhooks>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) routes: Routes,
    pub(crate) shadows: Shadows,
    pub(crate) watched: calls::Watched,
    /// Whether what an earlier run of the daemon had on lease was taken back: from then on what is on lease is ours.
    pub(crate) taken_back: watch::Sender<bool>,
    pub(crate) maps: Arc<maps::Maps>,
    /// Attempts, and the loops that end first at a drain.
    pub(crate) tasks: Tasks,
    pools: Arc<PoolDeps>,
    usage: Arc<dyn Usage>,
    meta: Arc<dyn Meta>,
    /// Whether the calls that were under way have been ended.
    cut_off: AtomicBool,
}

/// What an engine holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Idle instances, and what was done with them since the engine started.
    pub instances: IdleCounts,
    /// Calls that wait for an instance.
    pub waiting_calls: usize,
    /// Memory limits of all live instances together, in MiB.
    pub memory_mb: u64,
    /// Versions whose calls tell when the next one comes, so that their instances are kept by that.
    pub learned: usize,
}

impl Engine {
    /// Reads the catalogue and starts the background work. Calls may come as soon as it returns.
    pub async fn start(config: EngineConfig, deps: Deps) -> Result<Self> {
        let tasks = Tasks::new();
        let pools = Arc::new(PoolDeps {
            sandbox: deps.sandbox,
            clock: Arc::clone(&deps.clock),
            tasks: Tasks::new(),
            admission: Arc::new(Admission::new(
                config.host_memory_mb,
                config.instances_per_namespace,
                deps.clock.instant(),
            )),
            registry: Registry::default(),
            waiters_max: config.waiters_per_version,
            processors: config.processors,
            keep_alive: config.bounds(),
            freeze_after: config.freeze_after,
            counts: Counts::default(),
        });
        let routes = Routes::new(Arc::clone(&deps.meta), Arc::clone(&pools), &config);
        let shared = Arc::new(Shared {
            config,
            queue: deps.queue,
            webhooks: deps.webhooks,
            blobs: deps.blobs,
            clock: deps.clock,
            routes,
            shadows: Shadows::new(),
            watched: calls::Watched::default(),
            taken_back: watch::Sender::new(false),
            maps: Arc::default(),
            tasks,
            pools,
            usage: deps.usage,
            meta: deps.meta,
            cut_off: AtomicBool::new(false),
        });
        shared.start_watch().await?;
        let tasks = &shared.tasks;
        drop(tasks.spawn("drain-queue", drain::drain(Arc::clone(&shared))));
        maps::start(&shared);
        let admission = Arc::clone(&shared.pools.admission);
        tasks.spawn_until_cancelled("feed-starved", async move { admission.feed_starved().await });
        let keeper = Arc::clone(&shared);
        tasks.spawn_until_cancelled("housekeeping", async move { keeper.housekeeping().await });
        Ok(Self { shared })
    }

    /// Runs a call and answers with its outcome. The call goes on if the caller goes away: a function may count on being run whole.
    /// `parameters`: what the alias's rules and sticky key may read besides the event. An answer that comes in pieces is collected, up to the limit of any other.
    ///
    /// A call with a key is answered with what came of the first call of that key.
    ///
    /// Errors: `not-found`, `throttled`, `unavailable`, `sandbox-failed`; of calls with a key also `key-reused`, `conflict`, `payload-too-large`, `queue-full`. A function that fails is no error.
    pub async fn invoke(&self, call: Call, parameters: &dyn Parameters) -> Result<Completed> {
        let (lead, accepted, key) = self.accept(&call, parameters)?;
        if let Some(key) = key {
            return self.invoke_once(lead, call, parameters, key).await;
        }
        let led = self.pool(&call, parameters, lead).await?;
        let shared = Arc::clone(&self.shared);
        let run = async move { attempt::serve(&shared, led, call, 1, accepted).await };
        self.shared.tasks.run_to_end("attempt", run).await
    }

    /// The same for a caller who takes the answer as it comes, if the function gives it in pieces.
    ///
    /// Errors: as [`Engine::invoke`], and only before the answer begins; from there on the stream says how it ends.
    pub async fn invoke_in_pieces(&self, call: Call, parameters: &dyn Parameters) -> Result<Reply> {
        let (lead, accepted, key) = self.accept(&call, parameters)?;
        if let Some(key) = key {
            return self.invoke_once(lead, call, parameters, key).await.map(Reply::Whole);
        }
        let led = self.pool(&call, parameters, lead).await?;
        let shared = Arc::clone(&self.shared);
        let run = async move { stream::serve_in_pieces(&shared, led, call, accepted).await };
        self.shared.tasks.run_to_end("attempt", run).await
    }

    /// Whether the call would reach a version that takes a body in pieces beside the event (`CallContext::body`). If it reaches another one after all, as its
    /// target changed meanwhile, it is refused as `unavailable` before anything of the body is read.
    ///
    /// Errors: `not-found`.
    pub async fn takes_body_stream(
        &self,
        call: &Call,
        parameters: &dyn Parameters,
    ) -> Result<bool> {
        let (routes, asked) = (&self.shared.routes, Asked::of(call, parameters));
        let (_, pool) = routes.pool(asked, routes.lead(asked)?).await?;
        Ok(pool.version.config.takes_body_streams())
    }

    /// Finds out where a call goes, when it came, and whether it has a key.
    fn accept(
        &self,
        call: &Call,
        parameters: &dyn Parameters,
    ) -> Result<(Lead, Instant, Option<UniqueKey>)> {
        let accepted = self.shared.clock.instant();
        self.refuse_when_stopping()?;
        let (routes, asked) = (&self.shared.routes, Asked::of(call, parameters));
        let lead = routes.lead(asked)?;
        lead.route.namespace().take_call(|| accepted)?;
        let key = once::key(&lead.route.settings, call, parameters, self.shared.clock.as_ref())?;
        Ok((lead, accepted, key))
    }

    /// Finds the pool that serves a call.
    async fn pool(
        &self,
        call: &Call,
        parameters: &dyn Parameters,
        lead: Lead,
    ) -> Result<(Lead, Arc<Pool>)> {
        self.shared.routes.pool(Asked::of(call, parameters), lead).await
    }

    /// Memory that all live instances may have together, in MiB: what a function's share of memory is a share of.
    pub fn host_memory_mb(&self) -> u64 {
        self.shared.config.host_memory_mb
    }

    /// Whether there is room for what `next`, the document as it shall be, reserves: a tenth of the host's memory, and of what its namespace may have,
    /// stays to all functions. From the local cache: two such changes at once may together take more than that.
    ///
    /// Errors: `invalid-parameter`.
    pub fn check_reserved(&self, next: &Function) -> Result<()> {
        self.shared.routes.check_reserved(next)
    }

    /// Live instances of a function that sets no limit of its own.
    pub fn instances_per_function(&self) -> u32 {
        self.shared.config.instances_per_function
    }

    /// Accepts an asynchronous call: durable when this returns. An alias's rules see the same `parameters` when the call runs.
    ///
    /// Errors: `not-found`, `payload-too-large`, `throttled`, `queue-full`, `key-reused`, `storage-full`, `unavailable`.
    pub async fn enqueue(&self, call: Call, parameters: &dyn Parameters) -> Result<Enqueued> {
        self.enqueue_with(call, parameters, EnqueueOptions::default()).await
    }

    /// The same, with a delay.
    ///
    /// Errors: as [`Engine::enqueue`]; `invalid-parameter`.
    pub async fn enqueue_with(
        &self,
        call: Call,
        parameters: &dyn Parameters,
        options: EnqueueOptions,
    ) -> Result<Enqueued> {
        self.refuse_when_stopping()?;
        drain::enqueue(&self.shared, call, parameters, options).await
    }

    /// The settings of a function whose target exists: the function, the version, the alias. From the local cache.
    ///
    /// Errors: `not-found`.
    pub fn settings(&self, target: &FunctionRef) -> Result<Arc<FunctionSettings>> {
        let (route, _) = self.shared.routes.find(target)?;
        Ok(Arc::clone(&route.settings))
    }

    /// The version that the call `id` of `target` would run. From the local cache.
    ///
    /// Errors: `not-found`.
    pub fn route(
        &self,
        target: &FunctionRef,
        id: &RequestId,
        parameters: &dyn Parameters,
        event: &[u8],
    ) -> Result<VersionRef> {
        Ok(self.shared.routes.lead(Asked { target, id, parameters, event })?.version)
    }

    /// Makes ready what a change of a function's document needs: `next` is the document as it shall be. Instances of what calls will reach are started, as many
    /// as are busy with what they reach now, if any are. To be called before the change is made, and kept until [`Engine::caught_up`] with it. Nothing is
    /// refused for want of room or time: the change takes effect without, and a line in the log says so.
    ///
    /// Errors: `init-failed` where code cannot be loaded that calls would reach, unless `faulty` says otherwise.
    pub async fn prepare(&self, next: &Function, faulty: Faulty) -> Result<Option<Prepared>> {
        swap::prepare(&self.shared, next, faulty).await
    }

    /// Which version a call would reach, and why. `event` is the payload.
    ///
    /// Errors: `not-found`.
    pub fn explain(
        &self,
        target: &FunctionRef,
        parameters: &dyn Parameters,
        event: &[u8],
    ) -> Result<ResolvedView> {
        self.shared.routes.explain(target, parameters, event)
    }

    /// Every alias that shifts now, with what came of its calls since this process first saw that shift.
    pub fn shifts(&self) -> Vec<Shifting> {
        self.shared.routes.shifts()
    }

    /// The answers of calls that were copied to a shadow, two by two, and the number of those that were not. Handed out once.
    pub fn shadow_pairs(&self) -> Option<mpsc::Receiver<Shadowed>> {
        self.shared.shadows.receiver()
    }

    /// What a namespace uses now, from the local cache.
    pub fn namespace_use(&self, name: &NamespaceName) -> NamespaceUse {
        let known = self.shared.pools.admission.known_namespace(name);
        let used = known.map_or_else(NamespaceUse::default, |namespace| namespace.used());
        let queued = self.shared.queue.group_depth(name.as_str());
        NamespaceUse { queued_calls: queued.messages, queued_bytes: queued.bytes, ..used }
    }

    /// How many instances are kept started for a version or an alias, and how many of them are there.
    ///
    /// Errors: `not-found`.
    pub fn readiness(&self, target: &FunctionRef) -> Result<Readiness> {
        self.shared.routes.readiness(target, self.shared.clock.now())
    }

    /// Waits until the local cache knows the change `revision`, so that whoever made it sees its effect.
    ///
    /// Errors: `unavailable` after five seconds: the watch on the catalogue is broken and being mended.
    pub async fn caught_up(&self, revision: Revision) -> Result<()> {
        let clock = &self.shared.clock;
        tokio::select! {
            biased;
            caught_up = self.shared.routes.caught_up(revision) => caught_up,
            () = clock.sleep_until(clock.instant() + CATCH_UP) => {
                let message = "the change is stored, but the daemon does not act on it yet";
                Err(Error::platform(Code::Unavailable, message).retry_after(WATCH_PAUSE))
            }
        }
    }

    /// What the engine holds now.
    pub fn stats(&self) -> Stats {
        let pools = &self.shared.pools;
        let mut stats = Stats {
            memory_mb: pools.admission.memory_used_mb(),
            instances: pools.counts.read(),
            ..Stats::default()
        };
        for pool in pools.registry.all() {
            let (idle, frozen, waiting) = pool.counts();
            stats.instances.idle += idle;
            stats.instances.frozen += frozen;
            stats.waiting_calls += waiting;
            stats.learned += usize::from(pool.has_learned());
        }
        stats
    }

    /// Ends the calls under way, and says to their callers that the daemon stops. For a daemon that has waited for them long enough. Whether there were any
    /// that can be ended.
    pub fn cut_off(&self) -> bool {
        self.shared.cut_off.store(true, Ordering::Release);
        self.shared.pools.sandbox.end_calls()
    }

    /// Refuses new calls, lets those under way end within `grace`, then cuts them off, stops every instance, reports the last use.
    /// Returns how many calls were still running.
    pub async fn drain(&self, grace: Duration) -> usize {
        let left = self.shared.tasks.drain(grace).await;
        if left > 0 && self.cut_off() {
            self.shared.tasks.drain(CUT_OFF_GRACE).await;
        }
        for pool in self.shared.pools.registry.all() {
            pool.retire();
        }
        /// Destroying an instance takes milliseconds; a kernel that takes longer shall not hold up the exit.
        const STOP_GRACE: Duration = Duration::from_secs(5);
        let stuck = self.shared.pools.tasks.drain(STOP_GRACE).await;
        if stuck > 0 {
            tracing::warn!(stuck, "instances were still stopping at exit");
        }
        self.shared.report_usage().await;
        left
    }

    fn refuse_when_stopping(&self) -> Result<()> {
        if self.shared.tasks.is_ending() || self.shared.is_cut_off() {
            return Err(pool::stopping());
        }
        Ok(())
    }
}

impl Shared {
    /// Whether calls that fail now do so because they were ended.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Fills the cache, then keeps it current in the background.
    async fn start_watch(self: &Arc<Self>) -> Result<()> {
        let mut watch = self.fill().await?;
        let shared = Arc::clone(self);
        self.tasks.spawn_until_cancelled("watch-catalogue", async move {
            loop {
                let Err(error) = shared.follow(watch).await;
                tracing::error!(%error, "the watch on the catalogue broke; reading it again");
                watch = loop {
                    shared.clock.sleep_until(shared.clock.instant() + WATCH_PAUSE).await;
                    match shared.fill().await {
                        Ok(watch) => break watch,
                        Err(error) => tracing::error!(%error, "cannot read the catalogue"),
                    }
                };
            }
        });
        Ok(())
    }

    /// Reads the whole catalogue into the cache. The watch it answers with goes on from there.
    async fn fill(&self) -> Result<Box<dyn Watch>> {
        let stood_at = self.meta.revision().await?;
        let mut watch = self.meta.watch("", 0).await?;
        let mut there = HashSet::new();
        while let Some(change) = watch.next().await? {
            if change.value.is_some() && Routes::follows(&change.key) {
                there.insert(change.key.clone());
            }
            self.routes.apply(&change);
        }
        self.routes.retain(&there);
        self.routes.advance(stood_at);
        Ok(watch)
    }

    /// Applies changes until the watch breaks.
    async fn follow(&self, mut watch: Box<dyn Watch>) -> Result<Infallible> {
        loop {
            if let Some(change) = watch.next().await? {
                self.routes.apply(&change);
            }
        }
    }

    async fn housekeeping(&self) {
        loop {
            self.clock.sleep_until(self.clock.instant() + HOUSEKEEPING).await;
            let now = self.clock.instant();
            for pool in self.pools.registry.all() {
                pool.look_after(now);
            }
            self.routes.provide(self.clock.now()).await;
            self.report_usage().await;
            for pool in self.pools.registry.all() {
                pool.forget_if_done();
            }
        }
    }

    /// Carries the counts of all pools to the `Usage` port; what cannot be written is counted again next time.
    async fn report_usage(&self) {
        let time = self.clock.now();
        let mut taken = Vec::new();
        for pool in self.pools.registry.all() {
            if let Some(sums) = pool.meter.take() {
                taken.push((pool, sums));
            }
        }
        if taken.is_empty() {
            return;
        }
        let deltas = taken.iter().map(|(pool, sums)| UsageDelta {
            function: pool.version.key.clone(),
            version: pool.version.label(),
            time,
            sums: *sums,
        });
        if let Err(error) = self.usage.add(deltas.collect()).await {
            tracing::error!(%error, "cannot record use; trying again");
            for (pool, sums) in taken {
                pool.meter.add(&sums);
            }
        }
    }
}
