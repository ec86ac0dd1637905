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

/// Prints how long each of `calls` took: `{"call_ns": [..]}`.
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
    let took = took?;
    instance.stop().await;
    jailed.close().await?;
    Ok(json!({ "call_ns": took }).to_string())
}

/// What every call is given.
pub(crate) fn event() -> Bytes {
    let frame = json!({ "pad": "" }).to_string().len();
    Bytes::from(json!({ "pad": "x".repeat(EVENT_BYTES - frame) }).to_string())
}

/// How long each took, in nanoseconds.
async fn row(instance: &mut dyn Instance, event: &Bytes, calls: usize) -> Result<Vec<u64>, String> {
    let mut took = Vec::with_capacity(calls);
    for n in 0..UNTIMED + calls {
        let call = call(instance, event).await?;
        if n >= UNTIMED {
            took.push(nanos(call));
        }
    }
    Ok(took)
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
