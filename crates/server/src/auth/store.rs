//! The keys there are: made, found by what a request shows, deleted.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use model::Result;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::{Digest, FunctionKey, FunctionName, NamespaceName};
use model::limits;
use model::ports::{Expect, Meta, Vault};
use model::secret::SecretText;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OnceCell};

use super::access::{AccessKey, AccessRecord};
use super::{Caller, bearer, unauthenticated};

/// Metadata keys of all keys.
pub(crate) const KEYS: &str = "key/";
/// The name of the key that the first start makes.
const ROOT: &str = "root";
/// What every key starts with, so that people and secret scanners recognise one.
const PREFIX: &str = "hsk_";
/// Random bytes in a key.
const RANDOM_BYTES: usize = 32;

/// What the store knows of a key; its name is in the document's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// SHA-256 of the whole key as it is sent.
    pub sha256: Digest,
    /// The one namespace that it opens; absent opens everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<UnixMillis>,
    /// The name of the key that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// What requests of the AWS Lambda API are signed with; absent for keys that open everything, and for those of before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<AccessRecord>,
}

/// Where the secrets of a key belong.
pub(crate) fn place_of(name: &str, namespace: &NamespaceName) -> Result<FunctionKey> {
    Ok(FunctionKey { namespace: namespace.clone(), name: name.parse()? })
}

/// A key that was just made. Shown once; nothing can bring it back.
pub struct NewKey(String);

impl NewKey {
    fn generate() -> Result<Self> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(Error::internal)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// The key, as clients send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(..)")
    }
}

/// Creates the root key if there is no key yet that opens everything; `None` if there is.
pub async fn ensure_root_key(meta: &dyn Meta) -> Result<Option<NewKey>> {
    if records(meta).await?.iter().any(|(_, record)| record.namespace.is_none()) {
        return Ok(None);
    }
    let key = NewKey::generate()?;
    let record = KeyRecord {
        sha256: Digest::of(key.as_str().as_bytes()),
        namespace: None,
        created_at: None,
        created_by: None,
        access_key: None,
    };
    match write(meta, ROOT, &record).await {
        Ok(()) => Ok(Some(key)),
        // Another node of the same store was faster.
        Err(e) if e.code() == Code::Conflict => Ok(None),
        Err(e) => Err(e),
    }
}

/// The keys that are accepted, cached in memory.
#[derive(Debug)]
pub struct KeyStore {
    meta: Arc<dyn Meta>,
    vault: Arc<dyn Vault>,
    accepted: OnceCell<Accepted>,
    /// Held by changes: each goes by what keys there are.
    changing: Mutex<()>,
}

/// What is accepted.
#[derive(Debug, Default)]
struct Accepted {
    /// By the SHA-256 of what is shown. To find out by time how a digest of its own compares with others helps nobody to a key.
    callers: papaya::HashMap<Digest, Caller>,
    /// By their ids.
    access_keys: papaya::HashMap<String, Arc<AccessKey>>,
}

impl Accepted {
    fn insert(&self, vault: &dyn Vault, name: &str, record: &KeyRecord) {
        let caller = caller(name, record);
        if let (Some(access), Some(namespace)) = (&record.access_key, &record.namespace) {
            let opened =
                place_of(name, namespace).and_then(|at| access.open(vault, &at, caller.clone()));
            match opened {
                Ok(opened) => drop(self.access_keys.pin().insert(access.id.clone(), opened.into())),
                Err(error) => tracing::warn!(%error, key = name, "its access key cannot be used"),
            }
        }
        self.callers.pin().insert(record.sha256, caller);
    }

    fn remove(&self, record: &KeyRecord) {
        self.callers.pin().remove(&record.sha256);
        if let Some(access) = &record.access_key {
            self.access_keys.pin().remove(&access.id);
        }
    }
}

impl KeyStore {
    /// Reads the keys when the first one is checked.
    pub fn new(meta: Arc<dyn Meta>, vault: Arc<dyn Vault>) -> Self {
        Self { meta, vault, accepted: OnceCell::new(), changing: Mutex::default() }
    }

