//! Calls: `Invoke`.

use std::fmt::Write as _;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use model::ids::{FunctionRef, Qualifier, RequestId};
use model::invocation::{Call, CallContext, Completed, InvocationKind, Outcome};
use model::ports::LogQuery;

use super::Answer;
use super::asked::Asked;
use super::error::Fault;
use super::names::Target;
use super::reply;
use crate::control::invoke::{client_context, trace};
use crate::parameters::RequestParameters;

/// The end of the log that is answered with, in bytes (AWS Lambda API reference, `LogResult`).
const TAIL_BYTES: usize = 4 * 1024;
/// Most lines of it.
const TAIL_LINES: usize = 1_000;
const TYPE: &str = "x-amz-invocation-type";
const LOG_TYPE: &str = "x-amz-log-type";
const CLIENT_CONTEXT: &str = "x-amz-client-context";
const EXECUTED_VERSION: &str = "x-amz-executed-version";
const FUNCTION_ERROR: &str = "x-amz-function-error";
const LOG_RESULT: &str = "x-amz-log-result";

/// Whether a call is asynchronous.
pub(super) fn is_event(headers: &HeaderMap) -> bool {
    headers.get(TYPE).is_some_and(|value| value == "Event")
}

/// How a call is made.
pub(super) fn kind(headers: &HeaderMap) -> Result<InvocationKind, Fault> {
    match headers.get(TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => Ok(InvocationKind::Sync),
        Some(b"Event") => Ok(InvocationKind::Async),
        Some(b"DryRun") => Ok(InvocationKind::DryRun),
        Some(_) => Err(Fault::invalid(
            "InvocationType is not valid: expected RequestResponse, Event or DryRun",
        )),
    }
}

/// Whether the end of the log is asked for.
pub(super) fn wants_log(headers: &HeaderMap) -> Result<bool, Fault> {
    match headers.get(LOG_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"None") => Ok(false),
        Some(b"Tail") => Ok(true),
        Some(_) => Err(Fault::invalid("LogType is not valid: expected None or Tail")),
    }
}

/// What the function sees of the call.
pub(super) fn context(headers: &HeaderMap) -> Result<CallContext, Fault> {
    let client_context = match headers.get(CLIENT_CONTEXT) {
        None => None,
        Some(value) => Some(client_context(value).ok_or_else(|| {
            Fault::invalid(
                "ClientContext is not valid: expected JSON in base64, at most 3583 bytes",
            )
        })?),
    };
    Ok(CallContext { trace: trace(headers), client_context, ..CallContext::default() })
}

pub(super) async fn invoke(asked: Asked) -> Answer {
    let headers = &asked.parts.headers;
    let (kind, log, context) = (kind(headers)?, wants_log(headers)?, context(headers)?);
    let target = asked.target()?;
    let parameters = RequestParameters::of_call(headers, asked.from);
    let engine = &asked.app.engine;
    if kind == InvocationKind::DryRun {
        return dry_run(&asked, &target, &parameters);
    }
    let call = call(&asked, &target, context);
    if kind == InvocationKind::Async {
        let queued = engine.enqueue(call, &parameters).await;
        queued.map_err(|error| asked.not_found(error, &target))?;
        return Ok(reply::empty(StatusCode::ACCEPTED));
    }
    let completed = engine.invoke(call, &parameters).await;
    let completed = completed.map_err(|error| asked.not_found(error, &target))?;
    let log = if log { Some(log_of(&asked, &target.reference, &completed).await?) } else { None };
    Ok(answer(completed, log))
}

/// Which version a call would reach.
pub(super) fn dry_run(
    asked: &Asked,
    target: &Target,
    parameters: &RequestParameters<'_>,
) -> Answer {
    let engine = &asked.app.engine;
    let version = engine.route(&target.reference, &asked.id, parameters, &asked.body);
    let version = version.map_err(|error| asked.not_found(error, target))?;
    Ok(versioned(reply::empty(StatusCode::NO_CONTENT), &version.into()))
}

/// The call that is asked for.
pub(super) fn call(asked: &Asked, target: &Target, context: CallContext) -> Call {
    let (target, payload) = (target.reference.clone(), asked.body.clone());
    Call { id: asked.id, target, payload, context }
}

