//! Calls through the API: the body is the event, the answer's body is the function's.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::{EnqueueOptions, Reply, Stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use model::api::{
    Accepted, ErrorBody, HEADER_CLIENT_CONTEXT, HEADER_DELAY, HEADER_FUNCTION_ERROR,
    HEADER_INVOCATION, HEADER_STREAM, HEADER_TIMINGS, HEADER_TRACE, HEADER_VERSION,
};
use model::error::{Code, Error};
use model::invocation::{Call, CallContext, Completed, InvocationKind, Timings};
use model::limits;
use model::ports::Enqueued;
use serde::de::IgnoredAny;

use super::Answer;
use crate::App;
use crate::body::{self, Limit};
use crate::extract::{Id, QualifierParam, Source, TargetPath};
use crate::gateway;
use crate::keyed;
use crate::openapi::{FunctionParams, InvokeHeaders, Refusals};
use crate::parameters::RequestParameters;
use crate::pieces::Pieces;

/// Longest client context as sent, in bytes (AWS Lambda API reference, `X-Amz-Client-Context`: 3 583 bytes of base64).
const CLIENT_CONTEXT_BYTES: usize = 3_583;
/// Longest trace header that is passed on, in bytes.
const TRACE_BYTES: usize = 1_024;
/// Largest status and headers of an answer in pieces that are said to the caller, in bytes.
const STREAM_HEADER_BYTES: usize = 8 * 1024;

/// Calls a function. The body is the event, at most 6 MiB, and is never looked into.
///
/// The rules of an alias see the request's headers, cookies and source address beside the event; path, query and method are the API's own.
/// Calls with the same `Idempotency-Key` are one call, within the time that the function's settings say: the second is answered with the first's id and result,
/// and waits for them; with another event it is refused.
///
/// A synchronous call is answered with the function's answer. When the function failed the status is 200 as well, the header
/// `x-hanshu-function-error` names the kind, and the body is the function's error. A function that answers in pieces is heard as it writes; the body is then
/// what it writes, `x-hanshu-stream` what it said before, and a body that breaks off, without its last chunk, is that of a function that failed on the way. An asynchronous call is durable before the 202.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/functions/{function}/invoke", operation_id = "invoke", tag = "calls",
    params(FunctionParams, QualifierParam, InvokeHeaders),
    request_body(content = serde_json::Value, content_type = "application/json", description = "the event; empty means `{}`"),
    responses(
        (status = 200, description = "the function's answer, or its error", body = serde_json::Value, headers(
            ("x-hanshu-request-id" = String, description = "the call's id"),
            ("x-hanshu-replayed" = Option<String>, description = "`true`: it is the first call of the key that is answered with"),
            ("x-hanshu-version" = String, description = "the version that ran"),
            ("x-hanshu-function-error" = Option<String>, description = "the kind of failure, when the function failed"),
            ("x-hanshu-stream" = Option<String>, description = "status, headers and cookies of an answer in pieces, as JSON"),
            ("x-hanshu-timings" = Option<String>, description = "where the time went, as JSON, when asked for; of an answer in pieces, until it began"),
        )),
        (status = 202, description = "accepted: the call runs later", body = Accepted),
        (status = 204, description = "a dry run: the call would be possible"),
        (status = 408, description = "`request-timeout`", body = ErrorBody),
        (status = 409, description = "`conflict`: the first call of the key has no result to show", body = ErrorBody),
        (status = 422, description = "`key-reused`: the first call of the key had another event", body = ErrorBody),
        (status = 413, description = "`payload-too-large`", body = ErrorBody),
        (status = 429, description = "`throttled`; `queue-full`: as many asynchronous calls wait or run as may", body = ErrorBody),
        (status = 503, description = "`unavailable`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn invoke(
    State(app): State<Arc<App>>,
    Id(id): Id,
    TargetPath(target): TargetPath,
    Source(source): Source,
    request: Request,
) -> Answer<Response> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let mut context = context(&headers)?;
    let kind = kind(&headers)?;
    let options = options(&headers, kind)?;
    // Before the body: nobody shall send 6 MB to learn that the name is wrong.
    app.engine.settings(&target)?;
    let limit = match kind {
        InvocationKind::Sync | InvocationKind::DryRun => Limit::SYNC_PAYLOAD,
        InvocationKind::Async => Limit::ASYNC_PAYLOAD,
    };
    let payload = body::collect(&headers, body, limit, app.config.body_timeout, &app.tasks).await?;
    let parameters = RequestParameters::of_call(&headers, source);
    if kind == InvocationKind::DryRun {
        let version = app.engine.route(&target, &id, &parameters, &payload)?;
        return Ok(dry_run(&version.to_string()));
    }
    context.key = keyed::of_call(&headers, &payload)?;
    let call = Call { id, target, payload, context };
    if kind == InvocationKind::Async {
        let first = match app.engine.enqueue_with(call, &parameters, options).await? {
            Enqueued::Duplicate(first) => first,
            _ => id,
        };
        let accepted = Accepted { request_id: first.to_string() };
        let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
        if first != id {
            keyed::say_replayed(response.headers_mut(), first);
        }
        return Ok(response);
    }
    let timings = wants_timings(&headers);
    Ok(match app.engine.invoke_in_pieces(call, &parameters).await? {
        Reply::Whole(completed) => {
            let first = completed.id;
            let mut response = completed_answer(completed, timings);
            if first != id {
                keyed::say_replayed(response.headers_mut(), first);
            }
            response
        }
        Reply::Stream(stream) => stream_answer(*stream, timings),
    })
}

