//! Functions that do not want to stand still while they are idle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ports::{Instance, Sandbox as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::processes::{children, eventually, instances_of, spawner, spawners};
use crate::support::{World, invocation, run, version, zip};
use crate::{Place, Test};

/// Starts processes that go on for ever, in the way that the event names, and says how many; `served` counts.
const CODE: &str = r#"
import ctypes, os, signal, struct, time
served = 0

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)

def busy():
    while True: pass

def own_session():
    os.setsid()
    busy()

def blocks_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
    busy()

def ignores_stops():
    for s in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    busy()

def continues_others():
    os.setsid()
    # Without what the interpreter does between two calls, it is nearly always amid one.
    libc = ctypes.CDLL(None)
    while True: libc.kill(-1, signal.SIGCONT)

def continue_each_other():
    child(continues_others)
    child(continues_others)
    continues_others()

def runs_away():
    while True:
        pid = os.fork()
        if pid > 0:
            os._exit(0)
        os.setpgid(0, 0)

def forks():
    while True:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

def sleeps():
    while True: time.sleep(0.001)

def orphaned_group():
    # One that ends by a signal of the kernel's, and leaves a group that is stopped without anybody to continue it.
    child(own_group_busy)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    busy()

def own_group_busy():
    os.setpgid(0, 0)
    busy()

def sigcont_by_timer():
    libc = ctypes.CDLL(None, use_errno=True)
    # sigevent: value, signal, notify by signal.
    event = ctypes.create_string_buffer(struct.pack('qii48x', 0, signal.SIGCONT, 0))
    timer = ctypes.c_void_p()
    if libc.timer_create(1, event, ctypes.byref(timer)) != 0: os._exit(1)
    every = struct.pack('qqqq', 0, 5_000_000, 0, 5_000_000)
    if libc.timer_settime(timer, 0, ctypes.create_string_buffer(every), None) != 0: os._exit(1)
    busy()

def handler(event, context):
    global served
    served += 1
    for name in event.get('start', []): child(globals()[name])
    time.sleep(0.1)
    return served
"#;

/// All but what the kernel does at a process's request.
const ATTACKS: [&str; 10] = [
    "busy",
    "own_session",
    "blocks_signals",
    "ignores_stops",
    "continues_others",
    "continue_each_other",
    "runs_away",
    "forks",
    "sleeps",
    "orphaned_group",
];
/// Stopped by signals, a function gets by with these; a control group holds them.
const BY_THE_KERNEL: &str = "sigcont_by_timer";
/// Time for a call on a machine that is kept busy.
const AMPLE: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "freezing::nothing_that_a_function_does_keeps_it_running".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(stands_still(world))),
        },
        Test {
            name: "freezing::a_killed_spawner_takes_frozen_instances_along".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(killed_spawner(world))),
        },
        Test {
            name: "freezing::one_that_dies_while_it_stands_still_is_found_dead".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(dies(world))),
        },
    ]
}

async fn start(world: &World) -> Box<dyn Instance> {
    let info = world.sandbox.check_package(zip(&[("main.py", CODE)])).await.unwrap();
    let version = version(&world.sandbox, "restless", info.digest, BTreeMap::new());
    world.sandbox.prepare(version).await.unwrap().start().await.unwrap()
}

async fn call(instance: &mut dyn Instance, event: Value) -> Value {
    let outcome = run(instance, &invocation(event.to_string(), AMPLE)).await;
    serde_json::from_slice(&outcome.result.unwrap()).unwrap()
}

/// The first processes of all instances.
fn first_processes() -> Vec<String> {
    spawners().iter().flat_map(|spawner| instances_of(spawner)).collect()
}

/// All processes below one.
fn below(pid: &str) -> BTreeSet<String> {
    let own = children(pid);
    let further = own.iter().flat_map(|pid| below(pid)).collect::<Vec<_>>();
    own.into_iter().chain(further).collect()
}

/// Clock ticks that a process has used.
fn ticks(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Every process of the function with the time that it has used.
fn state() -> BTreeMap<String, u64> {
    let all = first_processes().iter().flat_map(|pid| below(pid)).collect::<BTreeSet<_>>();
    all.into_iter().map(|pid| (pid.clone(), ticks(&pid))).collect()
}

/// The state once it stays as it is: to stand still a process has to get a processor once more.
async fn settled() -> BTreeMap<String, u64> {
    let until = Instant::now() + AMPLE;
    let mut before = state();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = state();
        if now == before {
            return now;
        }
        assert!(Instant::now() < until, "it never stands still: {now:?}");
        before = now;
    }
}

async fn stands_still(world: Arc<World>) {
    let attacks = ATTACKS.map(|name| vec![name]).into_iter().chain([ATTACKS.to_vec()]);
    let by_the_kernel = world.sandbox.isolation().has("freeze").then(|| vec![BY_THE_KERNEL]);
    for attack in attacks.chain(by_the_kernel) {
        let mut instance = start(&world).await;
        assert_eq!(call(&mut *instance, json!({"start": attack})).await, 1);
        assert!(instance.freeze().is_some_and(|later| later()), "{attack:?}");
        let before = settled().await;
        assert!(before.len() > 1, "{attack:?}: {before:?}");
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(state(), before, "{attack:?}: processes and their time");
        assert_eq!(call(&mut *instance, json!({})).await, 2, "{attack:?}");
        eventually("it goes on after a call", || state() != before).await;
        instance.stop().await;
        assert_eq!(state(), BTreeMap::new(), "{attack:?}");
    }
}

async fn killed_spawner(world: Arc<World>) {
    let mut instance = start(&world).await;
    call(&mut *instance, json!({"start": ["own_session", "blocks_signals"]})).await;
    assert!(instance.freeze().is_some_and(|later| later()));
    let all: BTreeSet<String> = state().into_keys().chain(first_processes()).collect();
    kill(&spawner());
    let gone = || all.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap());
    eventually("frozen processes die with their spawner", gone).await;
    found_dead(&mut *instance).await;
    assert!(!instance.hand(&invocation("{}".to_owned(), AMPLE)));
    assert!(instance.freeze().is_none());
    instance.stop().await;
}

async fn dies(world: Arc<World>) {
    for sleeping in [true, false] {
        let mut instance = start(&world).await;
        let start = if sleeping { "sleeps" } else { "busy" };
        call(&mut *instance, json!({"start": [start]})).await;
        assert!(instance.freeze().is_some_and(|later| later()));
        assert!(instance.alive() && instance.is_frozen());
        // As the kernel does when the host's memory runs out.
        kill(&first_processes()[0]);
        found_dead(&mut *instance).await;
        assert_eq!(state(), BTreeMap::new());
        assert!(!instance.hand(&invocation("{}".to_owned(), AMPLE)));
        instance.stop().await;
    }
}

async fn found_dead(instance: &mut dyn Instance) {
    let until = Instant::now() + AMPLE;
    while instance.alive() {
        assert!(Instant::now() < until, "nobody finds out that it is dead");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kill(pid: &str) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
}
