//! Documents whose every change is kept.
//!
//! [`Catalog::edit`] is the one way to change such a document. What calls need of the change is made ready before ([`Document::prepare`]). The newest change is part of the document, so both become durable by one
//! compare-and-set; it is copied to a key of its own at once, and by the next change if the daemon died in between. So the history is never
//! ahead of a document and never lacks a change. A deletion is a change like any other: it marks the document, which counts as absent from
//! then on, and is cleared away afterwards ([`Catalog::clear`]), by whoever finds it.

use engine::{Engine, Faulty, Prepared};
use futures_util::future::BoxFuture;
use model::Result;
use model::change::{Author, Change, Departed, What};
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::NamespaceName;
use model::ports::{Expect, Revision};
use model::{keys, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CHANGE_ATTEMPTS, Catalog, Stored, busy, expect};

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
    /// What begins with one of these is removed with it.
    fn leftovers(&self) -> Vec<String>;

    /// Whether the body of that key is not named, and cannot come to be.
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
    /// The thing as it was at this revision; else `conflict`.
    Revision(u64),
    /// Nothing; else `already-exists`.
    Absent,
}

impl Precondition {
    /// Whether a failed change is the caller's own condition rather than contention.
    pub(crate) fn is_revision(self) -> bool {
        matches!(self, Self::Revision(_))
    }

