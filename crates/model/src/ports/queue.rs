//! Port: the durable queue behind asynchronous calls, and what is kept of each of them.
//!
//! A message is in one of five states: it waits, it is on lease, or it has ended as succeeded, dead or cancelled. It ends once; what ended is kept
//! until its time and then forgotten. Which lane is served next, and how many of its messages at once, is not decided here: that is
//! the engine's policy, and the same over every backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::UnixMillis;
use crate::ids::{Digest, FunctionKey, RequestId};
use crate::{Code, Error, Result};

/// De-duplication window of [`Queue::enqueue`]: whatever [`End::keep`] says, an ended message's id is known at least as long after it was enqueued.
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(10 * 60);
/// Largest [`NewMessage::payload`]: a call's payload and an envelope of 64 KiB, in bytes.
pub const MESSAGE_BYTES: usize = crate::limits::ASYNC_PAYLOAD_BYTES + 64 * 1024;
/// Largest note, in bytes.
pub const NOTE_BYTES: usize = 8 * 1024;
/// Most notes of one message; from then on the newest takes the place of the one before it.
pub const NOTES_MAX: usize = 100;
/// Largest result that is kept with a message, in bytes: any answer of a function.
pub const RESULT_BYTES: usize = crate::limits::RESPONSE_BYTES;
/// Most messages of one lease.
pub const LEASE_MESSAGES: usize = 256;
/// Most messages of one page of [`Queue::list`].
pub const LIST_MAX: usize = 1_000;
/// Of due messages of a lane, so many that were never leased come for each one that was.
pub const FRESH_PER_RETRIED: usize = 3;

/// Whose messages wait together. Lanes do not wait for each other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(Arc<str>);

impl Lane {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// A lane of this name.
    ///
    /// Errors: `invalid-name` where it is empty or too long.
    pub fn new(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > Self::MAX_BYTES {
            return Err(Error::caller(
                Code::InvalidName,
                format!(
                    "a lane's name has {} bytes: expected 1 to {}",
                    name.len(),
                    Self::MAX_BYTES
                ),
            ));
        }
        Ok(Self(name.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whom it belongs to, with others: what stands before the first `/` of its name; the whole of a name without one.
    pub fn group(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(group, _)| group)
    }

    /// The function whose calls wait here, if it is the lane of one.
    pub fn function(&self) -> Option<FunctionKey> {
        let (namespace, name) = self.0.split_once('/')?;
        Some(FunctionKey { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
    }
}

impl From<&FunctionKey> for Lane {
    /// The lane of a function's calls: their order by due time means something.
    fn from(key: &FunctionKey) -> Self {
        Self(key.to_string().into())
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A message to enqueue.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its id, also the key of de-duplication.
    pub id: RequestId,
    /// Where it waits.
    pub lane: Lane,
    /// Not leased before this time.
    pub run_at: UnixMillis,
    /// No other message of this key is stored within its window.
    pub key: Option<UniqueKey>,
    /// At most [`MESSAGE_BYTES`].
    pub payload: Bytes,
}

impl NewMessage {
    /// Errors: `payload-too-large`.
    pub fn check(&self) -> Result<()> {
        bounded("a message", self.payload.len(), MESSAGE_BYTES)
    }
}

/// A key that one message has at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueKey {
    /// The key, hashed.
    pub digest: Digest,
    /// Its window ends then; a message that has not ended by then keeps it until it has.
    pub until: UnixMillis,
    /// Of what the message is, where messages of one key have to be the same.
    pub print: Option<Digest>,
}

/// Answer to an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// Stored.
    New,
    /// There is a message of this id or key already, this one; nothing was stored.
    Duplicate(RequestId),
    /// There is a message of this key already, this one, and it has another print; nothing was stored.
    Different(RequestId),
}

/// Answer to [`Queue::begin`].
#[derive(Clone, Debug)]
pub enum Begun {
    /// Stored, and on lease.
    Leased(Leased),
    /// It was not stored; see there.
    Known(Enqueued),
}

/// Fences a lease: worthless once the lease has expired and the message was leased again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// What [`Queue::lease`] found.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The messages, those due first at the front of each tier.
    pub messages: Vec<Leased>,
    /// When the next message of the lane is due that is not now; leases that expire count. The present where fewer messages were leased than were asked for,
    /// and due ones are left all the same.
    pub next_due: Option<UnixMillis>,
}

/// A message on lease.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Its id.
    pub id: RequestId,
    /// What to show when settling it.
    pub token: Token,
    /// How often it was leased, this time included, deliveries taken back left out.
    pub deliveries: u32,
    /// When it was first enqueued, or brought back to life.
    pub enqueued_at: UnixMillis,
    /// The payload.
    pub payload: Bytes,
}

/// How a lease that did not bring the message to its end is given back.
#[derive(Clone, Debug, Default)]
pub struct Again {
    /// Due again after this.
    pub delay: Duration,
    /// Not counted: the message never reached the function (a throttle, a fault of the platform), and [`Leased::deliveries`] of the next lease does not know of it.
    pub counted: bool,
    /// Appended to [`Record::notes`]. At most [`NOTE_BYTES`].
    pub note: Option<Bytes>,
}

impl Again {
    /// Errors: `payload-too-large`.
    pub fn check(&self) -> Result<()> {
        bounded("a note", self.note.as_ref().map_or(0, Bytes::len), NOTE_BYTES)
    }
}

/// What is noted of a delivery that was cut, by the message's lane and the delivery's number ([`Leased::deliveries`]); at most [`NOTE_BYTES`]. `None`: it was for nothing that could have begun, and is
/// not counted.
pub type CutNote = Arc<dyn Fn(&Lane, u32) -> Option<Bytes> + Send + Sync>;

/// How a message ends.
#[derive(Clone, Debug)]
pub struct End {
    /// As what.
    pub as_what: Ended,
    /// Appended to [`Record::notes`]. At most [`NOTE_BYTES`].
    pub note: Option<Bytes>,
    /// At most [`RESULT_BYTES`].
    pub result: Option<Bytes>,
    /// How long it is kept; its payload only if it is dead.
    pub keep: Duration,
    /// Not counted: this delivery never reached the function, and is taken back.
    pub counted: bool,
}

impl End {
    /// Errors: `payload-too-large`.
    pub fn check(&self) -> Result<()> {
        bounded("a note", self.note.as_ref().map_or(0, Bytes::len), NOTE_BYTES)?;
        bounded("a result", self.result.as_ref().map_or(0, Bytes::len), RESULT_BYTES)
    }
}

fn bounded(what: &str, bytes: usize, most: usize) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    let message = format!("{what} has {bytes} bytes: expected at most {most}");
    Err(Error::caller(Code::PayloadTooLarge, message))
}

