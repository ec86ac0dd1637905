//! Maps: started with their input, listed, shown, cancelled, forgotten; their results.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use engine::KeptMap;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use model::api::{ChunkCounts, ErrorBody, ItemCounts, MapView, Page, ReduceCounts};
use model::error::{Code, Error};
use model::ids::{FunctionRef, RequestId};
use model::limits;
use model::map::{InputFormat, Map, MapSpec};
use model::tasks::Tasks;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, invoke, page};
use crate::App;
use crate::body;
use crate::extract::{self, Id, MapPath, NamespacePath, Params};
use crate::openapi::{MapParam, NamespaceParam, Refusals};

/// Maps of a page where no limit is given.
const LIMIT_DEFAULT: usize = 20;
/// Most maps of a page: a document may have some dozens of KiB.
const LIMIT_MAX: usize = 100;
/// Lines of results, one a line.
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Query parameters of a new map.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StartParams {
    /// The function that gets the chunks: `NAME` or `NAME:QUALIFIER`.
    function: String,
    /// The function of the same namespace that gets the results: `NAME` or `NAME:QUALIFIER`.
    reduce: Option<String>,
    /// What the body is made of; absent: `json`.
    #[serde(default)]
    #[param(required = false)]
    format: InputFormat,
    /// Most items of a chunk: 1 to 1 000 000, 100 if absent.
    chunk: Option<u32>,
    /// Most bytes of the items of a chunk: 1 to 1 047 552, which is also what is meant if it is absent.
    chunk_bytes: Option<u32>,
    /// Most calls that wait or run at once: 1 to 1 000, 20 if absent.
    concurrency: Option<u32>,
    /// Attempts at a chunk in all: 1 to 100, 3 if absent.
    attempts: Option<u32>,
    /// How many chunks may fail: a number, or a share such as `5%`; 0 if absent.
    tolerate: Option<String>,
}

impl StartParams {
    fn spec(self, namespace: &str) -> Result<MapSpec, Error> {
        let mut spec = MapSpec::new(FunctionRef::parse(namespace, &self.function)?);
        let reduce = self.reduce.map(|name| FunctionRef::parse(namespace, &name));
        (spec.format, spec.reduce) = (self.format, reduce.transpose()?);
        spec.chunk_items = self.chunk.unwrap_or(spec.chunk_items);
        spec.chunk_bytes = self.chunk_bytes.unwrap_or(spec.chunk_bytes);
        spec.concurrency = self.concurrency.unwrap_or(spec.concurrency);
        spec.attempts = self.attempts.unwrap_or(spec.attempts);
        if let Some(tolerate) = self.tolerate {
            spec.tolerate = tolerate
                .parse()
                .map_err(|e| Error::caller(Code::InvalidParameter, format!("tolerate {e}")))?;
        }
        spec.validate()?;
        Ok(spec)
    }
}

/// Query parameters of a list of maps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Start behind this map: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<RequestId>,
    /// Most maps on the page: 1 to 100, 20 if absent.
    limit: Option<usize>,
}

/// Starts a map: the function is called for each chunk of the input, and `reduce` with the results.
///
/// The body is the input, at most 2 GiB; it is never held whole. The answer comes once all of it is stored: from then on the map survives the daemon.
/// A chunk's event is `{"map":{"id","level","chunk","chunks","first_item","failed"},"items":[…]}`; that of a reduce has `results` in the place of `items`, and `level` from 1. Results that do not fit into one
/// call, of 1 MiB, are reduced by several, and theirs by another level, until there is one.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/maps", operation_id = "startMap", tag = "maps",
    params(NamespaceParam, StartParams),
    request_body(content = String, content_type = "application/octet-stream", description = "the input"),
    responses(
        (status = 202, description = "accepted: it runs", body = MapView),
        (status = 408, description = "`request-timeout`", body = ErrorBody),
        (status = 413, description = "`payload-too-large`: the input, an item of it, or the number of chunks", body = ErrorBody),
        (status = 429, description = "`throttled`", body = ErrorBody),
        (status = 503, description = "`unavailable`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was stored", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    Id(id): Id,
    NamespacePath(namespace): NamespacePath,
    Params(params): Params<StartParams>,
    request: Request,
) -> Answer<(StatusCode, Json<MapView>)> {
    let (parts, body) = request.into_parts();
    let input = Input::of(&app, &parts.headers, body);
    let mut spec = params.spec(namespace.as_str())?;
    spec.context = invoke::context(&parts.headers)?;
    let kept = app.engine.start_map(id, spec, Box::pin(input.pieces())).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&kept))))
}

/// An input as it comes.
struct Input {
    /// `None` once there is nothing more of it.
    body: Option<Body>,
    /// How long the next piece may take: the whole may take as long as it needs.
    timeout: Duration,
    /// Where the rest is read of one that was refused, if its sender does not wait to be asked for it.
    discard: Option<Tasks>,
}

