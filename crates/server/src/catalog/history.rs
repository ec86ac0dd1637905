//! Reading what was changed: newest first, by page; one change whole.

use model::Result;
use model::change::{Change, Lying};
use model::error::Error;
use model::function::{Function, FunctionState};
use model::ids::{AliasName, FunctionKey, NamespaceName};
use model::layer::{Layer, LayerKey, LayerState};
use model::namespace::{Namespace, NamespaceSettings};
use model::{keys, limits};

use super::record::{Document, missing};
use super::{Catalog, decode};

/// A page of changes, and whether older ones follow.
type Changes<S> = Result<(Vec<Change<S>>, bool)>;

/// Kept changes that are read at once.
const READ_AT_ONCE: u64 = 100;

impl Catalog {
    /// Changes of a function, newest first: of one alias only, if one is named; with revisions below `before`.
    pub(crate) async fn function_changes(
        &self,
        key: &FunctionKey,
        alias: Option<&AliasName>,
        before: Option<u64>,
        limit: usize,
    ) -> Changes<FunctionState> {
        let document = keys::function(key);
        self.was_there(&document, || Error::not_found("function", key)).await?;
        self.changes::<Function>(&document, alias.map(AliasName::as_str), before, limit).await
    }

    /// One change of a function.
    pub(crate) async fn function_change(
        &self,
        key: &FunctionKey,
        revision: u64,
    ) -> Result<Change<FunctionState>> {
        let named = format!("function '{key}'");
        self.change::<Function>(&keys::function(key), &named, revision).await
    }

    /// Changes of a layer, as [`Self::function_changes`].
    pub(crate) async fn layer_changes(
        &self,
        key: &LayerKey,
        alias: Option<&AliasName>,
        before: Option<u64>,
        limit: usize,
    ) -> Changes<LayerState> {
        let document = keys::layer(key);
        self.was_there(&document, || Error::not_found("layer", key)).await?;
        self.changes::<Layer>(&document, alias.map(AliasName::as_str), before, limit).await
    }

    /// One change of a layer.
    pub(crate) async fn layer_change(
        &self,
        key: &LayerKey,
        revision: u64,
    ) -> Result<Change<LayerState>> {
        self.change::<Layer>(&keys::layer(key), &format!("layer '{key}'"), revision).await
    }

    /// Changes of a namespace itself, newest first; with revisions below `before`.
    pub(crate) async fn namespace_changes(
        &self,
        name: &NamespaceName,
        before: Option<u64>,
        limit: usize,
    ) -> Changes<NamespaceSettings> {
        let document = keys::namespace(name);
        self.was_there(&document, || Error::not_found("namespace", name)).await?;
        self.changes::<Namespace>(&document, None, before, limit).await
    }

    /// One change of a namespace.
    pub(crate) async fn namespace_change(
        &self,
        name: &NamespaceName,
        revision: u64,
    ) -> Result<Change<NamespaceSettings>> {
        let named = format!("namespace '{name}'");
        self.change::<Namespace>(&keys::namespace(name), &named, revision).await
    }

    /// Fails as `missing` says where there never was such a document.
    async fn was_there(&self, document: &str, missing: impl FnOnce() -> Error) -> Result<()> {
        let there = self.meta.get(document).await?.is_some();
        if there { Ok(()) } else { Err(missing()) }
    }

    /// The changes of the document under `document`, newest first: those with revisions below `before`, of one alias or version only if `of` says
    /// so; and whether older ones follow. Empty where there never was such a document; one that was deleted has its history still.
    pub(super) async fn changes<D: Document>(
        &self,
        document: &str,
        of: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Change<D::State>>, bool)> {
        let (newest, last) = self.newest::<D>(document).await?;
        let mut end = before.unwrap_or(u64::MAX).min(last + 1);
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
        if let (Some(newest), _) = self.newest::<D>(document).await?
            && newest.revision == revision
        {
            return Ok(newest);
        }
        let kept = self.read(&keys::change(document, revision)).await?;
        kept.map(|stored| stored.value).ok_or_else(|| {
            missing(&format!("revision {revision} of {named}")).with_hint(format!(
                "list the revisions there are with `hanshu history`; the last {} are kept",
                limits::HISTORY_CHANGES
            ))
        })
    }

    /// The newest change, where a document still has it, and its revision; 0 where there never was such a document.
    async fn newest<D: Document>(&self, document: &str) -> Result<(Option<Change<D::State>>, u64)> {
        Ok(match self.lying::<D>(document).await?.map(|stored| stored.value) {
            None => (None, 0),
            Some(Lying::Document(value)) => (value.change().cloned(), value.newest()),
            Some(Lying::Tombstone(left)) => (None, left.revision),
        })
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
