//! Layers: packages of dependencies that functions share, in numbered versions, mounted under `/opt`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::clock::UnixMillis;
use crate::error::Error;
use crate::function::CodeRef;
use crate::ids::{AliasName, LayerName, NamespaceName, Qualifier, RequestId};

/// A layer within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerKey {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The layer's name.
    pub name: LayerName,
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Everything about one layer: the value of one metadata key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Namespace and name.
    #[serde(flatten)]
    pub key: LayerKey,
    /// Tells two layers apart that had the same name one after the other.
    pub id: RequestId,
    /// When it was created.
    pub created_at: UnixMillis,
    /// Its versions, ascending.
    pub versions: Vec<LayerVersion>,
    /// The number that the next publish gives.
    pub next_version: u64,
    /// Names for versions, which move on.
    #[serde(default)]
    pub aliases: BTreeMap<AliasName, u64>,
    /// The newest change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change<LayerState>>,
    /// It is gone: what is left is to be cleared away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Layer {
    /// The version that a reference means.
    pub fn at(&self, at: &LayerAt) -> Option<&LayerVersion> {
        let number = match at {
            LayerAt::Version(number) => *number,
            LayerAt::Alias(name) => *self.aliases.get(name)?,
        };
        let found = self.versions.binary_search_by_key(&number, |v| v.number).ok()?;
        self.versions.get(found)
    }
}

/// One version of a layer: immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// From 1, never used again.
    pub number: u64,
    /// The package.
    pub code: CodeRef,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Runtimes that it is meant for, for instance `python3.11`; none means any.
    #[serde(default)]
    pub runtimes: Vec<String>,
    /// When it was published.
    pub published_at: UnixMillis,
}

/// What a change of a layer changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// A version.
    Version(LayerVersion),
    /// Where an alias points.
    Alias(u64),
}

/// A layer as a configuration names it: `NAME:VERSION`, or `NAME:ALIAS` to follow the alias. Text in documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerRef {
    /// The layer, of the function's own namespace.
    pub name: LayerName,
    /// Which version of it.
    pub at: LayerAt,
}

/// See [`LayerRef`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerAt {
    /// A version.
    Version(u64),
    /// Whatever the alias points to; when it moves on, `$LATEST` does.
    Alias(AliasName),
}

impl FromStr for LayerRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |e: Option<Error>| match e {
            Some(e) => e.message().to_owned(),
            None => {
                let text: String = text.chars().take(80).flat_map(char::escape_debug).collect();
                format!("layer '{text}' is not valid: expected NAME:VERSION or NAME:ALIAS")
            }
        };
        let (name, at) = text.split_once(':').ok_or_else(|| bad(None))?;
        let name = name.parse().map_err(|e| bad(Some(e)))?;
        let at = match at.parse() {
            Ok(Qualifier::Version(number)) => LayerAt::Version(number),
            Ok(Qualifier::Alias(alias)) => LayerAt::Alias(alias),
            _ => return Err(bad(None)),
        };
        Ok(Self { name, at })
    }
}

impl fmt::Display for LayerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            LayerAt::Version(number) => write!(f, "{}:{number}", self.name),
            LayerAt::Alias(alias) => write!(f, "{}:{alias}", self.name),
        }
    }
}

impl TryFrom<String> for LayerRef {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LayerRef> for String {
    fn from(layer: LayerRef) -> Self {
        layer.to_string()
    }
}

/// A layer's version as part of a function's version: what is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedLayer {
    /// The layer's name.
    pub name: LayerName,
    /// The number that the reference meant when this was deployed.
    pub version: u64,
    /// The package.
    pub code: CodeRef,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_text() {
        for (text, at) in [
            ("numpy:3", LayerAt::Version(3)),
            ("numpy:stable", LayerAt::Alias("stable".parse().unwrap())),
        ] {
            let layer: LayerRef = text.parse().unwrap();
            assert_eq!((layer.name.as_str(), &layer.at), ("numpy", &at));
            assert_eq!(layer.to_string(), text);
        }
        for bad in ["numpy", "numpy:", "numpy:$LATEST", "numpy:0", "num py:1", ":1", "a:b:c"] {
            let e = bad.parse::<LayerRef>().unwrap_err();
            assert!(e.contains("expected"), "{bad}: {e}");
        }
    }
}
