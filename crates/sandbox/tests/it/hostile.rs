//! Functions that do not keep to the rules: the protocol, their rights, the moment of their end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::SystemClock;
use model::ids::{Digest, RequestId};
use model::invocation::{Failure, FailureKind};
use model::ports::{Blobs, Image, Instance, Sandbox as _};
use model::tasks::Tasks;
use model::{Code, Result, limits};
use sandbox::{NetworkConfig, ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT};
use serde_json::{Value, json};

use crate::support::{self, World, invocation, processes_with, vault, version, zip};
use crate::{Place, Test};

/// Runs the Python text that it is sent and returns what that leaves in `result`.
const CODE: &str = "import os, struct, sys, threading, time
def frame(kind, payload):
    os.write(3, struct.pack('<IB3x', len(payload), kind) + payload)
def answer(kind, request_id, body):
    frame(kind, request_id.encode() + bytes(12) + body)
def handler(event, context):
    scope = {'result': None, 'context': context, 'frame': frame, 'answer': answer}
    scope.update(globals())
    exec(event, scope)
    return scope['result']
";
/// Time for a call that is expected to answer.
pub(crate) const AMPLE: Duration = Duration::from_secs(20);

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("hostile::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        bytes_that_are_no_frame_end_the_instance,
        an_answer_to_another_call_is_never_taken,
        an_answer_too_many_never_reaches_the_next_call,
        a_closed_socket_is_no_way_out_of_the_deadline,
        rights_are_gone_for_good,
        the_first_process_is_out_of_reach,
        only_the_agreed_descriptors_are_inherited,
        the_largest_environment_arrives_whole,
        an_end_while_idle_is_noticed,
        a_start_that_is_given_up_leaves_nothing,
        a_package_comes_from_the_blob_store_once,
    ]
}

async fn image_with(world: &World, environment: BTreeMap<String, String>) -> Arc<dyn Image> {
    let info = world.sandbox.check_package(zip(&[("main.py", CODE)])).await.unwrap();
    world
        .sandbox
        .prepare(version(&world.sandbox, "hostile", info.digest, environment))
        .await
        .unwrap()
}

pub(crate) async fn start(world: &World) -> Box<dyn Instance> {
    image_with(world, BTreeMap::new()).await.start().await.unwrap()
}

pub(crate) async fn run(instance: &mut Box<dyn Instance>, python: &str) -> Result<Value, Failure> {
    let call = invocation(json!(python).to_string(), AMPLE);
    let outcome = support::run(&mut **instance, &call).await;
    outcome.result.map(|body| serde_json::from_slice(&body).unwrap())
}

pub(crate) async fn breaks_the_protocol(instance: &mut Box<dyn Instance>, python: &str) {
    let failure = run(instance, python).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Protocol, "{python}: {failure:?}");
    assert!(!instance.alive(), "{python}");
}

async fn bytes_that_are_no_frame_end_the_instance(world: &World) {
    for python in [
        "os.write(3, b'\\xff' * 64)",
        "frame(99, b'')",
        "frame(17, b'')",
        "frame(19, b'not an id')",
        "frame(19, context.aws_request_id.encode() + b'short')",
        "answer(20, context.aws_request_id, b'not json')",
        // No more frames can pass.
        "import socket; socket.socket(fileno=3).shutdown(socket.SHUT_RDWR); time.sleep(3600)",
    ] {
        breaks_the_protocol(&mut start(world).await, python).await;
    }
}

async fn an_answer_to_another_call_is_never_taken(world: &World) {
    let python = format!("answer(19, '{}', b'1')", RequestId::generate());
    breaks_the_protocol(&mut start(world).await, &python).await;
}

async fn an_answer_too_many_never_reaches_the_next_call(world: &World) {
    let mut instance = start(world).await;
    // The runtime answers this call a second time, after the function did.
    let python = "answer(19, context.aws_request_id, b'\"forged\"'); result = 'late'";
    assert_eq!(run(&mut instance, python).await.unwrap(), "forged");
    breaks_the_protocol(&mut instance, "result = 2").await;
}

async fn a_closed_socket_is_no_way_out_of_the_deadline(world: &World) {
    let mut instance = start(world).await;
    let python = json!("os.close(3); time.sleep(3600)").to_string();
    let call = invocation(python, Duration::from_millis(500));
    let failure = support::run(&mut *instance, &call).await.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout, "{failure:?}");
    assert!(!instance.alive());
}

async fn rights_are_gone_for_good(world: &World) {
    let mut instance = start(world).await;
    let status =
        "result = dict(l.rstrip('\\n').split(':\\t', 1) for l in open('/proc/self/status'))";
    let status = run(&mut instance, status).await.unwrap();
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[key], "0000000000000000", "{key}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Uid"], "993\t993\t993\t993");
    assert_eq!(status["Gid"], "990\t990\t990\t990");
    for python in [
        "os.setuid(0)",
        "os.chroot('/tmp')",
        "os.sethostname('x') if hasattr(os, 'sethostname') else __import__('socket').sethostname('x')",
        "os.mknod('/tmp/d', 0o600 | 0o060000, os.makedev(8, 0))",
    ] {
        let failure = run(&mut instance, python).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Handler, "{python}: {failure:?}");
    }
    instance.stop().await;
}

async fn the_first_process_is_out_of_reach(world: &World) {
    let mut instance = start(world).await;
    // Signals to it are refused by Landlock, and lost without: it has no handlers.
    let python = "
for n in range(1, 65):
    try: os.kill(1, n)
    except PermissionError: pass
time.sleep(0.1)
result = os.getpid()";
    assert_eq!(run(&mut instance, python).await.unwrap(), 2);
    for path in ["/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/1/root/etc"] {
        let failure = run(&mut instance, &format!("open('{path}').read()")).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Handler, "{path}: {failure:?}");
    }
    assert!(instance.alive());
    instance.stop().await;
}

