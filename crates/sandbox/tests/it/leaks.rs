//! Two thousand instances that end in every way there is, and nothing of them is left: no process, zombie, mount, control group, descriptor, user id or
//! byte on disk.
//!
//! In a sandbox of its own, with its own spawner, cache and user ids, so that only what belongs to it is counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::invocation::FailureKind;
use model::ports::{Image, Instance, Sandbox as _, StartFailed};
use model::tasks::Tasks;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT, ZygoteUse};
use tokio::sync::Semaphore;

use crate::Test;
use crate::kits::provided::bootstrap;
use crate::processes::{children, eventually, folders, instances_of, own_groups, spawners};
use crate::support::{
    World, config, in_runtime, invocation, run, start, version, zip, zip_with_modes,
};

/// Whose instances they are.
const PYTHON: &str = "python3";
const PROVIDED: &str = "provided";
/// Instances in all; starts that are given up or fail count.
const INSTANCES: usize = 2_000;
/// Of those in all, where some are pre-started.
const INSTANCES_AHEAD: usize = 600;
/// Where all are forked: fewer than it takes for the spawner to be killed, whose end would leave none for half a minute.
const INSTANCES_FORKED: usize = 240;
/// Where they bring their own runtime.
const INSTANCES_PROVIDED: usize = 500;
/// Pre-started instances that lie ready at rest, and the memory for so many of them.
const KITS: usize = 2;
const KIT_MB: u32 = 5;
/// Room for a zygote and no more than that.
const ZYGOTE_MB: u32 = 30;
/// Instances at once: enough to keep two processors busy.
const AT_ONCE: usize = 6;
/// Every so many instances the spawner is killed, and all that live with it.
const SPAWNER_DIES_EVERY: usize = 250;
/// Share of instances that have to end in the way that was meant; the others met a spawner that was being killed.
const AS_MEANT_PERCENT: usize = 80;
/// How long whatever ends in the background may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Apart from the ids of the other sandboxes of these tests.
const UID_BASE: u32 = UID_BASE_DEFAULT - 300_000;

const CODE: &str = "import os, time
def handler(event, context):
    if event == 'sleep': time.sleep(3600)
    if event == 'exit': os._exit(7)
    if event == 'crash': os.kill(os.getpid(), 11)
    if event == 'children':
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                time.sleep(3600)
    if event == 'scratch':
        for n in range(100): open('/tmp/%d' % n, 'w').write('x' * 1000)
    if event == 'memory':
        held = []
        while True: held.append(bytearray(b'x') * (4 << 20))
    return event
";

/// How an instance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Death {
    Stop,
    StopWithChildren,
    StopWithScratch,
    StopFrozen,
    DropFrozen,
    Drop,
    DropInACall,
    Timeout,
    Exit,
    Crash,
    Memory,
    FailedLoad,
    FailedSetUp,
    GivenUp,
}

const DEATHS: [Death; 14] = [
    Death::Stop,
    Death::StopWithChildren,
    Death::StopWithScratch,
    Death::StopFrozen,
    Death::DropFrozen,
    Death::Drop,
    Death::DropInACall,
    Death::Timeout,
    Death::Exit,
    Death::Crash,
    Death::Memory,
    Death::FailedLoad,
    Death::FailedSetUp,
    Death::GivenUp,
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "leaks::two_thousand_instances_leave_nothing".into(),
            run: Box::new(|world| {
                Box::pin(nothing_left(world, PYTHON, INSTANCES, 0, ZygoteUse::Off))
            }),
        },
        Test {
            name: "leaks::pre_started_instances_leave_nothing".into(),
            run: Box::new(|world| {
                Box::pin(nothing_left(world, PYTHON, INSTANCES_AHEAD, KITS, ZygoteUse::Off))
            }),
        },
        Test {
            name: "leaks::instances_with_their_own_runtime_leave_nothing".into(),
            run: Box::new(|world| {
                Box::pin(nothing_left(world, PROVIDED, INSTANCES_PROVIDED, 0, ZygoteUse::Off))
            }),
        },
        Test {
            name: "leaks::forked_instances_leave_nothing".into(),
            run: Box::new(|world| {
                Box::pin(nothing_left(world, PYTHON, INSTANCES_FORKED, 0, ZygoteUse::Alone))
            }),
        },
    ]
}

/// A fixed sequence of numbers without pattern (the generator of Numerical Recipes), so that a failure can be repeated.
fn random(state: &mut u32) -> usize {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    usize::try_from(*state >> 8).unwrap()
}

/// What an instance could leave behind, counted.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    /// Of the daemon's side, which is this process.
    descriptors: usize,
    spawner_descriptors: usize,
    /// Zombies count.
    children_of_the_spawner: usize,
    own_children: usize,
    /// Processes of the host that run under an id of this sandbox.
    strangers: usize,
    mounts: usize,
    mounts_of_the_spawner: usize,
    groups: usize,
    users: Option<usize>,
    files: usize,
    bytes: u64,
}

