//! Ciphertexts: what is sealed, with which key, for which place.
//!
//! A secret's envelope is `1:KEY-ID:BASE64`, a data key's is the base64 alone; both hold nonce, ciphertext and authenticator, as
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) makes them. The leading 1 is the format.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use model::ids::RequestId;
use model::secret::{Sealed, SecretPlace, SecretText};
use model::{Error, Result};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const FORMAT: &str = "1";

/// A key of the cipher; wiped on drop, never shown.
#[derive(Clone)]
pub(super) struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    pub(super) fn of(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// From the system's source of randomness.
    pub(super) fn random() -> Result<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(Error::internal)?;
        Ok(Self(key))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn seal(&self, plain: &[u8], about: &[u8]) -> Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(Error::internal)?;
        let payload = Payload { msg: plain, aad: about };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| Error::internal("a secret could not be sealed"))?;
        Ok(BASE64.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, sealed: &str, about: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = BASE64.decode(sealed).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: about };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

/// Seals a data key with the master key.
pub(super) fn seal_key(master: &Key, id: RequestId, key: &Key) -> Result<String> {
    master.seal(key.bytes(), &about(&[b"hanshu data key", FORMAT.as_bytes(), id.as_bytes()]))
}

/// A data key; `None` if the master key is not the one that sealed it, or the envelope was changed.
pub(super) fn open_key(master: &Key, id: RequestId, sealed: &str) -> Option<Key> {
    let about = about(&[b"hanshu data key", FORMAT.as_bytes(), id.as_bytes()]);
    let key = master.open(sealed, &about)?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if key.len() != KEY_BYTES {
        return None;
    }
    bytes.copy_from_slice(&key);
    Some(Key(bytes))
}

/// A secret's envelope.
pub(super) fn seal_secret(
    (key_id, key): (RequestId, &Key),
    (place, id): (SecretPlace<'_>, RequestId),
    text: &SecretText,
) -> Result<String> {
    let head = format!("{FORMAT}:{key_id}");
    let sealed = key.seal(text.expose().as_bytes(), &about_secret(&head, place, id))?;
    Ok(format!("{head}:{sealed}"))
}

/// The text in an envelope; `None` if none of `keys` sealed it for this place.
pub(super) fn open_secret(
    keys: &[(RequestId, Key)],
    place: SecretPlace<'_>,
    sealed: &Sealed,
) -> Option<SecretText> {
    let wanted = key_of(&sealed.envelope)?;
    let (_, key) = keys.iter().find(|(id, _)| *id == wanted)?;
    let (head, body) = sealed.envelope.rsplit_once(':')?;
    let mut text = key.open(body, &about_secret(head, place, sealed.id))?;
    match String::from_utf8(std::mem::take(&mut *text)) {
        Ok(text) => Some(SecretText::new(text)),
        Err(e) => {
            e.into_bytes().zeroize();
            None
        }
    }
}

/// Which data key an envelope names; `None` if it is not one of this format.
pub(super) fn key_of(envelope: &str) -> Option<RequestId> {
    let (format, rest) = envelope.split_once(':')?;
    let (key, _) = rest.split_once(':')?;
    if format == FORMAT { key.parse().ok() } else { None }
}

fn about_secret(head: &str, place: SecretPlace<'_>, id: RequestId) -> Vec<u8> {
    let SecretPlace { function, variable } = place;
    about(&[
        b"hanshu secret",
        head.as_bytes(),
        function.namespace.as_str().as_bytes(),
        function.name.as_str().as_bytes(),
        variable.as_bytes(),
        id.as_bytes(),
    ])
}

/// Associated data: each part with its length before it, so that no two lists of parts look alike.
fn about(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        out.extend(*part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_keys_open_with_their_master_and_name_only() {
        let (master, key) = (Key::of([1; 32]), Key::of([2; 32]));
        let (id, other) = (RequestId::from_bytes([3; 16]), RequestId::from_bytes([4; 16]));
        let sealed = seal_key(&master, id, &key).unwrap();
        assert_eq!(open_key(&master, id, &sealed).unwrap().bytes(), key.bytes());
        assert!(open_key(&master, other, &sealed).is_none());
        assert!(open_key(&Key::of([5; 32]), id, &sealed).is_none());
        assert!(open_key(&master, id, "").is_none());
    }

    #[test]
    fn an_envelope_of_today_opens_for_ever() {
        // Made by the first build that had a vault.
        let function = model::ids::FunctionRef::parse("default", "f").unwrap().key;
        let place = SecretPlace { function: &function, variable: "TOKEN" };
        let id = RequestId::from_bytes([7; 16]);
        let envelope = include_str!("../../tests/fixtures/envelope-1.txt").trim_end().to_owned();
        let keys = [(RequestId::from_bytes([1; 16]), Key::of([2; 32]))];
        let sealed = Sealed { id, bytes: 7, envelope };
        assert_eq!(open_secret(&keys, place, &sealed).unwrap().expose(), "hunter2");
    }

    #[test]
    fn parts_cannot_flow_into_each_other() {
        assert_ne!(about(&[b"ab", b"c"]), about(&[b"a", b"bc"]));
        assert_ne!(about(&[b"a"]), about(&[b"a", b""]));
    }
}