fn answer(completed: Completed, log: Option<String>) -> Response<Body> {
    let (body, failed) = match completed.outcome.result {
        Ok(body) => (body, false),
        Err(failure) => (failure.payload, true),
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if failed {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if let Some(log) = log.and_then(|log| HeaderValue::from_str(&STANDARD.encode(log)).ok()) {
        headers.insert(LOG_RESULT, log);
    }
    versioned(response, &completed.version)
}

/// The same answer with the version that ran.
pub(super) fn versioned(mut response: Response<Body>, version: &Qualifier) -> Response<Body> {
    if let Ok(version) = HeaderValue::from_str(&version.to_string()) {
        response.headers_mut().insert(EXECUTED_VERSION, version);
    }
    response
}

/// The end of a call's log, with the lines that the service writes around it.
async fn log_of(
    asked: &Asked,
    target: &FunctionRef,
    completed: &Completed,
) -> Result<String, Fault> {
    let query =
        LogQuery { request: Some(asked.id), ..LogQuery::newest(target.key.clone(), TAIL_LINES) };
    let lines = asked.app.logs.query(query).await?;
    let ran = FunctionRef { key: target.key.clone(), qualifier: completed.version.clone() };
    let memory_mb = match asked.app.catalog.function(&ran).await {
        Ok(mut at) => {
            at.version.config.resolve_memory(asked.app.engine.host_memory_mb());
            at.version.config.memory_mb
        }
        // It was deleted a moment ago.
        Err(_) => 0,
    };
    let texts = lines.into_iter().map(|line| line.text);
    Ok(tail(asked.id, &completed.version, texts, &completed.outcome, memory_mb))
}

fn tail(
    id: RequestId,
    version: &Qualifier,
    lines: impl Iterator<Item = String>,
    outcome: &Outcome,
    memory_mb: u32,
) -> String {
    let mut text = format!("START RequestId: {id} Version: {version}\n");
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    let (whole, hundredths) = (outcome.run_us / 1_000, outcome.run_us % 1_000 / 10);
    let billed = outcome.run_us.div_ceil(1_000);
    let used =
        outcome.memory_peak_bytes.map_or(u64::from(memory_mb), |bytes| bytes.div_ceil(1024 * 1024));
    // Writing to a String cannot fail.
    write!(
        text,
        "END RequestId: {id}\nREPORT RequestId: {id}\tDuration: {whole}.{hundredths:02} ms\tBilled Duration: {billed} ms\tMemory Size: {memory_mb} MB\tMax Memory Used: {used} MB\t\n"
    )
    .unwrap_or_default();
    let cut = text.ceil_char_boundary(text.len().saturating_sub(TAIL_BYTES));
    text.split_off(cut)
}

#[cfg(test)]
mod tests {
    use model::invocation::{Failure, FailureKind};

    use super::*;

    fn outcome(result: Result<&'static str, Failure>) -> Outcome {
        let result = result.map(Into::into);
        Outcome { result, run_us: 12_345, busy_us: None, memory_peak_bytes: Some(10 * 1024 * 1024) }
    }

    #[test]
    fn the_log_ends_with_a_report() {
        let id = RequestId::generate();
        let lines = ["one".to_owned(), "two".to_owned()].into_iter();
        let text = tail(id, &Qualifier::Version(3), lines, &outcome(Ok("1")), 128);
        assert!(
            text.starts_with(&format!("START RequestId: {id} Version: 3\none\ntwo\nEND ")),
            "{text}"
        );
        assert!(text.contains("Duration: 12.34 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB\tMax Memory Used: 10 MB"), "{text}");
        let long = std::iter::repeat_n("ä".repeat(100), 100);
        let text = tail(id, &Qualifier::Latest, long, &outcome(Ok("1")), 128);
        assert!((TAIL_BYTES - 1..=TAIL_BYTES).contains(&text.len()), "{}", text.len());
    }

    #[test]
    fn answers_say_what_ran_and_whether_it_failed() {
        let completed = |result| Completed {
            id: RequestId::generate(),
            version: Qualifier::Version(3),
            outcome: outcome(result),
            timings: Default::default(),
            errors: None,
            prelude: None,
        };
        let good = answer(completed(Ok("1")), Some("log".into()));
        assert_eq!(good.headers()[EXECUTED_VERSION], "3");
        assert_eq!(good.headers()[LOG_RESULT], "bG9n");
        assert!(!good.headers().contains_key(FUNCTION_ERROR));
        let bad = answer(completed(Err(Failure::new(FailureKind::Timeout, "T", "late"))), None);
        assert_eq!(
            (bad.status(), &bad.headers()[FUNCTION_ERROR]),
            (StatusCode::OK, &HeaderValue::from_static("Unhandled"))
        );
    }

    #[test]
    fn headers_have_their_words() {
        let with = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert_eq!(kind(&with(TYPE, "DryRun")).unwrap(), InvocationKind::DryRun);
        kind(&with(TYPE, "event")).unwrap_err();
        assert!(wants_log(&with(LOG_TYPE, "Tail")).unwrap());
        wants_log(&with(LOG_TYPE, "All")).unwrap_err();
        context(&with(CLIENT_CONTEXT, "e30=")).unwrap();
        context(&with(CLIENT_CONTEXT, "{}")).unwrap_err();
    }
}
