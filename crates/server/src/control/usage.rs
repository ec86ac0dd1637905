//! Metered use.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use model::api::{Page, UsageView};
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::{FunctionRef, Qualifier};
use model::ports::UsageQuery;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, views};
use crate::App;
use crate::extract::{self, FunctionPath, Params};
use crate::openapi::{FunctionParams, Refusals};

/// What an absent `since` means.
const DEFAULT_SPAN: Duration = Duration::from_secs(24 * 3600);
/// Longest span of one query: it bounds the rows, one a version and minute.
const SPAN_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// Query parameters of a usage query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageParams {
    /// At or after, RFC 3339 or milliseconds since 1970; absent: a day before `until`.
    since: Option<String>,
    /// Before; absent: now. At most 31 days after `since`.
    until: Option<String>,
}

/// Metered use by minute and version.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/usage", operation_id = "getUsage", tag = "usage",
    params(FunctionParams, UsageParams),
    responses((status = 200, body = Page<UsageView>), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    FunctionPath(function): FunctionPath,
    Params(params): Params<UsageParams>,
) -> Answer<Json<Page<UsageView>>> {
    let (since, until) = span(&params, app.clock.now())?;
    let target = FunctionRef { key: function, qualifier: Qualifier::Latest };
    app.catalog.function(&target).await?;
    let rows = app.usage.query(UsageQuery { function: target.key, since, until }).await?;
    Ok(Json(Page { items: rows.iter().map(views::usage).collect(), next: None }))
}

fn span(params: &UsageParams, now: UnixMillis) -> Result<(UnixMillis, UnixMillis), Error> {
    let until = extract::time("until", params.until.as_ref())?
        // The minute under way counts.
        .unwrap_or_else(|| now.after(Duration::from_secs(60)));
    let since = match extract::time("since", params.since.as_ref())? {
        Some(since) => since,
        None => UnixMillis(until.0.saturating_sub(millis(DEFAULT_SPAN))),
    };
    if until.0.saturating_sub(since.0) > millis(SPAN_MAX) {
        return Err(Error::caller(
            Code::InvalidParameter,
            "the span from since to until is too long: expected at most 31 days",
        ));
    }
    Ok((since, until))
}

fn millis(d: Duration) -> u64 {
    UnixMillis(0).after(d).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;

    fn params(since: Option<u64>, until: Option<u64>) -> UsageParams {
        UsageParams { since: since.map(|t| t.to_string()), until: until.map(|t| t.to_string()) }
    }

    #[test]
    fn spans_have_defaults_and_a_limit() {
        let now = UnixMillis(100 * DAY_MS);
        let (since, until) = span(&params(None, None), now).unwrap();
        assert_eq!(until.0, now.0 + 60_000);
        assert_eq!(until.0 - since.0, DAY_MS);
        span(&params(Some(10 * DAY_MS), Some(41 * DAY_MS)), now).unwrap();
        span(&params(Some(10 * DAY_MS), Some(41 * DAY_MS + 1)), now).unwrap_err();
        span(&params(Some(0), None), now).unwrap_err();
    }
}
