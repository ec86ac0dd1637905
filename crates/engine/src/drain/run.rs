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

use super::destination::{self, OnEnd, webhook_policy};
use super::envelope::{Queued, unpack};
use super::lanes::Found;
use super::{prelude, webhook};
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
    /// What a caller is told who waits.
    pub(super) answer: model::Result<Completed>,
}

pub(super) enum Then {
    /// With this answer, and what the function said before it to a caller who waits.
    Succeeded(Bytes, Option<Bytes>),
    Not(Verdict),
    /// The function failed, and that is the result.
    Failed(Bytes),
    /// It is as if it had never been there.
    Withdrawn,
}

/// How a message went, and what its caller is told: nothing where somebody else has the message now, or it was called off.
type Went = (Found, Option<model::Result<Completed>>);

/// Runs one leased message and settles it. `now`: its caller waits here, and nobody took it up before.
pub(super) async fn run(shared: &Arc<Shared>, message: Leased, now: bool) -> Went {
    let (case, mut judged) = match unpack(&message) {
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
                () = kept => return (Found::Room, None),
                () = running.cancelled() => return (Found::Room, None),
            };
            drop(running);
            (case, judged)
        }
    };
    if now && judged.answer.as_ref().is_err_and(never_ran) {
        judged.then = Then::Withdrawn;
    }
    over(shared, &case, judged).await
}

/// Whether a call was refused before any of it reached the function.
fn never_ran(error: &Error) -> bool {
    matches!(error.code(), Code::Throttled | Code::NotFound)
}

/// Settles a message.
async fn over(shared: &Shared, case: &Case, judged: Judged) -> Went {
    let Judged { found, mut attempt, then, answer } = judged;
    let told = destination::tell(shared, case, &mut attempt, &then, &answer).await;
    if let Err(error) = told {
        tracing::warn!(request = %case.message.id, %error, "cannot tell of the end of a queued call");
        return (found, Some(Err(error)));
    }
    if let Err(error) = settle(shared, case, attempt, then).await {
        // The lease expires and the call runs again: at least once.
        tracing::warn!(request = %case.message.id, %error, "cannot settle a queued call");
        return (found, Some(Err(error)));
    }
    (found, Some(answer))
}

async fn settle(
    shared: &Shared,
    case: &Case,
    mut attempt: Attempt,
    then: Then,
) -> model::Result<()> {
    let (id, token) = (case.message.id, case.message.token);
    let end = match then {
        Then::Withdrawn => {
            shared.queue.withdraw(id, token).await?;
            shared.watched.ended(id);
            return Ok(());
        }
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
        Then::Failed(error) => {
            let (note, keep) = (Some(attempt.note()), case.policy().keep_dead());
            let result = (error.len() <= RESULT_BYTES).then_some(error);
            End { as_what: Ended::Dead, note, result, keep, counted: true }
        }
        Then::Succeeded(body, said) => {
            let note = prelude::note(&attempt, said.as_ref());
            let kept = body.len() <= RESULT_BYTES && note.is_some();
            if !kept {
                attempt.message =
                    Some(format!("the answer of {} bytes is longer than what is kept", body.len()));
            }
            let keep = case.policy().keep_result();
            let note = note.filter(|_| kept).or_else(|| Some(attempt.note()));
            let result = kept.then_some(body);
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
    dead(attempt, why.into(), Error::internal(why))
}

/// Given up, for this reason. A caller who waits is told `error`.
fn dead(attempt: Attempt, why: Dead, error: Error) -> Judged {
    let then = Then::Not(Verdict::Dead(why));
    Judged { found: Found::Room, attempt, then, answer: Err(error) }
}

/// Runs the call.
async fn judge(shared: &Arc<Shared>, queued: Queued, case: &Case) -> Judged {
    if let Some(on) = case.webhook {
        return webhook::deliver(shared, queued, on, case).await;
    }
    let Queued { call, parameters, awaited, .. } = queued;
    let accepted = shared.clock.instant();
    if let Some(why) = case.tried(shared.clock.now()).too_old(case.policy()) {
        let mut attempt = refusal(shared, case, "too-old", "it was not run");
        // The attempt that would be the next one is none.
        attempt.attempt = attempt.attempt.saturating_sub(1);
        return dead(attempt, why, given_up());
    }
    let (routes, asked) = (&shared.routes, Asked::of(&call, &parameters));
    let led = async { routes.pool(asked, routes.lead(asked)?).await };
    let led = match led.await {
        Ok(led) => led,
        Err(e) if e.code() == Code::NotFound => {
            let attempt = refusal(shared, case, e.code().as_str(), e.message());
            return dead(attempt, "it has nowhere to run".into(), e);
        }
        Err(e) => return refused(shared, case, e),
    };
    match serve(shared, led, call, case.message.deliveries, accepted).await {
        Ok(done) => completed(shared, case, done, awaited),
        Err(e) => refused(shared, case, e),
    }
}

fn completed(shared: &Shared, case: &Case, done: Completed, awaited: bool) -> Judged {
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
    let then = match &done.outcome.result {
        Ok(body) => {
            Then::Succeeded(body.clone(), done.prelude.as_deref().filter(|_| awaited).cloned())
        }
        Err(f) if awaited => Then::Failed(f.payload.clone()),
        Err(f) => Then::Not(retry::after_failure(case.policy(), case.tried(now), f.kind.as_str())),
    };
    Judged { found, attempt, then, answer: Ok(done) }
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
    Attempt::without_run(shared.clock.now(), case.message.deliveries, outcome, Some(why))
}

fn refused(shared: &Shared, case: &Case, error: Error) -> Judged {
    let verdict = retry::after_refusal(case.policy(), case.tried(shared.clock.now()));
    let attempt = refusal(shared, case, error.code().as_str(), error.message());
    Judged { found: Found::Refusal, attempt, then: Then::Not(verdict), answer: Err(error) }
}

/// The attempt that a killed daemon was at; none if it was about to give the call up.
pub(super) fn cut(most: u32, at: UnixMillis, attempt: u32) -> Option<Attempt> {
    let why = "the daemon ended before the attempt did";
    (attempt <= most).then(|| Attempt::without_run(at, attempt, "cut", Some(why)))
}

/// Its last attempt was cut. It may have done what it was for, and it may be what ends the daemon: it does not run again by itself.
fn exhausted(shared: &Shared, case: &Case) -> Judged {
    let (attempts, most) = (case.message.deliveries - 1, case.policy().attempts());
    let why = match attempts == most {
        true => format!("{attempts} attempts, and nobody knows what came of the last"),
        false => format!("{attempts} attempts, and at most {most} are wanted by now"),
    };
    let attempt = Attempt { attempt: attempts, ..refusal(shared, case, "given-up", &why) };
    dead(attempt, Why::Attempts.because("given up"), given_up())
}

/// What a caller would be told who waits for a call that was given up: nobody does, such calls were taken up before.
pub(super) fn given_up() -> Error {
    Error::caller(Code::Conflict, "the call was given up")
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
