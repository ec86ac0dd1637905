//! One attempt, as straight-line code: pool, instance, outcome, meter. [`serve`] is the attempt at a call, with what an alias wants of it besides. An answer
//! that comes in pieces is handed on by [`crate::stream`], or collected here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Result;
use model::error::{Code, Error};
use model::ids::RequestId;
use model::invocation::{Call, Completed, Invocation, Outcome, Timings};
use model::ports::{Turn, UsageSums};
use model::stream::Taker;

use crate::pool::{Grant, Lent, Moved, Pool, Refused, Stay, stopping};
use crate::route::Lead;
use crate::shadow::Copied;
use crate::stream::Begun;
use crate::{Shared, shadow};

/// Runs `call` once, where `lead` leads: counted if its alias shifts, copied if that has a shadow.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    (lead, pool): (Lead, Arc<Pool>),
    mut call: Call,
    number: u32,
    accepted: Instant,
) -> Result<Completed> {
    let copied = set_out(shared, &lead, &mut call, number);
    let mut result = attempt(shared, &lead, pool, call, number, accepted).await;
    judge(&lead, copied, &mut result);
    result
}

/// Tells a call the alias that it came by, and copies it if that has a shadow.
pub(crate) fn set_out(
    shared: &Arc<Shared>,
    lead: &Lead,
    call: &mut Call,
    number: u32,
) -> Option<Copied> {
    let alias = lead.alias.as_ref()?;
    call.context.arn = Some(alias.arn.clone());
    // An attempt that is a repetition would be compared with the same answer again.
    if number == 1 { shadow::copy(shared, lead, call) } else { None }
}

/// What an alias wants of a call that is over: it is counted if the alias shifts, and compared if it was copied.
pub(crate) fn judge(lead: &Lead, copied: Option<Copied>, result: &mut Result<Completed>) {
    count(lead, result);
    if let Some(copied) = copied {
        copied.answered(lead.version, result);
    }
}

/// Counts a call that is over if its alias shifts.
pub(crate) fn count(lead: &Lead, result: &mut Result<Completed>) {
    if let Some((_, counters)) = lead.alias.as_ref().and_then(|alias| alias.shift.as_ref()) {
        counters.count(lead.version, result);
    }
}

/// Runs `call` once, on `pool` where `lead` leads, or on the one that came after it. `accepted` is when the call came in; its wait for an instance counts
/// from there. Pieces are collected.
pub(crate) async fn attempt(
    shared: &Shared,
    lead: &Lead,
    pool: Arc<Pool>,
    call: Call,
    number: u32,
    accepted: Instant,
) -> Result<Completed> {
    match begin(shared, lead, pool, call, number, accepted).await? {
        Tried::Over(completed) => Ok(completed),
        Tried::Streams(begun) => {
            let prelude = Some(Box::new(begun.prelude.clone()));
            let (completed, _) = begun.run(shared, Taker::Whole).await;
            Ok(Completed { prelude, ..completed })
        }
    }
}

/// How far an attempt comes without anybody who takes pieces.
#[derive(Debug)]
pub(crate) enum Tried {
    /// To its end.
    Over(Completed),
    /// To the first pieces of its answer.
    Streams(Box<Begun>),
}

/// Runs `call` once, to its end or until its answer comes in pieces. One that came too late for an instance is handed to another, once.
pub(crate) async fn begin(
    shared: &Shared,
    lead: &Lead,
    mut pool: Arc<Pool>,
    call: Call,
    number: u32,
    accepted: Instant,
) -> Result<Tried> {
    let (id, bytes_in) = (call.id, call.payload.len());
    let mut invocation = Invocation {
        id,
        attempt: number,
        payload: call.payload,
        timeout: timeout(&pool),
        context: call.context,
    };
    let deadline = accepted + shared.config.queue_wait;
    let mut again = true;
    loop {
        let grant = lend(shared, lead, &mut pool, invocation, deadline).await?;
        let done = Done { pool: Arc::clone(&pool), id, bytes_in, accepted };
        let mut lent = match grant {
            Ok(lent) => lent,
            Err(why) => return refused(shared, done, why),
        };
        let thaw_us = done.pool.thaw_us(&mut lent);
        let timings = Timings { thaw_us, ..started(&lent) };
        let outcome = match done.pool.outcome(&mut lent).await {
            Turn::Over(outcome) => outcome,
            Turn::Streams { prelude, run_us } => {
                let begun = Begun { done, lent, timings, prelude, run_us };
                return Ok(Tried::Streams(Box::new(begun)));
            }
        };
        let unbegun = match outcome.result {
            Err(_) if again && !lent.fresh => lent.instance.unbegun(),
            _ => None,
        };
        done.pool.release(lent);
        match unbegun {
            Some(unbegun) => (invocation, again) = (unbegun, false),
            // What was ended by us is no failure of the function.
            None if outcome.result.is_err() && shared.is_cut_off() => return Err(stopping()),
            None => return Ok(Tried::Over(done.with(shared, outcome, timings, 0))),
        }
    }
}

