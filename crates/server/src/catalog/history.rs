//! Reading what was changed: newest first, by page; one change whole.

use model::Result;
use model::change::Change;
use model::error::Error;
use model::{keys, limits};

use super::record::Document;
use super::{Catalog, decode};

/// Kept changes that are read at once.
const READ_AT_ONCE: u64 = 100;

impl Catalog {
    /// The changes of the document under `document`, newest first: those with revisions below `before`, of one alias or version only if `of` says
    /// so; and whether older ones follow. Empty where there never was such a document; one that was deleted has its history still.
    pub(super) async fn changes<D: Document>(
        &self,
        document: &str,
        of: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Change<D::State>>, bool)> {
        let newest = self.newest::<D>(document).await?;
        let last = newest.as_ref().map_or(0, |change| change.revision);
        let mut end = before.unwrap_or(u64::MAX).min(last.max(self.last_kept(document).await?) + 1);
        let mut found = Vec::new();
        let fits = |change: &Change<D::State>| of.is_none() || change.of.as_deref() == of;
        if let Some(newest) = newest.filter(|newest| newest.revision < end) {
            end = newest.revision;
            found.extend(Some(newest).filter(fits));
        }
        while found.len() <= limit && end > 1 {
            let start = end.saturating_sub(READ_AT_ONCE);
            let kept = self.kept::<D>(document, start, end).await?;
            let older_are_gone = kept.is_empty();
            found.extend(kept.into_iter().rev().filter(fits));
            end = start.max(1);
            if older_are_gone {
                break;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// One change; `not-found` if there is none of that revision, or it is too old to be kept.
    pub(super) async fn change<D: Document>(
        &self,
        document: &str,
        named: &str,
        revision: u64,
    ) -> Result<Change<D::State>> {
        if let Some(newest) = self.newest::<D>(document).await?
            && newest.revision == revision
        {
            return Ok(newest);
        }
        let kept = self.read(&keys::change(document, revision)).await?;
        kept.map(|stored| stored.value).ok_or_else(|| {
            Error::not_found("revision", format!("{revision} of {named}")).with_hint(format!(
                "list the revisions there are with `hanshu history`; the last {} are kept",
                limits::HISTORY_CHANGES
            ))
        })
    }

    async fn newest<D: Document>(&self, document: &str) -> Result<Option<Change<D::State>>> {
        let stored = self.read::<D>(document).await?;
        Ok(stored.and_then(|stored| stored.value.change().cloned()))
    }

    /// The last revision of a document that is gone; 0 for one that never was.
    async fn last_kept(&self, document: &str) -> Result<u64> {
        let departed = self.read::<model::change::Departed>(&keys::departed(document)).await?;
        Ok(departed.map_or(0, |departed| departed.value.revision))
    }

    /// Kept changes with revisions from `start` to below `end`.
    async fn kept<D: Document>(
        &self,
        document: &str,
        start: u64,
        end: u64,
    ) -> Result<Vec<Change<D::State>>> {
        let after = keys::change(document, start.saturating_sub(1));
        let most = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let entries = self.meta.list(&keys::history_of(document), Some(&after), most).await?;
        let mut changes = Vec::with_capacity(entries.len());
        for entry in &entries {
            let change: Change<D::State> = decode(entry)?.value;
            if change.revision < end {
                changes.push(change);
            }
        }
        Ok(changes)
    }
}
