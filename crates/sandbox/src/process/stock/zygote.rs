//! A zygote: a warm runtime, without a function, that is forked whenever an instance is wanted ([`crate::jail`]).
//!
//! Its children are in their sandboxes within some milliseconds and share its memory until they write to it. Nothing of a function is ever in it. What its
//! children cannot have each for themselves (address layout, hash secrets) is why none serves for ever.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use model::ids::RequestId;
use model::{Code, Error};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::class::Recipe;
use crate::frame::{FrameReader, Incoming};
use crate::jail::cgroup::GroupLimits;
use crate::jail::{Born, Environment, InstanceId, Speaks, Steps};
use crate::process::birth::{Dowry, Newborn, Wanted, failed, not_started, too_slow};
use crate::process::environment;
use crate::process::folders::blocking;
use crate::process::image::Shared;

/// Children of one.
const FORKS: u32 = 1_000;
/// How old one becomes.
const AGE: Duration = Duration::from_secs(3_600);
/// How long it may take until it waits to be forked: some hundred milliseconds of processor time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Children that are under way at once. It makes one at a time, so more would only wait there instead of here.
const AT_ONCE: usize = 8;
/// How long a child may take, from the request until it runs; it takes some milliseconds, [`AT_ONCE`] of them together some ten.
pub(in crate::process) const CHILD_PATIENCE: Duration = Duration::from_secs(1);
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
    /// Whether a child did not come: then no further one is asked for.
    given_up: OnceLock<String>,
    turns: Semaphore,
}

impl Zygote {
    /// Makes one and waits until it is warm.
    pub(super) async fn make(shared: &Arc<Shared>, recipe: &Recipe) -> Result<Self, Error> {
        let born = shared.clock.instant();
        tokio::time::timeout(PATIENCE, bring_up(shared, recipe, born)).await.map_err(too_slow)?
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
        let young = now.saturating_duration_since(self.born) < AGE;
        self.lives() && young && self.forks.load(Ordering::Relaxed) < FORKS
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

async fn bring_up(shared: &Arc<Shared>, recipe: &Recipe, born: Instant) -> Result<Zygote, Error> {
    let limits = GroupLimits {
        memory_mb: MEMORY_MB,
        processes: PROCESSES,
        cpu_weight: 100,
        cpu_millis: None,
    };
    let own = Arc::clone(shared);
    let name = RequestId::generate().to_string();
    let group = blocking(move || own.groups.create(&name, limits).map_err(failed)).await?;
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
    let id = newborn.remains.id().ok_or_else(|| Error::internal("a zygote has no process"))?;
    let said = newborn.next(&mut FrameReader::new()).await;
    let zygote = Zygote {
        newborn,
        id,
        born,
        forks: AtomicU32::new(0),
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
