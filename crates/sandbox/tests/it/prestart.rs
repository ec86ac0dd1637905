//! Pre-started instances: a function finds in one what it finds in one of its own, and nothing else; and what becomes of those that are never used.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use model::function::{Variable, Version};
use model::invocation::StartPath;
use model::ports::{Instance, Sandbox as _, Vault as _};
use model::secret::{SecretPlace, SecretText};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::processes::{children, eventually, instances_of, spawners};
use crate::support::{
    World, attach, cc, in_runtime, invocation, javac, ready, run, vault, version, zip, zip_of,
};
use crate::{Place, Test};

/// Says what it sees of itself.
pub(crate) const PYTHON: &str = "import os
def read(name):
    with open('/proc/self/' + name) as file: return file.read()
def handler(event, context):
    if 'run' in event:
        said = {}
        exec(event['run'], said)
        return said['said']
    status = dict(line.split(':\\t', 1) for line in read('status').splitlines() if ':\\t' in line)
    mounts = [line.split(' - ')[0].split() for line in read('mountinfo').splitlines()]
    seen = {m[4]: sorted(m[5].split(',')) for m in mounts}
    return {
        'environment': dict(os.environ), 'folder': os.getcwd(), 'limits': read('limits'),
        'descriptors': sorted(os.listdir('/proc/self/fd'))[:4], 'mounts': seen,
        'status': {k: status[k] for k in ['NoNewPrivs', 'Seccomp', 'CapEff', 'CapBnd', 'Uid', 'Gid', 'Groups', 'NSpid']},
        'opt': sorted(os.listdir('/opt')), 'code': sorted(os.listdir('/var/task')), 'tmp': os.statvfs('/tmp').f_blocks,
        'context': [context.function_name, context.memory_limit_in_mb], 'batch': os.sched_getscheduler(0),
    }
";
const NODE: &str = "const fs = require('fs');
const read = (name) => fs.readFileSync('/proc/self/' + name, 'utf8');
exports.handler = async (event, context) => {
  if (event.run) return new Function('require', event.run)(require);
  const mounts = read('mountinfo').trim().split('\\n').map((line) => line.split(' - ')[0].split(' '));
  return {
    environment: { ...process.env }, folder: process.cwd(), limits: read('limits'), argv: process.argv,
    mounts: Object.fromEntries(mounts.map((m) => [m[4], m[5].split(',').sort()])),
    opt: fs.readdirSync('/opt'), code: fs.readdirSync('/var/task'), tmp: fs.statfsSync('/tmp').blocks,
    context: [context.functionName, context.memoryLimitInMB], status: read('status').match(/(NoNew|Sec|Cap|Uid|Gid)\\S*\\s.*/g),
  };
};
";
const JAVA: [(&str, &str); 2] = [
    ("Main.java", include_str!("prestart/Main.java")),
    ("Strangers.java", include_str!("prestart/Strangers.java")),
];
/// Time for one call.
const AMPLE: Duration = Duration::from_secs(30);
/// Memory for pre-started instances of each test.
const MEMORY_MB: u32 = 256;

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("prestart::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|_| Box::pin(async {
                    let world = World::ahead(MEMORY_MB).await;
                    $name(&world).await;
                    world.end().await;
                })),
            },)*]
        };
    }
    tests![
        a_function_finds_what_it_finds_in_an_instance_of_its_own,
        variables_and_secrets_are_the_functions_alone,
        a_virtual_machine_has_the_memory_of_its_function,
        memory_from_before_holds_nothing_of_others,
        limits_are_the_functions,
        libraries_in_the_code_are_found,
        what_hangs_before_its_code_is_loaded_holds_up_nobody,
        code_and_layers_are_read_only,
        what_is_read_early_takes_the_plain_way,
        one_that_died_is_not_given_to_anybody,
        a_killed_spawner_takes_the_stock_along,
        there_are_none_before_somebody_wants_one,
        code_that_is_gone_is_an_error_as_ever,
    ]
}

