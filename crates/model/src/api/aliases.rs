//! Aliases: routes, shifts, shadows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::alias::{Alias, Percent, RuleForm, Shadow, StopIf, Target};
use crate::api::{Difference, VariableView};
use crate::ids::VersionRef;

/// A route as it is shown.
pub type AliasConfigView = Alias<VariableView>;

/// Request: create an alias, or replace one whole. Where calls go is said by `targets`, or by `version` with `additional_version_weights`, as
/// AWS Lambda has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAlias {
    /// See [`Alias::description`].
    #[serde(default)]
    pub description: String,
    /// See [`Alias::targets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<Target>>,
    /// Instead of `targets`: the version of all calls, or of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "7")]
    pub version: Option<VersionRef>,
    /// Beside `version`: other versions with their share of the calls, 0 to 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, f64>)]
    pub additional_version_weights: BTreeMap<VersionRef, f64>,
    /// See [`Alias::rules`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<RuleForm>)]
    pub rules: Vec<crate::alias::Rule>,
    /// See [`Alias::sticky`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sticky: Option<crate::alias::Parameter>,
    /// Environment variables of this alias, whole. A secret given as `{"secret": true}` keeps the value it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, VariableView>,
    /// See [`Alias::shadow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// An alias.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AliasView {
    /// Its name.
    pub name: String,
    /// The function.
    pub function: String,
    /// The AWS-style name.
    pub arn: String,
    /// Where HTTP calls it.
    pub url: String,
    /// The route; secrets without their values.
    #[serde(flatten)]
    #[schema(inline)]
    pub config: AliasConfigView,
    /// The shift of weights under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<ShiftView>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub modified_at: String,
    /// Revision at which it last changed: pass it as `If-Match` to change only what you have seen.
    pub revision: u64,
}

/// Request: shift an alias to another version, step by step.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartShift {
    /// Where the calls shall go.
    #[schema(value_type = String, example = "7")]
    pub to: VersionRef,
    /// Share of the new version in each step, ascending, the last 100 %; absent: `5%`, `30%`, `100%`.
    #[serde(default = "default_steps")]
    #[schema(value_type = Vec<String>)]
    pub canary: Vec<Percent>,
    /// How long a step takes, in milliseconds, 1 000 to a week; absent: two minutes.
    #[serde(default = "default_every_ms")]
    pub every_ms: u64,
    /// What stops it: `errors > 1%`, `p99 > 2x`, `average > 300ms`; figures are of the last `every_ms`. A figure has to be over its bound by more than
    /// chance explains (three standard deviations), and at least three calls have to speak against the version. `2x` is relative to the other
    /// versions' calls of the same time, or of before the last step; it needs a first step below 100 %. Absent: `errors > 1%`.
    #[serde(default = "default_stop_if")]
    #[schema(value_type = Vec<String>)]
    pub stop_if: Vec<StopIf>,
    /// Fewer calls of the new version than this within `every_ms` are not judged, and fewer of the others not compared with; absent: 20.
    #[serde(default = "default_min_calls")]
    pub min_calls: u64,
}

fn default_steps() -> Vec<Percent> {
    ["5%", "30%", "100%"].iter().filter_map(|share| share.parse().ok()).collect()
}

fn default_every_ms() -> u64 {
    120_000
}

fn default_stop_if() -> Vec<StopIf> {
    "errors > 1%".parse().into_iter().collect()
}

fn default_min_calls() -> u64 {
    20
}

impl StartShift {
    /// A shift with every default.
    pub fn to(to: VersionRef) -> Self {
        Self {
            to,
            canary: default_steps(),
            every_ms: default_every_ms(),
            stop_if: default_stop_if(),
            min_calls: default_min_calls(),
        }
    }
}

