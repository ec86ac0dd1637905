//! Asynchronous calls: listed, shown, waited for, cancelled, redriven, forgotten.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use engine::KeptCall;
use http::StatusCode;
use jiff::Timestamp;
use model::api::{AttemptView, CallState, CallSummary, CallView, DestinationView, ErrorBody, Page};
use model::calls::Attempt;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::{FunctionKey, FunctionName, NamespaceName, RequestId};
use model::ports::{Ended, LIST_MAX, Lane, ListedStanding, Listing, Standing, Summary};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::{Answer, page};
use crate::App;
use crate::extract::{self, CallPath, NamespacePath, Params};
use crate::openapi::{CallParam, NamespaceParam, Refusals};

/// Longest wait for a call, in seconds.
const WAIT_MAX_SECONDS: u64 = 60;
/// Calls of a page where no limit is given.
const LIMIT_DEFAULT: usize = 100;

/// Query parameters of a list of calls.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Of this function only.
    #[param(value_type = Option<String>)]
    function: Option<FunctionName>,
    /// Only those that stand so.
    state: Option<CallState>,
    /// Only those accepted at this time or later. RFC 3339.
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Only those accepted before this time. RFC 3339.
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// Start behind this call: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<RequestId>,
    /// Most calls on the page: 1 to 1 000, 100 if absent.
    limit: Option<usize>,
}

/// Query parameters of one call.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetParams {
    /// Wait until it has ended, at most so many seconds: 0 to 60. After that it is shown as it stands.
    wait: Option<u64>,
}