/// A function that says what it sees.
pub(crate) async fn function(world: &World, runtime: &str) -> Version {
    let package = match runtime {
        "java17" => classes(),
        "nodejs" => zip(&[("main.js", NODE)]),
        _ => zip(&[("main.py", PYTHON)]),
    };
    let mut version = function_of(world, runtime, package).await;
    if runtime == "java17" {
        version.config.handler = "Main::handle".into();
    }
    version
}

/// One of this package.
pub(crate) async fn function_of(world: &World, runtime: &str, package: Bytes) -> Version {
    let info = world.sandbox.check_package(package).await.unwrap();
    let environment = BTreeMap::from([("OWN".to_owned(), "ä=b".to_owned())]);
    let version = version(&world.sandbox, "ahead", info.digest, environment);
    let mut version = Arc::unwrap_or_clone(in_runtime(&world.sandbox, &version, runtime));
    version.config.memory_mb = 256;
    version
}

/// The function in Java, compiled once.
fn classes() -> Bytes {
    static CLASSES: OnceLock<Bytes> = OnceLock::new();
    let compile = || {
        let classes = javac(&JAVA);
        let files = classes.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        zip_of(&files.collect::<Vec<_>>())
    };
    CLASSES.get_or_init(compile).clone()
}

/// A fresh instance, and how it came up.
pub(crate) async fn start(world: &World, version: &Version) -> (Box<dyn Instance>, StartPath) {
    let image = world.sandbox.prepare(Arc::new(version.clone())).await.unwrap();
    let instance = image.start().await.unwrap();
    let path = instance.start_timings().path;
    (instance, path)
}

/// A fresh instance that was pre-started.
async fn start_ahead(world: &World, version: &Version) -> Box<dyn Instance> {
    ready(&world.sandbox, version).await;
    let (instance, path) = start(world, version).await;
    assert_eq!(path, StartPath::PreStarted);
    instance
}

pub(crate) async fn ask(instance: &mut dyn Instance, event: Value) -> Value {
    let outcome = run(instance, &invocation(event.to_string(), AMPLE)).await;
    let body = outcome.result.unwrap_or_else(|f| panic!("{f:?}"));
    serde_json::from_slice(&body).unwrap()
}

async fn a_function_finds_what_it_finds_in_an_instance_of_its_own(world: &World) {
    for runtime in ["python3", "nodejs", "java17"] {
        // Without layers `/opt` is a folder of the root in one and an empty one upon it in the other.
        finds_the_same(world, runtime, StartPath::PreStarted, &["/opt"]).await;
    }
}

/// Whether a function finds in an instance that came up by `path` what it finds in one by exec, but for these mounts.
pub(crate) async fn finds_the_same(world: &World, runtime: &str, path: StartPath, but: &[&str]) {
    let mut version = function(world, runtime).await;
    version.config.tmp_mb = 64;
    for layers in [&[][..], &[zip(&[("a", "1")])], &[zip(&[("a", "1")]), zip(&[("b", "2")])]] {
        version.layers.clear();
        attach(&*world.sandbox, &mut version, layers).await;
        let mut seen = Vec::new();
        for way in [path, StartPath::Exec] {
            if way == path {
                ready(&world.sandbox, &version).await;
            } else {
                // As its default is, but a reason for the plain way.
                let text = Variable::Plain(":UTC".into());
                version.config.environment.insert("TZ".into(), text);
            }
            let (mut instance, took) = start(world, &version).await;
            assert_eq!(took, way);
            let mut all = ask(&mut *instance, json!({})).await;
            instance.stop().await;
            all["environment"].as_object_mut().unwrap().remove("AWS_LAMBDA_LOG_STREAM_NAME");
            for mount in but {
                all["mounts"].as_object_mut().unwrap().remove(*mount);
            }
            seen.push(all);
        }
        version.config.environment.remove("TZ");
        let [other, own] = &seen[..] else { panic!("two") };
        for (key, value) in own.as_object().unwrap() {
            assert_eq!(other[key], *value, "{runtime}: {key}");
        }
    }
}

