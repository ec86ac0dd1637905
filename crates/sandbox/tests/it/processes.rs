//! What is particular to processes: runtimes, environment, limits, and the spawner's death.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::function::{Variable, Version};
use model::invocation::{FailureKind, Outcome};
use model::ports::{Image, Instance, Sandbox as _, StartFailed, Vault as _};
use model::secret::{SecretPlace, SecretText};
use model::{Code, limits};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::ProcessSandbox;
use serde_json::{Value, json};

use crate::support::{self, World, invocation, vault, version, zip};
use crate::{Place, Test};

/// Answers what it is sent, sleeps for ever, or ends, as the event says.
const CODE: &str = "import os, resource, sys, time
def handler(event, context):
    if event == 'version': return '%d.%d.%d' % sys.version_info[:3]
    if event == 'environment': return dict(os.environ)
    if event == 'limits':
        names = ['NOFILE', 'NPROC', 'CORE', 'DATA']
        return {n: resource.getrlimit(getattr(resource, 'RLIMIT_' + n)) for n in names} | {
            'policy': os.sched_getscheduler(0)}
    if event == 'sleep': time.sleep(3600)
    if event == 'exit': os._exit(7)
    return event
";
/// Name of the process that makes network namespaces ahead, cut as the kernel does.
pub(crate) const NETWORK_MAKER: &str = "hanshu-networks";
/// How long whatever ends in the background may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "processes::runtimes_are_found_and_named_as_they_are".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(runtimes(world))),
        },
        Test {
            name: "processes::the_environment_is_that_of_aws_and_the_functions_own".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(environment(world))),
        },
        Test {
            name: "processes::secrets_are_opened_for_their_own_function_only".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(secrets(world))),
        },
        Test {
            name: "processes::limits_are_set_as_this_host_promises".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(limits_are_set(world))),
        },
        Test {
            name: "processes::a_killed_spawner_takes_its_instances_along_and_is_replaced".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(killed_spawner(world))),
        },
        Test {
            name: "processes::instances_start_at_once_and_are_strangers_to_each_other".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(many_at_once(world))),
        },
    ]
}

async fn image(world: &World) -> Arc<dyn Image> {
    image_in(&world.sandbox).await
}

