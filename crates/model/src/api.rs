//! Bodies and headers of the REST API under `/v1`, shared by the server and the command line.
//!
//! Unknown fields in requests are refused; clients ignore unknown fields in answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::function::{
    Cores, FunctionConfig, FunctionSettings, Idempotency, MemoryShare, Publish, RuntimeInfo,
    UrlAuth,
};
use crate::invocation::{IdleCounts, StartCounts};
use crate::isolation::Isolation;
use crate::layer::LayerRef;
use crate::network::NetworkPolicy;
use crate::ports::{LogStream, UsageSums};

mod aliases;
mod async_policy;
mod calls;
mod history;
mod layers;
mod maps;
mod namespaces;
mod provisioned;
mod variable;

pub use aliases::*;
pub use async_policy::PatchAsync;
pub use calls::*;
pub use history::*;
pub use layers::*;
pub use maps::*;
pub use namespaces::*;
pub use provisioned::*;
pub use variable::VariableView;

/// A configuration as it is sent and shown.
pub type ConfigView = FunctionConfig<VariableView>;

/// Header of every answer to a call: the request id.
pub const HEADER_REQUEST_ID: &str = "x-hanshu-request-id";
/// Request header `sync` (default), `async` or `dry-run`.
pub const HEADER_INVOCATION: &str = "x-hanshu-invocation";
/// Request header of an asynchronous call: it is due after so many seconds.
pub const HEADER_DELAY: &str = "x-hanshu-delay-seconds";
/// Request header `1`: answer with [`crate::invocation::Timings`] as JSON in the header of the same name.
pub const HEADER_TIMINGS: &str = "x-hanshu-timings";
/// Answer header: the [`crate::invocation::FailureKind`] when the function failed; the body is then the error.
pub const HEADER_FUNCTION_ERROR: &str = "x-hanshu-function-error";
/// Answer header: the version that ran.
pub const HEADER_VERSION: &str = "x-hanshu-version";
/// Answer header `true`: another call of the same key came before, and this is its id and its answer.
pub const HEADER_REPLAYED: &str = "x-hanshu-replayed";
/// What a function said before an answer in pieces: status, headers and cookies, as JSON. Only there with such an answer.
pub const HEADER_STREAM: &str = "x-hanshu-stream";
/// Request header of a call: JSON text that the function sees as `context.clientContext`, base64-encoded.
pub const HEADER_CLIENT_CONTEXT: &str = "x-hanshu-client-context";
/// Request header of a change: why it is made, at most 500 characters; kept with it.
pub const HEADER_REASON: &str = "x-hanshu-reason";
/// The official trace header, passed on to the function.
pub const HEADER_TRACE: &str = "x-amzn-trace-id";

/// Body of every refusal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What was refused and why.
    pub error: ErrorDetail,
}

/// See [`ErrorBody`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// The code: a page of `docs/errors` explains it.
    pub code: String,
    /// What was wrong and what was expected.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the same request may pass later.
    pub retryable: bool,
    /// The id under which the daemon's log has the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// State of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `draining` while it stops.
    pub status: String,
    /// The daemon's version.
    pub version: String,
    /// What can run here.
    pub runtimes: Vec<RuntimeInfo>,
    /// Whether keys are not asked for.
    pub dev: bool,
    /// How instances are isolated and limited, feature by feature.
    pub isolation: Isolation,
    /// How instances came up, and how many lie ready.
    #[serde(default)]
    pub starts: StartCounts,
    /// Idle instances.
    #[serde(default)]
    pub instances: IdleCounts,
}

/// One page of a listing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries, by name.
    pub items: Vec<T>,
    /// Pass it as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A package in the store.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PackageView {
    /// SHA-256 of the zip, in hexadecimal: its address.
    pub digest: String,
    /// Bytes of the zip.
    pub size_bytes: u64,
    /// Bytes of the files in it.
    pub unpacked_bytes: u64,
}

/// Request: create a function, or replace code, configuration and settings of an existing one in one step.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutFunction {
    /// The new configuration, whole. A secret given as `{"secret": true}` keeps the value it has.
    pub config: ConfigView,
    /// The new settings, whole; absent keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<FunctionSettings>,
    /// Digest of a package uploaded before; absent keeps the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Publish the result as a numbered version.
    #[serde(default)]
    pub publish: bool,
    /// Let the new code take the calls of a function in use even if it cannot be loaded.
    #[serde(default)]
    pub force: bool,
}

