//! The victims of an attack: another function, live at the same time, and the host with the daemon, which is this process.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::clock::{Clock as _, SystemClock};
use model::ids::RequestId;
use model::invocation::Outcome;
use model::ports::{Image, Instance, Sandbox as _};
use serde_json::{Value, json};

use super::ground::Ground;
use crate::processes::{children, instances_of, own_groups, spawners};
use crate::support::{World, invocation, run};

/// How every secret begins: a search may look for it, and only who has found one can say the rest.
pub(super) const SECRET_PREFIX: &str = "hanshu-loot-";
/// The abstract socket that the other function listens on.
const DOOR: &str = "hanshu-door";
/// How long a victim may take to answer on a machine that is attacked.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long counts have to stay as they are to be those of a host at rest: control groups are made ahead within some milliseconds of a start.
const REST: Duration = Duration::from_millis(50);

/// Everything that an attack must leave as it is.
#[derive(Debug)]
pub(super) struct Scene {
    world: Arc<World>,
    image: Arc<dyn Image>,
    neighbour: Box<dyn Instance>,
    calls: u64,
    neighbours_secret: String,
    daemons_secret: String,
    listener: TcpListener,
    abstract_name: String,
    abstract_listener: UnixListener,
    before: Counts,
    /// The wall clock less the clock that nobody can set, in milliseconds.
    clock_offset_ms: i128,
}

impl Scene {
    /// Starts the other function and takes the counts.
    pub(super) async fn set(world: &Arc<World>, ground: &Ground) -> Self {
        let secret = || format!("{SECRET_PREFIX}{}", RequestId::generate());
        let (neighbours_secret, daemons_secret) = (secret(), secret());
        fs::write(world.folder.path().join("daemon secret"), &daemons_secret).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let abstract_name = format!("hanshu-host-{}", RequestId::generate());
        let address = SocketAddr::from_abstract_name(abstract_name.as_bytes()).unwrap();
        let abstract_listener = UnixListener::bind_addr(&address).unwrap();
        abstract_listener.set_nonblocking(true).unwrap();

        let environment = [("TOKEN", neighbours_secret.as_str()), ("DOOR", DOOR)];
        let image = ground.neighbour(world, &neighbours_secret, &environment).await;
        quiet(world).await;
        let neighbour = image.start().await.unwrap();
        let mut scene = Self {
            world: Arc::clone(world),
            image,
            neighbour,
            calls: 0,
            neighbours_secret,
            daemons_secret,
            listener,
            abstract_name,
            abstract_listener,
            before: Counts::settled(world, ground).await,
            clock_offset_ms: clock_offset_ms(),
        };
        scene.assert_neighbour_is_well("before the attack", &[]).await;
        scene
    }

    /// What an attack is told: all that it could guess or find out about the host in years.
    pub(super) fn arguments(&self) -> Vec<(&'static str, String)> {
        vec![
            ("daemon", std::process::id().to_string()),
            ("folder", self.world.folder.path().display().to_string()),
            ("port", self.listener.local_addr().unwrap().port().to_string()),
            ("abstract", self.abstract_name.clone()),
            ("neighbour", DOOR.to_owned()),
            ("prefix", SECRET_PREFIX.to_owned()),
        ]
    }

    /// No secret is in what the attack answered, failed with or wrote.
    pub(super) fn assert_no_loot(&self, outcome: &Outcome) {
        let answer = match &outcome.result {
            Ok(body) => body,
            Err(failure) => &failure.payload,
        };
        let answer = String::from_utf8_lossy(answer);
        for secret in [&self.neighbours_secret, &self.daemons_secret] {
            assert!(!answer.contains(secret.as_str()), "a secret is in the answer: {answer}");
        }
    }

    /// The other function answers, has what it had, and gets of the kernel what it needs, but for what it `lacks`.
    pub(super) async fn assert_neighbour_is_well(&mut self, when: &str, lacks: &[&str]) {
        self.calls += 1;
        let outcome = run(&mut *self.neighbour, &invocation("\"well\"".to_owned(), PATIENCE)).await;
        let body = outcome.result.unwrap_or_else(|f| panic!("the neighbour, {when}: {f:?}"));
        let mut state: Value = serde_json::from_slice(&body).unwrap();
        let needs = state["needs"].take();
        let well = json!({
            "calls": self.calls, "kept": [true, true, true], "layer": "as it was", "child": true, "visits": 0, "needs": null,
        });
        assert_eq!(state, well, "the neighbour, {when}");
        let needs = needs.as_array().unwrap();
        assert!(needs.len() > 8, "the neighbour, {when}: {needs:?}");
        for need in needs {
            let (need, word) = need.as_str().unwrap().split_once(": ").unwrap();
            assert!(
                word == "done" || lacks.contains(&need),
                "the neighbour, {when}, cannot have {need}: {word}"
            );
        }
    }

