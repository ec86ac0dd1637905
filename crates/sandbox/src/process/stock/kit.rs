//! A pre-started instance: in its sandbox, its runtime and bootstrap loaded and warm, without a function.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ids::RequestId;
use model::{Code, Error};

use super::class::Recipe;
use super::zygote::{WEIGHT_AT_REST, Zygote};
use crate::frame::{FrameError, FrameReader, Incoming};
use crate::jail::cgroup::{Group, GroupLimits};
use crate::jail::{Born, Environment, Mount, Speaks, Steps};
use crate::process::birth::{Dowry, Newborn, Wanted, failed, not_started, too_slow};
use crate::process::bootstraps;
use crate::process::environment;
use crate::process::folders::blocking;
use crate::process::image::Shared;
use crate::process::root;

/// How long it may take until it waits for a function. By exec it takes some ten milliseconds of processor time, of which it gets what nobody else wants.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its weight against functions while it comes up, until it runs; where the kernel can do that it then gets what no function wants of the processors.
const WEIGHT: u32 = 1;
/// How long a zygote may take over one: it goes on at rest, so it may have to wait for functions.
const FORK_PATIENCE: Duration = Duration::from_secs(10);

/// One that waits for a function.
#[derive(Debug)]
pub(in crate::process) struct Kit {
    pub(in crate::process) newborn: Newborn,
    pub(in crate::process) frames: FrameReader,
    /// When it was made.
    pub(super) born: Instant,
    /// Its memory while it waits, in MiB.
    pub(super) expected_mb: u32,
    /// Whether it came of a zygote.
    pub(super) forked: bool,
}

impl Kit {
    /// Makes one and waits until it waits for a function: by a zygote, if one is given.
    pub(super) async fn make(
        shared: &Arc<Shared>,
        recipe: &Recipe,
        zygote: Option<&Zygote>,
    ) -> Result<Self, Error> {
        if let Some(folder) = root::bootstraps(&recipe.root) {
            bootstraps::complete(&shared.compiling, folder, &recipe.runtime).await?;
        }
        let Some(zygote) = zygote else {
            let made = async { bear(shared, recipe, Born::ByExec).await?.greet().await };
            return tokio::time::timeout(PATIENCE, made).await.map_err(too_slow)?;
        };
        let made = fork(shared, recipe, zygote).await;
        made.inspect_err(|error| zygote.give_up(error))
    }

    /// Waits until it waits for a function.
    async fn greet(mut self) -> Result<Self, Error> {
        match self.next().await {
            Ok(Incoming::Hello) => Ok(self),
            Ok(_) => {
                Err(Error::platform(Code::SandboxFailed, "a bootstrap did not say HELLO first"))
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Whether it still waits.
    pub(super) fn waits(&self) -> bool {
        self.newborn.remains.exit().is_none()
    }

    /// Gives it limits and mounts code in it. After an error it is of no more use.
    pub(in crate::process) async fn equip(
        &mut self,
        limits: GroupLimits,
        mounts: Vec<Mount>,
    ) -> Result<(), Error> {
        let remains = &mut self.newborn.remains;
        remains.limit(limits).map_err(failed)?;
        let attached =
            tokio::time::timeout(crate::process::birth::SETUP_TIMEOUT, remains.attach(mounts));
        attached.await.map_err(too_slow)?.map_err(not_started)
    }

    /// The next frame of what nobody's code runs in.
    pub(super) async fn next(&mut self) -> Result<Incoming, FrameError> {
        self.newborn.next(&mut self.frames).await
    }
}

/// Once the child is in its place it has nothing to do with its zygote any more, and warms itself in whatever time nobody else wants.
async fn fork(shared: &Arc<Shared>, recipe: &Recipe, zygote: &Zygote) -> Result<Kit, Error> {
    let over = || Error::platform(Code::SandboxFailed, "a zygote was given up");
    let turn = zygote.turn().await.ok_or_else(over)?;
    let born = bear(shared, recipe, zygote.parent());
    let kit = tokio::time::timeout(FORK_PATIENCE, born).await.map_err(too_slow)??;
    drop(turn);
    tokio::time::timeout(PATIENCE, kit.greet()).await.map_err(too_slow)?
}

/// Until its process runs.
async fn bear(shared: &Arc<Shared>, recipe: &Recipe, by: Born) -> Result<Kit, Error> {
    let born = shared.clock.instant();
    let forked = by != Born::ByExec;
    let slot = shared.users.take_slot()?;
    let group = group(shared, limits(recipe, if forked { WEIGHT_AT_REST } else { WEIGHT })).await?;
    let wanted = Wanted {
        argv: recipe.class.argv.clone(),
        environment: Environment::of(&environment::constant(&recipe.runtime), 0),
        root: (*recipe.root).clone(),
        limits: recipe.class.limits,
        takes_mounts: true,
        born: by,
        speaks: Speaks::Frames,
        companions: Vec::new(),
    };
    let dowry = Dowry { slot, group, connection: None, unpacked: None };
    let newborn = Newborn::ask(shared, wanted, dowry, Steps::begin()).await?;
    let expected_mb = recipe.kit_mb(forked);
    let mut kit = Kit { newborn, frames: FrameReader::new(), born, expected_mb, forked };
    kit.newborn.remains.started().await.map_err(not_started)?;
    // Not before: until then it waits for locks that all of the kernel shares, and may have one.
    let at_leisure = GroupLimits { idle: true, ..limits(recipe, WEIGHT) };
    kit.newborn.remains.limit(at_leisure).map_err(failed)?;
    Ok(kit)
}

fn limits(recipe: &Recipe, cpu_weight: u32) -> GroupLimits {
    GroupLimits {
        memory_mb: recipe.memory_mb,
        processes: u32::try_from(recipe.class.limits.processes).unwrap_or(u32::MAX),
        cpu_weight,
        cpu_millis: None,
        idle: false,
    }
}

/// Not one of those that lie ready: those are for starts that somebody waits for.
async fn group(shared: &Arc<Shared>, limits: GroupLimits) -> Result<Option<Group>, Error> {
    if !shared.groups.limits_memory() {
        return Ok(None);
    }
    let shared = Arc::clone(shared);
    let name = RequestId::generate().to_string();
    blocking(move || shared.groups.create(&name, limits).map_err(failed)).await
}
