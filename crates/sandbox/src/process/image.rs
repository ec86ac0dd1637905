//! A version, ready to be started: everything that its instances share, worked out once.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::clock::Clock;
use model::function::{Cores, Version};
use model::ids::RequestId;
use model::ports::{Image, Instance, Logs, StartFailed, Vault};
use model::tasks::Tasks;
use model::{Code, Error, limits};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::UnixStream;

use super::environment::{self, LAYERS, TASK_ROOT};
use super::failure;
use super::folders::blocking;
use super::instance::{ProcessInstance, Remains, micros};
use super::network::{Connection, Networks};
use super::packages::Unpacked;
use super::root::{self, Layout};
use super::runtimes::Runtime;
use super::slots::{Slot, Slots};
use crate::frame::{self, Init, InitFunction};
use crate::jail::cgroup::{Group, GroupLimits, Groups};
use crate::jail::{
    Environment, Limits, Mount, Owner, Program, Root, Spawner, Spec, StartError, StartFds, Step,
    Steps,
};
use crate::output::Output;

/// How long the set-up of a sandbox may take. It takes milliseconds; a host that needs more is in trouble.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
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
}

/// What all images share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spawner: Spawner,
    pub(super) groups: Groups,
    pub(super) users: Users,
    pub(super) networks: Networks,
    pub(super) logs: Arc<dyn Logs>,
    pub(super) vault: Arc<dyn Vault>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: Tasks,
    /// An empty folder on which roots are put together.
    pub(super) root_at: std::path::PathBuf,
}

/// One version, ready to be started.
#[derive(Debug)]
pub(super) struct ProcessImage {
    shared: Arc<Shared>,
    version: Arc<Version>,
    runtime: Arc<Runtime>,
    unpacked: Arc<Unpacked>,
    argv: Vec<String>,
    environment: Vec<String>,
    root: Root,
}

impl ProcessImage {
    pub(super) fn new(
        shared: Arc<Shared>,
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
        Self {
            argv: runtime.argv(version.config.memory_mb),
            environment: environment::variables(&version, &runtime),
            root,
            shared,
            version,
            runtime,
            unpacked,
        }
    }

    fn spec(
        &self,
        environment: Environment,
        slot: Option<&Slot>,
        group: Option<&Group>,
        connection: Option<&Connection>,
    ) -> Spec {
        let memory_mb = self.version.config.memory_mb;
        let owner = match (&self.shared.users, slot) {
            (Users::Strangers(_), Some(slot)) => Owner::Stranger { uid: slot.id(), gid: slot.id() },
            (Users::Daemon { uid, gid }, _) => Owner::Daemon { uid: *uid, gid: *gid },
            // Not reached: a slot is taken for every stranger. Nobody's id is the safe answer.
            (Users::Strangers(_), None) => Owner::Stranger { uid: u32::MAX - 1, gid: u32::MAX - 1 },
        };
        let mut root = self.root.clone();
        root.mounts.extend(connection.and_then(|c| c.mount.clone()));
        let data_mb = u64::from(memory_mb) + DATA_ALLOWANCE_MB;
        Spec {
            program: Program {
                argv: self.argv.clone(),
                environment,
                directory: TASK_ROOT.to_owned(),
                hostname: "function".to_owned(),
            },
            root,
            owner,
            limits: Limits {
                open_files: self.version.config.open_files.into(),
                processes: self.version.config.processes.into(),
                data_bytes: (!self.shared.groups.limits_memory()).then_some(data_mb << 20),
            },
            attach: group.map(Group::attach).unwrap_or_default(),
            network: connection.map(|c| c.network.clone()),
        }
    }

    /// The variables of one instance. Here secrets are opened; they are gone when the spawner has been asked.
    fn environment(&self, log_stream: &str) -> Result<Environment, Error> {
        let secrets = environment::secrets(&self.version, &*self.shared.vault)?;
        let mut all = Environment::of(&self.environment, secrets.len() + 1);
        for (key, text) in &secrets {
            all.push(key, text.expose());
        }
        all.push(environment::LOG_STREAM, log_stream);
        Ok(all)
    }

    fn log_stream(&self) -> String {
        let now = self.shared.clock.now().to_string();
        let day: String = now.chars().take(10).map(|c| if c == '-' { '/' } else { c }).collect();
        let id = RequestId::generate().to_string().replace('-', "");
        format!("{day}/[{}]{id}", self.version.label())
    }