impl Remains {
    fn count(sandbox: &ProcessSandbox, spawner: &str, cache: &Path) -> Self {
        let listed = |path: &str| fs::read_dir(path).into_iter().flatten().count();
        let lines = |path: &str| fs::read_to_string(path).unwrap_or_default().lines().count();
        let (files, bytes) = on_disk(cache);
        Self {
            descriptors: listed("/proc/self/fd"),
            spawner_descriptors: listed(&format!("/proc/{spawner}/fd")),
            children_of_the_spawner: instances_of(spawner).len(),
            own_children: children("self").len(),
            strangers: strangers(),
            mounts: lines("/proc/self/mounts"),
            mounts_of_the_spawner: lines(&format!("/proc/{spawner}/mounts")),
            groups: groups_of_this_process(),
            users: sandbox.users_held(),
            files,
            bytes,
        }
    }
}

/// Control groups below those that this process made.
fn groups_of_this_process() -> usize {
    let prefix = format!("hanshu-{}-", std::process::id());
    let entries = own_groups().into_iter().filter_map(|own| fs::read_dir(own).ok());
    let ours = entries
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|e| 1 + folders(&e.path())).sum()
}

fn strangers() -> usize {
    let ids = UID_BASE..UID_BASE + 65_536;
    let status = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).ok();
    let uid = |status: String| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(status).filter_map(uid).filter(|uid| ids.contains(uid)).count()
}

/// Files and folders below a folder, and their bytes.
fn on_disk(folder: &Path) -> (usize, u64) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.fold((0, 0), |(files, bytes), entry| {
        let (inner_files, inner_bytes) = match entry.metadata() {
            Ok(data) if data.is_dir() => on_disk(&entry.path()),
            Ok(data) => (0, data.len()),
            Err(_) => (0, 0),
        };
        (files + 1 + inner_files, bytes + inner_bytes)
    })
}

/// The functions that are started.
struct Images {
    good: Arc<dyn Image>,
    /// Its code cannot be loaded.
    bad: Arc<dyn Image>,
    /// Its code is not there to be mounted.
    lost: Arc<dyn Image>,
}

impl Images {
    async fn prepare(sandbox: &ProcessSandbox, runtime: &str, cache: &Path) -> Self {
        let image = async |package| {
            let info = sandbox.check_package(package).await.unwrap();
            let version = version(sandbox, "leaks", info.digest, BTreeMap::new());
            let mut version = in_runtime(sandbox, &version, runtime);
            Arc::make_mut(&mut version).config.memory_mb = 64;
            (sandbox.prepare(version).await.unwrap(), info.digest)
        };
        let [good, bad, lost] = if runtime == PROVIDED {
            ["answers", "throws", "lost"].map(|file| {
                zip_with_modes(&[("bootstrap", bootstrap(), 0o755), (file, b"", 0o644)])
            })
        } else {
            [CODE, "import nothing_of_the_kind", "handler = None"]
                .map(|code| zip(&[("main.py", code)]))
        };
        let (good, _) = image(good).await;
        let (bad, _) = image(bad).await;
        let (lost, digest) = image(lost).await;
        fs::remove_dir_all(cache.join("packages").join(digest.to_string()).join("code")).unwrap();
        Self { good, bad, lost }
    }
}

/// Lets one instance live and die; whether it died as it was meant to.
async fn live(images: &Images, death: Death, number: usize) -> bool {
    let image = match death {
        Death::FailedLoad => &images.bad,
        Death::FailedSetUp => &images.lost,
        _ => &images.good,
    };
    if death == Death::GivenUp {
        // At any stage of the start, or just after it.
        let patience = Duration::from_micros(u64::try_from(number * 97 % 40_000).unwrap());
        return !matches!(tokio::time::timeout(patience, image.start()).await, Ok(Err(_)));
    }
    match image.start().await {
        Err(StartFailed::Function(failure)) => {
            death == Death::FailedLoad && failure.kind == FailureKind::Init
        }
        Err(StartFailed::Platform(_)) => death == Death::FailedSetUp,
        Ok(instance) => die(instance, death).await,
    }
}

async fn die(mut instance: Box<dyn Instance>, death: Death) -> bool {
    let event = match death {
        Death::StopWithChildren | Death::StopFrozen | Death::DropFrozen => "children",
        Death::StopWithScratch => "scratch",
        Death::DropInACall | Death::Timeout => "sleep",
        Death::Exit => "exit",
        Death::Crash => "crash",
        Death::Memory => "memory",
        _ => "hello",
    };
    let time = if death == Death::Timeout { Duration::from_millis(20) } else { PATIENCE };
    let invocation = invocation(format!("\"{event}\""), time);
    let call = run(&mut *instance, &invocation);
    if death == Death::DropInACall {
        let ended = tokio::time::timeout(Duration::from_millis(5), call).await;
        drop(instance);
        return ended.is_err();
    }
    let outcome = call.await;
    let kind = outcome.result.err().map(|failure| failure.kind);
    if matches!(death, Death::StopFrozen | Death::DropFrozen)
        && let Some(freeze) = instance.freeze()
    {
        // One whose spawner was killed meanwhile cannot be.
        freeze();
    }
    match death {
        Death::Drop | Death::DropFrozen => drop(instance),
        _ => instance.stop().await,
    }
    match death {
        Death::Timeout => kind == Some(FailureKind::Timeout),
        Death::Exit | Death::Crash => kind == Some(FailureKind::Exited),
        // Where nothing limits an instance as a whole, Python is refused memory and says so, and a program in Go ends.
        Death::Memory => matches!(
            kind,
            Some(FailureKind::MemoryExceeded | FailureKind::Handler | FailureKind::Exited)
        ),
        _ => kind.is_none(),
    }
}

