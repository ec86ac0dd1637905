//! The Extensions API: programs beside the runtime that hear of its calls and of its end.
//!
//! [`register`], [`event`] and [`failure`] are its endpoints. Those whose programs come from a layer (external ones) are known before they register; what the
//! runtime itself runs (internal ones) registers before its first call and hears of calls alone. States are those of AWS Lambda's own emulator:
//!
//! ```text
//! Started ──register──▶ Registered ──next──▶ Ready ──an event──▶ Running ──next──▶ Ready
//!                           └──init/error──▶ InitError  └────────────┴──exit/error──▶ ExitError
//! ```

pub(super) mod event;
pub(super) mod failure;
pub(super) mod register;

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use model::ids::RequestId;

use super::answers::{Reply, error};

/// Most extensions of a function (AWS Lambda quotas).
pub(crate) const EXTENSIONS: usize = 10;
/// Largest body of a request of an extension, in bytes.
const BODY_BYTES: usize = 64 * 1024;
/// Longest name of an extension, in bytes: that of a file.
const NAME_BYTES: usize = 255;
/// What an extension is known by once it has registered.
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");

/// Where an extension is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
        })
    }
}

/// One extension.
#[derive(Debug)]
pub(super) struct Extension {
    name: String,
    /// Whether its program comes from a layer.
    external: bool,
    /// What it is known by; given to it when it registers.
    id: RequestId,
    pub(super) phase: Phase,
    /// Whether it hears of calls.
    invoke: bool,
    /// Whether it hears of the end.
    shutdown: bool,
    /// What it has still to hear.
    event: Option<Bytes>,
}

/// Why a request of an extension is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    error_type: &'static str,
    message: String,
}

impl Refused {
    pub(super) fn new(error_type: &'static str, message: impl Into<String>) -> Self {
        Self { error_type, message: message.into() }
    }

    /// It is not the time for it.
    fn transition(extension: &Extension, to: Phase) -> Self {
        let message = format!(
            "State transition from {} to {to} failed for extension {}. Error: State transition is not allowed",
            extension.phase, extension.name
        );
        Self { error_type: "Extension.InvalidExtensionState", message }
    }

    /// As it is answered.
    pub(super) fn reply(&self) -> Reply {
        error(StatusCode::FORBIDDEN, self.error_type, &self.message)
    }
}

/// All extensions of an instance.
#[derive(Debug, Default)]
pub(super) struct Extensions(Vec<Extension>);

impl Extensions {
    /// These programs are external ones.
    pub(super) fn of(names: Vec<String>) -> Self {
        Self(names.into_iter().map(|name| Extension::started(name, true)).collect())
    }

    /// Whether all external ones have registered.
    pub(super) fn are_registered(&self) -> bool {
        self.0.iter().all(|extension| extension.phase != Phase::Started)
    }

    /// Whether all of them wait for an event: none is at the one before.
    pub(super) fn are_ready(&self) -> bool {
        self.0.iter().all(|e| e.phase == Phase::Ready && e.event.is_none())
    }

    /// Whether any hears of calls.
    pub(super) fn hear_calls(&self) -> bool {
        self.0.iter().any(|extension| extension.invoke)
    }

    /// There is a call.
    pub(super) fn invoke(&mut self, event: &Bytes) {
        for extension in self.0.iter_mut().filter(|extension| extension.invoke) {
            extension.event = Some(event.clone());
        }
    }

    /// The instance ends; whether any is to hear of it.
    pub(super) fn shut_down(&mut self, event: &Bytes) -> bool {
        for extension in self.0.iter_mut().filter(|extension| extension.shutdown) {
            extension.event = Some(event.clone());
        }
        self.0.iter().any(|extension| extension.shutdown)
    }

