//! What is made before the instances that use it: that none of it is used twice, and that instances start without it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::ports::{Image, Instance, Sandbox as _};
use model::tasks::Tasks;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::ProcessSandbox;
use serde_json::Value;

use crate::processes::{NETWORK_MAKER, children, eventually, own_groups, spawners};
use crate::support::{World, copy, invocation, open, run, version, zip};
use crate::{Place, Test};

/// More than lie ready of anything.
const BURST: usize = 12;
/// Tells of the namespaces, the root and the network; or leaves something behind wherever it can.
const CODE: &str = "import os, socket
kept = []
def handler(event, context):
    if event == 'leave':
        open('/tmp/left', 'w').close()
        open('/dev/shm/left', 'w').close()
        for name in (b'\\0left', '/tmp/socket'):
            kept.append(socket.socket(socket.AF_UNIX)); kept[-1].bind(name); kept[-1].listen()
        kept.append(socket.socket()); kept[-1].bind(('127.0.0.1', 4000)); kept[-1].listen()
    def taken():
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(b'\\0left')
    def listens():
        with socket.socket() as s:
            return s.connect_ex(('127.0.0.1', 4000))
    return {
        'namespaces': {n: os.readlink('/proc/self/ns/' + n) for n in os.listdir('/proc/self/ns')},
        'tmp': os.listdir('/tmp') + os.listdir('/dev/shm'),
        'mounts': len(open('/proc/self/mountinfo').readlines()),
        'interfaces': sorted(n for _, n in socket.if_nameindex()),
        'connected': [taken() == 0, listens() == 0],
        'runtime': os.listdir('/var/runtime'),
    }
";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "ahead::a_burst_shares_nothing_that_was_made_ahead".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(burst(world))),
        },
        Test {
            name: "ahead::nothing_of_an_instance_reaches_the_next".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(one_after_the_other(world))),
        },
        Test {
            name: "ahead::without_networks_made_ahead_instances_start_as_well".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(without_maker(world))),
        },
        Test {
            name: "ahead::a_folder_that_the_host_replaced_is_seen_anew".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(replaced(world))),
        },
        Test {
            name: "ahead::control_groups_lie_ready_and_go_with_the_sandbox".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(groups(world))),
        },
    ]
}

async fn image(sandbox: &ProcessSandbox) -> Arc<dyn Image> {
    let info = sandbox.check_package(zip(&[("main.py", CODE)])).await.unwrap();
    let version = version(sandbox, "ahead", info.digest, [].into());
    sandbox.prepare(version).await.unwrap()
}

async fn call(instance: &mut dyn Instance, event: &str) -> Value {
    let call = invocation(format!("\"{event}\""), Duration::from_secs(20));
    serde_json::from_slice(&run(instance, &call).await.result.unwrap()).unwrap()
}

/// An instance is fresh if it has a root and a network and nobody has been there.
fn is_fresh(seen: &Value) {
    assert_eq!(seen["tmp"], Value::Array(Vec::new()));
    assert_eq!(seen["interfaces"], serde_json::json!(["lo"]));
    assert_eq!(seen["connected"], serde_json::json!([false, false]));
}

async fn burst(world: Arc<World>) {
    let image = image(&world.sandbox).await;
    let starts: Vec<_> = (0..BURST)
        .map(|_| {
            let image = Arc::clone(&image);
            world.tasks.spawn("a start", async move { image.start().await.unwrap() })
        })
        .collect();
    let mut instances = Vec::new();
    for start in starts {
        instances.push(start.await.unwrap());
    }
    let mut seen = BTreeSet::new();
    let mut mounts = BTreeSet::new();
    for instance in &mut instances {
        // Whoever comes later would find what this one leaves, if they shared anything.
        let before = call(&mut **instance, "look").await;
        is_fresh(&before);
        mounts.insert(before["mounts"].as_u64());
        for (kind, name) in before["namespaces"].as_object().unwrap() {
            // A process of the daemon's: time namespaces are not made.
            if !kind.starts_with("time") && !kind.ends_with("_for_children") {
                assert!(seen.insert(name.to_string()), "{kind} is shared");
            }
        }
        call(&mut **instance, "leave").await;
    }
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    for instance in instances {
        instance.stop().await;
    }
}