/// Lets all instances live and die; gives how many of each kind died as they were meant to, of how many.
async fn massacre(
    tasks: &Tasks,
    images: Images,
    instances: usize,
    spawner: impl Fn() -> Option<String>,
) -> BTreeMap<Death, (usize, usize)> {
    let (images, places) = (Arc::new(images), Arc::new(Semaphore::new(AT_ONCE)));
    let mut state = 20_261_123;
    let mut lives = Vec::new();
    for number in 1..=instances {
        let death = DEATHS[random(&mut state) % DEATHS.len()];
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let images = Arc::clone(&images);
        let life = tasks.spawn("life", async move {
            let as_meant = live(&images, death, number).await;
            drop(place);
            (death, as_meant)
        });
        lives.push(life);
        if number % SPAWNER_DIES_EVERY == 0
            && let Some(pid) = spawner()
        {
            kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        }
    }
    let mut deaths = BTreeMap::<_, (usize, usize)>::new();
    for life in lives {
        let (death, as_meant) = life.await.unwrap();
        let (meant, all) = deaths.entry(death).or_default();
        *meant += usize::from(as_meant);
        *all += 1;
    }
    deaths
}

async fn nothing_left(
    world: Arc<World>,
    runtime: &'static str,
    instances: usize,
    kits: usize,
    zygote: ZygoteUse,
) {
    // Other tests' groups may still be going, or be made ahead.
    let (others, groups) = (spawners(), settled(groups_of_this_process).await);
    let cache = world.folder.path().join(format!("leaks {runtime} {kits} {zygote:?}"));
    let tasks = Tasks::new();
    let forked = zygote == ZygoteUse::Alone && world.forks();
    let prestart_memory_mb = if forked { ZYGOTE_MB } else { KIT_MB * u32::try_from(kits).unwrap() };
    let config = SandboxConfig { uid_base: UID_BASE, prestart_memory_mb, zygote, ..config(&cache) };
    let sandbox = start(config, world.logs.clone(), tasks.clone()).await;
    let stocked = || {
        let starts = sandbox.starts();
        starts.ready == u64::try_from(kits).unwrap() && starts.zygotes == u64::from(forked)
    };
    let own = || spawners().into_iter().find(|pid| !others.contains(pid));
    let images = Images::prepare(&sandbox, runtime, &cache).await;
    // What is made once and stays is made before the first count.
    images.good.start().await.unwrap().stop().await;
    let good = Arc::clone(&images.good);
    let count = || Remains::count(&sandbox, &own().unwrap_or_default(), &cache);
    eventually("the stock is full", stocked).await;
    let before = settled(count).await;
    // Two processes each; of an ordinary user's none is a stranger.
    let strangers = if before.users.is_some() { 2 * kits } else { 0 };
    let processes = (before.children_of_the_spawner, before.strangers);
    assert_eq!(processes, (kits, strangers), "{before:?}");
    assert!(before.users.is_none_or(|held| held == kits) && before.files > 0, "{before:?}");

    let begun = Instant::now();
    let deaths = massacre(&tasks, images, instances, own).await;
    println!("     {instances} instances in {:?}: {deaths:?}", begun.elapsed());
    let starts = sandbox.starts();
    assert_eq!(starts.pre_started > 0, kits > 0, "{starts:?}");
    assert_eq!(starts.forked > starts.executed, forked, "{starts:?}");
    for (death, (as_meant, all)) in deaths {
        assert!(as_meant * 100 >= all * AS_MEANT_PERCENT, "{death:?}: {as_meant} of {all}");
    }
    // The last spawner may have been killed: this brings another.
    good.start().await.unwrap().stop().await;
    drop(good);
    // What a killed spawner leaves behind is reaped by the host's first process, which takes its time on some hosts.
    let end = Instant::now() + PATIENCE;
    while count() != before && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(settled(count).await, before);
    drop(sandbox);
    assert_eq!(tasks.drain(PATIENCE).await, 0);
    assert_eq!((settled(groups_of_this_process).await, own()), (groups, None));
}

/// The counts once they have not changed for a second: what ends in the background ends within moments.
async fn settled<T: PartialEq + std::fmt::Debug>(count: impl Fn() -> T) -> T {
    let end = Instant::now() + PATIENCE;
    let (mut last, mut same) = (count(), 0);
    while same < 10 {
        assert!(Instant::now() < end, "still changing: {last:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = count();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}
