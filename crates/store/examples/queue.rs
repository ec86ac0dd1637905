//! How fast the queue is: `queue FOLDER ROUNDS SECONDS BACKLOG` prints a JSON object a line, for `cargo x bench queue`.
//!
//! Two stores, one of which has BACKLOG messages that wait in a lane of their own. In turn each has ROUNDS rounds of SECONDS: [`PRODUCERS`] enqueue one message at a time, as calls come, while
//! others lease and end them. Before each round the disk is asked how often it can write a page through to itself.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example: a failure is a panic, and what it prints is what it is for"
)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::clock::{Clock as _, SystemClock};
use model::ids::RequestId;
use model::ports::{End, Ended, Lane, Leased, NewMessage, Queue};
use model::tasks::Tasks;
use serde_json::json;
use store::{Store, StoreConfig};
use tokio::sync::{Semaphore, mpsc};

/// Who enqueues at once.
const PRODUCERS: usize = 64;
/// Lanes that they enqueue to.
const LANES: usize = 16;
/// Messages that are ended at once: what the engine may run.
const ENDING: usize = 256;
/// Messages of one lease: a turn of the engine's.
const LEASE: usize = 16;
/// Of a message, in bytes: an envelope and a small event.
const PAYLOAD_BYTES: usize = 300;
/// Messages that are enqueued at once to fill a queue.
const FILL: usize = 500;
/// How long the disk is asked for.
const DISK: Duration = Duration::from_millis(500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, rounds, seconds, backlog] = &arguments[..] else {
        panic!("expected FOLDER ROUNDS SECONDS BACKLOG");
    };
    let turn = Duration::from_secs_f64(seconds.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(
        Path::new(folder),
        rounds.parse().unwrap(),
        turn,
        backlog.parse().unwrap(),
    ));
}

async fn measure(folder: &Path, rounds: usize, turn: Duration, backlog: usize) {
    let empty = open(&folder.join("empty")).await;
    let full = open(&folder.join("full")).await;
    let before = resident_bytes();
    let started = Instant::now();
    fill(&full, backlog).await;
    let fill_ms = started.elapsed().as_millis();
    let bytes = resident_bytes().saturating_sub(before);
    println!("{}", json!({ "what": "fill", "messages": backlog, "ms": fill_ms, "bytes": bytes }));
    // Once unmeasured: files grow, caches fill.
    load(&empty, turn / 4).await;
    load(&full, turn / 4).await;
    for round in 0..rounds {
        let both = [("empty", &empty), ("full", &full)];
        for turn_number in 0..2 {
            let (name, store) = both[(round + turn_number) % 2];
            let writes = disk(folder);
            let busy = Busy::now();
            let Load { mut enqueues, ended, elapsed } = load(store, turn).await;
            let busy = Busy::now().since(&busy);
            enqueues.sort_unstable();
            let at =
                |percent: usize| enqueues[(enqueues.len() * percent / 100).min(enqueues.len() - 1)];
            println!(
                "{}",
                json!({
                    "what": name, "enqueued": enqueues.len(), "ended": ended, "us": elapsed.as_micros(),
                    "p50_us": at(50).as_micros(), "p99_us": at(99).as_micros(), "writes_per_second": writes,
                    "writer_ns": busy.writer_ns / enqueues.len() as u64, "others_ns": busy.others_ns / enqueues.len() as u64,
                })
            );
        }
    }
    empty.close().await.unwrap();
    full.close().await.unwrap();
    let started = Instant::now();
    let full = open(&folder.join("full")).await;
    let note = Arc::new(|_: &Lane, _| Some(Bytes::new()));
    full.queue.reclaim(note).await.unwrap();
    println!("{}", json!({ "what": "open", "ms": started.elapsed().as_millis() }));
    full.close().await.unwrap();
}

async fn open(path: &Path) -> Store {
    store::open(StoreConfig::at(path), Arc::new(SystemClock), &Tasks::new()).await.unwrap()
}

fn message(lane: &Lane) -> NewMessage {
    NewMessage {
        id: RequestId::generate(),
        lane: lane.clone(),
        run_at: SystemClock.now(),
        key: None,
        payload: Bytes::from_static(&[b'x'; PAYLOAD_BYTES]),
    }
}

async fn fill(store: &Store, messages: usize) {
    let lane = Lane::new("default/waiting").unwrap();
    let mut left = messages;
    while left > 0 {
        let n = left.min(FILL);
        store.queue.enqueue((0..n).map(|_| message(&lane)).collect()).await.unwrap();
        left -= n;
    }
}

/// Bytes of memory that this process has.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Processor time of this process, in nanoseconds.
struct Busy {
    /// Of the threads that write the databases.
    writer_ns: u64,
    others_ns: u64,
}

