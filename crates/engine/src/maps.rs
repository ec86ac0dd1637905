//! Maps: a function over the chunks of an input, then, if that is wanted, another one over the results.
//!
//! `intake` cuts an input while it comes (`items`: what its items are), `segment` is the form of chunks and results in blobs, `docs` has the document of each map. `task` runs a map:
//! `stage` has a call for each chunk in the queue (`source`, `window`, `event`), `gather` keeps what came of them in order, `reduce` makes the next stage of it. `live` knows
//! the maps that go on in this process.
//!
//! Everything that a map has to remember is in its document, its blobs and the queue, so one that a killed daemon left goes on where it was: what is gathered is
//! not run again, and of the other chunks the queue knows which of them it has.

mod docs;
mod event;
mod gather;
mod intake;
mod items;
mod live;
mod reduce;
mod segment;
mod source;
mod stage;
mod task;
mod window;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use model::Result;
use model::error::{Code, Error};
use model::ids::{NamespaceName, RequestId};
use model::keys;
use model::limits;
use model::map::{Map, MapSpec, MapState, Segment};

use self::docs::At;
pub use self::live::MapProgress;
pub(crate) use self::live::Maps;
use self::live::Place;
use crate::{Engine, Shared};

/// Maps of one read, where all are forgotten.
const FORGET_AT_ONCE: usize = 100;

/// A map and how far it is.
#[derive(Clone, Debug)]
pub struct KeptMap {
    /// Its document.
    pub map: Map,
    /// How far it is now: the document is behind.
    pub progress: MapProgress,
}

impl KeptMap {
    fn of(shared: &Shared, map: Map) -> Self {
        let live = shared.maps.find(map.id);
        let known = live.and_then(|live| live.progress()).map(|mut progress| {
            if map.state.has_ended() {
                progress.running = 0;
            }
            progress
        });
        let progress = known.unwrap_or_else(|| MapProgress::of(&map));
        Self { map, progress }
    }
}

