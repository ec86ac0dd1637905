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
use model::clock::Clock;
use model::error::{Code, Error};
use model::ports::{Blobs, Entry, Expect, Logs, Meta, Revision, Sandbox, Vault};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, Semaphore};

use crate::Deps;

pub(crate) use aliases::AliasAt;
pub(crate) use differ::{difference_of, function_state, without_marks};
pub(crate) use functions::FunctionAt;
pub(crate) use layers::NewLayerVersion;
pub(crate) use provisioned::ProvisionedAt;
pub(crate) use record::{Intent, Precondition};
pub(crate) use shifts::Window;
pub(crate) use source_file::SourceName;

/// How often a change is tried again because somebody else changed the document in between. Each round somebody succeeds, so this
/// many writers of one document at once all do.
const CHANGE_ATTEMPTS: usize = 64;
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

impl Catalog {
    /// What is known of the shifts under way.
    pub(crate) fn tracks(&self) -> &std::sync::Mutex<shifts::Tracks> {
        &self.tracks
    }

    pub(crate) fn new(deps: &Deps, upload_wait: Duration) -> Self {
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

    /// A page of documents under `prefix`: those after `after` (a key without the prefix), and whether more follow.
    async fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Stored<T>>, bool)> {
        let after = after.map(|a| format!("{prefix}{a}"));
        let mut entries = self.meta.list(prefix, after.as_deref(), limit.saturating_add(1)).await?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok((entries.iter().map(decode).collect::<Result<_>>()?, more))
    }
}

fn decode<T: DeserializeOwned>(entry: &Entry) -> Result<Stored<T>> {
    let value = serde_json::from_slice(&entry.value).map_err(|e| {
        let message = format!("the record '{}' cannot be read", entry.key);
        Error::platform(Code::StorageUnusable, message).with_source(e)
    })?;
    Ok(Stored { value, revision: entry.revision })
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
