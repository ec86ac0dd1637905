//! The vault: keys at rest, and secrets sealed with them.
//!
//! ```text
//! master key     from a key file, or from a passphrase by Argon2id; never stored          master
//!   └ seals → data keys     random, one a rotation; sealed in the document `vault/keys`   record
//!               └ seal → secrets     in the documents of functions and versions           envelope
//! ```
//!
//! [`Keyring::open`] unlocks the data keys once, at start; from then on [`Keyring`] is the port [`Vault`]. [`rotate`] replaces all keys of a
//! folder that no daemon uses. Associated data ties every envelope to its place: a data key to its id; a secret to
//! its function, its variable, its own id and the key's. Ciphers are XChaCha20-Poly1305, so that nonces can be random.
//!
//! Not here: which documents hold secrets (`server::reseal`), and when they are opened (`sandbox`, at the start of an instance).

mod envelope;
mod master;
mod record;
pub mod rotate;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use model::ids::RequestId;
use model::ports::{Meta, Vault};
use model::secret::{Sealed, SecretPlace, SecretText};
use model::{Code, Error, Result};

use envelope::Key;
use record::Record;

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with 256 random bits; made with mode 0600 when the vault is, if it is missing then.
    KeyFile(PathBuf),
    /// A file, or a descriptor as `/dev/fd/N`, that holds a passphrase of 12 to 1024 bytes; a line break at its end does not count.
    PassphraseFile(PathBuf),
}

/// The unlocked data keys.
pub struct Keyring {
    /// Oldest first; the last one seals. Never empty.
    keys: Vec<(RequestId, Key)>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl Keyring {
    /// Unlocks the vault, makes it if there is none.
    ///
    /// `storage-unusable` if `source` is not what the vault is locked with, is missing, or can be read by others; nothing is
    /// changed then, and the same folder opens again with the right key.
    pub async fn open(meta: &Arc<dyn Meta>, source: &KeySource) -> Result<Self> {
        if let Some((record, _)) = record::read(meta).await? {
            return record.unlock(source).await;
        }
        let (record, keyring) = Record::new(source).await?;
        match record.create(meta).await {
            Ok(()) => Ok(keyring),
            // Somebody else made it first: theirs counts.
            Err(e) if e.code() == Code::Conflict => match record::read(meta).await? {
                Some((record, _)) => record.unlock(source).await,
                None => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    fn newest(&self) -> Result<&(RequestId, Key)> {
        self.keys.last().ok_or_else(|| Error::internal("the vault has no key"))
    }

    fn seal_as(&self, id: RequestId, place: SecretPlace<'_>, text: &SecretText) -> Result<Sealed> {
        let (key_id, key) = self.newest()?;
        let envelope = envelope::seal_secret((*key_id, key), (place, id), text)?;
        Ok(Sealed { id, bytes: text.expose().len(), envelope })
    }
}

impl Vault for Keyring {
    fn seal(&self, place: SecretPlace<'_>, text: &SecretText) -> Result<Sealed> {
        self.seal_as(RequestId::generate(), place, text)
    }

    fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<SecretText> {
        envelope::open_secret(&self.keys, place, sealed).ok_or_else(|| {
            let SecretPlace { function, variable } = place;
            Error::platform(
                Code::StorageUnusable,
                format!("the secret '{variable}' of function '{function}' cannot be opened"),
            )
            .with_hint(
                "its record was damaged, or brought here from elsewhere: set the secret again",
            )
        })
    }

    fn reseal(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Option<Sealed>> {
        if envelope::key_of(&sealed.envelope) == Some(self.newest()?.0) {
            return Ok(None);
        }
        let text = self.open(place, sealed)?;
        self.seal_as(sealed.id, place, &text).map(Some)
    }
}

/// The vault cannot be unlocked.
fn locked(message: impl Into<String>) -> Error {
    Error::platform(Code::StorageUnusable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn keyring(ids: &[u8]) -> Keyring {
        let key = |id: &u8| (RequestId::from_bytes([*id; 16]), Key::of([*id; 32]));
        Keyring { keys: ids.iter().map(key).collect() }
    }

    #[test]
    fn the_vault_keeps_the_contract() {
        model::suites::vault::run(&keyring(&[1]));
        model::suites::vault::run(&keyring(&[1, 2, 3]));
    }

    #[test]
    fn a_resealed_secret_is_the_same_under_the_newest_key() {
        let function = model::ids::FunctionRef::parse("default", "f").unwrap().key;
        let place = SecretPlace { function: &function, variable: "TOKEN" };
        let old = keyring(&[1]).seal(place, &SecretText::new("hunter2")).unwrap();
        let both = keyring(&[1, 2]);
        let new = both.reseal(place, &old).unwrap().unwrap();
        assert_eq!((new.id, new.bytes), (old.id, 7));
        assert_eq!(both.reseal(place, &new).unwrap(), None);
        assert_eq!(keyring(&[2]).open(place, &new).unwrap().expose(), "hunter2");
        keyring(&[2]).open(place, &old).unwrap_err();
        // A key of the right name with other bits.
        let forged = Keyring { keys: vec![(RequestId::from_bytes([2; 16]), Key::of([9; 32]))] };
        forged.open(place, &new).unwrap_err();
    }

    #[test]
    fn a_keyring_does_not_show_its_keys() {
        let shown = format!(
            "{:?}",
            Keyring { keys: vec![(RequestId::from_bytes([0; 16]), Key::of([77; 32]))] }
        );
        assert!(!shown.contains("77") && !shown.contains("4d4d"), "{shown}");
    }
}
