//! One leased call: it runs, its lease is kept, it is settled.

use std::sync::Arc;

use bytes::Bytes;
use model::calls::Attempt;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::function::{AsyncPolicy, FunctionSettings};
use model::invocation::{Completed, Timings};
use model::ports::{Again, End, Ended, Leased, RESULT_BYTES};
use serde::Deserialize;

use super::envelope::{Queued, unpack};
use super::lanes::Found;
use crate::Shared;
use crate::attempt::serve;
use crate::retry::{self, Tried, Verdict};
use crate::route::Asked;

/// A call that waited longer than this for an instance that was there already found a crowd.
const CROWDED_US: u64 = 10_000;

/// A leased message, and what its function says about asynchronous calls.
struct Case {
    message: Leased,
    /// When it was due first, or brought back to life.
    due: UnixMillis,
    settings: Arc<FunctionSettings>,
}

impl Case {
    fn new(message: Leased, due: Option<UnixMillis>, settings: Arc<FunctionSettings>) -> Self {
        let due = due.unwrap_or(message.enqueued_at).max(message.enqueued_at);
        Self { message, due, settings }
    }

    fn policy(&self) -> &AsyncPolicy {
        &self.settings.async_calls
    }

    fn tried(&self, now: UnixMillis) -> Tried {
        let (id, attempts, due) = (self.message.id, self.message.deliveries, self.due);
        Tried { id, attempts, due, now }
    }
}

/// What came of a call that ran, or was refused.
struct Judged {
    found: Found,
    attempt: Attempt,
    then: Then,
}

enum Then {
    Succeeded(Bytes),
    Not(Verdict),
}

/// Runs one leased message and settles it.
pub(super) async fn run(shared: &Arc<Shared>, message: Leased) -> Found {
    let (case, judged) = match unpack(&message) {
        None => {
            let case = Case::new(message, None, Arc::default());
            let judged = unreadable(shared, &case);
            (case, judged)
        }
        Some(queued) => {
            let case = Case::new(message, queued.due, settings(shared, &queued));
            if case.message.deliveries > case.policy().attempts() {
                let judged = exhausted(shared, &case);
                return over(shared, &case, judged).await;
            }
            let kept = keep_lease(shared, &case.message);
            let running = shared.watched.run(case.message.id);
            let judged = tokio::select! {
                judged = judge(shared, queued, &case) => judged,
                // Somebody else has the message now and settles it.
                () = kept => return Found::Room,
                () = running.cancelled() => return Found::Room,
            };
            drop(running);
            (case, judged)
        }
    };
    over(shared, &case, judged).await
}

/// Settles a message.
async fn over(shared: &Shared, case: &Case, judged: Judged) -> Found {
    let found = judged.found;
    if let Err(error) = settle(shared, case, judged).await {
        // The lease expires and the call runs again: at least once.
        tracing::warn!(request = %case.message.id, %error, "cannot settle a queued call");
    }
    found
}

/// What a function says, or the defaults if there is none; of a chunk of a map, what the map says.
fn settings(shared: &Shared, queued: &Queued) -> Arc<FunctionSettings> {
    match queued.chunk {
        Some(rules) => {
            let async_calls = rules.policy();
            Arc::new(FunctionSettings { async_calls, ..FunctionSettings::default() })
        }
        None => shared.routes.settings(&queued.call.target.key).unwrap_or_default(),
    }
}

async fn settle(shared: &Shared, case: &Case, judged: Judged) -> model::Result<()> {
    let (id, token, mut attempt) = (case.message.id, case.message.token, judged.attempt);
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
            let keep = case.policy().keep_dead();
            // What ran has a version.
            let (note, counted) = (Some(attempt.note()), attempt.version.is_some());
            End { as_what: Ended::Dead, note, result: None, keep, counted }
        }
        Then::Succeeded(body) => {
            let kept = body.len() <= RESULT_BYTES;
            if !kept {
                attempt.message =
                    Some(format!("the answer of {} bytes is longer than what is kept", body.len()));
            }
            let keep = case.policy().keep_result();
            let (note, result) = (Some(attempt.note()), kept.then_some(body));
            End { as_what: Ended::Succeeded, note, result, keep, counted: true }
        }
    };
    match shared.queue.end(id, token, end.clone()).await {
        // That it ended is worth more than what it answered.
        Err(e) if e.code() == Code::StorageFull && end.result.is_some() => {
            tracing::warn!(request = %id, "the disk is full: the answer of a call is not kept");
            shared.queue.end(id, token, End { result: None, ..end }).await?;
        }
        ended => ended?,
    }
    shared.watched.ended(id);
    Ok(())
}

