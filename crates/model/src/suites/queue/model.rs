//! Random operations, each compared with what a simple model says; see [`agrees`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Subject, dead, depth, lane, succeeded};
use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::error::Code;
use crate::ids::{Digest, RequestId};
use crate::ports::{
    Again, Batch, DEDUPE_WINDOW, End, Ended, Enqueued, FRESH_PER_RETRIED, Lane, ListedStanding,
    Listing, NewMessage, Queue, Standing, Token, UniqueKey,
};

const LANES: [&str; 3] = ["default/a", "default/b", "other/a"];
/// How long a key is given.
const KEY_WINDOW: Duration = Duration::from_secs(1_000);

/// One operation. Which message is meant is told by a number that is taken modulo how many there are, so that an operation means something whatever came before it: a run that fails can
/// be made shorter by leaving some out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named as those of the port")]
pub enum Op {
    /// A new message; `key` 0: without one.
    Enqueue { lane: u8, delay_s: u16, key: u8 },
    /// A message once more under the same id.
    EnqueueAgain { which: u8 },
    /// Some messages of a lane.
    Lease { lane: u8, n: u8, ttl_s: u16 },
    /// The lease of a message lasts so long from now. `stale`: under a token of old.
    Extend { which: u8, ttl_s: u16, stale: bool },
    /// A message waits again.
    Again { which: u8, delay_s: u16, counted: bool, stale: bool },
    /// A message ends.
    End { which: u8, is_dead: bool, keep_s: u16, counted: bool, stale: bool },
    /// A message is called off.
    Cancel { which: u8 },
    /// A message is brought back to life.
    Redrive { which: u8 },
    /// A message is forgotten.
    Forget { which: u8 },
    /// Time passes.
    Pass { s: u16 },
    /// Somebody sets the wall clock.
    SetClock { by_s: i16 },
    /// The queue is closed and opened, and leases are taken back or not.
    Restart { reclaims: bool },
}

/// A clock that stands until it is told how much time passed; nobody can sleep by it.
#[derive(Debug)]
pub struct StepClock {
    start: Instant,
    passed_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl StepClock {
    /// From 2026-01-01T00:00:00Z on.
    pub fn new() -> Self {
        let (passed_ms, wall_ms) = (AtomicU64::new(0), AtomicU64::new(1_767_225_600_000));
        Self { start: SystemClock.instant(), passed_ms, wall_ms }
    }

    fn pass(&self, by: Duration) {
        let by_ms = UnixMillis(0).after(by).0;
        self.passed_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    fn set(&self, to: UnixMillis) {
        self.wall_ms.store(to.0, Ordering::SeqCst);
    }
}

impl Default for StepClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for StepClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall_ms.load(Ordering::SeqCst))
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.passed_ms.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, _: Instant) {
        std::future::pending().await
    }
}

/// What the queue should know of a message.
#[derive(Clone, Debug)]
struct Known {
    /// The order of enqueues.
    seq: usize,
    lane: usize,
    enqueued_at: UnixMillis,
    /// When it is due; on lease, when that ends.
    due_at: UnixMillis,
    /// While it is on lease.
    token: Option<Token>,
    was_leased: bool,
    deliveries: u32,
    notes: usize,
    ended: Option<(Ended, UnixMillis)>,
    /// Known until then at least.
    keep_until: UnixMillis,
    /// Once it has ended.
    forget_at: UnixMillis,
}

impl Known {
    fn is_active(&self) -> bool {
        self.ended.is_none()
    }

    fn standing(&self) -> Standing {
        match (self.ended, self.token) {
            (Some((ended, at)), _) => Standing::Ended(ended, at),
            (None, Some(_)) => Standing::Leased(self.due_at),
            (None, None) => Standing::Waiting(self.due_at),
        }
    }
}

/// All messages that are kept, and all tokens that ever were.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<RequestId, Known>,
    enqueued: usize,
    tokens: Vec<Token>,
    /// By number, while nobody else can have it: who does, and until when.
    keys: BTreeMap<u8, (RequestId, UnixMillis)>,
    /// How often a key's window has passed: then it is another key, as from there on a clock that is set decides whether it is still held.
    windows: usize,
}

