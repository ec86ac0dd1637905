//! One line of a function's list of published versions. There may be ten thousand in one document, so each is short.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::clock::UnixMillis;
use crate::ids::Digest;

/// What is left of a digest to tell a function's versions apart: its first 16 bytes. Hexadecimal in documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// From the digest of everything that counts.
    pub fn from_digest(digest: &Digest) -> Self {
        let first = digest.as_bytes().iter().take(16);
        Self(first.fold(0, |bits, byte| (bits << 8) | u128::from(*byte)))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u128::from_str_radix(text, 16) {
            Ok(bits) if text.len() == 32 && !text.starts_with('+') => Ok(Self(bits)),
            _ => Err("a fingerprint is not valid: expected 32 hexadecimal digits".into()),
        }
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// One line of a function's list of published versions. In documents: `[number, fingerprint, published_at, size_bytes]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Line", into = "Line")]
pub struct VersionSummary {
    /// The number, from 1, never used again.
    pub number: u64,
    /// [`super::Version::fingerprint`] of what was published.
    pub fingerprint: Fingerprint,
    /// When.
    pub published_at: UnixMillis,
    /// Bytes of its package.
    pub size_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Line(u64, Fingerprint, UnixMillis, u64);

impl From<Line> for VersionSummary {
    fn from(Line(number, fingerprint, published_at, size_bytes): Line) -> Self {
        Self { number, fingerprint, published_at, size_bytes }
    }
}

impl From<VersionSummary> for Line {
    fn from(v: VersionSummary) -> Self {
        Self(v.number, v.fingerprint, v.published_at, v.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_versions_fit_a_document() {
        let version = |number| VersionSummary {
            number,
            fingerprint: Fingerprint::from_digest(&Digest::of(&number.to_le_bytes())),
            published_at: UnixMillis(1_767_225_600_000),
            size_bytes: 100 * 1024 * 1024,
        };
        let versions: Vec<_> = (1..=10_000).map(version).collect();
        let json = serde_json::to_vec(&versions).unwrap();
        assert!(json.len() < 750_000, "{}", json.len());
        let read: Vec<VersionSummary> = serde_json::from_slice(&json).unwrap();
        assert_eq!(read, versions);
    }

    #[test]
    fn fingerprints_are_hexadecimal() {
        let fingerprint = Fingerprint::from_digest(&Digest::of(b"x"));
        let text = fingerprint.to_string();
        assert!(Digest::of(b"x").to_string().starts_with(&text));
        assert_eq!(text.parse(), Ok(fingerprint));
        for bad in ["", "+0000000000000000000000000000000", "g".repeat(32).as_str()] {
            bad.parse::<Fingerprint>().unwrap_err();
        }
    }
}
