//! What functions with a network reach and what not, and what is left of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::clock::SystemClock;
use model::function::Version;
use model::network::NetworkPolicy;
use model::ports::{Instance, Sandbox as _, StartFailed};
use model::suites::memory::MemoryBlobs;
use model::tasks::Tasks;
use model::{Code, limits};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{NetworkConfig, ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT, WasmConfig};
use serde_json::{Value, json};

use super::topology::{
    DATABASE, HOST, HOST_PORT, INTERNET, OTHER_DATABASE, PRIVATE, RESOLVER, Topology, ip,
};
use super::{ARGUMENT, again, components, is_root};
use crate::processes::{children, eventually, spawner};
use crate::support::{
    self, MemoryLogs, invocation, open_with, processes_with, vault, version, zip,
};
use crate::wasm;

/// Time for a call that moves some megabytes through a limit.
const AMPLE: Duration = Duration::from_secs(60);
/// What a daemon that is to be killed says when its instance runs.
const UP: &str = "up";

/// One scenario.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// `root` or `user` if it is about one way of being connected; empty for both.
    only_for: &'static str,
    run: fn(Host) -> Pin<Box<dyn Future<Output = ()>>>,
}

macro_rules! scenarios {
    ($($name:ident $(for $who:ident)?,)*) => {
        pub(super) const ALL: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            only_for: concat!("" $(, stringify!($who))?),
            run: |host| Box::pin($name(host)),
        },)*];
    };
}

scenarios! {
    egress_reaches_the_internet_and_nothing_private,
    egress_reaches_what_is_allowed_by_name,
    private_reaches_what_is_allowed_and_nothing_else,
    node_functions_are_held_by_the_same_rules,
    none_has_loopback_only,
    components_are_held_by_the_same_rules,
    what_the_daemon_denies_cannot_be_allowed,
    bandwidth_is_limited_in_both_directions,
    connections_are_bounded,
    instances_do_not_reach_each_other,
    nothing_is_left_of_an_instance,
    a_killed_spawner_takes_the_network_along,
    a_killed_daemon_leaves_nothing_that_the_next_does_not_clear,
    ranges_in_use_are_refused for root,
    two_daemons_have_addresses_of_their_own for root,
    addresses_that_the_host_gets_later_are_the_hosts_too for root,
    without_pasta_a_network_is_refused_and_none_runs for user,
    a_pasta_that_fails_fails_the_start for user,
}

impl Scenario {
    pub(super) fn applies(&self) -> bool {
        match self.only_for {
            "root" => is_root(),
            "user" => !is_root(),
            _ => true,
        }
    }

    pub(super) async fn run(&self) {
        let host = Host::new().await;
        (self.run)(host).await;
    }
}

/// The host, with a daemon's sandbox on it.
struct Host {
    sandbox: Arc<ProcessSandbox>,
    tasks: Tasks,
    folder: tempfile::TempDir,
    _topology: Topology,
}

fn config() -> NetworkConfig {
    NetworkConfig { dns: vec![RESOLVER.parse().unwrap()], ..NetworkConfig::default() }
}

impl Host {
    async fn new() -> Self {
        let topology = Topology::new();
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let cache = folder.path().join("cache");
        let sandbox =
            open_with(&cache, UID_BASE_DEFAULT, Arc::default(), tasks.clone(), config()).await;
        Self { sandbox, tasks, folder, _topology: topology }
    }

    async fn start(&self, policy: Value) -> Function {
        Function::start(&self.sandbox, policy).await
    }
}

/// A live instance of `main.py` or `index.js`.
struct Function(Box<dyn Instance>);

impl Function {
    async fn start(sandbox: &ProcessSandbox, policy: Value) -> Self {
        let package = zip(&[("main.py", include_str!("main.py"))]);
        let info = sandbox.check_package(package).await.unwrap();
        let version = version(sandbox, "network", info.digest, [].into());
        Self::of(sandbox, Arc::unwrap_or_clone(version), policy).await
    }

