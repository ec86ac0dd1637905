//! The service layer: namespaces, functions, versions, aliases, layers and packages, as documents in the store. Knows no HTTP.
//!
//! Every change is a compare-and-set of one document, and is kept ([`record`]); there is no transaction over two. Where an operation spans
//! documents, their order makes every intermediate state harmless: a package is stored before its record, its record before the function
//! that names it; a version's body before the function lists it ([`versions`]); a layer's alias moves before the functions that follow it
//! ([`layers`]); and a creation looks at its namespace before and after ([`namespaces`]). A crash in between leaves at most a document
//! that nothing names, or a step that the next start takes ([`resume`]).

mod aliases;
mod differ;
mod functions;
mod history;
mod layers;
mod namespaces;
mod packages;
mod patch;
mod provisioned;
mod record;
mod resume;
mod rules;
mod secrets;
mod shadows;
mod shifts;
mod source_file;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use model::Result;
use model::change::Lying;
use model::clock::Clock;
use model::error::{Code, Error};
use model::limits;
use model::ports::{Blobs, Entry, Expect, Logs, Meta, Revision, Sandbox, Vault};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, Semaphore};

use crate::Deps;
use crate::auth::KeyStore;

pub(crate) use aliases::AliasAt;
pub(crate) use differ::{as_json, difference_of, function_state, without_marks};
pub(crate) use functions::FunctionAt;
pub(crate) use layers::{Followers, NewLayerVersion};
pub(crate) use provisioned::ProvisionedAt;
use record::Document;
pub(crate) use record::{Intent, Precondition};
pub(crate) use shifts::Window;
pub(crate) use source_file::SourceName;

/// How often a change is tried again because somebody else changed the document in between. Each round somebody succeeds, so this
/// many writers of one document at once all do.
const CHANGE_ATTEMPTS: usize = 64;
/// Lists of entries that one page may take: between documents lie what deleted ones left.
const LISTS_PER_PAGE: usize = 20;
/// What a caller is told to wait when that was not enough.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// Namespaces, functions, packages and versions.
#[derive(Debug)]
pub(crate) struct Catalog {
    meta: Arc<dyn Meta>,
    blobs: Arc<dyn Blobs>,
    sandbox: Arc<dyn Sandbox>,
    logs: Arc<dyn Logs>,
    vault: Arc<dyn Vault>,
    engine: Engine,
    clock: Arc<dyn Clock>,
    uploads: Arc<Semaphore>,
    upload_wait: Duration,
    /// Held by changes in namespaces whose quotas are counted.
    counting: Mutex<()>,
    /// Held while a deleted document is cleared away.
    clearing: Mutex<()>,
    keys: Arc<KeyStore>,
    tracks: std::sync::Mutex<shifts::Tracks>,
    shadows: shadows::Shadows,
}

/// A document with the revision it was read or written at.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    /// The document.
    pub value: T,
    /// When it was last changed.
    pub revision: Revision,
}

impl<D> Stored<Lying<D>> {
    fn document(self) -> Option<Stored<D>> {
        let Self { value: Lying::Document(value), revision } = self else { return None };
        Some(Stored { value, revision })
    }
}