/// A shift under way.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ShiftView {
    /// Where the calls shall go.
    #[schema(value_type = String)]
    pub to: VersionRef,
    /// Where they went before, and go again if it is stopped.
    pub before: Vec<Target>,
    /// Share of the new version in each step.
    #[schema(value_type = Vec<String>)]
    pub canary: Vec<Percent>,
    /// The step under way, from 1.
    pub step: usize,
    /// RFC 3339: when the step began.
    pub step_since: String,
    /// How long a step takes, in milliseconds.
    pub every_ms: u64,
    /// What stops it.
    #[schema(value_type = Vec<String>)]
    pub stop_if: Vec<StopIf>,
    /// Fewer calls of the new version than this are not judged.
    pub min_calls: u64,
    /// RFC 3339: when the first step began.
    pub started_at: String,
    /// The new version's calls of the last `every_ms`.
    #[serde(default)]
    pub new: SampleView,
    /// The other versions' calls of the last `every_ms`.
    #[serde(default)]
    pub old: SampleView,
}

/// What came of calls within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SampleView {
    /// Calls that ended.
    pub calls: u64,
    /// Of them failed, or answered by HTTP with a status from 500.
    pub errors: u64,
    /// Half of them took no longer, in microseconds; absent without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 99 of 100 took no longer, in microseconds; absent without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

/// Request: go back to an earlier state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackAlias {
    /// A revision of the function at which the alias changed; absent: the one before the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Request: bring `$LATEST` back to a version.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackFunction {
    /// The version whose code, configuration and layers `$LATEST` gets.
    pub version: u64,
}

/// Request: which version would a call reach, and why.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveCall {
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Cookies.
    #[serde(default)]
    pub cookies: BTreeMap<String, String>,
    /// Path behind the function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Address of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The event.
    #[serde(default)]
    pub event: serde_json::Value,
}

/// Which version a call would reach, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ResolvedView {
    /// The version; absent if it depends on chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub version: Option<VersionRef>,
    /// Why, for people.
    pub why: String,
    /// The rule that matched, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// The sticky key's value, if the call has one and no rule matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// Where chance would lead, with the share of the calls in per cent; empty if it does not depend on chance.
    #[serde(default)]
    pub chances: Vec<Chance>,
    /// Each rule with the first of its conditions that did not hold; up to the one that matched.
    #[serde(default)]
    pub rules: Vec<RuleVerdict>,
}

/// See [`ResolvedView::chances`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Chance {
    /// The version.
    #[schema(value_type = String)]
    pub version: VersionRef,
    /// Per cent of the calls.
    pub percent: f64,
}

/// See [`ResolvedView::rules`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RuleVerdict {
    /// The rule, from 1.
    pub rule: usize,
    /// Whether it matched.
    pub matched: bool,
    /// The first condition that did not hold, and what the call has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What the shadow of an alias showed so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShadowReport {
    /// The version that answers was compared with; of the newest pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The shadow; of the newest pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// RFC 3339: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Calls that were copied and compared.
    pub compared: u64,
    /// Of them answered alike.
    pub same: u64,
    /// Of them with another status: one failed, or the HTTP status differs.
    pub status: u64,
    /// Of them with another body or header.
    pub body: u64,
    /// Calls that were not copied because too many copies ran.
    pub skipped: u64,
    /// Mean time of the answers, in microseconds.
    pub mean_us: u64,
    /// Mean time of the shadow's answers, in microseconds.
    pub shadow_mean_us: u64,
    /// Examples of differences, newest first; at most 100.
    #[serde(default)]
    pub examples: Vec<ShadowExample>,
}

/// One difference between an answer and its shadow's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShadowExample {
    /// RFC 3339.
    pub time: String,
    /// The call.
    pub request_id: String,
    /// The id under which the copy ran, as in the shadow's log.
    pub shadow_request_id: String,
    /// Time of the answer, in microseconds.
    pub us: u64,
    /// Time of the shadow's answer, in microseconds.
    pub shadow_us: u64,
    /// What differs; values are cut.
    pub differences: Vec<Difference>,
}