    async fn node(sandbox: &ProcessSandbox, policy: Value) -> Self {
        let package = zip(&[("index.js", include_str!("index.js"))]);
        let info = sandbox.check_package(package).await.unwrap();
        let mut version = Arc::unwrap_or_clone(version(sandbox, "network", info.digest, [].into()));
        version.config.handler = "index.handler".into();
        version.runtime = sandbox.resolve_runtime("nodejs20").unwrap();
        Self::of(sandbox, version, policy).await
    }

    async fn of(sandbox: &ProcessSandbox, mut version: Version, policy: Value) -> Self {
        version.config.network = serde_json::from_value::<NetworkPolicy>(policy).unwrap();
        version.config.network.validate().unwrap();
        let image = sandbox.prepare(Arc::new(version)).await.unwrap();
        Self(image.start().await.unwrap())
    }

    async fn call(&mut self, event: Value) -> Value {
        let outcome = support::run(&mut *self.0, &invocation(event.to_string(), AMPLE)).await;
        let body = outcome.result.unwrap_or_else(|f| panic!("{event}: {:?}", f.payload));
        serde_json::from_slice(&body).unwrap()
    }

    /// What it is told by who answers there, and how long that took.
    async fn ask(&mut self, op: &str, address: &str, port: u16, line: &str) -> (String, f64) {
        let event = json!({ "op": op, "address": address, "port": port, "line": line });
        let said = self.call(event).await;
        (said[0].as_str().unwrap().to_owned(), said[1].as_f64().unwrap())
    }

    async fn reaches(&mut self, op: &str, address: &str, port: u16) {
        let (said, _) = self.ask(op, address, port, "who").await;
        assert_eq!(said, address, "{op} to {address}:{port}");
    }

    /// It is refused, and told so before a time-out.
    async fn does_not_reach(&mut self, op: &str, address: &str, port: u16) {
        let (said, took) = self.ask(op, address, port, "who").await;
        assert!(said.starts_with("error "), "{op} to {address}:{port}: {said}");
        // Without a listener, loopback refuses by itself; the rest is the filter's.
        assert!(took < 1.5 && !said.to_lowercase().contains("timeout"), "{op} {address}: {said}");
    }

    async fn stop(self) {
        self.0.stop().await;
    }
}

async fn egress_reaches_the_internet_and_nothing_private(host: Host) {
    let mut function = host.start(json!("egress")).await;
    for op in ["tcp", "udp"] {
        function.reaches(op, INTERNET, 80).await;
        function.reaches(op, RESOLVER, 53).await;
        function.does_not_reach(op, RESOLVER, 80).await;
        for address in PRIVATE {
            function.does_not_reach(op, address, 80).await;
        }
        for address in HOST {
            function.does_not_reach(op, address, HOST_PORT).await;
        }
    }
    // What stands for the host where pasta or a gateway would let it.
    function.does_not_reach("tcp", "198.18.0.1", HOST_PORT).await;
    let resolv = function.call(json!({ "op": "read", "path": "/etc/resolv.conf" })).await;
    assert_eq!(resolv, format!("nameserver {RESOLVER}\n"));
    assert_eq!(function.call(json!({ "op": "raw" })).await, "refused");
    let tricks = |address| json!({ "op": "tricks", "address": address, "port": 53 });
    assert_eq!(function.call(tricks(DATABASE)).await, json!([]));
    // Those that are no harm are answered where the address is allowed, so the test would see the others.
    let harmless = function.call(tricks(RESOLVER)).await;
    assert!(harmless.as_array().unwrap().contains(&json!("device eth0")), "{harmless}");
    assert!(!harmless.as_array().unwrap().contains(&json!("source route")), "{harmless}");
    for address in ["ff02::1%eth0", "fe80::1%eth0", "2001:db8::1", "fd00::1"] {
        let event = json!({ "op": "ipv6", "address": address });
        let outcome = support::run(&mut *function.0, &invocation(event.to_string(), AMPLE)).await;
        assert!(outcome.result.is_err(), "{address}");
    }
    function.stop().await;
}