/// Runs the operations one after the other and panics where the queue does not do what the model says. `clock` is the queue's.
pub async fn agrees(mut subject: Box<dyn Subject<dyn Queue>>, clock: &StepClock, ops: &[Op]) {
    let mut model = Model::default();
    for op in ops {
        let touched = model.run(&mut *subject, clock, *op).await;
        model.forget(clock.now());
        let queue = subject.port();
        let active = model.messages.values().filter(|m| m.is_active()).count();
        assert_eq!(depth(&*queue).await, active as u64, "messages, after {op:?}");
        if let Some(id) = touched {
            model.check(&*queue, id).await;
        }
    }
    let queue = subject.port();
    for id in model.messages.keys() {
        model.check(&*queue, *id).await;
    }
    model.check_lists(&*queue).await;
}

impl Model {
    /// The message that it was about.
    async fn run(
        &mut self,
        subject: &mut dyn Subject<dyn Queue>,
        clock: &StepClock,
        op: Op,
    ) -> Option<RequestId> {
        let (queue, now) = (subject.port(), clock.now());
        match op {
            Op::Enqueue { lane, delay_s, key } => {
                return Some(self.enqueue(&*queue, now, lane, seconds(delay_s), key).await);
            }
            Op::Lease { lane, n, ttl_s } => {
                self.lease(&*queue, now, usize::from(lane) % LANES.len(), n, seconds(ttl_s)).await;
            }
            Op::Pass { s } => clock.pass(seconds(s)),
            Op::SetClock { by_s } => self.set_clock(&*queue, clock, by_s).await,
            Op::Restart { reclaims } => {
                drop(queue);
                subject.reopen().await;
                if reclaims {
                    self.reclaim(&*subject.port(), now).await;
                }
            }
            Op::EnqueueAgain { which }
            | Op::Extend { which, .. }
            | Op::Again { which, .. }
            | Op::End { which, .. }
            | Op::Cancel { which }
            | Op::Redrive { which }
            | Op::Forget { which } => {
                let n = self.messages.len();
                let id = *self.messages.keys().nth(usize::from(which) % n.max(1))?;
                self.change(&*queue, now, id, op).await;
                return Some(id);
            }
        }
        None
    }

    async fn enqueue(
        &mut self,
        queue: &dyn Queue,
        now: UnixMillis,
        lane_number: u8,
        delay: Duration,
        key: u8,
    ) -> RequestId {
        let (id, run_at) = (RequestId::generate(), now.after(delay));
        let at = usize::from(lane_number) % LANES.len();
        let until = now.after(KEY_WINDOW);
        let digest = Digest::of(format!("{key} {}", self.windows).as_bytes());
        let new = NewMessage {
            id,
            lane: lane(LANES[at]),
            run_at,
            key: (key > 0).then_some(UniqueKey { digest, until, print: None }),
            payload: Bytes::from_static(b"payload"),
        };
        let held = self.keys.get(&key).filter(|_| key > 0);
        let answer = queue.enqueue(vec![new]).await.unwrap();
        if let Some((holder, _)) = held {
            assert_eq!(answer, [Enqueued::Duplicate(*holder)]);
            return *holder;
        }
        assert_eq!(answer, [Enqueued::New]);
        let mut keep_until = now.after(DEDUPE_WINDOW);
        if key > 0 {
            keep_until = keep_until.max(until);
            self.keys.insert(key, (id, until));
        }
        self.enqueued += 1;
        let known = Known {
            seq: self.enqueued,
            lane: at,
            enqueued_at: now,
            due_at: run_at,
            token: None,
            was_leased: false,
            deliveries: 0,
            notes: 0,
            ended: None,
            keep_until,
            forget_at: keep_until,
        };
        self.messages.insert(id, known);
        id
    }

