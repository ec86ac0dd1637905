//! What is known of lanes without asking the database: how much waits in each, and who wants to hear of changes.
//!
//! The writer tells of each batch once it is on disk, so that nobody hears of what could still be rolled back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use model::Result;
use model::ports::{Depth, Lane, LaneWatch};
use tokio::sync::Notify;

use crate::fault;

/// What one operation changed in a lane.
#[derive(Debug)]
pub(crate) struct LaneChange {
    pub(crate) lane: Lane,
    /// Messages that came, or went.
    pub(crate) messages: i64,
    /// Bytes that came, or went.
    pub(crate) bytes: i64,
    /// Something may be due earlier than before.
    pub(crate) due: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    depths: HashMap<Lane, Depth>,
    /// The sums of lanes that belong together: [`Lane::group`].
    groups: HashMap<String, Depth>,
    watchers: Vec<Weak<Watcher>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Watcher {
    changed: Mutex<News>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct News {
    lanes: HashSet<Lane>,
    closed: bool,
}

impl Lanes {
    /// With what is in the database already.
    pub(crate) fn new(depths: HashMap<Lane, Depth>) -> Self {
        let mut groups: HashMap<String, Depth> = HashMap::new();
        for (lane, depth) in &depths {
            let sum = groups.entry(lane.group().to_owned()).or_default();
            *sum = sum.and(*depth);
        }
        Self(Mutex::new(Inner { depths, groups, ..Inner::default() }))
    }

    /// What a batch changed, after its commit.
    pub(crate) fn apply(&self, changes: &[LaneChange]) {
        if changes.is_empty() {
            return;
        }
        let mut inner = lock(&self.0);
        for change in changes {
            inner.count(change);
        }
        let due = || changes.iter().filter(|c| c.due).map(|c| c.lane.clone());
        if due().next().is_none() {
            return;
        }
        inner.watchers.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            lock(&watcher.changed).lanes.extend(due());
            watcher.notify.notify_one();
            true
        });
    }

    /// Whoever watches looks at every lane again.
    pub(crate) fn all_due(&self) {
        let mut inner = lock(&self.0);
        let Inner { depths, watchers, .. } = &mut *inner;
        watchers.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            lock(&watcher.changed).lanes.extend(depths.keys().cloned());
            watcher.notify.notify_one();
            true
        });
    }

    pub(crate) fn depth(&self, lane: &Lane) -> Depth {
        lock(&self.0).depths.get(lane).copied().unwrap_or_default()
    }

    pub(crate) fn group_depth(&self, group: &str) -> Depth {
        lock(&self.0).groups.get(group).copied().unwrap_or_default()
    }

    pub(crate) fn depths(&self) -> Vec<(Lane, Depth)> {
        lock(&self.0).depths.iter().map(|(lane, depth)| (lane.clone(), *depth)).collect()
    }

    pub(crate) fn watch(&self) -> Watching {
        let mut inner = lock(&self.0);
        let lanes = inner.depths.keys().cloned().collect();
        let watcher = Arc::new(Watcher {
            changed: Mutex::new(News { lanes, closed: inner.closed }),
            notify: Notify::new(),
        });
        inner.watchers.push(Arc::downgrade(&watcher));
        Watching(watcher)
    }

    /// Whoever waits hears that there is no more to come.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.0);
        inner.closed = true;
        for watcher in inner.watchers.drain(..).filter_map(|w| w.upgrade()) {
            lock(&watcher.changed).closed = true;
            watcher.notify.notify_one();
        }
    }
}

impl Inner {
    fn count(&mut self, change: &LaneChange) {
        let depth = self.depths.entry(change.lane.clone()).or_default();
        if change.apply(depth) {
            self.depths.remove(&change.lane);
        }
        let group = change.lane.group();
        if let Some(sum) = self.groups.get_mut(group) {
            if change.apply(sum) {
                self.groups.remove(group);
            }
        } else if change.messages > 0 {
            change.apply(self.groups.entry(group.to_owned()).or_default());
        }
    }
}

impl LaneChange {
    /// Says whether nothing is left.
    fn apply(&self, depth: &mut Depth) -> bool {
        depth.messages = depth.messages.saturating_add_signed(self.messages);
        depth.bytes = depth.bytes.saturating_add_signed(self.bytes);
        depth.messages == 0
    }
}

/// A watch on all lanes.
#[derive(Debug)]
pub(crate) struct Watching(Arc<Watcher>);

#[async_trait]
impl LaneWatch for Watching {
    async fn changed(&mut self) -> Result<Vec<Lane>> {
        loop {
            {
                let mut news = lock(&self.0.changed);
                if news.closed {
                    return Err(fault::closed());
                }
                if !news.lanes.is_empty() {
                    return Ok(news.lanes.drain().collect());
                }
            }
            self.0.notify.notified().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
