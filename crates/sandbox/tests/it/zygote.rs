//! Instances that are forked from a warm runtime: a function finds in one what it finds in one of its own, each is a stranger to the others and to the
//! zygote, and a zygote that dies or hangs holds nobody up.

mod random;

use std::sync::Arc;
use std::time::Duration;

use model::function::{Variable, Version};
use model::invocation::StartPath;
use model::ports::{Instance, Sandbox as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::prestart::{PYTHON, ask, finds_the_same, function, function_of, start};
use crate::processes::{children, eventually, instances_of, is_zygote, spawners, zygotes_of};
use crate::support::{World, in_runtime, invocation, ready, run, zip};
use crate::{Place, Test};

/// Time for one call.
const AMPLE: Duration = Duration::from_secs(30);
/// Memory for pre-started instances and zygotes.
const MEMORY_MB: u32 = 256;
/// So many lie ready at rest.
const FLOOR: usize = 2;
/// Memory for a zygote of Python and what lies ready of it and of one class of Node.js, but not of two.
const ONE_ZYGOTE_MB: u32 = 46;
/// Children of a zygote that shall soon be used up, and starts that use up several.
const CHILDREN_OF_ONE: u32 = 13;
const STARTS: u32 = 40;
/// Cold starts within a minute that make a third instance lie ready, and some more.
const BURST: usize = 40;

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:path,)*) => {
            vec![$(Test {
                name: concat!("zygote::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move {
                    let forks = world.forks();
                    let world = World::forked().await;
                    match forks {
                        true => $name(&world).await,
                        false => nothing_is_forked_here(&world).await,
                    }
                    world.end().await;
                })),
            },)*]
        };
    }
    tests![
        a_function_finds_what_it_finds_in_an_instance_of_its_own,
        modules_of_the_function_come_first,
        each_virtual_machine_has_a_zygote_of_its_own,
        the_runtime_ends_as_ever,
        children_are_strangers,
        nothing_of_a_function_reaches_the_next,
        what_lies_ready_is_forked_once_there_is_a_zygote,
        what_lies_ready_is_what_it_ever_was,
        a_killed_zygote_holds_nobody_up,
        a_stopped_zygote_holds_nobody_up,
        a_zygote_ends_with_its_spawner,
        another_takes_the_place_of_a_zygote_before_it_is_used_up,
        a_zygote_makes_way_for_what_another_class_lacks,
        random::nothing_random_is_twice_in_python,
        random::nothing_random_is_twice_in_node,
        random::nothing_random_is_twice_in_java,
        random::nothing_random_is_twice_in_what_lay_ready,
    ]
}

/// An ordinary user's daemon cannot enter what it has made, and says so by doing as if there were no zygotes.
async fn nothing_is_forked_here(world: &World) {
    let version = function(world, "python3").await;
    let (mut instance, path) = start(world, &version).await;
    assert_eq!((path, world.sandbox.starts().zygotes), (StartPath::Exec, 0));
    assert_eq!(ask(&mut *instance, json!({"run": "said = 1"})).await, 1);
    instance.stop().await;
}

/// A fresh instance that was forked.
async fn start_forked(world: &World, version: &Version) -> Box<dyn Instance> {
    ready(&world.sandbox, version).await;
    let (instance, path) = start(world, version).await;
    assert_eq!(path, StartPath::Zygote, "{:?}", world.sandbox.starts());
    instance
}

async fn a_function_finds_what_it_finds_in_an_instance_of_its_own(world: &World) {
    for runtime in ["python3", "nodejs", "java17"] {
        finds_the_same(world, runtime, StartPath::Zygote, &[]).await;
    }
}

/// Also if they are named as one that the zygote has loaded.
async fn modules_of_the_function_come_first(world: &World) {
    let own = &[("main.py", PYTHON), ("queue.py", "own = 'the function\\'s'")];
    let version = function_of(world, "python3", zip(own)).await;
    let mut instance = start_forked(world, &version).await;
    let look = "import queue, json
said = [queue.own, json.dumps(1)]";
    assert_eq!(ask(&mut *instance, json!({"run": look})).await, json!(["the function's", "1"]));
    instance.stop().await;
    let version = function(world, "python3").await;
    let mut instance = start_forked(world, &version).await;
    let look = "import queue, logging, os
said = [queue.Queue().qsize(), len(logging.getLogger().handlers), os.environ['OWN']]";
    assert_eq!(ask(&mut *instance, json!({"run": look})).await, json!([0, 1, "ä=b"]));
    instance.stop().await;
}

