//! What is kept of changes, and documents beside the one that is changed.

use model::Result;
use model::change::Change;
use model::error::{Code, Error};
use model::ports::{Entry, Expect, Revision};
use model::{keys, limits};
use serde::Serialize;
use serde::de::IgnoredAny;

use super::{Document, Place, Precondition, failed};
use crate::catalog::{Catalog, decode, difference_of};

impl Catalog {
    /// Checks a precondition; where it fails, the message says what changed meanwhile.
    pub(in crate::catalog) async fn expect<D: Document>(
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
        Err(failed(format!("{}; since then: {}", error.message(), since.join("; "))))
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
            changes.push(decode::<Change<D::State>>(entry)?.value);
        }
        if let Some(newest) = current.change()
            && changes.last().is_none_or(|last| last.revision < newest.revision)
        {
            changes.push(newest.clone());
        }
        let ours = changes.iter().rev().filter(|change| (place.concerns)(change));
        Ok(ours.take(SHOWN).map(in_words::<D>).collect())
    }

    /// Copies a change to its own key, and drops the one that is too old to be kept.
    pub(super) async fn keep<S: Serialize + Sync>(
        &self,
        document: &str,
        change: &Change<S>,
    ) -> Result<()> {
        let key = keys::change(document, change.revision);
        match self.write(&key, Expect::Absent, change).await {
            Err(e) if e.code() == Code::Conflict => {
                // Kept before.
                let kept = self.read::<Change<IgnoredAny>>(&key).await?;
                if kept.is_some_and(|kept| !same(&kept.value, change)) {
                    tracing::error!(key, "a change is not in the history: another has its number");
                }
                return Ok(());
            }
            kept => drop(kept?),
        }
        match change.revision.checked_sub(limits::HISTORY_CHANGES) {
            Some(old) => self.remove(&keys::change(document, old)).await,
            None => Ok(()),
        }
    }

    /// [`Self::keep`] for what is durable already: the next change would do it too.
    pub(super) async fn keep_soon<D: Document>(&self, document: &str, value: &D) {
        let Some(change) = value.change() else { return };
        if let Err(error) = self.keep(document, change).await {
            tracing::warn!(%error, document, "a change is not in the history yet; the next one brings it there");
        }
    }

    pub(super) async fn put_body(&self, key: &str, body: Vec<u8>) -> Result<Revision> {
        match self.meta.put_if(key, Expect::Absent, body.into()).await {
            // Written before, with the same content: the key says so.
            Err(e) if e.code() == Code::Conflict => Ok(0),
            written => written,
        }
    }

    /// Removes those of the bodies, written for a document, that nothing can list: their number was given to another, or the document is gone.
    pub(super) async fn remove_disowned<D: Document>(&self, document: &str, bodies: Vec<String>) {
        let removed = async {
            let current = self.live::<D>(document).await?;
            let disowned =
                |body: &String| current.as_ref().is_none_or(|current| current.value.disowns(body));
            for body in bodies.iter().filter(|body| disowned(body)) {
                self.remove(body).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(%error, document, "an unlisted version stays behind");
        }
    }

    /// Removes the document under a key, if there is one. That somebody else removes or changes it at the same moment is fine.
    pub(in crate::catalog) async fn remove(&self, key: &str) -> Result<()> {
        match self.meta.get(key).await? {
            Some(entry) => self.remove_entry(&entry).await,
            None => Ok(()),
        }
    }

    async fn remove_entry(&self, entry: &Entry) -> Result<()> {
        match self.meta.delete_if(&entry.key, entry.revision).await {
            Err(e) if e.code() != Code::Conflict => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes every document whose key begins with `prefix`.
    pub(in crate::catalog) async fn remove_all(&self, prefix: &str) -> Result<()> {
        loop {
            let entries = self.meta.list(prefix, None, limits::PAGE_ENTRIES).await?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                self.remove_entry(entry).await?;
            }
        }
    }
}

/// A change for a message: what, by whom, when, and the fields that it changed, without their values.
fn in_words<D: Document>(change: &Change<D::State>) -> String {
    const FIELDS: usize = 5;
    let Change { revision, author, what, at, before, after, .. } = change;
    let [before, after] = [before, after].map(|state| state.as_ref().map(D::comparable));
    let differences = difference_of(before.as_ref(), after.as_ref());
    let mut fields: Vec<&str> = differences.iter().map(|d| d.path.as_str()).collect();
    if fields.len() > FIELDS {
        fields.truncate(FIELDS);
        fields.push("…");
    }
    let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
    format!("{} by {} at {at} (revision {revision}){fields}", what.as_str(), author.who)
}

/// Whether two records are of the same change. What they tell of its states is not compared: secrets are sealed anew when keys change.
fn same<A, B>(a: &Change<A>, b: &Change<B>) -> bool {
    (a.revision, a.at, &a.author, a.what, &a.of) == (b.revision, b.at, &b.author, b.what, &b.of)
}
