//! What the tests need around a sandbox: a blob store and a log in memory, zips, a look at the host's processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use model::Result;
use model::clock::{SystemClock, UnixMillis};
use model::function::{CodeRef, FunctionConfig, RuntimeInfo, Variable, Version};
use model::ids::{Digest, FunctionKey, FunctionRef, RequestId};
use model::invocation::{CallContext, Failure, FailureKind, Invocation, Outcome};
use model::layer::AttachedLayer;
use model::network::NetworkPolicy;
use model::ports::{
    Image, Instance, LogLine, LogQuery, LogTail, Logs, PackageInfo, Patience, Sandbox, StartFailed,
    Turn,
};
use model::stream::Taker;
use model::suites::memory::{MemoryBlobs, MemoryVault};
use model::tasks::Tasks;
use sandbox::{NetworkConfig, ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT, ZygoteUse};
use tempfile::TempDir;

/// Apart from the ids of the sandbox that all tests share.
const UID_BASE_AHEAD: u32 = UID_BASE_DEFAULT - 500_000;

/// A sandbox with everything around it; its cache goes with it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) sandbox: Arc<ProcessSandbox>,
    pub(crate) logs: Arc<MemoryLogs>,
    pub(crate) tasks: Tasks,
    pub(crate) folder: TempDir,
    /// Whether every start forks, once it can.
    pub(crate) forked: bool,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (logs, tasks) = (Arc::<MemoryLogs>::default(), Tasks::new());
        COMPILED.set(folder.path().join("compiled")).unwrap();
        let sandbox = open(&folder.path().join("cache"), logs.clone(), tasks.clone()).await;
        Self { sandbox, logs, tasks, folder, forked: false }
    }

    /// One of its own for one test, whose instances are pre-started ones if [`Ahead`] is asked for them.
    pub(crate) async fn ahead(memory_mb: u32) -> Arc<Self> {
        let folder = TempDir::new().unwrap();
        let (logs, tasks) = (Arc::<MemoryLogs>::default(), Tasks::new());
        let config = SandboxConfig {
            uid_base: UID_BASE_AHEAD,
            prestart_memory_mb: memory_mb,
            ..config(&cache(&folder))
        };
        let sandbox = start(config, logs.clone(), tasks.clone()).await;
        Arc::new(Self { sandbox, logs, tasks, folder, forked: false })
    }

    /// One of its own for one test, whose instances are forked, all of them, if [`Ahead`] is asked for them.
    pub(crate) async fn forked() -> Arc<Self> {
        Self::forked_by(sandbox::ZYGOTE_CHILDREN_DEFAULT).await
    }

    /// The same by zygotes that have so many children each.
    pub(crate) async fn forked_by(zygote_children: u32) -> Arc<Self> {
        let folder = TempDir::new().unwrap();
        let (logs, tasks) = (Arc::<MemoryLogs>::default(), Tasks::new());
        let config = SandboxConfig {
            uid_base: UID_BASE_AHEAD,
            prestart_memory_mb: 256,
            zygote: ZygoteUse::Alone,
            zygote_children,
            ..config(&cache(&folder))
        };
        let sandbox = start(config, logs.clone(), tasks.clone()).await;
        Arc::new(Self { sandbox, logs, tasks, folder, forked: true })
    }

    /// As [`World::ahead`], with zygotes that make what lies ready.
    pub(crate) async fn ahead_by_zygote(memory_mb: u32) -> Arc<Self> {
        let folder = TempDir::new().unwrap();
        let (logs, tasks) = (Arc::<MemoryLogs>::default(), Tasks::new());
        let config = SandboxConfig {
            uid_base: UID_BASE_AHEAD,
            prestart_memory_mb: memory_mb,
            zygote: ZygoteUse::Auto,
            ..config(&cache(&folder))
        };
        let sandbox = start(config, logs.clone(), tasks.clone()).await;
        Arc::new(Self { sandbox, logs, tasks, folder, forked: false })
    }

    /// Whether runtimes are forked here: only a daemon that is root can enter the instances that it has made.
    pub(crate) fn forks(&self) -> bool {
        self.sandbox.isolation().has("users")
    }

    /// Pre-started instances that lie ready.
    pub(crate) fn ready(&self) -> usize {
        usize::try_from(self.sandbox.starts().ready).unwrap()
    }

    /// Ends one that was made for one test.
    pub(crate) async fn end(self: Arc<Self>) {
        let Self { sandbox, tasks, folder, .. } =
            Arc::into_inner(self).expect("nobody else has it");
        drop(sandbox);
        assert_eq!(tasks.drain(Duration::from_secs(60)).await, 0);
        keep_compiled(&folder.path().join("cache"));
    }
}