    /// An extension registers; `open` says whether internal ones still may.
    pub(super) fn register(
        &mut self,
        name: &str,
        events: &[String],
        open: bool,
    ) -> Result<RequestId, Refused> {
        const INVOKE: &str = "INVOKE";
        const SHUTDOWN: &str = "SHUTDOWN";
        let external = self.0.iter().any(|e| e.name == name && e.external);
        let known = |event: &&String| {
            ![INVOKE, SHUTDOWN].contains(&event.as_str()) || !external && *event == SHUTDOWN
        };
        if let Some(event) = events.iter().find(known) {
            let message = format!("{event}: event type is not supported");
            return Err(Refused::new("Extension.InvalidEventType", message));
        }
        if !external {
            if !open {
                let message = "Extension registration closed already";
                return Err(Refused::new("Extension.RegistrationClosed", message));
            }
            if self.0.iter().any(|extension| extension.name == name) {
                let message = "Extension with this name already registered";
                return Err(Refused::new("Extension.InvalidExtensionState", message));
            }
            if self.0.len() >= EXTENSIONS {
                let message = format!("Extension limit ({EXTENSIONS}) reached");
                return Err(Refused::new("Extension.TooManyExtensions", message));
            }
            self.0.push(Extension::started(name.to_owned(), false));
        }
        let wanted = |event: &str| events.iter().any(|wanted| wanted == event);
        let found = self.0.iter_mut().find(|extension| extension.name == name);
        let extension = found.ok_or_else(|| Refused::new(UNKNOWN, "Unknown extension"))?;
        if extension.phase != Phase::Started {
            return Err(Refused::transition(extension, Phase::Registered));
        }
        extension.phase = Phase::Registered;
        (extension.invoke, extension.shutdown) = (wanted(INVOKE), wanted(SHUTDOWN));
        Ok(extension.id)
    }

    /// An extension asks for an event, for the first time or once more: whether it is ready now.
    pub(super) fn ask(&mut self, id: RequestId) -> Result<(), Refused> {
        let extension = self.find(id)?;
        match extension.phase {
            Phase::Registered | Phase::Running => {
                extension.phase = Phase::Ready;
                Ok(())
            }
            _ => Err(Refused::transition(extension, Phase::Ready)),
        }
    }

    /// What an extension that has asked has to hear.
    pub(super) fn take(&mut self, id: RequestId) -> Option<Bytes> {
        let extension = self.find(id).ok().filter(|e| e.phase == Phase::Ready)?;
        let event = extension.event.take()?;
        extension.phase = Phase::Running;
        Some(event)
    }

    /// An extension cannot go on. Whether that is the first time it says so.
    pub(super) fn fail(&mut self, id: RequestId, to: Phase) -> Result<bool, Refused> {
        let extension = self.find(id)?;
        let allowed: &[Phase] = match to {
            Phase::InitError => &[Phase::Registered],
            _ => &[Phase::Registered, Phase::Ready, Phase::Running],
        };
        if extension.phase == to {
            return Ok(false);
        }
        if !allowed.contains(&extension.phase) {
            return Err(Refused::transition(extension, to));
        }
        extension.phase = to;
        Ok(true)
    }

    fn find(&mut self, id: RequestId) -> Result<&mut Extension, Refused> {
        let registered = |e: &&mut Extension| e.id == id && e.phase != Phase::Started;
        let found = self.0.iter_mut().find(registered);
        found.ok_or_else(|| Refused::new(UNKNOWN, format!("Unknown extension {id}")))
    }
}

impl Extension {
    fn started(name: String, external: bool) -> Self {
        let id = RequestId::generate();
        let phase = Phase::Started;
        Self { name, external, id, phase, invoke: false, shutdown: false, event: None }
    }
}

const UNKNOWN: &str = "Extension.UnknownExtensionIdentifier";

/// What an extension says it is.
fn identifier(headers: &HeaderMap) -> Result<RequestId, Refused> {
    let Some(id) = headers.get(IDENTIFIER) else {
        let message = "Missing Lambda-Extension-Identifier header";
        return Err(Refused::new("Extension.MissingExtensionIdentifier", message));
    };
    id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
        let message = "Invalid Lambda-Extension-Identifier";
        Refused::new("Extension.InvalidExtensionIdentifier", message)
    })
}
