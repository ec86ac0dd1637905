//! Access keys: an id and a secret, as clients of the AWS Lambda API have them. Each belongs to a key of one namespace.
//!
//! A signature is checked with the secret itself, so a hash of it does not do: the vault seals it, and it is opened once a start.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Result;
use model::error::Error;
use model::ids::FunctionKey;
use model::ports::Vault;
use model::secret::{Sealed, SecretPlace, SecretText};
use serde::{Deserialize, Serialize};

use super::Caller;

/// What every id starts with.
const PREFIX: &str = "HSAK";
/// Characters of an id behind that: 80 random bits, so that no two meet.
const ID_CHARS: usize = 16;
/// The 32 characters of an id (RFC 4648, section 6).
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Random bytes of a secret: 40 characters of base64, as clients know them.
const SECRET_BYTES: usize = 30;

/// An access key as it is stored with its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AccessRecord {
    /// What requests name.
    pub id: String,
    /// The secret.
    pub secret: Sealed,
}

/// An access key that requests are checked with.
#[derive(Debug)]
pub(crate) struct AccessKey {
    /// What requests name.
    pub id: String,
    /// Whose it is.
    pub caller: Caller,
    /// What requests are signed with.
    pub secret: SecretText,
}

impl AccessRecord {
    /// A new one for the key at `place`, with the secret, which is shown once.
    pub(super) fn generate(vault: &dyn Vault, place: &FunctionKey) -> Result<(Self, SecretText)> {
        let (mut id, mut secret) = ([0; ID_CHARS], [0; SECRET_BYTES]);
        getrandom::fill(&mut id).map_err(Error::internal)?;
        getrandom::fill(&mut secret).map_err(Error::internal)?;
        let id = id.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
        let id = PREFIX.chars().chain(id.map(|byte| char::from(*byte))).collect();
        let secret = SecretText::new(STANDARD.encode(secret));
        let sealed = vault.seal(SecretPlace::access_key(place), &secret)?;
        Ok((Self { id, secret: sealed }, secret))
    }

    /// The access key, opened.
    pub(super) fn open(
        &self,
        vault: &dyn Vault,
        place: &FunctionKey,
        caller: Caller,
    ) -> Result<AccessKey> {
        let secret = vault.open(SecretPlace::access_key(place), &self.secret)?;
        Ok(AccessKey { id: self.id.clone(), caller, secret })
    }
}

#[cfg(test)]
mod tests {
    use model::ids::FunctionRef;
    use model::suites::memory::MemoryVault;

    use super::*;

    #[test]
    fn an_access_key_is_sealed_for_its_key() {
        let vault = MemoryVault::default();
        let place = |name: &str| FunctionRef::parse("web", name).unwrap().key;
        let (record, secret) = AccessRecord::generate(&vault, &place("ci")).unwrap();
        assert!(record.id.starts_with("HSAK") && record.id.len() == 20, "{}", record.id);
        assert_eq!(secret.expose().len(), 40);
        let stored = serde_json::to_string(&record).unwrap();
        assert!(!stored.contains(secret.expose()), "{stored}");

        let read: AccessRecord = serde_json::from_str(&stored).unwrap();
        let opened = read.open(&vault, &place("ci"), Caller::dev()).unwrap();
        assert_eq!(opened.secret.expose(), secret.expose());
        read.open(&vault, &place("other"), Caller::dev()).unwrap_err();
        let (other, _) = AccessRecord::generate(&vault, &place("ci")).unwrap();
        assert_ne!(other.id, record.id);
    }
}
