//! Whether a crowd of one function's calls holds up the others': `fair FOLDER FUNCTIONS BACKLOG ROUNDS SECONDS` prints a JSON object a line, for `cargo x bench fair`.
//!
//! Store and engine as in the daemon, functions that do nothing. [`PER_SECOND`] calls a second go to all functions but one in turn, first alone, then while BACKLOG calls of that one wait and run.
//! What is timed is the wait of each from its acknowledgement to its begin.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example: a failure is a panic, and what it prints is what it is for"
)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Deps, Engine, EngineConfig};
use model::alias::Carried;
use model::clock::{Clock, SystemClock};
use model::function::FunctionConfig;
use model::ids::{FunctionRef, RequestId};
use model::invocation::{Call, CallContext, Failure, Invocation};
use model::keys;
use model::ports::Expect;
use model::suites::functions::{Functions, InProcess, deployed};
use model::tasks::Tasks;
use serde_json::json;
use store::{Store, StoreConfig};

/// Calls a second to the functions that are timed.
const PER_SECOND: u32 = 500;
/// How long a call of the crowd runs.
const CROWD_RUNS: Duration = Duration::from_millis(20);
/// The function whose calls are the crowd.
const CROWD: &str = "crowd";
/// Calls of the crowd that are enqueued at once.
const FILLERS: usize = 256;
/// The event of a call.
const EVENT: Bytes = Bytes::from_static(&[b'1'; 200]);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, functions, backlog, rounds, seconds] = &arguments[..] else {
        panic!("expected FOLDER FUNCTIONS BACKLOG ROUNDS SECONDS");
    };
    let turn = Duration::from_secs_f64(seconds.parse().unwrap());
    let (functions, backlog, rounds) =
        (functions.parse().unwrap(), backlog.parse().unwrap(), rounds.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (config, clock) = (StoreConfig::at(Path::new(folder)), Arc::new(SystemClock));
        let store = store::open(config, clock, &Tasks::new()).await.unwrap();
        let world = Arc::new(World::new(&store, functions).await);
        // Once unmeasured: instances start.
        world.round(turn).await;
        for _ in 0..rounds {
            world.say("alone", &world.round(turn).await);
        }
        let (before, started) = (resident_bytes(), Instant::now());
        world.fill(backlog).await;
        let waiting: u64 = store.queue.depths().iter().map(|(_, depth)| depth.messages).sum();
        println!(
            "{}",
            json!({
                "what": "fill", "messages": waiting, "ms": started.elapsed().as_millis(),
                "bytes": resident_bytes().saturating_sub(before),
            })
        );
        for _ in 0..rounds {
            world.say("crowd", &world.round(turn).await);
        }
        // The crowd is not run to its end: the process ends here.
    });
}

/// Bytes of memory that this process has.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// An engine, its functions, and what is known of their calls.
struct World {
    engine: Engine,
    /// The functions that are timed.
    names: Vec<String>,
    began: Began,
}

/// When calls that are timed began.
type Began = Arc<Mutex<HashMap<RequestId, Instant>>>;

impl World {
    async fn new(store: &Store, functions: usize) -> Self {
        let names: Vec<String> = (1..functions).map(|n| format!("f{n}")).collect();
        for name in names.iter().map(String::as_str).chain([CROWD]) {
            deploy(store, name).await;
        }
        let began = Began::default();
        let deps = Deps {
            meta: Arc::clone(&store.meta),
            queue: Arc::clone(&store.queue),
            blobs: Arc::clone(&store.blobs),
            sandbox: Arc::new(InProcess(Arc::new(Noting(Arc::clone(&began))))),
            usage: Arc::clone(&store.usage),
            webhooks: Arc::new(model::ports::NoWebhooks),
            clock: Arc::new(SystemClock),
        };
        // What functions that do nothing would take is not the question.
        let config = EngineConfig { host_memory_mb: 1 << 20, ..EngineConfig::default() };
        Self { engine: Engine::start(config, deps).await.unwrap(), names, began }
    }

    async fn enqueue(&self, function: &str) -> RequestId {
        let id = RequestId::generate();
        let target = FunctionRef::parse("default", function).unwrap();
        let call = Call { id, target, payload: EVENT, context: CallContext::default() };
        self.engine.enqueue(call, &Carried::default()).await.unwrap();
        id
    }

    async fn fill(self: &Arc<Self>, calls: usize) {
        let tasks = Tasks::new();
        let mut fillers = Vec::new();
        for n in 0..FILLERS {
            let world = Arc::clone(self);
            let mine = calls / FILLERS + usize::from(n < calls % FILLERS);
            fillers.push(tasks.spawn("fill", async move {
                for _ in 0..mine {
                    world.enqueue(CROWD).await;
                }
            }));
        }
        for filler in fillers {
            filler.await.unwrap();
        }
    }

    /// Calls that are due at their times whatever becomes of the others; how long each waited once it was acknowledged.
    async fn round(self: &Arc<Self>, turn: Duration) -> Vec<Duration> {
        let (tasks, started) = (Tasks::new(), tokio::time::Instant::now());
        let mut calls = Vec::new();
        let mut due = Duration::ZERO;
        for name in self.names.iter().cycle() {
            if due >= turn {
                break;
            }
            tokio::time::sleep_until(started + due).await;
            due += Duration::from_secs(1) / PER_SECOND;
            let (world, name) = (Arc::clone(self), name.clone());
            calls.push(tasks.spawn("call", async move {
                let id = world.enqueue(&name).await;
                (id, Instant::now())
            }));
        }
        let mut waits = Vec::new();
        for call in calls {
            let (id, accepted) = call.await.unwrap();
            waits.push(self.began(id).await.saturating_duration_since(accepted));
        }
        waits.sort_unstable();
        waits
    }

    async fn began(&self, id: RequestId) -> Instant {
        loop {
            if let Some(began) = self.began.lock().unwrap().remove(&id) {
                return began;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn say(&self, what: &str, waits: &[Duration]) {
        let at = |permille: usize| waits[(waits.len() * permille / 1000).min(waits.len() - 1)];
        let (p50, p99, most) = (at(500), at(990), at(1000));
        println!(
            "{}",
            json!({
                "what": what, "functions": self.names.len(), "calls": waits.len(),
                "p50_us": p50.as_micros(), "p99_us": p99.as_micros(), "max_us": most.as_micros(),
            })
        );
    }
}

async fn deploy(store: &Store, name: &str) {
    let key = FunctionRef::parse("default", name).unwrap().key;
    let function = deployed(&key, FunctionConfig::new("none", name), SystemClock.now());
    let value = serde_json::to_vec(&function).unwrap();
    store.meta.put_if(&keys::function(&key), Expect::Absent, value.into()).await.unwrap();
}

/// Functions that do nothing but note when they began; the crowd's takes a while.
#[derive(Debug)]
struct Noting(Began);

#[async_trait]
impl Functions for Noting {
    async fn run(&self, function: &str, call: &Invocation) -> Result<Bytes, Failure> {
        if function == CROWD {
            tokio::time::sleep(CROWD_RUNS).await;
        } else {
            self.0.lock().unwrap().insert(call.id, Instant::now());
        }
        Ok(Bytes::from_static(b"null"))
    }
}
