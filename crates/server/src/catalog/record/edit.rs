//! Changing a document, deleting it, clearing away what a deletion leaves.

use std::time::Duration;

use futures_util::future::BoxFuture;
use model::Result;
use model::change::{Change, Lying, Tombstone, What};
use model::error::{Code, Error};
use model::limits;
use model::ports::{Expect, Revision};
use serde_json::Value;

use super::{Changed, Document, Draft, Edit, Intent, Place, Turn, missing};
use crate::catalog::{CHANGE_ATTEMPTS, Catalog, Stored, busy};

/// Pauses before a creation looks for its namespace again that could not be read.
const LOOK_AGAIN: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1)];

/// What a change starts from.
struct Ground<D> {
    current: Option<D>,
    /// The numbers that the document, or the last one of its name, came to.
    came_to: Tombstone,
    /// What has to lie there still when the change is written.
    expect: Expect,
}

impl Catalog {
    /// Changes a document by compare-and-set, again and again while others change it in between; returns when the engine knows. What calls need
    /// of the change is made ready before ([`Document::prepare`]).
    ///
    /// Fails with `precondition-failed` or `already-exists` where the precondition does not hold, and as `edit` does.
    pub(in crate::catalog) async fn edit<D: Document, R: Send>(
        &self,
        place: &Place<'_, D>,
        intent: &Intent,
        edit: impl FnMut(Option<D>, Turn) -> Result<Edit<D, R>> + Send,
    ) -> Result<Changed<D, R>> {
        let mut bodies = Vec::new();
        let changed = self.try_edit(place, intent, edit, &mut bodies).await;
        if let Ok(changed) = &changed {
            bodies.retain(|body| changed.stored.value.disowns(body));
        }
        if !bodies.is_empty() {
            self.remove_disowned::<D>(&place.document, bodies).await;
        }
        changed
    }

    /// [`Self::edit`]; every body that it wrote is in `bodies` then.
    async fn try_edit<D: Document, R: Send>(
        &self,
        place: &Place<'_, D>,
        intent: &Intent,
        mut edit: impl FnMut(Option<D>, Turn) -> Result<Edit<D, R>> + Send,
        bodies: &mut Vec<String>,
    ) -> Result<Changed<D, R>> {
        let document = &place.document;
        let mut ready = None;
        for _ in 0..CHANGE_ATTEMPTS {
            let Some(Ground { current, came_to, expect }) = self.ground::<D>(document).await?
            else {
                continue;
            };
            self.expect(place, intent.precondition, current.as_ref()).await?;
            let Tombstone { revision, next_version, .. } = came_to;
            let turn = Turn { revision: revision + 1, next_version, now: self.clock.now() };
            let Edit { mut value, draft, body, result } = edit(current.clone(), turn)?;
            let Some(draft) = draft else {
                let revision = revision_of(expect);
                return Ok(Changed { stored: Stored { value, revision }, created: false, result });
            };
            let created = current.is_none();
            if let (true, Some(namespace)) = (created, place.namespace) {
                self.namespace_accepts(namespace).await?;
            }
            let reserve =
                intent.author.is_daemon() || matches!(draft.what, What::Delete | What::ShiftStop);
            value.set_change(dated(draft, turn, intent));
            let bytes = encoded(&place.named, reserve, current.as_ref(), &value)?;
            // What an earlier turn made ready is let go only now: most of it is needed again.
            drop(ready.replace(value.prepare(&self.engine, intent.faulty).await?));
            if let Some((key, body)) = body {
                self.put_body(&key, body).await?;
                bodies.push(key);
            }
            if let Some(change) = current.as_ref().and_then(Document::change) {
                self.keep(document, change).await?;
            }
            let revision = match self.meta.put_if(document, expect, bytes.into()).await {
                Err(e) if e.code() == Code::Conflict => continue,
                written => written?,
            };
            let stored = Stored { value, revision };
            if created {
                self.confirm_created(place).await?;
            }
            self.keep_soon(document, &stored.value).await;
            self.engine.caught_up(stored.revision).await?;
            if let Some(ready) = ready.flatten() {
                ready.settle().await;
            }
            return Ok(Changed { stored, created, result });
        }
        Err(busy(&place.named))
    }

    /// What lies under a document's key; `None` if that was a deleted document, which is cleared away now.
    async fn ground<D: Document>(&self, document: &str) -> Result<Option<Ground<D>>> {
        let Some(Stored { value, revision }) = self.lying::<D>(document).await? else {
            let came_to = Tombstone::new(0, 1);
            return Ok(Some(Ground { current: None, came_to, expect: Expect::Absent }));
        };
        let expect = Expect::Revision(revision);
        Ok(match value {
            Lying::Tombstone(came_to) => Some(Ground { current: None, came_to, expect }),
            Lying::Document(value) if value.deleted() => {
                self.clear(document, &Stored { value, revision }).await?;
                None
            }
            Lying::Document(value) => {
                let came_to = tombstone(&value);
                Some(Ground { current: Some(value), came_to, expect })
            }
        })
    }

