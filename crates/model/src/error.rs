//! Errors of the platform: a closed set of codes, two faces each.
//!
//! The caller sees [`Error::message`] and [`Error::hint`]; the log sees its source as well. A function's own failure
//! is no error: it is a [`crate::invocation::Failure`] inside an outcome. Code → HTTP status: `server::error`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Who has to act for the error to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The caller: the request was wrong, or over a limit.
    Caller,
    /// The function's owner: its code or configuration is at fault.
    Function,
    /// Whoever runs the daemon.
    Platform,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What went wrong, as a closed set. Each code has a page `docs/errors/CODE.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as it stands in answers, logs and the name of its page.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// A name breaks the rule of its kind.
    InvalidName = "invalid-name",
    /// A parameter, header or field has a value that is not allowed.
    InvalidParameter = "invalid-parameter",
    /// The body is not what the operation reads: no JSON, a missing or unknown field, cut off half-way.
    InvalidBody = "invalid-body",
    /// The code package cannot be used: no zip, a forbidden entry, too many entries.
    InvalidPackage = "invalid-package",
    /// The package is over its size limit, packed or unpacked.
    PackageTooLarge = "package-too-large",
    /// No installed runtime answers to the name.
    UnknownRuntime = "unknown-runtime",
    /// The payload of a call is over its limit.
    PayloadTooLarge = "payload-too-large",
    /// There is no such thing, or it is not visible to this key.
    NotFound = "not-found",
    /// No route of the API has this path and method.
    NoRoute = "no-route",
    /// A thing of this name exists already.
    AlreadyExists = "already-exists",
    /// Somebody else changed the thing in between.
    Conflict = "conflict",
    /// The key of a call was used for another call already.
    KeyReused = "key-reused",
    /// The thing is not at the revision that the request expects.
    PreconditionFailed = "precondition-failed",
    /// The thing still holds others and is not deleted with them.
    NotEmpty = "not-empty",
    /// No key, or a key that is not known.
    Unauthenticated = "unauthenticated",
    /// The key, a quota or a policy does not allow it.
    Forbidden = "forbidden",
    /// A limit on instances, waiting calls or memory is reached; try again later.
    Throttled = "throttled",
    /// As much waits in the queue of asynchronous calls as a function or a namespace may have there.
    QueueFull = "queue-full",
    /// New code cannot be loaded, so it does not take the calls of a function that is in use.
    InitFailed = "init-failed",
    /// The body did not arrive in time.
    RequestTimeout = "request-timeout",
    /// The disk that holds the data folder is full.
    StorageFull = "storage-full",
    /// The data folder cannot be used: locked, of a newer format, damaged.
    StorageUnusable = "storage-unusable",
    /// The sandbox could not start or keep an instance, through no fault of the function.
    SandboxFailed = "sandbox-failed",
    /// The daemon is stopping or not yet ready.
    Unavailable = "unavailable",
    /// The operation exists in the interface but is not supported by this daemon.
    Unsupported = "unsupported",
    /// A fault in the platform; the log has the source.
    Internal = "internal",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operation was refused or failed.
///
/// Messages are lower case without a full stop and say what was expected.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    origin: Origin,
    retry_after: Option<Duration>,
    message: String,
    hint: Option<String>,
    source: Option<Source>,
}

impl Error {
    fn new(code: Code, origin: Origin, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            origin,
            retry_after: None,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// The caller has to change the request.
    pub fn caller(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Origin::Caller, message)
    }

    /// The function's owner has to change its code or configuration.
    pub fn function(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Origin::Function, message)
    }

    /// Whoever runs the daemon has to act.
    pub fn platform(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Origin::Platform, message)
    }

    /// A fault of ours. The message stays general; `source` goes to the log.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::platform(Code::Internal, "internal error; the daemon's log has the details")
            .with_source(source)
    }

    /// There is no `kind` named `name`.
    pub fn not_found(kind: &str, name: impl fmt::Display) -> Self {
        Self::caller(Code::NotFound, format!("{kind} '{name}' does not exist"))
    }

    /// Over a limit; the same call may pass after `retry_after`.
    pub fn throttled(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::caller(Code::Throttled, message).retry_after(retry_after)
    }

    /// Adds what to do next, apart from what went wrong.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the cause, for the log only.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Marks the error as one that may pass when tried again after `after`.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Who has to act.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// When the same request may be tried again; `None` if that is no use.
    pub fn retry_hint(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// For the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the caller can do next.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_kebab_case() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            let s = code.as_str();
            assert!(seen.insert(s), "{s} twice");
            assert!(s.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{s}");
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{s}\""));
        }
    }

    #[test]
    fn the_source_stays_out_of_the_callers_message() {
        let e = Error::internal("disk /secret/path broke");
        assert!(!e.to_string().contains("secret"));
        assert!(std::error::Error::source(&e).unwrap().to_string().contains("secret"));
    }
}
