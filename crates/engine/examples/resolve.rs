//! Asks which version calls would reach, in a catalogue as large as it may get, and prints how long that took: what `cargo x bench resolve` reads.
//!
//! ```text
//! resolve ROUNDS
//! ```
//!
//! One function has [`VERSIONS`] versions; [`FUNCTIONS`] others of the same namespace have [`ALIASES`] aliases each. Every round asks each kind of target in
//! turn, in [`BATCHES`] batches of [`BATCH`] calls. Prints a JSON object a line: `{"kind", "p50_ns", "p99_ns"}`, the time of one call over the batches
//! of a round, and `{"kind": "apply", "ns"}`, from the write of the large function's document until the engine acts on it.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Deps, Engine, EngineConfig};
use model::Code;
use model::alias::{Alias, AliasRecord, Parameters};
use model::clock::{Clock, SystemClock, UnixMillis};
use model::function::{
    CodeRef, Fingerprint, Function, FunctionConfig, FunctionSettings, RuntimeInfo, Version,
    VersionSummary,
};
use model::ids::{AliasName, Digest, FunctionRef, RequestId};
use model::keys;
use model::network::NetworkPolicy;
use model::ports::{Expect, Image, Meta, PackageInfo, Revision, Sandbox};
use model::suites::memory::{MemoryBlobs, MemoryMeta, MemoryQueue, MemoryUsage};

/// Versions of the large function.
const VERSIONS: u64 = 10_000;
/// Functions with many aliases.
const FUNCTIONS: usize = 10;
/// Aliases of each of them.
const ALIASES: usize = 1_000;
/// Calls that are timed together: one alone takes little more than a look at the clock.
const BATCH: usize = 256;
/// Batches of a kind in a round.
const BATCHES: usize = 400;
/// Different calls of a kind, in turn: as many as there are aliases, so that the processor's caches do not flatter.
const CALLS: usize = 10_000;
/// Bytes of an event.
const EVENT_BYTES: usize = 1_024;
/// The kinds of aliases; of every so many aliases of a function one is of each kind.
const SHAPES: [(&str, &str); 4] = [
    ("weights", r#"{"targets":[{"version":1,"weight":95},{"version":2,"weight":5}]}"#),
    (
        "header",
        r#"{"targets":[{"version":1,"weight":95},{"version":2,"weight":5}],
            "rules":[{"when":[{"on":"header.x-beta","exact":"yes"}],"to":3}]}"#,
    ),
    (
        "sticky",
        r#"{"targets":[{"version":1,"weight":95},{"version":2,"weight":5}],"sticky":"header.x-user"}"#,
    ),
    (
        "event",
        r#"{"targets":[{"version":1,"weight":95},{"version":2,"weight":5}],
            "rules":[{"when":[{"on":"event.detail.user.plan","exact":"pro"}],"to":3}]}"#,
    ),
];

type Fallible<T = ()> = Result<T, Box<dyn Error>>;

/// A call that asks for its version.
#[derive(Debug)]
struct Asked {
    target: FunctionRef,
    id: RequestId,
    request: Request,
}

/// What a call by HTTP offers, as far as the aliases here ask for it.
#[derive(Debug)]
struct Request {
    user: String,
}

impl Parameters for Request {
    fn header(&self, name: &str) -> Option<&str> {
        match name {
            "x-user" => Some(&self.user),
            "x-beta" => Some("no"),
            _ => None,
        }
    }

    fn query(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn cookie(&self, _: &str) -> Option<&str> {
        None
    }

    fn path(&self) -> Option<&str> {
        None
    }

    fn method(&self) -> Option<&str> {
        None
    }

    fn source(&self) -> Option<IpAddr> {
        None
    }
}

/// Nothing runs here.
#[derive(Debug)]
struct NoSandbox;

#[async_trait]
impl Sandbox for NoSandbox {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        Vec::new()
    }