/// Of each version that is installed, and of each size of heap.
async fn each_virtual_machine_has_a_zygote_of_its_own(world: &World) {
    let runtimes = world.sandbox.runtimes().into_iter().map(|runtime| runtime.name);
    let versions: Vec<String> = runtimes.filter(|name| name.starts_with("java")).collect();
    assert!(!versions.is_empty(), "no Java is installed");
    for (name, memory_mb) in versions.iter().flat_map(|name| [(name, 128), (name, 256)]) {
        let mut version = in_runtime(&world.sandbox, &function(world, "java17").await, name);
        Arc::make_mut(&mut version).config.memory_mb = memory_mb;
        let mut instance = start_forked(world, &version).await;
        let heap = ask(&mut *instance, json!({"run": "heap"})).await.as_u64().unwrap() >> 20;
        assert!(heap < u64::from(memory_mb) && heap > u64::from(memory_mb / 2), "{name}: {heap}");
        instance.stop().await;
    }
    let zygotes = u64::try_from(versions.len()).unwrap() * 2;
    assert_eq!(world.sandbox.starts().zygotes, zygotes);
}

/// Ends by itself with the status that it says, threads or not.
async fn the_runtime_ends_as_ever(world: &World) {
    let exits = [
        (
            "python3",
            "import os, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
os._exit(7)",
        ),
        (
            "python3",
            "import sys
sys.exit(7)",
        ),
        ("nodejs", "process.exit(7)"),
        (
            "nodejs",
            "require('fs').promises.stat('/').then(() => process.exit(7)); return new Promise(() => {})",
        ),
        ("java17", "exit"),
        ("java17", "halt"),
    ];
    for (runtime, exit) in exits {
        let version = function(world, runtime).await;
        let mut instance = start_forked(world, &version).await;
        let event = json!({"run": exit}).to_string();
        let failure = run(&mut *instance, &invocation(event, AMPLE)).await.result.unwrap_err();
        let said = String::from_utf8_lossy(&failure.payload).into_owned();
        assert!(said.contains("status 7") || said.contains("code 7"), "{runtime}: {exit}: {said}");
        instance.stop().await;
    }
}

/// What two have in common: no object of the kernel's that one could reach the other by.
async fn children_are_strangers(world: &World) {
    let python = "import os
links = [os.readlink('/proc/self/fd/%s' % fd) for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/%s' % fd)]
shared = [line for line in open('/proc/self/maps') if line.split()[1][3] == 's']
spaces = {name: os.readlink('/proc/self/ns/' + name) for name in os.listdir('/proc/self/ns') if not name.endswith('_for_children')}
said = [sorted(links), shared, spaces, os.listdir('/proc').count('3'), open('/proc/self/environ').read()]";
    let node = "const fs = require('fs');
const fds = fs.readdirSync('/proc/self/fd').flatMap((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd) } catch { return [] } });
const shared = fs.readFileSync('/proc/self/maps', 'utf8').split('\\n').filter((line) => line.split(' ')[1]?.[3] === 's');
const names = fs.readdirSync('/proc/self/ns').filter((name) => !name.endsWith('_for_children'));
const spaces = Object.fromEntries(names.map((name) => [name, fs.readlinkSync('/proc/self/ns/' + name)]));
return [fds.sort(), shared, spaces, fs.readdirSync('/proc').filter((name) => name === '3').length, fs.readFileSync('/proc/self/environ', 'utf8')]";
    for (runtime, look) in [("python3", python), ("nodejs", node), ("java17", "look")] {
        let version = function(world, runtime).await;
        let mut first = start_forked(world, &version).await;
        let mut second = start_forked(world, &version).await;
        let one = ask(&mut *first, json!({"run": look})).await;
        let two = ask(&mut *second, json!({"run": look})).await;
        for said in [&one, &two] {
            assert_eq!((&said[1], &said[3]), (&json!([]), &json!(0)), "{runtime}");
            assert!(!said[4].as_str().unwrap().contains("OWN="), "{said}");
        }
        let unlike = |kind: &str| {
            let of = |said: &Value| -> Vec<String> {
                let all =
                    said[0].as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_owned());
                all.filter(|link| link.starts_with(kind)).collect()
            };
            let (one, two) = (of(&one), of(&two));
            assert!(
                !one.is_empty() && one.iter().all(|link| !two.contains(link)),
                "{one:?}, {two:?}"
            );
        };
        assert_eq!(one[5], two[5], "{runtime}: positions in files");
        unlike("pipe:");
        unlike("socket:");
        for (name, space) in one[2].as_object().unwrap() {
            // Time has one for all.
            assert_eq!(*space == two[2][name], name == "time", "{runtime}: {name}");
        }
        first.stop().await;
        second.stop().await;
    }
}