    /// Runs a text as the other function.
    pub(super) async fn search_as_the_neighbour(&mut self, text: &str) -> Vec<String> {
        let pairs = self.arguments().into_iter().map(|(key, v)| format!("{key}={v}"));
        let event = json!({"text": text, "arguments": pairs.collect::<Vec<_>>()});
        let outcome = run(&mut *self.neighbour, &invocation(event.to_string(), PATIENCE)).await;
        serde_json::from_slice(&outcome.result.unwrap()).unwrap()
    }

    /// Nothing reached the daemon, a fresh instance starts, and all counts are what they were.
    pub(super) async fn assert_host_is_well(self) {
        assert!(self.listener.accept().is_err(), "a connection reached the host's loopback");
        assert!(
            self.abstract_listener.accept().is_err(),
            "a connection reached an abstract socket"
        );
        let moved = (clock_offset_ms() - self.clock_offset_ms).abs();
        assert!(moved < 2_000, "the clock has moved by {moved} ms");
        rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC)
            .expect("the daemon still gets what the kernel counts by user");
        let fresh = self.image.start().await.expect("a fresh instance starts");
        fresh.stop().await;
        let until = Instant::now() + PATIENCE;
        loop {
            let now = Counts::take(&self.world);
            if now == self.before {
                break;
            }
            assert!(Instant::now() < until, "{}", now.unlike(&self.before));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.neighbour.stop().await;
    }
}

/// Until the remains of the test before are gone.
async fn quiet(world: &World) {
    let until = Instant::now() + PATIENCE;
    while instances() > world.ready() {
        assert!(Instant::now() < until, "an instance outlived its test");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// First processes of instances of all sandboxes here.
fn instances() -> usize {
    spawners().iter().map(|spawner| instances_of(spawner).len()).sum()
}

fn clock_offset_ms() -> i128 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let uptime_ms = Duration::from_secs_f64(seconds).as_millis();
    i128::from(SystemClock.now().0) - i128::try_from(uptime_ms).unwrap()
}

/// What an attack could change on the host, or leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    descriptors: usize,
    /// First processes of instances, zombies among them.
    instances: usize,
    own_children: usize,
    mounts: usize,
    groups: usize,
    /// Shared memory, semaphores and queues of the host's own namespace.
    sysv: usize,
    host_name: String,
    core_pattern: String,
    /// Path, mode, owner, size and time of change of all that the sandbox keeps on disk, but for folders that are used to work in.
    cache: Vec<(String, u32, u32, u64, i64)>,
}

impl Counts {
    /// What is not as it was.
    fn unlike(&self, before: &Self) -> String {
        let lines =
            |counts: &Self| format!("{counts:#?}").lines().map(str::to_owned).collect::<Vec<_>>();
        let (was, is) = (lines(before), lines(self));
        let missing = was.iter().filter(|line| !is.contains(line)).map(|line| format!("- {line}"));
        let new = is.iter().filter(|line| !was.contains(line)).map(|line| format!("+ {line}"));
        missing.chain(new).collect::<Vec<_>>().join("\n")
    }

    /// Once they do not change any more.
    async fn settled(world: &World, ground: &Ground) -> Self {
        let until = Instant::now() + PATIENCE;
        let mut last = Self::take(world);
        loop {
            tokio::time::sleep(REST).await;
            let now = Self::take(world);
            let lies_ready = (world.ready(), world.sandbox.starts().zygotes);
            if now == last && lies_ready == (ground.kits(), ground.zygotes()) {
                return now;
            }
            assert!(Instant::now() < until, "the host is not at rest: {}", now.unlike(&last));
            last = now;
        }
    }

    fn take(world: &World) -> Self {
        let lines = |path: &str| fs::read_to_string(path).unwrap_or_default().lines().count();
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let mut cache = Vec::new();
        list(&world.folder.path().join("cache"), &mut cache);
        Self {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            instances: instances(),
            own_children: children("self").len(),
            mounts: lines("/proc/self/mounts"),
            groups: groups(),
            sysv: ["shm", "sem", "msg"]
                .map(|kind| lines(&format!("/proc/sysvipc/{kind}")))
                .iter()
                .sum(),
            host_name: read("/proc/sys/kernel/hostname"),
            core_pattern: read("/proc/sys/kernel/core_pattern"),
            cache,
        }
    }
}

/// Control groups that this process made; other programs make some of theirs in the same places.
fn groups() -> usize {
    let prefix = format!("hanshu-{}-", std::process::id());
    let entries = own_groups().into_iter().filter_map(|own| fs::read_dir(own).ok()).flatten();
    let ours = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|e| 1 + folders(&e.path())).sum()
}

fn folders(at: &Path) -> usize {
    let inner = fs::read_dir(at).into_iter().flatten().flatten();
    let inner = inner.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    inner.map(|e| 1 + folders(&e.path())).sum()
}

fn list(at: &Path, into: &mut Vec<(String, u32, u32, u64, i64)>) {
    let mut entries: Vec<_> = fs::read_dir(at).unwrap().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.display().to_string();
        into.push((name, meta.mode(), meta.uid(), meta.size(), meta.ctime()));
        if meta.is_dir() {
            list(&path, into);
        }
    }
}
