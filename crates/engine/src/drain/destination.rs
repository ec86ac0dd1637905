//! Who is told what became of a call: a message in the queue, written before the call ends.
//!
//! Its id follows from the call's id and its end, so that a daemon that is killed between the two does not tell it twice. The record has the form of AWS Lambda's destinations.

use bytes::Bytes;
use model::calls::Attempt;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::function::{AsyncPolicy, Destination, RetryCurve, Told, arn};
use model::ids::{FunctionKey, FunctionRef, RequestId};
use model::invocation::{Call, CallContext, Completed};
use model::ports::{Lane, NewMessage};
use model::{Result, limits};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::{self, Queued};
use super::run::{Case, Then};
use crate::Shared;
use crate::retry::Verdict;

/// What is left of a message for everything but payloads, in bytes.
const ROOM_BYTES: usize = 8 * 1024;

/// How often a webhook is sent at most.
pub(super) const WEBHOOK_ATTEMPTS: u32 = 7;

/// Which end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnEnd {
    Success,
    Failure,
}

impl OnEnd {
    /// The setting's name.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Success => "async.on_success",
            Self::Failure => "async.on_failure",
        }
    }

    /// What is set for it.
    pub(super) fn of(self, policy: &AsyncPolicy) -> Option<&Destination> {
        match self {
            Self::Success => policy.on_success.as_deref(),
            Self::Failure => policy.on_failure.as_deref(),
        }
    }
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) on: OnEnd,
    /// In the words of AWS Lambda: `Success`, `RetriesExhausted`, `EventAgeExceeded`; ours: `Undeliverable`.
    pub(super) condition: &'static str,
    /// The function's attempts.
    pub(super) attempts: u32,
    /// The version that ran last, if one did.
    pub(super) version: Option<&'a str>,
    /// What it answered, or the error it ended with.
    pub(super) answer: Option<&'a [u8]>,
    pub(super) at: UnixMillis,
    /// When the call was enqueued, or brought back to life: an end after that is another one.
    pub(super) enqueued_at: UnixMillis,
}

/// The id of what tells of an end: it follows from the call, from when it was enqueued or brought back to life, and from the end.
pub(crate) fn told_by(id: RequestId, enqueued_at: UnixMillis, on: OnEnd) -> RequestId {
    let end = match on {
        OnEnd::Success => "success",
        OnEnd::Failure => "failure",
    };
    id.derived(&format!("{end} {}", enqueued_at.0))
}

/// Has it told how a call ends, if its function says to whom. Before it ends: a kill in between repeats the end, and finds that it is told already.
///
/// What has run does not run again because the disk is full: its record then says that nobody was told.
pub(super) async fn tell(
    shared: &Shared,
    case: &Case,
    attempt: &mut Attempt,
    then: &Then,
    answer: &Result<Completed>,
) -> Result<()> {
    let (on, condition) = match then {
        Then::Succeeded(..) => (OnEnd::Success, "Success"),
        Then::Not(Verdict::Dead(dead)) => (OnEnd::Failure, dead.why.condition()),
        // Somebody waited for it, and knows.
        Then::Not(Verdict::Again { .. }) | Then::Failed(_) | Then::Withdrawn => return Ok(()),
    };
    let Some(destination) = on.of(case.policy()) else { return Ok(()) };
    let Some(queued) = envelope::unpack(&case.message).filter(|queued| !queued.awaited) else {
        return Ok(());
    };
    let said = answer.as_ref().ok().map(|done| match &done.outcome.result {
        Ok(body) => body,
        Err(failure) => &failure.payload,
    });
    let ending = Ending {
        on,
        condition,
        attempts: attempt.attempt,
        version: attempt.version.as_deref(),
        answer: said.map(|said| &**said),
        at: shared.clock.now(),
        enqueued_at: case.message.enqueued_at,
    };
    let message = message(queued, &ending, destination)?;
    match shared.queue.enqueue(vec![message]).await {
        Err(error) if error.code() == Code::StorageFull => {
            let request = case.message.id;
            tracing::error!(%request, %error, "nobody is told of the end of a call");
            attempt.message = Some(format!("nobody was told of the end: {error}"));
            Ok(())
        }
        enqueued => enqueued.map(drop),
    }
}

/// The message that tells how a call ended.
pub(super) fn message(
    queued: Queued,
    ending: &Ending<'_>,
    destination: &Destination,
) -> Result<NewMessage> {
    let call = queued.call;
    let id = told_by(call.id, ending.enqueued_at, ending.on);
    let payload = record(&call, ending)?;
    let namespace = call.target.key.namespace.clone();
    let (lane, target, webhook) = match destination.read(ending.on.field(), namespace.as_str())? {
        Told::Function(target) => (Lane::from(&target.key), target, None),
        Told::Webhook { .. } => (lane(&call.target.key)?, call.target, Some(ending.on)),
    };
    // One more function in the chain.
    let CallContext { trace, hops, .. } = call.context;
    let context = CallContext { trace, hops: hops.saturating_add(1), ..CallContext::default() };
    let call = Call { id, target, payload, context };
    let queued = Queued { webhook, ..Queued::of(call) };
    let payload = envelope::pack(queued)?;
    Ok(NewMessage { id, lane, run_at: ending.at, key: None, payload })
}