/// Asynchronous calls, the newest first.
///
/// What has succeeded or was cancelled is kept for 24 hours, what is dead for 14 days, unless the function's `async` says otherwise.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/calls", operation_id = "listCalls", tag = "calls",
    params(NamespaceParam, ListParams),
    responses((status = 200, body = Page<CallSummary>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    NamespacePath(namespace): NamespacePath,
    Params(params): Params<ListParams>,
) -> Answer<Json<Page<CallSummary>>> {
    let limit = extract::limit(params.limit, LIMIT_DEFAULT, LIST_MAX)?;
    let lane_prefix = format!("{namespace}/");
    let lane = params.function.map(|name| Lane::from(&FunctionKey { namespace, name }));
    let listing = Listing {
        lane,
        lane_prefix,
        standing: params.state.map(listed),
        since: params.since.map(millis),
        until: params.until.map(millis),
        after: params.after,
        limit,
        ..Listing::default()
    };
    let found = app.engine.calls(listing).await?;
    let more = found.len() == limit;
    Ok(page(found.iter().map(summary).collect(), more, |c: &CallSummary| c.id.clone()))
}

/// All that is kept of an asynchronous call: where it stands, its attempts, its result.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/calls/{call}", operation_id = "getCall", tag = "calls",
    params(NamespaceParam, CallParam, GetParams),
    responses(
        (status = 200, body = CallView),
        (status = 429, description = "`throttled`: very many are waited for already", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    CallPath(namespace, id): CallPath,
    Params(params): Params<GetParams>,
) -> Answer<Json<CallView>> {
    let seconds = params.wait.unwrap_or(0);
    if seconds > WAIT_MAX_SECONDS {
        return Err(Error::caller(
            Code::InvalidParameter,
            format!("wait is {seconds}: expected 0 to {WAIT_MAX_SECONDS} seconds"),
        )
        .into());
    }
    let mut call = app.call(&namespace, id).await?;
    if seconds > 0 && !matches!(call.summary.standing, Standing::Ended(..)) {
        let until = app.clock.instant() + Duration::from_secs(seconds);
        call = app.engine.call_ended(id, until).await?.ok_or_else(|| unknown(id))?;
    }
    Ok(Json(view(call)))
}

/// Calls a call off. One that runs is ended with its instance, whatever it does.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/calls/{call}/cancel", operation_id = "cancelCall", tag = "calls",
    params(NamespaceParam, CallParam),
    responses(
        (status = 204, description = "cancelled"),
        (status = 409, description = "`conflict`: it has ended", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    CallPath(namespace, id): CallPath,
) -> Answer<StatusCode> {
    let call = app.call(&namespace, id).await?;
    app.engine.cancel_call(&call.summary).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accepts a dead call once more, with the same event, as if it came now.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/calls/{call}/redrive", operation_id = "redriveCall", tag = "calls",
    params(NamespaceParam, CallParam),
    responses(
        (status = 202, description = "accepted: it runs again"),
        (status = 409, description = "`conflict`: it is not dead", body = ErrorBody),
        (status = 429, description = "`queue-full`: as many calls wait or run as may", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn redrive(
    State(app): State<Arc<App>>,
    CallPath(namespace, id): CallPath,
) -> Answer<StatusCode> {
    let call = app.call(&namespace, id).await?;
    app.engine.redrive_call(&call.summary).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Forgets a call that has ended, before its time.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/calls/{call}", operation_id = "deleteCall", tag = "calls",
    params(NamespaceParam, CallParam),
    responses(
        (status = 204, description = "forgotten"),
        (status = 409, description = "`conflict`: it has not ended", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    CallPath(namespace, id): CallPath,
) -> Answer<StatusCode> {
    app.call(&namespace, id).await?;
    app.engine.forget_call(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl App {
    /// A call of this namespace; what is in another one is not there.
    async fn call(&self, namespace: &NamespaceName, id: RequestId) -> Result<KeptCall, Error> {
        let call = self.engine.call(id).await?;
        let here = format!("{namespace}/");
        call.filter(|c| c.summary.lane.as_str().starts_with(&here)).ok_or_else(|| unknown(id))
    }
}

fn unknown(id: RequestId) -> Error {
    Error::not_found("call", id)
}

fn millis(at: Timestamp) -> UnixMillis {
    UnixMillis(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

fn listed(state: CallState) -> ListedStanding {
    match state {
        CallState::Waiting => ListedStanding::Waiting,
        CallState::Running => ListedStanding::Leased,
        CallState::Succeeded => ListedStanding::Ended(Ended::Succeeded),
        CallState::Dead => ListedStanding::Ended(Ended::Dead),
        CallState::Cancelled => ListedStanding::Ended(Ended::Cancelled),
    }
}

fn summary(call: &Summary) -> CallSummary {
    let (state, due_at, ended_at) = match call.standing {
        Standing::Waiting(due) => (CallState::Waiting, Some(due), None),
        Standing::Leased(_) => (CallState::Running, None, None),
        Standing::Ended(Ended::Succeeded, at) => (CallState::Succeeded, None, Some(at)),
        Standing::Ended(Ended::Dead, at) => (CallState::Dead, None, Some(at)),
        Standing::Ended(Ended::Cancelled, at) => (CallState::Cancelled, None, Some(at)),
    };
    let lane = call.lane.as_str();
    let name = lane.split_once('/').map_or(lane, |(_, name)| name);
    // A chunk of a map waits in a lane of the map's own.
    let (function, map) = match name.split_once("/map/") {
        Some((function, map)) => (function, Some(map)),
        None => (name, None),
    };
    CallSummary {
        id: call.id.to_string(),
        function: function.to_owned(),
        map: map.map(str::to_owned),
        state,
        accepted_at: call.enqueued_at.to_string(),
        due_at: due_at.map(|at| at.to_string()),
        ended_at: ended_at.map(|at| at.to_string()),
        attempts: call.deliveries,
    }
}

fn view(call: KeptCall) -> CallView {
    CallView {
        summary: summary(&call.summary),
        history: call.history.into_iter().map(attempt).collect(),
        result: call.result.as_deref().map(json_or_text),
        destination: call
            .destination
            .map(|told| DestinationView { call: summary(&told.summary), message: told.message }),
        event: call.event.as_deref().map(json_or_text),
    }
}

fn attempt(attempt: Attempt) -> AttemptView {
    AttemptView {
        at: attempt.at.to_string(),
        attempt: attempt.attempt,
        version: attempt.version,
        duration_ms: attempt.duration_ms,
        outcome: attempt.outcome,
        message: attempt.message,
    }
}

fn json_or_text(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}
