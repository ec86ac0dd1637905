//! A zygote: a warm runtime, without a function, that is forked whenever an instance is wanted ([`crate::jail`]).
//!
//! Its children are in their sandboxes within some milliseconds and share its memory until they write to it. Nothing of a function is ever in it. What its
//! children cannot have each for themselves (address layout, hash secrets) is why none serves for ever.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use model::ids::RequestId;
use model::{Code, Error};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::class::Recipe;
use crate::frame::{FrameReader, Incoming};
use crate::jail::cgroup::GroupLimits;
use crate::jail::{Born, Environment, InstanceId, Speaks, Steps};
use crate::process::birth::{Dowry, Newborn, Wanted, failed, not_started, too_slow};
use crate::process::bootstraps;
use crate::process::environment;
use crate::process::folders::blocking;
use crate::process::image::Shared;
use crate::process::root;

/// After what part of its children, in percent, and of its age another one is made that takes its place.
const WORN_PERCENT: u32 = 75;
/// How old one becomes.
const AGE: Duration = Duration::from_secs(3_600);
/// How long it may take until it waits to be forked: some hundred milliseconds of processor time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Children that are under way at once. It makes one at a time, so more would only wait there instead of here.
const AT_ONCE: usize = 8;
/// How long a child may take, from the request until it runs; it takes some milliseconds, [`AT_ONCE`] of them together some ten.
pub(in crate::process) const CHILD_PATIENCE: Duration = Duration::from_secs(1);
/// Its weight against functions while nobody waits for a child of it: that of a small function.
pub(super) const WEIGHT_AT_REST: u32 = 10;
/// The same while a start does.
const WEIGHT_IN_HASTE: u32 = 100;
/// Memory limit in MiB: far more than one takes, and a bound.
const MEMORY_MB: u32 = 512;
/// Limit of threads and helpers.
const PROCESSES: u32 = 128;

/// One.
#[derive(Debug)]
pub(in crate::process) struct Zygote {
    newborn: Newborn,
    id: InstanceId,
    born: Instant,
    forks: AtomicU32,
    /// Children that it may have.
    children: u32,
    /// Starts that wait for it.
    hasty: Mutex<u32>,
    /// Whether a child did not come: then no further one is asked for.
    given_up: OnceLock<String>,
    turns: Semaphore,
}

/// What a zygote shall be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Children that it may have.
    pub(super) children: u32,
    /// Whether another one stands, so that it comes up in what functions do not want of the processors.
    pub(super) succeeds: bool,
}

/// The turn of a start that waits: as long as there is one the zygote has the weight for it.
#[derive(Debug)]
pub(in crate::process) struct Haste<'a>(&'a Zygote);

impl Drop for Haste<'_> {
    fn drop(&mut self) {
        let mut hasty = self.0.hasty();
        *hasty -= 1;
        if *hasty == 0 {
            self.0.weigh(WEIGHT_AT_REST);
        }
    }
}

impl Zygote {
    /// Makes one and waits until it is warm.
    pub(super) async fn make(
        shared: &Arc<Shared>,
        recipe: &Recipe,
        wish: Wish,
    ) -> Result<Self, Error> {
        let made = bring_up(shared, recipe, wish);
        let mut zygote = tokio::time::timeout(PATIENCE, made).await.map_err(too_slow)??;
        zygote.newborn.remains.limit(limits(false)).map_err(failed)?;
        Ok(zygote)
    }

    /// How an instance says that it wants to be born by this one.
    pub(in crate::process) fn parent(&self) -> Born {
        self.forks.fetch_add(1, Ordering::Relaxed);
        Born::ByZygote(self.id)
    }