impl Input {
    fn of(app: &App, headers: &HeaderMap, body: Body) -> Self {
        let discard = body::waits_for_nothing(headers).then(|| app.tasks.clone());
        Self { body: Some(body), timeout: app.config.body_timeout, discard }
    }

    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let body = self.body.as_mut()?;
        loop {
            let frame = match tokio::time::timeout(self.timeout, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    let seconds = self.timeout.as_secs_f32();
                    let message = format!("nothing of the input arrived for {seconds} s");
                    return Some(Err(Error::caller(Code::RequestTimeout, message)));
                }
            };
            match frame {
                // Trailers carry nothing that is read.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => continue,
                },
                Some(Err(e)) => {
                    self.body = None;
                    let cut = Error::caller(Code::InvalidBody, "the input was cut off");
                    return Some(Err(cut.with_source(e)));
                }
                None => {
                    self.body = None;
                    return None;
                }
            }
        }
    }

    fn pieces(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        stream::unfold(self, |mut input| async move {
            let piece = input.next().await?;
            Some((piece, input))
        })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // Refused on the way.
        if let (Some(body), Some(tasks)) = (self.body.take(), &self.discard) {
            body::discard(body, tasks);
        }
    }
}

/// Maps, the oldest first.
///
/// What has succeeded or was cancelled is kept for 24 hours, what failed for 14 days.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/maps", operation_id = "listMaps", tag = "maps",
    params(NamespaceParam, ListParams),
    responses((status = 200, body = Page<MapView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    NamespacePath(namespace): NamespacePath,
    Params(params): Params<ListParams>,
) -> Answer<Json<Page<MapView>>> {
    let limit = extract::limit(params.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let maps = app.engine.maps(&namespace, params.after, limit).await?;
    let more = maps.len() == limit;
    Ok(page(maps.iter().map(view).collect(), more, |map: &MapView| map.id.clone()))
}

/// A map: where it stands, how far it is, what was reduced.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/maps/{map}", operation_id = "getMap", tag = "maps",
    params(NamespaceParam, MapParam),
    responses((status = 200, body = MapView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    MapPath(namespace, id): MapPath,
) -> Answer<Json<MapView>> {
    let kept = app.engine.map(&namespace, id).await?.ok_or_else(|| unknown(id))?;
    let result = app.engine.map_result(&kept.map).await?;
    let result = result.map(|result| serde_json::from_slice(&result)).transpose();
    let result = result.map_err(Error::internal)?;
    Ok(Json(MapView { result, ..view(&kept) }))
}

/// Calls a map off. Calls of it that run are ended with their instances.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/maps/{map}/cancel", operation_id = "cancelMap", tag = "maps",
    params(NamespaceParam, MapParam),
    responses(
        (status = 204, description = "cancelled"),
        (status = 409, description = "`conflict`: it has ended", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    MapPath(namespace, id): MapPath,
) -> Answer<StatusCode> {
    app.engine.cancel_map(&namespace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets a map that has ended, with its results, before its time.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/maps/{map}", operation_id = "deleteMap", tag = "maps",
    params(NamespaceParam, MapParam),
    responses(
        (status = 204, description = "forgotten"),
        (status = 409, description = "`conflict`: it has not ended", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    MapPath(namespace, id): MapPath,
) -> Answer<StatusCode> {
    app.engine.delete_map(&namespace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came of the chunks of a map, in order: a line of JSON each, `{"chunk":3,"result":…}` or `{"chunk":4,"error":"…"}`.
///
/// Of a map that goes on: of its first chunks, as far as all of them have ended, up to the last thousand.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/maps/{map}/results", operation_id = "getMapResults", tag = "maps",
    params(NamespaceParam, MapParam),
    responses(
        (status = 200, description = "the lines", body = String, content_type = "application/x-ndjson"),
        Refusals,
    ),
)]
pub(crate) async fn results(
    State(app): State<Arc<App>>,
    MapPath(namespace, id): MapPath,
) -> Answer<Response> {
    let kept = app.engine.map(&namespace, id).await?.ok_or_else(|| unknown(id))?;
    let segments = stream::iter(kept.map.gathered().to_vec());
    // One segment at a time: as the connection takes them.
    let lines = segments.then(move |segment| {
        let app = Arc::clone(&app);
        async move { app.engine.map_results(&segment).await }
    });
    let lines = lines.inspect_err(move |error| {
        tracing::warn!(map = %id, %error, "the results of a map break off");
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, LINES);
    Ok(response)
}

fn unknown(id: RequestId) -> Error {
    Error::not_found("map", id)
}

fn view(kept: &KeptMap) -> MapView {
    let KeptMap { map, progress } = kept;
    let Map { spec, stage, .. } = map;
    let running =
        |of_input: bool| if of_input == (stage.level == 0) { progress.running } else { 0 };
    MapView {
        id: map.id.to_string(),
        function: spec.function.within_namespace(),
        reduce: spec.reduce.as_ref().map(FunctionRef::within_namespace),
        state: map.state,
        error: map.error.clone(),
        created_at: map.created_at.to_string(),
        ended_at: map.ended_at.map(|at| at.to_string()),
        format: spec.format,
        input_bytes: map.bytes,
        items: ItemCounts { total: map.items, ended: progress.items_ended },
        chunks: ChunkCounts {
            total: map.chunks,
            done: progress.done,
            running: running(true),
            failed: progress.failed,
        },
        reducing: (stage.level > 0).then(|| ReduceCounts {
            level: stage.level,
            total: stage.chunks,
            ended: progress.stage_ended,
            running: running(false),
        }),
        chunk: spec.chunk_items,
        chunk_bytes: spec.chunk_bytes,
        concurrency: spec.concurrency,
        attempts: spec.attempts,
        tolerate: spec.tolerate.to_string(),
        failures: map.failures.iter().take(limits::MAP_FAILURES).cloned().collect(),
        result: None,
    }
}