    fn resolve_runtime(&self, _: &str) -> model::Result<RuntimeInfo> {
        Err(unused())
    }

    fn check_network(&self, _: &NetworkPolicy) -> model::Result<()> {
        Err(unused())
    }

    async fn check_package(&self, _: Bytes) -> model::Result<PackageInfo> {
        Err(unused())
    }

    async fn prepare(&self, _: Arc<Version>) -> model::Result<Arc<dyn Image>> {
        Err(unused())
    }

    async fn forget_package(&self, _: &Digest) {}
}

fn unused() -> model::Error {
    model::Error::platform(Code::SandboxFailed, "nothing runs here")
}

fn main() -> Fallible {
    let rounds: usize = std::env::args().nth(1).ok_or("usage: resolve ROUNDS")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let meta = Arc::new(MemoryMeta::default());
    let (mut large, mut revision) = runtime.block_on(fill(&meta))?;
    let engine = runtime.block_on(start(&meta))?;
    let (kinds, event) = (kinds()?, event());
    for round in 0..=rounds {
        // The first round warms up.
        let say = |line: serde_json::Value| {
            if round > 0 {
                println!("{line}");
            }
        };
        for (kind, calls) in &kinds {
            let (p50, p99) = measure(&engine, calls, &event)?;
            say(serde_json::json!({"kind": kind, "p50_ns": p50, "p99_ns": p99}));
        }
        large.settings.max_instances = Some(u32::try_from(round)?);
        let value = serde_json::to_vec(&large)?;
        let begun = Instant::now();
        revision = runtime.block_on(write(&meta, &large, Expect::Revision(revision), value))?;
        runtime.block_on(engine.caught_up(revision))?;
        say(serde_json::json!({"kind": "apply", "ns": nanos(begun)?}));
    }
    Ok(())
}

fn nanos(since: Instant) -> Fallible<u64> {
    Ok(u64::try_from(since.elapsed().as_nanos())?)
}

/// Median and 99th percentile over the batches of the time of one call, in nanoseconds.
fn measure(engine: &Engine, calls: &[Asked], event: &[u8]) -> Fallible<(u64, u64)> {
    let mut took = Vec::with_capacity(BATCHES);
    let mut calls = calls.iter().cycle();
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for Asked { target, id, request } in calls.by_ref().take(BATCH) {
            black_box(engine.route(target, id, request, event)?);
        }
        took.push(nanos(begun)? / BATCH as u64);
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(BATCHES * percent / 100).copied().ok_or("no batches");
    Ok((at(50)?, at(99)?))
}

/// The kinds of targets; the first is what the others are compared with.
fn kinds() -> Fallible<Vec<(&'static str, Vec<Asked>)>> {
    let calls = |target: &dyn Fn(usize) -> String| -> Fallible<Vec<Asked>> {
        let call = |n| {
            let target = FunctionRef::parse("default", &target(n))?;
            let request = Request { user: format!("user-{n}") };
            Ok(Asked { target, id: RequestId::generate(), request })
        };
        (0..CALLS).map(call).collect()
    };
    // Strides through all functions and their aliases.
    let alias = |kind: &'static str| {
        move |n: usize| {
            let n = n * 7_919 % (FUNCTIONS * ALIASES);
            format!("many-{}:{kind}-{}", n % FUNCTIONS, n / FUNCTIONS / SHAPES.len())
        }
    };
    Ok(vec![
        ("latest", calls(&|_| "small".into())?),
        ("version", calls(&|n| format!("large:{}", n + 1))?),
        ("large-alias", calls(&|_| "large:live".into())?),
        ("weights", calls(&alias("weights"))?),
        ("header", calls(&alias("header"))?),
        ("sticky", calls(&alias("sticky"))?),
        ("event", calls(&alias("event"))?),
    ])
}