    /// Waits for a turn; `None` if no child should be asked for any more.
    pub(in crate::process) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.ok()?;
        self.lives().then_some(turn)
    }

    /// The same for a start: until the answer is dropped it is not held up by functions.
    pub(in crate::process) async fn turn_in_haste(
        &self,
    ) -> Option<(Haste<'_>, SemaphorePermit<'_>)> {
        let haste = {
            let mut hasty = self.hasty();
            if *hasty == 0 {
                self.weigh(WEIGHT_IN_HASTE);
            }
            *hasty += 1;
            Haste(self)
        };
        Some((haste, self.turn().await?))
    }

    fn weigh(&self, cpu_weight: u32) {
        if let Err(error) = self.newborn.remains.weigh(cpu_weight) {
            tracing::debug!(%error, "a zygote keeps its weight");
        }
    }

    fn hasty(&self) -> MutexGuard<'_, u32> {
        self.hasty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A child did not come, or not as it should.
    pub(in crate::process) fn give_up(&self, why: &Error) {
        if self.given_up.set(why.to_string()).is_ok() {
            tracing::warn!(%why, "a zygote is not used any more");
        }
    }

    fn lives(&self) -> bool {
        self.newborn.remains.exit().is_none() && self.given_up.get().is_none()
    }

    /// Whether it may go on.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        self.lives() && self.is_within(now, 100)
    }

    /// Whether another one should be made that takes its place.
    pub(super) fn is_worn(&self, now: Instant) -> bool {
        !self.is_within(now, WORN_PERCENT)
    }

    /// Whether it has had less than so much of its age and its children.
    fn is_within(&self, now: Instant, percent: u32) -> bool {
        let children = u64::from(self.children) * u64::from(percent) / 100;
        now.saturating_duration_since(self.born) < AGE * percent / 100
            && u64::from(self.forks.load(Ordering::Relaxed)) < children
    }

    /// Why it was given up, or that it ended.
    pub(super) fn broke(&self) -> Option<String> {
        let ended = self.newborn.remains.exit().map(|exit| format!("it ended: {exit:?}"));
        self.given_up.get().cloned().or(ended)
    }

    /// What it has written to standard error since it was asked last.
    pub(super) fn last_words(&self) -> String {
        let mut said = [0; 512];
        rustix::io::ioctl_fionbio(&self.newborn.stderr, true).unwrap_or_default();
        let length = rustix::io::read(&self.newborn.stderr, &mut said).unwrap_or_default();
        let said = said.get(..length).unwrap_or_default();
        String::from_utf8_lossy(said).trim().escape_debug().to_string()
    }
}

/// `at_leisure`: in what functions do not want of the processors.
fn limits(at_leisure: bool) -> GroupLimits {
    GroupLimits {
        memory_mb: MEMORY_MB,
        processes: PROCESSES,
        cpu_weight: WEIGHT_AT_REST,
        cpu_millis: None,
        idle: at_leisure,
    }
}

async fn bring_up(shared: &Arc<Shared>, recipe: &Recipe, wish: Wish) -> Result<Zygote, Error> {
    let born = shared.clock.instant();
    if let Some(folder) = root::bootstraps(&recipe.root) {
        bootstraps::complete(&shared.compiling, folder, &recipe.runtime).await?;
    }
    let own = Arc::clone(shared);
    let name = RequestId::generate().to_string();
    let group = blocking(move || own.groups.create(&name, limits(false)).map_err(failed)).await?;
    let wanted = Wanted {
        argv: recipe.zygote_argv(),
        environment: Environment::of(&environment::constant(&recipe.runtime), 0),
        root: (*recipe.root).clone(),
        limits: recipe.class.limits,
        takes_mounts: false,
        born: Born::AsZygote,
        speaks: Speaks::Frames,
        companions: Vec::new(),
    };
    let dowry = Dowry { slot: None, group, connection: None, unpacked: None };
    let mut newborn = Newborn::ask(shared, wanted, dowry, Steps::begin()).await?;
    newborn.remains.started().await.map_err(not_started)?;
    newborn.remains.limit(limits(wish.succeeds)).map_err(failed)?;
    let id = newborn.remains.id().ok_or_else(|| Error::internal("a zygote has no process"))?;
    let said = newborn.next(&mut FrameReader::new()).await;
    let zygote = Zygote {
        newborn,
        id,
        born,
        forks: AtomicU32::new(0),
        children: wish.children,
        hasty: Mutex::new(0),
        given_up: OnceLock::new(),
        turns: Semaphore::new(AT_ONCE),
    };
    match said {
        Ok(Incoming::Hello) => Ok(zygote),
        Ok(_) => Err(Error::platform(Code::SandboxFailed, "a zygote did not say HELLO first")),
        Err(error) => {
            let message = format!("a zygote did not come up: {error}: {}", zygote.last_words());
            Err(Error::platform(Code::SandboxFailed, message))
        }
    }
}