impl Catalog {
    pub(crate) fn new(deps: &Deps, keys: Arc<KeyStore>, upload_wait: Duration) -> Self {
        Self {
            meta: deps.meta.clone(),
            blobs: deps.blobs.clone(),
            sandbox: deps.sandbox.clone(),
            logs: deps.logs.clone(),
            vault: deps.vault.clone(),
            engine: deps.engine.clone(),
            clock: deps.clock.clone(),
            uploads: Arc::new(Semaphore::new(model::limits::UPLOADS_AT_ONCE)),
            upload_wait,
            counting: Mutex::default(),
            clearing: Mutex::default(),
            keys,
            tracks: std::sync::Mutex::default(),
            shadows: shadows::Shadows::default(),
        }
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Stored<T>>> {
        self.meta.get(key).await?.as_ref().map(decode).transpose()
    }

    async fn write<T: Serialize + Sync>(
        &self,
        key: &str,
        expect: Expect,
        value: &T,
    ) -> Result<Revision> {
        let bytes = serde_json::to_vec(value).map_err(Error::internal)?;
        self.meta.put_if(key, expect, bytes.into()).await
    }

    /// What lies under the key of a document whose changes are kept.
    async fn lying<D: Document>(&self, key: &str) -> Result<Option<Stored<Lying<D>>>> {
        self.meta.get(key).await?.as_ref().map(lying).transpose()
    }

    /// A document whose changes are kept; `None` if it is not there, or deleted.
    async fn live<D: Document>(&self, key: &str) -> Result<Option<Stored<D>>> {
        let stored = self.lying::<D>(key).await?.and_then(Stored::document);
        Ok(stored.filter(|stored| !stored.value.deleted()))
    }

    /// Some of the documents under `prefix` with their keys: those behind the key `after`, which moves on. Also those that are deleted and not
    /// cleared away yet. `None` at the end.
    async fn walk<D: Document>(
        &self,
        prefix: &str,
        after: &mut Option<String>,
        most: usize,
    ) -> Result<Option<Vec<(String, Stored<D>)>>> {
        let entries = self.meta.list(prefix, after.as_deref(), most).await?;
        let Some(last) = entries.last() else { return Ok(None) };
        *after = Some(last.key.clone());
        let mut documents = Vec::with_capacity(entries.len());
        for entry in &entries {
            let document = lying(entry)?.document();
            documents.extend(document.map(|document| (entry.key.clone(), document)));
        }
        Ok(Some(documents))
    }

    /// A page of documents under `prefix`: those after `after` (a key without the prefix), and what the next page is after, if there is more.
    async fn page<D: Document>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<D>, Option<String>)> {
        let mut after = after.map(|name| format!("{prefix}{name}"));
        let (mut found, mut most) = (Vec::new(), limit.saturating_add(1));
        for _ in 0..LISTS_PER_PAGE {
            let Some(documents) = self.walk::<D>(prefix, &mut after, most).await? else {
                after = None;
                break;
            };
            found.extend(documents.into_iter().filter(|(_, stored)| !stored.value.deleted()));
            if found.len() > limit {
                found.truncate(limit);
                after = found.last().map(|(key, _)| key.clone());
                break;
            }
            most = most.saturating_mul(2).min(limits::PAGE_ENTRIES);
        }
        let next = after.and_then(|key| key.strip_prefix(prefix).map(str::to_owned));
        Ok((found.into_iter().map(|(_, stored)| stored.value).collect(), next))
    }
}

fn decode<T: DeserializeOwned>(entry: &Entry) -> Result<Stored<T>> {
    let value = serde_json::from_slice(&entry.value).map_err(|e| unreadable(entry, e))?;
    Ok(Stored { value, revision: entry.revision })
}

fn lying<D: Document>(entry: &Entry) -> Result<Stored<Lying<D>>> {
    let value = Lying::read(&entry.value).map_err(|e| unreadable(entry, e))?;
    Ok(Stored { value, revision: entry.revision })
}

fn unreadable(entry: &Entry, error: serde_json::Error) -> Error {
    let message = format!("the record '{}' cannot be read", entry.key);
    Error::platform(Code::StorageUnusable, message).with_source(error)
}

/// What to expect of a document when writing it back.
fn expect<T>(current: Option<&Stored<T>>) -> Expect {
    current.map_or(Expect::Absent, |c| Expect::Revision(c.revision))
}

/// Too many others changed the same document at once.
fn busy(what: &str) -> Error {
    Error::caller(Code::Conflict, format!("{what} is changed by too many callers at once"))
        .retry_after(BUSY_RETRY)
}
