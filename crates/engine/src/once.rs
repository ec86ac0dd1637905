//! Calls with a key: one effect and one result for all calls of a key within its window, whoever makes them and whatever becomes of the daemon.
//!
//! There is one mechanism, the queue's: the first call of a key is a message that has the key. One that is waited for is on lease from the beginning and runs here; the
//! next one finds the message and waits for its end. A daemon that is killed in between leaves the message to its next start. See ADR 26.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::Result;
use model::alias::{Parameter, Parameters};
use model::calls::Attempt;
use model::clock::Clock;
use model::error::{Code, Error};
use model::function::{FunctionSettings, HEADER_IDEMPOTENCY_KEY, read_idempotency_key};
use model::ids::{Digest, Qualifier, RequestId};
use model::invocation::{Call, Completed, Failure, FailureKind, Outcome, Timings};
use model::limits;
use model::ports::{Begun, Ended, Enqueued, Standing, UniqueKey};
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as Unknown;

use crate::calls::KeptCall;
use crate::pool::stopping;
use crate::route::{Fields, Lead};
use crate::{Engine, drain};

/// How often a call begins anew because the one that it waited for never ran.
const ROUNDS: usize = 8;
/// Longest wait for another call of the same key: the longest run of a function, and some time to find an instance.
const WAIT_MAX: Duration = Duration::from_millis(limits::TIMEOUT_MAX_MS as u64 + 60_000);
/// When to ask again for a call that goes on.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The key of a call, if it has one. The payload is read only where a function's settings name a field of it.
///
/// Errors: `invalid-parameter` where a key is asked for and there is none, or it cannot be one.
pub(crate) fn key(
    settings: &FunctionSettings,
    call: &Call,
    parameters: &dyn Parameters,
    clock: &dyn Clock,
) -> Result<Option<UniqueKey>> {
    let rules = &settings.idempotency;
    let came = call.context.key.as_deref();
    let given = came.and_then(|key| key.given.as_deref());
    if given.is_none() && rules.key.is_none() && !rules.required {
        return Ok(None);
    }
    let found = match (given, &rules.key) {
        (Some(given), _) => Some((true, Cow::Borrowed(given))),
        (None, Some(parameter)) => read(parameter, call, parameters)?,
        (None, None) => None,
    };
    let Some((given, text)) = found else {
        if rules.required {
            return Err(missing(rules.key.as_ref()));
        }
        return Ok(None);
    };
    let print = came.map_or_else(|| Digest::of(&call.payload), |key| key.print);
    Ok(Some(rules.unique(&call.target.key, (given, &text), print, clock.now())))
}

/// What a parameter says, and whether it is what a caller gives. Nothing, the empty text and `null` are no key.
fn read<'a>(
    parameter: &Parameter,
    call: &Call,
    parameters: &'a dyn Parameters,
) -> Result<Option<(bool, Cow<'a, str>)>> {
    let Parameter::Event(steps) = parameter else {
        let Some(text) = parameters.get(parameter).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let given = matches!(parameter, Parameter::Header(name) if name == HEADER_IDEMPOTENCY_KEY);
        let text = if given { read_idempotency_key(text.as_bytes())?.into() } else { text };
        return Ok(Some((given, text)));
    };
    let too_large = |what: &str, bytes: usize, most: usize| {
        let message = format!(
            "{what} is {bytes} bytes: expected at most {most}, as the key of the call is {parameter}"
        );
        Error::caller(Code::PayloadTooLarge, message)
    };
    if call.payload.len() > limits::ROUTED_EVENT_BYTES {
        return Err(too_large("the event", call.payload.len(), limits::ROUTED_EVENT_BYTES));
    }
    let mut fields = Fields::default();
    fields.add(steps);
    let text = fields.read(&call.payload).into_iter().next().flatten();
    match text.filter(|text| !text.is_empty() && text != "null") {
        // Longer ones are cut there, and two of them might be the same.
        Some(text) if text.len() >= limits::FIELD_BYTES - 4 => {
            Err(too_large("the field", text.len(), limits::FIELD_BYTES - 5))
        }
        text => Ok(text.map(|text| (false, Cow::Owned(text)))),
    }
}

fn missing(parameter: Option<&Parameter>) -> Error {
    let or = parameter.map_or_else(String::new, |parameter| format!(", or {parameter}"));
    let message = format!("the call has no key: expected the header {HEADER_IDEMPOTENCY_KEY}{or}");
    Error::caller(Code::InvalidParameter, message)
        .with_hint("the function's setting idempotency.required asks for one")
}

/// The answer to a call whose key is another call's.
pub(crate) fn reused(first: RequestId) -> Error {
    let message = format!(
        "the key was used for another event, by call {first}: expected the same event, or another key"
    );
    Error::caller(Code::KeyReused, message)
}

/// How far a call with a key comes by itself.
enum Went {
    /// To its end, or its refusal.
    Ran(Result<Completed>),
    /// It was called off, or its lease was lost.
    Lost(RequestId),
    /// There was another one.
    Known(Enqueued),
}