/// A function of that code, ready in that sandbox.
pub(crate) async fn image_in(sandbox: &ProcessSandbox) -> Arc<dyn Image> {
    let package = zip(&[("main.py", CODE)]);
    let info = sandbox.check_package(package).await.unwrap();
    let environment = [("COLOUR", "blue"), ("TZ", "Europe/Zurich")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    sandbox.prepare(version(sandbox, "process", info.digest, environment)).await.unwrap()
}

async fn call(instance: &mut dyn Instance, event: &str, time: Duration) -> Outcome {
    support::run(instance, &invocation(format!("\"{event}\""), time)).await
}

/// The JSON that a fresh instance answers to an event.
async fn ask(world: &World, event: &str) -> serde_json::Value {
    let mut instance = image(world).await.start().await.unwrap();
    let body = call(&mut *instance, event, PATIENCE).await.result.unwrap();
    instance.stop().await;
    serde_json::from_slice(&body).unwrap()
}

async fn runtimes(world: Arc<World>) {
    let found = world.sandbox.runtimes();
    for runtime in &found {
        assert_eq!(world.sandbox.resolve_runtime(&runtime.name).unwrap(), *runtime);
        match runtime.version.strip_prefix("HTTP/1.1 (") {
            // Of web servers, what they may be run by.
            Some(programs) => assert!(programs.contains("nodejs"), "{runtime:?}"),
            // Of what is not installed, the interface's date.
            None => assert_eq!(runtime.version.split(['.', '-']).count(), 3, "{runtime:?}"),
        }
    }
    for (alias, language) in
        [("nodejs18.x", "nodejs"), ("nodejs", "nodejs"), ("python3", "python3.")]
    {
        let runtime = world.sandbox.resolve_runtime(alias).unwrap();
        assert!(runtime.name.starts_with(language) && found.contains(&runtime), "{runtime:?}");
    }
    let error = world.sandbox.resolve_runtime("ruby3.2").unwrap_err();
    assert_eq!(error.code(), Code::UnknownRuntime);
    // What runs is what was asked.
    let version = world.sandbox.resolve_runtime("python3").unwrap().version;
    assert_eq!(ask(&world, "version").await, version);
}

async fn secrets(world: Arc<World>) {
    let package = zip(&[("main.py", CODE)]);
    let info = world.sandbox.check_package(package).await.unwrap();
    let own = version(&world.sandbox, "process", info.digest, BTreeMap::new());
    let seal = |variable: &str, text: &str| {
        let place = SecretPlace { function: &own.key, variable };
        let sealed = vault().seal(place, &SecretText::new(text)).unwrap();
        (variable.to_owned(), Variable::Sealed { sealed })
    };
    let with = |variables: Vec<(String, Variable)>, name: &str| {
        let mut version = Version::clone(&own);
        version.key.name = name.parse().unwrap();
        version.config.environment = variables.into_iter().collect();
        world.sandbox.prepare(Arc::new(version))
    };
    // A default gives way to a secret too; a reserved name that an old document holds does not come through.
    let all = vec![seal("TOKEN", "two\nlines"), seal("TZ", ":Asia/Tokyo"), seal("_HANDLER", "x")];
    let image = with(all.clone(), "process").await.unwrap();
    let mut instance = image.start().await.unwrap();
    let seen = call(&mut *instance, "environment", PATIENCE).await;
    let seen: Value = serde_json::from_slice(&seen.result.unwrap()).unwrap();
    assert_eq!(seen["TOKEN"], "two\nlines");
    assert_eq!(seen["TZ"], ":Asia/Tokyo");
    assert_eq!(seen["_HANDLER"], "main.handler");
    instance.stop().await;

    let image = with(all, "thief").await.unwrap();
    match image.start().await {
        Err(StartFailed::Platform(e)) => assert_eq!(e.code(), Code::StorageUnusable, "{e}"),
        other => panic!("it must not start: {other:?}"),
    }
}

async fn environment(world: Arc<World>) {
    let variables = ask(&world, "environment").await;
    let python = world.sandbox.resolve_runtime("python3").unwrap().name;
    for (name, value) in [
        ("COLOUR", "blue"),
        ("TZ", "Europe/Zurich"),
        ("HOME", "/tmp"),
        ("_HANDLER", "main.handler"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("AWS_LAMBDA_FUNCTION_NAME", "process"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/process"),
        ("AWS_EXECUTION_ENV", &format!("AWS_Lambda_{python}")),
    ] {
        assert_eq!(variables[name], value, "{name}");
    }
    let stream = |v: &serde_json::Value| v["AWS_LAMBDA_LOG_STREAM_NAME"].to_string();
    assert_ne!(stream(&variables), stream(&ask(&world, "environment").await));
}

/// Private memory of one process where nothing limits an instance as a whole, in bytes: 128 MiB and the allowance for stacks and arenas.
const DATA_BYTES: u64 = (128 + 192) << 20;

async fn limits_are_set(world: Arc<World>) {
    let set = ask(&world, "limits").await;
    assert_eq!(set["NOFILE"], json!([limits::OPEN_FILES_DEFAULT, limits::OPEN_FILES_DEFAULT]));
    let processes = limits::PROCESSES_DEFAULT;
    assert_eq!(set["NPROC"], json!([processes, processes]));
    // A test that was itself started with no dumps cannot give more.
    let most = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    let core = most.unwrap_or(u64::MAX).min(limits::CORE_DUMP_BYTES);
    assert_eq!(set["CORE"], json!([core, core]));
    assert_eq!(set["policy"], libc::SCHED_BATCH);
    let isolation = world.sandbox.isolation();
    let promised = isolation.detail("memory");
    if isolation.has("memory") {
        // Python shows "no limit" so.
        assert_eq!(set["DATA"], json!([-1, -1]));
    } else {
        assert!(promised.starts_with("rlimit for each process"), "{promised}");
        assert_eq!(set["DATA"], json!([DATA_BYTES, DATA_BYTES]));
    }
    println!("memory is held here by: {promised}");
}

/// Children of a process: every thread's.
pub(crate) fn children(pid: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|p| !p.is_empty())
        .collect()
}

/// The spawners of this process's sandboxes.
pub(crate) fn spawners() -> Vec<String> {
    let name = |pid: &String| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    children("self").into_iter().filter(|pid| name(pid).trim() == "hanshu-spawner").collect()
}

/// The spawner that has instances, where a test with a sandbox of its own has left another.
pub(crate) fn spawner() -> String {
    let all = spawners();
    let busy = all.iter().find(|spawner| !instances_of(spawner).is_empty());
    busy.or(all.first()).expect("a spawner runs").clone()
}

/// The first processes of the instances that a spawner has: all its children but the one that makes networks ahead, and zygotes.
pub(crate) fn instances_of(spawner: &str) -> Vec<String> {
    let comm = |pid: &String| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let of_instance = |pid: &String| comm(pid).trim() != NETWORK_MAKER && !is_zygote(pid);
    children(spawner).into_iter().filter(of_instance).collect()
}

/// The zygotes that a spawner has.
pub(crate) fn zygotes_of(spawner: &str) -> Vec<String> {
    children(spawner).into_iter().filter(is_zygote).collect()
}

/// Whether a process is a zygote or a copy of one.
pub(crate) fn is_zygote(pid: &String) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"\0zygote\0"))
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
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
    let instances = instances_of(&spawner_pid);
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
    let owners: BTreeSet<_> = instances_of(&spawner()).iter().filter_map(owner).collect();
    if world.sandbox.isolation().has("users") {
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

/// The folders of the control groups that this process lies in.
pub(crate) fn own_groups() -> Vec<PathBuf> {
    let folder = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let controller = controllers.split(',').next()?;
        let hierarchy = if controller.is_empty() { "unified" } else { controller };
        let known = [format!("/sys/fs/cgroup/{hierarchy}{path}"), format!("/sys/fs/cgroup{path}")];
        known.map(PathBuf::from).into_iter().find(|folder| folder.is_dir())
    };
    fs::read_to_string("/proc/self/cgroup").unwrap().lines().filter_map(folder).collect()
}

pub(crate) fn folders(at: &Path) -> usize {
    let inner = fs::read_dir(at).into_iter().flatten().flatten();
    let inner = inner.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    inner.map(|e| 1 + folders(&e.path())).sum()
}
