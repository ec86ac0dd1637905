//! Namespaces, and how their deletion and the creation of functions and layers in them keep out of each other's way.
//!
//! A deletion (1) marks the namespace's document, (2) lists what is in it, (3) deletes the document at the mark's revision, or takes
//! the mark off if there is something. A creation (a) finds the document unmarked, (b) writes the function or layer, (c) looks again,
//! and undoes (b) unless the document still stands unmarked. Reads and writes of one document are linearizable: if (c) came
//! before (1), the list of (2) has the function and the namespace stays; if it came after, the creation is undone and refused. So no
//! acknowledged function is ever without its namespace. A mark whose deletion died is taken off by the next creation once it is
//! [`MARK_STALE`]: should that deletion be alive after all, its step (3) fails on the changed document and it starts over.

use std::time::Duration;

use model::Result;
use model::api::{CreateNamespace, PatchNamespace};
use model::change::{Change, What};
use model::error::{Code, Error};
use model::function::Function;
use model::ids::{DEFAULT_NAMESPACE, NamespaceName};
use model::layer::Layer;
use model::namespace::{Namespace, NamespaceSettings};
use model::{keys, limits};
use serde_json::Value;

use super::differ::as_json;
use super::record::{Document, Draft, Edit, Intent, Place, Precondition, missing};
use super::rules::Rules;
use super::{BUSY_RETRY, CHANGE_ATTEMPTS, Catalog, Stored, busy, expect};

/// Functions or layers that are read at once to be deleted.
const AT_ONCE: usize = 100;
/// Age at which a deletion's mark no longer keeps functions from being created.
const MARK_STALE: Duration = Duration::from_secs(10);

impl Document for Namespace {
    type State = NamespaceSettings;

    fn change(&self) -> Option<&Change<NamespaceSettings>> {
        self.change.as_ref()
    }

    fn set_change(&mut self, change: Change<NamespaceSettings>) {
        self.change = Some(change);
    }

    fn deleted(&self) -> bool {
        self.deleted
    }

    fn set_deleted(&mut self) {
        self.deleted = true;
    }

    fn next_version(&self) -> u64 {
        1
    }

    fn state(&self) -> Option<NamespaceSettings> {
        Some(self.settings.clone())
    }

    fn comparable(state: &NamespaceSettings) -> Value {
        as_json(state)
    }

    /// Its keys go with it: a later namespace of the name is another.
    async fn clear(&self, catalog: &Catalog) -> Result<()> {
        catalog.keys.revoke(&self.name).await?;
        catalog.remove_all(&keys::packages_of(&self.name)).await
    }
}

fn place(name: &NamespaceName) -> Place<'static, Namespace> {
    Place {
        document: keys::namespace(name),
        named: named(name),
        namespace: None,
        revision: &|namespace: &Namespace| Some(namespace.newest()),
        concerns: &|_| true,
    }
}

fn named(name: &NamespaceName) -> String {
    format!("namespace '{name}'")
}

impl Catalog {
    /// Creates the namespace that always exists, unless it does.
    pub(crate) async fn ensure_default_namespace(&self) -> Result<()> {
        let name = NamespaceName::default_namespace();
        if self.has_namespace(&name).await? {
            return Ok(());
        }
        let new = CreateNamespace { name: DEFAULT_NAMESPACE.into(), ..CreateNamespace::default() };
        match self.create_namespace(&new, Intent::daemon("it always exists")).await {
            Err(e) if e.code() == Code::AlreadyExists => Ok(()),
            created => created.map(drop),
        }
    }

    /// Creates a namespace; `already-exists` if there is one of the name.
    pub(crate) async fn create_namespace(
        &self,
        new: &CreateNamespace,
        intent: Intent,
    ) -> Result<Namespace> {
        let name: NamespaceName = new.name.parse()?;
        let settings = NamespaceSettings {
            description: new.description.clone(),
            quotas: new.quotas,
            policy: new.policy.clone(),
        };
        settings.validate()?;
        let intent = Intent { precondition: Precondition::Absent, ..intent };
        let changed = self
            .edit(&place(&name), &intent, |_, turn| {
                let value = Namespace {
                    name: name.clone(),
                    settings: settings.clone(),
                    created_at: turn.now,
                    change: None,
                    deleting_since: None,
                    deleted: false,
                };
                let after = Some(settings.clone());
                let draft = Draft { what: What::Create, of: None, before: None, after };
                Ok(Edit { value, draft: Some(draft), body: None, result: () })
            })
            .await?;
        Ok(changed.stored.value)
    }

    /// Changes the named fields of a namespace.
    pub(crate) async fn patch_namespace(
        &self,
        name: &NamespaceName,
        patch: &PatchNamespace,
        intent: &Intent,
    ) -> Result<Namespace> {
        let changed = self
            .edit(&place(name), intent, |current: Option<Namespace>, _| {
                let mut value = current.ok_or_else(|| missing(&named(name)))?;
                let before = value.settings.clone();
                let PatchNamespace { description, quotas, policy } = patch.clone();
                let settings = NamespaceSettings {
                    description: description.unwrap_or(value.settings.description),
                    quotas: quotas.unwrap_or(value.settings.quotas),
                    policy: policy.unwrap_or(value.settings.policy),
                };
                settings.validate()?;
                value.settings = settings.clone();
                let draft = (settings != before).then_some(Draft {
                    what: What::Configure,
                    of: None,
                    before: Some(before),
                    after: Some(settings),
                });
                Ok(Edit { value, draft, body: None, result: () })
            })
            .await?;
        Ok(changed.stored.value)
    }

    /// The namespace; `not-found` if there is none.
    pub(crate) async fn namespace(&self, name: &NamespaceName) -> Result<Namespace> {
        Ok(self.namespace_record(name).await?.value)
    }

