//! A version, ready to be started: everything that its instances share, worked out once.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::clock::Clock;
use model::function::{Cores, Version};
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind, StartPath};
use model::ports::{Image, Instance, Logs, StartFailed, Vault};
use model::tasks::Tasks;
use model::{Code, Error, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::birth::{Dowry, Newborn, SETUP_TIMEOUT, Wanted, failed, not_started, too_slow};
use super::environment::{self, LAYERS, TASK_ROOT};
use super::failure;
use super::folders::blocking;
use super::instance::ProcessInstance;
use super::life::{Life, micros};
use super::network::Networks;
use super::packages::Unpacked;
use super::provided::Programs;
use super::remains::Remains;
use super::root::{self, Layout};
use super::runtimes::{Language, Runtime};
use super::slots::{Slot, Slots};
use super::stock::{CHILD_PATIENCE, Kit, Plain, Recipe, Stock, Zygote, plain};
use crate::frame::{self, FrameReader, Init, InitFunction};
use crate::jail::cgroup::{Group, GroupLimits, Groups};
use crate::jail::{Born, Environment, Limits, Mount, Root, Spawner, Speaks, Step, Steps};
use crate::output::Output;

/// What a process may use beyond its memory limit where only `setrlimit` limits it, in MiB: thread stacks and arenas are counted as they are
/// reserved, not as they are used.
const DATA_ALLOWANCE_MB: u64 = 192;

/// Whom instances run as.
#[derive(Debug)]
pub(super) enum Users {
    /// Each as a user of its own.
    Strangers(Arc<Slots>),
    /// All as the daemon's user.
    Daemon {
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

impl Users {
    /// Whether each instance gets a host user of its own.
    pub(super) fn are_strangers(&self) -> bool {
        matches!(self, Self::Strangers(_))
    }

    /// The user of one more instance, where each has its own.
    pub(super) fn take_slot(&self) -> Result<Option<Slot>, Error> {
        match self {
            Self::Strangers(slots) => slots.take().map(Some),
            Self::Daemon { .. } => Ok(None),
        }
    }
}

/// What all images share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spawner: Spawner,
    pub(super) groups: Groups,
    pub(super) users: Users,
    pub(super) networks: Arc<Networks>,
    pub(super) logs: Arc<dyn Logs>,
    pub(super) vault: Arc<dyn Vault>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: Tasks,
    /// An empty folder on which roots are put together.
    pub(super) root_at: std::path::PathBuf,
    /// Runtimes that may come up at once.
    pub(super) turns: Arc<Semaphore>,
    /// Held by who compiles a bootstrap.
    pub(super) compiling: tokio::sync::Mutex<()>,
}

/// One version, ready to be started.
#[derive(Debug)]
pub(super) struct ProcessImage {
    pub(super) shared: Arc<Shared>,
    stock: Arc<Stock>,
    pub(super) version: Arc<Version>,
    runtime: Arc<Runtime>,
    pub(super) unpacked: Arc<Unpacked>,
    argv: Vec<String>,
    environment: Vec<String>,
    root: Root,
    limits: Limits,
    /// For those that are pre-started, or why none can be used.
    ahead: Result<Recipe, Plain>,
    /// Where the package brings its own runtime: what is executed, or why nothing can be.
    programs: Option<Result<Programs, Failure>>,
}

impl ProcessImage {
    pub(super) fn new(
        (shared, stock): (Arc<Shared>, Arc<Stock>),
        version: Arc<Version>,
        runtime: Arc<Runtime>,
        layout: &Layout,
        unpacked: Arc<Unpacked>,
    ) -> Self {
        let mut mounts = layout.mounts.clone();
        limit_tmp(&mut mounts, version.config.tmp_mb);
        mounts.push(Mount::bind(unpacked.package(), TASK_ROOT.trim_start_matches('/')));
        mounts.extend(unpacked.layers().map(|at| Mount::bind(at, LAYERS.trim_start_matches('/'))));
        let root = Root { skeleton: layout.skeleton.clone(), at: shared.root_at.clone(), mounts };
        let ahead = recipe(&shared, &version, &runtime, layout);
        if let Err(why) = &ahead {
            tracing::debug!(function = %version.key, %why, "its instances are started the plain way");
        }
        Self {
            argv: runtime.argv(version.config.memory_mb),
            environment: environment::variables(&version, &runtime),
            root,
            limits: limits_of(&shared, &version),
            ahead,
            programs: (runtime.language == Language::Provided).then(|| Programs::find(&unpacked)),
            shared,
            stock,
            version,
            runtime,
            unpacked,
        }
    }

    /// The variables of one instance, as far as it lacks them. Here secrets are opened; they are gone when they have been sent.
    pub(super) fn environment(
        &self,
        has: &[String],
        log_stream: &str,
    ) -> Result<Environment, Error> {
        let secrets = environment::secrets(&self.version, &*self.shared.vault)?;
        let lacks: Vec<_> = self.environment.iter().filter(|v| !has.contains(v)).cloned().collect();
        let mut all = Environment::of(&lacks, secrets.len() + 1);
        for (key, text) in &secrets {
            all.push(key, text.expose());
        }
        all.push(environment::LOG_STREAM, log_stream);
        Ok(all)
    }

    pub(super) fn log_stream(&self) -> String {
        let now = self.shared.clock.now().to_string();
        let day: String = now.chars().take(10).map(|c| if c == '-' { '/' } else { c }).collect();
        let id = RequestId::generate().to_string().replace('-', "");
        format!("{day}/[{}]{id}", self.version.label())
    }

    /// What its root is made of.
    pub(super) fn root_mounts(&self) -> &[Mount] {
        &self.root.mounts
    }

    /// Sets the sandbox up and executes the runtime in it, or has a zygote fork it into it.
    async fn launch(&self, begun: Instant, zygote: Option<&Zygote>) -> Result<Launched, Error> {
        let mut steps = Steps::begin();
        let log_stream = self.log_stream();
        // A zygote's child has what is constant, and is told the rest as a pre-started instance is.
        let (has, path, born) = match zygote {
            None => (Vec::new(), StartPath::Exec, Born::ByExec),
            Some(zygote) => {
                (environment::constant(&self.runtime), StartPath::Zygote, zygote.parent())
            }
        };
        let environment = self.environment(&has, &log_stream)?;
        let (environment, later) = match zygote {
            None => (environment, None),
            Some(_) => (Environment::default(), Some(environment)),
        };
        let dowry = self.dowry(&mut steps).await?;
        let wanted = self.wanted(environment, born);
        let newborn = Newborn::ask(&self.shared, wanted, dowry, steps).await?;
        let mut instance = self.instance(newborn, FrameReader::new(), path)?;
        // The socket takes it at once, so it waits there for the runtime.
        self.send_init(&instance, &log_stream, later.as_ref()).await?;
        let started = tokio::time::timeout(SETUP_TIMEOUT, instance.life.remains.started()).await;
        let steps = started.map_err(too_slow)?.map_err(not_started)?;
        Ok(self.launched(instance, begun, steps))
    }

    /// What one more instance gets of its own.
    pub(super) async fn dowry(&self, steps: &mut Steps) -> Result<Dowry, Error> {
        let slot = self.shared.users.take_slot()?;
        let group = self.group().await?;
        steps.mark(Step::Group);
        let policy = &self.version.config.network;
        let connection = if policy.is_connected() {
            Some(self.shared.networks.connect(policy).await?)
        } else {
            None
        };
        Ok(Dowry { slot, group, connection, unpacked: Some(Arc::clone(&self.unpacked)) })
    }

    /// What all of its instances are, but those that wait for their function.
    pub(super) fn wanted(&self, environment: Environment, born: Born) -> Wanted {
        Wanted {
            argv: self.argv.clone(),
            environment,
            root: self.root.clone(),
            limits: self.limits,
            takes_mounts: false,
            born,
            speaks: Speaks::Frames,
            companions: Vec::new(),
        }
    }

    /// A start by a zygote.
    async fn start_forked(&self, begun: Instant) -> Forked {
        let zygote = self.ahead.as_ref().ok().and_then(|recipe| self.stock.zygote(recipe));
        let Some(zygote) = zygote else { return Forked::Not };
        let Some(turn) = zygote.turn_in_haste().await else { return Forked::Not };
        let launched = tokio::time::timeout(CHILD_PATIENCE, self.launch(begun, Some(&zygote)));
        let launched = launched.await;
        drop(turn);
        match launched {
            Err(elapsed) => {
                zygote.give_up(&too_slow(elapsed));
                Forked::Not
            }
            Ok(Err(error)) => Forked::Failed(zygote, error),
            Ok(Ok(launched)) => match self.load(launched, None).await {
                // It may have been killed as memory ran short. Loading is no call: it may happen again.
                Err(StartFailed::Function(failure)) if failure.kind == FailureKind::Exited => {
                    tracing::debug!(?failure, "a forked instance is not used");
                    Forked::Not
                }
                Err(StartFailed::Platform(error)) => Forked::Failed(zygote, error),
                done => Forked::Done(done),
            },
        }
    }

    /// Gives a pre-started instance this function.
    async fn assign(&self, mut kit: Kit, begun: Instant) -> Result<Launched, Error> {
        let mut steps = Steps::begin();
        let log_stream = self.log_stream();
        let environment = environment::constant(&self.runtime);
        let environment = self.environment(&environment, &log_stream)?;
        kit.equip(self.group_limits(), self.later()).await?;
        steps.mark(Step::Attach);
        let Kit { mut newborn, frames, .. } = kit;
        newborn.remains.keep(Arc::clone(&self.unpacked));
        let instance = self.instance(newborn, frames, StartPath::PreStarted)?;
        self.send_init(&instance, &log_stream, Some(&environment)).await?;
        Ok(self.launched(instance, begun, steps))
    }

    /// What a pre-started instance lacks in its root.
    fn later(&self) -> Vec<Mount> {
        let layers = self.unpacked.layers().map_or_else(|| root::empty(&self.root), Into::into);
        let mut mounts = vec![
            Mount::bind(self.unpacked.package(), TASK_ROOT.trim_start_matches('/')),
            Mount::bind(layers, LAYERS.trim_start_matches('/')),
        ];
        let megabytes = self.version.config.tmp_mb;
        if megabytes != limits::TMP_DEFAULT_MB {
            mounts.push(Mount::Memory { to: root::TMP.into(), megabytes });
        }
        mounts
    }

    fn instance(
        &self,
        newborn: Newborn,
        frames: FrameReader,
        path: StartPath,
    ) -> Result<ProcessInstance, Error> {
        let Newborn { remains, socket, theirs, stdout, stderr } = newborn;
        let life = self.life(remains, (stdout, stderr), path)?;
        Ok(ProcessInstance::new(life, (socket, theirs, frames)))
    }

    /// Of an instance that is this version's from now on.
    pub(super) fn life(
        &self,
        remains: Remains,
        (stdout, stderr): (OwnedFd, OwnedFd),
        path: StartPath,
    ) -> Result<Life, Error> {
        let config = &self.version.config;
        let output = Output::new(
            stdout,
            stderr,
            self.version.key.clone(),
            self.version.label(),
            config.output_bytes_per_second,
            Arc::clone(&self.shared.logs),
            Arc::clone(&self.shared.clock),
        )
        .map_err(failed)?;
        let memory_end = self.runtime.memory_end(config.memory_mb);
        let shared = Arc::clone(&self.shared);
        let mut life = Life::new(shared, remains, output, config.memory_mb, memory_end);
        life.timings.path = path;
        Ok(life)
    }

    fn launched(&self, mut instance: ProcessInstance, begun: Instant, steps: Steps) -> Launched {
        let ready = self.shared.clock.instant();
        instance.life.timings.sandbox_us = micros(begun, ready);
        Launched { instance, ready, steps }
    }

    fn group_limits(&self) -> GroupLimits {
        let config = &self.version.config;
        GroupLimits {
            memory_mb: config.memory_mb,
            processes: config.processes,
            cpu_weight: config.effective_cpu_weight(),
            cpu_millis: config.cpu_cores.map(Cores::millis),
            idle: false,
        }
    }

    async fn group(&self) -> Result<Option<Group>, Error> {
        if !self.shared.groups.limits_memory() {
            return Ok(None);
        }
        let limits = self.group_limits();
        let no_group = |e| {
            Error::platform(Code::SandboxFailed, "a control group could not be made").with_source(e)
        };
        if let Some(group) = self.shared.groups.take(limits).map_err(no_group)? {
            return Ok(Some(group));
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let name = RequestId::generate().to_string();
            shared.groups.create(&name, limits).map_err(no_group)
        })
        .await
    }

    async fn send_init(
        &self,
        instance: &ProcessInstance,
        log_stream: &str,
        environment: Option<&Environment>,
    ) -> Result<(), Error> {
        let version = self.version.label().to_string();
        let init = Init {
            handler: &self.version.config.handler,
            task_root: TASK_ROOT,
            function: InitFunction {
                name: self.version.key.name.as_str(),
                version: &version,
                arn: &self.version.arn(),
                memory_mb: self.version.config.memory_mb,
                log_group: &environment::log_group(&self.version),
                log_stream,
            },
            environment,
        };
        let mut frame = frame::init(&init).map_err(failed)?;
        frame.send(&instance.socket).await.map_err(failed)
    }

    /// Waits until the code is loaded.
    async fn load(
        &self,
        launched: Launched,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Box<dyn Instance>, StartFailed> {
        let Launched { mut instance, ready, steps } = launched;
        let allowed = Duration::from_millis(limits::INIT_TIMEOUT_MS.into());
        let deadline = ready + allowed;
        match tokio::time::timeout_at(deadline.into(), instance.load(ready, steps, turn)).await {
            Ok(Ok(())) => Ok(Box::new(instance)),
            Ok(Err(failure)) => Err(StartFailed::Function(failure)),
            Err(_) => {
                let failure = failure::init_timed_out(allowed);
                Err(StartFailed::Function(instance.life.fail(failure).await))
            }
        }
    }

    /// Waits until the processors have room for one more runtime that comes up: of many at once all would come up last. It is given back before the function's
    /// code is loaded, or soon at any rate. A function that sets a variable which is read earlier may run code earlier: it waits for nobody, and nobody for it.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match self.ahead {
            Err(Plain::Variable(_) | Plain::OwnRuntime) => None,
            Err(Plain::Network) | Ok(_) => {
                Arc::clone(&self.shared.turns).acquire_owned().await.ok()
            }
        }
    }

    /// A start by a pre-started instance; `None` if there is none, or if it came to nothing through no word of the function.
    async fn start_ahead(&self, begun: Instant) -> Option<Result<Box<dyn Instance>, StartFailed>> {
        let kit = self.stock.take(self.ahead.as_ref().ok()?)?;
        let loaded = match self.assign(kit, begun).await {
            Ok(launched) => self.load(launched, None).await,
            Err(error) => Err(StartFailed::Platform(error)),
        };
        match loaded {
            // It may have died while it was assigned. Loading is no call: it may happen again.
            Err(StartFailed::Function(failure)) if failure.kind == FailureKind::Exited => {}
            Err(StartFailed::Platform(error)) => {
                tracing::debug!(%error, "a pre-started instance is not used");
            }
            done => return Some(done),
        }
        None
    }
}

