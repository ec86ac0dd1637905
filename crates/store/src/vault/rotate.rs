//! Replaces the keys of a vault that no daemon uses: [`begin`], then reseal every secret, then [`finish`].
//!
//! It may be cut off anywhere and begun again. The record is the one thing that decides:
//!
//! 1. a new key file is written beside the old one (`….new`), if the new key is to have the old one's path;
//! 2. the record is replaced: old and new data keys, all under the new lock — from here on only the new master key opens;
//! 3. the new key file takes its place ([`super::Keyring::open`] does it, if we were cut off in between);
//! 4. the caller reseals the secrets;
//! 5. the old data keys leave the record.

use std::fs;
use std::io;
use std::sync::Arc;

use model::ids::RequestId;
use model::ports::Meta;
use model::{Error, Result};

use super::envelope::Key;
use super::master::{self, Lock};
use super::record::{self, Record, blocking};
use super::{KeySource, Keyring, locked};

/// Steps 1 to 3: unlocks with `old`, locks with `new`, and gives a keyring whose newest key is new.
///
/// `old` and `new` may be equal: a key file then gets a new key, a passphrase a new salt. A new key file at a path of its own is made if it
/// is missing. `storage-unusable` if `old` does not open the vault; nothing is changed then.
pub async fn begin(meta: &Arc<dyn Meta>, old: &KeySource, new: &KeySource) -> Result<Keyring> {
    let Some((found, revision)) = record::read(meta).await? else {
        return Err(locked("this data folder has no vault yet: there is nothing to rotate"));
    };
    let mut keyring = found.unlock(old).await?;
    keyring.keys.push((RequestId::generate(), Key::random()?));
    let (source, in_place) = (new.clone(), old == new);
    let (record, keyring) = blocking(move || {
        let lock = Lock::new(&source)?;
        let master = match &source {
            KeySource::KeyFile(path) if in_place => {
                let waiting = master::pending(path);
                // Left by one that was cut off before step 2; `unlock` would have taken it otherwise.
                match fs::remove_file(&waiting) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::internal(e));
                    }
                    _ => master::create_key(&waiting)?,
                }
            }
            KeySource::KeyFile(path) => master::read_or_create_key(path)?,
            KeySource::PassphraseFile(_) => lock.master(&source)?,
        };
        Ok((Record::of(lock, &master, &keyring)?, keyring))
    })
    .await?;
    record.replace(meta, revision).await?;
    if let (KeySource::KeyFile(path), true) = (new.clone(), in_place) {
        blocking(move || master::promote(&path)).await?;
    }
    Ok(keyring)
}

/// Step 5. Only after every secret was resealed: what is still under an old key can never be opened again.
pub async fn finish(meta: &Arc<dyn Meta>) -> Result<()> {
    match record::read(meta).await? {
        Some((record, revision)) => record.newest_only().replace(meta, revision).await,
        None => Ok(()),
    }
}
