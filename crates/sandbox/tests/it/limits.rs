//! The limits of a function's configuration, as the function meets them; and a daemon that is out of descriptors.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::function::{Cores, FunctionConfig};
use model::invocation::{FailureKind, Outcome};
use model::ports::{Image, Instance, LogQuery, Logs as _, Sandbox as _, StartFailed};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::processes::{eventually, instances_of, spawner};
use crate::support::{self, World, invocation, version, zip};
use crate::{Place, Test};

/// Runs the Python text that it is sent and returns what that leaves in `result`.
const CODE: &str = "import mmap, os, resource, socket, subprocess, sys, threading, time
def handler(event, context):
    scope = dict(globals(), result=None)
    exec(event, scope)
    return scope['result']
";
/// Time for a call that is expected to answer.
const AMPLE: Duration = Duration::from_secs(30);

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("limits::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        processes_files_and_scratch_are_as_configured,
        memory_of_every_kind_is_counted,
        out_of_memory_in_a_child_ends_the_instance,
        memory_that_can_be_given_back_ends_nobody,
        a_ceiling_on_processor_time_holds,
        output_is_kept_as_configured,
        a_daemon_out_of_descriptors_fails_one_start_and_goes_on,
    ]
}

async fn image(world: &World, name: &str, set: impl FnOnce(&mut FunctionConfig)) -> Arc<dyn Image> {
    let info = world.sandbox.check_package(zip(&[("main.py", CODE)])).await.unwrap();
    let mut version = version(&world.sandbox, name, info.digest, [].into());
    set(&mut Arc::make_mut(&mut version).config);
    world.sandbox.prepare(version).await.unwrap()
}

async fn call(instance: &mut Box<dyn Instance>, python: &str) -> Outcome {
    support::run(&mut **instance, &invocation(json!(python).to_string(), AMPLE)).await
}

async fn run(instance: &mut Box<dyn Instance>, python: &str) -> Value {
    let body = call(instance, python).await.result.unwrap_or_else(|f| panic!("{python}: {f:?}"));
    serde_json::from_slice(&body).unwrap()
}

/// Whether the host limits an instance as a whole.
fn by_group(world: &World, feature: &str) -> bool {
    world.sandbox.isolation().has(feature)
}

async fn processes_files_and_scratch_are_as_configured(world: &World) {
    let set = |config: &mut FunctionConfig| {
        (config.processes, config.open_files, config.tmp_mb) = (20, 100, 3);
    };
    let mut instance = image(world, "sized", set).await.start().await.unwrap();
    let limits = "result = [resource.getrlimit(r)[0] for r in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE)]";
    assert_eq!(run(&mut instance, limits).await, json!([20, 100]));
    let forks = "n = 0
try:
    while n < 100:
        if os.fork() == 0: time.sleep(60)
        n += 1
except OSError: pass
result = n";
    // Pid 1 and the runtime count.
    assert_eq!(run(&mut instance, forks).await, 18);
    let files = "held = []
try:
    while len(held) < 1000: held.append(open('/dev/null'))
except OSError: pass
result = len(held)";
    let opened = run(&mut instance, files).await.as_u64().unwrap();
    assert!((80..100).contains(&opened), "{opened}");
    let scratch = "n = 0
try:
    with open('/tmp/big', 'wb', buffering=0) as f:
        while n < 100: n += f.write(b'x' * (1 << 20)) >> 20
except OSError: pass
result = n";
    assert_eq!(run(&mut instance, scratch).await, 3);
    instance.stop().await;
}

/// Each fills more than 64 MiB in its own way.
const BOMBS: &[(&str, &str)] = &[
    ("anonymous", "held = []\nwhile True: held.append(bytearray(b'x') * (1 << 20))"),
    (
        "shared",
        "held = mmap.mmap(-1, 200 << 20)\nfor at in range(0, 200 << 20, 4096): held[at] = 1",
    ),
    (
        "scratch",
        "with open('/tmp/big', 'wb') as f:\n    for _ in range(200): f.write(b'x' * (1 << 20))",
    ),
    (
        "shared memory files",
        "for n in range(4):
    f = open('/dev/shm/%d' % n if n < 1 else '/tmp/%d' % n, 'wb')
    for _ in range(50): f.write(b'x' * (1 << 20))",
    ),
    (
        "tiny files",
        "for n in range(1000000):
    os.close(os.open('/tmp/%d' % n, os.O_CREAT | os.O_WRONLY))
    os.symlink('x' * 900, '/tmp/l%d' % n)",
    ),
    (
        "socket buffers",
        "held = []
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
for _ in range(1900):
    a, b = socket.socketpair()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    a.setblocking(False)
    try:
        while True: a.send(b'x' * 65536)
    except BlockingIOError: pass
    held.append((a, b))",
    ),
    (
        "pipe buffers",
        "held = []
for _ in range(1900):
    a, b = os.pipe()
    os.set_blocking(b, False)
    try:
        while True: os.write(b, b'x' * 65536)
    except BlockingIOError: pass
    held.append((a, b))",
    ),
];

async fn memory_of_every_kind_is_counted(world: &World) {
    let set = |config: &mut FunctionConfig| {
        (config.memory_mb, config.open_files) = (64, 4096);
    };
    let image = image(world, "bombs", set).await;
    let mut bystander = image.start().await.unwrap();
    for (kind, python) in BOMBS {
        let mut instance = image.start().await.unwrap();
        let outcome = call(&mut instance, python).await;
        if by_group(world, "memory") {
            let failure = outcome.result.err().unwrap_or_else(|| panic!("{kind}: no end of it"));
            let payload = String::from_utf8_lossy(&failure.payload).into_owned();
            assert_eq!(failure.kind, FailureKind::MemoryExceeded, "{kind}: {payload}");
            assert!(payload.contains("Memory limit of 64 MB exceeded, peak 6"), "{payload}");
            let peak = outcome.memory_peak_bytes.unwrap();
            assert!((60 << 20..=64 << 20).contains(&peak), "{kind}: {peak}");
            assert!(!instance.alive(), "{kind}");
        }
        // Where nothing limits an instance as a whole, what holds is said in the report, and the daemon is still there.
        instance.stop().await;
        assert_eq!(run(&mut bystander, "result = 1").await, 1, "{kind}");
    }
    bystander.stop().await;
}

