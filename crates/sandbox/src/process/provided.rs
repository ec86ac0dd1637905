//! Functions that bring their own runtime: an executable `bootstrap`, which asks for calls over HTTP ([`crate::runtime_api`]).
//!
//! Here is how one starts; [`instance`] is what becomes of it. There is nothing of ours in the process, so none can be started before its function is known.

mod instance;

use std::path::Path;
use std::time::{Duration, Instant};

use model::invocation::{Failure, FailureKind, StartPath};
use model::limits;
use model::ports::{Instance, LogLine, LogStream, StartFailed};

use super::birth::{Newborn, SETUP_TIMEOUT, failed, not_started, too_slow};
use super::environment::{LAYERS, TASK_ROOT};
use super::image::ProcessImage;
use super::life::micros;
use super::packages::Unpacked;
use crate::jail::{Born, Speaks, StartError, Step, Steps, listener};
use crate::runtime_api::Api;
use instance::ProvidedInstance;

/// The executable's name.
const BOOTSTRAP: &str = "bootstrap";
/// What a package without a usable executable is called.
const INVALID_ENTRYPOINT: &str = "Runtime.InvalidEntrypoint";

/// A path of the executable, as the function sees it; of none there is, the failure.
fn bootstrap(unpacked: &Unpacked) -> Result<String, Failure> {
    let folders = [(TASK_ROOT, Some(unpacked.package())), (LAYERS, unpacked.layers())];
    let is_there = |folder: &Option<&Path>| {
        folder.is_some_and(|folder| folder.join(BOOTSTRAP).symlink_metadata().is_ok())
    };
    let found = folders.iter().find(|(_, folder)| is_there(folder));
    found.map(|(at, _)| format!("{at}/{BOOTSTRAP}")).ok_or_else(|| {
        let message = format!(
            "Couldn't find valid bootstrap(s): [{TASK_ROOT}/{BOOTSTRAP} {LAYERS}/{BOOTSTRAP}]"
        );
        Failure::new(FailureKind::Init, INVALID_ENTRYPOINT, &message)
    })
}

impl ProcessImage {
    /// Starts an instance and waits until it asks for its first call.
    pub(super) async fn start_provided(
        &self,
        begun: Instant,
    ) -> Result<Box<dyn Instance>, StartFailed> {
        let program = bootstrap(&self.unpacked).map_err(|failure| {
            self.say(&failure);
            StartFailed::Function(failure)
        })?;
        let mut instance = self.execute(program, begun).await?;
        let ready = self.shared.clock.instant();
        let allowed = Duration::from_millis(limits::INIT_TIMEOUT_MS.into());
        instance.load(ready, allowed).await.map_err(StartFailed::Function)?;
        Ok(Box::new(instance))
    }

    /// Sets the sandbox up and executes the program in it.
    async fn execute(
        &self,
        program: String,
        begun: Instant,
    ) -> Result<ProvidedInstance, StartFailed> {
        let mut steps = Steps::begin();
        let environment = self.environment(&[], &self.log_stream());
        let environment = environment.map_err(StartFailed::Platform)?;
        let dowry = self.dowry(&mut steps).await.map_err(StartFailed::Platform)?;
        let mut wanted = self.wanted(environment, Born::ByExec);
        (wanted.argv, wanted.speaks) = (vec![program], Speaks::Http);
        let asked = Newborn::ask(&self.shared, wanted, dowry, steps).await;
        let Newborn { remains, socket, theirs, stdout, stderr } =
            asked.map_err(StartFailed::Platform)?;
        // Nothing is read back from this one, and its end shall be seen.
        drop(theirs);
        let life = self.life(remains, (stdout, stderr), StartPath::Exec);
        let mut life = life.map_err(StartFailed::Platform)?;
        let started = tokio::time::timeout(SETUP_TIMEOUT, life.remains.started()).await;
        let mut steps = match started.map_err(too_slow).map_err(StartFailed::Platform)? {
            Ok(steps) => steps,
            Err(StartError::Step(error)) if error.is_execution() => {
                let failure =
                    Failure::new(FailureKind::Init, INVALID_ENTRYPOINT, &error.to_string());
                return Err(StartFailed::Function(life.fail(failure).await));
            }
            Err(error) => return Err(StartFailed::Platform(not_started(error))),
        };
        let serve = |listener| Api::serve(listener, &self.shared.tasks);
        let served = listener::receive(std::os::fd::AsFd::as_fd(&socket)).and_then(serve);
        let (api, init) = served.map_err(|e| StartFailed::Platform(failed(e)))?;
        steps.mark(Step::Hello);
        tracing::trace!(target: "sandbox::steps", steps = steps.json());
        life.timings.sandbox_us = micros(begun, self.shared.clock.instant());
        Ok(ProvidedInstance::new(life, api, init, self.version.arn()))
    }

    /// Says in the function's log why it does not start.
    pub(super) fn say(&self, failure: &Failure) {
        let payload = String::from_utf8_lossy(&failure.payload);
        let line = LogLine {
            time: self.shared.clock.now(),
            function: self.version.key.clone(),
            version: self.version.label(),
            request: None,
            stream: LogStream::Platform,
            text: format!("{}: {payload}", failure.kind.as_str()),
        };
        if self.shared.logs.append(vec![line]) > 0 {
            tracing::debug!(function = %self.version.key, "the log store was busy");
        }
    }
}
