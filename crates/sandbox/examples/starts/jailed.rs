//! The subject: the stand-in as a function's runtime, or a real function, in the sandbox that functions get.

use std::io::{Cursor, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use model::Result;
use model::clock::SystemClock;
use model::ids::{FunctionKey, RequestId};
use model::invocation::{CallContext, Invocation};
use model::ports::{Image, LogLine, LogQuery, LogTail, Logs, Sandbox as _};
use model::suites::memory::{MemoryBlobs, MemoryVault};
use model::tasks::Tasks;
use sandbox::{NetworkConfig, ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT};
use serde_json::json;

use crate::{Fallible, PAUSE};

/// How long instances may take to end when the program does.
const GRACE: Duration = Duration::from_secs(10);

/// So much memory gives the processor weight of an ordinary process, which the bare one has.
const MEMORY_MB: u32 = 1769;

/// What one start and one stop took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Until READY.
    pub(crate) start: Duration,
    /// Until every process was gone.
    pub(crate) stop: Duration,
}

/// What runs in it.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// Where runtimes are looked for, as `PATH` says it.
    pub(crate) path: String,
    pub(crate) runtime: &'a str,
    pub(crate) handler: &'a str,
    /// The one file of its package, and what is in it.
    pub(crate) file: &'a str,
    pub(crate) code: Vec<u8>,
}

/// A sandbox with one image.
#[derive(Debug)]
pub(crate) struct Jailed {
    pub(crate) image: Arc<dyn Image>,
    sandbox: Arc<ProcessSandbox>,
    tasks: Tasks,
}

impl Jailed {
    /// With the stand-in as the only runtime that there is.
    pub(crate) async fn standin(standin: &Path, cache: &Path) -> Fallible<Self> {
        let path = cache.join("path");
        std::fs::create_dir_all(&path)?;
        symlink(standin, path.join("node"))?;
        let subject = Subject {
            path: path.to_string_lossy().into_owned(),
            runtime: "nodejs20",
            handler: "index.handler",
            file: "index.js",
            code: b"exports.handler = async () => 'never called'\n".to_vec(),
        };
        Self::open(subject, cache).await
    }

    /// With one function.
    pub(crate) async fn open(subject: Subject<'_>, cache: &Path) -> Fallible<Self> {
        let Subject { path, runtime, handler, file, code } = subject;
        let config = SandboxConfig {
            cache_dir: cache.join("cache"),
            path,
            spawner: "/proc/self/exe".into(),
            uid_base: UID_BASE_DEFAULT,
            network: NetworkConfig::default(),
            prestart_memory_mb: 0,
            zygote: sandbox::ZygoteUse::Off,
            zygote_children: sandbox::ZYGOTE_CHILDREN_DEFAULT,
        };
        let (blobs, tasks) = (Arc::<MemoryBlobs>::default(), Tasks::new());
        let sandbox = ProcessSandbox::new(
            config,
            blobs,
            Arc::new(NoLogs),
            Arc::<MemoryVault>::default(),
            Arc::new(SystemClock),
            tasks.clone(),
        );
        let sandbox = sandbox.await?;
        let package = sandbox.check_package(package(file, &code)?).await?;
        let version = json!({
            "namespace": "default",
            "name": "subject",
            "config": {"runtime": runtime, "handler": handler, "memory_mb": MEMORY_MB},
            "code": {
                "digest": package.digest, "size_bytes": 0, "unpacked_bytes": 0
            },
            "runtime": sandbox.resolve_runtime(runtime)?,
            "modified_at": 0,
        });
        let image = sandbox.prepare(Arc::new(serde_json::from_value(version)?)).await?;
        Ok(Self { image, sandbox, tasks })
    }

    /// Starts an instance and stops it.
    pub(crate) async fn start(&self) -> Fallible<Took> {
        let begun = Instant::now();
        let instance = self.image.start().await.map_err(|e| format!("the start failed: {e:?}"))?;
        let ready = Instant::now();
        instance.stop().await;
        Ok(Took { start: ready - begun, stop: ready.elapsed() })
    }

    /// Starts an instance, has it stand still and go on for a call, and stops it: how long the first took and the second.
    pub(crate) async fn freeze(&self) -> Fallible<(Duration, Duration)> {
        let started = self.image.start().await;
        let mut instance = started.map_err(|e| format!("the start failed: {e:?}"))?;
        let begun = Instant::now();
        let frozen = instance.freeze().is_some_and(|later| later());
        let freeze = begun.elapsed();
        // It takes effect once its processes have seen it.
        std::thread::sleep(PAUSE);
        let call = Invocation {
            id: RequestId::generate(),
            attempt: 1,
            payload: Bytes::from_static(b"{}"),
            timeout: GRACE,
            context: CallContext::default(),
        };
        let handed = instance.hand(&call);
        let thaw = Duration::from_micros(instance.thaw_us());
        instance.stop().await;
        if !frozen || !handed || thaw.is_zero() {
            return Err(format!("frozen: {frozen}, thawed: {handed}, {thaw:?}").into());
        }
        Ok((freeze, thaw))
    }

    /// Ends everything.
    pub(crate) async fn close(self) -> Fallible {
        drop((self.image, self.sandbox));
        match self.tasks.drain(GRACE).await {
            0 => Ok(()),
            left => Err(format!("{left} tasks of the sandbox did not end").into()),
        }
    }
}

/// A zip of one file.
fn package(file: &str, code: &[u8]) -> Fallible<Bytes> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(file, zip::write::SimpleFileOptions::default().unix_permissions(0o755))?;
    zip.write_all(code)?;
    Ok(zip.finish()?.into_inner().into())
}

/// Keeps nothing: nothing is printed.
#[derive(Debug)]
struct NoLogs;

#[async_trait]
impl Logs for NoLogs {
    fn append(&self, lines: Vec<LogLine>) -> usize {
        lines.len()
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn query(&self, _: LogQuery) -> Result<Vec<LogLine>> {
        Ok(Vec::new())
    }

    fn tail(&self, _: LogQuery) -> Box<dyn LogTail> {
        Box::new(NoTail)
    }

    async fn delete(&self, _: &FunctionKey) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct NoTail;

#[async_trait]
impl LogTail for NoTail {
    async fn next(&mut self) -> Option<std::result::Result<LogLine, u64>> {
        None
    }
}