async fn out_of_memory_in_a_child_ends_the_instance(world: &World) {
    if !by_group(world, "memory") {
        let told = world.sandbox.isolation().detail("memory");
        assert!(told.contains("each process alone"), "{told}");
        return;
    }
    let image = image(world, "child", |config| config.memory_mb = 64).await;
    let mut instance = image.start().await.unwrap();
    // The kernel would kill the child, and the function would go on as if it had asked for less.
    let python = "child = \"held = []\\nwhile True: held.append(bytearray(b'x') * (1 << 20))\"
subprocess.run([sys.executable, '-I', '-S', '-c', child])
time.sleep(20)";
    let begun = Instant::now();
    let failure = call(&mut instance, python).await.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::MemoryExceeded, "{failure:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(!instance.alive());
}

async fn memory_that_can_be_given_back_ends_nobody(world: &World) {
    let image = image(world, "cache", |config| config.memory_mb = 64).await;
    let mut instance = image.start().await.unwrap();
    // Files of the host, read from disk: the page cache counts, and is dropped at the limit.
    let python = "total = 0
for folder, _, names in os.walk('/usr/lib'):
    for name in names:
        try:
            with open(os.path.join(folder, name), 'rb', buffering=0) as f:
                while True:
                    n = len(f.read(1 << 20))
                    total += n
                    if n == 0 or total > 300 << 20: break
        except OSError: pass
    if total > 300 << 20: break
result = total > 20 << 20";
    assert_eq!(run(&mut instance, python).await, true);
    assert!(instance.alive());
    instance.stop().await;
}

async fn a_ceiling_on_processor_time_holds(world: &World) {
    // Processor time of half a second on the wall: a tenth of a processor, and as much as there is.
    let python = "def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
begun, used = time.monotonic(), time.process_time()
while time.monotonic() - begun < 2: pass
result = (time.process_time() - used) / (time.monotonic() - begun)";
    let held = Some(Cores::from_millis(100));
    let image = image(world, "ceiling", |config| config.cpu_cores = held).await;
    let mut instance = image.start().await.unwrap();
    let share = run(&mut instance, python).await.as_f64().unwrap();
    instance.stop().await;
    if by_group(world, "cpu") {
        // A burst of one period may come on top.
        assert!(share < 0.2, "{share} of a processor");
    } else {
        assert!(share > 0.0, "{share}");
        let told = world.sandbox.isolation();
        assert!(!told.has("cpu") && !told.detail("cpu").is_empty(), "{told:?}");
    }
}

async fn output_is_kept_as_configured(world: &World) {
    let image = image(world, "talker", |config| config.output_bytes_per_second = 1024).await;
    let mut instance = image.start().await.unwrap();
    run(&mut instance, "for _ in range(2000): print('x' * 1000)").await;
    instance.stop().await;
    let function =
        version(&world.sandbox, "talker", model::ids::Digest::of(b""), [].into()).key.clone();
    let lines = world.logs.query(LogQuery::newest(function, 10_000)).await.unwrap();
    let kept: usize = lines.iter().filter(|l| l.text.starts_with('x')).map(|l| l.text.len()).sum();
    // Two of the longest lines at once, and hardly anything after.
    assert!((400_000..600_000).contains(&kept), "{kept}");
    let said = |l: &model::ports::LogLine| l.text.contains("limit of 1024 bytes per second");
    assert!(lines.iter().any(said), "nobody said that output was dropped");
}

/// Takes every descriptor that this process may still have, and those that become free, until told to stop.
fn hoard(after: Duration) -> impl FnOnce() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let hoarding = std::thread::spawn(move || {
        std::thread::sleep(after);
        let mut held = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            match File::open("/dev/null") {
                Ok(file) => held.push(file),
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        hoarding.join().unwrap();
    }
}

async fn a_daemon_out_of_descriptors_fails_one_start_and_goes_on(world: &World) {
    let image = image(world, "starved", |_| ()).await;
    let mut instance = image.start().await.unwrap();
    eventually("only this instance runs", || instances_of(&spawner()).len() == 1).await;
    let spawner_before = spawner();

    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: limit.maximum }).unwrap();
    // The moment to be met lies between the request and the arrival of the hold on the process, half a millisecond or more.
    let mut met = false;
    for delay_us in (0..20_000).step_by(100) {
        let let_go = hoard(Duration::from_micros(delay_us));
        let started = tokio::time::timeout(AMPLE, image.start()).await.expect("a start hangs");
        let_go();
        match started {
            Ok(fresh) => fresh.stop().await,
            Err(StartFailed::Platform(e)) => {
                met = e.to_string().contains("take hold of the instance")
            }
            Err(StartFailed::Function(f)) => panic!("the function is blamed: {f:?}"),
        }
        if met {
            break;
        }
    }
    setrlimit(Resource::Nofile, limit).unwrap();

    assert!(met, "no start met the end of descriptors at the moment in question");
    assert_eq!(run(&mut instance, "result = 1").await, 1);
    assert_eq!(spawner(), spawner_before, "the spawner was given up");
    instance.stop().await;
    eventually("nothing of it is left", || instances_of(&spawner()).is_empty()).await;
    image.start().await.unwrap().stop().await;
}
