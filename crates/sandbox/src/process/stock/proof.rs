//! A trial: one kit is given code of ours, a variable and a size of `/tmp`, and asked what it sees. Only then are functions given any.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::ids::RequestId;
use model::invocation::{CallContext, Invocation};
use model::{Code, Error};
use serde::Deserialize;

use super::class::Recipe;
use super::kit::Kit;
use super::zygote::{WEIGHT_AT_REST, Zygote};
use crate::frame::{self, Incoming, Init, InitFunction};
use crate::jail::cgroup::GroupLimits;
use crate::jail::{Environment, Mount};
use crate::process::birth::{failed, too_slow};
use crate::process::environment::{LAYERS, TASK_ROOT};
use crate::process::image::Shared;
use crate::process::root;

/// How long it may take once the kit is there.
const PATIENCE: Duration = Duration::from_secs(30);
/// The variable that it is given.
const VARIABLE: &str = "HANSHU_PROOF";
/// What it is given of `/tmp`, in MiB.
const TMP_MB: u32 = 7;

/// What `prove` of `runtimes/*/proof.*` (in Java of `ahead`) answers.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Seen {
    /// The variable's value.
    variable: String,
    /// The working directory.
    folder: String,
    /// Whether the code is there.
    code: bool,
    /// Entries of `/opt`.
    layers: usize,
    /// Whether code or layers could be written to.
    written: bool,
    /// Size of `/tmp`.
    tmp_bytes: u64,
    /// What of the runtime does not work, if that was asked for: name and error of each.
    #[serde(default)]
    broken: Vec<String>,
}

/// An error unless a function would find everything as it has to be.
///
/// A child of a zygote also has to show that the runtime works in it, threads, timers and all.
pub(super) async fn prove(
    shared: &Arc<Shared>,
    recipe: &Recipe,
    zygote: Option<&Zygote>,
) -> Result<(), Error> {
    let mut kit = Kit::make(shared, recipe, zygote).await?;
    let id = RequestId::generate();
    let expected = Seen {
        variable: id.to_string(),
        folder: TASK_ROOT.to_owned(),
        code: true,
        layers: 0,
        written: false,
        tmp_bytes: u64::from(TMP_MB) << 20,
        broken: Vec::new(),
    };
    let asked = tokio::time::timeout(PATIENCE, ask(&mut kit, recipe, id, zygote.is_some()));
    let seen: Seen = serde_json::from_slice(&asked.await.map_err(too_slow)??).map_err(failed)?;
    if seen == expected {
        return Ok(());
    }
    let message = format!("a pre-started instance saw {seen:?}, expected {expected:?}");
    Err(Error::platform(Code::SandboxFailed, message))
}

async fn ask(
    kit: &mut Kit,
    recipe: &Recipe,
    id: RequestId,
    thoroughly: bool,
) -> Result<Bytes, Error> {
    let later = &recipe.runtime.language.folder();
    let bootstraps = root::bootstraps(&recipe.root).ok_or_else(|| {
        Error::platform(Code::SandboxFailed, "the root has no folder of bootstraps")
    })?;
    let mounts = vec![
        Mount::bind(bootstraps.join(later), TASK_ROOT.trim_start_matches('/')),
        Mount::bind(root::empty(&recipe.root), LAYERS.trim_start_matches('/')),
        Mount::Memory { to: root::TMP.into(), megabytes: TMP_MB },
    ];
    let limits = GroupLimits {
        memory_mb: recipe.memory_mb,
        processes: u32::try_from(recipe.class.limits.processes).unwrap_or(u32::MAX),
        cpu_weight: WEIGHT_AT_REST,
        cpu_millis: None,
        idle: false,
    };
    kit.equip(limits, mounts).await?;
    let mut environment = Environment::default();
    environment.push(VARIABLE, &id.to_string());
    let init = Init {
        handler: recipe.runtime.trial(),
        task_root: TASK_ROOT,
        function: InitFunction {
            name: "proof",
            version: "1",
            arn: "",
            memory_mb: recipe.memory_mb,
            log_group: "",
            log_stream: "",
        },
        environment: Some(&environment),
    };
    frame::init(&init).map_err(failed)?.send(&kit.newborn.socket).await.map_err(failed)?;
    let invocation = Invocation {
        id,
        attempt: 1,
        payload: serde_json::json!({"variable": VARIABLE, "thoroughly": thoroughly})
            .to_string()
            .into(),
        timeout: PATIENCE,
        context: CallContext::default(),
    };
    match kit.next().await.map_err(failed)? {
        Incoming::Ready => {}
        other => return Err(unexpected(&other)),
    }
    let deadline = model::clock::UnixMillis(u64::MAX);
    let mut call = frame::invoke(&invocation, deadline).map_err(failed)?;
    call.send(&kit.newborn.socket).await.map_err(failed)?;
    match kit.next().await.map_err(failed)? {
        Incoming::Response { body, .. } => Ok(body),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(frame: &Incoming) -> Error {
    Error::platform(Code::SandboxFailed, format!("a pre-started instance said {frame:?}"))
}
