//! Many dead calls at once: redriven or forgotten, some in each step.
//!
//! A step keeps nothing. Which calls it is about follows from what they are: dead, and since before a certain time. So whoever goes on after the daemon was killed, or
//! after he himself was, goes on with those that are left.

use futures_util::stream;
use futures_util::{FutureExt as _, StreamExt as _};
use model::Result;
use model::calls::Attempt;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::RequestId;
use model::ports::{Ended, Lane, ListedStanding, Listing, Standing, Summary};

use crate::Engine;

/// Calls that are looked at in one go.
const PAGE: usize = 256;
/// Most calls that one step looks at.
const LOOKS_MAX: usize = 10_000;
/// Changes under way at once: they share the store's commits.
const AT_ONCE: usize = 64;

/// Which dead calls.
#[derive(Clone, Debug)]
pub struct DeadCalls {
    /// Of this lane only.
    pub lane: Option<Lane>,
    /// Of lanes whose name begins so.
    pub lane_prefix: String,
    /// Accepted at this time or later,
    pub since: Option<UnixMillis>,
    /// and before this one.
    pub until: Option<UnixMillis>,
    /// Whose last attempt came out so: [`Attempt::outcome`].
    pub outcome: Option<String>,
    /// Dead since before this time: so that what dies again meanwhile is not taken twice.
    pub died_before: UnixMillis,
    /// Those behind this call.
    pub after: Option<RequestId>,
    /// At most so many are changed.
    pub limit: usize,
}

/// What becomes of dead calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// They are accepted once more.
    Redrive,
    /// They are forgotten.
    Purge,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Calls that it changed.
    pub done: usize,
    /// Whether there may be more.
    pub more: bool,
    /// Behind which call the next step begins; none: with the first.
    pub after: Option<RequestId>,
}

impl Engine {
    /// One step over dead calls, those accepted first at the front.
    ///
    /// Errors: `not-found` where `after` is not known any more; `queue-full` where there is no room for the first of them.
    pub async fn sweep_dead(&self, which: &DeadCalls, what: Sweep) -> Result<Swept> {
        let mut swept = Swept { after: which.after, ..Swept::default() };
        let mut looks = 0;
        while swept.done < which.limit && looks < LOOKS_MAX {
            let asked = PAGE.min(which.limit - swept.done);
            let page = self.dead_page(which, swept.after, asked).await?;
            looks += page.len();
            swept.more = page.len() == asked;
            if let Some(error) = self.sweep_page(which, what, &page, &mut swept).await? {
                // What was done is told first; who asks again hears the error.
                swept.more = true;
                return if swept.done > 0 { Ok(swept) } else { Err(error) };
            }
            if !swept.more {
                break;
            }
        }
        Ok(swept)
    }

    async fn dead_page(
        &self,
        which: &DeadCalls,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<Summary>> {
        let listing = Listing {
            lane: which.lane.clone(),
            lane_prefix: which.lane_prefix.clone(),
            standing: Some(ListedStanding::Ended(Ended::Dead)),
            since: which.since,
            until: which.until,
            oldest_first: true,
            after,
            limit,
        };
        self.shared.queue.list(listing).await
    }

    /// Changes what is meant of a page, up to the first error of all that would follow; returns that.
    async fn sweep_page(
        &self,
        which: &DeadCalls,
        what: Sweep,
        page: &[Summary],
        swept: &mut Swept,
    ) -> Result<Option<Error>> {
        let steps: Vec<_> =
            page.iter().map(|call| self.change_dead(which, what, call).boxed()).collect();
        let mut steps = stream::iter(steps).buffered(AT_ONCE).zip(stream::iter(page));
        let mut failed = None;
        while let Some((done, call)) = steps.next().await {
            match done {
                // Somebody else was faster.
                Err(e) if matches!(e.code(), Code::NotFound | Code::Conflict) => {}
                Err(e) => failed = failed.or(Some(e)),
                Ok(done) => {
                    swept.done += usize::from(done);
                    // What is forgotten is nothing to go on from; behind a failure lies what is to be tried again.
                    if failed.is_none() && !(done && what == Sweep::Purge) {
                        swept.after = Some(call.id);
                    }
                }
            }
        }
        Ok(failed)
    }

    /// Changes one; says whether it was meant, and there.
    async fn change_dead(&self, which: &DeadCalls, what: Sweep, call: &Summary) -> Result<bool> {
        if !self.is_meant(which, call).await? {
            return Ok(false);
        }
        match what {
            Sweep::Redrive => self.redrive_call(call).await.map(|()| true),
            Sweep::Purge => self.forget_call(call.id).await,
        }
    }

    async fn is_meant(&self, which: &DeadCalls, call: &Summary) -> Result<bool> {
        let Standing::Ended(Ended::Dead, at) = call.standing else { return Ok(false) };
        // What is no call of a function, for instance a chunk of a map, is not for its callers to change.
        if at >= which.died_before || call.lane.function().is_none() {
            return Ok(false);
        }
        let Some(outcome) = &which.outcome else { return Ok(true) };
        let record = self.shared.queue.find(call.id).await?;
        let last = record.and_then(|record| Attempt::read(record.notes.last()?));
        Ok(last.is_some_and(|attempt| attempt.outcome == *outcome))
    }
}
