//! Names and identifiers: validated once, at the edge, and carried as types from there on.
//!
//! Start at [`FunctionRef`]: what a caller names. [`RequestId`] identifies an invocation, [`Digest`] a package.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Error};

/// The namespace that always exists and cannot be deleted.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The one mutable version's name.
pub const LATEST: &str = "$LATEST";
/// Longest namespace name, in characters.
pub const NAMESPACE_MAX_CHARS: usize = 60;
/// Longest function name, in characters (AWS Lambda API reference, `FunctionName`).
pub const FUNCTION_MAX_CHARS: usize = 64;
/// Longest alias name, in characters (AWS Lambda API reference, `Alias`).
pub const ALIAS_MAX_CHARS: usize = 128;

fn name_chars(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $field:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates `s`; the error names the field and the rule.
            pub fn new(s: &str) -> Result<Self, Error> {
                let valid: fn(&str) -> bool = $valid;
                if valid(s) {
                    Ok(Self(s.into()))
                } else {
                    Err(Error::caller(
                        Code::InvalidName,
                        format!(concat!($field, " '{}' is not valid: expected ", $expected), shorten(s)),
                    ))
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self, Error> {
                Self::new(s)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::new(&s).map_err(|e| serde::de::Error::custom(e.message()))
            }
        }
    };
}

name_type!(
    /// A namespace's name: a letter, then letters, digits, `-`, `_`; at most 60 characters.
    NamespaceName,
    |s| s.len() <= NAMESPACE_MAX_CHARS && s.starts_with(|c: char| c.is_ascii_alphabetic()) && name_chars(s),
    "namespace",
    "a letter, then letters, digits, '-' or '_', at most 60 characters"
);

name_type!(
    /// A function's name: letters, digits, `-`, `_`; 1 to 64 characters.
    FunctionName,
    |s| !s.is_empty() && s.len() <= FUNCTION_MAX_CHARS && name_chars(s),
    "function name",
    "1 to 64 letters, digits, '-' or '_'"
);

name_type!(
    /// An alias's name: letters, digits, `-`, `_`, not digits alone; 1 to 128 characters.
    AliasName,
    |s| !s.is_empty() && s.len() <= ALIAS_MAX_CHARS && name_chars(s) && !s.bytes().all(|b| b.is_ascii_digit()),
    "alias",
    "1 to 128 letters, digits, '-' or '_', and not digits alone"
);

name_type!(
    /// A layer's name: letters, digits, `-`, `_`; 1 to 64 characters.
    LayerName,
    |s| !s.is_empty() && s.len() <= FUNCTION_MAX_CHARS && name_chars(s),
    "layer name",
    "1 to 64 letters, digits, '-' or '_'"
);

impl NamespaceName {
    /// The namespace `default`.
    pub fn default_namespace() -> Self {
        Self(DEFAULT_NAMESPACE.into())
    }
}

/// Cuts what a stranger sent to a length that fits an error message.
fn shorten(s: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut out: String = s.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if s.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

/// Which version of a function a caller means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qualifier {
    /// The mutable version `$LATEST`, also what an absent qualifier means.
    #[default]
    Latest,
    /// A published version, numbered from 1.
    Version(u64),
    /// An alias.
    Alias(AliasName),
}

impl FromStr for Qualifier {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        if s == LATEST {
            return Ok(Self::Latest);
        }
        if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) {
            return match s.parse() {
                Ok(n) if n > 0 => Ok(Self::Version(n)),
                _ => Err(bad_qualifier(s)),
            };
        }
        AliasName::new(s).map(Self::Alias).map_err(|_| bad_qualifier(s))
    }
}

fn bad_qualifier(s: &str) -> Error {
    Error::caller(
        Code::InvalidName,
        format!(
            "qualifier '{}' is not valid: expected $LATEST, a version number from 1, or an alias name",
            shorten(s)
        ),
    )
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str(LATEST),
            Self::Version(n) => write!(f, "{n}"),
            Self::Alias(a) => f.write_str(a.as_str()),
        }
    }
}

impl Serialize for Qualifier {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Qualifier {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(|e: Error| serde::de::Error::custom(e.message()))
    }
}

/// A version as a route names it: `$LATEST` or a number. Text in documents; a number is understood as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VersionRef {
    /// The mutable version `$LATEST`.
    Latest,
    /// A published version, numbered from 1.
    Number(u64),
}

impl VersionRef {
    /// The number of a published version.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Latest => None,
            Self::Number(number) => Some(number),
        }
    }
}

impl From<VersionRef> for Qualifier {
    fn from(version: VersionRef) -> Self {
        version.number().map_or(Self::Latest, Self::Version)
    }
}

impl FromStr for VersionRef {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s.parse() {
            Ok(Qualifier::Latest) => Ok(Self::Latest),
            Ok(Qualifier::Version(number)) => Ok(Self::Number(number)),
            _ => Err(Error::caller(
                Code::InvalidParameter,
                format!(
                    "version '{}' is not valid: expected $LATEST or a version number from 1",
                    shorten(s)
                ),
            )),
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str(LATEST),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Serialize for VersionRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VersionRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected $LATEST or a version number from 1")]
        enum Form<'a> {
            Number(u64),
            Text(#[serde(borrow)] std::borrow::Cow<'a, str>),
        }
        let parsed = match Form::deserialize(d)? {
            Form::Number(number) => number.to_string().parse(),
            Form::Text(text) => text.parse(),
        };
        parsed.map_err(|e: Error| serde::de::Error::custom(e.message()))
    }
}