async fn egress_reaches_what_is_allowed_by_name(host: Host) {
    let allow = [format!("{DATABASE}:5432/tcp"), "172.16.0.0/12:80-81".to_owned()];
    let mut function = host.start(json!({ "mode": "egress", "allow": allow })).await;
    function.reaches("tcp", DATABASE, 5432).await;
    function.does_not_reach("udp", DATABASE, 5432).await;
    function.does_not_reach("tcp", DATABASE, 5433).await;
    function.does_not_reach("tcp", OTHER_DATABASE, 5432).await;
    function.reaches("tcp", "172.16.5.5", 80).await;
    function.reaches("udp", "172.16.5.5", 80).await;
    function.reaches("tcp", INTERNET, 80).await;
    function.stop().await;
}

async fn private_reaches_what_is_allowed_and_nothing_else(host: Host) {
    let allow = ["10.1.2.0/30:5432", "93.184.216.2:9000", "10.9.9.9:9000"];
    let mut function = host.start(json!({ "mode": "private", "allow": allow })).await;
    function.reaches("tcp", DATABASE, 5432).await;
    function.reaches("udp", DATABASE, 5432).await;
    function.does_not_reach("tcp", DATABASE, 80).await;
    function.does_not_reach("tcp", OTHER_DATABASE, 5432).await;
    function.does_not_reach("tcp", INTERNET, 80).await;
    function.does_not_reach("udp", RESOLVER, 53).await;
    // The host itself cannot be allowed.
    for address in HOST {
        function.does_not_reach("tcp", address, HOST_PORT).await;
    }
    let resolv = function.call(json!({ "op": "read", "path": "/etc/resolv.conf" })).await;
    assert!(!resolv.as_str().unwrap().contains("nameserver"), "{resolv}");
    function.stop().await;
}

async fn node_functions_are_held_by_the_same_rules(host: Host) {
    let policy = json!({ "mode": "egress", "allow": [format!("{DATABASE}:5432")] });
    let mut function = Function::node(&host.sandbox, policy).await;
    for op in ["tcp", "udp"] {
        function.reaches(op, INTERNET, 80).await;
        function.reaches(op, DATABASE, 5432).await;
        function.does_not_reach(op, "169.254.169.254", 80).await;
        function.does_not_reach(op, "10.9.9.9", HOST_PORT).await;
    }
    function.stop().await;
}

async fn none_has_loopback_only(host: Host) {
    let mut function = host.start(json!("none")).await;
    function.does_not_reach("tcp", INTERNET, 80).await;
    function.does_not_reach("tcp", "127.0.0.1", HOST_PORT).await;
    let interfaces = function.call(json!({ "op": "read", "path": "/proc/net/dev" })).await;
    assert_eq!(interfaces.as_str().unwrap().matches(':').count(), 1, "{interfaces}");
    function.stop().await;
    // Nothing of the host was changed for it.
    assert_eq!(forwarding(), "0");
}

async fn components_are_held_by_the_same_rules(host: Host) {
    let config = WasmConfig {
        cache_dir: host.folder.path().join("wasm"),
        compiler: "/proc/self/exe".into(),
        compile_time_limit: Duration::from_secs(120),
    };
    let sandbox = wasm::over(host.sandbox.clone(), config, Arc::default()).await;
    components::with_egress(&sandbox).await;
    components::with_private(&sandbox).await;
    components::with_hostile_servers(&sandbox).await;
}

async fn what_the_daemon_denies_cannot_be_allowed(host: Host) {
    let deny = vec!["10.1.2.0/24".parse().unwrap(), "93.184.216.0/24".parse().unwrap()];
    let cache = host.folder.path().join("denying");
    let config = NetworkConfig { deny, ..config() };
    let sandbox =
        open_with(&cache, UID_BASE_DEFAULT, Arc::default(), host.tasks.clone(), config).await;
    let policy = json!({ "mode": "egress", "allow": ["10.1.2.3", "172.16.5.5", "93.184.216.34"] });
    let mut function = Function::start(&sandbox, policy).await;
    function.does_not_reach("tcp", DATABASE, 5432).await;
    function.does_not_reach("tcp", INTERNET, 80).await;
    function.reaches("tcp", "172.16.5.5", 80).await;
    function.stop().await;
}

