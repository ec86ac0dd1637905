//! History: what was changed, and what differs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::change::What;

/// One change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Its number.
    pub revision: u64,
    /// RFC 3339.
    pub at: String,
    /// The name of the key that it was made with; `dev` where none is asked for, `hanshu` for the daemon itself.
    pub who: String,
    /// The address that the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why, in the author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was done.
    pub what: What,
    /// The alias or version that it was done to; absent means the thing itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What it changed; secrets without their values.
    pub differences: Vec<Difference>,
    /// How it was; only where one change is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// How it was afterwards; only where one change is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// A value that differs between two documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Where, for instance `config.timeout_ms` or `targets[0].weight`.
    pub path: String,
    /// The value in the first; absent if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// The value in the second; absent if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// What differs between two versions of a function.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionDiff {
    /// The first version.
    pub from: String,
    /// The second version.
    pub to: String,
    /// Differences of configuration, runtime and layers; secrets without their values.
    pub config: Vec<Difference>,
    /// Files that differ, by path; at most 1 000.
    pub files: Vec<FileDiff>,
    /// Files that differ beyond those.
    pub more_files: usize,
}

/// A file that differs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FileDiff {
    /// Its path in the package.
    pub path: String,
    /// How.
    pub change: FileChange,
    /// Bytes before; absent for an added one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_before: Option<u64>,
    /// Bytes after; absent for a removed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_after: Option<u64>,
    /// Lines that differ, in the unified format; absent for what is no text or too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unified: Option<String>,
}

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileChange {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, with other content.
    Modified,
}
