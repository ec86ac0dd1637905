//! The task of a map: stage after stage, then its end; and what is done about the maps of a daemon that died.

use std::sync::Arc;
use std::time::Duration;

use model::Result;
use model::calls::{KEEP_DEAD_SECONDS, KEEP_SECONDS};
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::keys;
use model::limits;
use model::map::{ChunkFailure, Map, MapState, Segment, Stage};
use model::ports::{LIST_MAX, ListedStanding, Listing};

use super::docs::{At, goes_on};
use super::live::{MapProgress, Place};
use super::reduce;
use super::stage::{StageEnd, StageRun};
use crate::Shared;

/// First pause after the store or the queue failed; doubled up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// How often maps that are old enough are forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// Maps of one read.
const PAGE: usize = 100;

/// Runs a map in a task of its own until it has ended, or the engine stops.
pub(super) fn spawn(shared: &Arc<Shared>, place: Place) {
    let owned = Arc::clone(shared);
    shared.tasks.spawn_until_cancelled("map", async move { run(&owned, place).await });
}

async fn run(shared: &Arc<Shared>, place: Place) {
    let mut pause = PAUSE;
    while let Err(error) = until_cleared(shared, &place).await {
        if error.code() == Code::NotFound {
            // Deleted.
            return;
        }
        tracing::error!(map = %place.at.id, %error, source = ?std::error::Error::source(&error), "a map does not go on; trying again");
        shared.clock.sleep_until(shared.clock.instant() + pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

async fn until_cleared(shared: &Arc<Shared>, place: &Place) -> Result<()> {
    let at = &place.at;
    loop {
        let map = shared.find_map(at).await?.ok_or_else(|| at.unknown())?;
        if map.state.has_ended() {
            return clear(shared, map).await;
        }
        let end = match StageRun::new(shared, &place.live, map.clone())?.run().await? {
            StageEnd::Ended => continue,
            StageEnd::Failed(reason, failures) => {
                end(shared, at, MapState::Failed, Some(reason), &failures).await
            }
            StageEnd::Finished => advance(shared, at).await,
        };
        match end {
            // Somebody ended it meanwhile.
            Err(e) if e.code() == Code::Conflict => {}
            ended => ended?,
        }
    }
}

/// The next stage, or the end.
async fn advance(shared: &Shared, at: &At) -> Result<()> {
    let map = shared.find_map(at).await?.ok_or_else(|| at.unknown())?;
    let Stage { level, chunks, .. } = map.stage;
    if map.spec.reduce.is_none() || (level > 0 && chunks == 1) {
        return end(shared, at, MapState::Succeeded, None, &[]).await;
    }
    let next = reduce::stage(shared, &map).await?;
    let changed = shared.change_map(at, |map| {
        goes_on(map)?;
        let before = std::mem::replace(&mut map.stage, next.clone());
        if before.level == 0 {
            map.results = before.results;
        }
        map.state = MapState::Reducing;
        Ok(())
    });
    changed.await.map(drop)
}

/// Writes down how a map ended.
///
/// Errors: `conflict` where it has.
pub(super) async fn end(
    shared: &Shared,
    at: &At,
    state: MapState,
    error: Option<String>,
    failures: &[ChunkFailure],
) -> Result<()> {
    let now = shared.clock.now();
    let progress = shared.maps.find(at.id).and_then(|live| live.progress());
    let changed = shared.change_map(at, |map| {
        goes_on(map)?;
        (map.state, map.ended_at, map.error) = (state, Some(now), error.clone());
        if map.stage.level == 0 {
            map.results = std::mem::take(&mut map.stage.results);
            for failure in failures {
                let is_known = map.failures.iter().any(|known| known.chunk == failure.chunk);
                if map.failures.len() < limits::MAP_FAILURES && !is_known {
                    map.failures.push(failure.clone());
                }
            }
            // Chunks may have ended behind one that had not.
            if let Some(MapProgress { done, failed, items_ended, .. }) = progress {
                map.done = map.done.max(done);
                map.failed = map.failed.max(failed);
                map.items_ended = map.items_ended.max(items_ended);
            }
        } else if state == MapState::Succeeded {
            map.reduced = map.stage.results.pop();
        } else if let Some(first) = failures.first() {
            let why = map.error.take().unwrap_or_default();
            map.error = Some(format!("{why}; chunk {}: {}", first.chunk, first.message));
        }
        Ok(())
    });
    changed.await.map(drop)
}

/// Ends the calls of a map that has ended, and deletes what of it is not its result.
async fn clear(shared: &Shared, map: Map) -> Result<()> {
    if map.cleared {
        return Ok(());
    }
    cancel_calls(shared, &map).await?;
    let of_results = |segment: &Segment| segment.digest;
    let kept: Vec<_> = map.results.iter().chain(&map.reduced).map(of_results).collect();
    for digest in map.blobs.iter().filter(|digest| !kept.contains(digest)) {
        shared.blobs.delete(digest).await?;
    }
    let at = At::of(&map);
    let changed = shared.change_map(&at, |map| {
        map.blobs.clone_from(&kept);
        map.stage.source.clear();
        map.stage.results.clear();
        map.cleared = true;
        Ok(())
    });
    changed.await.map(drop)
}

/// Calls of a map that wait or run are called off.
async fn cancel_calls(shared: &Shared, map: &Map) -> Result<()> {
    let lane = map.lane()?;
    for standing in [ListedStanding::Waiting, ListedStanding::Leased, ListedStanding::Waiting] {
        let listing = Listing {
            lane: Some(lane.clone()),
            standing: Some(standing),
            limit: LIST_MAX,
            ..Listing::default()
        };
        for call in shared.queue.list(listing).await? {
            match shared.cancel_call(&call).await {
                // It has ended by itself.
                Err(e) if matches!(e.code(), Code::Conflict | Code::NotFound) => {}
                cancelled => cancelled?,
            }
        }
    }
    Ok(())
}

/// Goes on with the maps that a daemon before this one had, then forgets those that are old enough, for as long as the engine runs.
pub(super) async fn look_after(shared: Arc<Shared>) {
    let mut pause = PAUSE;
    while let Err(error) = resume(&shared).await {
        tracing::error!(%error, "maps do not go on; trying again");
        shared.clock.sleep_until(shared.clock.instant() + pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
    loop {
        if let Err(error) = expire(&shared).await {
            tracing::error!(%error, "old maps are not forgotten; trying again");
        }
        shared.clock.sleep_until(shared.clock.instant() + EXPIRE_EVERY).await;
    }
}

/// Maps of all namespaces, some behind those of the page before; none behind the last.
async fn page(shared: &Shared, after: &mut Option<String>) -> Result<Vec<Map>> {
    let maps = shared.list_maps(keys::MAPS, after.as_deref(), PAGE).await?;
    *after = maps.last().map(|(last, _)| last.clone());
    Ok(maps.into_iter().map(|(_, map)| map).collect())
}

async fn resume(shared: &Arc<Shared>) -> Result<()> {
    let mut after = None;
    loop {
        let maps = page(shared, &mut after).await?;
        if maps.is_empty() {
            return Ok(());
        }
        for map in maps {
            let at = At::of(&map);
            if map.cleared {
                continue;
            }
            // One that has a place was made since this daemon listens.
            let Some(place) = shared.maps.resume(&at) else { continue };
            if map.state == MapState::Receiving {
                // Whoever sent its input was never told that it was accepted.
                shared.remove_map(&at).await?;
            } else {
                spawn(shared, place);
            }
        }
    }
}

async fn expire(shared: &Shared) -> Result<()> {
    let now = shared.clock.now();
    let mut after = None;
    loop {
        let maps = page(shared, &mut after).await?;
        if maps.is_empty() {
            return Ok(());
        }
        for map in maps {
            let seconds =
                if map.state == MapState::Failed { KEEP_DEAD_SECONDS } else { KEEP_SECONDS };
            let is_old = |at: UnixMillis| now >= at.after(Duration::from_secs(seconds));
            if map.cleared && map.ended_at.is_some_and(is_old) {
                shared.remove_map(&At::of(&map)).await?;
            }
        }
    }
}

impl Shared {
    /// Deletes a map that has ended, whether it is cleared or not.
    ///
    /// Errors: `conflict` where it goes on.
    pub(super) async fn delete_map(&self, at: &At) -> Result<()> {
        let map = self.find_map(at).await?.ok_or_else(|| at.unknown())?;
        if !map.state.has_ended() {
            let message = format!("map '{}' has not ended: it is {}", at.id, map.state.as_str());
            return Err(Error::caller(Code::Conflict, message)
                .with_hint("cancel it first, or wait for its end"));
        }
        clear(self, map).await?;
        self.remove_map(at).await
    }
}
