//! [`Queue`] in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::lock;
use crate::Result;
use crate::clock::{Clock, Jump, Jumps, UnixMillis};
use crate::error::{Code, Error};
use crate::ids::{Digest, RequestId};
use crate::ports::{
    Again, Batch, Begun, CutNote, DEDUPE_WINDOW, Depth, End, Ended, Enqueued, FRESH_PER_RETRIED,
    LEASE_MESSAGES, LIST_MAX, Lane, LaneWatch, Leased, ListedStanding, Listing, NOTES_MAX,
    NewMessage, Queue, Record, Standing, Summary, Token, UniqueKey,
};

#[derive(Debug)]
struct Stored {
    seq: u64,
    record: Record,
    retried: bool,
    token: Option<Token>,
    keep_until: UnixMillis,
    /// Once it has ended.
    forget_at: UnixMillis,
}

#[derive(Debug, Default)]
struct Messages {
    last_seq: u64,
    last_token: u64,
    all: BTreeMap<RequestId, Stored>,
    keys: HashMap<Digest, (RequestId, UniqueKey)>,
}

impl Messages {
    fn forget_old(&mut self, now: UnixMillis) {
        self.all.retain(|_, m| !m.has_ended() || m.forget_at > now);
    }

    /// The clock was set: see [`Queue`].
    fn follow(&mut self, jump: Jump, now: UnixMillis) {
        for stored in self.all.values_mut() {
            let on_lease = stored.token.is_some();
            if let Standing::Waiting(due) | Standing::Leased(due) =
                &mut stored.record.summary.standing
            {
                match jump {
                    Jump::Forward(by) if on_lease => *due = due.after(by),
                    Jump::Back(by) if *due > now => *due = due.before(by),
                    _ => {}
                }
            }
        }
    }

    /// Who has a key: within its window, and beyond it until the message has ended.
    fn refusal(&self, key: &UniqueKey, now: UnixMillis) -> Option<Enqueued> {
        let (id, held) = self.keys.get(&key.digest)?;
        let holds = held.until > now || self.all.get(id).is_some_and(|m| !m.has_ended());
        let differs = matches!((key.print, held.print), (Some(a), Some(b)) if a != b);
        holds.then_some(if differs { Enqueued::Different(*id) } else { Enqueued::Duplicate(*id) })
    }

    fn remove(&mut self, id: RequestId) -> bool {
        self.keys.retain(|_, (holder, _)| *holder != id);
        self.all.remove(&id).is_some()
    }

    fn insert(&mut self, new: NewMessage, now: UnixMillis) -> Enqueued {
        if let Some(refusal) = new.key.as_ref().and_then(|key| self.refusal(key, now)) {
            return refusal;
        }
        if self.all.contains_key(&new.id) {
            return Enqueued::Duplicate(new.id);
        }
        let mut keep_until = now.after(DEDUPE_WINDOW);
        if let Some(key) = new.key {
            keep_until = keep_until.max(key.until);
            self.keys.insert(key.digest, (new.id, key));
        }
        self.last_seq += 1;
        let summary = Summary {
            id: new.id,
            lane: new.lane,
            standing: Standing::Waiting(new.run_at),
            enqueued_at: now,
            deliveries: 0,
            bytes: new.payload.len() as u64,
        };
        let record =
            Record { summary, notes: Vec::new(), result: None, payload: Some(new.payload) };
        let stored = Stored {
            seq: self.last_seq,
            record,
            retried: false,
            token: None,
            keep_until,
            forget_at: keep_until,
        };
        self.all.insert(new.id, stored);
        Enqueued::New
    }

    fn settling(&mut self, id: RequestId, token: Token) -> Result<&mut Stored> {
        let found = self.all.get_mut(&id).filter(|m| m.token == Some(token));
        found.ok_or_else(|| conflict(format!("message {id} is not on lease under this token")))
    }