impl Busy {
    fn now() -> Self {
        let mut busy = Self { writer_ns: 0, others_ns: 0 };
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            // A thread may end just now.
            let read = |file| std::fs::read_to_string(task.join(file)).unwrap_or_default();
            let ns =
                read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            if read("comm").trim_end() == "store-writer" {
                busy.writer_ns += ns;
            } else {
                busy.others_ns += ns;
            }
        }
        busy
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            writer_ns: self.writer_ns.saturating_sub(before.writer_ns),
            others_ns: self.others_ns.saturating_sub(before.others_ns),
        }
    }
}

/// Pages a second that are written through, one after the other.
fn disk(folder: &Path) -> f64 {
    let path = folder.join("disk");
    let mut file = File::create(&path).unwrap();
    let (started, mut writes) = (Instant::now(), 0_u32);
    while started.elapsed() < DISK {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        writes += 1;
    }
    let rate = f64::from(writes) / started.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path).unwrap();
    rate
}

struct Load {
    enqueues: Vec<Duration>,
    ended: u64,
    elapsed: Duration,
}

/// What all of a round share.
struct Round {
    queue: Arc<dyn Queue>,
    lanes: Vec<Lane>,
    over: AtomicBool,
    enqueues: Mutex<Vec<Duration>>,
    ended: AtomicU64,
}

async fn load(store: &Store, turn: Duration) -> Load {
    let lanes = (0..LANES).map(|n| Lane::new(&format!("default/f{n}")).unwrap()).collect();
    let round = Arc::new(Round {
        queue: Arc::clone(&store.queue),
        lanes,
        over: AtomicBool::new(false),
        enqueues: Mutex::default(),
        ended: AtomicU64::new(0),
    });
    let tasks = Tasks::new();
    let started = Instant::now();
    let mut producers = Vec::new();
    for n in 0..PRODUCERS {
        producers.push(tasks.spawn("produce", produce(Arc::clone(&round), n % LANES)));
    }
    let (give, take) = mpsc::channel(ENDING);
    let take = Arc::new(tokio::sync::Mutex::new(take));
    let room = Arc::new(Semaphore::new(ENDING));
    let mut leasing = Vec::new();
    for n in 0..LANES {
        let (round, give, room) = (Arc::clone(&round), give.clone(), Arc::clone(&room));
        leasing.push(tasks.spawn("lease", lease(round, n, give, room)));
    }
    drop(give);
    let mut enders = Vec::new();
    for _ in 0..ENDING {
        let (round, take, room) = (Arc::clone(&round), Arc::clone(&take), Arc::clone(&room));
        enders.push(tasks.spawn("end", end(round, take, room)));
    }
    tokio::time::sleep(turn).await;
    let (ended, elapsed) = (round.ended.load(Ordering::Relaxed), started.elapsed());
    round.over.store(true, Ordering::Relaxed);
    for producer in producers {
        producer.await.unwrap();
    }
    let enqueues = std::mem::take(&mut *round.enqueues.lock().unwrap());
    // The rest is ended outside of what is measured: the next round begins as this one did.
    for task in leasing.into_iter().chain(enders) {
        task.await.unwrap();
    }
    Load { enqueues, ended, elapsed }
}

async fn produce(round: Arc<Round>, lane: usize) {
    let lane = &round.lanes[lane];
    let mut took = Vec::new();
    while !round.over.load(Ordering::Relaxed) {
        let started = Instant::now();
        round.queue.enqueue(vec![message(lane)]).await.unwrap();
        took.push(started.elapsed());
    }
    round.enqueues.lock().unwrap().extend(took);
}

/// Leases from a lane, as long as there is room for what it leases, until nothing is left.
async fn lease(round: Arc<Round>, lane: usize, give: mpsc::Sender<Leased>, room: Arc<Semaphore>) {
    let (lane, ttl) = (&round.lanes[lane], Duration::from_secs(60));
    loop {
        if round.queue.depth(lane).messages == 0 && round.over.load(Ordering::Relaxed) {
            return;
        }
        let places = u32::try_from(LEASE).unwrap();
        room.acquire_many(places).await.unwrap().forget();
        let batch = round.queue.lease(lane, LEASE, ttl).await.unwrap();
        room.add_permits(LEASE - batch.messages.len());
        if batch.messages.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for message in batch.messages {
            give.send(message).await.unwrap();
        }
    }
}

async fn end(
    round: Arc<Round>,
    take: Arc<tokio::sync::Mutex<mpsc::Receiver<Leased>>>,
    room: Arc<Semaphore>,
) {
    loop {
        let Some(message) = take.lock().await.recv().await else { return };
        let end = End {
            as_what: Ended::Succeeded,
            note: Some(Bytes::from_static(
                b"{\"at\":1767225600000,\"attempt\":1,\"outcome\":\"succeeded\"}",
            )),
            result: Some(Bytes::from_static(b"null")),
            keep: Duration::from_secs(3600),
            counted: true,
        };
        round.queue.end(message.id, message.token, end).await.unwrap();
        round.ended.fetch_add(1, Ordering::Relaxed);
        room.add_permits(1);
    }
}
