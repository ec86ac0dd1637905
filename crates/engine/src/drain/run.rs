//! One leased call: it runs, its lease is kept, it is settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::calls::{Attempt, KEEP_DEAD_SECONDS, KEEP_SECONDS};
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::invocation::{Completed, Timings};
use model::limits;
use model::map::is_of_map;
use model::ports::{Again, End, Ended, Lane, Leased, RESULT_BYTES};
use serde::Deserialize;

use super::envelope::{ChunkRules, Queued, unpack};
use super::lanes::Found;
use crate::Shared;
use crate::attempt::serve;
use crate::retry::{self, Verdict};
use crate::route::Asked;

/// A call that waited longer than this for an instance that was there already found a crowd.
const CROWDED_US: u64 = 10_000;

/// What came of a call that ran, or was refused.
struct Judged {
    found: Found,
    attempt: Attempt,
    then: Then,
    /// Of a chunk of a map.
    chunk: Option<ChunkRules>,
}

enum Then {
    Succeeded(Bytes),
    Not(Verdict),
}

/// Runs one leased message and settles it.
pub(super) async fn run(shared: &Arc<Shared>, message: Leased) -> Found {
    let judged = match unpack(&message) {
        None => {
            let why = "the queued message cannot be read";
            Judged {
                found: Found::Room,
                attempt: refusal(shared, &message, "unreadable", why),
                then: Then::Not(Verdict::Dead(why.into())),
                chunk: None,
            }
        }
        Some(Queued { chunk, .. }) if message.deliveries > attempts(chunk) => {
            exhausted(shared, &message, chunk)
        }
        Some(queued) => {
            let kept = keep_lease(shared, &message);
            let running = shared.watched.run(message.id);
            tokio::select! {
                judged = judge(shared, queued, &message) => judged,
                // Somebody else has the message now and settles it.
                () = kept => return Found::Room,
                () = running.cancelled() => return Found::Room,
            }
        }
    };
    let found = judged.found;
    if let Err(error) = settle(shared, &message, judged).await {
        // The lease expires and the call runs again: at least once.
        tracing::warn!(request = %message.id, %error, "cannot settle a queued call");
    }
    found
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
        Then::Succeeded(body) => {
            let kept = body.len() <= RESULT_BYTES;
            if !kept {
                attempt.message =
                    Some(format!("the answer of {} bytes is longer than what is kept", body.len()));
            }
            let keep = Duration::from_secs(kept_seconds(judged.chunk));
            let (note, result) = (Some(attempt.note()), kept.then_some(body));
            End { as_what: Ended::Succeeded, note, result, keep, counted: true }
        }
    };
    shared.queue.end(id, token, end).await?;
    shared.watched.ended(id);
    Ok(())
}

/// Attempts at a call in all.
fn attempts(chunk: Option<ChunkRules>) -> u32 {
    chunk.map_or(limits::ASYNC_ATTEMPTS, |rules| rules.attempts)
}

/// How long what has succeeded is kept: a map forgets its chunks itself, once it has their results.
fn kept_seconds(chunk: Option<ChunkRules>) -> u64 {
    if chunk.is_some() { KEEP_DEAD_SECONDS } else { KEEP_SECONDS }
}

/// Runs the call.
async fn judge(shared: &Arc<Shared>, queued: Queued, message: &Leased) -> Judged {
    let Queued { call, parameters, chunk } = queued;
    let accepted = shared.clock.instant();
    let (routes, asked) = (&shared.routes, Asked::of(&call, &parameters));
    let led = async { routes.pool(asked, routes.lead(asked)?).await };
    let led = match led.await {
        Ok(led) => led,
        Err(e) if e.code() == Code::NotFound => {
            let attempt = refusal(shared, message, e.code().as_str(), e.message());
            let then = Then::Not(Verdict::Dead("it has nowhere to run".into()));
            return Judged { found: Found::Room, attempt, then, chunk };
        }
        Err(e) => return refused(shared, message, &e, chunk),
    };
    match serve(shared, led, call, message.deliveries, accepted).await {
        Ok(done) => completed(shared, message, done, chunk),
        Err(e) => refused(shared, message, &e, chunk),
    }
}

fn completed(
    shared: &Shared,
    message: &Leased,
    done: Completed,
    chunk: Option<ChunkRules>,
) -> Judged {
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
    let then = match done.outcome.result {
        Ok(body) => Then::Succeeded(body),
        Err(f) => Then::Not(match chunk {
            Some(rules) => {
                retry::after_chunk_failure(message.deliveries, rules.attempts, f.kind.as_str())
            }
            None => retry::after_failure(message.deliveries, f.kind.as_str()),
        }),
    };
    Judged { found, attempt, then, chunk }
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

fn refused(shared: &Shared, message: &Leased, error: &Error, chunk: Option<ChunkRules>) -> Judged {
    let verdict = retry::after_refusal(message.enqueued_at, shared.clock.now());
    let attempt = refusal(shared, message, error.code().as_str(), error.message());
    Judged { found: Found::Refusal, attempt, then: Then::Not(verdict), chunk }
}

/// The attempt that a killed daemon was at; none if it was about to give the call up.
pub(super) fn cut(lane: &Lane, at: UnixMillis, attempt: u32) -> Option<Attempt> {
    let most = if is_of_map(lane) { limits::MAP_ATTEMPTS_MAX } else { limits::ASYNC_ATTEMPTS };
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
fn exhausted(shared: &Shared, message: &Leased, chunk: Option<ChunkRules>) -> Judged {
    let attempts = message.deliveries - 1;
    let why = format!("{attempts} attempts, and nobody knows what came of the last");
    let attempt = Attempt { attempt: attempts, ..refusal(shared, message, "given-up", &why) };
    let then = Then::Not(Verdict::Dead("given up".into()));
    Judged { found: Found::Room, attempt, then, chunk }
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