    fn lease(&mut self, lane: &Lane, n: usize, now: UnixMillis, ttl: Duration) -> Batch {
        let mut due: Vec<&mut Stored> =
            self.all.values_mut().filter(|m| m.is_in(lane) && m.is_due(now)).collect();
        due.sort_by_key(|m| (m.due_at(), m.seq));
        let (fresh, retried): (Vec<_>, Vec<_>) = due.into_iter().partition(|m| !m.retried);
        let (mut fresh, mut retried) = (fresh.into_iter(), retried.into_iter());
        let mut messages = Vec::new();
        while messages.len() < n.min(LEASE_MESSAGES) {
            let next = if messages.len() % (FRESH_PER_RETRIED + 1) == FRESH_PER_RETRIED {
                retried.next().or_else(|| fresh.next())
            } else {
                fresh.next().or_else(|| retried.next())
            };
            let Some(stored) = next else { break };
            self.last_token += 1;
            messages.push(stored.lease(Token(self.last_token), now.after(ttl)));
        }
        let later = self.all.values().filter(|m| m.is_in(lane)).filter_map(Stored::due_at);
        Batch { messages, next_due: later.filter(|due| *due > now).min() }
    }
}

impl Messages {
    fn depths(&self) -> Vec<(Lane, Depth)> {
        let mut depths: HashMap<Lane, Depth> = HashMap::new();
        for stored in self.all.values().filter(|m| !m.has_ended()) {
            let depth = depths.entry(stored.record.summary.lane.clone()).or_default();
            depth.messages += 1;
            depth.bytes += stored.record.summary.bytes;
        }
        depths.into_iter().collect()
    }
}

impl Stored {
    fn has_ended(&self) -> bool {
        matches!(self.record.summary.standing, Standing::Ended(..))
    }

    fn is_in(&self, lane: &Lane) -> bool {
        self.record.summary.lane == *lane
    }

    /// None once it has ended.
    fn due_at(&self) -> Option<UnixMillis> {
        match self.record.summary.standing {
            Standing::Waiting(due) | Standing::Leased(due) => Some(due),
            Standing::Ended(..) => None,
        }
    }

    fn is_due(&self, now: UnixMillis) -> bool {
        self.due_at().is_some_and(|due| due <= now)
    }

    fn lease(&mut self, token: Token, end: UnixMillis) -> Leased {
        let summary = &mut self.record.summary;
        summary.deliveries += 1;
        summary.standing = Standing::Leased(end);
        (self.token, self.retried) = (Some(token), true);
        Leased {
            id: summary.id,
            token,
            deliveries: summary.deliveries,
            enqueued_at: summary.enqueued_at,
            payload: self.record.payload.clone().unwrap_or_default(),
        }
    }

    fn note(&mut self, note: Option<Bytes>) {
        let notes = &mut self.record.notes;
        if note.is_some() {
            notes.truncate(NOTES_MAX - 1);
        }
        notes.extend(note);
    }

    fn end(&mut self, now: UnixMillis, end: End) {
        self.note(end.note);
        self.record.result = end.result;
        self.record.summary.deliveries -= u32::from(!end.counted);
        self.record.summary.standing = Standing::Ended(end.as_what, now);
        self.token = None;
        self.forget_at = now.after(end.keep).max(self.keep_until);
        if end.as_what != Ended::Dead {
            self.record.payload = None;
        }
    }
}

/// [`Queue`] in memory.
#[derive(Debug)]
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    jumps: Mutex<Jumps>,
    inner: Arc<Mutex<Messages>>,
    /// Counts what may have made something due.
    changes: watch::Sender<u64>,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let jumps = Mutex::new(Jumps::of(&*clock));
        Self { clock, jumps, inner: Arc::default(), changes: watch::Sender::new(1) }
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    fn with<T>(&self, then: impl FnOnce(&mut Messages, UnixMillis) -> Result<T>) -> Result<T> {
        let jump = lock(&self.jumps).look(&*self.clock);
        let now = self.clock.now();
        let mut inner = lock(&self.inner);
        if let Some(jump) = jump {
            inner.follow(jump, now);
            self.changed();
        }
        inner.forget_old(now);
        then(&mut inner, now)
    }
}