async fn variables_and_secrets_are_the_functions_alone(world: &World) {
    let mut first = function(world, "python3").await;
    let place = SecretPlace { function: &first.key, variable: "TOKEN" };
    let sealed = vault().seal(place, &SecretText::new("hunter2-hunter2")).unwrap();
    first.config.environment.insert("TOKEN".into(), Variable::Sealed { sealed });
    let read = "import os
said = [os.environ.get('TOKEN'), open('/proc/self/environ').read(), open('/proc/self/cmdline').read()]";
    let mut instance = start_ahead(world, &first).await;
    let said = ask(&mut *instance, json!({"run": read})).await;
    assert_eq!(said[0], "hunter2-hunter2");
    // What others of the same host user would see of a process.
    assert!(!said[1].as_str().unwrap().contains("hunter2"), "{said}");
    assert!(!said[1].as_str().unwrap().contains("OWN="), "{said}");
    instance.stop().await;
    let second = function(world, "python3").await;
    let mut instance = start_ahead(world, &second).await;
    assert_eq!(ask(&mut *instance, json!({"run": read})).await[0], Value::Null);
    instance.stop().await;
}

/// The size of a heap is part of the command line, so those that wait are of that size.
async fn a_virtual_machine_has_the_memory_of_its_function(world: &World) {
    let heap = json!({"run": "heap"});
    for memory_mb in [128, 512] {
        let mut version = function(world, "java17").await;
        version.config.memory_mb = memory_mb;
        let mut ahead = start_ahead(world, &version).await;
        let text = Variable::Plain(":UTC".into());
        version.config.environment.insert("TZ".into(), text);
        let (mut own, path) = start(world, &version).await;
        assert_eq!(path, StartPath::Exec);
        let said = ask(&mut *ahead, heap.clone()).await;
        assert_eq!(said, ask(&mut *own, heap.clone()).await);
        assert!(said.as_u64().unwrap() <= u64::from(memory_mb) << 20, "{said}");
        ahead.stop().await;
        own.stop().await;
    }
}

/// What waits for a function has nothing in memory that belongs to anybody.
async fn memory_from_before_holds_nothing_of_others(world: &World) {
    let mut first = function(world, "python3").await;
    let text = format!("loot-{}", "x7".repeat(10));
    first.config.environment.insert("OTHERS".into(), Variable::Plain(text.clone()));
    let mut instance = start_ahead(world, &first).await;
    let second = function(world, "python3").await;
    let mut other = start_ahead(world, &second).await;
    let search = "import re
said = []
wanted = b'loot-' + b'x7' * 10
for line in open('/proc/self/maps'):
    area, mode = line.split()[:2]
    first, last = (int(n, 16) for n in area.split('-'))
    if mode[0] != 'r' or last - first > 1 << 28 or '[v' in line: continue
    with open('/proc/self/mem', 'rb') as memory:
        try:
            memory.seek(first)
            if memory.read(last - first).count(wanted) > 0: said.append(line)
        except OSError: pass";
    let found = ask(&mut *instance, json!({"run": search})).await;
    let other_found = ask(&mut *other, json!({"run": search})).await;
    assert!(!found.as_array().unwrap().is_empty(), "the search finds what is there");
    // The text of the search does not hold it, only how to make it, so one find is its own.
    let own = other_found.as_array().unwrap().len();
    let mut fresh = start_ahead(world, &second).await;
    assert_eq!(own, ask(&mut *fresh, json!({"run": search})).await.as_array().unwrap().len());
    assert!(own < found.as_array().unwrap().len() + 1, "{other_found}");
    for instance in [instance, other, fresh] {
        instance.stop().await;
    }
}

