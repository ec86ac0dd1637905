//! A folder of every format, kept as it was written: today's daemon opens it and finds everything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::{Clock, SystemClock, UnixMillis};
use model::function::{Function, Version};
use model::ids::{Digest, Qualifier, RequestId};
use model::keys;
use model::ports::{
    End, Ended, Enqueued, Expect, Lane, LogQuery, NewMessage, Standing, UsageDelta, UsageQuery,
    UsageSums, Vault as _,
};
use model::secret::{Sealed, SecretPlace, SecretText};
use store::vault::{KeySource, Keyring};
use store::{FORMAT_VERSION, Store, StoreConfig};

use crate::support::{key, lane, line, open_at, open_by, succeeded};

/// 2026-01-01T00:00:00Z.
const START: UnixMillis = UnixMillis(1_767_225_600_000);
/// 2026-11-29T00:00:00Z: soon after the fixtures were written, so that nothing in them is old enough to be forgotten.
const SOON_AFTER: UnixMillis = UnixMillis(1_795_910_400_000);
const LONG: Duration = Duration::from_secs(3600);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(crate) fn folder(version: u32) -> PathBuf {
    fixtures().join(format!("format-{version}"))
}

fn id(n: u8) -> RequestId {
    RequestId::from_bytes([n; 16])
}

fn package() -> Bytes {
    Bytes::from(b"exports.handler = async () => 'hello';\n".repeat(20))
}

fn log_line(text: &str) -> model::ports::LogLine {
    model::ports::LogLine { time: START, request: Some(id(1)), ..line("hello", text) }
}

/// Enough for a block of its own.
fn block_of_lines() -> Vec<model::ports::LogLine> {
    (0..2000).map(|n| log_line(&format!("line {n} {}", "of the block ".repeat(10)))).collect()
}

fn large_lane() -> Lane {
    Lane::new("default/large").unwrap()
}

/// Too large for the database.
fn large_payload() -> Bytes {
    Bytes::from(b"of the payload ".repeat(100_000))
}

/// The place of the fixture's secret; its key file lies in the folder.
const SECRET: &str = "version/fixture/1";
const SECRET_SINCE: u32 = 2;

fn key_file(folder: &Path) -> KeySource {
    KeySource::KeyFile(folder.join("secrets.key"))
}

async fn fill_vault(store: &Store, folder: &Path) {
    let vault = Keyring::open(&store.meta, &key_file(folder)).await.unwrap();
    let place = SecretPlace { function: &key("hello"), variable: "TOKEN" };
    let sealed = vault.seal(place, &SecretText::new("hunter2")).unwrap();
    let sealed = serde_json::to_vec(&sealed).unwrap();
    store.meta.put_if(SECRET, Expect::Absent, sealed.into()).await.unwrap();
}

/// A folder from before there was a vault gets one; from then on its secret is there.
async fn check_vault(store: &Store, folder: &Path, version: u32) {
    let vault = Keyring::open(&store.meta, &key_file(folder)).await.unwrap();
    let sealed = store.meta.get(SECRET).await.unwrap();
    assert_eq!(sealed.is_some(), version >= SECRET_SINCE);
    if let Some(sealed) = sealed {
        let sealed: Sealed = serde_json::from_slice(&sealed.value).unwrap();
        let place = SecretPlace { function: &key("hello"), variable: "TOKEN" };
        assert_eq!(vault.open(place, &sealed).unwrap().expose(), "hunter2");
    }
}

/// Documents of a format, a line each: a function with two versions, its namespace, and another one. Those of format 2 are what its daemon
/// wrote, those of format 3 what becomes of them.
pub(crate) fn documents(version: u32) -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(fixtures().join(format!("documents-{version}.txt"))).unwrap();
    let split = |line: &str| {
        let (key, value) = line.split_once(' ').unwrap();
        (key.to_owned(), value.as_bytes().to_vec())
    };
    text.lines().map(split).collect()
}

