//! Takes what came of chunks out of the queue and into the map's own blobs, in order.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use model::Result;
use model::error::Error;
use model::ids::RequestId;
use model::limits;
use model::map::ChunkFailure;
use serde_json::value::RawValue;

use super::docs::goes_on;
use super::segment::{Line, SEGMENT_BYTES, Writer};
use super::stage::{StageRun, slot_of};
use super::window::{Ended, Slot};
use crate::Shared;

/// Chunks that are gathered at once: fewer wait in the queue for the others, so that a map has few segments.
const GATHER: usize = 1_000;
/// Calls that are forgotten at once: they share a commit.
const FORGET_AT_ONCE: usize = 64;

/// What was gathered at once.
#[derive(Default)]
struct Gathered {
    done: u64,
    failed: u64,
    items: u64,
    failures: Vec<ChunkFailure>,
    /// Calls that are of no more use.
    calls: Vec<RequestId>,
}

impl StageRun<'_> {
    /// Whether it is worth it, or there is nothing more to wait for.
    pub(super) fn is_due_to_gather(&self, all_ended: bool) -> bool {
        let ready = self.window.ready();
        ready >= GATHER || self.window.ready_bytes() >= SEGMENT_BYTES || (all_ended && ready > 0)
    }

    /// Writes a segment of results and says in the document how far it goes; then the calls are forgotten. Those that failed stay dead letters.
    ///
    /// Errors: `conflict` where the map has ended.
    pub(super) async fn gather(&mut self) -> Result<()> {
        let level = self.map.stage.level;
        let mut writer = Writer::new(self.map.id, level, self.map.stage.gathered);
        let mut gathered = Gathered::default();
        while !writer.is_full()
            && gathered.done + gathered.failed < GATHER as u64
            && let Some(ended) = self.window.pop()
        {
            self.add(&mut writer, &mut gathered, ended).await?;
        }
        let bytes = writer.len() as u64;
        let Some((segment, blob)) = writer.take() else { return Ok(()) };
        self.shared.put_map_blob(&self.at, &segment, blob).await?;
        let from = self.map.stage.gathered;
        self.map = self
            .shared
            .change_map(&self.at, |map| {
                goes_on(map)?;
                if map.stage.level != level || map.stage.gathered != from {
                    return Err(Error::internal("two tasks run one map"));
                }
                map.stage.gathered += segment.chunks;
                map.stage.results.push(segment.clone());
                if level == 0 {
                    map.result_bytes += bytes;
                    map.done += gathered.done;
                    map.failed += gathered.failed;
                    map.items_ended += gathered.items;
                    let room = limits::MAP_FAILURES.saturating_sub(map.failures.len());
                    map.failures.extend(gathered.failures.iter().take(room).cloned());
                }
                Ok(())
            })
            .await?;
        forget(self.shared, gathered.calls).await;
        Ok(())
    }

    async fn add(&self, writer: &mut Writer, gathered: &mut Gathered, ended: Ended) -> Result<()> {
        let Ended { chunk, first_item, items, slot } = ended;
        let call = self.map.call(self.map.stage.level, chunk);
        let slot = match slot {
            Slot::Succeeded(None) => match self.shared.queue.find(call).await? {
                Some(record) => slot_of(&record),
                None => Slot::Failed("its call was forgotten by somebody".into()),
            },
            slot => slot,
        };
        gathered.items += u64::from(items);
        let line = match &slot {
            Slot::Succeeded(Some(answer)) => {
                gathered.done += 1;
                gathered.calls.push(call);
                line(chunk, Some(answer), None)?
            }
            Slot::Failed(message) => {
                gathered.failed += 1;
                if gathered.failures.len() < limits::MAP_FAILURES {
                    let (call, message) = (call.to_string(), message.clone());
                    gathered.failures.push(ChunkFailure { chunk, first_item, call, message });
                }
                line(chunk, None, Some(message))?
            }
            Slot::Open | Slot::Succeeded(None) => {
                return Err(Error::internal("a chunk that had ended goes on"));
            }
        };
        writer.add_line(&line);
        Ok(())
    }
}

fn line(chunk: u64, answer: Option<&Bytes>, error: Option<&str>) -> Result<Vec<u8>> {
    let result: Option<&RawValue> =
        answer.map(|answer| serde_json::from_slice(answer)).transpose().map_err(Error::internal)?;
    let line = Line { chunk, result, error: error.map(Cow::Borrowed) };
    serde_json::to_vec(&line).map_err(Error::internal)
}

/// What cannot be forgotten now is, when its time comes.
async fn forget(shared: &Shared, calls: Vec<RequestId>) {
    let forgotten = stream::iter(calls).map(|id| shared.queue.forget(id));
    forgotten
        .for_each_concurrent(FORGET_AT_ONCE, |forgotten| async move {
            if let Err(error) = forgotten.await {
                tracing::debug!(%error, "a call of a map is not forgotten yet");
            }
        })
        .await;
}