async fn limits_are_the_functions(world: &World) {
    let mut version = function(world, "python3").await;
    version.config.open_files = 77;
    version.config.processes = 33;
    version.config.memory_mb = 96;
    let mut instance = start_ahead(world, &version).await;
    let limits = "import resource
said = [resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_NPROC)]";
    assert_eq!(ask(&mut *instance, json!({"run": limits})).await, json!([[77, 77], [33, 33]]));
    let hoard = "held = []
while True: held.append(bytearray(b'x') * (4 << 20))";
    let outcome = run(&mut *instance, &invocation(json!({"run": hoard}).to_string(), AMPLE)).await;
    assert!(outcome.result.is_err());
    if let Some(peak) = outcome.memory_peak_bytes
        && world.sandbox.isolation().has("memory")
    {
        assert!((90 << 20..=96 << 20).contains(&peak), "{peak}");
    }
    instance.stop().await;
}

/// The dynamic loader has been told of folders that were empty when it was.
async fn libraries_in_the_code_are_found(world: &World) {
    let folder = world.folder.path();
    std::fs::write(folder.join("x.c"), "int answer(void) { return 42; }").unwrap();
    cc(folder, &["-shared", "-fPIC", "-o", "libx.so"], ["x.c"]);
    let library = std::fs::read(folder.join("libx.so")).unwrap();
    let load = "import ctypes
said = ctypes.CDLL('libx.so').answer()";
    for (code, layer) in [("libx.so", "a"), ("lib/libx.so", "a"), ("a", "lib/libx.so")] {
        let file = |name, otherwise: &'static [u8]| {
            if name == "a" { otherwise } else { library.as_slice() }
        };
        let package = crate::support::zip_with_modes(&[
            ("main.py", PYTHON.as_bytes(), 0o644),
            (code, file(code, b""), 0o644),
        ]);
        let layer = crate::support::zip_with_modes(&[(layer, file(layer, b""), 0o644)]);
        let mut version = function(world, "python3").await;
        version.code.digest = world.sandbox.check_package(package).await.unwrap().digest;
        attach(&*world.sandbox, &mut version, &[layer]).await;
        let mut instance = start_ahead(world, &version).await;
        assert_eq!(ask(&mut *instance, json!({"run": load})).await, 42, "{code}");
        instance.stop().await;
    }
}

/// A library of the function's own may be found before the system's, and then runs before the runtime does.
async fn what_hangs_before_its_code_is_loaded_holds_up_nobody(world: &World) {
    let folder = world.folder.path();
    let source = "#include <unistd.h>\n__attribute__((constructor)) static void hang(void) { for (;;) pause(); }";
    std::fs::write(folder.join("hang.c"), source).unwrap();
    cc(folder, &["-shared", "-fPIC", "-o", "libm.so.6"], ["hang.c"]);
    let library = std::fs::read(folder.join("libm.so.6")).unwrap();
    let package = crate::support::zip_with_modes(&[
        ("main.py", PYTHON.as_bytes(), 0o644),
        ("libm.so.6", &library, 0o755),
    ]);
    let mut hanging = function(world, "python3").await;
    hanging.code.digest = world.sandbox.check_package(package).await.unwrap().digest;
    // Each by itself hangs until the time for loading is over.
    let image = world.sandbox.prepare(Arc::new(hanging)).await.unwrap();
    let starts: Vec<_> = (0..4 * std::thread::available_parallelism().unwrap().get())
        .map(|_| {
            let image = Arc::clone(&image);
            world.tasks.spawn("a start that hangs", async move { image.start().await.is_ok() })
        })
        .collect();
    let mut fair = function(world, "python3").await;
    fair.config.open_files = 99;
    let (instance, path) = start(world, &fair).await;
    assert_eq!(path, StartPath::Exec);
    assert!(starts.iter().all(|start| !start.is_finished()), "one of them did not hang");
    instance.stop().await;
    for start in starts {
        assert!(!start.await.unwrap());
    }
}