/// The ends of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It did what it was for.
    Succeeded,
    /// Given up. Keeps its payload and may be brought back to life.
    Dead,
    /// Called off.
    Cancelled,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not on lease; due at this time, or since.
    Waiting(UnixMillis),
    /// On lease until then.
    Leased(UnixMillis),
    /// Ended, at that time.
    Ended(Ended, UnixMillis),
}

/// A message without its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: RequestId,
    /// Its lane.
    pub lane: Lane,
    /// Where it stands.
    pub standing: Standing,
    /// When it was first enqueued, or brought back to life.
    pub enqueued_at: UnixMillis,
    /// How often it was leased, deliveries taken back left out.
    pub deliveries: u32,
    /// The payload that it came with, in bytes.
    pub bytes: u64,
}

/// All that is kept of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub summary: Summary,
    /// What was noted at each [`Again`] and at its [`End`], oldest first.
    pub notes: Vec<Bytes>,
    /// Its result, if it ended with one.
    pub result: Option<Bytes>,
    /// Its payload, unless it has succeeded or was cancelled.
    pub payload: Option<Bytes>,
}

/// Which messages a list shows.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Of this lane only.
    pub lane: Option<Lane>,
    /// Of lanes whose name begins so.
    pub lane_prefix: String,
    /// Only those that stand so.
    pub standing: Option<ListedStanding>,
    /// Only those enqueued at this time or later, and before that.
    pub since: Option<UnixMillis>,
    /// See `since`.
    pub until: Option<UnixMillis>,
    /// Those enqueued first at the front, not the newest.
    pub oldest_first: bool,
    /// Only those behind this one: the last of the page before.
    pub after: Option<RequestId>,
    /// At most so many, and never more than [`LIST_MAX`].
    pub limit: usize,
}

/// What a list can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedStanding {
    /// Not on lease.
    Waiting,
    /// On lease.
    Leased,
    /// Ended so.
    Ended(Ended),
}