/// Java's bootstraps, which it takes seconds to compile, for the next world that is made for one test; they go with the one that all tests share.
static COMPILED: OnceLock<PathBuf> = OnceLock::new();

/// A cache for a world that is made for one test, with what earlier ones have compiled.
fn cache(world: &TempDir) -> PathBuf {
    let cache = world.path().join("cache");
    let compiled = COMPILED.get().unwrap();
    if compiled.exists() {
        fs::create_dir(&cache).unwrap();
        copy(compiled, &cache.join("bootstraps"));
    }
    cache
}

/// Keeps what such a world has compiled.
fn keep_compiled(cache: &Path) {
    let compiled = COMPILED.get().unwrap();
    for entry in fs::read_dir(cache.join("bootstraps")).into_iter().flatten() {
        let from = entry.unwrap().path();
        let to = compiled.join(from.file_name().unwrap());
        if from.join("java").is_dir() && !to.exists() {
            fs::create_dir_all(compiled).unwrap();
            copy(&from, &to);
        }
    }
}

/// Copies a folder, its rights included.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A sandbox with its cache there, as the daemon makes it.
pub(crate) async fn open(cache: &Path, logs: Arc<MemoryLogs>, tasks: Tasks) -> Arc<ProcessSandbox> {
    open_with(cache, UID_BASE_DEFAULT, logs, tasks, NetworkConfig::default()).await
}

/// As [`open`], with its instances under host ids from `uid_base`, and with a network of its own.
pub(crate) async fn open_with(
    cache: &Path,
    uid_base: u32,
    logs: Arc<MemoryLogs>,
    tasks: Tasks,
    network: NetworkConfig,
) -> Arc<ProcessSandbox> {
    start(SandboxConfig { uid_base, network, ..config(cache) }, logs, tasks).await
}

/// What a sandbox of these tests is told.
#[expect(clippy::disallowed_methods, reason = "the test's own PATH is where runtimes are")]
pub(crate) fn config(cache: &Path) -> SandboxConfig {
    SandboxConfig {
        cache_dir: cache.to_owned(),
        path: std::env::var("PATH").unwrap(),
        spawner: "/proc/self/exe".into(),
        uid_base: UID_BASE_DEFAULT,
        network: NetworkConfig::default(),
        prestart_memory_mb: 0,
        zygote: ZygoteUse::Off,
        zygote_children: sandbox::ZYGOTE_CHILDREN_DEFAULT,
    }
}

/// Starts one.
pub(crate) async fn start(
    config: SandboxConfig,
    logs: Arc<MemoryLogs>,
    tasks: Tasks,
) -> Arc<ProcessSandbox> {
    let blobs = Arc::<MemoryBlobs>::default();
    ProcessSandbox::new(config, blobs, logs, vault(), Arc::new(SystemClock), tasks).await.unwrap()
}

/// A sandbox whose instances are pre-started, all of them: a start waits until one lies ready.
#[derive(Debug)]
pub(crate) struct Ahead(pub(crate) Arc<ProcessSandbox>);

#[derive(Debug)]
struct AheadImage {
    sandbox: Arc<ProcessSandbox>,
    version: Arc<Version>,
    image: Arc<dyn Image>,
}