fn dry_run(version: &str) -> Response {
    (StatusCode::NO_CONTENT, [(HEADER_VERSION, version)]).into_response()
}

fn completed_answer(completed: Completed, with_timings: bool) -> Response {
    let Completed { version, outcome, timings, prelude, .. } = completed;
    let (body, failure) = match outcome.result {
        Ok(body) => (body, None),
        Err(failure) => (failure.payload, Some(failure.kind)),
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let said = prelude.as_deref().map(|said| gateway::prelude(said));
    let content_type = said.as_ref().and_then(|said| said.headers().get(header::CONTENT_TYPE));
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, content_type.cloned().unwrap_or(json));
    headers.extend(
        prelude.map(|prelude| (HeaderName::from_static(HEADER_STREAM), stream_value(*prelude))),
    );
    if let Ok(version) = HeaderValue::from_str(&version.to_string()) {
        headers.insert(HEADER_VERSION, version);
    }
    if let Some(kind) = failure {
        headers.insert(HEADER_FUNCTION_ERROR, HeaderValue::from_static(kind.as_str()));
    }
    if with_timings && let Some(value) = timings_value(&timings) {
        headers.insert(HEADER_TIMINGS, value);
    }
    response
}

/// An answer in pieces. Its status and headers are said and not followed: the call itself went well.
fn stream_answer(stream: Stream, with_timings: bool) -> Response {
    let said = gateway::prelude(&stream.prelude);
    let errors = stream.errors.filter(|_| said.status().is_server_error());
    let mut response = Response::new(Body::new(Pieces::new(stream.parts, errors)));
    let headers = response.headers_mut();
    if let Some(content_type) = said.headers().get(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, content_type.clone());
    }
    if let Ok(version) = HeaderValue::from_str(&stream.version.to_string()) {
        headers.insert(HEADER_VERSION, version);
    }
    headers.insert(HEADER_STREAM, stream_value(stream.prelude));
    if with_timings && let Some(value) = timings_value(&stream.timings) {
        headers.insert(HEADER_TIMINGS, value);
    }
    response
}

fn stream_value(prelude: Bytes) -> HeaderValue {
    let fits = prelude.len() <= STREAM_HEADER_BYTES;
    let value = HeaderValue::from_maybe_shared(prelude).ok().filter(|_| fits);
    value.unwrap_or(HeaderValue::from_static("{}"))
}

/// Whether the caller asked where the time went.
pub(crate) fn wants_timings(headers: &HeaderMap) -> bool {
    headers.get(HEADER_TIMINGS).is_some_and(|v| v == "1")
}

/// The timings as a header's value.
pub(crate) fn timings_value(timings: &Timings) -> Option<HeaderValue> {
    serde_json::to_vec(timings)
        .ok()
        .and_then(|json| HeaderValue::from_maybe_shared(Bytes::from(json)).ok())
}

/// The trace header, if it is one that can be passed on.
pub(crate) fn trace(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(HEADER_TRACE)?.to_str().ok()?;
    (value.len() <= TRACE_BYTES).then(|| value.to_owned())
}

fn kind(headers: &HeaderMap) -> Result<InvocationKind, Error> {
    let Some(value) = headers.get(HEADER_INVOCATION) else { return Ok(InvocationKind::Sync) };
    match value.as_bytes() {
        b"sync" => Ok(InvocationKind::Sync),
        b"async" => Ok(InvocationKind::Async),
        b"dry-run" => Ok(InvocationKind::DryRun),
        _ => Err(bad_header(HEADER_INVOCATION, "sync, async or dry-run")),
    }
}

