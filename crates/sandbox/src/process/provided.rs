//! Functions that bring their own runtime: an executable `bootstrap`, which asks for calls over HTTP ([`crate::runtime_api`]).
//!
//! Here is how one starts; [`instance`] is what becomes of it. There is nothing of ours in the process, so none can be started before its function is known.

mod instance;
mod interpreter;

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::Error;
use model::invocation::{Failure, FailureKind, StartPath};
use model::limits;
use model::ports::{Instance, LogLine, LogStream, StartFailed};

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::birth::{Newborn, SETUP_TIMEOUT, failed, not_started, too_slow};
use super::environment::{LAYERS, TASK_ROOT};
use super::image::ProcessImage;
use super::life::micros;
use super::packages::Unpacked;
use crate::jail::{Born, Speaks, Steps, listener as jail_listener};
use crate::runtime_api::{About, Api, EXTENSIONS};
use instance::ProvidedInstance;
pub(super) use interpreter::interpreter;

/// The executable's name.
const BOOTSTRAP: &str = "bootstrap";
/// Where layers have extensions, below `/opt`.
const FOLDER: &str = "extensions";
/// What a package without a usable executable is called.
const INVALID_ENTRYPOINT: &str = "Runtime.InvalidEntrypoint";

/// Takes the listener from an instance that is being set up, when it is there.
async fn listener(socket: &UnixStream) -> io::Result<TcpListener> {
    socket.async_io(Interest::READABLE, || jail_listener::receive(socket.as_fd())).await
}

/// What of a version's packages is executed.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// The runtime, by its path as the function sees it.
    bootstrap: String,
    /// What runs beside it.
    extensions: Vec<String>,
}

impl Programs {
    /// Looks for them; the failure that says what is missing, or too much.
    pub(super) fn find(unpacked: &Unpacked) -> Result<Self, Failure> {
        let Some((at, _)) = bootstrap(unpacked) else {
            let message = format!(
                "Couldn't find valid bootstrap(s): [{TASK_ROOT}/{BOOTSTRAP} {LAYERS}/{BOOTSTRAP}]"
            );
            return Err(Failure::new(FailureKind::Init, INVALID_ENTRYPOINT, &message));
        };
        let extensions = unpacked.layers().map(extensions).unwrap_or_default();
        if extensions.len() > EXTENSIONS {
            let message = format!("Extension limit ({EXTENSIONS}) reached");
            return Err(Failure::new(FailureKind::Init, "Extension.TooManyExtensions", &message));
        }
        Ok(Self { bootstrap: format!("{at}/{BOOTSTRAP}"), extensions })
    }
}

/// The folder that the executable is taken from, as the function sees it, and the executable on the host.
fn bootstrap(unpacked: &Unpacked) -> Option<(&'static str, PathBuf)> {
    let folders = [(TASK_ROOT, Some(unpacked.package())), (LAYERS, unpacked.layers())];
    let mut files = folders.into_iter().filter_map(|(at, on)| Some((at, on?.join(BOOTSTRAP))));
    files.find(|(_, file)| file.symlink_metadata().is_ok())
}

/// Files in the layers' folder of extensions, in the order of their names.
fn extensions(layers: &Path) -> Vec<String> {
    let entries = layers.join(FOLDER).read_dir().into_iter().flatten().flatten();
    let files = entries.filter(|entry| !entry.path().is_dir());
    let mut names: Vec<String> = files.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

impl ProcessImage {
    /// Starts an instance and waits until it asks for its first call.
    pub(super) async fn start_provided(
        &self,
        programs: &Result<Programs, Failure>,
        begun: Instant,
    ) -> Result<Box<dyn Instance>, StartFailed> {
        let programs = programs.as_ref().map_err(|failure| {
            self.say(failure);
            StartFailed::Function(failure.clone())
        })?;
        let mut instance = self.ask_for(programs, begun).await.map_err(StartFailed::Platform)?;
        let (launched, ready) = instance.launch(begun).await?;
        tracing::trace!(target: "sandbox::steps", steps = launched.json());
        let allowed = Duration::from_millis(limits::INIT_TIMEOUT_MS.into());
        instance.load(ready, allowed).await.map_err(StartFailed::Function)?;
        Ok(Box::new(instance))
    }

    /// Has the sandbox set up, up to where it listens.
    async fn ask_for(
        &self,
        programs: &Programs,
        begun: Instant,
    ) -> Result<ProvidedInstance, Error> {
        let mut steps = Steps::begin();
        let environment = self.environment(&[], &self.log_stream())?;
        let dowry = self.dowry(&mut steps).await?;
        let mut wanted = self.wanted(environment, Born::ByExec);
        wanted.argv = vec![programs.bootstrap.clone()];
        wanted.speaks = Speaks::Http;
        let path = |name: &String| format!("{LAYERS}/{FOLDER}/{name}");
        wanted.companions = programs.extensions.iter().map(path).collect();
        let newborn = Newborn::ask(&self.shared, wanted, dowry, steps).await?;
        let Newborn { remains, socket, theirs, stdout, stderr } = newborn;
        // Nothing is read back from this one, and its end shall be seen.
        drop(theirs);
        let mut life = self.life(remains, (stdout, stderr), StartPath::Exec)?;
        let listener = tokio::time::timeout(SETUP_TIMEOUT, listener(&socket)).await;
        let listener = match listener.map_err(too_slow)? {
            Ok(listener) => listener,
            // It says itself why it did not get so far.
            Err(error) => {
                return Err(life
                    .remains
                    .started()
                    .await
                    .map_or_else(not_started, |_| failed(error)));
            }
        };
        life.timings.sandbox_us = micros(begun, self.shared.clock.instant());
        let about = About {
            name: self.version.key.name.to_string(),
            version: self.version.label().to_string(),
            handler: self.version.config.handler.clone(),
        };
        let extensions = programs.extensions.clone();
        let has_extensions = !extensions.is_empty();
        let served = Api::serve(listener, &self.shared.tasks, about, extensions);
        let (api, init) = served.map_err(failed)?;
        let arn = self.version.arn();
        Ok(ProvidedInstance::new(life, (api, init), socket, arn, has_extensions))
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