#[async_trait]
impl Sandbox for Ahead {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        self.0.runtimes()
    }

    fn resolve_runtime(&self, name: &str) -> Result<RuntimeInfo> {
        self.0.resolve_runtime(name)
    }

    fn check_network(&self, policy: &NetworkPolicy) -> Result<()> {
        self.0.check_network(policy)
    }

    async fn check_package(&self, package: Bytes) -> Result<PackageInfo> {
        self.0.check_package(package).await
    }

    async fn prepare(&self, version: Arc<Version>) -> Result<Arc<dyn Image>> {
        let image = self.0.prepare(Arc::clone(&version)).await?;
        Ok(Arc::new(AheadImage { sandbox: Arc::clone(&self.0), version, image }))
    }

    async fn forget_package(&self, digest: &Digest) {
        self.0.forget_package(digest).await;
    }
}

#[async_trait]
impl Image for AheadImage {
    async fn start(&self) -> std::result::Result<Box<dyn Instance>, StartFailed> {
        ready(&self.sandbox, &self.version).await;
        let before = self.sandbox.starts().executed;
        let started = self.image.start().await;
        assert_eq!(self.sandbox.starts().executed, before, "the start took the plain way");
        started
    }
}

/// Waits until an instance lies ready for a version.
pub(crate) async fn ready(sandbox: &ProcessSandbox, version: &Version) {
    let end = Instant::now() + Duration::from_secs(60);
    while sandbox.ready_for(version) == 0 {
        let state = sandbox.starts();
        assert!(
            Instant::now() < end && state.not_forked.is_empty(),
            "nothing is started ahead: {state:?}"
        );
        sandbox.expect(version);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One vault for all sandboxes of this process.
pub(crate) fn vault() -> Arc<MemoryVault> {
    static VAULT: LazyLock<Arc<MemoryVault>> = LazyLock::new(Arc::default);
    Arc::clone(&VAULT)
}

/// A zip of files.
pub(crate) fn zip(files: &[(&str, &str)]) -> Bytes {
    zip_of(&files.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Vec<_>>())
}

/// A zip of files that need not be text.
pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Bytes {
    let files = files.iter().map(|(name, bytes)| (*name, *bytes, 0o644));
    zip_with_modes(&files.collect::<Vec<_>>())
}

/// A zip of files, each with its mode.
pub(crate) fn zip_with_modes(files: &[(&str, &[u8], u32)]) -> Bytes {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, mode) in files {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        // To compress programs takes longer than most tests.
        let method = match bytes.len() {
            0..100_000 => zip::CompressionMethod::Deflated,
            _ => zip::CompressionMethod::Stored,
        };
        let options = options.compression_method(method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
}

/// Puts layers over those that a version has.
pub(crate) async fn attach(sandbox: &dyn Sandbox, version: &mut Version, layers: &[Bytes]) {
    for layer in layers {
        let info = sandbox.check_package(layer.clone()).await.unwrap();
        let PackageInfo { digest, unpacked_bytes, .. } = info;
        version.layers.push(AttachedLayer {
            name: format!("layer{}", version.layers.len()).parse().unwrap(),
            version: 1,
            code: CodeRef { digest, size_bytes: 0, unpacked_bytes },
        });
    }
}

/// Runs the machine's C compiler.
#[expect(clippy::disallowed_methods, reason = "the machine's C compiler")]
pub(crate) fn cc(folder: &Path, options: &[&str], sources: impl IntoIterator<Item = &'static str>) {
    let ran = Command::new("cc")
        .args(["-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args(options)
        .args(sources)
        .current_dir(folder)
        .output()
        .expect("`cc` runs: `cargo x test` installs it");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "C does not compile: {said}");
}

/// Compiles a program in Go that needs nothing of the machine it runs on; returns it.
pub(crate) fn go(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the machine's Go compiler")]
    let ran = Command::new("go")
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o", "program", "."])
        .env("CGO_ENABLED", "0")
        .current_dir(folder.path())
        .output()
        .expect("`go` runs: `cargo x test` installs it");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "Go does not compile: {said}");
    fs::read(folder.path().join("program")).unwrap()
}

/// Compiles Java with the machine's kit; returns the class files, by name.
#[expect(clippy::disallowed_methods, reason = "the machine's Java compiler")]
pub(crate) fn javac(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let ran = Command::new("javac")
        .args(["-d", "."])
        .args(files.iter().map(|(name, _)| name))
        .current_dir(folder.path())
        .output()
        .expect("`javac` runs: `cargo x test` installs it");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "Java does not compile: {said}");
    let entries = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path());
    let classes = entries.filter(|p| p.extension().is_some_and(|e| e == "class"));
    let name = |p: &Path| p.file_name().unwrap().to_string_lossy().into_owned();
    classes.map(|p| (name(&p), fs::read(&p).unwrap())).collect()
}

/// `$LATEST` of the Python function `name` whose package is `digest`.
pub(crate) fn version(
    sandbox: &ProcessSandbox,
    name: &str,
    digest: Digest,
    environment: BTreeMap<String, String>,
) -> Arc<Version> {
    Arc::new(Version {
        key: FunctionRef::parse("default", name).unwrap().key,
        number: None,
        config: FunctionConfig {
            environment: environment
                .into_iter()
                .map(|(key, text)| (key, Variable::Plain(text)))
                .collect(),
            ..FunctionConfig::new("python3", "main.handler")
        },
        code: CodeRef { digest, size_bytes: 0, unpacked_bytes: 0 },
        layers: Vec::new(),
        runtime: sandbox.resolve_runtime("python3").unwrap(),
        modified_at: UnixMillis(0),
    })
}

/// Runs a call in an instance that has none. A dead one takes no call: that counts as one that ended.
pub(crate) async fn run(instance: &mut dyn Instance, invocation: &Invocation) -> Outcome {
    if !instance.hand(invocation) {
        assert!(!instance.alive(), "an instance that lives and has no call takes one");
        let failure = Failure::new(FailureKind::Exited, "Dead", "the call was not taken");
        return Outcome { result: Err(failure), run_us: 0, busy_us: None, memory_peak_bytes: None };
    }
    let returned = &mut |calls: &[RequestId]| panic!("{calls:?} were never handed over");
    match instance.outcome(Patience { limit: Duration::MAX, returned }).await {
        Turn::Over(outcome) => outcome,
        Turn::Streams { .. } => instance.stream(Taker::Whole).await.outcome,
    }
}

/// `version` of another runtime, with the memory that real libraries want.
pub(crate) fn in_runtime(
    sandbox: &ProcessSandbox,
    version: &Version,
    runtime: &str,
) -> Arc<Version> {
    let mut version = version.clone();
    version.config.memory_mb = 512;
    version.config.runtime = runtime.into();
    version.runtime = sandbox.resolve_runtime(runtime).unwrap();
    Arc::new(version)
}

/// One attempt of a fresh call that may take `time`.
pub(crate) fn invocation(event: String, time: Duration) -> Invocation {
    Invocation {
        id: RequestId::generate(),
        attempt: 1,
        payload: Bytes::from(event),
        timeout: time,
        context: CallContext::default(),
    }
}

/// Processes of the host with `text` on their command line.
pub(crate) fn processes_with(text: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

#[derive(Debug, Default)]
pub(crate) struct MemoryLogs(Mutex<Vec<LogLine>>);

impl MemoryLogs {
    /// The newest line with exactly this text.
    pub(crate) fn find(&self, text: &str) -> Option<LogLine> {
        self.0.lock().unwrap().iter().rev().find(|line| line.text == text).cloned()
    }
}

#[async_trait]
impl Logs for MemoryLogs {
    fn append(&self, lines: Vec<LogLine>) -> usize {
        self.0.lock().unwrap().extend(lines);
        0
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn query(&self, query: LogQuery) -> Result<Vec<LogLine>> {
        let lines = self.0.lock().unwrap();
        let mut found: Vec<_> = lines.iter().filter(|l| query.matches(l)).cloned().collect();
        found.drain(..found.len().saturating_sub(query.limit));
        Ok(found)
    }

    fn tail(&self, _: LogQuery) -> Box<dyn LogTail> {
        panic!("no test of the sandbox tails")
    }

    async fn delete(&self, function: &FunctionKey) -> Result<()> {
        self.0.lock().unwrap().retain(|l| l.function != *function);
        Ok(())
    }
}

/// Where the tests keep what other toolchains made for them, below the folder that cargo builds into, whatever it is called: this program lies in `deps` below it.
pub(crate) fn guests() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().join("guests")
}
