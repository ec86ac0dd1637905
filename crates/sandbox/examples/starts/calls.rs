//! Calls of a warm instance, one after the other: from the call handed over until its answer is there, without HTTP and without the engine.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::ids::RequestId;
use model::invocation::{CallContext, Invocation};
use model::ports::{Instance, Patience, Turn};
use serde_json::json;

use crate::jailed::{Jailed, Subject};
use crate::{Fallible, nanos};

/// Calls before any is timed: the language compiles what runs often.
pub(crate) const UNTIMED: usize = 3_000;
/// Bytes of the event.
const EVENT_BYTES: usize = 1_024;
/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Prints how long each of `calls` took, and how long this process had a processor for all of them: `{"call_ns": [..], "busy_ns": ..}`.
pub(crate) async fn run(subject: Subject<'_>, cache: &Path, calls: usize) -> Fallible<String> {
    let jailed = Jailed::open(subject, cache).await?;
    let started = jailed.image.start().await;
    let mut instance = started.map_err(|e| format!("the start failed: {e:?}"))?;
    let event = event();
    // As the daemon does it: by a task. What blocks on a future is woken by another thread each time, which no call of the daemon's is.
    #[expect(clippy::disallowed_methods, reason = "the only task, and waited for")]
    let row = tokio::spawn(async move {
        let took = row(&mut *instance, &event, calls).await;
        (instance, took)
    });
    let (instance, took) = row.await?;
    let (took, busy) = took?;
    instance.stop().await;
    jailed.close().await?;
    Ok(json!({ "call_ns": took, "busy_ns": nanos(busy) }).to_string())
}

/// What every call is given.
pub(crate) fn event() -> Bytes {
    let frame = json!({ "pad": "" }).to_string().len();
    Bytes::from(json!({ "pad": "x".repeat(EVENT_BYTES - frame) }).to_string())
}

/// How long each took, in nanoseconds, and all of them of a processor.
async fn row(
    instance: &mut dyn Instance,
    event: &Bytes,
    calls: usize,
) -> Result<(Vec<u64>, Duration), String> {
    for _ in 0..UNTIMED {
        call(instance, event).await?;
    }
    let mut took = Vec::with_capacity(calls);
    let begun = processor_time();
    for _ in 0..calls {
        took.push(nanos(call(instance, event).await?));
    }
    Ok((took, processor_time().saturating_sub(begun)))
}

/// What this process has had so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().unwrap_or_default()
}

pub(crate) async fn call(instance: &mut dyn Instance, event: &Bytes) -> Result<Duration, String> {
    let invocation = Invocation {
        id: RequestId::generate(),
        attempt: 1,
        payload: event.clone(),
        timeout: TIMEOUT,
        context: CallContext::default(),
    };
    let begun = Instant::now();
    if !instance.hand(&invocation) {
        return Err("the instance took no call".into());
    }
    let returned = &mut |_: &[RequestId]| {};
    match instance.outcome(Patience { limit: TIMEOUT, returned }).await {
        Turn::Over(outcome) => {
            let took = begun.elapsed();
            outcome.result.map_err(|failure| format!("the call failed: {failure:?}"))?;
            Ok(took)
        }
        Turn::Streams { .. } => Err("the answer came in pieces".into()),
    }
}
