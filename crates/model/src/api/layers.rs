//! Layers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::PackageView;

/// A layer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// RFC 3339.
    pub created_at: String,
    /// Its newest version; absent if all were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<LayerVersionView>,
    /// Its aliases.
    pub aliases: Vec<LayerAliasView>,
    /// Revision: pass it as `If-Match` to change only what you have seen.
    pub revision: u64,
}

/// One version of a layer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerVersionView {
    /// The layer.
    pub layer: String,
    /// The number.
    pub version: u64,
    /// What it is.
    pub description: String,
    /// Runtimes that it is meant for; none means any.
    pub runtimes: Vec<String>,
    /// The package.
    pub code: PackageView,
    /// RFC 3339.
    pub published_at: String,
}

/// Where an alias of a layer points.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerAliasView {
    /// Its name.
    pub name: String,
    /// The version.
    pub version: u64,
}

/// Request: point an alias of a layer to a version. The functions that follow it get that version.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutLayerAlias {
    /// The version.
    pub version: u64,
}

/// Answer: an alias of a layer was moved.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerAliasMoved {
    /// Its name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// Functions whose `$LATEST` moved with it.
    pub functions: Vec<String>,
    /// Functions that follow it, but keep the version that they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_moved: Vec<NotMoved>,
}

/// A function that does not follow its layer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NotMoved {
    /// Its name.
    pub name: String,
    /// Why it did not move.
    pub why: String,
}

/// A version of a layer that is mounted for a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachedLayerView {
    /// The layer's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// The package's digest.
    pub digest: String,
    /// Bytes of its files.
    pub unpacked_bytes: u64,
}