fn unreadable(shared: &Shared, case: &Case) -> Judged {
    let why = "the queued message cannot be read";
    let attempt = refusal(shared, case, "unreadable", why);
    Judged { found: Found::Room, attempt, then: Then::Not(Verdict::Dead(why.into())) }
}

/// Runs the call.
async fn judge(shared: &Arc<Shared>, queued: Queued, case: &Case) -> Judged {
    let Queued { call, parameters, .. } = queued;
    let accepted = shared.clock.instant();
    if let Some(why) = case.tried(shared.clock.now()).too_old(case.policy()) {
        let mut attempt = refusal(shared, case, "too-old", "it was not run");
        // The attempt that would be the next one is none.
        attempt.attempt = attempt.attempt.saturating_sub(1);
        return Judged { found: Found::Room, attempt, then: Then::Not(Verdict::Dead(why)) };
    }
    let (routes, asked) = (&shared.routes, Asked::of(&call, &parameters));
    let led = async { routes.pool(asked, routes.lead(asked)?).await };
    let led = match led.await {
        Ok(led) => led,
        Err(e) if e.code() == Code::NotFound => {
            let attempt = refusal(shared, case, e.code().as_str(), e.message());
            let then = Then::Not(Verdict::Dead("it has nowhere to run".into()));
            return Judged { found: Found::Room, attempt, then };
        }
        Err(e) => return refused(shared, case, &e),
    };
    match serve(shared, led, call, case.message.deliveries, accepted).await {
        Ok(done) => completed(shared, case, done),
        Err(e) => refused(shared, case, &e),
    }
}

fn completed(shared: &Shared, case: &Case, done: Completed) -> Judged {
    let now = shared.clock.now();
    let attempt = Attempt {
        at: now,
        attempt: case.message.deliveries,
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
    let then = match done.outcome.result {
        Ok(body) => Then::Succeeded(body),
        Err(f) => Then::Not(retry::after_failure(case.policy(), case.tried(now), f.kind.as_str())),
    };
    Judged { found, attempt, then }
}

/// The message in a function's error.
fn said(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        error_message: String,
    }
    serde_json::from_slice(payload).ok().map(|Said { error_message }| error_message)
}

/// A start takes its time and says nothing of a crowd.
fn found(timings: &Timings) -> Found {
    if !timings.cold && timings.queue_us > CROWDED_US { Found::Crowd } else { Found::Room }
}

fn refusal(shared: &Shared, case: &Case, outcome: &str, why: &str) -> Attempt {
    Attempt {
        at: shared.clock.now(),
        attempt: case.message.deliveries,
        version: None,
        duration_ms: None,
        outcome: outcome.to_owned(),
        message: Some(why.to_owned()),
    }
}

fn refused(shared: &Shared, case: &Case, error: &Error) -> Judged {
    let verdict = retry::after_refusal(case.policy(), case.tried(shared.clock.now()));
    let attempt = refusal(shared, case, error.code().as_str(), error.message());
    Judged { found: Found::Refusal, attempt, then: Then::Not(verdict) }
}

/// The attempt that a killed daemon was at; none if it was about to give the call up.
pub(super) fn cut(most: u32, at: UnixMillis, attempt: u32) -> Option<Attempt> {
    (attempt <= most).then(|| Attempt {
        at,
        attempt,
        version: None,
        duration_ms: None,
        outcome: "cut".into(),
        message: Some("the daemon ended before the attempt did".into()),
    })
}

/// Its last attempt was cut. It may have done what it was for, and it may be what ends the daemon: it does not run again by itself.
fn exhausted(shared: &Shared, case: &Case) -> Judged {
    let (attempts, most) = (case.message.deliveries - 1, case.policy().attempts());
    let why = match attempts == most {
        true => format!("{attempts} attempts, and nobody knows what came of the last"),
        false => format!("{attempts} attempts, and at most {most} are wanted by now"),
    };
    let attempt = Attempt { attempt: attempts, ..refusal(shared, case, "given-up", &why) };
    Judged { found: Found::Room, attempt, then: Then::Not(Verdict::Dead("given up".into())) }
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