async fn only_the_agreed_descriptors_are_inherited(world: &World) {
    let mut instance = start(world).await;
    // The last one is the folder that is being listed.
    let python = "result = sorted(map(int, os.listdir('/proc/self/fd')))";
    assert_eq!(run(&mut instance, python).await.unwrap(), json!([0, 1, 2, 3, 4]));
    // Opening them anew by name works as it does elsewhere.
    let python =
        "print('x', file=open('/dev/stdout', 'w')); print('x', file=open('/dev/stderr', 'w'))";
    run(&mut instance, python).await.unwrap();
    instance.stop().await;
}

async fn the_largest_environment_arrives_whole(world: &World) {
    // Control characters are what grows most on the way to the spawner.
    let value = "\u{1}".repeat(limits::ENVIRONMENT_BYTES - "BIG".len());
    let environment = BTreeMap::from([("BIG".to_owned(), value.clone())]);
    let image = image_with(world, environment).await;
    let mut instance = image.start().await.unwrap();
    let python = "result = [len(os.environ['BIG']), set(os.environ['BIG']) == {chr(1)}]";
    assert_eq!(run(&mut instance, python).await.unwrap(), json!([value.len(), true]));
    instance.stop().await;
}

async fn an_end_while_idle_is_noticed(world: &World) {
    let mut instance = start(world).await;
    let python = "threading.Timer(0.1, os._exit, [3]).start()";
    run(&mut instance, python).await.unwrap();
    let end = Instant::now() + AMPLE;
    while instance.alive() {
        assert!(Instant::now() < end, "the end was never noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let failure = run(&mut instance, "result = 1").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Exited, "{failure:?}");
}

async fn a_start_that_is_given_up_leaves_nothing(world: &World) {
    let marker = format!("given-up-{}", RequestId::generate());
    let code = format!(
        "import os, sys, time\nos.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(3600)', '{marker}'])\n"
    );
    let info = world.sandbox.check_package(zip(&[("main.py", &code)])).await.unwrap();
    let image = world
        .sandbox
        .prepare(version(&world.sandbox, "hostile", info.digest, BTreeMap::new()))
        .await
        .unwrap();
    // Given up at every stage of the set-up, and after it.
    for delay_us in (0..4_000).step_by(200).chain([200_000]) {
        let given_up = tokio::time::timeout(Duration::from_micros(delay_us), image.start()).await;
        assert!(given_up.is_err(), "it never loads");
    }
    let end = Instant::now() + AMPLE;
    while processes_with(&marker) > 0 {
        assert!(Instant::now() < end, "processes outlived a start that was given up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One package, and how often it was asked for.
#[derive(Debug, Default)]
struct CountedBlob {
    package: Mutex<Option<Bytes>>,
    reads: AtomicUsize,
}

#[async_trait]
impl Blobs for CountedBlob {
    async fn put(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        *self.package.lock().unwrap() = Some(bytes);
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.package.lock().unwrap().clone().filter(|bytes| Digest::of(bytes) == *digest))
    }

    async fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(self.get(digest).await?.is_some())
    }

    async fn delete(&self, _: &Digest) -> Result<bool> {
        Ok(self.package.lock().unwrap().take().is_some())
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own PATH is where runtimes are")]
async fn a_package_comes_from_the_blob_store_once(world: &World) {
    let config = SandboxConfig {
        cache_dir: world.folder.path().join("another cache"),
        path: std::env::var("PATH").unwrap(),
        spawner: "/proc/self/exe".into(),
        // Apart from the ids of the other sandbox's instances.
        uid_base: UID_BASE_DEFAULT - 100_000,
        network: NetworkConfig::default(),
        prestart_memory_mb: 0,
        zygote: sandbox::ZygoteUse::Off,
        zygote_children: sandbox::ZYGOTE_CHILDREN_DEFAULT,
    };
    let blobs = Arc::<CountedBlob>::default();
    let clock = Arc::new(SystemClock);
    // Ended with the test: its spawner must not be taken for the world's.
    let tasks = Tasks::new();
    let (store, logs) = (blobs.clone(), world.logs.clone());
    let sandbox =
        ProcessSandbox::new(config, store, logs, vault(), clock, tasks.clone()).await.unwrap();

    let package = zip(&[("main.py", CODE)]);
    let version = version(&world.sandbox, "hostile", Digest::of(&package), BTreeMap::new());
    let e = sandbox.prepare(Arc::clone(&version)).await.unwrap_err();
    assert_eq!(e.code(), Code::StorageUnusable, "{e}");

    blobs.put(package).await.unwrap();
    let prepare = |_| {
        let (sandbox, version) = (Arc::clone(&sandbox), Arc::clone(&version));
        world.tasks.spawn("prepare", async move { sandbox.prepare(version).await })
    };
    let prepared: Vec<_> = (0..8).map(prepare).collect();
    let mut images = Vec::new();
    for image in prepared {
        images.push(image.await.unwrap().unwrap());
    }
    let reads = blobs.reads.load(Ordering::Relaxed);
    assert_eq!(reads, 2, "one that found nothing, one for all eight");
    let mut instance = images.remove(0).start().await.unwrap();
    assert_eq!(run(&mut instance, "result = 5").await.unwrap(), 5);
    instance.stop().await;
    assert_eq!(tasks.drain(AMPLE).await, 0);
}
