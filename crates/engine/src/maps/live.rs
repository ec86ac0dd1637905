//! The maps that go on in this process, and how far each of them is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Result;
use model::error::Error;
use model::ids::{NamespaceName, RequestId};
use model::limits;
use model::map::Map;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::docs::At;

/// When somebody who was refused for the number of maps may try again.
const AGAIN: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Maps {
    live: Mutex<HashMap<RequestId, Arc<Live>>>,
    inputs: Semaphore,
}

impl Default for Maps {
    fn default() -> Self {
        Self { live: Mutex::default(), inputs: Semaphore::new(limits::MAP_INPUTS_AT_ONCE) }
    }
}

/// A map that goes on.
#[derive(Debug)]
pub(super) struct Live {
    namespace: NamespaceName,
    /// Somebody changed its document.
    pub(super) changed: Notify,
    /// Set once its task knows them.
    counts: Mutex<Option<MapProgress>>,
}

/// How far a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapProgress {
    /// Chunks that succeeded.
    pub done: u64,
    /// Chunks that failed.
    pub failed: u64,
    /// Items of chunks that have ended.
    pub items_ended: u64,
    /// Calls that wait for their turn or run.
    pub running: u64,
    /// Chunks of the stage under way that have ended.
    pub stage_ended: u64,
}

impl MapProgress {
    /// What a document says, where nobody knows better.
    pub(super) fn of(map: &Map) -> Self {
        Self {
            done: map.done,
            failed: map.failed,
            items_ended: map.items_ended,
            running: 0,
            stage_ended: map.stage.gathered,
        }
    }
}

impl Live {
    pub(super) fn report(&self, progress: MapProgress) {
        *lock(&self.counts) = Some(progress);
    }

    pub(super) fn progress(&self) -> Option<MapProgress> {
        *lock(&self.counts)
    }
}

impl Maps {
    /// Takes a place for a new map of this namespace.
    ///
    /// Errors: `throttled`.
    pub(super) fn admit(self: &Arc<Self>, at: &At) -> Result<Place> {
        let mut live = lock(&self.live);
        let of_namespace = live.values().filter(|map| map.namespace == at.namespace).count();
        if of_namespace >= limits::MAPS_RUNNING {
            let message = format!(
                "{} maps of namespace '{}' go on: expected at most so many",
                limits::MAPS_RUNNING,
                at.namespace
            );
            return Err(
                Error::throttled(message, AGAIN).with_hint("wait for one of them, or cancel one")
            );
        }
        Ok(self.enter(&mut live, at))
    }

    /// A place for a map that was there before; none if it has one.
    pub(super) fn resume(self: &Arc<Self>, at: &At) -> Option<Place> {
        let mut live = lock(&self.live);
        (!live.contains_key(&at.id)).then(|| self.enter(&mut live, at))
    }

    fn enter(self: &Arc<Self>, all: &mut HashMap<RequestId, Arc<Live>>, at: &At) -> Place {
        let live = Arc::new(Live {
            namespace: at.namespace.clone(),
            changed: Notify::new(),
            counts: Mutex::default(),
        });
        all.insert(at.id, Arc::clone(&live));
        Place { maps: Arc::clone(self), at: at.clone(), live }
    }

    pub(super) fn find(&self, id: RequestId) -> Option<Arc<Live>> {
        lock(&self.live).get(&id).cloned()
    }

    /// Permission to receive an input.
    ///
    /// Errors: `throttled`.
    pub(super) fn receive(&self) -> Result<SemaphorePermit<'_>> {
        self.inputs.try_acquire().map_err(|_| {
            let most = limits::MAP_INPUTS_AT_ONCE;
            Error::throttled(format!("{most} inputs of maps are received already"), AGAIN)
        })
    }
}

/// Of a map that goes on; dropped when it does so no more.
#[derive(Debug)]
pub(super) struct Place {
    maps: Arc<Maps>,
    pub(super) at: At,
    pub(super) live: Arc<Live>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.maps.live).remove(&self.at.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
