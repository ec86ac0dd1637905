//! Documents whose every change is kept.
//!
//! [`Catalog::edit`] is the one way to change such a document ([`edit`]). The newest change is part of the document, so both become durable
//! by one compare-and-set; it is copied to a key of its own at once, and by the next change if the daemon died in between ([`kept`]). So the
//! history is never ahead of a document and never lacks a change. A deletion is a change like any other: it marks the document, which counts
//! as absent from then on. Whoever finds it so clears it away ([`Catalog::clear`]): a tombstone takes its place, on which the next thing of
//! the name is created by compare-and-set like any other change, so that no number is given twice.

mod edit;
mod kept;

use engine::{Engine, Faulty, Prepared};
use model::Result;
use model::change::{Author, Change, What};
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::NamespaceName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Catalog, Stored};

/// A document whose changes are kept.
pub(super) trait Document:
    Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync
{
    /// What a change of it changes.
    type State: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync;

    /// The newest change.
    fn change(&self) -> Option<&Change<Self::State>>;
    /// Makes `change` the newest one.
    fn set_change(&mut self, change: Change<Self::State>);
    /// Whether it is gone.
    fn deleted(&self) -> bool;
    /// Marks it as gone.
    fn set_deleted(&mut self);
    /// The version number that comes next.
    fn next_version(&self) -> u64;
    /// What it is, as its deletion is recorded with.
    fn state(&self) -> Option<Self::State>;
    /// A state as it is compared; what is shown of that goes through [`super::difference_of`].
    fn comparable(state: &Self::State) -> Value;
    /// Removes what goes with it. May be cut off anywhere and run again.
    fn clear(&self, catalog: &Catalog) -> impl Future<Output = Result<()>> + Send;

    /// Whether the body of that key is not named by it, and cannot come to be by anything.
    fn disowns(&self, _body: &str) -> bool {
        false
    }

    /// Makes ready what calls need once the document is this; kept until the engine has seen it. Fails where it must not become so.
    fn prepare(
        &self,
        _: &Engine,
        _: Faulty,
    ) -> impl Future<Output = Result<Option<Prepared>>> + Send {
        std::future::ready(Ok(None))
    }

    /// The revision of the newest change; 0 before the first one that was recorded.
    fn newest(&self) -> u64 {
        self.change().map_or(0, |change| change.revision)
    }
}

/// Who changes something, and what they expect to find.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    /// By whom, from where and why.
    pub author: Author,
    /// What has to hold of the thing that is changed.
    pub precondition: Precondition,
    /// What becomes of a change that brings code which cannot be loaded.
    pub faulty: Faulty,
}

impl Intent {
    /// The daemon's own.
    pub(super) fn daemon(reason: impl Into<String>) -> Self {
        let (author, precondition) = (Author::daemon(reason), Precondition::None);
        Self { author, precondition, faulty: Faulty::Refused }
    }

    /// The same, with or without regard to code that cannot be loaded.
    pub(crate) fn forced(self, force: bool) -> Self {
        Self { faulty: if force { Faulty::Accepted } else { self.faulty }, ..self }
    }
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Anything.
    None,
    /// The thing as it was at this revision; else `precondition-failed`.
    Revision(u64),
    /// Nothing; else `already-exists`.
    Absent,
}

impl Precondition {
    /// `found` is the revision at which the thing last changed, if there is one.
    fn check(self, named: &str, found: Option<u64>) -> Result<()> {
        match (self, found) {
            (Self::None, _) | (Self::Absent, None) => Ok(()),
            (Self::Revision(expected), Some(found)) if found == expected => Ok(()),
            (Self::Revision(expected), found) => {
                let now = found
                    .map_or_else(|| "does not exist".into(), |f| format!("is at revision {f}"));
                Err(failed(format!("{named} {now}, expected revision {expected}")))
            }
            (Self::Absent, Some(_)) => {
                Err(Error::caller(Code::AlreadyExists, format!("{named} exists already")))
            }
        }
    }
}

/// What is changed: a document, or a part of it that has a revision of its own.
pub(super) struct Place<'a, D: Document> {
    /// The document's key.
    pub document: String,
    /// How messages call it.
    pub named: String,
    /// The namespace that has to stand for it to be created; `None` for namespaces themselves.
    pub namespace: Option<&'a NamespaceName>,
    /// The revision at which the part last changed; `None` if it is not there.
    pub revision: &'a (dyn Fn(&D) -> Option<u64> + Sync),
    /// Whether a change of the document is one of the part.
    pub concerns: &'a (dyn Fn(&Change<D::State>) -> bool + Sync),
}

/// What an edit may count on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// The revision that it will have.
    pub revision: u64,
    /// The version number that comes next, if the document is new.
    pub next_version: u64,
    /// When.
    pub now: UnixMillis,
}

/// A document as it shall be.
pub(super) struct Edit<D: Document, R> {
    pub value: D,
    /// What is recorded; `None`: nothing changes, and nothing is written.
    pub draft: Option<Draft<D::State>>,
    /// A document of its own that has to stand before `value` names it: key and value. Equal keys have equal values.
    pub body: Option<(String, Vec<u8>)>,
    pub result: R,
}

/// What is recorded of a change, beside what is known anyway.
#[derive(Debug)]
pub(super) struct Draft<S> {
    pub what: What,
    pub of: Option<String>,
    pub before: Option<S>,
    pub after: Option<S>,
}

/// The outcome of an edit.
#[derive(Debug)]
pub(super) struct Changed<D, R> {
    pub stored: Stored<D>,
    /// Whether the document did not exist before.
    pub created: bool,
    pub result: R,
}

/// A precondition does not hold.
fn failed(message: String) -> Error {
    Error::caller(Code::PreconditionFailed, message)
        .with_hint("read it again, and repeat the change with its revision")
}

/// There is nothing to change.
pub(super) fn missing(named: &str) -> Error {
    Error::caller(Code::NotFound, format!("{named} does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preconditions_hold_or_say_why_not() {
        for good in [Precondition::None, Precondition::Revision(7)] {
            good.check("function 'f'", Some(7)).unwrap();
        }
        Precondition::Absent.check("function 'f'", None).unwrap();

        let e = Precondition::Revision(6).check("function 'f'", Some(7)).unwrap_err();
        assert_eq!(e.code(), Code::PreconditionFailed);
        assert_eq!(e.message(), "function 'f' is at revision 7, expected revision 6");
        let e = Precondition::Revision(6).check("function 'f'", None).unwrap_err();
        assert_eq!(e.message(), "function 'f' does not exist, expected revision 6");
        let e = Precondition::Absent.check("function 'f'", Some(7)).unwrap_err();
        assert_eq!(e.code(), Code::AlreadyExists);
    }
}