/// An instance for a call: of `pool`, or of the one that came after it where `lead` leads.
async fn lend(
    shared: &Shared,
    lead: &Lead,
    pool: &mut Arc<Pool>,
    invocation: Invocation,
    deadline: Instant,
) -> Result<Grant> {
    takes_body(pool, &invocation)?;
    let mut stay = Stay::Free;
    let mut grant = pool.acquire(invocation, deadline, stay).await;
    while let Err(Refused::Moved(Moved { mut invocation, to })) = grant {
        let next = match to {
            Some(relief) => {
                stay = Stay::Relieved;
                Some(relief)
            }
            None => shared.routes.moved(lead, pool).await?,
        };
        match next {
            Some(next) => *pool = next,
            None => stay = Stay::Here,
        }
        takes_body(pool, &invocation)?;
        invocation.timeout = timeout(pool);
        grant = pool.acquire(*invocation, deadline, stay).await;
    }
    Ok(grant)
}

/// What becomes of a call that no instance took.
fn refused(shared: &Shared, done: Done, why: Refused) -> Result<Tried> {
    match why {
        Refused::Function(failure) => {
            let outcome =
                Outcome { result: Err(failure), run_us: 0, busy_us: None, memory_peak_bytes: None };
            let timings = Timings { cold: true, ..Timings::default() };
            Ok(Tried::Over(done.with(shared, outcome, timings, 0)))
        }
        Refused::Moved(_) => Err(stopping()),
        Refused::Error(error) => {
            if error.code() == Code::Throttled {
                done.pool.meter.add(&UsageSums { throttles: 1, ..UsageSums::default() });
            }
            Err(error)
        }
    }
}

/// Refuses a call whose body comes in pieces on a version that takes none: nothing of the body has been read.
fn takes_body(pool: &Pool, invocation: &Invocation) -> Result<()> {
    if invocation.context.body.is_none() || pool.version.config.takes_body_streams() {
        return Ok(());
    }
    let message = "the function changed while the request came in";
    Err(Error::platform(Code::Unavailable, message).retry_after(Duration::ZERO))
}

/// How long a call may run.
fn timeout(pool: &Pool) -> Duration {
    Duration::from_millis(u64::from(pool.version.config.timeout_ms))
}

/// Timings of the start that the call waited for.
fn started(lent: &Lent) -> Timings {
    if !lent.fresh {
        return Timings::default();
    }
    let start = lent.instance.start_timings();
    Timings {
        cold: true,
        start: Some(start.path),
        sandbox_us: start.sandbox_us,
        runtime_us: start.runtime_us,
        code_us: start.code_us,
        ..Timings::default()
    }
}

/// What is known of an attempt before its outcome.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) pool: Arc<Pool>,
    pub(crate) id: RequestId,
    bytes_in: usize,
    accepted: Instant,
}

impl Done {
    /// Where the time went, of a call that ran so long and has an answer now.
    pub(crate) fn timings(&self, shared: &Shared, run_us: u64, mut timings: Timings) -> Timings {
        timings.handler_us = run_us;
        timings.total_us = micros(shared.clock.instant() - self.accepted);
        let start = timings.sandbox_us + timings.runtime_us + timings.code_us;
        let spent = start + timings.thaw_us + run_us;
        timings.queue_us = timings.total_us.saturating_sub(spent);
        timings
    }

    /// Meters the attempt and words the answer. `streamed`: bytes of it that the outcome does not hold.
    pub(crate) fn with(
        &self,
        shared: &Shared,
        outcome: Outcome,
        timings: Timings,
        streamed: u64,
    ) -> Completed {
        let version = &self.pool.version;
        let timings = self.timings(shared, outcome.run_us, timings);
        let duration_ms = outcome.run_us.div_ceil(1000);
        let bytes_out = match &outcome.result {
            Ok(body) => body.len(),
            Err(failure) => {
                let kind = failure.kind.as_str();
                tracing::debug!(function = %version.key, request = %self.id, kind, "function failed");
                failure.payload.len()
            }
        };
        self.pool.meter.add(&UsageSums {
            requests: 1,
            failures: u64::from(outcome.result.is_err()),
            cold_starts: u64::from(timings.cold),
            throttles: 0,
            duration_ms,
            memory_mb_ms: duration_ms * u64::from(version.config.memory_mb),
            bytes_in: self.bytes_in as u64,
            bytes_out: bytes_out as u64 + streamed,
        });
        Completed {
            id: self.id,
            version: version.label(),
            outcome,
            timings,
            errors: None,
            prelude: None,
        }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
