//! What the tests need around a sandbox: a blob store and a log in memory, zips, a look at the host's processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use model::Result;
use model::clock::{SystemClock, UnixMillis};
use model::function::{CodeRef, FunctionConfig, Version};
use model::ids::{Digest, FunctionKey, FunctionRef, RequestId};
use model::invocation::{CallContext, Invocation};
use model::ports::{LogLine, LogQuery, LogTail, Logs, Sandbox as _};
use model::suites::memory::MemoryBlobs;
use model::tasks::Tasks;
use sandbox::{ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT};
use tempfile::TempDir;

/// A sandbox with everything around it; its cache goes with it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) sandbox: Arc<ProcessSandbox>,
    pub(crate) logs: Arc<MemoryLogs>,
    pub(crate) tasks: Tasks,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (logs, tasks) = (Arc::<MemoryLogs>::default(), Tasks::new());
        let sandbox = open(&folder.path().join("cache"), logs.clone(), tasks.clone()).await;
        Self { sandbox, logs, tasks, folder }
    }
}

/// A sandbox with its cache there, as the daemon makes it.
pub(crate) async fn open(cache: &Path, logs: Arc<MemoryLogs>, tasks: Tasks) -> Arc<ProcessSandbox> {
    open_with(cache, UID_BASE_DEFAULT, logs, tasks).await
}

/// As [`open`], with its instances under host ids from `uid_base`.
#[expect(clippy::disallowed_methods, reason = "the test's own PATH is where runtimes are")]
pub(crate) async fn open_with(
    cache: &Path,
    uid_base: u32,
    logs: Arc<MemoryLogs>,
    tasks: Tasks,
) -> Arc<ProcessSandbox> {
    let config = SandboxConfig {
        cache_dir: cache.to_owned(),
        path: std::env::var("PATH").unwrap(),
        spawner: "/proc/self/exe".into(),
        uid_base,
    };
    let blobs = Arc::<MemoryBlobs>::default();
    ProcessSandbox::new(config, blobs, logs, Arc::new(SystemClock), tasks).await.unwrap()
}

/// A zip of files.
pub(crate) fn zip(files: &[(&str, &str)]) -> Bytes {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
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
        config: FunctionConfig { environment, ..FunctionConfig::new("python3", "main.handler") },
        code: CodeRef { digest, size_bytes: 0, unpacked_bytes: 0 },
        runtime: sandbox.resolve_runtime("python3").unwrap(),
        modified_at: UnixMillis(0),
    })
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

/// One attempt of a fresh call, with `time` until its deadline.
pub(crate) fn invocation(event: String, time: Duration) -> Invocation {
    Invocation {
        id: RequestId::generate(),
        attempt: 1,
        payload: Bytes::from(event),
        deadline: Instant::now() + time,
        deadline_unix: UnixMillis(u64::MAX),
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