async fn one_after_the_other(world: Arc<World>) {
    let image = image(&world.sandbox).await;
    let mut mounts = BTreeSet::new();
    for _ in 0..BURST {
        let mut instance = image.start().await.unwrap();
        let seen = call(&mut *instance, "look").await;
        is_fresh(&seen);
        mounts.insert(seen["mounts"].as_u64());
        call(&mut *instance, "leave").await;
        instance.stop().await;
    }
    assert_eq!(mounts.len(), 1, "{mounts:?}");
}

/// The processes that make networks ahead for the sandboxes of this program.
fn makers() -> Vec<String> {
    let comm = |pid: &String| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let children = spawners().into_iter().flat_map(|spawner| children(&spawner));
    children.filter(|pid| comm(pid).trim() == NETWORK_MAKER).collect()
}

async fn without_maker(world: Arc<World>) {
    let (tasks, before) = (Tasks::new(), makers());
    let other = open(&world.folder.path().join("ahead"), world.logs.clone(), tasks.clone()).await;
    let image = image(&other).await;
    let mut first = image.start().await.unwrap();
    let fresh: Vec<_> = makers().into_iter().filter(|pid| !before.contains(pid)).collect();
    assert_eq!(fresh.len(), usize::from(rustix::process::geteuid().is_root()));
    for pid in &fresh {
        kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    for _ in 0..BURST {
        let mut instance = image.start().await.unwrap();
        is_fresh(&call(&mut *instance, "look").await);
        instance.stop().await;
    }
    // Nor is it left as a zombie.
    assert!(fresh.iter().all(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()));
    is_fresh(&call(&mut *first, "look").await);
    first.stop().await;
    drop((image, other));
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, 0);
}

async fn replaced(world: Arc<World>) {
    let (tasks, cache) = (Tasks::new(), world.folder.path().join("replaced"));
    let other = open(&cache, world.logs.clone(), tasks.clone()).await;
    let image = image(&other).await;
    let mut old = image.start().await.unwrap();
    // As a package manager would: another folder in the place of the one that instances are shown.
    let folders = fs::read_dir(cache.join("bootstraps")).unwrap().map(|e| e.unwrap().path());
    let bootstraps = folders.into_iter().find(|folder| folder.join("python").is_dir()).unwrap();
    let away = cache.join("away");
    fs::rename(&bootstraps, &away).unwrap();
    copy(&away, &bootstraps);
    fs::write(bootstraps.join("new"), "").unwrap();
    let has_new = |seen: &Value| seen["runtime"].as_array().unwrap().contains(&"new".into());
    let mut fresh = image.start().await.unwrap();
    assert!(has_new(&call(&mut *fresh, "look").await));
    assert!(!has_new(&call(&mut *old, "look").await));
    fresh.stop().await;
    old.stop().await;
    drop((image, other));
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, 0);
}

/// Groups in the parent groups that this process has made, the parents left out.
fn made_groups() -> BTreeSet<PathBuf> {
    let prefix = format!("hanshu-{}-", std::process::id());
    let inside = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let parents = own_groups().into_iter().flat_map(inside);
    let parents = parents.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    let groups = parents.flat_map(|parent| inside(parent.path()));
    groups.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

async fn groups(world: Arc<World>) {
    let limited = world.sandbox.isolation().has("memory");
    let (tasks, before) = (Tasks::new(), made_groups());
    let other = open(&world.folder.path().join("groups"), world.logs.clone(), tasks.clone()).await;
    let added = || made_groups().difference(&before).cloned().collect::<BTreeSet<_>>();
    assert_eq!(added(), BTreeSet::new(), "none before the first start says how large");
    let image = image(&other).await;
    let first = image.start().await.unwrap();
    eventually("groups lie ready, if there are any", || (added().len() > 4) == limited).await;
    let ready = added();
    let second = image.start().await.unwrap();
    // One of them is used, and another takes its place.
    eventually("the groups are as many as before and one more", || {
        added().is_superset(&ready) && (added().len() > ready.len()) == limited
    })
    .await;
    first.stop().await;
    second.stop().await;
    drop((image, other));
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, 0);
    eventually("no group is left", || added().is_empty()).await;
}