fn conflict(message: String) -> Error {
    Error::caller(Code::Conflict, message)
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        messages.iter().try_for_each(NewMessage::check)?;
        let answers = self.with(|inner, now| {
            Ok(messages.into_iter().map(|new| inner.insert(new, now)).collect())
        });
        self.changed();
        answers
    }

    async fn begin(&self, message: NewMessage, ttl: Duration) -> Result<Begun> {
        message.check()?;
        let id = message.id;
        self.with(|inner, now| {
            let answer = inner.insert(message, now);
            let token = Token(inner.last_token + 1);
            match inner.all.get_mut(&id).filter(|_| answer == Enqueued::New) {
                None => Ok(Begun::Known(answer)),
                Some(stored) => {
                    inner.last_token += 1;
                    Ok(Begun::Leased(stored.lease(token, now.after(ttl))))
                }
            }
        })
        .inspect(|_| self.changed())
    }

    async fn lease(&self, lane: &Lane, n: usize, ttl: Duration) -> Result<Batch> {
        self.with(|inner, now| Ok(inner.lease(lane, n, now, ttl)))
    }

    async fn extend(&self, id: RequestId, token: Token, ttl: Duration) -> Result<()> {
        self.with(|inner, now| {
            let stored = inner.settling(id, token)?;
            stored.record.summary.standing = Standing::Leased(now.after(ttl));
            Ok(())
        })?;
        self.changed();
        Ok(())
    }

    async fn again(&self, id: RequestId, token: Token, again: Again) -> Result<()> {
        again.check()?;
        self.with(|inner, now| {
            let stored = inner.settling(id, token)?;
            stored.note(again.note);
            stored.token = None;
            let summary = &mut stored.record.summary;
            summary.standing = Standing::Waiting(now.after(again.delay));
            summary.deliveries -= u32::from(!again.counted);
            Ok(())
        })?;
        self.changed();
        Ok(())
    }

    async fn end(&self, id: RequestId, token: Token, end: End) -> Result<()> {
        end.check()?;
        self.with(|inner, now| {
            inner.settling(id, token)?.end(now, end);
            Ok(())
        })
    }

    async fn withdraw(&self, id: RequestId, token: Token) -> Result<()> {
        self.with(|inner, _| {
            inner.settling(id, token)?;
            inner.remove(id);
            Ok(())
        })
    }

    async fn cancel(&self, id: RequestId, note: Bytes, keep: Duration) -> Result<Standing> {
        let (as_what, note, counted) = (Ended::Cancelled, Some(note), true);
        let end = End { as_what, note, result: None, keep, counted };
        end.check()?;
        self.with(|inner, now| {
            let stored = inner.all.get_mut(&id).ok_or_else(|| Error::not_found("message", id))?;
            let stood = stored.record.summary.standing;
            if stored.has_ended() {
                return Err(conflict(format!("message {id} has ended")));
            }
            stored.end(now, end);
            Ok(stood)
        })
    }

    async fn redrive(&self, id: RequestId) -> Result<()> {
        self.with(|inner, now| {
            let stored = inner.all.get_mut(&id).ok_or_else(|| Error::not_found("message", id))?;
            let summary = &mut stored.record.summary;
            if !matches!(summary.standing, Standing::Ended(Ended::Dead, _)) {
                return Err(conflict(format!("message {id} is not dead")));
            }
            summary.standing = Standing::Waiting(now);
            (summary.enqueued_at, summary.deliveries) = (now, 0);
            stored.retried = false;
            stored.record.result = None;
            Ok(())
        })?;
        self.changed();
        Ok(())
    }

    async fn forget(&self, id: RequestId) -> Result<bool> {
        self.with(|inner, _| match inner.all.get(&id) {
            None => Ok(false),
            Some(stored) if !stored.has_ended() => {
                Err(conflict(format!("message {id} has not ended")))
            }
            Some(_) => Ok(inner.remove(id)),
        })
    }

    async fn reclaim(&self, note: CutNote) -> Result<usize> {
        let count = self.with(|inner, now| {
            let leased = inner.all.values_mut().filter(|m| m.token.is_some());
            Ok(leased
                .map(|stored| {
                    stored.token = None;
                    let summary = &mut stored.record.summary;
                    let noted = note(&summary.lane, summary.deliveries);
                    summary.deliveries -= u32::from(noted.is_none());
                    summary.standing = Standing::Waiting(now);
                    stored.note(noted);
                })
                .count())
        });
        self.changed();
        count
    }

    async fn find(&self, id: RequestId) -> Result<Option<Record>> {
        self.with(|inner, _| Ok(inner.all.get(&id).map(|m| m.record.clone())))
    }

    async fn list(&self, listing: Listing) -> Result<Vec<Summary>> {
        self.with(|inner, _| {
            let after = match listing.after {
                None => None,
                Some(id) => {
                    Some(inner.all.get(&id).ok_or_else(|| Error::not_found("message", id))?.seq)
                }
            };
            let behind = |seq: u64| {
                after.is_none_or(
                    |after| if listing.oldest_first { seq > after } else { seq < after },
                )
            };
            let mut found: Vec<&Stored> = inner.all.values().collect();
            found.retain(|m| behind(m.seq) && shows(&listing, &m.record.summary));
            found.sort_by_key(|m| m.seq);
            if !listing.oldest_first {
                found.reverse();
            }
            let page = found.into_iter().take(listing.limit.min(LIST_MAX));
            Ok(page.map(|m| m.record.summary.clone()).collect())
        })
    }

    fn depths(&self) -> Vec<(Lane, Depth)> {
        lock(&self.inner).depths()
    }

    fn depth(&self, lane: &Lane) -> Depth {
        self.depths().into_iter().find(|(l, _)| l == lane).map(|(_, d)| d).unwrap_or_default()
    }

    fn group_depth(&self, group: &str) -> Depth {
        let depths = self.depths().into_iter().filter(|(lane, _)| lane.group() == group);
        depths.fold(Depth::default(), |sum, (_, depth)| sum.and(depth))
    }

    fn watch(&self) -> Box<dyn LaneWatch> {
        let mut changes = self.changes.subscribe();
        changes.mark_changed();
        Box::new(MemoryWatch { changes, inner: Arc::clone(&self.inner) })
    }
}