    /// What is due in a lane, of those that were leased before or of the others, in order.
    fn due(&self, lane: usize, now: UnixMillis, was_leased: bool) -> Vec<RequestId> {
        let mut due: Vec<_> = self
            .messages
            .iter()
            .filter(|(_, m)| {
                m.lane == lane && m.is_active() && m.due_at <= now && m.was_leased == was_leased
            })
            .map(|(id, m)| (m.due_at, m.seq, *id))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, _, id)| id).collect()
    }

    async fn lease(&mut self, queue: &dyn Queue, now: UnixMillis, at: usize, n: u8, ttl: Duration) {
        let (fresh, retried) = (self.due(at, now, false), self.due(at, now, true));
        let (mut fresh, mut retried) = (fresh.into_iter(), retried.into_iter());
        let mut expected = Vec::new();
        while expected.len() < usize::from(n) {
            let is_retried = expected.len() % (FRESH_PER_RETRIED + 1) == FRESH_PER_RETRIED;
            let (first, second) =
                if is_retried { (&mut retried, &mut fresh) } else { (&mut fresh, &mut retried) };
            let Some(id) = first.next().or_else(|| second.next()) else { break };
            expected.push(id);
        }
        let Batch { messages, next_due } =
            queue.lease(&lane(LANES[at]), usize::from(n), ttl).await.unwrap();
        assert_eq!(messages.iter().map(|m| m.id).collect::<Vec<_>>(), expected);
        for leased in messages {
            let is_held = |m: &Known| m.token == Some(leased.token);
            assert!(!self.messages.values().any(is_held), "a token is given twice");
            let known = self.messages.get_mut(&leased.id).expect("it was expected");
            self.tokens.push(leased.token);
            (known.token, known.was_leased) = (Some(leased.token), true);
            (known.due_at, known.deliveries) = (now.after(ttl), known.deliveries + 1);
            assert_eq!(leased.deliveries, known.deliveries);
            assert_eq!(
                (leased.enqueued_at, &*leased.payload),
                (known.enqueued_at, &b"payload"[..])
            );
        }
        let later = self.messages.values().filter(|m| m.lane == at && m.is_active());
        let later = later.map(|m| m.due_at).filter(|due| *due > now).min();
        assert_eq!(next_due, later);
    }

    /// What needs a message that is known.
    async fn change(&mut self, queue: &dyn Queue, now: UnixMillis, id: RequestId, op: Op) {
        let known = self.messages.get_mut(&id).expect("it is one of them");
        let stale = matches!(
            op,
            Op::Extend { stale: true, .. }
                | Op::Again { stale: true, .. }
                | Op::End { stale: true, .. }
        );
        let any = self.tokens.first().copied().unwrap_or(Token(7));
        let token = known.token.filter(|_| !stale).unwrap_or(any);
        let is_good = known.token == Some(token);
        let note = Bytes::from_static(b"note");
        let (allowed, result) = match op {
            Op::Extend { ttl_s, .. } => (is_good, queue.extend(id, token, seconds(ttl_s)).await),
            Op::Again { delay_s, counted, .. } => {
                let again = Again { delay: seconds(delay_s), counted, note: Some(note) };
                (is_good, queue.again(id, token, again).await)
            }
            Op::End { is_dead, keep_s, counted, .. } => {
                let end = if is_dead { dead("note") } else { succeeded() };
                let end = End { keep: seconds(keep_s), counted, ..end };
                (is_good, queue.end(id, token, end).await)
            }
            Op::Cancel { .. } => {
                let result = queue.cancel(id, note, seconds(50_u16)).await;
                let stood = result.map(|stood| assert_eq!(stood, known.standing()));
                (known.is_active(), stood)
            }
            Op::Redrive { .. } => {
                let is_dead = matches!(known.ended, Some((Ended::Dead, _)));
                (is_dead, queue.redrive(id).await)
            }
            Op::Forget { .. } => {
                let forgotten = queue.forget(id).await;
                (!known.is_active(), forgotten.map(|found| assert!(found, "{id}")))
            }
            _ => {
                let new = NewMessage {
                    id,
                    lane: lane(LANES[0]),
                    run_at: now,
                    key: None,
                    payload: Bytes::from_static(b"other"),
                };
                let answer = queue.enqueue(vec![new]).await;
                (true, answer.map(|answer| assert_eq!(answer, [Enqueued::Duplicate(id)])))
            }
        };
        match result {
            Ok(()) if allowed => self.changed(now, id, op),
            Ok(()) => panic!("{op:?} was not refused: {known:?}"),
            Err(e) => assert!(!allowed && e.code() == Code::Conflict, "{op:?}: {e}"),
        }
    }

    fn changed(&mut self, now: UnixMillis, id: RequestId, op: Op) {
        let Some(known) = self.messages.get_mut(&id) else { return };
        match op {
            Op::Extend { ttl_s, .. } => known.due_at = now.after(seconds(ttl_s)),
            Op::Again { delay_s, counted, .. } => {
                known.token = None;
                known.due_at = now.after(seconds(delay_s));
                known.deliveries -= u32::from(!counted);
                known.notes += 1;
            }
            Op::End { is_dead, keep_s, counted, .. } => {
                known.deliveries -= u32::from(!counted);
                known.notes += usize::from(is_dead);
                let ended = if is_dead { Ended::Dead } else { Ended::Succeeded };
                known.end(now, ended, seconds(keep_s));
            }
            Op::Cancel { .. } => {
                known.notes += 1;
                known.end(now, Ended::Cancelled, seconds(50_u16));
            }
            Op::Redrive { .. } => {
                (known.ended, known.deliveries, known.was_leased) = (None, 0, false);
                (known.enqueued_at, known.due_at) = (now, now);
            }
            Op::Forget { .. } => {
                self.messages.remove(&id);
                self.keys.retain(|_, (holder, _)| *holder != id);
            }
            _ => {}
        }
    }

    /// Somebody sets the clock, and the queue looks at it the next time that something is written.
    async fn set_clock(&mut self, queue: &dyn Queue, clock: &StepClock, by_s: i16) {
        let before = clock.now();
        let by = seconds(by_s.unsigned_abs());
        if by < crate::clock::Jumps::LEAST {
            return;
        }
        let now = if by_s < 0 { before.before(by) } else { before.after(by) };
        clock.set(now);
        for known in self.messages.values_mut().filter(|m| m.is_active()) {
            if by_s > 0 && known.token.is_some() {
                known.due_at = known.due_at.after(by);
            } else if by_s < 0 && known.due_at > now {
                known.due_at = known.due_at.before(by);
            }
        }
        queue.lease(&lane(LANES[0]), 0, by).await.unwrap();
    }

    async fn reclaim(&mut self, queue: &dyn Queue, now: UnixMillis) {
        let mut cut: Vec<u32> = Vec::new();
        for known in self.messages.values_mut().filter(|m| m.token.is_some()) {
            cut.push(known.deliveries);
            (known.token, known.due_at) = (None, now);
            let counts = known.deliveries % 3 > 0;
            known.notes += usize::from(counts);
            known.deliveries -= u32::from(!counts);
        }
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let note = Arc::new(move |_: &Lane, delivery: u32| {
            super::locked(&tell).push(delivery);
            (!delivery.is_multiple_of(3)).then(|| Bytes::from_static(b"cut"))
        });
        assert_eq!(queue.reclaim(note).await.unwrap(), cut.len());
        let mut told = super::locked(&told).clone();
        cut.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, cut);
    }

    /// What may be forgotten by now, or has become another's to have, is not looked at any more.
    fn forget(&mut self, now: UnixMillis) {
        self.messages.retain(|_, m| m.is_active() || m.forget_at > now);
        let messages = &self.messages;
        let over = |(id, until): &(RequestId, UnixMillis)| {
            *until <= now && !messages.get(id).is_some_and(Known::is_active)
        };
        if self.keys.values().any(over) {
            self.keys.clear();
            self.windows += 1;
        }
    }

    async fn check(&self, queue: &dyn Queue, id: RequestId) {
        let Some(known) = self.messages.get(&id) else { return };
        let record = queue.find(id).await.unwrap().unwrap_or_else(|| panic!("{id}: {known:?}"));
        let summary = record.summary;
        assert_eq!(
            (summary.standing, summary.deliveries, summary.enqueued_at, record.notes.len()),
            (known.standing(), known.deliveries, known.enqueued_at, known.notes),
            "{id}"
        );
        assert_eq!(summary.lane.as_str(), LANES[known.lane]);
        let has_payload = !matches!(known.ended, Some((Ended::Succeeded | Ended::Cancelled, _)));
        assert_eq!(record.payload.is_some(), has_payload, "{known:?}");
    }

    /// Every message in the list of those that stand as it does, the newest first.
    async fn check_lists(&self, queue: &dyn Queue) {
        let ended = [Ended::Succeeded, Ended::Dead, Ended::Cancelled].map(ListedStanding::Ended);
        for standing in [ListedStanding::Waiting, ListedStanding::Leased].into_iter().chain(ended) {
            let listing = Listing { standing: Some(standing), limit: 1_000, ..Listing::default() };
            let listed = queue.list(listing).await.unwrap();
            let found = listed.iter().map(|s| s.id).filter(|id| self.messages.contains_key(id));
            let mut expected: Vec<_> = self
                .messages
                .iter()
                .filter(|(_, m)| match m.standing() {
                    Standing::Waiting(_) => standing == ListedStanding::Waiting,
                    Standing::Leased(_) => standing == ListedStanding::Leased,
                    Standing::Ended(ended, _) => standing == ListedStanding::Ended(ended),
                })
                .map(|(id, m)| (std::cmp::Reverse(m.seq), *id))
                .collect();
            expected.sort_unstable();
            assert_eq!(
                found.collect::<Vec<_>>(),
                expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>(),
                "{standing:?}"
            );
        }
    }
}

impl Known {
    fn end(&mut self, now: UnixMillis, ended: Ended, keep: Duration) {
        self.token = None;
        self.ended = Some((ended, now));
        self.forget_at = now.after(keep).max(self.keep_until);
    }
}

fn seconds(s: impl Into<u64>) -> Duration {
    Duration::from_secs(s.into())
}
