//! What is particular to processes: the spawner's death, and that nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::clock::UnixMillis;
use model::function::{CodeRef, FunctionConfig, Version};
use model::ids::{FunctionRef, RequestId};
use model::invocation::{CallContext, FailureKind, Invocation, Outcome};
use model::ports::{Image, Instance, Sandbox as _};
use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::support::{World, zip};

/// Answers what it is sent, sleeps for ever, or ends, as the event says.
const CODE: &str = "import os, time
def handler(event, context):
    if event == 'sleep': time.sleep(3600)
    if event == 'exit': os._exit(7)
    return event
";
/// How long whatever ends in the background may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "processes::a_killed_spawner_takes_its_instances_along_and_is_replaced".into(),
            run: Box::new(|world| Box::pin(killed_spawner(world))),
        },
        Test {
            name: "processes::instances_start_at_once_and_are_strangers_to_each_other".into(),
            run: Box::new(|world| Box::pin(many_at_once(world))),
        },
        Test {
            name: "processes::nothing_is_left_behind".into(),
            run: Box::new(|world| Box::pin(nothing_left(world))),
        },
    ]
}

async fn image(world: &World) -> Arc<dyn Image> {
    let package = zip(&[("main.py", CODE)]);
    let info = world.sandbox.check_package(package.clone()).await.unwrap();
    let version = Version {
        key: FunctionRef::parse("default", "process").unwrap().key,
        number: None,
        config: FunctionConfig {
            description: String::new(),
            runtime: "python3".into(),
            handler: "main.handler".into(),
            timeout_ms: 3_000,
            memory_mb: 128,
            environment: BTreeMap::new(),
        },
        code: CodeRef {
            digest: info.digest,
            size_bytes: package.len() as u64,
            unpacked_bytes: info.unpacked_bytes,
        },
        runtime: world.sandbox.resolve_runtime("python3").unwrap(),
        modified_at: UnixMillis(0),
    };
    world.sandbox.prepare(Arc::new(version)).await.unwrap()
}

async fn call(instance: &mut dyn Instance, event: &str, time: Duration) -> Outcome {
    let invocation = Invocation {
        id: RequestId::generate(),
        attempt: 1,
        payload: Bytes::from(format!("\"{event}\"")),
        deadline: Instant::now() + time,
        deadline_unix: UnixMillis(u64::MAX),
        context: CallContext::default(),
    };
    instance.invoke(invocation).await
}

/// Children of a process: every thread's.
fn children(pid: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|p| !p.is_empty())
        .collect()
}

fn spawner() -> String {
    let name = |pid: &String| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let found = children("self").into_iter().find(|pid| name(pid).trim() == "hanshu-spawner");
    found.expect("a spawner runs")
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn killed_spawner(world: Arc<World>) {
    let image = image(&world).await;
    let mut instance = image.start().await.unwrap();
    assert_eq!(call(&mut *instance, "hello", PATIENCE).await.result.unwrap(), "\"hello\"");
    let spawner_pid = spawner();
    let instances = children(&spawner_pid);
    assert!(!instances.is_empty());
    kill_process(Pid::from_raw(spawner_pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    eventually("the instances are gone", || {
        instances.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    })
    .await;
    let failure = call(&mut *instance, "hello", PATIENCE).await.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Exited);
    assert!(!instance.alive());

    let mut next = image.start().await.unwrap();
    assert_eq!(call(&mut *next, "again", PATIENCE).await.result.unwrap(), "\"again\"");
    assert_ne!(spawner(), spawner_pid);
    next.stop().await;
}

async fn many_at_once(world: Arc<World>) {
    const COUNT: usize = 20;
    let image = image(&world).await;
    let starts = (0..COUNT).map(|_| {
        let image = Arc::clone(&image);
        world.tasks.spawn("start", async move { image.start().await })
    });
    let mut instances = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        instances.push(start.await.unwrap().unwrap());
    }
    let owner = |pid: &String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap_or_default();
        uid.split_whitespace().next().map(str::to_owned)
    };
    let owners: BTreeSet<_> = children(&spawner()).iter().filter_map(owner).collect();
    if world.sandbox.isolation()["users"].starts_with("a host user of its own") {
        assert_eq!(owners.len(), COUNT, "{owners:?}");
        assert!(!owners.contains("0"), "{owners:?}");
    } else {
        assert_eq!(owners.len(), 1, "an ordinary daemon has one user: {owners:?}");
    }
    for instance in &mut instances {
        assert_eq!(call(&mut **instance, "x", PATIENCE).await.result.unwrap(), "\"x\"");
    }
    for instance in instances {
        instance.stop().await;
    }
}

/// What an instance could leave behind, counted.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    descriptors: usize,
    processes: usize,
    mounts: usize,
    groups: usize,
}

impl Remains {
    fn count() -> Self {
        let own_groups = fs::read_to_string("/proc/self/cgroup").unwrap();
        let below = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let controller = controllers.split(',').next()?;
            let hierarchy = if controller.is_empty() { "unified" } else { controller };
            let known =
                [format!("/sys/fs/cgroup/{hierarchy}{path}"), format!("/sys/fs/cgroup{path}")];
            known
                .iter()
                .find(|folder| Path::new(folder).is_dir())
                .map(|folder| folders(Path::new(folder)))
        };
        Self {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            processes: children(&spawner()).len(),
            mounts: fs::read_to_string("/proc/self/mounts").unwrap().lines().count(),
            groups: own_groups.lines().filter_map(below).sum(),
        }
    }
}

fn folders(at: &Path) -> usize {
    let inner = fs::read_dir(at).into_iter().flatten().flatten();
    let inner = inner.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    inner.map(|e| 1 + folders(&e.path())).sum()
}

async fn nothing_left(world: Arc<World>) {
    let image = image(&world).await;
    // What is made once and stays is made before the first count.
    image.start().await.unwrap().stop().await;
    eventually("the first instance is gone", || children(&spawner()).is_empty()).await;
    let before = settled().await;
    for round in 0..60 {
        let mut instance = image.start().await.unwrap();
        match round % 5 {
            0 => instance.stop().await,
            1 => drop(instance),
            2 => {
                let outcome = call(&mut *instance, "sleep", Duration::from_millis(20)).await;
                assert_eq!(outcome.result.unwrap_err().kind, FailureKind::Timeout);
            }
            3 => {
                let outcome = call(&mut *instance, "exit", PATIENCE).await;
                assert_eq!(outcome.result.unwrap_err().kind, FailureKind::Exited);
            }
            _ => {
                // Dropped in the middle of a call, as when the daemon stops.
                let half = call(&mut *instance, "sleep", PATIENCE);
                assert!(tokio::time::timeout(Duration::from_millis(20), half).await.is_err());
            }
        }
    }
    assert_eq!(settled().await, before);
}

/// The counts once they have not changed for two seconds: control groups of instances that have ended are removed in the background.
async fn settled() -> Remains {
    const PAUSE: Duration = Duration::from_millis(100);
    let end = Instant::now() + PATIENCE;
    let (mut last, mut same) = (Remains::count(), 0);
    while same < 20 {
        assert!(Instant::now() < end, "still changing: {last:?}");
        tokio::time::sleep(PAUSE).await;
        let now = Remains::count();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}
