//! The Wasm sandbox: WebAssembly programs inside the daemon's own process, each call in a fresh instance that nothing outlives.
//!
//! [`WasmSandbox`] → [`image::WasmImage`] → [`instance::WasmInstance`], the daemon's side of it: the right to run one call at a time. What runs it is
//! [`call`].
//!
//! ```text
//! compiler, compile   WebAssembly → native code, once, in a process of its own that has limits
//! compiled            where that code lies; loaded by memory map, and the one `unsafe` for it
//! machine             the engine: what programs may use of WebAssembly, and the pool that instances come from
//! program             loaded code, linked; which kind it is
//! guests, meter       threads that run guests, and the ticks that interrupt them; what processor time they take
//! call                one call: [`command`] (event on standard input, answer on standard output), [`proxy`] (`wasi:http`)
//! alive               an instance, fresh for each call unless its function asks for another rule
//! event, reply        an invocation's event as an HTTP request, a response as its answer
//! host, bounds        what a guest has: files on request, no sockets, so much memory
//! outgoing            requests to others, by the network policy
//! printed             its output → log lines
//! failure             how an end is worded
//! ```

mod alive;
mod bounds;
mod call;
mod command;
mod compile;
mod compiled;
mod compiler;
mod failure;
mod guests;
mod host;
mod image;
mod instance;
mod machine;
mod meter;
pub(crate) mod outgoing;
mod printed;
mod program;
mod proxy;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::Clock;
use model::function::{RuntimeInfo, Version};
use model::ids::Digest;
use model::isolation::{Feature, Need};
use model::network::NetworkPolicy;
use model::ports::{Image, Logs, PackageInfo, Sandbox, StartFailed, Vault};
use model::{Code, Error, Result};

pub(crate) use compiler::{COMPILER_ARGUMENT, run as run_compiler};

use crate::jail::Scratch;
use crate::process::folders::blocking;
use crate::process::network::Networks;
use crate::process::packages::{Packages, Unpacked};
use compile::Compiler;
use compiled::Compiled;
use guests::Guests;
use image::WasmImage;
use machine::Machine;
use program::Program;

/// What functions name as their runtime.
pub const RUNTIME: &str = model::function::WASM;
/// The release of wasmtime that compiles and runs them.
const WASMTIME_VERSION: &str = "48.0.8";

/// What the sandbox has to be told.
#[derive(Clone, Debug)]
pub struct WasmConfig {
    /// A folder for compiled code, which nobody but the daemon can write to; made if missing. Everything in it can be made again.
    pub cache_dir: PathBuf,
    /// An executable that calls [`crate::jail::main_if_spawner`] first in its `main`: the daemon itself.
    pub compiler: PathBuf,
    /// How long one program may take to compile, as time and as processor time; at least a second.
    pub compile_time_limit: Duration,
}

/// What all images share.
#[derive(Debug)]
pub(crate) struct Shared {
    machine: Machine,
    guests: Arc<Guests>,
    compiled: Compiled,
    scratch: Arc<Scratch>,
    networks: Arc<Networks>,
    logs: Arc<dyn Logs>,
    vault: Arc<dyn Vault>,
    clock: Arc<dyn Clock>,
}

/// Runs functions as WebAssembly.
#[derive(Debug)]
pub struct WasmSandbox {
    shared: Arc<Shared>,
    packages: Arc<Packages>,
}

impl WasmSandbox {
    /// Makes the engine and prepares the cache. `packages` is where code lies unpacked, `networks` what functions reach.
    ///
    /// `storage-unusable` if the cache folder cannot be written, `sandbox-failed` if this host does not give the engine its address space.
    pub(crate) async fn new(
        config: WasmConfig,
        (packages, networks): (Arc<Packages>, Arc<Networks>),
        logs: Arc<dyn Logs>,
        vault: Arc<dyn Vault>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let scratch = Arc::new(Scratch::new(config.compiler.clone()));
        let (machine, compiled) = blocking(move || {
            let machine = Machine::new().map_err(no_engine)?;
            let WasmConfig { cache_dir, compiler, compile_time_limit } = config;
            let compiler = Compiler { executable: compiler, time_limit: compile_time_limit };
            let compiled = Compiled::open(&cache_dir, &machine, compiler)?;
            Ok((machine, compiled))
        })
        .await?;
        let guests = Arc::new(Guests::start(machine.engine()).map_err(Error::internal)?);
        let shared =
            Arc::new(Shared { machine, guests, compiled, scratch, networks, logs, vault, clock });
        Ok(Arc::new(Self { shared, packages }))
    }