/// What the names of lanes of webhooks end with.
const WEBHOOK: &str = "/webhook";

/// Where a function's webhooks wait: a receiver that is slow holds up no call.
fn lane(key: &FunctionKey) -> Result<Lane> {
    Lane::new(&format!("{key}{WEBHOOK}"))
}

/// Whether webhooks wait there.
pub(super) fn is_webhook(lane: &Lane) -> bool {
    lane.as_str().ends_with(WEBHOOK)
}

/// What holds for a webhook's message: the pauses of Standard Webhooks 1.0, shortened to a day.
pub(super) fn webhook_policy(function: &AsyncPolicy) -> AsyncPolicy {
    const PAUSES_SECONDS: [u32; 6] = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600];
    let retry = RetryCurve { pauses_seconds: PAUSES_SECONDS.to_vec(), ..RetryCurve::default() };
    AsyncPolicy {
        attempts: Some(WEBHOOK_ATTEMPTS),
        max_age_seconds: Some(limits::ASYNC_MAX_AGE_MOST_SECONDS),
        retry: Some(Box::new(retry)),
        keep_result_seconds: function.keep_result_seconds,
        keep_dead_seconds: function.keep_dead_seconds,
        on_success: None,
        on_failure: None,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext,
    request_payload: Option<Box<RawValue>>,
    response_context: Option<ResponseContext<'a>>,
    response_payload: Option<Box<RawValue>>,
    /// Payloads that are too long to be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omitted: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    request_id: RequestId,
    function_arn: String,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'static str>,
}

fn record(call: &Call, ending: &Ending<'_>) -> Result<Bytes> {
    let FunctionRef { key, qualifier } = &call.target;
    let mut record = Record {
        version: "1.0",
        timestamp: ending.at.to_string(),
        request_context: RequestContext {
            request_id: call.id,
            function_arn: arn(key, Some(qualifier)),
            condition: ending.condition,
            approximate_invoke_count: ending.attempts,
        },
        request_payload: json(&call.payload),
        response_context: ending.version.map(|executed_version| ResponseContext {
            status_code: 200,
            executed_version,
            function_error: (ending.on == OnEnd::Failure).then_some("Unhandled"),
        }),
        response_payload: ending.answer.and_then(json),
        omitted: Vec::new(),
    };
    let long = |value: &Option<Box<RawValue>>| value.as_ref().map_or(0, |v| v.get().len());
    let room = limits::ASYNC_PAYLOAD_BYTES - ROOM_BYTES;
    if long(&record.request_payload) + long(&record.response_payload) > room {
        record.response_payload = None;
        record.omitted.push("responsePayload");
    }
    if long(&record.request_payload) > room {
        record.request_payload = None;
        record.omitted.push("requestPayload");
    }
    serde_json::to_vec(&record).map(Bytes::from).map_err(Error::internal)
}

/// JSON as it stands; anything else as text.
fn json(bytes: &[u8]) -> Option<Box<RawValue>> {
    match serde_json::from_slice::<Box<RawValue>>(bytes) {
        Ok(json) => Some(json),
        Err(_) => {
            let text = String::from_utf8_lossy(bytes);
            serde_json::to_string(&text).ok().and_then(|text| RawValue::from_string(text).ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(payload: &'static [u8], answer: &[u8]) -> serde_json::Value {
        let call = Call {
            id: RequestId::from_bytes([7; 16]),
            target: FunctionRef::parse("default", "f:live").unwrap(),
            payload: Bytes::from_static(payload),
            context: CallContext::default(),
        };
        let ending = Ending {
            on: OnEnd::Failure,
            condition: "RetriesExhausted",
            attempts: 3,
            version: Some("7"),
            answer: Some(answer),
            at: UnixMillis(0),
            enqueued_at: UnixMillis(0),
        };
        serde_json::from_slice(&record(&call, &ending).unwrap()).unwrap()
    }

    #[test]
    fn a_record_has_the_form_of_aws_lambda() {
        let told = told(br#"{"n":1.0e5}"#, br#"{"errorMessage":"no"}"#);
        let expected = serde_json::json!({
            "version": "1.0",
            "timestamp": "1970-01-01T00:00:00.000Z",
            "requestContext": {
                "requestId": "07070707-0707-0707-0707-070707070707",
                "functionArn": "arn:aws:lambda:local:000000000000:function:f:live",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 3,
            },
            "requestPayload": { "n": 1.0e5 },
            "responseContext": { "statusCode": 200, "executedVersion": "7", "functionError": "Unhandled" },
            "responsePayload": { "errorMessage": "no" },
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_json_is_text_and_what_is_too_long_is_said_to_be_left_out() {
        let told_of = told(b"\xff no json", b"");
        assert_eq!(told_of["requestPayload"], "\u{fffd} no json");
        let long = format!("\"{}\"", "x".repeat(limits::ASYNC_PAYLOAD_BYTES));
        let told_of = told(b"1", long.as_bytes());
        assert_eq!(told_of["omitted"], serde_json::json!(["responsePayload"]));
        assert_eq!(
            (&told_of["requestPayload"], &told_of["responsePayload"]),
            (&1.into(), &serde_json::Value::Null)
        );
    }
}
