//! Runs one stage of a map: a call for each chunk, so many at once, and what came of them gathered in order (`gather`).
//!
//! Nothing here has to be remembered: the calls have ids that follow from the map's, so whoever begins again behind what is gathered finds those
//! that are in the queue already.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Result;
use model::calls::Attempt;
use model::error::Code;
use model::ids::RequestId;
use model::invocation::Call;
use model::limits;
use model::map::{ChunkFailure, Map};
use model::ports::{
    Ended, Enqueued, LIST_MAX, Lane, ListedStanding, Listing, NewMessage, Record, Standing,
};

use super::docs::At;
use super::live::{Live, MapProgress};
use super::segment::one_line;
use super::source::Source;
use super::window::{Slot, Window};
use crate::Shared;
use crate::calls::Follower;
use crate::drain::{ChunkRules, Queued, pack};

/// Calls that are enqueued together: they share a commit.
const ENQUEUE: usize = 64;
/// Bytes of payload that are enqueued together.
const ENQUEUE_BYTES: usize = 8 << 20;
/// How often the calls are looked at though nothing was heard of them: one may end on another node.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longest reason of a failure, in bytes; the rest is left out.
const REASON_BYTES: usize = 500;

/// How a stage ends.
#[derive(Debug)]
pub(super) enum StageEnd {
    /// All chunks have ended, and what came of them is gathered.
    Finished,
    /// More chunks failed than are tolerated, or it cannot go on.
    Failed(String, Vec<ChunkFailure>),
    /// Somebody ended the map.
    Ended,
}

/// A stage under way.
pub(super) struct StageRun<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) at: At,
    live: &'a Live,
    pub(super) map: Map,
    lane: Lane,
    pub(super) window: Window,
    /// The calls of chunks that have not ended.
    open: HashMap<RequestId, u64>,
    follower: Follower<'a>,
    source: Source<'a>,
    tolerated: u64,
    /// No call is accepted before this: the namespace has a quota.
    not_before: Option<Instant>,
}