async fn bandwidth_is_limited_in_both_directions(host: Host) {
    const RATE: f64 = 1_000_000.0;
    const BYTES: u32 = 3_000_000;
    let mut free = host.start(json!("egress")).await;
    let mut limited = host.start(json!({ "mode": "egress", "bandwidth": "1MB" })).await;
    for line in [format!("get {BYTES}"), format!("put {BYTES}")] {
        let (said, took) = limited.ask("tcp", INTERNET, 80, &line).await;
        assert!(!said.starts_with("error"), "{line}: {said}");
        let rate = f64::from(BYTES) / took;
        assert!((RATE / 2.0..RATE * 2.0).contains(&rate), "{line}: {rate} bytes per second");
        println!("{line}: {rate:.0} bytes per second of {RATE}");
        let (_, unlimited) = free.ask("tcp", INTERNET, 80, &line).await;
        assert!(unlimited < took / 2.0, "{line}: {unlimited} s without a limit, {took} s with");
    }
    free.stop().await;
    limited.stop().await;
}

async fn connections_are_bounded(host: Host) {
    let mut function = host.start(json!("egress")).await;
    let most = limits::CONNECTIONS_PER_INSTANCE;
    let flood = json!({ "op": "flood", "count": 6_000, "address": INTERNET, "port": 80 });
    let sent = function.call(flood).await.as_u64().unwrap();
    // Ports may come up twice, and are then the same connection.
    assert!((u64::from(most) / 2..6_000).contains(&sent), "{sent}");
    // Others are not concerned.
    let mut other = host.start(json!("egress")).await;
    other.reaches("udp", INTERNET, 80).await;
    function.stop().await;
    other.stop().await;
}

async fn instances_do_not_reach_each_other(host: Host) {
    let mut a = host.start(json!("egress")).await;
    let b = host.start(json!({ "mode": "private", "allow": ["198.18.0.0/15"] })).await;
    let own = a.call(json!({ "op": "own" })).await;
    let mut b = b;
    let other = b.ask("tcp", own.as_str().unwrap(), 80, "who").await.0;
    assert!(other.starts_with("error "), "{other}");
    a.stop().await;
    b.stop().await;
}

/// Interfaces of the host.
fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/net/dev").unwrap();
    let mut names: Vec<String> =
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
    names.sort();
    names
}

fn forwarding() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim().to_owned()
}

fn routes() -> usize {
    fs::read_to_string("/proc/net/route").unwrap().lines().count()
}

async fn nothing_is_left_of_an_instance(host: Host) {
    let before = (interfaces(), routes());
    let pasta = || processes_with("--no-map-gw");
    let others = pasta();
    let mut live = Vec::new();
    for _ in 0..4 {
        live.push(host.start(json!({ "mode": "egress", "bandwidth": "1MB" })).await);
    }
    if is_root() {
        assert_eq!(interfaces().len(), before.0.len() + 4);
        assert_eq!(forwarding(), "1");
    } else {
        assert_eq!(pasta(), others + 4);
    }
    for function in live {
        function.stop().await;
        // By the time that an instance counts as gone, so is the process that carried its packets.
    }
    assert_eq!(pasta(), others);
    eventually("interfaces and routes are as before", || (interfaces(), routes()) == before).await;
    // The daemon's own part goes with the daemon.
    host.tasks.drain(Duration::from_secs(5)).await;
    host.sandbox.close();
    assert_eq!(forwarding(), "0");
}

