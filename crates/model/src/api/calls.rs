//! Asynchronous calls as they are listed and shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Where an asynchronous call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CallState {
    /// It waits for its time, or its turn.
    Waiting,
    /// It runs.
    Running,
    /// The function answered.
    Succeeded,
    /// Given up; it keeps its event and can be redriven.
    Dead,
    /// Called off.
    Cancelled,
}

impl CallState {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An asynchronous call in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallSummary {
    /// The request id.
    pub id: String,
    /// The function.
    pub function: String,
    /// The map that it is a chunk of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// Where it stands.
    pub state: CallState,
    /// RFC 3339; of a redriven one, when it was redriven.
    pub accepted_at: String,
    /// When it is due, if it waits. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// When it ended, if it has. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How often the function has tried it, a try that goes on included.
    pub attempts: u32,
}

/// All that is kept of an asynchronous call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// What it is.
    #[serde(flatten)]
    pub summary: CallSummary,
    /// What became of each attempt, and of each refusal, oldest first; of very many the first and the last.
    pub history: Vec<AttemptView>,
    /// The function's answer, where it succeeded; as text if it is not JSON. Kept for 24 hours, unless the function's `async` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Who was told of its end, where the function says that somebody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationView>,
    /// The event, unless it succeeded or was cancelled; as text if it is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
}

/// What tells of a call's end: an asynchronous call of another function, or a webhook. It can be shown and redriven by its own id.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DestinationView {
    /// What it is; `function` ends with `/webhook` for a webhook.
    #[serde(flatten)]
    pub call: CallSummary,
    /// What came of it last, where something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One try at a call, or why there was none.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// When it was over. RFC 3339.
    pub at: String,
    /// Which of the function's attempts it was; refusals do not count as one.
    pub attempt: u32,
    /// The version that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long the handler ran, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// `succeeded`, the kind of the function's failure, `cut` where the daemon ended before the attempt did, `given-up` after the last of those, `cancelled`, or the code of the refusal.
    pub outcome: String,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Request: dead calls of a namespace, to be redriven or forgotten, some in each request.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepDead {
    /// Of this function only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only those accepted at this time or later. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only those accepted before this time. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Only those whose last attempt came out so: `handler`, `timeout`, `throttled`, and whatever else a call's history shows as outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Only those dead since before this time, so that what dies again meanwhile is not taken twice; absent: now. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died_before: Option<String>,
    /// Begin behind this call: `after` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many: 1 to 1 000, 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What one request did to dead calls.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SweptDead {
    /// Calls that were redriven, or forgotten.
    pub done: usize,
    /// Whether there may be more: ask again, with `after` and `died_before`.
    pub more: bool,
    /// For the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// For the next request. RFC 3339.
    pub died_before: String,
}
