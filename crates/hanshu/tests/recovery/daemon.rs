//! The part of a daemon that asynchronous calls go through: the store, the engine, and clients that keep them busy.

use std::collections::HashSet;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{Deps, Engine, EngineConfig};
use model::alias::Carried;
use model::clock::Clock;
use model::function::{CallKey, FunctionConfig};
use model::ids::{Digest, FunctionRef, RequestId};
use model::invocation::{Call, CallContext};
use model::keys;
use model::ports::{Ended, Enqueued, Expect, ListedStanding, Listing};
use model::suites::functions::{InProcess, deployed};
use model::tasks::Tasks;
use store::{Store, StoreConfig};

use crate::clock::FastClock;
use crate::faults::Mortal;
use crate::functions::{self, Known};
use crate::ledger::{self, Entry, Ledger};
use crate::{Dice, Orders};

/// What a child says once it is at work.
pub(crate) const UP: &str = "@ up";
/// Longer than a life, by the fast clock.
const LONG_LEASE: Duration = Duration::from_secs(24 * 3600);
/// Renewed within a life: after a third of it, which is half a second.
const SHORT_LEASE: Duration = Duration::from_secs(300);
/// Clients that enqueue at once.
const CLIENTS: u64 = 4;
/// Clients whose calls have keys.
const KEY_CALLERS: u64 = 6;
/// Keys that one of them uses in one life, at most,
const KEYS: u64 = 20;
/// and in all.
const KEYS_OF_A_CALLER: u64 = 1_000_000;
/// Calls of one client in one life.
const CALLS: usize = 40;

/// See the module.
pub(crate) struct Daemon {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    ledger: Arc<Ledger>,
    tasks: Tasks,
}

impl Daemon {
    pub(crate) async fn start(orders: &Orders) -> Self {
        let folder = Path::new(&orders.folder);
        let clock: Arc<dyn Clock> = Arc::new(FastClock::since(orders.began_ms));
        let tasks = Tasks::new();
        let config = StoreConfig::at(folder.join("data"));
        let store = store::open(config, Arc::clone(&clock), &tasks).await.unwrap();
        deploy(&store, &*clock).await;
        let ledger = Arc::new(Ledger::open(folder));
        let done = ledger::read(folder).into_iter().filter(|(_, e)| *e == Entry::Done);
        let done: HashSet<RequestId> = done.map(|(id, _)| id).collect();
        let has_long_calls = orders.fault.is_some_and(|fault| fault.is_of_long_calls());
        let (lease, times_as_slow) =
            if has_long_calls { (SHORT_LEASE, 100) } else { (LONG_LEASE, 1) };
        let known = Known::new(Arc::clone(&ledger), done, times_as_slow);
        let deps = Deps {
            meta: Arc::clone(&store.meta),
            queue: Arc::new(Mortal::new(Arc::clone(&store.queue), orders.fault)),
            blobs: Arc::clone(&store.blobs),
            sandbox: Arc::new(InProcess(Arc::new(known))),
            usage: Arc::clone(&store.usage),
            webhooks: Arc::new(model::ports::NoWebhooks),
            clock,
        };
        let config = EngineConfig {
            async_concurrency: 16,
            async_lease: lease,
            // Nobody is refused: what the clock makes of half a minute is short.
            queue_wait: Duration::from_secs(3600),
            ..EngineConfig::default()
        };
        let engine = Engine::start(config, deps).await.unwrap();
        Self { engine, store, ledger, tasks }
    }