    /// Whose key the headers carry as `Authorization: Bearer KEY`; `unauthenticated` without a known one.
    pub async fn check(&self, headers: &HeaderMap) -> Result<Caller> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(unauthenticated("no key was sent"));
        };
        let Some(key) = bearer(value) else {
            return Err(unauthenticated("the authorization header holds no bearer key"));
        };
        let accepted = self.accepted.get_or_try_init(|| self.load()).await?;
        let found = accepted.callers.pin().get(&Digest::of(key)).cloned();
        found.ok_or_else(|| unauthenticated("the key is not known"))
    }

    /// The access key of that id, if there is one.
    pub(crate) async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKey>>> {
        let accepted = self.accepted.get_or_try_init(|| self.load()).await?;
        Ok(accepted.access_keys.pin().get(id).cloned())
    }

    /// Makes a key, with an access key if it is of one namespace; `already-exists` if there is one of the name. `stands` fails if its namespace is not there: asked here, for otherwise a
    /// deletion of the namespace could revoke its keys before this one is among them.
    pub(crate) async fn create(
        &self,
        name: &FunctionName,
        namespace: Option<NamespaceName>,
        stands: impl Future<Output = Result<()>>,
        now: UnixMillis,
        by: &Caller,
    ) -> Result<(NewKey, Option<SecretText>, KeyRecord)> {
        let _changing = self.changing.lock().await;
        stands.await?;
        if records(&*self.meta).await?.len() >= limits::KEYS {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!("there are {} keys: expected no more", limits::KEYS),
            )
            .with_hint("delete keys that are not needed any more"));
        }
        let key = NewKey::generate()?;
        let (access_key, secret) = match &namespace {
            Some(namespace) => {
                let place = place_of(name.as_str(), namespace)?;
                let (record, secret) = AccessRecord::generate(&*self.vault, &place)?;
                (Some(record), Some(secret))
            }
            None => (None, None),
        };
        let record = KeyRecord {
            sha256: Digest::of(key.as_str().as_bytes()),
            namespace,
            created_at: Some(now),
            created_by: Some(by.name.to_string()),
            access_key,
        };
        match write(&*self.meta, name.as_str(), &record).await {
            Err(e) if e.code() == Code::Conflict => {
                return Err(Error::caller(
                    Code::AlreadyExists,
                    format!("key '{name}' exists already"),
                ));
            }
            written => written?,
        }
        if let Some(accepted) = self.accepted.get() {
            accepted.insert(&*self.vault, name.as_str(), &record);
        }
        Ok((key, secret, record))
    }

    /// Every key, by name.
    pub(crate) async fn list(&self) -> Result<Vec<(String, KeyRecord)>> {
        records(&*self.meta).await
    }

    /// Deletes a key; it opens nothing from now on. The last one that opens everything stays.
    pub(crate) async fn delete(&self, name: &FunctionName) -> Result<()> {
        let _changing = self.changing.lock().await;
        let missing = || Error::not_found("key", name);
        let all = records(&*self.meta).await?;
        let (_, record) = all.iter().find(|(n, _)| n == name.as_str()).ok_or_else(missing)?;
        let others = all.iter().filter(|(n, r)| n != name.as_str() && r.namespace.is_none());
        if record.namespace.is_none() && others.count() == 0 {
            return Err(Error::caller(
                Code::Forbidden,
                format!(
                    "key '{name}' is the last one that opens everything: expected another to be made first"
                ),
            ));
        }
        let entry = self.meta.get(&format!("{KEYS}{name}")).await?.ok_or_else(missing)?;
        self.meta.delete_if(&entry.key, entry.revision).await?;
        if let Some(accepted) = self.accepted.get() {
            accepted.remove(record);
        }
        Ok(())
    }

    /// Deletes every key that opens this namespace only, which is deleted.
    pub(crate) async fn revoke(&self, namespace: &NamespaceName) -> Result<()> {
        let _changing = self.changing.lock().await;
        for (name, record) in records(&*self.meta).await? {
            if record.namespace.as_ref() != Some(namespace) {
                continue;
            }
            if let Some(entry) = self.meta.get(&format!("{KEYS}{name}")).await? {
                match self.meta.delete_if(&entry.key, entry.revision).await {
                    Err(e) if e.code() != Code::Conflict => return Err(e),
                    // Somebody else deleted it meanwhile.
                    _ => {}
                }
            }
            if let Some(accepted) = self.accepted.get() {
                accepted.remove(&record);
            }
        }
        Ok(())
    }

    async fn load(&self) -> Result<Accepted> {
        let records = records(&*self.meta).await?;
        if records.is_empty() {
            // Not cached: the first key may be on its way.
            return Err(unauthenticated("the daemon has no keys yet"));
        }
        let accepted = Accepted::default();
        for (name, record) in &records {
            accepted.insert(&*self.vault, name, record);
        }
        Ok(accepted)
    }
}

fn caller(name: &str, record: &KeyRecord) -> Caller {
    Caller { name: name.into(), namespace: record.namespace.clone() }
}

async fn write(meta: &dyn Meta, name: &str, record: &KeyRecord) -> Result<()> {
    let record = serde_json::to_vec(record).map_err(Error::internal)?;
    meta.put_if(&format!("{KEYS}{name}"), Expect::Absent, record.into()).await.map(drop)
}

async fn records(meta: &dyn Meta) -> Result<Vec<(String, KeyRecord)>> {
    let entries = meta.list(KEYS, None, limits::KEYS + 1).await?;
    let records = entries.iter().map(|entry| {
        let name = entry.key.strip_prefix(KEYS).unwrap_or(&entry.key).to_owned();
        let record = serde_json::from_slice(&entry.value).map_err(|e| {
            let message = format!("the record '{}' cannot be read", entry.key);
            Error::platform(Code::StorageUnusable, message).with_source(e)
        })?;
        Ok((name, record))
    });
    records.collect()
}