/// Request: change some fields of a function's configuration and settings. Absent fields stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchConfig {
    /// See [`FunctionConfig::description`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// See [`FunctionConfig::runtime`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// See [`FunctionConfig::handler`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// See [`FunctionConfig::timeout_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// See [`FunctionConfig::memory_mb`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// See [`FunctionConfig::memory_share`]; `null` removes it, and so does a `memory_mb` without it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory_share: Option<Option<MemoryShare>>,
    /// See [`FunctionConfig::cpu_weight`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub cpu_weight: Option<Option<u32>>,
    /// See [`FunctionConfig::cpu_cores`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub cpu_cores: Option<Option<Cores>>,
    /// See [`FunctionConfig::processes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// See [`FunctionConfig::open_files`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    /// See [`FunctionConfig::tmp_mb`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmp_mb: Option<u32>,
    /// See [`FunctionConfig::output_bytes_per_second`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes_per_second: Option<u32>,
    /// See [`FunctionConfig::instance_concurrency`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub instance_concurrency: Option<Option<u32>>,
    /// See [`FunctionConfig::instance_calls`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub instance_calls: Option<Option<u32>>,
    /// See [`FunctionConfig::files`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub files: Option<Option<bool>>,
    /// See [`FunctionConfig::readiness_path`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub readiness_path: Option<Option<String>>,
    /// Variables to set; `null` removes one, `{"secret": true}` leaves a secret as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = variable::changes)]
    pub environment: Option<BTreeMap<String, Option<VariableView>>>,
    /// See [`FunctionConfig::network`]; replaced whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkPolicy>,
    /// See [`FunctionConfig::layers`]; replaced whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub layers: Option<Vec<LayerRef>>,
    /// See [`FunctionConfig::role`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub role: Option<Option<String>>,
    /// See [`FunctionSettings::max_instances`]; 0 stops all calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<u32>,
    /// See [`FunctionSettings::reserved_instances`]; 0 switches the function off, `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub reserved_instances: Option<Option<u32>>,
    /// See [`FunctionSettings::idempotency`]; replaced whole, `null` brings the defaults back.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Idempotency>)]
    pub idempotency: Option<Option<Idempotency>>,
    /// See [`FunctionSettings::max_queued_calls`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub max_queued_calls: Option<Option<u64>>,
    /// See [`FunctionSettings::max_queued_bytes`]; `null` removes it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub max_queued_bytes: Option<Option<u64>>,
    /// See [`FunctionSettings::url_auth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_auth: Option<UrlAuth>,
    /// Tags to set; `null` removes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
    /// See [`FunctionSettings::publish`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// See [`FunctionSettings::async_calls`].
    #[serde(default, rename = "async", skip_serializing_if = "Option::is_none")]
    pub async_calls: Option<PatchAsync>,
}

/// Tells `null`, which removes a field, from a field that is absent, which leaves it.
fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A function at one version.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `$LATEST` or the version's number.
    pub version: String,
    /// The AWS-style name.
    pub arn: String,
    /// Where HTTP calls it.
    pub url: String,
    /// Configuration of this version; secrets without their values.
    pub config: ConfigView,
    /// Settings of the function.
    pub settings: FunctionSettings,
    /// What the runtime was resolved to on this host.
    pub resolved_runtime: RuntimeInfo,
    /// The code.
    pub code: PackageView,
    /// The versions of layers that are mounted under `/opt`, in their order.
    #[serde(default)]
    pub layers: Vec<AttachedLayerView>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339: when this version's code or configuration last changed.
    pub modified_at: String,
    /// Revision at which the function itself last changed: pass it as `If-Match` to change only what you have seen. Changes of aliases do
    /// not count.
    pub revision: u64,
}

/// A published version in a listing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The number.
    pub version: u64,
    /// RFC 3339.
    pub published_at: String,
    /// Bytes of its package.
    #[serde(default)]
    pub size_bytes: u64,
    /// Aliases that may lead to it.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// Answer to an asynchronous call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The call's id.
    pub request_id: String,
}

/// One log line.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogLineView {
    /// RFC 3339 with milliseconds.
    pub time: String,
    /// Which version wrote it.
    pub version: String,
    /// During which call; absent while loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// From where.
    pub stream: LogStream,
    /// The text.
    pub text: String,
}

/// Metered use of one version in one minute.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Which version.
    pub version: String,
    /// RFC 3339: start of the minute.
    pub minute: String,
    /// The sums.
    #[serde(flatten)]
    #[schema(inline)]
    pub sums: UsageSums,
}
