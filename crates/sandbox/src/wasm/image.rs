//! A version, ready to be started.

use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use async_trait::async_trait;
use model::Result;
use model::function::Version;
use model::invocation::{Failure, StartPath, StartTimings};
use model::ports::{Image, Instance, StartFailed};

use super::Shared;
use super::host::{Files, Given};
use super::instance::WasmInstance;
use super::outgoing::Reach;
use super::printed::lock;
use super::program::Program;
use crate::output::Direct;
use crate::process::environment;
use crate::process::life::micros;
use crate::process::packages::Unpacked;

/// One version, ready to be started. Its code is mapped while instances of any version have it, and mapped again for the next.
#[derive(Debug)]
pub(super) struct WasmImage {
    shared: Arc<Shared>,
    version: Arc<Version>,
    /// The program and the package that it lies in; or why there is none.
    loaded: Result<(Mutex<Mapped>, Arc<Unpacked>), Failure>,
}

/// A program while it is mapped.
#[derive(Debug)]
struct Mapped {
    /// Kept for the first start, which follows when a version is prepared.
    first: Option<Arc<Program>>,
    program: Weak<Program>,
}

impl Mapped {
    fn take(&mut self) -> Option<Arc<Program>> {
        self.first.take().or_else(|| self.program.upgrade())
    }
}

impl WasmImage {
    pub(super) fn new(
        shared: Arc<Shared>,
        version: Arc<Version>,
        loaded: Result<(Arc<Program>, Arc<Unpacked>), Failure>,
    ) -> Self {
        let loaded = loaded.map(|(program, unpacked)| {
            let (weak, first) = (Arc::downgrade(&program), Some(program));
            (Mutex::new(Mapped { first, program: weak }), unpacked)
        });
        Self { shared, version, loaded }
    }

    fn output(&self) -> Direct {
        Direct::new(
            self.version.key.clone(),
            self.version.label(),
            self.version.config.output_bytes_per_second,
            Arc::clone(&self.shared.logs),
            Arc::clone(&self.shared.clock),
        )
    }

    async fn program(&self) -> Result<Arc<Program>, StartFailed> {
        let (program, unpacked) = match &self.loaded {
            Ok(loaded) => loaded,
            Err(failure) => return Err(StartFailed::Function(failure.clone())),
        };
        let mapped = lock(program).take();
        if let Some(mapped) = mapped {
            return Ok(mapped);
        }
        let Shared { machine, compiled, .. } = &*self.shared;
        let mapped = compiled.program(machine, &self.version, unpacked).await?;
        lock(program).program = Arc::downgrade(&mapped);
        Ok(mapped)
    }

    fn variables(&self) -> Result<Vec<(String, String)>> {
        let mut all = environment::of_wasm(&self.version);
        for (name, secret) in environment::secrets(&self.version, &*self.shared.vault)? {
            all.push((name.to_owned(), secret.expose().to_owned()));
        }
        Ok(all)
    }

    fn given(&self) -> Result<Arc<Given>> {
        let (shared, config) = (&self.shared, &self.version.config);
        let files = match &self.loaded {
            Ok((_, unpacked)) if config.files == Some(true) => Some(Files {
                unpacked: Arc::clone(unpacked),
                scratch: Arc::clone(&shared.scratch),
                // Files are memory.
                tmp_mb: config.tmp_mb.min(config.memory_mb),
            }),
            _ => None,
        };
        let reach = || Reach::new(Arc::clone(&shared.networks), config.network.clone());
        Ok(Arc::new(Given {
            function: self.version.key.clone(),
            variables: self.variables()?,
            memory_mb: config.memory_mb,
            calls: config.instance_calls.unwrap_or(1),
            files,
            reach: config.network.is_connected().then(reach),
        }))
    }

    fn timings(&self, begun: Instant, loaded: Instant) -> StartTimings {
        StartTimings {
            path: StartPath::Exec,
            sandbox_us: micros(loaded, self.shared.clock.instant()).max(1),
            // There is nothing to be started but the program itself, by each call.
            runtime_us: 1,
            code_us: micros(begun, loaded),
        }
    }
}

#[async_trait]
impl Image for WasmImage {
    async fn start(&self) -> Result<Box<dyn Instance>, StartFailed> {
        let begun = self.shared.clock.instant();
        let program = match self.program().await {
            Ok(program) => program,
            Err(StartFailed::Function(failure)) => {
                let payload = String::from_utf8_lossy(&failure.payload).into_owned();
                self.output().say(format!("{}: {payload}", failure.kind.as_str()));
                return Err(StartFailed::Function(failure));
            }
            Err(platform) => return Err(platform),
        };
        let loaded = self.shared.clock.instant();
        let given = self.given().map_err(StartFailed::Platform)?;
        let timings = self.timings(begun, loaded);
        let (shared, version) = (Arc::clone(&self.shared), Arc::clone(&self.version));
        let own = (program, given, self.output());
        Ok(Box::new(WasmInstance::new(shared, version, own, timings)))
    }
}