    /// Whether there is such a namespace.
    pub(crate) async fn has_namespace(&self, name: &NamespaceName) -> Result<bool> {
        match self.namespace_record(name).await {
            Err(e) if e.code() == Code::NotFound => Ok(false),
            record => record.map(|_| true),
        }
    }

    /// A page of namespaces by name, and what the next page is after.
    pub(crate) async fn namespaces(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Namespace>, Option<String>)> {
        self.page(keys::NAMESPACES, after, limit).await
    }

    /// What applies to changes in a namespace; held while a change is made, if quotas are counted.
    pub(super) async fn rules(&self, name: &NamespaceName) -> Result<Rules<'_>> {
        let settings = self.namespace_record(name).await?.value.settings;
        Rules::new(name, settings, &self.counting, &self.engine).await
    }

    /// Deletes a namespace; with functions or layers in it `not-empty`, unless they shall go too.
    pub(crate) async fn delete_namespace(
        &self,
        name: &NamespaceName,
        everything: bool,
        intent: &Intent,
    ) -> Result<()> {
        if name.as_str() == DEFAULT_NAMESPACE {
            return Err(Error::caller(
                Code::InvalidParameter,
                "namespace 'default' always exists and cannot be deleted",
            ));
        }
        for _ in 0..CHANGE_ATTEMPTS {
            let mut record = self.namespace_record(name).await?;
            // Before anything in it is deleted.
            self.expect(&place(name), intent.precondition, Some(&record.value)).await?;
            record.value.deleting_since = Some(self.clock.now());
            if !self.swap(&mut record).await? {
                continue;
            }
            if everything {
                self.empty(name, intent).await?;
            }
            if !self.is_empty(name).await? {
                record.value.deleting_since = None;
                // If the mark is not ours any more, whoever changed it decides about it.
                self.swap(&mut record).await?;
                return Err(Error::caller(
                    Code::NotEmpty,
                    format!("namespace '{name}' still has functions or layers"),
                )
                .with_hint("delete them first, or confirm with everything=NAMESPACE that they shall go too"));
            }
            let (place, expected) = (place(name), record.value.deleting_since);
            let marked = |now: &Namespace| match now.deleting_since {
                since if since == expected => Ok(()),
                _ => Err(busy(&named(name))),
            };
            match self.erase(&place, intent, marked).await {
                Err(e) if e.retry_hint().is_some() => {}
                erased => return erased.map(drop),
            }
        }
        Err(busy(&named(name)))
    }

    /// Deletes every function and layer of a namespace; the mark keeps new ones out.
    async fn empty(&self, name: &NamespaceName, intent: &Intent) -> Result<()> {
        let own = Intent { precondition: Precondition::None, ..intent.clone() };
        let (prefix, mut after) = (keys::functions_of(name), None);
        while let Some(functions) = self.walk::<Function>(&prefix, &mut after, AT_ONCE).await? {
            for (_, function) in functions {
                gone_is_fine(self.delete_function(function.value.key(), &own).await)?;
            }
        }
        let (prefix, mut after) = (keys::layers_of(name), None);
        while let Some(layers) = self.walk::<Layer>(&prefix, &mut after, AT_ONCE).await? {
            for (_, layer) in layers {
                gone_is_fine(self.delete_layer(&layer.value.key, &own).await)?;
            }
        }
        Ok(())
    }

    /// Whether a namespace has no functions and no layers. What is deleted does not count; where it is not cleared away yet, it is now.
    async fn is_empty(&self, name: &NamespaceName) -> Result<bool> {
        Ok(self.has_none::<Function>(&keys::functions_of(name)).await?
            && self.has_none::<Layer>(&keys::layers_of(name)).await?)
    }

    async fn has_none<D: Document>(&self, prefix: &str) -> Result<bool> {
        let mut after = None;
        while let Some(documents) = self.walk::<D>(prefix, &mut after, limits::PAGE_ENTRIES).await?
        {
            for (key, stored) in documents {
                if !stored.value.deleted() {
                    return Ok(false);
                }
                self.clear(&key, &stored).await?;
            }
        }
        Ok(true)
    }

    /// Step (a) of a creation: the namespace must stand, and not be on its way out.
    pub(super) async fn namespace_accepts(&self, name: &NamespaceName) -> Result<()> {
        let mut record = self.namespace_record(name).await?;
        let Some(since) = record.value.deleting_since else { return Ok(()) };
        if since.until(self.clock.now()) >= MARK_STALE {
            record.value.deleting_since = None;
            if self.swap(&mut record).await? {
                return Ok(());
            }
        }
        Err(Error::caller(Code::Conflict, format!("namespace '{name}' is being deleted"))
            .retry_after(BUSY_RETRY))
    }

    async fn namespace_record(&self, name: &NamespaceName) -> Result<Stored<Namespace>> {
        let record = self.live::<Namespace>(&keys::namespace(name)).await?;
        record.ok_or_else(|| Error::not_found("namespace", name))
    }

    /// Writes a record back with its mark changed, which is no change of the namespace; `false` if somebody else changed it since it was read.
    async fn swap(&self, record: &mut Stored<Namespace>) -> Result<bool> {
        let key = keys::namespace(&record.value.name);
        match self.write(&key, expect(Some(record)), &record.value).await {
            Ok(revision) => {
                record.revision = revision;
                Ok(true)
            }
            Err(e) if e.code() == Code::Conflict => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Somebody else deleted it meanwhile.
fn gone_is_fine(deleted: Result<()>) -> Result<()> {
    match deleted {
        Err(e) if e.code() == Code::NotFound => Ok(()),
        deleted => deleted,
    }
}