const DOCUMENTS_SINCE: u32 = 3;
/// The newest format that changed documents.
const DOCUMENTS_NEWEST: u32 = 3;

async fn fill_documents(store: &Store) {
    for (key, value) in documents(DOCUMENTS_NEWEST) {
        store.meta.put_if(&key, Expect::Absent, value.into()).await.unwrap();
    }
}

async fn check_documents(store: &Store, version: u32) {
    let function = store.meta.get("function/team/greet").await.unwrap();
    assert_eq!(function.is_some(), version >= DOCUMENTS_SINCE);
    if let Some(function) = function {
        let function: Function = serde_json::from_slice(&function.value).unwrap();
        assert_eq!(function.versions.len(), 2);
        check_versions(store, &function).await;
    }
}

/// Every listed version is found, and is what its line says.
pub(crate) async fn check_versions(store: &Store, function: &Function) {
    for line in &function.versions {
        let entry = store.meta.get(&keys::version_of(&function.id, line)).await.unwrap();
        let version: Version = serde_json::from_slice(&entry.unwrap().value).unwrap();
        assert_eq!(version.number, Some(line.number));
        assert_eq!(version.fingerprint(), line.fingerprint, "of version {}", line.number);
        assert_eq!(version.code.size_bytes, line.size_bytes);
    }
}

async fn fill(store: &Store) {
    store.meta.put_if("function/default/hello", Expect::Absent, "{}".into()).await.unwrap();
    let gone = store.meta.put_if("function/default/gone", Expect::Absent, "{}".into()).await;
    store.meta.delete_if("function/default/gone", gone.unwrap()).await.unwrap();
    store.blobs.put(package()).await.unwrap();
    store.blobs.put(Bytes::from_static(b"raw")).await.unwrap();
    let message = |n| NewMessage {
        id: id(n),
        lane: lane(),
        run_at: START,
        key: None,
        payload: "event".into(),
    };
    store.queue.enqueue(vec![message(1), message(2), message(3)]).await.unwrap();
    let note = Some(Bytes::from_static(b"no use"));
    // Longer than from any fixture to the next.
    let keep = LONG * 24 * 365;
    let dead = End { as_what: Ended::Dead, note, keep, ..succeeded() };
    for end in [dead, End { keep, ..succeeded() }] {
        let leased = store.queue.lease(&lane(), 1, LONG).await.unwrap().messages.remove(0);
        store.queue.end(leased.id, leased.token, end).await.unwrap();
    }
    let large = NewMessage { lane: large_lane(), payload: large_payload(), ..message(4) };
    store.queue.enqueue(vec![large]).await.unwrap();
    store.lease.acquire("timers", LONG).await.unwrap();
    let sums = UsageSums { requests: 7, ..UsageSums::default() };
    let (function, version) = (key("hello"), Qualifier::Version(1));
    store.usage.add(vec![UsageDelta { function, version, time: START, sums }]).await.unwrap();
    store.logs.append(vec![line("deleted", "x")]);
    store.logs.delete(&key("deleted")).await.unwrap();
    store.logs.append(block_of_lines());
    store.logs.flush().await.unwrap();
    store.logs.append(vec![log_line("in the journal")]);
}