impl Engine {
    /// Accepts a map, once all of its input is here: durable when this returns. If the input fails nothing is left of the map.
    ///
    /// Errors: `invalid-parameter`, `invalid-body`, `payload-too-large`, `not-found`, `throttled`, `conflict` if it is cancelled while its input comes, `storage-full`,
    /// `unavailable`, and what the input says.
    pub async fn start_map(
        &self,
        id: RequestId,
        spec: MapSpec,
        input: impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<KeptMap> {
        self.refuse_when_stopping()?;
        spec.validate()?;
        for target in std::iter::once(&spec.function).chain(&spec.reduce) {
            self.shared.routes.find(target)?;
        }
        let map = Map::new(id, spec, self.shared.clock.now());
        let place = self.shared.maps.admit(&At::of(&map))?;
        let shared = Arc::clone(&self.shared);
        let accept = async move { accept(&shared, place, map, input).await };
        let map = self.shared.tasks.run_to_end("map-input", accept).await?;
        Ok(KeptMap::of(&self.shared, map))
    }

    /// A map of this namespace.
    pub async fn map(&self, namespace: &NamespaceName, id: RequestId) -> Result<Option<KeptMap>> {
        let at = At { namespace: namespace.clone(), id };
        Ok(self.shared.find_map(&at).await?.map(|map| KeptMap::of(&self.shared, map)))
    }

    /// Maps of a namespace, the oldest first, from behind `after` on.
    pub async fn maps(
        &self,
        namespace: &NamespaceName,
        after: Option<RequestId>,
        limit: usize,
    ) -> Result<Vec<KeptMap>> {
        let after = after.map(|id| keys::map(namespace, &id));
        let prefix = keys::maps_of(namespace);
        let maps = self.shared.list_maps(&prefix, after.as_deref(), limit).await?;
        Ok(maps.into_iter().map(|(_, map)| KeptMap::of(&self.shared, map)).collect())
    }

    /// Calls a map off; its calls that run are ended with their instances, soon after.
    ///
    /// Errors: `not-found`; `conflict` once it has ended.
    pub async fn cancel_map(&self, namespace: &NamespaceName, id: RequestId) -> Result<()> {
        let at = At { namespace: namespace.clone(), id };
        task::end(&self.shared, &at, MapState::Cancelled, None, &[]).await?;
        if let Some(live) = self.shared.maps.find(id) {
            live.changed.notify_one();
        }
        Ok(())
    }

    /// Forgets a map that has ended, with its results.
    ///
    /// Errors: `not-found`; `conflict` where it goes on.
    pub async fn delete_map(&self, namespace: &NamespaceName, id: RequestId) -> Result<()> {
        self.shared.delete_map(&At { namespace: namespace.clone(), id }).await
    }

    /// Cancels and forgets all maps of a namespace that is no more.
    pub async fn forget_maps(&self, namespace: &NamespaceName) -> Result<()> {
        loop {
            let maps = self.maps(namespace, None, FORGET_AT_ONCE).await?;
            if maps.is_empty() {
                return Ok(());
            }
            for KeptMap { map, .. } in maps {
                match self.cancel_map(namespace, map.id).await {
                    // It has ended, or its input was refused, by itself.
                    Err(e) if matches!(e.code(), Code::Conflict | Code::NotFound) => {}
                    cancelled => cancelled?,
                }
                match self.delete_map(namespace, map.id).await {
                    Err(e) if e.code() == Code::NotFound => {}
                    deleted => deleted?,
                }
            }
        }
    }

    /// What came of the chunks of a segment of results: a line of JSON each, `{"chunk":3,"result":…}` or `{"chunk":4,"error":"…"}`.
    pub async fn map_results(&self, segment: &Segment) -> Result<Bytes> {
        segment::body(self.shared.map_blob(&segment.digest).await?)
    }

    /// The answer of the last call of a reduce, as JSON.
    pub async fn map_result(&self, map: &Map) -> Result<Option<Bytes>> {
        let Some(segment) = &map.reduced else { return Ok(None) };
        let lines = self.map_results(segment).await?;
        let line: segment::Line<'_> = serde_json::from_slice(&lines).map_err(Error::internal)?;
        Ok(line.result.map(|result| lines.slice_ref(result.get().as_bytes())))
    }
}

/// Receives an input and starts the map.
async fn accept(
    shared: &Arc<Shared>,
    place: Place,
    map: Map,
    input: impl Stream<Item = Result<Bytes>> + Send + Unpin,
) -> Result<Map> {
    let permit = shared.maps.receive()?;
    let kept = shared.list_maps(&keys::maps_of(map.namespace()), None, limits::MAPS_KEPT).await?;
    if kept.len() >= limits::MAPS_KEPT {
        let message =
            format!("namespace '{}' has {} maps: expected fewer", map.namespace(), kept.len());
        let again = std::time::Duration::from_secs(60);
        return Err(Error::throttled(message, again).with_hint("delete some that have ended"));
    }
    shared.create_map(&map).await?;
    match intake::receive(shared, &map, input).await {
        Ok(map) => {
            drop(permit);
            task::spawn(shared, place);
            Ok(map)
        }
        Err(error) => {
            if let Err(left) = shared.remove_map(&place.at).await {
                // The next daemon does.
                tracing::error!(map = %map.id, error = %left, "the input of a refused map is not deleted");
            }
            Err(error)
        }
    }
}

/// Goes on with maps that are there and forgets old ones, until the engine stops.
pub(crate) fn start(shared: &Arc<Shared>) {
    let owned = Arc::clone(shared);
    shared.tasks.spawn_until_cancelled("maps", task::look_after(owned));
}

/// The items of an input that comes in pieces of so many bytes; none if it is refused.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn items_of(
    format: model::map::InputFormat,
    input: &[u8],
    piece: usize,
) -> Option<Vec<Vec<u8>>> {
    let (mut items, mut found) = (items::Items::new(format), Vec::new());
    let mut sink = |item: &[u8]| {
        found.push(item.to_vec());
        Ok(())
    };
    for piece in input.chunks(piece) {
        items.push(piece, &mut sink).ok()?;
    }
    items.finish(&mut sink).ok()?;
    Some(found)
}