#[async_trait]
impl Image for ProcessImage {
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed> {
        let _under_way = self.stock.begin();
        let begun = self.shared.clock.instant();
        if let Some(programs) = &self.programs {
            self.stock.count(StartPath::Exec);
            return self.start_provided(programs, begun).await;
        }
        if self.runtime.language == Language::Web {
            self.stock.count(StartPath::Exec);
            return self.start_web(begun).await;
        }
        if let Some(done) = self.start_ahead(begun).await {
            self.stock.count(StartPath::PreStarted);
            return done;
        }
        let suspect = match self.start_forked(begun).await {
            Forked::Done(done) => {
                self.stock.count(StartPath::Zygote);
                return done;
            }
            Forked::Not => None,
            Forked::Failed(zygote, error) => Some((zygote, error)),
        };
        let turn = self.turn().await;
        // What came before was no start.
        let begun = self.shared.clock.instant();
        let launched = self.launch(begun, None).await.map_err(StartFailed::Platform)?;
        // What fails by fork and succeeds by exec is no fault of the function's.
        if let Some((zygote, error)) = suspect {
            zygote.give_up(&error);
        }
        self.stock.count(StartPath::Exec);
        self.load(launched, turn).await
    }
}

/// How instances of this version can be pre-started, or why they cannot.
pub(super) fn recipe(
    shared: &Shared,
    version: &Version,
    runtime: &Arc<Runtime>,
    layout: &Layout,
) -> Result<Recipe, Plain> {
    match plain(version) {
        _ if runtime.brings_its_own() => Err(Plain::OwnRuntime),
        Some(why) => Err(why),
        None => {
            let limits = limits_of(shared, version);
            Ok(Recipe::new(version, runtime, limits, Arc::clone(&layout.ahead)))
        }
    }
}

/// Limits of the processes of a version's instances.
fn limits_of(shared: &Shared, version: &Version) -> Limits {
    let data_mb = u64::from(version.config.memory_mb) + DATA_ALLOWANCE_MB;
    Limits {
        open_files: version.config.open_files.into(),
        processes: version.config.processes.into(),
        data_bytes: (!shared.groups.limits_memory()).then_some(data_mb << 20),
    }
}

/// Gives `/tmp` the size that the function asks for.
fn limit_tmp(mounts: &mut [Mount], tmp_mb: u32) {
    for mount in mounts {
        if let Mount::Memory { to, megabytes } = mount
            && to == root::TMP
        {
            *megabytes = tmp_mb;
        }
    }
}

/// What came of a start by a zygote.
enum Forked {
    /// It is the start's result.
    Done(Result<Box<dyn Instance>, StartFailed>),
    /// There is none, or it came to nothing through no word of the function.
    Not,
    /// It failed, by whosever fault.
    Failed(Arc<Zygote>, Error),
}

struct Launched {
    instance: ProcessInstance,
    ready: Instant,
    steps: Steps,
}
