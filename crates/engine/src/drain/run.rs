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

use super::destination::{self, Ending, OnEnd, webhook_policy};
use super::envelope::{Queued, unpack};
use super::lanes::Found;
use super::webhook;
use crate::Shared;
use crate::attempt::serve;
use crate::retry::{self, Dead, Tried, Verdict, Why};
use crate::route::Asked;

/// A call that waited longer than this for an instance that was there already found a crowd.
const CROWDED_US: u64 = 10_000;

/// A leased message, and what its function says about asynchronous calls.
pub(super) struct Case {
    pub(super) message: Leased,
    /// When it was due first, or brought back to life.
    due: UnixMillis,
    /// Of what is sent to a webhook: of which end it tells.
    webhook: Option<OnEnd>,
    settings: Arc<FunctionSettings>,
}

impl Case {
    fn new(shared: &Shared, message: Leased, queued: Option<&Queued>) -> Self {
        let (due, webhook) = queued.map_or((None, None), |q| (q.due, q.webhook));
        let due = due.unwrap_or(message.enqueued_at).max(message.enqueued_at);
        let settings = queued.and_then(|q| shared.routes.settings(&q.call.target.key));
        let mut settings = settings.unwrap_or_default();
        // What a map says of its chunk, and what holds for webhooks.
        let chunk = queued.and_then(|q| q.chunk).map(|rules| rules.policy());
        let own = chunk.or_else(|| webhook.map(|_| webhook_policy(&settings.async_calls)));
        if let Some(async_calls) = own {
            settings = Arc::new(FunctionSettings { async_calls, ..FunctionSettings::default() });
        }
        Self { message, due, webhook, settings }
    }

    pub(super) fn policy(&self) -> &AsyncPolicy {
        &self.settings.async_calls
    }

    pub(super) fn tried(&self, now: UnixMillis) -> Tried {
        let (id, attempts, due) = (self.message.id, self.message.deliveries, self.due);
        Tried { id, attempts, due, now }
    }
}

/// What came of a call that ran, or was refused.
pub(super) struct Judged {
    pub(super) found: Found,
    pub(super) attempt: Attempt,
    pub(super) then: Then,
    /// The error that the function ended with.
    pub(super) error: Option<Bytes>,
}

impl Judged {
    pub(super) fn new(found: Found, attempt: Attempt, then: Then) -> Self {
        Self { found, attempt, then, error: None }
    }
}

pub(super) enum Then {
    Succeeded(Bytes),
    Not(Verdict),
}

/// Runs one leased message and settles it.
pub(super) async fn run(shared: &Arc<Shared>, message: Leased) -> Found {
    let (case, judged) = match unpack(&message) {
        None => {
            let case = Case::new(shared, message, None);
            let judged = unreadable(shared, &case);
            (case, judged)
        }
        Some(queued) => {
            let case = Case::new(shared, message, Some(&queued));
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

async fn settle(shared: &Shared, case: &Case, judged: Judged) -> model::Result<()> {
    let (id, token, mut attempt) = (case.message.id, case.message.token, judged.attempt);
    let told = tell(shared, case, &attempt, &judged.then, judged.error.as_deref()).await;
    if let Err(error) = told {
        // What has run does not run again because the disk is full: its record says that nobody was told.
        if error.code() != Code::StorageFull {
            return Err(error);
        }
        tracing::error!(request = %id, %error, "nobody is told of the end of a call");
        attempt.message = Some(format!("nobody was told of the end: {error}"));
    }
    let end = match judged.then {
        Then::Not(Verdict::Again { delay, counted }) => {
            let again = Again { delay, counted, note: Some(attempt.note()) };
            return shared.queue.again(id, token, again).await;
        }
        Then::Not(Verdict::Dead(Dead { reason, .. })) => {
            attempt.message = Some(match attempt.message {
                Some(said) => format!("{reason}: {said}"),
                None => reason,
            });
            let keep = case.policy().keep_dead();
            // What ran has a version; what was sent took its time.
            let counted = attempt.version.is_some() || attempt.duration_ms.is_some();
            let note = Some(attempt.note());
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

/// Has it told how a call ends, if its function says to whom. Before it ends: a kill in between repeats the end, and finds that it is told already.
async fn tell(
    shared: &Shared,
    case: &Case,
    attempt: &Attempt,
    then: &Then,
    error: Option<&[u8]>,
) -> model::Result<()> {
    let (on, condition, answer) = match then {
        Then::Not(Verdict::Again { .. }) => return Ok(()),
        Then::Not(Verdict::Dead(dead)) => (OnEnd::Failure, dead.why.condition(), error),
        Then::Succeeded(body) => (OnEnd::Success, "Success", Some(&**body)),
    };
    let Some(destination) = on.of(case.policy()) else { return Ok(()) };
    let Some(queued) = unpack(&case.message) else { return Ok(()) };
    let ending = Ending {
        on,
        condition,
        attempts: attempt.attempt,
        version: attempt.version.as_deref(),
        answer,
        at: shared.clock.now(),
        enqueued_at: case.message.enqueued_at,
    };
    let message = destination::message(queued, &ending, destination)?;
    shared.queue.enqueue(vec![message]).await.map(drop)
}

fn unreadable(shared: &Shared, case: &Case) -> Judged {
    let why = "the queued message cannot be read";
    let attempt = refusal(shared, case, "unreadable", why);
    Judged::new(Found::Room, attempt, Then::Not(Verdict::Dead(why.into())))
}

/// Runs the call.
async fn judge(shared: &Arc<Shared>, queued: Queued, case: &Case) -> Judged {
    if let Some(on) = case.webhook {
        return webhook::deliver(shared, queued, on, case).await;
    }
    let Queued { call, parameters, .. } = queued;
    let accepted = shared.clock.instant();
    if let Some(why) = case.tried(shared.clock.now()).too_old(case.policy()) {
        let mut attempt = refusal(shared, case, "too-old", "it was not run");
        // The attempt that would be the next one is none.
        attempt.attempt = attempt.attempt.saturating_sub(1);
        return Judged::new(Found::Room, attempt, Then::Not(Verdict::Dead(why)));
    }
    let (routes, asked) = (&shared.routes, Asked::of(&call, &parameters));
    let led = async { routes.pool(asked, routes.lead(asked)?).await };
    let led = match led.await {
        Ok(led) => led,
        Err(e) if e.code() == Code::NotFound => {
            let attempt = refusal(shared, case, e.code().as_str(), e.message());
            let then = Then::Not(Verdict::Dead("it has nowhere to run".into()));
            return Judged::new(Found::Room, attempt, then);
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
    let (then, error) = match done.outcome.result {
        Ok(body) => (Then::Succeeded(body), None),
        Err(f) => {
            let verdict = retry::after_failure(case.policy(), case.tried(now), f.kind.as_str());
            (Then::Not(verdict), Some(f.payload))
        }
    };
    Judged { found, attempt, then, error }
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

pub(super) fn refusal(shared: &Shared, case: &Case, outcome: &str, why: &str) -> Attempt {
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
    Judged::new(Found::Refusal, attempt, Then::Not(verdict))
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
    let dead = Why::Attempts.because("given up");
    Judged::new(Found::Room, attempt, Then::Not(Verdict::Dead(dead)))
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