/// A function within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FunctionKey {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The function's name.
    pub name: FunctionName,
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A function at a qualifier: the target of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FunctionRef {
    /// The function.
    #[serde(flatten)]
    pub key: FunctionKey,
    /// Which version of it.
    #[serde(default)]
    pub qualifier: Qualifier,
}

impl FunctionRef {
    /// Parses `NAME` or `NAME:QUALIFIER` in `namespace`.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, Error> {
        let (name, qualifier) = match name.split_once(':') {
            Some((name, q)) => (name, q.parse()?),
            None => (name, Qualifier::Latest),
        };
        let key = FunctionKey { namespace: namespace.parse()?, name: name.parse()? };
        Ok(Self { key, qualifier })
    }

    /// As [`FunctionRef::parse`] reads it within its namespace: `NAME`, or `NAME:QUALIFIER` where that is not `$LATEST`.
    pub fn within_namespace(&self) -> String {
        match &self.qualifier {
            Qualifier::Latest => self.key.name.to_string(),
            qualifier => format!("{}:{qualifier}", self.key.name),
        }
    }
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, self.qualifier)
    }
}

/// The id of one invocation: a version 7 UUID (RFC 9562), so ids sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(uuid::Uuid);

impl RequestId {
    /// A fresh id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// The id that follows from this one and `what`: the same each time, of the same form, and sorted near this one. Others do not come to it by chance.
    #[must_use]
    pub fn derived(&self, what: &str) -> Self {
        let hash = Sha256::new().chain_update(self.as_bytes()).chain_update(what).finalize();
        let mut bytes = *self.as_bytes();
        // The first six are the time (RFC 9562, section 5.7); the rest is chance, but for version and variant.
        for (byte, chance) in bytes.iter_mut().zip(hash).skip(6) {
            *byte = chance;
        }
        let id = uuid::Builder::from_bytes(bytes).with_version(uuid::Version::SortRand);
        Self(id.with_variant(uuid::Variant::RFC4122).into_uuid())
    }

    /// The 16 bytes, big-endian.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// From the 16 bytes of [`RequestId::as_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RequestId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        uuid::Uuid::parse_str(s).map(Self).map_err(|e| {
            Error::caller(
                Code::InvalidParameter,
                format!("request id '{}' is not valid: expected a UUID", shorten(s)),
            )
            .with_source(e)
        })
    }
}

/// The SHA-256 of some bytes: the address of a package.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From a finished SHA-256.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let mut out = [0; 32];
        hex::decode_to_slice(s, &mut out).map_err(|e| {
            Error::caller(
                Code::InvalidParameter,
                format!("digest '{}' is not valid: expected 64 hexadecimal digits", shorten(s)),
            )
            .with_source(e)
        })?;
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(|e: Error| serde::de::Error::custom(e.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        for good in ["a", "A-b_9", &"x".repeat(60)] {
            NamespaceName::new(good).unwrap();
        }
        for bad in ["", "9a", "-a", "a.b", "a/b", "ä", &"x".repeat(61)] {
            let e = NamespaceName::new(bad).unwrap_err();
            assert_eq!(e.code(), Code::InvalidName);
            assert!(e.message().contains("namespace"), "{}", e.message());
        }
        for good in ["9", "_a", &"x".repeat(64)] {
            FunctionName::new(good).unwrap();
        }
        for bad in ["", "a b", "a:b", "..", &"x".repeat(65)] {
            FunctionName::new(bad).unwrap_err();
        }
    }

    #[test]
    fn qualifiers_round_trip() {
        for s in ["$LATEST", "1", "12345", "live", "blue-green_2"] {
            assert_eq!(s.parse::<Qualifier>().unwrap().to_string(), s);
        }
        for s in ["", "0", "$latest", "99999999999999999999999", "a b", "a:b"] {
            s.parse::<Qualifier>().unwrap_err();
        }
    }

    #[test]
    fn function_refs_split_at_the_colon() {
        let r = FunctionRef::parse("default", "hello:3").unwrap();
        assert_eq!(r.qualifier, Qualifier::Version(3));
        assert_eq!(r.to_string(), "default/hello:3");
        FunctionRef::parse("default", "hello:").unwrap_err();
        FunctionRef::parse("default", ":1").unwrap_err();
    }

    #[test]
    fn long_hostile_names_are_cut_in_messages() {
        let e = FunctionName::new(&"\u{1b}[2J".repeat(4000)).unwrap_err();
        assert!(e.message().len() < 1500);
        assert!(!e.message().contains('\u{1b}'));
    }

    #[test]
    fn derived_ids_are_request_ids() {
        let id: RequestId = "01a2213c-4cce-7398-8692-487b867acce7".parse().unwrap();
        let (a, b) = (id.derived("a").to_string(), id.derived("b").to_string());
        assert_ne!(a, b);
        assert_eq!(a, id.derived("a").to_string());
        for derived in [a, b] {
            assert!(derived.starts_with("01a2213c-4cce-7"), "{derived}");
            let uuid: uuid::Uuid = derived.parse().unwrap();
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        }
    }

    #[test]
    fn digests_round_trip() {
        let d = Digest::of(b"hello");
        assert_eq!(d.to_string().parse::<Digest>().unwrap(), d);
        "zz".parse::<Digest>().unwrap_err();
    }
}