    /// Deletes a document, if `check` lets it. Answers with what it was.
    pub(in crate::catalog) async fn erase<D: Document>(
        &self,
        place: &Place<'_, D>,
        intent: &Intent,
        mut check: impl FnMut(&D) -> Result<()> + Send,
    ) -> Result<D> {
        let changed = self
            .edit(place, intent, |current: Option<D>, _| {
                let mut value = current.ok_or_else(|| missing(&place.named))?;
                check(&value)?;
                let before = value.state();
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

    /// Puts a tombstone in the place of a deleted document, after what goes with it is removed. May be cut off anywhere and run again.
    pub(in crate::catalog) async fn clear<D: Document>(
        &self,
        document: &str,
        gone: &Stored<D>,
    ) -> Result<()> {
        // One at a time, and each looks again: what goes by the name may be a namesake's by then.
        let _clearing = self.clearing.lock().await;
        let there = self.meta.get(document).await?;
        if there.is_none_or(|there| there.revision != gone.revision) {
            return Ok(());
        }
        if let Some(change) = gone.value.change() {
            self.keep(document, change).await?;
        }
        gone.value.clear(self).await?;
        match self.write(document, Expect::Revision(gone.revision), &tombstone(&gone.value)).await {
            Err(e) if e.code() != Code::Conflict => Err(e),
            _ => Ok(()),
        }
    }

    /// Step (c) of a creation ([`crate::catalog::namespaces`]): undoes it if the namespace went away meanwhile. That is a deletion like any
    /// other, for somebody may have seen it, and changed it since. Where nobody can say whether the namespace stands, the creation does; the
    /// next start looks again.
    // A box, for a deletion is an edit too.
    fn confirm_created<'a, D: Document>(
        &'a self,
        place: &'a Place<'_, D>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(namespace) = place.namespace else { return Ok(()) };
            let mut accepts = self.namespace_accepts(namespace).await;
            for pause in LOOK_AGAIN {
                match &accepts {
                    Err(e) if !matches!(e.code(), Code::NotFound | Code::Conflict) => {}
                    _ => break,
                }
                self.clock.sleep_until(self.clock.instant() + pause).await;
                accepts = self.namespace_accepts(namespace).await;
            }
            let gone = match accepts {
                Err(gone) if matches!(gone.code(), Code::NotFound | Code::Conflict) => gone,
                accepts => return accepts,
            };
            let intent = Intent::daemon("its namespace is deleted");
            match self.erase(place, &intent, |_| Ok(())).await {
                Err(e) if e.code() != Code::NotFound => Err(e),
                _ => Err(gone),
            }
        })
    }
}

fn revision_of(expect: Expect) -> Revision {
    match expect {
        Expect::Revision(revision) => revision,
        Expect::Absent => 0,
    }
}

/// What is left of a document.
fn tombstone<D: Document>(document: &D) -> Tombstone {
    Tombstone::new(document.newest(), document.next_version())
}

fn dated<S>(draft: Draft<S>, turn: Turn, intent: &Intent) -> Change<S> {
    let Draft { what, of, before, after } = draft;
    let author = intent.author.clone();
    Change { revision: turn.revision, at: turn.now, author, what, of, before, after }
}

/// A document as it is stored; refused if it is too large. What may not use the reserve may still make a large one smaller.
fn encoded<D: Document>(
    named: &str,
    reserve: bool,
    before: Option<&D>,
    document: &D,
) -> Result<Vec<u8>> {
    let bytes = |document: &D| serde_json::to_vec(document).map_err(Error::internal);
    let stored = bytes(document)?;
    let reserved = if reserve { 0 } else { limits::DOCUMENT_RESERVE_BYTES };
    let most = limits::DOCUMENT_BYTES - reserved;
    if stored.len() <= most {
        return Ok(stored);
    }
    if stored.len() <= limits::DOCUMENT_BYTES
        && let Some(before) = before
        && stored.len() < bytes(before)?.len()
    {
        return Ok(stored);
    }
    let (part, large) = largest(&stored);
    Err(Error::caller(
        Code::InvalidParameter,
        format!(
            "{named} is too large: its record would have {} bytes, {large} of them in {part}; expected at most {most}",
            stored.len()
        ),
    )
    .with_hint("delete versions or aliases that are not needed any more"))
}

/// The largest member of a document, and its bytes.
fn largest(document: &[u8]) -> (String, usize) {
    let members = match serde_json::from_slice(document) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let sizes = members.into_iter().map(|(name, value)| (name, value.to_string().len()));
    sizes.max_by_key(|(_, bytes)| *bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use model::clock::UnixMillis;
    use model::namespace::{Namespace, NamespaceSettings};

    use super::*;

    fn document(bytes: usize) -> Namespace {
        let description = "x".repeat(bytes);
        Namespace {
            name: "n".parse().unwrap(),
            settings: NamespaceSettings { description, ..NamespaceSettings::default() },
            created_at: UnixMillis(1),
            change: None,
            deleting_since: None,
            deleted: false,
        }
    }

    #[test]
    fn people_leave_the_daemon_room() {
        let (full, large) = (limits::DOCUMENT_BYTES, limits::DOCUMENT_BYTES - 64 * 1024);
        let e = encoded("namespace 'n'", false, None, &document(large)).unwrap_err();
        assert_eq!(e.code(), Code::InvalidParameter);
        for part in ["namespace 'n' is too large", "in description", "at most 917504"] {
            assert!(e.message().contains(part), "{e}");
        }
        encoded("", true, None, &document(large)).unwrap();
        encoded("", false, Some(&document(large + 1)), &document(large)).unwrap();
        encoded("", false, Some(&document(large)), &document(large)).unwrap_err();
        encoded("", true, Some(&document(full + 1)), &document(full)).unwrap_err();
    }
}
