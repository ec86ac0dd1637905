//! Port: the vault. Seals secrets for the store and opens them for the instance that needs them.

use crate::Result;
use crate::secret::{Sealed, SecretPlace, SecretText};

/// Encrypts secrets at rest. Contract: `suites::vault`.
///
/// Takes microseconds and waits for nothing, so it may be called from asynchronous code.
pub trait Vault: Send + Sync + std::fmt::Debug {
    /// Seals `text` for `place`, under a new [`Sealed::id`]. The same text gives another envelope each time.
    fn seal(&self, place: SecretPlace<'_>, text: &SecretText) -> Result<Sealed>;

    /// The text that was sealed for `place`; `storage-unusable` if the sealed form was changed, comes from another place, or was made
    /// with a key that is not there any more. The error names the place and nothing else.
    fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<SecretText>;

    /// The same secret under the newest key, with the same [`Sealed::id`]; `None` if it is under that key already.
    fn reseal(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Option<Sealed>>;
}
