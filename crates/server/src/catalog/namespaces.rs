//! Namespaces, and how their deletion and the creation of functions in them keep out of each other's way.
//!
//! A deletion (1) marks the namespace's document, (2) lists its functions, (3) deletes the document at the mark's revision, or takes
//! the mark off if there are functions. A creation (a) finds the document unmarked, (b) writes the function, (c) looks again,
//! and undoes (b) unless the document still stands unmarked. Reads and writes of one document are linearizable: if (c) came
//! before (1), the list of (2) has the function and the namespace stays; if it came after, the creation is undone and refused. So no
//! acknowledged function is ever without its namespace. A mark whose deletion died is taken off by the next creation once it is
//! [`MARK_STALE`]: should that deletion be alive after all, its step (3) fails on the changed revision and it starts over.

use std::time::Duration;

use model::Result;
use model::api::CreateNamespace;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::{DEFAULT_NAMESPACE, NamespaceName};
use model::keys;
use model::limits;
use model::namespace::Namespace;
use model::ports::Expect;
use serde::{Deserialize, Serialize};

use super::{BUSY_RETRY, CHANGE_ATTEMPTS, Catalog, Stored, busy, expect};

/// Age at which a deletion's mark no longer keeps functions from being created.
const MARK_STALE: Duration = Duration::from_secs(10);

/// The stored form: the namespace, and the mark of a deletion under way, which nobody else needs to know of.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    namespace: Namespace,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleting_since: Option<UnixMillis>,
}

impl Catalog {
    /// Creates the namespace that always exists, unless it does.
    pub(crate) async fn ensure_default_namespace(&self) -> Result<()> {
        let name = NamespaceName::default_namespace();
        if self.read::<Record>(&keys::namespace(&name)).await?.is_some() {
            return Ok(());
        }
        let new = CreateNamespace {
            name: DEFAULT_NAMESPACE.into(),
            description: String::new(),
            max_instances: None,
        };
        match self.create_namespace(&new).await {
            Err(e) if e.code() == Code::AlreadyExists => Ok(()),
            created => created.map(drop),
        }
    }

    /// Creates a namespace; `already-exists` if there is one of the name.
    pub(crate) async fn create_namespace(&self, new: &CreateNamespace) -> Result<Namespace> {
        let name: NamespaceName = new.name.parse()?;
        if new.description.chars().count() > limits::DESCRIPTION_CHARS {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!(
                    "description is too long: expected at most {} characters",
                    limits::DESCRIPTION_CHARS
                ),
            ));
        }
        let namespace = Namespace {
            name,
            description: new.description.clone(),
            created_at: self.clock.now(),
            max_instances: new.max_instances,
        };
        let key = keys::namespace(&namespace.name);
        let record = Record { namespace, deleting_since: None };
        match self.write(&key, Expect::Absent, &record).await {
            Ok(_) => Ok(record.namespace),
            Err(e) if e.code() == Code::Conflict => Err(Error::caller(
                Code::AlreadyExists,
                format!("namespace '{}' exists already", record.namespace.name),
            )),
            Err(e) => Err(e),
        }
    }

    /// The namespace; `not-found` if there is none.
    pub(crate) async fn namespace(&self, name: &NamespaceName) -> Result<Namespace> {
        Ok(self.namespace_record(name).await?.value.namespace)
    }

    /// A page of namespaces by name, and whether more follow.
    pub(crate) async fn namespaces(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Namespace>, bool)> {
        let (records, more) = self.list::<Record>(keys::NAMESPACES, after, limit).await?;
        Ok((records.into_iter().map(|r| r.value.namespace).collect(), more))
    }

    /// Deletes a namespace without functions; `not-empty` if it has some.
    pub(crate) async fn delete_namespace(&self, name: &NamespaceName) -> Result<()> {
        if name.as_str() == DEFAULT_NAMESPACE {
            return Err(Error::caller(
                Code::InvalidParameter,
                "namespace 'default' always exists and cannot be deleted",
            ));
        }
        let key = keys::namespace(name);
        for _ in 0..CHANGE_ATTEMPTS {
            let mut record = self.namespace_record(name).await?;
            record.value.deleting_since = Some(self.clock.now());
            if !self.swap(&key, &mut record).await? {
                continue;
            }
            if !self.meta.list(&keys::functions_of(name), None, 1).await?.is_empty() {
                record.value.deleting_since = None;
                // If the mark is not ours any more, whoever changed it decides about it.
                self.swap(&key, &mut record).await?;
                return Err(Error::caller(
                    Code::NotEmpty,
                    format!("namespace '{name}' still has functions"),
                )
                .with_hint("delete its functions first"));
            }
            match self.meta.delete_if(&key, record.revision).await {
                Ok(_) => return Ok(()),
                Err(e) if e.code() == Code::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Err(busy(&format!("namespace '{name}'")))
    }

    /// Step (a) of a function's creation: the namespace must stand, and not be on its way out.
    pub(super) async fn namespace_accepts(&self, name: &NamespaceName) -> Result<()> {
        let key = keys::namespace(name);
        let mut record = self.namespace_record(name).await?;
        let Some(since) = record.value.deleting_since else { return Ok(()) };
        if since.until(self.clock.now()) >= MARK_STALE {
            record.value.deleting_since = None;
            if self.swap(&key, &mut record).await? {
                return Ok(());
            }
        }
        Err(Error::caller(Code::Conflict, format!("namespace '{name}' is being deleted"))
            .retry_after(BUSY_RETRY))
    }

    async fn namespace_record(&self, name: &NamespaceName) -> Result<Stored<Record>> {
        let record = self.read(&keys::namespace(name)).await?;
        record.ok_or_else(|| Error::not_found("namespace", name))
    }

    /// Writes a record back; `false` if somebody else changed it since it was read.
    async fn swap(&self, key: &str, record: &mut Stored<Record>) -> Result<bool> {
        match self.write(key, expect(Some(record)), &record.value).await {
            Ok(revision) => {
                record.revision = revision;
                Ok(true)
            }
            Err(e) if e.code() == Code::Conflict => Ok(false),
            Err(e) => Err(e),
        }
    }
}