async fn a_killed_spawner_takes_the_network_along(host: Host) {
    let before = (interfaces(), routes());
    let others = processes_with("--no-map-gw");
    let function = host.start(json!("egress")).await;
    let spawner = spawner().parse().ok().and_then(Pid::from_raw).unwrap();
    kill_process(spawner, Signal::KILL).unwrap();
    eventually("pasta is gone", || processes_with("--no-map-gw") == others).await;
    eventually("interfaces and routes are as before", || (interfaces(), routes()) == before).await;
    drop(function);
    let mut next = host.start(json!("egress")).await;
    next.reaches("tcp", INTERNET, 80).await;
    next.stop().await;
}

/// Is the daemon of the next scenario.
pub(super) async fn be_killed(cache: &Path) {
    let sandbox = open_with(cache, UID_BASE_DEFAULT, Arc::default(), Tasks::new(), config()).await;
    let mut function = Function::start(&sandbox, json!("egress")).await;
    function.reaches("tcp", INTERNET, 80).await;
    println!("{UP}");
    tokio::time::sleep(AMPLE).await;
}

fn daemon(cache: &Path) -> Child {
    use std::io::BufRead as _;
    let own = std::env::current_exe().unwrap();
    let arguments = [ARGUMENT, "daemon", cache.to_str().unwrap()];
    let mut daemon =
        again(own.to_str().unwrap(), &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), UP);
    daemon
}

async fn a_killed_daemon_leaves_nothing_that_the_next_does_not_clear(host: Host) {
    let before = (interfaces(), routes());
    let pasta = || processes_with("--no-map-gw");
    let others = pasta();
    let cache = host.folder.path().join("killed");
    let mut daemon = daemon(&cache);
    let spawner = children(&daemon.id().to_string());
    assert_eq!(
        (pasta() - others == 1, interfaces().len() > before.0.len()),
        (!is_root(), is_root())
    );
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    eventually("the daemon's processes are gone", || {
        spawner.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()) && pasta() == others
    })
    .await;
    eventually("interfaces and routes are as before", || (interfaces(), routes()) == before).await;
    assert_eq!(forwarding(), if is_root() { "1" } else { "0" });
    // Nothing but the first instance of the first block: the killed daemon's table does not stand in the way.
    let next =
        open_with(&cache, UID_BASE_DEFAULT, Arc::default(), host.tasks.clone(), config()).await;
    assert_eq!(forwarding(), "0");
    let mut function = Function::start(&next, json!("egress")).await;
    function.reaches("tcp", INTERNET, 80).await;
    assert_eq!(function.call(json!({ "op": "own" })).await, "198.18.0.2");
    function.stop().await;
}

async fn ranges_in_use_are_refused(host: Host) {
    ip("route add 198.18.0.0/15 via 93.184.216.34");
    let package = zip(&[("main.py", include_str!("main.py"))]);
    let info = host.sandbox.check_package(package).await.unwrap();
    let mut version =
        Arc::unwrap_or_clone(version(&host.sandbox, "network", info.digest, [].into()));
    version.config.network = serde_json::from_value(json!("egress")).unwrap();
    let image = host.sandbox.prepare(Arc::new(version)).await.unwrap();
    let Err(StartFailed::Platform(error)) = image.start().await else {
        panic!("started on addresses that belong to others")
    };
    for word in ["network.range", "198.18.0.0/15", "route"] {
        assert!(error.message().contains(word), "{}", error.message());
    }
    // Half of the range is enough.
    ip("route del 198.18.0.0/15");
    ip("route add 198.18.0.0/16 via 93.184.216.34");
    let mut instance = Function(image.start().await.unwrap());
    assert_eq!(instance.call(json!({ "op": "own" })).await, "198.19.0.2");
    instance.reaches("tcp", INTERNET, 80).await;
    instance.stop().await;
}

async fn two_daemons_have_addresses_of_their_own(host: Host) {
    let other = host.folder.path().join("other");
    let other =
        open_with(&other, UID_BASE_DEFAULT, Arc::default(), host.tasks.clone(), config()).await;
    let begun = Instant::now();
    let mut a = host.start(json!("egress")).await;
    let mut b = Function::start(&other, json!("egress")).await;
    println!("two starts with a network: {} ms", begun.elapsed().as_millis());
    assert_eq!(a.call(json!({ "op": "own" })).await, "198.18.0.2");
    assert_eq!(b.call(json!({ "op": "own" })).await, "198.18.16.2");
    // One that stops leaves forwarding to the other.
    a.stop().await;
    host.sandbox.close();
    assert_eq!(forwarding(), "1");
    b.reaches("tcp", INTERNET, 80).await;
    b.stop().await;
}

