//! What the engine and the server need of the world, as traits. The guarantees stand at each method; `suites` tests them.
//!
//! A port promises no more than both the embedded store and a cluster engine can keep, so the engine never knows which it has.

mod blobs;
mod bus;
mod lease;
mod logs;
mod meta;
mod queue;
mod sandbox;
mod usage;
mod vault;
mod webhooks;

pub use blobs::Blobs;
pub use bus::{Address, Bus, Message, NodeId, Reply, Subscription};
pub use lease::{Fence, Lease};
pub use logs::{LogLine, LogQuery, LogStream, LogTail, Logs};
pub use meta::{Change, Entry, Expect, Meta, Revision, Watch};
pub use queue::{
    Again, Batch, Begun, CutNote, DEDUPE_WINDOW, Depth, End, Ended, Enqueued, FRESH_PER_RETRIED,
    LEASE_MESSAGES, LIST_MAX, Lane, LaneWatch, Leased, ListedStanding, Listing, MESSAGE_BYTES,
    NOTE_BYTES, NOTES_MAX, NewMessage, Queue, RESULT_BYTES, Record, Standing, Summary, Token,
    UniqueKey,
};
pub use sandbox::{Image, Instance, Later, PackageInfo, Patience, Sandbox, StartFailed, Turn};
pub use usage::{Usage, UsageDelta, UsageQuery, UsageRow, UsageSums};
pub use vault::Vault;
pub use webhooks::{NoWebhooks, Webhook, Webhooks};
