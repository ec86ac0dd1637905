//! The one file that names every concrete type and wires them.
//!
//! Start order: store → sandbox → engine → server; the end is the reverse, so that whatever still runs finds what it stands on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use engine::{Engine, EngineConfig};
use model::clock::{Clock, SystemClock};
use model::isolation::{Isolation, Need};
use model::ports::{Sandbox, Vault, Webhooks};
use model::tasks::Tasks;
use sandbox::{ProcessSandbox, SandboxConfig, Sandboxes, WasmConfig};
use server::{Server, ServerConfig};
use store::vault::Keyring;
use store::{Store, StoreConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::failure::CliError;
use crate::config::DaemonConfig;
use crate::{host, privacy};

/// Hold of the daemon on a queued call; a killed daemon's calls run again after it.
const ASYNC_LEASE: Duration = Duration::from_secs(30);
/// Which part of the memory for functions pre-started instances may take beside it.
const PRESTART_PART: u64 = 4;
/// Longest that a WebAssembly program may take to compile: the largest, which hold an interpreter, take some seconds.
const COMPILE_TIME_LIMIT: Duration = Duration::from_secs(120);
/// Background work that ignores its cancellation is cut off after this.
const TASKS_GRACE: Duration = Duration::from_secs(5);

/// A daemon that accepts calls.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where it listens: `http://ADDR:PORT`.
    pub url: String,
    /// The root key, if this start made it: it is shown once and kept only as a hash.
    pub root_key: Option<String>,
    grace: Duration,
    /// Caught from before anybody is told that it runs.
    terminate: Signal,
    shutdown: CancellationToken,
    server: JoinHandle<model::Result<()>>,
    engine: Engine,
    tasks: Tasks,
    sandbox: Arc<Sandboxes>,
    store: Store,
}

impl Running {
    /// Returns after SIGINT or SIGTERM, once calls in flight have ended or the grace period is over.
    pub(crate) async fn wait(mut self) -> anyhow::Result<()> {
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt.context("waiting for SIGINT")?,
            _ = self.terminate.recv() => {}
            ended = &mut self.server => {
                ended.context("the server broke down")??;
                anyhow::bail!("the server ended by itself");
            }
        }
        tracing::info!(grace_s = self.grace.as_secs(), "stopping: calls in flight may end");
        self.stop().await
    }

    /// Stops as if it had got SIGTERM.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let served = self.server.await.context("the server broke down")?;
        let cut_off = self.engine.drain(self.grace).await;
        if cut_off > 0 {
            tracing::warn!(cut_off, "calls were still running after the grace period");
        }
        let left = self.tasks.drain(TASKS_GRACE).await;
        if left > 0 {
            tracing::warn!(left, "background tasks did not end");
        }
        self.sandbox.close();
        self.store.close().await.context("closing the store")?;
        Ok(served?)
    }
}

/// Opens the store, starts the engine and listens.
pub(crate) async fn start(config: &DaemonConfig) -> anyhow::Result<Running> {
    privacy::keep_memory_private();
    host::raise_descriptor_limit();
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tasks = Tasks::new();

    let store_config = StoreConfig {
        logs_bytes_max: config.store.logs_bytes_max,
        reserve_bytes: config.store.reserve_bytes,
        ..StoreConfig::at(&config.data)
    };
    let store = store::open(store_config, Arc::clone(&clock), &tasks).await?;
    let vault: Arc<dyn Vault> = Arc::new(Keyring::open(&store.meta, &config.secrets).await?);
    let sandboxes = start_sandboxes(config, &store, &vault, &clock, &tasks).await?;
    let isolation = isolation(&sandboxes, config);
    if let Err(e) = check_isolation(&isolation, config.sandbox.require_full) {
        store.close().await.context("closing the store")?;
        return Err(e.into());
    }
    let sandbox: Arc<dyn Sandbox> = sandboxes.clone();
    let allow = config.sandbox.webhooks_allow.clone();
    let webhooks = sandboxes.webhooks(allow, Arc::clone(&vault), Arc::clone(&clock));
    let engine = start_engine(config, &store, &sandbox, webhooks, &clock).await?;
    let root_key =
        if config.dev { None } else { server::auth::ensure_root_key(&*store.meta).await? };

    let server_config = ServerConfig {
        dev: config.dev,
        connections_max: config.server.connections_max,
        body_timeout: config.server.body_timeout,
        write_timeout: config.server.write_timeout,
        websocket_idle: config.server.websocket_idle,
        drain_grace: config.server.grace,
        public_url: config.server.public_url.clone().unwrap_or_else(|| url.clone()),
        isolation,
        ..ServerConfig::default()
    };
    let deps = server::Deps {
        engine: engine.clone(),
        meta: Arc::clone(&store.meta),
        blobs: Arc::clone(&store.blobs),
        sandbox,
        logs: Arc::clone(&store.logs),
        usage: Arc::clone(&store.usage),
        vault,
        clock,
        tasks: tasks.clone(),
    };
    let server = Server::new(server_config, deps);
    let shutdown = CancellationToken::new();
    let until = shutdown.clone();
    let server = tasks.spawn("server", async move { server.serve(listener, until).await });
    Ok(Running {
        url,
        root_key: root_key.map(|key| key.as_str().to_owned()),
        grace: config.server.grace,
        terminate: signal(SignalKind::terminate()).context("waiting for SIGTERM")?,
        shutdown,
        server,
        engine,
        tasks,
        sandbox: sandboxes,
        store,
    })
}