    /// `found` is the revision at which the thing last changed, if there is one.
    fn check(self, named: &str, found: Option<u64>) -> Result<()> {
        match (self, found) {
            (Self::None, _) | (Self::Absent, None) => Ok(()),
            (Self::Revision(expected), Some(found)) if found == expected => Ok(()),
            (Self::Revision(expected), found) => {
                let now = found
                    .map_or_else(|| "does not exist".into(), |f| format!("is at revision {f}"));
                Err(Error::caller(
                    Code::Conflict,
                    format!("{named} {now}, expected revision {expected}"),
                )
                .with_hint("read it again, and repeat the change with its revision"))
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

impl Catalog {
    /// Changes a document by compare-and-set, again and again while others change it in between; returns when the engine knows.
    ///
    /// Fails with `conflict` or `already-exists` where the precondition does not hold, and as `edit` does.
    pub(super) async fn edit<D: Document, R: Send>(
        &self,
        place: &Place<'_, D>,
        intent: &Intent,
        mut edit: impl FnMut(Option<D>, Turn) -> Result<Edit<D, R>> + Send,
    ) -> Result<Changed<D, R>> {
        let document = &place.document;
        let (mut bodies, mut ready) = (Vec::<String>::new(), None);
        for _ in 0..CHANGE_ATTEMPTS {
            let current = self.read::<D>(document).await?;
            if let Some(gone) = current.as_ref().filter(|c| c.value.deleted()) {
                self.clear(document, gone).await?;
                continue;
            }
            self.expect(place, intent.precondition, current.as_ref().map(|c| &c.value)).await?;
            let turn = self.turn(document, current.as_ref()).await?;
            let Edit { mut value, draft, body, result } =
                edit(current.as_ref().map(|c| c.value.clone()), turn)?;
            let (Some(draft), created) = (draft, current.is_none()) else {
                let revision = current.map_or(0, |c| c.revision);
                return Ok(Changed { stored: Stored { value, revision }, created: false, result });
            };
            if let (true, Some(namespace)) = (created, place.namespace) {
                self.namespace_accepts(namespace).await?;
            }
            value.set_change(dated(draft, turn, intent));
            // What an earlier turn made ready is let go only now: most of it is needed again.
            drop(ready.replace(value.prepare(&self.engine, intent.faulty).await?));
            if let Some((key, body)) = body {
                self.put_body(&key, body).await?;
                bodies.push(key);
            }
            if let Some(change) = current.as_ref().and_then(|c| c.value.change()) {
                self.keep(document, change).await?;
            }
            let revision = match self.write(document, expect(current.as_ref()), &value).await {
                Ok(revision) => revision,
                Err(e) if e.code() == Code::Conflict => continue,
                Err(e) => return Err(too_large(e, place)),
            };
            let stored = Stored { value, revision };
            if created {
                self.confirm_created(place).await?;
            }
            self.keep_soon(document, &stored.value).await;
            bodies.retain(|key| stored.value.disowns(key));
            self.remove_bodies(bodies).await;
            self.engine.caught_up(stored.revision).await?;
            drop(ready);
            return Ok(Changed { stored, created, result });
        }
        Err(busy(&place.named))
    }

    /// Deletes a document; `before` words what it was for the record. Answers with what it was.
    pub(super) async fn erase<D: Document>(
        &self,
        place: &Place<'_, D>,
        intent: &Intent,
        mut before: impl FnMut(Option<&D>) -> Result<Option<D::State>> + Send,
    ) -> Result<D> {
        let changed = self
            .edit(place, intent, |current: Option<D>, _| {
                let before = before(current.as_ref())?;
                let mut value = current.ok_or_else(|| missing(&place.named))?;
                value.set_deleted();
                let draft = Draft { what: What::Delete, of: None, before, after: None };
                Ok(Edit { value, draft: Some(draft), body: None, result: () })
            })
            .await?;
        // Gone already; what cannot be cleared away now is by whoever finds it.
        if let Err(error) = self.clear(&place.document, &changed.stored).await {
            tracing::warn!(%error, document = place.document, "a deleted document is not cleared away yet");
        }
        Ok(changed.stored.value)
    }

    /// Clears a deleted document away. May be cut off anywhere and run again, by several at once.
    pub(super) async fn clear<D: Document>(&self, document: &str, gone: &Stored<D>) -> Result<()> {
        if let Some(change) = gone.value.change() {
            self.keep(document, change).await?;
        }
        let departed =
            Departed { revision: gone.value.newest(), next_version: gone.value.next_version() };
        let key = keys::departed(document);
        let known = self.read::<Departed>(&key).await?;
        if known.as_ref().is_none_or(|known| known.value.revision < departed.revision) {
            match self.write(&key, expect(known.as_ref()), &departed).await {
                Err(e) if e.code() != Code::Conflict => return Err(e),
                // Whoever was faster knows the same deletion.
                _ => {}
            }
        }
        for prefix in gone.value.leftovers() {
            self.remove_all(&prefix).await?;
        }
        match self.meta.delete_if(document, gone.revision).await {
            Err(e) if e.code() != Code::Conflict => Err(e),
            _ => Ok(()),
        }
    }

    /// Checks a precondition; where it fails, the message says what changed meanwhile.
    pub(super) async fn expect<D: Document>(
        &self,
        place: &Place<'_, D>,
        precondition: Precondition,
        current: Option<&D>,
    ) -> Result<()> {
        let Err(error) = precondition.check(&place.named, current.and_then(place.revision)) else {
            return Ok(());
        };
        let (Precondition::Revision(seen), Some(current)) = (precondition, current) else {
            return Err(error);
        };
        let since = self.changes_since(place, seen, current).await.unwrap_or_default();
        if since.is_empty() {
            return Err(error);
        }
        let message = format!("{}; since then: {}", error.message(), since.join("; "));
        Err(Error::caller(Code::Conflict, message)
            .with_hint("read it again, and repeat the change with its revision"))
    }

    /// The newest few changes of a part after a revision, in words.
    async fn changes_since<D: Document>(
        &self,
        place: &Place<'_, D>,
        seen: u64,
        current: &D,
    ) -> Result<Vec<String>> {
        const SHOWN: usize = 3;
        const LOOKED_AT: usize = 50;
        // The newest is not among the kept ones for sure.
        let older = current.newest().saturating_sub(LOOKED_AT as u64);
        let after = keys::change(&place.document, seen.max(older));
        let prefix = keys::history_of(&place.document);
        let kept = self.meta.list(&prefix, Some(&after), LOOKED_AT).await?;
        let mut changes = Vec::new();
        for entry in &kept {
            changes.push(super::decode::<Change<D::State>>(entry)?.value);
        }
        if let Some(newest) = current.change()
            && changes.last().is_none_or(|last| last.revision < newest.revision)
        {
            changes.push(newest.clone());
        }
        let ours = changes.iter().rev().filter(|change| (place.concerns)(change));
        let words = ours.take(SHOWN).map(|change| {
            let Change { revision, author, what, at, .. } = change;
            format!("{} by {} at {at} (revision {revision})", what.as_str(), author.who)
        });
        Ok(words.collect())
    }

    async fn turn<D: Document>(&self, document: &str, current: Option<&Stored<D>>) -> Result<Turn> {
        let now = self.clock.now();
        if let Some(current) = current {
            let (newest, next_version) = (current.value.newest(), current.value.next_version());
            return Ok(Turn { revision: newest + 1, next_version, now });
        }
        let departed = self.read::<Departed>(&keys::departed(document)).await?.map(|d| d.value);
        let Departed { revision, next_version } = departed.unwrap_or_default();
        Ok(Turn { revision: revision + 1, next_version: next_version.max(1), now })
    }

    /// Copies a change to its own key, and drops the one that is too old to be kept.
    async fn keep<S: Serialize + Sync>(&self, document: &str, change: &Change<S>) -> Result<()> {
        let key = keys::change(document, change.revision);
        match self.write(&key, Expect::Absent, change).await {
            Ok(_) => {}
            // Kept before.
            Err(e) if e.code() == Code::Conflict => return Ok(()),
            Err(e) => return Err(e),
        }
        if let Some(old) = change.revision.checked_sub(limits::HISTORY_CHANGES)
            && let Some(entry) = self.meta.get(&keys::change(document, old)).await?
        {
            match self.meta.delete_if(&entry.key, entry.revision).await {
                Err(e) if e.code() != Code::Conflict => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// [`Self::keep`] for what is durable already: the next change would do it too.
    async fn keep_soon<D: Document>(&self, document: &str, value: &D) {
        let Some(change) = value.change() else { return };
        if let Err(error) = self.keep(document, change).await {
            tracing::warn!(%error, document, "a change is not in the history yet; the next one brings it there");
        }
    }

    async fn put_body(&self, key: &str, body: Vec<u8>) -> Result<Revision> {
        match self.meta.put_if(key, Expect::Absent, body.into()).await {
            // Written before, with the same content: the key says so.
            Err(e) if e.code() == Code::Conflict => Ok(0),
            written => written,
        }
    }

    /// Removes bodies that were written for numbers that others took.
    async fn remove_bodies(&self, keys: Vec<String>) {
        for key in keys {
            if let Err(error) = self.remove_all(&key).await {
                tracing::warn!(%error, key, "an unlisted version stays behind");
            }
        }
    }

    /// Removes every document whose key begins with `prefix`.
    pub(super) async fn remove_all(&self, prefix: &str) -> Result<()> {
        loop {
            let entries = self.meta.list(prefix, None, limits::PAGE_ENTRIES).await?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                match self.meta.delete_if(&entry.key, entry.revision).await {
                    Err(e) if e.code() != Code::Conflict => return Err(e),
                    _ => {}
                }
            }
        }
    }

    /// Step (c) of a creation ([`super::namespaces`]): undoes it if the namespace went away meanwhile. That is a deletion like any other, for
    /// somebody may have seen it, and changed it since.
    // A box, for a deletion is an edit too.
    fn confirm_created<'a, D: Document>(
        &'a self,
        place: &'a Place<'_, D>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(namespace) = place.namespace else { return Ok(()) };
            let Err(gone) = self.namespace_accepts(namespace).await else { return Ok(()) };
            let intent = Intent::daemon("its namespace is deleted");
            let before = |current: Option<&D>| {
                Ok(current.and_then(|document| document.change()?.after.clone()))
            };
            match self.erase(place, &intent, before).await {
                Err(e) if e.code() != Code::NotFound => Err(e),
                _ => Err(gone),
            }
        })
    }
}

fn dated<S>(draft: Draft<S>, turn: Turn, intent: &Intent) -> Change<S> {
    let Draft { what, of, before, after } = draft;
    let author = intent.author.clone();
    Change { revision: turn.revision, at: turn.now, author, what, of, before, after }
}

/// There is nothing to change.
pub(super) fn missing(named: &str) -> Error {
    Error::caller(Code::NotFound, format!("{named} does not exist"))
}

/// A store that refuses a document for its size means the caller's thing has grown too large.
fn too_large<D: Document>(error: Error, place: &Place<'_, D>) -> Error {
    if error.code() != Code::InvalidParameter {
        return error;
    }
    Error::caller(
        Code::InvalidParameter,
        format!(
            "{} has too many or too large parts: expected its record to have at most 1 MiB",
            place.named
        ),
    )
    .with_hint("delete versions or aliases that are not needed any more")
    .with_source(error)
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
        assert_eq!(e.code(), Code::Conflict);
        assert_eq!(e.message(), "function 'f' is at revision 7, expected revision 6");
        let e = Precondition::Revision(6).check("function 'f'", None).unwrap_err();
        assert_eq!(e.message(), "function 'f' does not exist, expected revision 6");
        let e = Precondition::Absent.check("function 'f'", Some(7)).unwrap_err();
        assert_eq!(e.code(), Code::AlreadyExists);
    }
}
