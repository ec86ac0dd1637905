//! Dead calls, many in one request: redriven, forgotten.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use engine::{DeadCalls, Sweep};
use jiff::Timestamp;
use model::api::{ErrorBody, SweepDead, SweptDead};
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::{FunctionKey, NamespaceName};
use model::ports::{LIST_MAX, Lane};

use super::Answer;
use crate::App;
use crate::extract::{self, JsonBody, NamespacePath};
use crate::openapi::{NamespaceParam, Refusals};

/// Calls of one request where no limit is given.
const LIMIT_DEFAULT: usize = 100;

/// Accepts dead calls once more, those accepted first at the front, as many as `limit` says.
///
/// Send it again with `after` and `died_before` of the answer while that says `more`; how many of them, and how often, is the rate. Nothing is kept between requests: calls that
/// were redriven are not dead any more, so that one who begins again, whoever was interrupted, goes on with those that are left.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/dead-letters/redrive", operation_id = "redriveDeadLetters", tag = "calls",
    params(NamespaceParam),
    request_body = SweepDead,
    responses(
        (status = 200, body = SweptDead),
        (status = 429, description = "`queue-full`: as many calls wait or run as may; none was redriven", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn redrive(
    State(app): State<Arc<App>>,
    NamespacePath(namespace): NamespacePath,
    JsonBody(body): JsonBody<SweepDead>,
) -> Answer<Json<SweptDead>> {
    sweep(&app, &namespace, &body, Sweep::Redrive).await
}

/// Forgets dead calls before their time, with their events, as many as `limit` says. Send it again while the answer says `more`.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/dead-letters/purge", operation_id = "purgeDeadLetters", tag = "calls",
    params(NamespaceParam),
    request_body = SweepDead,
    responses((status = 200, body = SweptDead), Refusals),
)]
pub(crate) async fn purge(
    State(app): State<Arc<App>>,
    NamespacePath(namespace): NamespacePath,
    JsonBody(body): JsonBody<SweepDead>,
) -> Answer<Json<SweptDead>> {
    sweep(&app, &namespace, &body, Sweep::Purge).await
}

async fn sweep(
    app: &App,
    namespace: &NamespaceName,
    body: &SweepDead,
    what: Sweep,
) -> Answer<Json<SweptDead>> {
    let name = body.function.as_ref().map(|name| name.parse()).transpose()?;
    let lane = name.map(|name| Lane::from(&FunctionKey { namespace: namespace.clone(), name }));
    let died_before = time("died_before", body.died_before.as_deref())?;
    // Later than what has ended by now.
    let died_before = died_before.unwrap_or(UnixMillis(app.clock.now().0 + 1));
    let which = DeadCalls {
        lane,
        lane_prefix: format!("{namespace}/"),
        since: time("since", body.since.as_deref())?,
        until: time("until", body.until.as_deref())?,
        outcome: body.outcome.clone(),
        died_before,
        after: body.after.as_ref().map(|id| id.parse()).transpose()?,
        limit: extract::limit(body.limit, LIMIT_DEFAULT, LIST_MAX)?,
    };
    let swept = app.engine.sweep_dead(&which, what).await?;
    Ok(Json(SweptDead {
        done: swept.done,
        more: swept.more,
        after: swept.after.map(|id| id.to_string()),
        died_before: died_before.to_string(),
    }))
}

fn time(field: &str, text: Option<&str>) -> Result<Option<UnixMillis>, Error> {
    let Some(text) = text else { return Ok(None) };
    let read = text.parse::<Timestamp>().ok();
    let millis = read.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    let expected = || {
        let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
        let message = format!(
            "{field} '{shown}' is not valid: expected a time, for instance 2026-01-01T00:00:00Z"
        );
        Error::caller(Code::InvalidParameter, message)
    };
    millis.map(|millis| Some(UnixMillis(millis))).ok_or_else(expected)
}
