//! At the deadline every process of an instance is gone, whatever it does.
//!
//! The bound asserted here is a wide one, for busy machines; each test says how long it took. `cargo x bench kill` measures the promised figure.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::function::Cores;
use model::invocation::FailureKind;
use model::ports::Sandbox as _;
use model::tasks::Tasks;
use serde_json::json;

use crate::processes::{children, eventually, instances_of, spawner};
use crate::support::{World, invocation, run, version, zip};
use crate::{Place, Test};

/// Runs the Python text of the event, then waits for ever.
const CODE: &str = "import ctypes, os, platform, signal, socket, sys, threading, time
def forever():
    while True: time.sleep(1)
def child(run):
    pid = os.fork()
    if pid == 0:
        try: run()
        finally: os._exit(0)
    return pid
def handler(event, context):
    exec(event, globals())
    forever()
";
/// Time until the deadline: enough to set the scene on a busy machine.
const TIME: Duration = Duration::from_millis(1500);
/// How long after the deadline the end may come on a machine that is as busy as can be.
const BOUND: Duration = Duration::from_secs(5);

/// One way to try to stay.
struct Way {
    name: &'static str,
    python: &'static str,
    /// How many processes there have to be at some time before the deadline, pid 1 and the runtime included.
    processes: usize,
    /// A ceiling on processor time, in thousandths.
    cpu_millis: Option<u32>,
}

const fn way(name: &'static str, processes: usize, python: &'static str) -> Way {
    Way { name, python, processes, cpu_millis: None }
}

const WAYS: &[Way] = &[
    way("a_busy_loop", 2, "while True: pass"),
    way(
        "busy_threads",
        2,
        "
def spin():
    while True: pass
for _ in range(50): threading.Thread(target=spin).start()
spin()",
    ),
    way(
        "ignored_signals",
        2,
        "
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    ),
    way(
        "forked_grandchildren",
        8,
        "
def grow(depth):
    if depth: child(lambda: grow(depth - 1)); child(lambda: grow(depth - 1))
    forever()
grow(2)",
    ),
    way(
        "double_fork_and_a_session_of_its_own",
        3,
        "
def daemon():
    os.setsid()
    child(forever)
    os._exit(0)
os.waitpid(child(daemon), 0)",
    ),
    way(
        "stopped_processes",
        5,
        "
for _ in range(3): child(lambda: (os.kill(os.getpid(), signal.SIGSTOP), forever()))
os.kill(os.getpid(), signal.SIGSTOP)",
    ),
    way(
        "full_pipes",
        3,
        "
def fill():
    _, end = os.pipe()
    while True: os.write(end, b'x' * 65536)
child(fill)
a, b = socket.socketpair()
while True: a.send(b'x' * 65536)",
    ),
    way(
        "a_flood_of_output",
        3,
        "
def flood():
    while True: os.write(2, b'x' * 65536)
child(flood)
flood()",
    ),
    // CLONE_VFORK without CLONE_VM: the parent waits in the kernel, where nothing but a fatal signal reaches it.
    way(
        "a_wait_in_the_kernel",
        3,
        "
number = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
if ctypes.CDLL(None).syscall(number, 0x4000 | 17, 0, 0, 0, 0) == 0: forever()",
    ),
    way(
        "a_hundred_busy_processes",
        50,
        "
def spin():
    while True: pass
for _ in range(100): child(spin)",
    ),
    way(
        "a_fork_bomb",
        20,
        "
while True:
    try: os.fork()
    except OSError: pass",
    ),
    way(
        "forks_that_outrun_the_killer",
        2,
        "
def run():
    while True:
        if os.fork(): os._exit(0)
child(run)",
    ),
    way(
        "memory_and_scratch_full",
        2,
        "
held = bytearray(b'x') * (40 << 20)
for n in range(2000): open('/tmp/%d' % n, 'w').write('x')
open('/tmp/big', 'wb').write(b'x' * (30 << 20))",
    ),
    Way {
        name: "a_share_of_processor_time_that_is_used_up",
        python: "
def spin():
    while True: pass
for _ in range(20): child(spin)",
        processes: 4,
        cpu_millis: Some(100),
    },
];

pub(crate) fn tests() -> Vec<Test> {
    let test = |way: &'static Way| Test {
        name: format!("deadline::{}_ends", way.name),
        place: Place::Shared,
        run: Box::new(move |world| Box::pin(ends(world, way))),
    };
    WAYS.iter().map(test).collect()
}

/// All processes of a spawner's instances that live, or are zombies.
fn processes_of(spawner: &str) -> Vec<String> {
    let mut all = instances_of(spawner);
    for first in instances_of(spawner) {
        all.extend(descendants(&first));
    }
    all
}

/// All descendants of a process that live, or are zombies.
fn descendants(pid: &str) -> Vec<String> {
    let mut all = children(pid);
    for child in children(pid) {
        all.extend(descendants(&child));
    }
    all
}

/// Counts the instance's processes until told to stop; gives the most there were.
fn count(tasks: &Tasks, spawner: String) -> impl Future<Output = usize> {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let counting = tasks.spawn("count", async move {
        let mut most = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            most = most.max(processes_of(&spawner).len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        most
    });
    async move {
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        counting.await.unwrap()
    }
}

async fn ends(world: Arc<World>, way: &Way) {
    let sandbox = &world.sandbox;
    let info = sandbox.check_package(zip(&[("main.py", CODE)])).await.unwrap();
    let mut version = version(sandbox, "deadline", info.digest, [].into());
    let config = &mut Arc::make_mut(&mut version).config;
    // So much memory that the number of processes is what bounds a fork bomb.
    (config.memory_mb, config.processes) = (512, 200);
    config.cpu_cores = way.cpu_millis.map(Cores::from_millis);
    let image = sandbox.prepare(version).await.unwrap();
    let mut instance = image.start().await.unwrap();
    let spawner = spawner();
    // What earlier tests let go ends in the background.
    eventually("only this instance runs", || instances_of(&spawner).len() == 1).await;

    let most = count(&world.tasks, spawner.clone());
    let call = invocation(json!(way.python).to_string(), TIME);
    let deadline = Instant::now() + TIME;
    let outcome = run(&mut *instance, &call).await;
    let late = Instant::now().saturating_duration_since(deadline);
    let left = processes_of(&spawner);
    let most = most.await;

    let failure = outcome.result.unwrap_err();
    let payload = String::from_utf8_lossy(&failure.payload);
    assert_eq!(failure.kind, FailureKind::Timeout, "{payload}");
    assert!(!instance.alive());
    let states: Vec<_> =
        left.iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/status"))).collect();
    assert_eq!(left, Vec::<String>::new(), "processes outlived the deadline: {states:?}");
    assert!(most >= way.processes, "{most} processes at most: the scene was never set");
    assert!(late < BOUND, "gone {late:?} after the deadline");
    println!("     {}: {most} processes gone {late:?} after the deadline", way.name);
}
