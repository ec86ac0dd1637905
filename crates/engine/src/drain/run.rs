//! One leased call: it runs, its lease is kept, it is settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::calls::{Attempt, KEEP_DEAD_SECONDS, KEEP_SECONDS};
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::invocation::{Completed, Timings};
use model::limits;
use model::ports::{Again, End, Ended, Leased, NOTE_BYTES, RESULT_BYTES};
use serde::{Deserialize, Serialize};

use super::envelope::{Queued, unpack};
use super::lanes::Found;
use crate::Shared;
use crate::attempt::serve;
use crate::pool::stopping;
use crate::retry::{self, Verdict};
use crate::route::Asked;

/// A call that waited longer than this for an instance that was there already found a crowd.
const CROWDED_US: u64 = 10_000;

/// What is noted of a call beside its last attempt.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    /// What the function said before an answer in pieces.
    prelude: String,
}

/// What came of a call that ran, or was refused.
struct Judged {
    found: Found,
    attempt: Attempt,
    then: Then,
    /// What a caller is told who waits.
    answer: model::Result<Completed>,
}

enum Then {
    /// With this answer, and what the function said before it to a caller who waits.
    Succeeded(Bytes, Option<Bytes>),
    Not(Verdict),
    /// The function failed, and that is the result.
    Failed(Bytes),
    /// It was as if it had never been there.
    Withdrawn,
}

/// Runs one leased message and settles it. `now`: its caller waits, and nobody took it up before. The answer is `None` where somebody else has the message now, or it was called off.
pub(super) async fn run(
    shared: &Arc<Shared>,
    message: Leased,
    now: bool,
) -> (Found, Option<model::Result<Completed>>) {
    let mut judged = match unpack(&message) {
        None => {
            let why = "the queued message cannot be read";
            Judged {
                found: Found::Room,
                attempt: refusal(shared, &message, "unreadable", why),
                then: Then::Not(Verdict::Dead(why.into())),
                answer: Err(Error::internal(why)),
            }
        }
        Some(_) if message.deliveries > limits::ASYNC_ATTEMPTS => exhausted(shared, &message),
        Some(queued) => {
            let kept = keep_lease(shared, &message);
            let running = shared.watched.run(message.id);
            tokio::select! {
                judged = judge(shared, queued, &message) => judged,
                // Somebody else has the message now and settles it.
                () = kept => return (Found::Room, None),
                () = running.cancelled() => return (Found::Room, None),
            }
        }
    };
    let found = judged.found;
    if now && judged.answer.as_ref().is_err_and(never_ran) {
        judged.then = Then::Withdrawn;
    }
    let mut answer = std::mem::replace(&mut judged.answer, Err(stopping()));
    if let Err(error) = settle(shared, &message, judged).await {
        // The lease expires and the call runs again: at least once.
        tracing::warn!(request = %message.id, %error, "cannot settle a queued call");
        answer = Err(error);
    }
    (found, Some(answer))
}

/// Whether it was refused before any of it reached the function.
fn never_ran(error: &Error) -> bool {
    matches!(error.code(), Code::Throttled | Code::NotFound)
}

async fn settle(shared: &Shared, message: &Leased, judged: Judged) -> model::Result<()> {
    let (id, token, mut attempt) = (message.id, message.token, judged.attempt);
    let end = match judged.then {
        Then::Not(Verdict::Again { delay, counted }) => {
            let again = Again { delay, counted, note: Some(attempt.note()) };
            return shared.queue.again(id, token, again).await;
        }
        Then::Not(Verdict::Dead(reason)) => {
            attempt.message = Some(match attempt.message {
                Some(said) => format!("{reason}: {said}"),
                None => reason,
            });
            let keep = Duration::from_secs(KEEP_DEAD_SECONDS);
            // What ran has a version.
            let (note, counted) = (Some(attempt.note()), attempt.version.is_some());
            End { as_what: Ended::Dead, note, result: None, keep, counted }
        }
        Then::Withdrawn => {
            shared.queue.withdraw(id, token).await?;
            shared.watched.ended(id);
            return Ok(());
        }
        Then::Failed(error) => {
            let keep = Duration::from_secs(KEEP_DEAD_SECONDS);
            let result = (error.len() <= RESULT_BYTES).then_some(error);
            End { as_what: Ended::Dead, note: Some(attempt.note()), result, keep, counted: true }
        }
        Then::Succeeded(body, prelude) => {
            let note = match prelude {
                Some(said) => with_prelude(&attempt, said),
                None => Some(attempt.note()),
            };
            let kept = body.len() <= RESULT_BYTES && note.is_some();
            if !kept {
                attempt.message =
                    Some(format!("the answer of {} bytes is longer than what is kept", body.len()));
            }
            let keep = Duration::from_secs(KEEP_SECONDS);
            let note = note.filter(|_| kept).or_else(|| Some(attempt.note()));
            let result = kept.then_some(body);
            End { as_what: Ended::Succeeded, note, result, keep, counted: true }
        }
    };
    shared.queue.end(id, token, end).await?;
    shared.watched.ended(id);
    Ok(())
}