    /// Sets the sandbox up and executes the runtime in it.
    async fn launch(&self) -> Result<Launched, Error> {
        let begun = self.shared.clock.instant();
        let mut steps = Steps::begin();
        let log_stream = self.log_stream();
        let environment = self.environment(&log_stream)?;
        let slot = match &self.shared.users {
            Users::Strangers(slots) => Some(slots.take()?),
            Users::Daemon { .. } => None,
        };
        let group = self.group().await?;
        steps.mark(Step::Group);
        let policy = &self.version.config.network;
        let connection = if policy.is_connected() {
            Some(self.shared.networks.connect(policy).await?)
        } else {
            None
        };
        let spec = self.spec(environment, slot.as_ref(), group.as_ref(), connection.as_ref());
        let lease = connection.and_then(|c| c.lease);
        let Plumbing { socket, theirs, fds, stdout, stderr } = Plumbing::new().map_err(failed)?;
        let mut remains =
            Remains::new(&self.shared, slot, group, lease, Arc::clone(&self.unpacked));
        let asked =
            tokio::time::timeout(SETUP_TIMEOUT, self.shared.spawner.start(spec, &fds, steps));
        let process = asked.await.map_err(too_slow)?.map_err(not_started)?;
        remains.watch(process).map_err(failed)?;
        // Only the instance holds the pipes from here on, so their end is seen.
        drop(fds);
        let output = Output::new(
            stdout,
            stderr,
            self.version.key.clone(),
            self.version.label(),
            self.version.config.output_bytes_per_second,
            Arc::clone(&self.shared.logs),
            Arc::clone(&self.shared.clock),
        )
        .map_err(failed)?;
        let mut instance = ProcessInstance::new(
            Arc::clone(&self.shared),
            remains,
            (socket, theirs),
            output,
            self.version.config.memory_mb,
            self.runtime.memory_end(self.version.config.memory_mb),
        );
        self.send_init(&instance.socket, &log_stream).await?;
        let started = tokio::time::timeout(SETUP_TIMEOUT, instance.remains.started()).await;
        let steps = match started {
            Ok(Ok(steps)) => steps,
            Ok(Err(e)) => return Err(not_started(e)),
            Err(elapsed) => return Err(too_slow(elapsed)),
        };
        let ready = self.shared.clock.instant();
        instance.timings.sandbox_us = micros(begun, ready);
        Ok(Launched { instance, ready, steps })
    }

    async fn group(&self) -> Result<Option<Group>, Error> {
        if !self.shared.groups.limits_memory() {
            return Ok(None);
        }
        let config = &self.version.config;
        let limits = GroupLimits {
            memory_mb: config.memory_mb,
            processes: config.processes,
            cpu_weight: config.effective_cpu_weight(),
            cpu_millis: config.cpu_cores.map(Cores::millis),
        };
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

    /// The socket takes it at once, so it waits there for the runtime.
    async fn send_init(&self, socket: &UnixStream, log_stream: &str) -> Result<(), Error> {
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
        };
        let mut frame = frame::init(&init).map_err(failed)?;
        frame.send(socket).await.map_err(failed)
    }
}

#[async_trait]
impl Image for ProcessImage {
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed> {
        let Launched { mut instance, ready, steps } =
            self.launch().await.map_err(StartFailed::Platform)?;
        let allowed = Duration::from_millis(limits::INIT_TIMEOUT_MS.into());
        let deadline = ready + allowed;
        match tokio::time::timeout_at(deadline.into(), instance.load(ready, steps)).await {
            Ok(Ok(())) => Ok(Box::new(instance)),
            Ok(Err(failure)) => Err(StartFailed::Function(failure)),
            Err(_) => {
                let failure = failure::init_timed_out(allowed);
                Err(StartFailed::Function(instance.fail(failure).await))
            }
        }
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

struct Launched {
    instance: ProcessInstance,
    ready: Instant,
    steps: Steps,
}

/// The descriptors between an instance and the daemon.
struct Plumbing {
    socket: UnixStream,
    /// The instance's end once more.
    theirs: OwnedFd,
    fds: StartFds,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Plumbing {
    fn new() -> io::Result<Self> {
        let (ours, frames) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let theirs = frames.try_clone()?;
        let (stdout, stdout_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let fds = StartFds { frames, stdout: stdout_writer, stderr: stderr_writer };
        // Tokio's stream reads and writes any Unix socket; this one keeps packets apart.
        let socket = UnixStream::from_std(ours.into())?;
        Ok(Self { socket, theirs, fds, stdout, stderr })
    }
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::platform(Code::SandboxFailed, "the sandbox could not be set up").with_source(e)
}

fn too_slow(_: tokio::time::error::Elapsed) -> Error {
    let seconds = SETUP_TIMEOUT.as_secs();
    Error::platform(Code::SandboxFailed, format!("the sandbox was not set up within {seconds} s"))
}

fn not_started(e: StartError) -> Error {
    Error::platform(Code::SandboxFailed, format!("the sandbox could not be set up: {e}"))
        .with_source(e)
}
