//! What a function wrote: searched, or followed live ([`super::tail`]).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use model::api::{LogLineView, Page};
use model::error::{Code, Error};
use model::ids::{FunctionKey, FunctionRef, Qualifier};
use model::limits;
use model::ports::LogQuery;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, tail, views};
use crate::App;
use crate::extract::{self, FunctionPath, Params};
use crate::openapi::{FunctionParams, Refusals};

/// Lines that an absent `limit` means.
const DEFAULT_LINES: usize = 100;
/// Longest text that is searched for, in bytes.
const CONTAINS_BYTES: usize = 1_024;
/// The media type of a live tail.
const EVENT_STREAM: &str = "text/event-stream";

/// Query parameters of a log query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// Of this call.
    request: Option<String>,
    /// At or after, RFC 3339 or milliseconds since 1970.
    since: Option<String>,
    /// Before.
    until: Option<String>,
    /// Holding this text, upper and lower case alike.
    contains: Option<String>,
    /// At most so many, the newest: 1 to 10 000; absent: 100.
    limit: Option<usize>,
    /// Go on with live lines, as server-sent events.
    #[serde(default)]
    #[param(required = false)]
    follow: bool,
}

/// Log lines, the newest `limit` that match, oldest first.
///
/// With `follow=true`, or `Accept: text/event-stream`, the answer is a stream of server-sent events that goes on with live
/// lines: each a JSON log line, and an event `dropped` with a number where a reader was too slow and lines were skipped.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/logs", operation_id = "getLogs", tag = "logs",
    params(FunctionParams, LogParams),
    responses(
        (status = 200, content(
            (Page<LogLineView> = "application/json"),
            (String = "text/event-stream"),
        )),
        Refusals,
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    FunctionPath(function): FunctionPath,
    Params(params): Params<LogParams>,
    headers: HeaderMap,
) -> Answer<Response> {
    let follow = params.follow || accepts_events(&headers);
    let query = query(function, params)?;
    if follow && query.until.is_some() {
        let message = "until cannot be given with follow: a live tail has no end";
        return Err(Error::caller(Code::InvalidParameter, message).into());
    }
    let target = FunctionRef { key: query.function.clone(), qualifier: Qualifier::Latest };
    app.catalog.function(&target).await?;
    if follow {
        return Ok(tail::follow(&app, query).await?.into_response());
    }
    let lines = app.logs.query(query).await?;
    let items = lines.into_iter().map(views::log_line).collect();
    Ok(Json(Page { items, next: None }).into_response())
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    accepts.flat_map(|v| v.split(',')).any(|media| {
        let name = media.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(EVENT_STREAM)
    })
}

fn query(function: FunctionKey, params: LogParams) -> Result<LogQuery, Error> {
    if params.contains.as_ref().is_some_and(|c| c.len() > CONTAINS_BYTES) {
        return Err(Error::caller(
            Code::InvalidParameter,
            format!("contains is too long: expected at most {CONTAINS_BYTES} bytes"),
        ));
    }
    Ok(LogQuery {
        function,
        request: extract::parse(params.request.as_ref())?,
        since: extract::time("since", params.since.as_ref())?,
        until: extract::time("until", params.until.as_ref())?,
        contains: params.contains.filter(|c| !c.is_empty()),
        limit: extract::limit(params.limit, DEFAULT_LINES, limits::LOG_QUERY_LINES)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_stream_is_found_among_media_types() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
            ("*/*", false),
            ("text/event-streams", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(accepts_events(&headers), expected, "{accept}");
        }
    }
}