    /// The version's program, compiled and linked. What is wrong with it is the function's fault.
    async fn load(&self, version: &Version) -> Result<(Arc<Program>, Arc<Unpacked>), StartFailed> {
        let unpacked = self.packages.code(version).await.map_err(StartFailed::Platform)?;
        let program = self.shared.compiled.program(&self.shared.machine, version, &unpacked);
        let program = program.await?;
        check_wishes(version, &program).map_err(StartFailed::Platform)?;
        Ok((program, Arc::new(unpacked)))
    }
}

/// What is lost without the engine.
const LOST: &str = "functions of the runtime wasm cannot be run";

/// Whether there is this runtime, for the table of what a host gives.
pub(crate) fn feature<T>(sandbox: &Result<T>) -> Feature {
    let found = match sandbox {
        Ok(_) => Ok(format!("wasmtime {WASMTIME_VERSION}, each call in a fresh instance")),
        Err(error) => Err(error.to_string()),
    };
    Feature::of("wasm", Need::Option, found, LOST)
}

/// The same without a sandbox. Blocks for some milliseconds.
pub(crate) fn examine() -> Feature {
    feature(&Machine::new().map_err(no_engine))
}

#[async_trait]
impl Sandbox for WasmSandbox {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        vec![RuntimeInfo { name: RUNTIME.into(), version: WASMTIME_VERSION.into() }]
    }

    fn resolve_runtime(&self, name: &str) -> Result<RuntimeInfo> {
        let found = self.runtimes().into_iter().find(|runtime| runtime.name == name);
        found.ok_or_else(|| {
            let message = format!("runtime '{name}' is not installed here: expected {RUNTIME}");
            Error::caller(Code::UnknownRuntime, message)
        })
    }

    fn check_network(&self, _policy: &NetworkPolicy) -> Result<()> {
        // By version: `check_code`.
        Ok(())
    }

    fn end_calls(&self) -> bool {
        self.shared.guests.end()
    }

    async fn check_package(&self, package: Bytes) -> Result<PackageInfo> {
        self.packages.take(package).await
    }

    async fn check_code(&self, version: &Version) -> Result<(), StartFailed> {
        self.load(version).await.map(drop)
    }

    async fn prepare(&self, version: Arc<Version>) -> Result<Arc<dyn Image>> {
        let loaded = match self.load(&version).await {
            Ok(loaded) => Ok(loaded),
            Err(StartFailed::Function(failure)) => Err(failure),
            Err(StartFailed::Platform(error)) => return Err(error),
        };
        Ok(Arc::new(WasmImage::new(Arc::clone(&self.shared), version, loaded)))
    }

    async fn forget_package(&self, digest: &Digest) {
        self.shared.compiled.forget(digest).await;
    }
}

/// What a function asks for that its program cannot have.
fn check_wishes(version: &Version, program: &Program) -> Result<()> {
    let refuse = |message: String| Err(Error::caller(Code::Unsupported, message));
    let network = &version.config.network;
    let mode = network.mode.as_str();
    if network.is_connected() && matches!(program, Program::Command(_)) {
        return refuse(format!(
            "network {mode} is not supported for core modules: expected none, or a component, which has wasi:http"
        ));
    }
    if network.bandwidth.is_some() {
        return refuse(
            "network.bandwidth is not supported by the runtime wasm: expected none".into(),
        );
    }
    match (version.config.instance_calls, program) {
        (Some(calls @ 2..), Program::Command(_) | Program::Run(_)) => refuse(format!(
            "instance_calls {calls} is not supported for commands, which end with their call: expected 1, or a component of wasi:http"
        )),
        _ => Ok(()),
    }
}

fn no_engine(error: wasmtime::Error) -> Error {
    let message = "the WebAssembly engine does not start on this host";
    Error::platform(Code::SandboxFailed, message).with_source(format!("{error:#}"))
}