/// The filter of a live instance does not know it: the host's own rules refuse.
async fn addresses_that_the_host_gets_later_are_the_hosts_too(host: Host) {
    let mut function = host.start(json!("egress")).await;
    function.reaches("tcp", INTERNET, 80).await;
    ip("address add 93.184.217.1/32 dev lo");
    let (said, _) = function.ask("tcp", "93.184.217.1", HOST_PORT, "who").await;
    assert!(said.starts_with("error "), "{said}");
    function.stop().await;
}

/// A sandbox that looks for programs in a folder with Python and, if given, this pasta.
async fn with_pasta(host: &Host, pasta: Option<&str>) -> Arc<ProcessSandbox> {
    let folder = host.folder.path().join("bin");
    fs::create_dir(&folder).unwrap();
    let python = host.sandbox.resolve_runtime("python3").unwrap().name.replace("python", "");
    let python = format!("/usr/bin/python{python}");
    std::os::unix::fs::symlink(python, folder.join("python3")).unwrap();
    if let Some(script) = pasta {
        fs::write(folder.join("pasta"), script).unwrap();
        fs::set_permissions(folder.join("pasta"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let config = SandboxConfig {
        cache_dir: host.folder.path().join("pasta"),
        path: folder.to_str().unwrap().into(),
        spawner: "/proc/self/exe".into(),
        uid_base: UID_BASE_DEFAULT,
        network: config(),
        prestart_memory_mb: 0,
        zygote: sandbox::ZygoteUse::Off,
        zygote_children: sandbox::ZYGOTE_CHILDREN_DEFAULT,
    };
    let blobs = Arc::<MemoryBlobs>::default();
    let (logs, clock) = (Arc::<MemoryLogs>::default(), Arc::new(SystemClock));
    ProcessSandbox::new(config, blobs, logs, vault(), clock, host.tasks.clone()).await.unwrap()
}

async fn without_pasta_a_network_is_refused_and_none_runs(host: Host) {
    let sandbox = with_pasta(&host, None).await;
    assert!(!sandbox.isolation().has("network"), "{:?}", sandbox.isolation());
    let mut function = Function::start(&sandbox, json!("none")).await;
    function.does_not_reach("tcp", INTERNET, 80).await;
    function.stop().await;
    let egress = serde_json::from_value(json!("egress")).unwrap();
    let error = sandbox.check_network(&egress).unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.message().contains("pasta is not installed"), "{}", error.message());
    // A version from before the host lost it is not started with less than it asks for.
    let info = sandbox.check_package(zip(&[("main.py", "")])).await.unwrap();
    let mut version = Arc::unwrap_or_clone(version(&sandbox, "network", info.digest, [].into()));
    version.config.network = egress;
    assert_eq!(sandbox.prepare(Arc::new(version)).await.unwrap_err().code(), Code::Unsupported);
}

async fn a_pasta_that_fails_fails_the_start(host: Host) {
    let sandbox = with_pasta(&host, Some("#!/bin/sh\nexit 1\n")).await;
    let info = sandbox.check_package(zip(&[("main.py", "")])).await.unwrap();
    let mut version = Arc::unwrap_or_clone(version(&sandbox, "network", info.digest, [].into()));
    version.config.network = serde_json::from_value(json!("egress")).unwrap();
    let image = sandbox.prepare(Arc::new(version)).await.unwrap();
    let begun = Instant::now();
    let Err(StartFailed::Platform(error)) = image.start().await else {
        panic!("started without its network")
    };
    assert!(error.message().contains("pasta ended"), "{}", error.message());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // The spawner goes on.
    Function::start(&sandbox, json!("none")).await.stop().await;
}