/// What is asked of an asynchronous call.
fn options(headers: &HeaderMap, kind: InvocationKind) -> Result<EnqueueOptions, Error> {
    let Some(value) = headers.get(HEADER_DELAY) else { return Ok(EnqueueOptions::default()) };
    let seconds = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let most = limits::ASYNC_DELAY_SECONDS;
    match seconds.filter(|seconds| *seconds <= most && kind == InvocationKind::Async) {
        Some(seconds) => Ok(EnqueueOptions { delay: Duration::from_secs(seconds) }),
        None => Err(bad_header(
            HEADER_DELAY,
            &format!("0 to {most} seconds, of an asynchronous call ({HEADER_INVOCATION}: async)"),
        )),
    }
}

pub(super) fn context(headers: &HeaderMap) -> Result<CallContext, Error> {
    let client_context = match headers.get(HEADER_CLIENT_CONTEXT) {
        None => None,
        Some(value) => Some(client_context(value).ok_or_else(|| {
            bad_header(
                HEADER_CLIENT_CONTEXT,
                &format!("JSON in base64, at most {CLIENT_CONTEXT_BYTES} bytes"),
            )
        })?),
    };
    Ok(CallContext { trace: trace(headers), client_context, ..CallContext::default() })
}

/// A client context as it is sent, decoded; `None` if it is not one.
pub(crate) fn client_context(value: &HeaderValue) -> Option<String> {
    if value.len() > CLIENT_CONTEXT_BYTES {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value.as_bytes()).ok()?).ok()?;
    serde_json::from_str::<IgnoredAny>(&text).ok()?;
    Some(text)
}

fn bad_header(name: &str, expected: &str) -> Error {
    Error::caller(
        Code::InvalidParameter,
        format!("header {name} is not valid: expected {expected}"),
    )
}

#[cfg(test)]
mod tests {
    use model::ids::{Qualifier, RequestId};
    use model::invocation::{Failure, FailureKind, Outcome};

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn kinds_are_named_in_a_header() {
        assert_eq!(kind(&HeaderMap::new()).unwrap(), InvocationKind::Sync);
        assert_eq!(kind(&headers(HEADER_INVOCATION, "async")).unwrap(), InvocationKind::Async);
        assert_eq!(kind(&headers(HEADER_INVOCATION, "dry-run")).unwrap(), InvocationKind::DryRun);
        let e = kind(&headers(HEADER_INVOCATION, "later")).unwrap_err();
        assert!(e.message().contains(HEADER_INVOCATION), "{}", e.message());
    }

    #[test]
    fn asynchronous_calls_alone_have_a_delay() {
        let delay = |text: &str, kind| options(&headers(HEADER_DELAY, text), kind);
        let later = delay("90", InvocationKind::Async).unwrap();
        assert_eq!(later.delay, Duration::from_secs(90));
        assert!(delay("604800", InvocationKind::Async).is_ok());
        for (text, kind) in [
            ("90", InvocationKind::Sync),
            ("90", InvocationKind::DryRun),
            ("604801", InvocationKind::Async),
            ("-1", InvocationKind::Async),
            ("1.5", InvocationKind::Async),
            ("1m", InvocationKind::Async),
        ] {
            let e = delay(text, kind).unwrap_err();
            assert!(e.message().contains(HEADER_DELAY) && e.message().contains("604800"), "{e}");
        }
    }

    #[test]
    fn client_contexts_are_checked_json() {
        let good = STANDARD.encode(r#"{"custom":{"a":1}}"#);
        let context = context(&headers(HEADER_CLIENT_CONTEXT, &good)).unwrap();
        assert_eq!(context.client_context.as_deref(), Some(r#"{"custom":{"a":1}}"#));
        let long = STANDARD.encode(format!("\"{}\"", "x".repeat(3_000)));
        for bad in ["%", &STANDARD.encode("{"), &STANDARD.encode([0xff]), &long] {
            super::context(&headers(HEADER_CLIENT_CONTEXT, bad)).unwrap_err();
        }
    }

    #[test]
    fn failures_are_told_in_a_header() {
        let completed = |result| Completed {
            id: RequestId::generate(),
            version: Qualifier::Version(3),
            outcome: Outcome { result, run_us: 1, busy_us: None, memory_peak_bytes: None },
            timings: Timings { cold: true, ..Timings::default() },
            errors: None,
            prelude: None,
        };
        let response = completed_answer(completed(Ok("1".into())), false);
        assert_eq!(response.headers()[HEADER_VERSION], "3");
        assert!(!response.headers().contains_key(HEADER_FUNCTION_ERROR));
        assert!(!response.headers().contains_key(HEADER_TIMINGS));

        let failure = Failure::new(FailureKind::Timeout, "Timeout", "too slow");
        let response = completed_answer(completed(Err(failure)), true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[HEADER_FUNCTION_ERROR], "timeout");
        let timings = response.headers()[HEADER_TIMINGS].to_str().unwrap();
        assert!(serde_json::from_str::<Timings>(timings).unwrap().cold);
    }
}