impl<'a> StageRun<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, live: &'a Live, map: Map) -> Result<Self> {
        let (stage, spec) = (&map.stage, &map.spec);
        let concurrency = usize::try_from(spec.concurrency).unwrap_or(usize::MAX);
        let tolerated = if stage.level == 0 { spec.tolerate.of(stage.chunks) } else { 0 };
        Ok(Self {
            shared,
            at: At::of(&map),
            live,
            lane: map.lane()?,
            window: Window::new(stage.gathered),
            open: HashMap::new(),
            follower: shared.watched.follower(concurrency),
            source: Source::new(shared, stage.source.clone(), stage.gathered),
            tolerated,
            not_before: None,
            map,
        })
    }

    /// Runs it to its end.
    ///
    /// Errors: those of the store and the queue; it may be begun again.
    pub(super) async fn run(mut self) -> Result<StageEnd> {
        loop {
            self.report();
            if let Some(reason) = self.gives_up() {
                return self.give_up(reason).await;
            }
            if let Err(e) = self.fill().await {
                match e.code() {
                    // The function is gone, or the input: to try again is no use.
                    Code::NotFound | Code::StorageUnusable => {
                        return self.give_up(e.message().to_owned()).await;
                    }
                    _ => return Err(e),
                }
            }
            self.report();
            let all_ended = self.window.open() == 0 && self.window.next() == self.map.stage.chunks;
            if self.is_due_to_gather(all_ended) {
                match self.gather().await {
                    Ok(()) => continue,
                    Err(e) if e.code() == Code::Conflict => return Ok(StageEnd::Ended),
                    Err(e) => return Err(e),
                }
            }
            if all_ended {
                return Ok(StageEnd::Finished);
            }
            if self.wait().await? {
                return Ok(StageEnd::Ended);
            }
        }
    }

    /// Why it makes no sense to go on, if so.
    fn gives_up(&self) -> Option<String> {
        if self.map.result_bytes > limits::MAP_RESULT_BYTES {
            return Some(format!(
                "the results have more than {} bytes together",
                limits::MAP_RESULT_BYTES
            ));
        }
        let before = if self.map.stage.level == 0 { self.map.failed } else { 0 };
        let (failed, chunks) = (before + self.window.failed, self.map.stage.chunks);
        if failed <= self.tolerated {
            return None;
        }
        let of = if self.map.stage.level == 0 { "chunks" } else { "calls of the reduce function" };
        Some(format!("{failed} of {chunks} {of} failed: expected at most {} to", self.tolerated))
    }

    /// What has ended is gathered first: it is not run for nothing.
    async fn give_up(mut self, reason: String) -> Result<StageEnd> {
        let failures = self.failures();
        while self.map.stage.level == 0 && self.window.ready() > 0 {
            match self.gather().await {
                Ok(()) => {}
                Err(e) if e.code() == Code::Conflict => return Ok(StageEnd::Ended),
                Err(e) => return Err(e),
            }
        }
        Ok(StageEnd::Failed(reason, failures))
    }

    fn failures(&self) -> Vec<ChunkFailure> {
        let (map, level) = (&self.map, self.map.stage.level);
        let failures = self.window.failures().map(|(chunk, first_item, message)| ChunkFailure {
            chunk,
            first_item,
            call: map.call(level, chunk).to_string(),
            message: message.to_owned(),
        });
        failures.take(limits::MAP_FAILURES).collect()
    }

    /// Enqueues calls while there is room for them.
    async fn fill(&mut self) -> Result<()> {
        let concurrency = usize::try_from(self.map.spec.concurrency).unwrap_or(usize::MAX);
        if self.not_before.is_some_and(|at| self.shared.clock.instant() < at) {
            return Ok(());
        }
        self.not_before = None;
        while self.window.open() < concurrency
            && self.window.next() < self.map.stage.chunks
            && self.window.has_room()
            && self.not_before.is_none()
        {
            let room = (concurrency - self.window.open()).min(ENQUEUE);
            let messages = self.messages(room).await?;
            if messages.is_empty() {
                return Ok(());
            }
            let ids: Vec<_> = messages.iter().map(|message| message.id).collect();
            let answers = self.shared.queue.enqueue(messages).await?;
            for (id, answer) in ids.into_iter().zip(answers) {
                if let Enqueued::Duplicate(_) = answer {
                    self.look(id).await?;
                }
            }
            if self.gives_up().is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next calls, at most so many; each is open from now on.
    async fn messages(&mut self, room: usize) -> Result<Vec<NewMessage>> {
        let (route, _) = self.shared.routes.find(self.map.target())?;
        let (mut messages, mut bytes) = (Vec::with_capacity(room), 0);
        while messages.len() < room
            && bytes < ENQUEUE_BYTES
            && self.window.next() < self.map.stage.chunks
            && self.window.has_room()
        {
            let now = self.shared.clock.instant();
            if let Err(e) = route.namespace().take_call(|| now) {
                self.not_before = Some(now + e.retry_hint().unwrap_or(LOOK_AGAIN));
                break;
            }
            let index = self.window.next();
            let chunk = self.source.next().await?;
            let id = self.map.call(self.map.stage.level, index);
            let call = Call {
                id,
                target: self.map.target().clone(),
                payload: super::event::of_chunk(&self.map, index, &chunk),
                context: self.map.spec.context.clone(),
            };
            let chunk_rules = ChunkRules { attempts: self.map.spec.attempts };
            let payload = pack(Queued { chunk: Some(chunk_rules), ..Queued::of(call) })?;
            bytes += payload.len();
            self.window.push(chunk.first_item, chunk.items);
            self.open.insert(id, index);
            // Before it is in the queue: its end is not missed.
            self.follower.follow(id);
            let (lane, run_at) = (self.lane.clone(), self.shared.clock.now());
            messages.push(NewMessage { id, lane, run_at, key: None, payload });
        }
        Ok(messages)
    }

    /// Waits until something has changed; says whether somebody ended the map.
    async fn wait(&mut self) -> Result<bool> {
        let clock = &self.shared.clock;
        let again = clock.instant() + LOOK_AGAIN;
        let at = self.not_before.map_or(again, |at| at.min(again));
        tokio::select! {
            id = self.follower.next() => self.look(id).await?,
            () = self.live.changed.notified() => {
                let map = self.shared.find_map(&self.at).await?;
                return Ok(map.is_none_or(|map| map.state.has_ended()));
            }
            () = clock.sleep_until(at) => self.look_for_lost().await?,
        }
        Ok(false)
    }

    /// Finds out whether a call has ended, and how.
    async fn look(&mut self, id: RequestId) -> Result<()> {
        let Some(chunk) = self.open.get(&id).copied() else { return Ok(()) };
        let slot = match self.shared.queue.find(id).await? {
            Some(record) => slot_of(&record),
            None => Slot::Failed("its call was forgotten by somebody".into()),
        };
        if slot == Slot::Open {
            // Cancelled and brought back to life, or told too early.
            self.follower.follow(id);
            return Ok(());
        }
        self.follower.leave(id);
        self.open.remove(&id);
        self.window.end(chunk, slot);
        Ok(())
    }

    /// Looks at those calls that neither wait nor run, though nothing was heard of their ends.
    async fn look_for_lost(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let mut lost = self.open.clone();
        for standing in [ListedStanding::Waiting, ListedStanding::Leased] {
            let listing = Listing {
                lane: Some(self.lane.clone()),
                standing: Some(standing),
                limit: LIST_MAX,
                ..Listing::default()
            };
            for call in self.shared.queue.list(listing).await? {
                lost.remove(&call.id);
            }
        }
        for id in lost.into_keys() {
            self.look(id).await?;
        }
        Ok(())
    }

    /// Says how far it is.
    fn report(&self) {
        let (map, window) = (&self.map, &self.window);
        let mut progress = MapProgress::of(map);
        progress.running = window.open() as u64;
        progress.stage_ended += window.succeeded + window.failed;
        if map.stage.level == 0 {
            progress.done += window.succeeded;
            progress.failed += window.failed;
            progress.items_ended += window.items_ended;
        }
        self.live.report(progress);
    }
}

/// What a call's record says of its chunk.
pub(super) fn slot_of(record: &Record) -> Slot {
    match record.summary.standing {
        Standing::Waiting(_) | Standing::Leased(_) => Slot::Open,
        Standing::Ended(Ended::Succeeded, _) => {
            let Some(answer) = record.result.as_deref() else {
                return Slot::Failed("its answer is not kept: there was no room for it".into());
            };
            match one_line(answer).ok().filter(|line| line.get().len() <= limits::MAP_ANSWER_BYTES)
            {
                Some(line) => Slot::Succeeded(Some(String::from(Box::<str>::from(line)).into())),
                None => Slot::Failed(format!(
                    "its answer is longer than the {} bytes that are kept",
                    limits::MAP_ANSWER_BYTES
                )),
            }
        }
        Standing::Ended(Ended::Dead, _) => {
            let last = record.notes.iter().rev().find_map(|note| Attempt::read(note));
            let mut reason =
                last.and_then(|a| a.message).unwrap_or_else(|| "it was given up".into());
            reason.truncate(reason.floor_char_boundary(REASON_BYTES));
            Slot::Failed(reason)
        }
        Standing::Ended(Ended::Cancelled, _) => Slot::Failed("its call was cancelled".into()),
    }
}
