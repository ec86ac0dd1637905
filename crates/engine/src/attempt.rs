//! One attempt, as straight-line code: pool, instance, outcome, meter. [`serve`] is the attempt at a call, with what an alias wants of it besides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Result;
use model::error::Code;
use model::ids::RequestId;
use model::invocation::{Call, Completed, Invocation, Outcome, Timings};
use model::ports::UsageSums;

use crate::pool::{Lent, Pool, Refused, stopping};
use crate::route::Lead;
use crate::{Shared, shadow};

/// Runs `call` once, where `lead` leads: counted if its alias shifts, copied if that has a shadow.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    (lead, pool): (Lead, Arc<Pool>),
    mut call: Call,
    number: u32,
    accepted: Instant,
) -> Result<Completed> {
    let Some(alias) = &lead.alias else {
        return attempt(shared, &lead, pool, call, number, accepted).await;
    };
    call.context.arn = Some(alias.arn.clone());
    // An attempt that is a repetition would be compared with the same answer again.
    let copied = if number == 1 { shadow::copy(shared, &lead, &call) } else { None };
    let mut result = attempt(shared, &lead, pool, call, number, accepted).await;
    if let Some((_, counters)) = &alias.shift {
        counters.count(lead.version, &mut result);
    }
    if let Some(copied) = copied {
        copied.answered(lead.version, &result);
    }
    result
}

/// Runs `call` once, on `pool` where `lead` leads, or on the one that came after it. `accepted` is when the call came in; its wait for an instance counts
/// from there.
pub(crate) async fn attempt(
    shared: &Shared,
    lead: &Lead,
    mut pool: Arc<Pool>,
    call: Call,
    number: u32,
    accepted: Instant,
) -> Result<Completed> {
    let (id, bytes_in) = (call.id, call.payload.len());
    let invocation = Invocation {
        id,
        attempt: number,
        payload: call.payload,
        timeout: timeout(&pool),
        context: call.context,
    };
    let deadline = accepted + shared.config.queue_wait;
    let mut grant = pool.acquire(invocation, deadline, false).await;
    while let Err(Refused::Moved(mut invocation)) = grant {
        let next = shared.routes.moved(lead, &pool).await?;
        let stays = next.is_none();
        pool = next.unwrap_or(pool);
        invocation.timeout = timeout(&pool);
        grant = pool.acquire(*invocation, deadline, stays).await;
    }
    let done = Done { shared, pool: &pool, id, bytes_in, accepted };
    let mut lent = match grant {
        Ok(lent) => lent,
        Err(Refused::Function(failure)) => {
            let outcome =
                Outcome { result: Err(failure), run_us: 0, busy_us: None, memory_peak_bytes: None };
            let timings = Timings { cold: true, ..Timings::default() };
            return Ok(done.with(outcome, timings));
        }
        Err(Refused::Moved(_)) => return Err(stopping()),
        Err(Refused::Error(error)) => {
            if error.code() == Code::Throttled {
                pool.meter.add(&UsageSums { throttles: 1, ..UsageSums::default() });
            }
            return Err(error);
        }
    };
    let thaw_us = pool.thaw_us(&mut lent);
    let timings = Timings { thaw_us, ..started(&lent) };
    let outcome = pool.outcome(&mut lent).await;
    pool.release(lent);
    Ok(done.with(outcome, timings))
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
struct Done<'a> {
    shared: &'a Shared,
    pool: &'a Pool,
    id: RequestId,
    bytes_in: usize,
    accepted: Instant,
}

impl Done<'_> {
    /// Meters the attempt and words the answer.
    fn with(&self, outcome: Outcome, mut timings: Timings) -> Completed {
        let version = &self.pool.version;
        timings.handler_us = outcome.run_us;
        timings.total_us = micros(self.shared.clock.instant() - self.accepted);
        let start = timings.sandbox_us + timings.runtime_us + timings.code_us;
        let spent = start + timings.thaw_us + outcome.run_us;
        timings.queue_us = timings.total_us.saturating_sub(spent);
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
            bytes_out: bytes_out as u64,
        });
        Completed { id: self.id, version: version.label(), outcome, timings, errors: None }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
