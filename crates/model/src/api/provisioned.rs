//! Provisioned instances. Requests carry [`crate::provisioned::Provisioned`] itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::provisioned::{Scheduled, Zone};

/// What is kept started for a version or an alias.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProvisionedView {
    /// The function.
    pub function: String,
    /// `$LATEST`, a version's number or an alias's name.
    pub qualifier: String,
    /// See [`crate::provisioned::Provisioned::instances`].
    pub instances: u32,
    /// See [`crate::provisioned::Provisioned::schedule`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Scheduled>,
    /// See [`crate::provisioned::Provisioned::timezone`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub timezone: Option<Zone>,
    /// Instances that are to be there now.
    pub wanted: u32,
    /// Those of them that are, busy or idle.
    pub ready: u32,
    /// RFC 3339.
    pub modified_at: String,
    /// Revision at which it last changed: pass it as `If-Match` to change only what you have seen.
    pub revision: u64,
}