impl Engine {
    /// Runs a call with a key, or answers with what came of the first call of that key.
    pub(crate) async fn invoke_once(
        &self,
        lead: Lead,
        call: Call,
        parameters: &dyn Parameters,
        key: UniqueKey,
    ) -> Result<Completed> {
        let Lead { route, alias, .. } = lead;
        let message = drain::awaited(&self.shared, call, parameters, alias.as_deref(), key)?;
        let mut taken_back = self.shared.taken_back.subscribe();
        tokio::select! {
            biased;
            // It ends with the engine.
            taken_back = taken_back.wait_for(|taken_back| *taken_back) => drop(taken_back.map_err(|_| stopping())?),
            () = self.shared.tasks.cancelled().cancelled_owned() => return Err(stopping()),
        }
        for _ in 0..ROUNDS {
            let (shared, route) = (Arc::clone(&self.shared), Arc::clone(&route));
            let message = message.clone();
            let run = async move {
                let id = message.id;
                Ok(match drain::begin(&shared, &route, message).await? {
                    Begun::Leased(leased) => match drain::run_awaited(&shared, leased).await {
                        Some(result) => Went::Ran(result),
                        None => Went::Lost(id),
                    },
                    Begun::Known(known) => Went::Known(known),
                })
            };
            let first = match self.shared.tasks.run_to_end("keyed-call", run).await? {
                Went::Ran(result) => return result,
                Went::Known(Enqueued::Different(first)) => return Err(reused(first)),
                Went::Known(Enqueued::Duplicate(first)) | Went::Lost(first) => first,
                Went::Known(Enqueued::New) => {
                    return Err(Error::internal("stored, and not on lease"));
                }
            };
            if let Some(answer) = self.answer_of(first).await? {
                return Ok(answer);
            }
        }
        Err(goes_on("many calls of this key are refused one after the other".to_owned()))
    }

    /// What came of a call, once it has ended; `None` if it never ran and is not there any more.
    async fn answer_of(&self, first: RequestId) -> Result<Option<Completed>> {
        let until = self.shared.clock.instant() + WAIT_MAX;
        let latest = self.shared.clock.now().after(WAIT_MAX);
        let Some(mut call) = self.kept(first).await? else { return Ok(None) };
        match call.summary.standing {
            Standing::Waiting(due) if due > latest => {
                return Err(goes_on(format!("the first call of this key, {first}, runs at {due}")));
            }
            Standing::Waiting(_) | Standing::Leased(_) => {
                let Some(ended) = self.kept_ended(first, until).await? else { return Ok(None) };
                call = ended;
            }
            Standing::Ended(..) => {}
        }
        match call.summary.standing {
            Standing::Ended(ended, _) => answer(ended, call).map(Some),
            _ if self.shared.tasks.is_ending() => Err(stopping()),
            _ => Err(goes_on(format!("the first call of this key, {first}, still runs"))),
        }
    }
}

fn goes_on(message: String) -> Error {
    Error::caller(Code::Conflict, message).retry_after(ASK_AGAIN)
}

/// The answer that a call was given, from what is kept of it.
fn answer(ended: Ended, call: KeptCall) -> Result<Completed> {
    let (id, last) = (call.summary.id, call.history.last());
    let result = match (ended, call.result) {
        (Ended::Succeeded, Some(body)) => Ok(body),
        (Ended::Succeeded, None) => {
            return Err(settled(format!(
                "the first call of this key, {id}, succeeded, and its answer was too long to be kept"
            )));
        }
        (Ended::Dead, kept) => match last.and_then(|last| failure(last, kept)) {
            Some(failure) => Err(failure),
            None => {
                let why = last.and_then(|last| last.message.as_deref()).unwrap_or_default();
                let message = format!("the first call of this key, {id}, was given up: {why}");
                return Err(
                    settled(message).with_hint("redrive it, or forget it to use its key again")
                );
            }
        },
        (Ended::Cancelled, _) => {
            let message = format!("the first call of this key, {id}, was cancelled");
            return Err(settled(message).with_hint("forget it to use its key again"));
        }
    };
    let version = last.and_then(|last| last.version.as_deref()).and_then(|v| v.parse().ok());
    Ok(Completed {
        id,
        version: version.unwrap_or(Qualifier::Latest),
        outcome: Outcome { result, run_us: 0, busy_us: None, memory_peak_bytes: None },
        timings: Timings::default(),
        errors: None,
        prelude: call.prelude.map(Box::new),
    })
}

fn settled(message: String) -> Error {
    Error::caller(Code::Conflict, message)
}

/// How the function failed, if it was the function.
fn failure(last: &Attempt, kept: Option<Bytes>) -> Option<Failure> {
    let outcome: serde::de::value::StrDeserializer<'_, Unknown> =
        last.outcome.as_str().into_deserializer();
    let kind = FailureKind::deserialize(outcome).ok()?;
    Some(match kept {
        Some(payload) => Failure { kind, payload },
        None => Failure::new(kind, kind.as_str(), last.message.as_deref().unwrap_or_default()),
    })
}
