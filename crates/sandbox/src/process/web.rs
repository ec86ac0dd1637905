//! Functions that are web servers: any program that listens on `$PORT`, and is asked as any client would ask it.
//!
//! Here is how one starts. [`command`] is what is executed, [`readiness`] when it takes calls, [`house`] an instance with all calls that are in it, [`instance`] the place of one of them,
//! [`websocket`] one whose connection goes on as a WebSocket; what goes over the connections is in [`crate::web`].

mod command;
mod house;
mod instance;
mod readiness;
mod websocket;

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::invocation::{Failure, FailureKind, StartPath};
use model::limits;
use model::ports::{Instance, StartFailed};

use super::birth::{Newborn, SETUP_TIMEOUT, failed, not_started, too_slow};
use super::image::ProcessImage;
use super::life::micros;
use crate::jail::{Born, Speaks, StartError, Step, Steps, sockets};
use crate::web::Sockets;
pub(super) use command::{port, runs};
use house::House;
use instance::WebInstance;

/// Sockets beside one for each call: for those whose connection has just ended.
const SPARE_SOCKETS: u32 = 2;
/// What a package that cannot be started is called, as where it brings its own runtime.
const INVALID_ENTRYPOINT: &str = "Runtime.InvalidEntrypoint";

fn invalid(message: &str) -> Failure {
    Failure::new(FailureKind::Init, INVALID_ENTRYPOINT, message)
}

impl ProcessImage {
    /// Starts an instance and waits until its server listens.
    pub(super) async fn start_web(&self, begun: Instant) -> Result<Box<dyn Instance>, StartFailed> {
        let command = command::command(&self.version.config, &self.unpacked, self.root_mounts());
        let argv = command.map_err(|message| {
            let failure = invalid(&message);
            self.say(&failure);
            StartFailed::Function(failure)
        })?;
        let mut house = self.build(argv, begun).await?;
        let ready = self.shared.clock.instant();
        let allowed = Duration::from_millis(limits::INIT_TIMEOUT_MS.into());
        house.open(ready, allowed).await.map_err(StartFailed::Function)?;
        Ok(Box::new(WebInstance::new(Arc::new(house))))
    }

    /// Sets the sandbox up and executes the program in it.
    async fn build(&self, argv: Vec<String>, begun: Instant) -> Result<House, StartFailed> {
        let platform = StartFailed::Platform;
        let mut steps = Steps::begin();
        let environment = self.environment(&[], &self.log_stream()).map_err(platform)?;
        let dowry = self.dowry(&mut steps).await.map_err(platform)?;
        let mut wanted = self.wanted(environment, Born::ByExec);
        let count = self.version.config.calls_at_once() + SPARE_SOCKETS;
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        (wanted.argv, wanted.speaks) = (argv, Speaks::Sockets(count));
        let asked = Newborn::ask(&self.shared, wanted, dowry, steps).await;
        let Newborn { remains, socket, theirs, stdout, stderr } = asked.map_err(platform)?;
        drop(theirs);
        let life = self.life(remains, (stdout, stderr), StartPath::Exec);
        let mut life = life.map_err(platform)?;
        let started = tokio::time::timeout(SETUP_TIMEOUT, life.remains.started()).await;
        let mut steps = match started.map_err(too_slow).map_err(platform)? {
            Ok(steps) => steps,
            Err(StartError::Step(error)) if error.is_execution() => {
                let failure = invalid(&error.to_string());
                return Err(StartFailed::Function(life.fail(failure).await));
            }
            Err(error) => return Err(platform(not_started(error))),
        };
        let all = sockets::receive(socket.as_fd(), count).map_err(|e| platform(failed(e)))?;
        steps.mark(Step::Hello);
        tracing::trace!(target: "sandbox::steps", steps = steps.json());
        life.timings.sandbox_us = micros(begun, self.shared.clock.instant());
        let port = port(&self.version.config);
        Ok(House::new(life, Sockets::new(all, port), port, &self.version))
    }
}