async fn code_and_layers_are_read_only(world: &World) {
    let write = "import os, errno
said = []
for path in ['/var/task/main.py', '/var/task/new', '/opt/a', '/opt/new', '/var/runtime/python/ahead.py']:
    try: open(path, 'w').close(); said.append('done')
    except OSError as e: said.append(errno.errorcode[e.errno])
    try: os.chmod(path, 0o777); said.append('done')
    except OSError as e: said.append(errno.errorcode[e.errno])";
    let mut version = function(world, "python3").await;
    attach(&*world.sandbox, &mut version, &[zip(&[("a", "1")])]).await;
    let mut instance = start_ahead(world, &version).await;
    let said = ask(&mut *instance, json!({"run": write})).await;
    for word in said.as_array().unwrap() {
        assert!(["EROFS", "EACCES", "EPERM", "ENOENT"].contains(&word.as_str().unwrap()), "{said}");
    }
    instance.stop().await;
}

async fn what_is_read_early_takes_the_plain_way(world: &World) {
    for (runtime, name) in
        [("nodejs", "NODE_OPTIONS"), ("python3", "LD_PRELOAD"), ("java17", "JAVA_TOOL_OPTIONS")]
    {
        let mut version = function(world, runtime).await;
        ready(&world.sandbox, &version).await;
        version.config.environment.insert(name.into(), Variable::Plain(String::new()));
        assert_eq!(world.sandbox.ready_for(&version), 0);
        let (instance, path) = start(world, &version).await;
        assert_eq!(path, StartPath::Exec, "{name}");
        instance.stop().await;
    }
    let starts = world.sandbox.starts();
    assert_eq!((starts.pre_started, starts.executed), (0, 3));
}

/// First processes of pre-started instances, when nothing else runs.
fn stock() -> Vec<String> {
    spawners().iter().flat_map(|spawner| instances_of(spawner)).collect()
}

fn kill(pid: &str) {
    // It may have ended by itself.
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap_or_default();
}

async fn one_that_died_is_not_given_to_anybody(world: &World) {
    let version = function(world, "python3").await;
    for _ in 0..5 {
        ready(&world.sandbox, &version).await;
        for first in stock() {
            children(&first).iter().for_each(|pid| kill(pid));
            kill(&first);
        }
        // At once: nobody may know of it yet.
        let (mut instance, _) = start(world, &version).await;
        assert_eq!(ask(&mut *instance, json!({"run": "said = 1"})).await, 1);
        instance.stop().await;
    }
    let instance = start_ahead(world, &version).await;
    instance.stop().await;
}

async fn a_killed_spawner_takes_the_stock_along(world: &World) {
    let version = function(world, "python3").await;
    ready(&world.sandbox, &version).await;
    let before = stock();
    let other = spawners();
    assert!(!before.is_empty());
    other.iter().filter(|spawner| !instances_of(spawner).is_empty()).for_each(|pid| kill(pid));
    let gone = || before.iter().all(|pid| !std::path::Path::new("/proc").join(pid).exists());
    eventually("the stock ends with the spawner", gone).await;
    let (instance, _) = start(world, &version).await;
    instance.stop().await;
    start_ahead(world, &version).await.stop().await;
}

async fn there_are_none_before_somebody_wants_one(world: &World) {
    let version = function(world, "python3").await;
    let image = world.sandbox.prepare(Arc::new(version.clone())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.ready(), 0);
    image.start().await.unwrap().stop().await;
    eventually("a start brings them", || world.sandbox.ready_for(&version) == 2).await;
}

async fn code_that_is_gone_is_an_error_as_ever(world: &World) {
    let version = function(world, "python3").await;
    let image = world.sandbox.prepare(Arc::new(version.clone())).await.unwrap();
    ready(&world.sandbox, &version).await;
    let code = world.folder.path().join("cache/packages").join(version.code.digest.to_string());
    std::fs::remove_dir_all(code.join("code")).unwrap();
    image.start().await.unwrap_err();
    assert_eq!(world.sandbox.starts().pre_started, 0);
}