/// How much waits in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages waiting or on lease.
    pub messages: u64,
    /// Their payloads, in bytes.
    pub bytes: u64,
}

impl Depth {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// At-least-once messages. Contract: `suites::queue`.
///
/// Durable before acknowledged, in every method. Among due messages of a lane the one due first is leased first; of those that were
/// leased before, one comes for each [`FRESH_PER_RETRIED`] that were not, so that neither holds up the other. De-duplication by id holds as long as a
/// message is kept, and at least [`DEDUPE_WINDOW`] after it was enqueued. Settling with a stale token, or what has ended, fails with `conflict` and changes nothing.
///
/// Pauses and leases are lengths of time: where the wall clock is set back, what waits waits no longer for that; where it is set forward, leases last as long as before, and
/// what waits may be due early.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// Stores messages, all or none; an answer each, in order.
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>>;

    /// Stores a message that is on lease from the beginning, for `ttl`: durable with one commit. `run_at` does not count.
    async fn begin(&self, message: NewMessage, ttl: Duration) -> Result<Begun>;

    /// Up to `n` due messages of a lane, hidden from others for `ttl`. Does not wait. Fewer than `n` means that no more were due, or that their payloads were
    /// some MiB, which [`Batch::next_due`] tells apart; never more than [`LEASE_MESSAGES`].
    async fn lease(&self, lane: &Lane, n: usize, ttl: Duration) -> Result<Batch>;

    /// Still at it: hidden for `ttl` from now. The token stays good.
    async fn extend(&self, id: RequestId, token: Token, ttl: Duration) -> Result<()>;

    /// Not done: waits again.
    async fn again(&self, id: RequestId, token: Token, again: Again) -> Result<()>;

    /// Done with, one way or another.
    async fn end(&self, id: RequestId, token: Token, end: End) -> Result<()>;

    /// It never reached the function, and nobody waits for it: forgets a message on lease, and its key, as if it had never been there.
    async fn withdraw(&self, id: RequestId, token: Token) -> Result<()>;

    /// Ends a message as cancelled, whether it waits or is on lease; whoever has the lease finds its token stale. Returns where it stood.
    ///
    /// Errors: `not-found`; `conflict` once it has ended.
    async fn cancel(&self, id: RequestId, note: Bytes, keep: Duration) -> Result<Standing>;

    /// Brings a dead message back to life: as if it were enqueued now, with what was noted.
    ///
    /// Errors: `not-found`; `conflict` if it is not dead.
    async fn redrive(&self, id: RequestId) -> Result<()>;

    /// Forgets an ended message now, and its key; says whether there was one.
    ///
    /// Errors: `conflict` if it has not ended.
    async fn forget(&self, id: RequestId) -> Result<bool>;

    /// Gives back whatever is on lease, for one who alone leases from this queue and has not begun to: those who had the leases are gone with the process that they ran in.
    /// Each message is due at once; the delivery that was cut counts, as nobody knows what came of it, and `note` of it is appended. Says how many there were.
    ///
    /// Where several nodes share a queue, only the leases of this node are meant.
    async fn reclaim(&self, note: CutNote) -> Result<usize>;

    /// All that is kept of a message.
    async fn find(&self, id: RequestId) -> Result<Option<Record>>;

    /// Messages, the newest first unless it is asked for otherwise.
    ///
    /// Errors: `not-found` where `after` is not known (any more).
    async fn list(&self, listing: Listing) -> Result<Vec<Summary>>;

    /// What waits in each lane that has something. From memory: cheap.
    fn depths(&self) -> Vec<(Lane, Depth)>;

    /// What waits in this lane. From memory: cheap.
    fn depth(&self, lane: &Lane) -> Depth;

    /// What waits in all lanes of a [`Lane::group`]. From memory: cheap.
    fn group_depth(&self, group: &str) -> Depth;

    /// Says in which lanes something may be due: all with messages at first, then as messages are added or due earlier than they were.
    /// Time that passes is not told: [`Batch::next_due`] says when to look again.
    fn watch(&self) -> Box<dyn LaneWatch>;
}

/// See [`Queue::watch`].
#[async_trait]
pub trait LaneWatch: Send + fmt::Debug {
    /// Waits for lanes that changed since the last call; each once, however often it changed. Cancel-safe.
    ///
    /// Errors: `unavailable` once the queue is closed.
    async fn changed(&mut self) -> Result<Vec<Lane>>;
}
