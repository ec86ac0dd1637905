//! What was changed, by whom, from where, why: the record that is kept of every change.
//!
//! The newest change of a document is part of the document, so that both become durable by one compare-and-set; before the next change
//! it is copied to a key of its own (`keys::change`), where it stays.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::limits;

/// One change of a document. `S` is the state of what changed: of the function, of one of its aliases, of a layer, of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<S> {
    /// Its number: from 1, without gaps, going on where a thing of the same name was deleted.
    pub revision: u64,
    /// When.
    pub at: UnixMillis,
    /// By whom, from where and why.
    pub author: Author,
    /// What was done.
    pub what: What,
    /// The alias or the version of the document that it was done to; absent means the document itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// How it was; absent means it was not there.
    #[serde(default = "nothing", skip_serializing_if = "Option::is_none")]
    pub before: Option<S>,
    /// How it is; absent means it is gone.
    #[serde(default = "nothing", skip_serializing_if = "Option::is_none")]
    pub after: Option<S>,
}

// Named, so that serde asks no default of `S`.
fn nothing<S>() -> Option<S> {
    None
}

/// Who changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The name of the key, `dev` where none is asked for, `hanshu` for the daemon itself.
    pub who: String,
    /// The address that the request came from; absent for the daemon itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why, in the author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Author {
    /// Who the daemon itself is.
    pub const DAEMON: &'static str = "hanshu";
    /// Who everybody is where no key is asked for.
    pub const DEV: &'static str = "dev";

    /// The daemon itself, with its reason.
    pub fn daemon(reason: impl Into<String>) -> Self {
        Self { who: Self::DAEMON.into(), from: None, reason: Some(reason.into()) }
    }

    /// Whether it is the daemon itself.
    pub fn is_daemon(&self) -> bool {
        self.who == Self::DAEMON
    }

    /// Checks a reason as it was sent.
    pub fn check_reason(reason: &str) -> Result<(), Error> {
        if reason.chars().count() > limits::REASON_CHARS || reason.chars().any(char::is_control) {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!(
                    "reason is not valid: expected at most {} characters on one line",
                    limits::REASON_CHARS
                ),
            ));
        }
        Ok(())
    }
}

/// The kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was made.
    Create,
    /// Its code was replaced, its configuration or settings may have been as well.
    Deploy,
    /// Its configuration or settings were changed.
    Configure,
    /// A version was published.
    Publish,
    /// A layer that it follows moved on.
    FollowLayer,
    /// It was brought back to an earlier state.
    Rollback,
    /// A shift of an alias began.
    ShiftStart,
    /// A shift went on to its next step.
    ShiftStep,
    /// A shift reached its end.
    ShiftDone,
    /// A shift was stopped and taken back.
    ShiftStop,
    /// It, or a version or alias of it, was deleted.
    Delete,
}

impl What {
    /// The kind as it stands in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Deploy => "deploy",
            Self::Configure => "configure",
            Self::Publish => "publish",
            Self::FollowLayer => "follow-layer",
            Self::Rollback => "rollback",
            Self::ShiftStart => "shift-start",
            Self::ShiftStep => "shift-step",
            Self::ShiftDone => "shift-done",
            Self::ShiftStop => "shift-stop",
            Self::Delete => "delete",
        }
    }
}

/// What is left of a document that was deleted, under its key: numbers are never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Always.
    deleted: bool,
    /// Revision of the deletion.
    pub revision: u64,
    /// The version number that would have come next; 1 where there are no versions.
    pub next_version: u64,
}

impl Tombstone {
    /// Of a document that came to these numbers.
    pub fn new(revision: u64, next_version: u64) -> Self {
        Self { deleted: true, revision, next_version }
    }
}

/// What lies under the key of a document whose changes are kept.
#[derive(Clone, Debug)]
pub enum Lying<T> {
    /// The document; it may be marked as deleted.
    Document(T),
    /// What a deletion left.
    Tombstone(Tombstone),
}

impl<T: DeserializeOwned> Lying<T> {
    /// Reads what is stored; the error is that of the document.
    pub fn read(stored: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(stored).map(Self::Document).or_else(|error| {
            match serde_json::from_slice::<Tombstone>(stored) {
                Ok(tombstone) if tombstone.deleted => Ok(Self::Tombstone(tombstone)),
                _ => Err(error),
            }
        })
    }

    /// The document, if one lies there.
    pub fn document(self) -> Option<T> {
        match self {
            Self::Document(document) => Some(document),
            Self::Tombstone(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_they_serialise() {
        for what in [
            What::Create,
            What::Deploy,
            What::Configure,
            What::Publish,
            What::FollowLayer,
            What::Rollback,
            What::ShiftStart,
            What::ShiftStep,
            What::ShiftDone,
            What::ShiftStop,
            What::Delete,
        ] {
            assert_eq!(serde_json::to_value(what).unwrap(), what.as_str());
        }
    }

    #[test]
    fn tombstones_are_told_from_documents() {
        #[derive(Debug, Deserialize)]
        struct Document {
            id: u8,
        }
        let read = |json: &str| Lying::<Document>::read(json.as_bytes());
        let tombstone = Tombstone::new(7, 3);
        let json = serde_json::to_string(&tombstone).unwrap();
        assert_eq!(json, r#"{"deleted":true,"revision":7,"next_version":3}"#);
        assert!(matches!(read(&json).unwrap(), Lying::Tombstone(t) if t == tombstone));
        assert_eq!(read(r#"{"id":1,"deleted":true}"#).unwrap().document().unwrap().id, 1);
        for bad in ["{}", r#"{"deleted":false,"revision":7,"next_version":3}"#] {
            assert!(read(bad).unwrap_err().to_string().contains("missing field `id`"));
        }
    }

    #[test]
    fn reasons_are_one_line() {
        Author::check_reason("ticket 7: too slow").unwrap();
        for bad in ["a\nb", &"x".repeat(limits::REASON_CHARS + 1)] {
            assert!(Author::check_reason(bad).unwrap_err().message().starts_with("reason"));
        }
    }
}