async fn nothing_of_a_function_reaches_the_next(world: &World) {
    for (runtime, keep, look) in [
        (
            "python3",
            "import builtins, os
builtins.kept = os.environ['KEPT'] = 'x'
open('/tmp/kept', 'w').close()
said = 1",
            "import builtins, os
said = [hasattr(builtins, 'kept'), 'KEPT' in os.environ, os.path.exists('/tmp/kept')]",
        ),
        (
            "nodejs",
            "globalThis.kept = process.env.KEPT = 'x'; require('fs').writeFileSync('/tmp/kept', ''); return 1",
            "return ['kept' in globalThis, 'KEPT' in process.env, require('fs').existsSync('/tmp/kept')]",
        ),
        ("java17", "keep", "kept"),
    ] {
        let version = function(world, runtime).await;
        let mut first = start_forked(world, &version).await;
        assert_eq!(ask(&mut *first, json!({"run": keep})).await, 1);
        let mut second = start_forked(world, &version).await;
        assert_eq!(ask(&mut *second, json!({"run": look})).await, json!([false, false, false]));
        first.stop().await;
        second.stop().await;
    }
}

/// What was executed until there was a zygote is replaced, and so is what is used.
async fn what_lies_ready_is_forked_once_there_is_a_zygote(_: &World) {
    let world = World::ahead_by_zygote(MEMORY_MB).await;
    let version = function(&world, "python3").await;
    ready(&world.sandbox, &version).await;
    assert_eq!(forked_children(), 0, "the first ones cannot wait for a zygote");
    all_forked(&world, FLOOR).await;
    // As many cold starts in a minute want one more.
    for _ in 0..BURST {
        start_rested(&world, &version).await.stop().await;
    }
    all_forked(&world, FLOOR + 1).await;
    let starts = world.sandbox.starts();
    assert_eq!((starts.forked, starts.executed), (0, 0), "{starts:?}");
    world.end().await;
}

/// One that has waited has taken the way of a call before; nothing of that is left.
async fn what_lies_ready_is_what_it_ever_was(_: &World) {
    let world = World::ahead_by_zygote(MEMORY_MB).await;
    for runtime in ["python3", "nodejs", "java17"] {
        let mut version = function(&world, runtime).await;
        ready(&world.sandbox, &version).await;
        all_forked(&world, FLOOR).await;
        let mut seen = Vec::new();
        for early in [None, Some(Variable::Plain(":UTC".into()))] {
            version.config.environment.extend(early.map(|text| ("TZ".into(), text)));
            let (mut instance, _) = start(&world, &version).await;
            let mut all = ask(&mut *instance, json!({})).await;
            instance.stop().await;
            all["environment"].as_object_mut().unwrap().remove("AWS_LAMBDA_LOG_STREAM_NAME");
            all["environment"].as_object_mut().unwrap().remove("TZ");
            all.as_object_mut().unwrap().remove("mounts");
            seen.push(all);
        }
        assert_eq!(seen[0], seen[1], "{runtime}");
        let starts = world.sandbox.starts();
        assert_eq!((starts.forked, starts.pre_started > 0), (0, true), "{starts:?}");
    }
    world.end().await;
}

/// Waits until at least so many lie ready, and all of them came of a zygote.
async fn all_forked(world: &World, at_least: usize) {
    let all = || world.ready() >= at_least && forked_children() == world.ready();
    eventually("all that lies ready is forked", all).await;
}

/// A fresh instance that has waited, forked.
async fn start_rested(world: &World, version: &Version) -> Box<dyn Instance> {
    ready(&world.sandbox, version).await;
    all_forked(world, 1).await;
    let (instance, path) = start(world, version).await;
    assert_eq!(path, StartPath::PreStarted, "{:?}", world.sandbox.starts());
    instance
}

/// Runtimes of instances that are children of a zygote.
fn forked_children() -> usize {
    let instances = spawners().into_iter().flat_map(|spawner| instances_of(&spawner));
    instances.flat_map(|first| children(&first)).filter(is_zygote).count()
}