/// An event of the size that events have, with the field at its end.
fn event() -> Vec<u8> {
    let field = r#""detail":{"user":{"id":7,"plan":"free"}}}"#;
    let mut event = String::from("{");
    for n in 0..EVENT_BYTES {
        let member = format!(r#""member-{n}":["text {n}",{n},true],"#);
        if event.len() + member.len() + field.len() > EVENT_BYTES {
            break;
        }
        event.push_str(&member);
    }
    event.push_str(field);
    event.into_bytes()
}

/// Writes the catalogue; answers with the large function and where its document stands.
async fn fill(meta: &MemoryMeta) -> Fallible<(Function, Revision)> {
    let small = function("small", 0, BTreeMap::new())?;
    write(meta, &small, Expect::Absent, serde_json::to_vec(&small)?).await?;
    for n in 0..FUNCTIONS {
        let aliases = (0..ALIASES).zip(SHAPES.iter().cycle()).map(|(at, (kind, json))| {
            Ok((format!("{kind}-{}", at / SHAPES.len()).parse()?, record(json)?))
        });
        let many = function(&format!("many-{n}"), 3, aliases.collect::<Fallible<_>>()?)?;
        write(meta, &many, Expect::Absent, serde_json::to_vec(&many)?).await?;
    }
    let live = r#"{"targets":[{"version":9999,"weight":95},{"version":10000,"weight":5}]}"#;
    let large = function("large", VERSIONS, BTreeMap::from([("live".parse()?, record(live)?)]))?;
    let revision = write(meta, &large, Expect::Absent, serde_json::to_vec(&large)?).await?;
    Ok((large, revision))
}

async fn write(
    meta: &MemoryMeta,
    function: &Function,
    expect: Expect,
    value: Vec<u8>,
) -> model::Result<Revision> {
    meta.put_if(&keys::function(function.key()), expect, value.into()).await
}

fn record(json: &str) -> Fallible<AliasRecord> {
    let alias: Alias = serde_json::from_str(json)?;
    alias.validate()?;
    let at = UnixMillis(0);
    Ok(AliasRecord { alias, revision: 1, created_at: at, modified_at: at, rollout: None })
}

fn function(
    name: &str,
    versions: u64,
    aliases: BTreeMap<AliasName, AliasRecord>,
) -> Fallible<Function> {
    let code = CodeRef { digest: Digest::of(b""), size_bytes: 1_000, unpacked_bytes: 2_000 };
    let latest = Version {
        key: FunctionRef::parse("default", name)?.key,
        number: None,
        config: FunctionConfig::new("nodejs20", "index.handler"),
        code,
        layers: Vec::new(),
        runtime: RuntimeInfo { name: "nodejs20".into(), version: "20.0.0".into() },
        modified_at: UnixMillis(0),
    };
    let summary = |number: u64| VersionSummary {
        number,
        fingerprint: Fingerprint::from_digest(&Digest::of(&number.to_le_bytes())),
        published_at: UnixMillis(1_767_225_600_000),
        size_bytes: code.size_bytes,
    };
    Ok(Function {
        id: RequestId::generate(),
        created_at: UnixMillis(0),
        settings: FunctionSettings::default(),
        latest,
        versions: (1..=versions).map(summary).collect(),
        next_version: versions + 1,
        aliases,
        provisioned: BTreeMap::new(),
        revision: 1,
        change: None,
        deleted: false,
    })
}

async fn start(meta: &Arc<MemoryMeta>) -> Fallible<Engine> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let deps = Deps {
        meta: Arc::clone(meta) as Arc<dyn Meta>,
        queue: Arc::new(MemoryQueue::new(Arc::clone(&clock))),
        blobs: Arc::new(MemoryBlobs::default()),
        sandbox: Arc::new(NoSandbox),
        usage: Arc::new(MemoryUsage::default()),
        webhooks: Arc::new(model::ports::NoWebhooks),
        clock,
    };
    Ok(Engine::start(EngineConfig::default(), deps).await?)
}