fn shows(listing: &Listing, summary: &Summary) -> bool {
    let stands = listing.standing.is_none_or(|wanted| match summary.standing {
        Standing::Waiting(_) => wanted == ListedStanding::Waiting,
        Standing::Leased(_) => wanted == ListedStanding::Leased,
        Standing::Ended(ended, _) => wanted == ListedStanding::Ended(ended),
    });
    let lane = match &listing.lane {
        Some(lane) => summary.lane == *lane,
        None => summary.lane.as_str().starts_with(&listing.lane_prefix),
    };
    stands
        && lane
        && listing.since.is_none_or(|since| summary.enqueued_at >= since)
        && listing.until.is_none_or(|until| summary.enqueued_at < until)
}

/// A test's queue has few lanes: each change tells of all that there are.
#[derive(Debug)]
struct MemoryWatch {
    changes: watch::Receiver<u64>,
    inner: Arc<Mutex<Messages>>,
}

#[async_trait]
impl LaneWatch for MemoryWatch {
    async fn changed(&mut self) -> Result<Vec<Lane>> {
        loop {
            self.changes.changed().await.map_err(Error::internal)?;
            let depths = lock(&self.inner).depths();
            if !depths.is_empty() {
                return Ok(depths.into_iter().map(|(lane, _)| lane).collect());
            }
        }
    }
}
