//! Both sandboxes behind one port: each version runs in the one that its runtime names.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::Clock;
use model::function::{RuntimeInfo, Version};
use model::ids::Digest;
use model::invocation::StartCounts;
use model::isolation::Isolation;
use model::network::{NetworkPolicy, Reach};
use model::ports::{Image, Logs, PackageInfo, Sandbox, StartFailed, Vault, Webhooks};
use model::{Error, Result};

use crate::process::ProcessSandbox;
use crate::wasm::{self, RUNTIME, WasmConfig, WasmSandbox};
use crate::webhooks::OutgoingWebhooks;

/// Processes, and WebAssembly where this host gives its engine what it needs.
#[derive(Debug)]
pub struct Sandboxes {
    processes: Arc<ProcessSandbox>,
    /// Or why there is none.
    wasm: Result<Arc<WasmSandbox>>,
}

impl Sandboxes {
    /// Puts a Wasm sandbox beside the processes, whose packages it shares. Without its engine there is a warning in the log and no such runtime.
    pub async fn new(
        processes: Arc<ProcessSandbox>,
        config: WasmConfig,
        logs: Arc<dyn Logs>,
        vault: Arc<dyn Vault>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let wasm = WasmSandbox::new(
            config,
            (processes.packages(), processes.networks()),
            logs,
            vault,
            clock,
        )
        .await;
        if let Err(error) = &wasm {
            tracing::warn!(%error, "there is no runtime wasm");
        }
        Arc::new(Self { processes, wasm })
    }

    /// What keeps instances apart and in bounds on this host, and what is lost.
    pub fn isolation(&self) -> Isolation {
        let mut features = self.processes.isolation().features.clone();
        features.push(wasm::feature(&self.wasm));
        Isolation::of(features)
    }

    /// Who sends webhooks, by the networks of this host. `allow`: addresses beside the public ones.
    pub fn webhooks(
        &self,
        allow: Vec<Reach>,
        vault: Arc<dyn Vault>,
        clock: Arc<dyn Clock>,
    ) -> Arc<dyn Webhooks> {
        Arc::new(OutgoingWebhooks::new(self.processes.networks(), allow, vault, clock))
    }

    /// Leaves the host as it was found. For a daemon that stops, when no instance is left.
    pub fn close(&self) {
        self.processes.close();
    }

    /// The sandbox of a version.
    fn of(&self, version: &Version) -> &dyn Sandbox {
        match &self.wasm {
            Ok(wasm) if version.runtime.name == RUNTIME => &**wasm,
            _ => &*self.processes,
        }
    }
}

#[async_trait]
impl Sandbox for Sandboxes {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        let mut all = self.processes.runtimes();
        all.extend(self.wasm.iter().flat_map(|wasm| wasm.runtimes()));
        all
    }

    fn resolve_runtime(&self, name: &str) -> Result<RuntimeInfo> {
        match &self.wasm {
            Ok(wasm) if name == RUNTIME => wasm.resolve_runtime(name),
            Ok(_) => self.processes.resolve_runtime(name).map_err(with_wasm),
            Err(_) => self.processes.resolve_runtime(name),
        }
    }

    fn check_network(&self, policy: &NetworkPolicy) -> Result<()> {
        self.processes.check_network(policy)
    }

    fn expect(&self, version: &Version) {
        self.of(version).expect(version);
    }

    fn end_calls(&self) -> bool {
        let processes = self.processes.end_calls();
        self.wasm.iter().fold(processes, |any, wasm| wasm.end_calls() | any)
    }

    fn starts(&self) -> StartCounts {
        self.processes.starts()
    }

    async fn check_package(&self, package: Bytes) -> Result<PackageInfo> {
        self.processes.check_package(package).await
    }

    async fn check_code(&self, version: &Version) -> Result<(), StartFailed> {
        self.of(version).check_code(version).await
    }

    async fn prepare(&self, version: Arc<Version>) -> Result<Arc<dyn Image>> {
        self.of(&version).prepare(version).await
    }

    async fn forget_package(&self, digest: &Digest) {
        if let Ok(wasm) = &self.wasm {
            wasm.forget_package(digest).await;
        }
        self.processes.forget_package(digest).await;
    }
}

/// The list of runtimes in an error, completed.
fn with_wasm(error: Error) -> Error {
    let completed = Error::caller(error.code(), format!("{}, {RUNTIME}", error.message()));
    match error.hint() {
        Some(hint) => completed.with_hint(hint),
        None => completed,
    }
}
