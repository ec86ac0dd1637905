//! The threads that run guests, and the ticks that interrupt them.
//!
//! Guests have a tokio runtime of their own: one that computes for ever keeps none of the daemon's threads busy, and at each tick it goes to the end of the line of
//! all guests.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Engine, EngineWeak};

use super::host::FILES;
use super::machine::{CALLS_AT_ONCE, KEPT};
use super::printed::lock;

/// How long a guest computes before others have their turn. Longer delays them, shorter costs switches.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a guest after which the clock stands still.
const IDLE_TICKS: u32 = 100;
/// How often a clock that stands still looks whether it is still needed.
const LOOK: Duration = Duration::from_secs(1);
/// Threads for what blocks: files.
const BLOCKING_THREADS: usize = 8;
/// Guests that are run before the thread looks at timers and sockets again. Of those that compute for ever each takes a tick.
const EVENT_INTERVAL: u32 = 2;

/// Where guests run.
pub(super) struct Guests {
    /// Taken when it ends.
    runtime: Mutex<Option<Runtime>>,
    /// Where to spawn a guest. Once the runtime has ended, that guest ends before it runs.
    pub(super) handle: Handle,
    /// Who may run: as many as the pool has room for.
    pub(super) room: Arc<Semaphore>,
    /// Who may have files: with as many descriptors as the daemon can spare.
    pub(super) files: Arc<Semaphore>,
    /// Instances that stand between calls.
    kept: Arc<Semaphore>,
    clock: Arc<Clock>,
    thread: Thread,
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests").field("room", &self.room).finish_non_exhaustive()
    }
}

impl Guests {
    /// Starts the threads.
    pub(super) fn start(engine: &Engine) -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("wasm-guests")
            .event_interval(EVENT_INTERVAL)
            // What has just come would else wait behind dozens of ticks.
            .global_queue_interval(1)
            .enable_all()
            .build()?;
        let clock = Arc::new(Clock::default());
        let (ticking, weak) = (Arc::clone(&clock), engine.weak());
        let ticks = thread::Builder::new().name("wasm-ticks".into());
        let thread = ticks.spawn(move || ticking.run(&weak))?.thread().clone();
        let [room, kept] = [CALLS_AT_ONCE, KEPT]
            .map(|n| Arc::new(Semaphore::new(usize::try_from(n).unwrap_or(1))));
        let files = Arc::new(Semaphore::new(with_files()));
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Mutex::new(Some(runtime)), handle, room, files, kept, clock, thread })
    }

    /// The right to keep an instance until its next call; `None` if too many are kept already. `with_files`: whether it has some.
    pub(super) fn keep(&self, with_files: bool) -> Option<OwnedSemaphorePermit> {
        // Others have files too.
        let spare = !with_files || self.files.available_permits() > self::with_files() / 2;
        spare.then(|| Arc::clone(&self.kept).try_acquire_owned().ok()).flatten()
    }

    /// Ends every guest, at its next tick or where it waits, and those to come. Whether there was any.
    pub(super) fn end(&self) -> bool {
        if let Some(runtime) = lock(&self.runtime).take() {
            // A runtime that is dropped waits for its threads, which a thread of another one must not.
            runtime.shutdown_background();
        }
        self.clock.running.load(Ordering::SeqCst) > 0
    }

    /// One more guest runs, until what is returned is dropped.
    pub(super) fn enter(&self) -> Running {
        self.clock.running.fetch_add(1, Ordering::SeqCst);
        if self.clock.stands.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(Arc::clone(&self.clock))
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.end();
    }
}

/// How many calls may have files at once: with a quarter of the daemon's descriptors.
fn with_files() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|n| usize::try_from(n).ok());
    let most = usize::try_from(CALLS_AT_ONCE).unwrap_or(1);
    descriptors.map_or(most, |n| (n / 4 / FILES).clamp(1, most))
}

/// That a guest runs, so that the clock ticks.
#[derive(Debug)]
pub(super) struct Running(Arc<Clock>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the ticks go by.
#[derive(Debug, Default)]
struct Clock {
    running: AtomicUsize,
    /// The thread is parked, or about to be.
    stands: AtomicBool,
}

impl Clock {
    /// Ticks while guests run, until the engine is gone.
    fn run(&self, engine: &EngineWeak) {
        let mut idle = 0;
        while let Some(engine) = engine.upgrade() {
            if self.running.load(Ordering::SeqCst) > 0 {
                idle = 0;
            } else {
                idle += 1;
            }
            if idle < IDLE_TICKS {
                engine.increment_epoch();
                thread::sleep(TICK);
                continue;
            }
            drop(engine);
            self.stands.store(true, Ordering::SeqCst);
            // A guest that has come since the look above has seen that it stands, or is seen here.
            if self.running.load(Ordering::SeqCst) == 0 {
                thread::park_timeout(LOOK);
            }
            self.stands.store(false, Ordering::SeqCst);
            idle = if self.running.load(Ordering::SeqCst) > 0 { 0 } else { IDLE_TICKS };
        }
    }
}