/// Runs the call.
async fn judge(shared: &Arc<Shared>, queued: Queued, message: &Leased) -> Judged {
    let Queued { call, parameters, awaited } = queued;
    let accepted = shared.clock.instant();
    let (routes, asked) = (&shared.routes, Asked::of(&call, &parameters));
    let led = async { routes.pool(asked, routes.lead(asked)?).await };
    let led = match led.await {
        Ok(led) => led,
        Err(e) if e.code() == Code::NotFound => {
            let attempt = refusal(shared, message, e.code().as_str(), e.message());
            let then = Then::Not(Verdict::Dead("it has nowhere to run".into()));
            return Judged { found: Found::Room, attempt, then, answer: Err(e) };
        }
        Err(e) => return refused(shared, message, e),
    };
    match serve(shared, led, call, message.deliveries, accepted).await {
        Ok(done) => completed(shared, message, done, awaited),
        Err(e) => refused(shared, message, e),
    }
}

fn completed(shared: &Shared, message: &Leased, done: Completed, awaited: bool) -> Judged {
    let attempt = Attempt {
        at: shared.clock.now(),
        attempt: message.deliveries,
        version: Some(done.version.to_string()),
        duration_ms: Some(done.outcome.run_us.div_ceil(1000)),
        outcome: done
            .outcome
            .result
            .as_ref()
            .map_or_else(|f| f.kind.as_str(), |_| "succeeded")
            .to_owned(),
        message: done.outcome.result.as_ref().err().and_then(|f| said(&f.payload)),
    };
    let found = found(&done.timings);
    let then = match &done.outcome.result {
        Ok(body) => Then::Succeeded(body.clone(), done.prelude.clone().filter(|_| awaited)),
        Err(f) if awaited => Then::Failed(f.payload.clone()),
        Err(f) => Then::Not(retry::after_failure(message.deliveries, f.kind.as_str())),
    };
    Judged { found, attempt, then, answer: Ok(done) }
}

/// The note of the last attempt, if both fit into one.
fn with_prelude(attempt: &Attempt, prelude: Bytes) -> Option<Bytes> {
    #[derive(Serialize)]
    struct Both<'a> {
        #[serde(flatten)]
        attempt: &'a Attempt,
        #[serde(flatten)]
        said: Said,
    }
    let prelude = String::from_utf8(prelude.into()).ok()?;
    let both = serde_json::to_vec(&Both { attempt, said: Said { prelude } }).ok()?;
    (both.len() <= NOTE_BYTES).then(|| both.into())
}

/// What a note holds beside an attempt.
pub(crate) fn prelude(note: &[u8]) -> Option<Bytes> {
    serde_json::from_slice(note).ok().map(|Said { prelude }| prelude.into())
}

/// The message in a function's error.
fn said(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reason {
        error_message: String,
    }
    serde_json::from_slice(payload).ok().map(|Reason { error_message }| error_message)
}

/// A start takes its time and says nothing of a crowd.
fn found(timings: &Timings) -> Found {
    if !timings.cold && timings.queue_us > CROWDED_US { Found::Crowd } else { Found::Room }
}

fn refusal(shared: &Shared, message: &Leased, outcome: &str, why: &str) -> Attempt {
    Attempt {
        at: shared.clock.now(),
        attempt: message.deliveries,
        version: None,
        duration_ms: None,
        outcome: outcome.to_owned(),
        message: Some(why.to_owned()),
    }
}

fn refused(shared: &Shared, message: &Leased, error: Error) -> Judged {
    let verdict = retry::after_refusal(message.enqueued_at, shared.clock.now());
    let attempt = refusal(shared, message, error.code().as_str(), error.message());
    Judged { found: Found::Refusal, attempt, then: Then::Not(verdict), answer: Err(error) }
}

/// The attempt that a killed daemon was at; none if it was about to give the call up.
pub(super) fn cut(at: UnixMillis, attempt: u32) -> Option<Attempt> {
    (attempt <= limits::ASYNC_ATTEMPTS).then(|| Attempt {
        at,
        attempt,
        version: None,
        duration_ms: None,
        outcome: "cut".into(),
        message: Some("the daemon ended before the attempt did".into()),
    })
}

/// Its last attempt was cut. It may have done what it was for, and it may be what ends the daemon: it does not run again by itself.
fn exhausted(shared: &Shared, message: &Leased) -> Judged {
    let attempts = message.deliveries - 1;
    let why = format!("{attempts} attempts, and nobody knows what came of the last");
    let attempt = Attempt { attempt: attempts, ..refusal(shared, message, "given-up", &why) };
    let then = Then::Not(Verdict::Dead("given up".into()));
    Judged { found: Found::Room, attempt, then, answer: Err(Error::internal(why)) }
}

/// Renews the lease while the call runs; returns once it is lost.
async fn keep_lease(shared: &Shared, message: &Leased) {
    let ttl = shared.config.async_lease;
    loop {
        shared.clock.sleep_until(shared.clock.instant() + ttl / 3).await;
        match shared.queue.extend(message.id, message.token, ttl).await {
            Ok(()) => {}
            Err(error) if error.code() == Code::Conflict => return,
            Err(error) => tracing::warn!(request = %message.id, %error, "cannot renew a lease"),
        }
    }
}
