//! Namespaces and keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::namespace::{Policy, Quotas};

/// A namespace.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NamespaceView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// RFC 3339.
    pub created_at: String,
    /// What its functions may use together.
    #[serde(default)]
    pub quotas: Quotas,
    /// What each of its functions may be.
    #[serde(default)]
    pub policy: Policy,
    /// What its functions use now.
    #[serde(default)]
    pub used: NamespaceUse,
    /// Revision: pass it as `If-Match` to change only what you have seen.
    #[serde(default)]
    pub revision: u64,
}

/// What the functions of a namespace use now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceUse {
    /// Functions.
    pub functions: u64,
    /// Live instances.
    pub instances: u64,
    /// Memory limits of the live instances, in MiB.
    pub memory_mb: u64,
    /// Packages of functions, of their published versions and of layers, in bytes.
    pub code_bytes: u64,
    /// Instances that functions have reserved, live or not.
    #[serde(default)]
    pub reserved_instances: u64,
    /// Asynchronous calls that wait or run.
    #[serde(default)]
    pub queued_calls: u64,
    /// What those take in the queue, in bytes.
    #[serde(default)]
    pub queued_bytes: u64,
}

/// Request: create a namespace.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNamespace {
    /// A letter, then letters, digits, `-`, `_`; at most 60 characters.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What its functions may use together.
    #[serde(default)]
    pub quotas: Quotas,
    /// What each of its functions may be.
    #[serde(default)]
    pub policy: Policy,
}

/// Request: change a namespace. Absent fields stay; `quotas` and `policy` are replaced whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchNamespace {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its functions may use together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
    /// What each of its functions may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Request: make a key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What the key is called in records of changes: letters, digits, `-`, `_`; 1 to 64 characters.
    pub name: String,
    /// The one namespace that it opens; absent opens everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A key, without the key itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its name.
    pub name: String,
    /// The one namespace that it opens; absent opens everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// RFC 3339; absent for keys of before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Whose key made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Under which access key it signs requests of the AWS Lambda API; absent for keys that open everything, and for those of before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
}

/// A key that was just made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewKeyView {
    /// The record.
    #[serde(flatten)]
    #[schema(inline)]
    pub record: KeyView,
    /// The key itself; shown once.
    pub key: String,
    /// The secret of its access key, with which clients of the AWS Lambda API sign; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
}