async fn check(store: &Store, version: u32) {
    let functions = store.meta.list("function/default/", None, 10).await.unwrap();
    assert_eq!(functions.len(), 1);
    assert_eq!((functions[0].key.as_str(), functions[0].revision), ("function/default/hello", 1));
    // The vault's keys and the secret came next, then the documents.
    let revision = match version {
        ..SECRET_SINCE => 3,
        SECRET_SINCE..DOCUMENTS_SINCE => 5,
        DOCUMENTS_SINCE.. => 10,
    };
    assert_eq!(store.meta.revision().await.unwrap(), revision);
    let mut watch = store.meta.watch("", 1).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().value, None, "the deletion is known");

    for bytes in [package(), Bytes::from_static(b"raw")] {
        assert_eq!(store.blobs.get(&Digest::of(&bytes)).await.unwrap(), Some(bytes));
    }

    check_queue(store, version).await;

    let fence = store.lease.acquire("timers", LONG).await.unwrap().unwrap();
    assert_eq!(fence.0, 2);

    let query = UsageQuery { function: key("hello"), since: START, until: START.after(LONG) };
    let usage = store.usage.query(query).await.unwrap();
    assert_eq!((usage.len(), usage[0].sums.requests), (1, 7));

    let mut lines = block_of_lines();
    lines.push(log_line("in the journal"));
    let found = store.logs.query(LogQuery::newest(key("hello"), 10_000)).await.unwrap();
    assert!(found == lines, "{} lines", found.len());
    let deleted = store.logs.query(LogQuery::newest(key("deleted"), 10)).await.unwrap();
    assert_eq!(deleted, []);
}

/// Format 4 keeps what has ended; what was dead before it is so still. Format 5 has files.
async fn check_queue(store: &Store, version: u32) {
    const ENDED_SINCE: u32 = 4;
    const FILES_SINCE: u32 = 5;
    let queue = &store.queue;
    let dead = queue.find(id(1)).await.unwrap().unwrap();
    assert!(matches!(dead.summary.standing, Standing::Ended(Ended::Dead, _)), "{dead:?}");
    assert!(String::from_utf8_lossy(&dead.notes[0]).contains("no use"));
    assert_eq!(dead.payload.as_deref(), Some(&b"event"[..]));
    let well = queue.find(id(2)).await.unwrap().unwrap();
    let waits = if version >= ENDED_SINCE { 3 } else { 2 };
    let ended = matches!(well.summary.standing, Standing::Ended(Ended::Succeeded, _));
    assert_eq!(ended, version >= ENDED_SINCE);
    let lane = queue.find(id(waits)).await.unwrap().unwrap().summary.lane;
    let again = NewMessage {
        id: id(2),
        lane: lane.clone(),
        run_at: START,
        key: None,
        payload: Bytes::new(),
    };
    assert_eq!(queue.enqueue(vec![again]).await.unwrap(), [Enqueued::Duplicate(id(2))]);
    let leased = queue.lease(&lane, 10, LONG).await.unwrap().messages;
    assert_eq!((leased.len(), leased[0].id, &*leased[0].payload), (1, id(waits), &b"event"[..]));
    queue.redrive(id(1)).await.unwrap();
    let large = queue.lease(&large_lane(), 10, LONG).await.unwrap().messages;
    assert_eq!(large.len(), usize::from(version >= FILES_SINCE));
    assert!(large.iter().all(|m| m.payload == large_payload()));
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            // What was checked out of a repository has lost its mode.
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// The host's clock, but for what the wall says.
#[derive(Debug)]
struct Pinned;

#[async_trait]
impl Clock for Pinned {
    fn now(&self) -> UnixMillis {
        SOON_AFTER
    }
    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
    async fn sleep_until(&self, deadline: Instant) {
        SystemClock.sleep_until(deadline).await;
    }
}

#[tokio::test]
async fn a_folder_of_every_format_opens() {
    for version in 1..=FORMAT_VERSION {
        let temp = tempfile::tempdir().unwrap();
        copy(&folder(version), temp.path());
        let config = StoreConfig::at(temp.path());
        let store = open_by(config, Arc::new(Pinned)).await.unwrap();
        check(&store, version).await;
        check_vault(&store, temp.path(), version).await;
        check_documents(&store, version).await;
        store.close().await.unwrap();
    }
}

/// For a new format, with its `documents-N.txt`: `cargo test -p store -- --ignored write_the_fixture`.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn write_the_fixture() {
    let target = folder(FORMAT_VERSION);
    if target.exists() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    fill(&store).await;
    fill_vault(&store, temp.path()).await;
    fill_documents(&store).await;
    store.close().await.unwrap();
    fs::remove_file(temp.path().join("lock")).unwrap();
    copy(temp.path(), &target);
}
