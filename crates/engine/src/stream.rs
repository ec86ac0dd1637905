//! Answers that come in pieces, from the instance to a caller who takes them as they come ([`serve_in_pieces`]).
//!
//! The caller learns of the answer when it begins; a task of the engine stays with the instance until the call is over, whether the caller does or not.
//! Whatever judges calls (meter, shift, shadow) does so then.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use model::Result;
use model::ids::{Qualifier, RequestId, VersionRef};
use model::invocation::{Call, Completed, ErrorCount, Timings};
use model::limits;
use model::stream::{Part, StreamEnd, Taker};
use tokio::sync::mpsc::{self, OwnedPermit, Sender};

use crate::Shared;
use crate::attempt::{Done, Tried, begin, count, judge, set_out};
use crate::pool::{Lent, Pool};
use crate::route::Lead;
use crate::shadow::{Copied, SHADOW_WHOLE_BYTES};

/// What the engine answers to a call whose caller can take pieces.
#[derive(Debug)]
pub enum Reply {
    /// The call is over.
    Whole(Completed),
    /// The answer has begun.
    Stream(Box<Stream>),
}

/// An answer that has begun. Dropped, it changes nothing for the function: what it writes is dropped as well.
#[derive(Debug)]
pub struct Stream {
    /// The call's id.
    pub id: RequestId,
    /// The version that runs.
    pub version: Qualifier,
    /// What the function said before the pieces: JSON, not checked.
    pub prelude: Bytes,
    /// Where the time went until the answer began.
    pub timings: Timings,
    /// Where whoever reads the prelude counts an error that stands in it, once the stream has ended without one that is counted already. `None` if nobody
    /// watches.
    pub errors: Option<ErrorCount>,
    /// The pieces, at most `limits::STREAM_PIECES` ahead, and the end. As long as they are not taken the function waits.
    pub parts: mpsc::Receiver<Part>,
}

/// An attempt whose answer has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) done: Done,
    pub(crate) lent: Lent,
    pub(crate) timings: Timings,
    pub(crate) prelude: Bytes,
    pub(crate) run_us: u64,
}

impl Begun {
    /// Stays with the instance until the call is over. Answers with how long the answer was, too.
    pub(crate) async fn run(self, shared: &Shared, taker: Taker<'_>) -> (Completed, u64) {
        let Self { done, mut lent, timings, .. } = self;
        let StreamEnd { outcome, bytes } = done.pool.stream(&mut lent, taker).await;
        done.pool.release(lent);
        let kept = outcome.result.as_ref().map_or(0, Bytes::len) as u64;
        (done.with(shared, outcome, timings, bytes.saturating_sub(kept)), bytes)
    }
}

/// Runs `call` once, as [`crate::attempt::serve`] does, for a caller who takes pieces.
pub(crate) async fn serve_in_pieces(
    shared: &Arc<Shared>,
    (lead, pool): (Lead, Arc<Pool>),
    mut call: Call,
    accepted: Instant,
) -> Result<Reply> {
    let copied = set_out(shared, &lead, &mut call, 1);
    let mut result = match begin(shared, &lead, pool, call, 1, accepted).await {
        Ok(Tried::Streams(begun)) => return Ok(follow(shared, begun, lead, copied)),
        Ok(Tried::Over(completed)) => Ok(completed),
        Err(error) => Err(error),
    };
    judge(&lead, copied, &mut result);
    result.map(Reply::Whole)
}

/// Leaves the rest of a call to a task, and gives the caller the other end.
fn follow(shared: &Arc<Shared>, begun: Box<Begun>, lead: Lead, copied: Option<Copied>) -> Reply {
    // One more than pieces: the end has its place from the beginning, so that nobody waits with it.
    let (sender, parts) = mpsc::channel(limits::STREAM_PIECES + 1);
    let counters = lead.alias.as_ref().and_then(|alias| alias.shift.as_ref());
    let stream = Stream {
        id: begun.done.id,
        version: begun.done.pool.version.label(),
        prelude: begun.prelude.clone(),
        timings: begun.done.timings(shared, begun.run_us, begun.timings),
        errors: counters.and_then(|(_, counters)| counters.errors_of(lead.version)),
        parts,
    };
    let rest = Rest { shared: Arc::clone(shared), lead, copied, pieces: sender.clone() };
    if let Ok(end) = sender.try_reserve_owned() {
        drop(shared.tasks.spawn("stream", rest.run(begun, end)));
    }
    Reply::Stream(Box::new(stream))
}

/// What is left of a call after its answer has begun.
#[derive(Debug)]
struct Rest {
    shared: Arc<Shared>,
    lead: Lead,
    copied: Option<Copied>,
    pieces: Sender<Part>,
}

impl Rest {
    async fn run(self, begun: Box<Begun>, end: OwnedPermit<Part>) {
        let Self { shared, lead, copied, pieces } = self;
        // What is compared is held, but no more of it than pairs hold of any answer.
        let keep_bytes = if copied.is_some() { SHADOW_WHOLE_BYTES } else { 0 };
        let taker = Taker::Caller { pieces: &pieces, keep_bytes };
        let (completed, bytes) = begun.run(&shared, taker).await;
        let how = completed.outcome.result.as_ref().map(drop).map_err(Clone::clone);
        let mut result = Ok(completed);
        count(&lead, &mut result);
        if let Some(copied) = copied {
            compare(copied, lead.version, &result, bytes);
        }
        // Whoever called may be gone.
        drop(end.send(Part::End(how)));
    }
}

/// An answer that was kept whole can be compared; the copy of any other is counted as not made.
fn compare(copied: Copied, version: VersionRef, result: &Result<Completed>, bytes: u64) {
    if bytes <= SHADOW_WHOLE_BYTES as u64 {
        copied.answered(version, result);
    } else {
        copied.not_comparable();
    }
}