async fn start_sandboxes(
    config: &DaemonConfig,
    store: &Store,
    vault: &Arc<dyn Vault>,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> anyhow::Result<Arc<Sandboxes>> {
    let executable = std::env::current_exe().context("finding this program's own file")?;
    let wasm_config = WasmConfig {
        cache_dir: config.data.join("cache/wasm"),
        compiler: executable.clone(),
        compile_time_limit: COMPILE_TIME_LIMIT,
    };
    let sandbox_config = SandboxConfig {
        cache_dir: config.data.join("cache"),
        path: config.sandbox.path.clone(),
        spawner: executable,
        uid_base: config.sandbox.uid_base,
        network: config.sandbox.network.clone(),
        prestart_memory_mb: prestart_memory_mb(config),
        zygote: config.sandbox.zygote,
        zygote_children: sandbox::ZYGOTE_CHILDREN_DEFAULT,
    };
    let (blobs, logs, vault) =
        (Arc::clone(&store.blobs), Arc::clone(&store.logs), Arc::clone(vault));
    let (clock, tasks) = (Arc::clone(clock), tasks.clone());
    let (own_logs, own_vault, own_clock) = (logs.clone(), vault.clone(), clock.clone());
    let processes = ProcessSandbox::new(sandbox_config, blobs, logs, vault, clock, tasks).await?;
    Ok(Sandboxes::new(processes, wasm_config, own_logs, own_vault, own_clock).await)
}

/// As it is set, within reason.
fn prestart_memory_mb(config: &DaemonConfig) -> u32 {
    let part = config.engine.host_memory_mb / PRESTART_PART;
    config.sandbox.prestart_memory_mb.min(u32::try_from(part).unwrap_or(u32::MAX))
}

/// What this host gives, the daemon's part included.
fn isolation(sandboxes: &Sandboxes, config: &DaemonConfig) -> Isolation {
    let mut features = sandboxes.isolation().features;
    features.extend(host::features(config));
    Isolation::of(features)
}

/// Logs what is missing; refuses to go on without something that full isolation needs, if that is wanted.
fn check_isolation(isolation: &Isolation, require_full: bool) -> Result<(), CliError> {
    for feature in isolation.missing() {
        let (name, found, lost) = (&feature.name, &feature.detail, &feature.lost);
        match feature.need {
            Need::Option => tracing::info!(feature = name, found, lost, "not on this host"),
            _ => tracing::warn!(feature = name, found, lost, "missing on this host"),
        }
    }
    if isolation.full || !require_full {
        return Ok(());
    }
    let needed = isolation.missing().filter(|f| f.need == Need::Isolation);
    let list: Vec<String> = needed.map(|f| format!("{} ({})", f.name, f.detail)).collect();
    Err(CliError::new(format!(
        "full isolation is required and this host does not give it: missing are {}",
        list.join("; ")
    ))
    .hint("`hanshu doctor --local` shows what each stands for; without --require-isolation the daemon starts all the same"))
}

async fn start_engine(
    config: &DaemonConfig,
    store: &Store,
    sandbox: &Arc<dyn Sandbox>,
    webhooks: Arc<dyn Webhooks>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Engine> {
    let engine_config = EngineConfig {
        host_memory_mb: config.engine.host_memory_mb,
        instances_per_function: config.engine.instances_per_function,
        instances_per_namespace: config.engine.instances_per_namespace,
        waiters_per_version: config.engine.waiters_per_version,
        queue_wait: config.engine.queue_wait,
        keep_alive: config.engine.keep_alive,
        keep_alive_min: config.engine.keep_alive_min,
        keep_alive_max: config.engine.keep_alive_max,
        freeze_after: config.engine.freeze_after,
        async_concurrency: config.engine.async_concurrency,
        async_lease: ASYNC_LEASE,
        queued_per_function: config.engine.queued_per_function,
        queued_per_namespace: config.engine.queued_per_namespace,
        ..EngineConfig::default()
    };
    let deps = engine::Deps {
        meta: Arc::clone(&store.meta),
        queue: Arc::clone(&store.queue),
        blobs: Arc::clone(&store.blobs),
        sandbox: Arc::clone(sandbox),
        usage: Arc::clone(&store.usage),
        webhooks,
        clock: Arc::clone(clock),
    };
    Ok(Engine::start(engine_config, deps).await?)
}
