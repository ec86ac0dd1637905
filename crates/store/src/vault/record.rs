//! The document `vault/keys`: how the vault is locked, and its data keys under that lock.

use std::sync::Arc;

use model::ids::RequestId;
use model::ports::{Expect, Meta, Revision};
use model::{Error, Result};
use serde::{Deserialize, Serialize};

use super::envelope::{self, Key};
use super::master::{self, Lock};
use super::{KeySource, Keyring, locked};

/// Key of the document.
const KEY: &str = "vault/keys";
/// The version of this document's form.
const FORMAT: u32 = 1;

/// The document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: u32,
    lock: Lock,
    /// Oldest first.
    keys: Vec<SealedKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedKey {
    id: RequestId,
    sealed: String,
}

/// The document and its revision, if the vault has been made.
pub(super) async fn read(meta: &Arc<dyn Meta>) -> Result<Option<(Record, Revision)>> {
    let Some(entry) = meta.get(KEY).await? else { return Ok(None) };
    let damaged = |e| locked("the record of the vault's keys is damaged").with_source(e);
    let record: Record = serde_json::from_slice(&entry.value).map_err(damaged)?;
    if record.format != FORMAT {
        return Err(locked(format!(
            "the record of the vault's keys has format {}, this daemon reads {FORMAT}",
            record.format
        )));
    }
    Ok(Some((record, entry.revision)))
}

impl Record {
    /// A vault with one key, locked with what `source` gives; makes the key file if it is missing.
    pub(super) async fn new(source: &KeySource) -> Result<(Self, Keyring)> {
        let source = source.clone();
        blocking(move || {
            let lock = Lock::new(&source)?;
            let master = match &source {
                KeySource::KeyFile(path) => master::read_or_create_key(path)?,
                KeySource::PassphraseFile(_) => lock.master(&source)?,
            };
            let keyring = Keyring { keys: vec![(RequestId::generate(), Key::random()?)] };
            Ok((Self::of(lock, &master, &keyring)?, keyring))
        })
        .await
    }

    /// The keys of `keyring` under a lock.
    pub(super) fn of(lock: Lock, master: &Key, keyring: &Keyring) -> Result<Self> {
        let seal = |(id, key): &(RequestId, Key)| {
            Ok(SealedKey { id: *id, sealed: envelope::seal_key(master, *id, key)? })
        };
        let keys = keyring.keys.iter().map(seal).collect::<Result<_>>()?;
        Ok(Self { format: FORMAT, lock, keys })
    }

    /// The same with its newest key alone.
    pub(super) fn newest_only(mut self) -> Self {
        self.keys.drain(..self.keys.len().saturating_sub(1));
        self
    }

    /// Writes it as the first.
    pub(super) async fn create(&self, meta: &Arc<dyn Meta>) -> Result<()> {
        self.write(meta, Expect::Absent).await
    }

    /// Writes it in the place of the one at `revision`.
    pub(super) async fn replace(&self, meta: &Arc<dyn Meta>, revision: Revision) -> Result<()> {
        self.write(meta, Expect::Revision(revision)).await
    }

    async fn write(&self, meta: &Arc<dyn Meta>, expect: Expect) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(Error::internal)?;
        meta.put_if(KEY, expect, bytes.into()).await.map(drop)
    }

    /// The data keys. Finishes a change of the key file that was cut off after the record had been written.
    pub(super) async fn unlock(self, source: &KeySource) -> Result<Keyring> {
        let source = source.clone();
        blocking(move || {
            // The key in place may be the old one still, or be missing: the waiting one then decides.
            let first = self.lock.master(&source).and_then(|master| self.keyring(&master, &source));
            let (Err(_), KeySource::KeyFile(path), Lock::KeyFile) = (&first, &source, &self.lock)
            else {
                return first;
            };
            let Some(waiting) = master::read_key(&master::pending(path))? else { return first };
            let Ok(keyring) = self.keyring(&waiting, &source) else { return first };
            master::promote(path)?;
            Ok(keyring)
        })
        .await
    }

    fn keyring(&self, master: &Key, source: &KeySource) -> Result<Keyring> {
        let open = |k: &SealedKey| Some((k.id, envelope::open_key(master, k.id, &k.sealed)?));
        let keys: Option<Vec<_>> = self.keys.iter().map(open).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Keyring { keys }),
            _ => Err(wrong(source)),
        }
    }
}

fn wrong(source: &KeySource) -> Error {
    let (what, path, setting) = match source {
        KeySource::KeyFile(path) => ("key file", path, "secrets.key_file"),
        KeySource::PassphraseFile(path) => ("passphrase in", path, "secrets.passphrase_file"),
    };
    locked(format!("the {what} '{}' does not open the secrets of this data folder", path.display()))
        .with_hint(format!("nothing was changed: name the one they were sealed with by {setting}"))
}

/// Runs what reads files or derives keys where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