fn zygotes() -> Vec<String> {
    spawners().iter().flat_map(|spawner| zygotes_of(spawner)).collect()
}

fn signal(pid: &str, signal: Signal) {
    // It may have ended by itself.
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), signal).unwrap_or_default();
}

async fn a_killed_zygote_holds_nobody_up(world: &World) {
    let version = function(world, "python3").await;
    let mut kept = start_forked(world, &version).await;
    let look = "import os, subprocess
ran = subprocess.run(['/proc/self/exe', '-c', 'print(6 * 7)'], capture_output=True, text=True)
said = [os.readlink('/proc/self/exe'), ran.stdout, sorted({line.split()[5] for line in open('/proc/self/maps') if '/' in line})]";
    let before = ask(&mut *kept, json!({"run": look})).await;
    assert_eq!(before[1], "42\n");
    zygotes().iter().for_each(|pid| signal(pid, Signal::KILL));
    // At once: nobody may know of it yet.
    let (mut instance, _) = start(world, &version).await;
    assert_eq!(ask(&mut *instance, json!({"run": "said = 1"})).await, 1);
    eventually("it is gone", || zygotes().is_empty()).await;
    assert_eq!(ask(&mut *kept, json!({"run": look})).await, before, "its children are their own");
    instance.stop().await;
    kept.stop().await;
}

async fn a_stopped_zygote_holds_nobody_up(world: &World) {
    let version = function(world, "python3").await;
    ready(&world.sandbox, &version).await;
    zygotes().iter().for_each(|pid| signal(pid, Signal::STOP));
    for _ in 0..3 {
        let (mut instance, path) = start(world, &version).await;
        assert_eq!(path, StartPath::Exec);
        assert_eq!(ask(&mut *instance, json!({"run": "said = 1"})).await, 1);
        instance.stop().await;
    }
    eventually("it is ended", || zygotes().is_empty()).await;
}

/// No start waits for it or goes by another path, also those that have begun with the one that makes way.
async fn another_takes_the_place_of_a_zygote_before_it_is_used_up(_: &World) {
    let world = World::forked_by(CHILDREN_OF_ONE).await;
    let version = function(&world, "python3").await;
    ready(&world.sandbox, &version).await;
    // One was its trial.
    let (mut current, mut had, mut successions) = (zygotes(), 1, 0);
    for n in 0..STARTS {
        let next = || zygotes().len() == 1 && zygotes() != current;
        if had == CHILDREN_OF_ONE - 1 {
            eventually("another one stands", next).await;
        }
        if next() {
            (current, had, successions) = (zygotes(), 1, successions + 1);
        }
        let (instance, path) = start(&world, &version).await;
        assert_eq!(path, StartPath::Zygote, "{n}: {:?}", world.sandbox.starts());
        had += 1;
        instance.stop().await;
    }
    assert!(successions >= STARTS / CHILDREN_OF_ONE - 1, "{successions}");
    let starts = world.sandbox.starts();
    assert_eq!((starts.executed, starts.not_forked), (0, Vec::new()));
    world.end().await;
}

/// Where both do not fit.
async fn a_zygote_makes_way_for_what_another_class_lacks(_: &World) {
    let world = World::ahead_by_zygote(ONE_ZYGOTE_MB).await;
    let python = function(&world, "python3").await;
    ready(&world.sandbox, &python).await;
    all_forked(&world, FLOOR).await;
    assert_eq!(world.sandbox.starts().zygotes, 1);
    let mut versions = vec![python];
    for memory_mb in [128, 256] {
        let mut version = function(&world, "nodejs").await;
        version.config.memory_mb = memory_mb;
        world.sandbox.expect(&version);
        versions.push(version);
    }
    let all = || versions.iter().all(|version| world.sandbox.ready_for(version) == FLOOR as u64);
    eventually("all classes have their floors", all).await;
    assert_eq!(world.sandbox.starts().zygotes, 0);
    world.end().await;
}

async fn a_zygote_ends_with_its_spawner(world: &World) {
    let version = function(world, "python3").await;
    ready(&world.sandbox, &version).await;
    let all = spawners();
    let with = all.iter().filter(|spawner| !zygotes_of(spawner).is_empty());
    with.for_each(|pid| signal(pid, Signal::KILL));
    eventually("no zygote is left", || zygotes().is_empty()).await;
    let (mut instance, _) = start(world, &version).await;
    assert_eq!(ask(&mut *instance, json!({"run": "said = 1"})).await, 1);
    instance.stop().await;
}
