//! A pre-started instance: in its sandbox, its runtime and bootstrap loaded and warm, without a function.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ids::RequestId;
use model::{Code, Error};

use super::class::Recipe;
use super::zygote::{CHILD_PATIENCE, Zygote};
use crate::frame::{FrameError, FrameReader, Incoming};
use crate::jail::cgroup::{Group, GroupLimits};
use crate::jail::{Born, Environment, Mount, Speaks, Steps};
use crate::process::birth::{Dowry, Newborn, Wanted, failed, not_started, too_slow};
use crate::process::bootstraps;
use crate::process::environment;
use crate::process::folders::blocking;
use crate::process::image::Shared;
use crate::process::root;

/// How long it may take until it waits for a function. It takes some ten milliseconds of processor time, of which it gets what nobody else wants.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its weight against functions while it comes up.
const WEIGHT: u32 = 1;

/// One that waits for a function.
#[derive(Debug)]
pub(in crate::process) struct Kit {
    pub(in crate::process) newborn: Newborn,
    pub(in crate::process) frames: FrameReader,
    /// When it was made.
    pub(super) born: Instant,
    /// Its memory while it waits, in MiB.
    pub(super) expected_mb: u32,
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
            let made = bring_up(shared, recipe, Born::ByExec);
            return tokio::time::timeout(PATIENCE, made).await.map_err(too_slow)?;
        };
        let over = || Error::platform(Code::SandboxFailed, "a zygote was given up");
        let _turn = zygote.turn().await.ok_or_else(over)?;
        let made = bring_up(shared, recipe, zygote.parent());
        let made = tokio::time::timeout(CHILD_PATIENCE, made).await.map_err(too_slow);
        let made = made.and_then(|made| made);
        made.inspect_err(|error| zygote.give_up(error))
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

async fn bring_up(shared: &Arc<Shared>, recipe: &Recipe, by: Born) -> Result<Kit, Error> {
    let born = shared.clock.instant();
    let slot = shared.users.take_slot()?;
    let group = group(shared, recipe).await?;
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
    let expected_mb = recipe.kit_mb(by != Born::ByExec);
    let mut kit = Kit { newborn, frames: FrameReader::new(), born, expected_mb };
    kit.newborn.remains.started().await.map_err(not_started)?;
    match kit.next().await {
        Ok(Incoming::Hello) => Ok(kit),
        Ok(_) => Err(Error::platform(Code::SandboxFailed, "a bootstrap did not say HELLO first")),
        Err(e) => Err(failed(e)),
    }
}

/// Not one of those that lie ready: those are for starts that somebody waits for.
async fn group(shared: &Arc<Shared>, recipe: &Recipe) -> Result<Option<Group>, Error> {
    if !shared.groups.limits_memory() {
        return Ok(None);
    }
    let limits = GroupLimits {
        memory_mb: recipe.memory_mb,
        processes: u32::try_from(recipe.class.limits.processes).unwrap_or(u32::MAX),
        cpu_weight: WEIGHT,
        cpu_millis: None,
    };
    let shared = Arc::clone(shared);
    let name = RequestId::generate().to_string();
    blocking(move || shared.groups.create(&name, limits).map_err(failed)).await
}