    /// Returns once nothing waits any more.
    pub(crate) async fn idle(&self) {
        while !self.store.queue.depths().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn stop(&self) {
        self.engine.drain(Duration::from_secs(1)).await;
        self.tasks.drain(Duration::from_secs(1)).await;
        self.store.close().await.unwrap();
    }

    /// One that calls, and now and then calls off what was called, or brings back to life what is dead.
    async fn client(self: Arc<Self>, seed: u64) {
        let (mut dice, mut mine) = (Dice(seed), Vec::new());
        for _ in 0..CALLS {
            let id = RequestId::generate();
            let function =
                *functions::ALL.get(usize::try_from(dice.roll(8)).unwrap()).unwrap_or(&"good");
            let call = Call {
                id,
                target: FunctionRef::parse("default", function).unwrap(),
                payload: Bytes::from_static(b"{}"),
                context: CallContext::default(),
            };
            self.engine.enqueue(call, &Carried::default()).await.unwrap();
            self.ledger.write(id, Entry::Accepted);
            mine.push(id);
            match dice.roll(12) {
                0 => {
                    let any = mine[usize::try_from(dice.roll(mine.len() as u64)).unwrap()];
                    if let Some(call) = self.engine.call(any).await.unwrap()
                        && self.engine.cancel_call(&call.summary).await.is_ok()
                    {
                        self.ledger.write(any, Entry::Cancelled);
                    }
                }
                1 => self.redrive(&mut dice).await,
                _ => {}
            }
        }
    }

    /// One whose calls have keys, and who asks again with the key of the last call until it has an answer, from life to life.
    async fn caller_with_keys(self: Arc<Self>, n: u64, folder: PathBuf) {
        let keys = n * KEYS_OF_A_CALLER..(n + 1) * KEYS_OF_A_CALLER;
        let answered = ledger::read(&folder).into_iter().filter_map(|(_, entry)| match entry {
            Entry::Keyed(key) if keys.contains(&key) => Some(key + 1),
            _ => None,
        });
        let first = answered.max().unwrap_or(keys.start);
        for key in first..first + KEYS {
            let event = Bytes::from(format!("key {key}"));
            let given = Some(key.to_string());
            let print = Digest::of(&event);
            let function = if key % 4 == 0 { "slow" } else { "good" };
            let call = Call {
                id: RequestId::generate(),
                target: FunctionRef::parse("default", function).unwrap(),
                payload: event,
                context: CallContext {
                    key: Some(Box::new(CallKey { given, print })),
                    ..CallContext::default()
                },
            };
            let (id, bare) = (call.id, Carried::default());
            // Every other one waits for what comes of it; there may be nothing to come of one that was cut too often.
            let id = if key % 2 == 0 {
                self.engine.invoke(call, &bare).await.map(|done| done.id)
            } else {
                self.engine.enqueue(call, &bare).await.map(|answer| match answer {
                    Enqueued::New => id,
                    Enqueued::Duplicate(first) | Enqueued::Different(first) => first,
                })
            };
            if let Ok(id) = id {
                self.ledger.write(id, Entry::Keyed(key));
            }
        }
    }

    async fn redrive(&self, dice: &mut Dice) {
        let standing = Some(ListedStanding::Ended(Ended::Dead));
        let listing = Listing { standing, limit: 20, ..Listing::default() };
        let dead = self.engine.calls(listing).await.unwrap();
        let Some(one) = dead.get(usize::try_from(dice.roll(dead.len() as u64)).unwrap()) else {
            return;
        };
        if self.engine.redrive_call(one).await.is_ok() {
            self.ledger.write(one.id, Entry::Redriven);
        }
    }
}

/// The functions, unless they are there from an earlier life.
async fn deploy(store: &Store, clock: &dyn Clock) {
    for name in functions::ALL {
        let key = FunctionRef::parse("default", name).unwrap().key;
        let function = deployed(&key, FunctionConfig::new("test", name), clock.now());
        let value = serde_json::to_vec(&function).unwrap();
        // A conflict: it is there.
        drop(store.meta.put_if(&keys::function(&key), Expect::Absent, value.into()).await);
    }
}

/// The child. It does nothing when a person starts it.
#[test]
#[ignore = "the child of every_accepted_call_ends_once_whenever_the_daemon_is_killed"]
fn works_until_it_is_killed() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    let Some(orders) = Orders::parse(&line) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let daemon = Arc::new(Daemon::start(&orders).await);
        println!("\n{UP}");
        let tasks = Tasks::new();
        for n in 0..CLIENTS {
            drop(tasks.spawn("client", Arc::clone(&daemon).client(orders.seed + n)));
        }
        for n in 0..KEY_CALLERS {
            let folder = PathBuf::from(&orders.folder);
            drop(tasks.spawn("caller", Arc::clone(&daemon).caller_with_keys(n, folder)));
        }
        // The parent kills us long before; this only ends a child whose parent died.
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
}
