//! `kill -9` at random moments: whatever was acknowledged is there afterwards.
//!
//! The child writes as fast as it can and reports every acknowledgement on its standard output; the parent kills it, opens the folder and
//! compares. What was begun and not acknowledged may have happened or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::clock::{Clock, SystemClock};
use model::ids::{Digest, RequestId};
use model::ports::{End, Enqueued, Expect, Lane, Listing, LogQuery, NewMessage, Standing};
use model::tasks::Tasks;
use store::Store;

use crate::support::{child, child_input, key, lane, line, message, noise, open_at, succeeded};

const ROUNDS: u64 = 20;
const LONG: Duration = Duration::from_secs(3600);

/// Reports in one write, so that a line is whole or not there.
#[expect(clippy::print_stdout, reason = "the child's channel to its parent")]
fn report(what: &str, value: impl std::fmt::Display) {
    println!("\n@ {what} {value}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of acknowledged_changes_survive_kill_9"]
async fn writes_until_it_is_killed() {
    let Some(folder) = child_input() else { return };
    let store = open_at(Path::new(&folder)).await.unwrap();
    let tasks = Tasks::new();
    for n in 0..4 {
        tasks.spawn("deploy", deploys(store.clone(), n));
        tasks.spawn("enqueue", enqueues(store.clone()));
        tasks.spawn("settle", settles(store.clone()));
    }
    tasks.spawn("large", has_large_messages(store.clone()));
    tasks.spawn("write", writes_lines(store.clone()));
    // The parent kills us long before; this only ends a child whose parent died.
    tokio::time::sleep(Duration::from_secs(30)).await;
}

/// Package first, then the document that names it, as a deploy does.
async fn deploys(store: Store, n: u64) {
    let key = format!("function/{n}");
    let mut expect = store
        .meta
        .get(&key)
        .await
        .unwrap()
        .map_or(Expect::Absent, |e| Expect::Revision(e.revision));
    for seed in n * 1_000_000.. {
        let digest = store.blobs.put(noise(seed, 3000)).await.unwrap();
        let revision = store.meta.put_if(&key, expect, digest.to_string().into()).await.unwrap();
        report("deployed", format_args!("{key} {revision} {digest}"));
        expect = Expect::Revision(revision);
    }
}

async fn enqueues(store: Store) {
    loop {
        let batch: Vec<_> = (0..3).map(|_| message(Bytes::from_static(b"payload"))).collect();
        let ids: Vec<_> = batch.iter().map(|m| m.id).collect();
        store.queue.enqueue(batch).await.unwrap();
        ids.iter().for_each(|id| report("enqueued", id));
    }
}

async fn settles(store: Store) {
    loop {
        for m in store.queue.lease(&lane(), 5, LONG).await.unwrap().messages {
            report("settling", m.id);
            store.queue.end(m.id, m.token, succeeded()).await.unwrap();
            report("settled", m.id);
        }
    }
}

/// Messages and results that lie in files.
async fn has_large_messages(store: Store) {
    for n in 0.. {
        let new = NewMessage { lane: large_lane(), ..message(large()) };
        let id = new.id;
        store.queue.enqueue(vec![new]).await.unwrap();
        report("large", id);
        if n % 2 == 0 {
            continue;
        }
        for m in store.queue.lease(&large_lane(), 1, LONG).await.unwrap().messages {
            report("settling", m.id);
            let end = End { result: Some(large()), ..succeeded() };
            store.queue.end(m.id, m.token, end).await.unwrap();
            report("large-settled", m.id);
        }
    }
}

fn large_lane() -> Lane {
    Lane::new("default/large").unwrap()
}

/// Too large for the database, and quickly written.
fn large() -> Bytes {
    Bytes::from(vec![b'x'; 1_200_000])
}

async fn writes_lines(store: Store) {
    for n in 0_u64.. {
        let text =
            format!("{} {}", RequestId::generate(), "x".repeat(usize::try_from(n % 5000).unwrap()));
        store.logs.append(vec![line("f", text.clone())]);
        if n % 7 == 0 {
            store.logs.flush().await.unwrap();
            report("logged", text.split(' ').next().unwrap());
        }
    }
}

/// What the child reported.
#[derive(Default)]
struct Reported {
    /// By key: the last revision and digest.
    deployed: BTreeMap<String, (u64, Digest)>,
    enqueued: BTreeSet<RequestId>,
    settling: BTreeSet<RequestId>,
    settled: BTreeSet<RequestId>,
    large: BTreeSet<RequestId>,
    large_settled: BTreeSet<RequestId>,
    logged: Vec<String>,
}

impl Reported {
    fn parse(output: &str) -> Self {
        let mut out = Self::default();
        // The last line may be cut off.
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for report in whole.lines().filter_map(|l| l.strip_prefix("@ ")) {
            let words: Vec<&str> = report.split(' ').collect();
            match words[..] {
                ["deployed", key, revision, digest] => {
                    let value = (revision.parse().unwrap(), digest.parse().unwrap());
                    out.deployed.insert(key.to_owned(), value);
                }
                ["enqueued", id] => drop(out.enqueued.insert(id.parse().unwrap())),
                ["settling", id] => drop(out.settling.insert(id.parse().unwrap())),
                ["settled", id] => drop(out.settled.insert(id.parse().unwrap())),
                ["large", id] => drop(out.large.insert(id.parse().unwrap())),
                ["large-settled", id] => drop(out.large_settled.insert(id.parse().unwrap())),
                ["logged", text] => out.logged.push(text.to_owned()),
                _ => panic!("an unknown report: {report}"),
            }
        }
        out
    }

    async fn check(&self, store: &Store) {
        for (key, (revision, digest)) in &self.deployed {
            let entry = store.meta.get(key).await.unwrap().unwrap();
            assert!(entry.revision >= *revision, "{key} fell back to {}", entry.revision);
            assert!(store.meta.revision().await.unwrap() >= entry.revision);
            if entry.revision == *revision {
                assert_eq!(&*entry.value, digest.to_string().as_bytes());
            }
            // Whatever the document names is there, also if its write was not acknowledged.
            let named = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
            assert!(store.blobs.get(&named).await.unwrap().is_some(), "{key} names no package");
        }
        self.check_queue(store).await;
        self.check_files(store).await;
        self.check_logs(store).await;
    }

    async fn check_queue(&self, store: &Store) {
        let queue = &store.queue;
        let again = |id: &RequestId| NewMessage { id: *id, ..message(Bytes::new()) };
        for ids in
            self.enqueued.iter().chain(&self.settled).copied().collect::<Vec<_>>().chunks(500)
        {
            let answers = queue.enqueue(ids.iter().map(again).collect()).await.unwrap();
            assert!(
                answers.iter().zip(ids).all(|(a, id)| *a == Enqueued::Duplicate(*id)),
                "an id was forgotten"
            );
        }
        let depth = usize::try_from(queue.depth(&lane()).messages).unwrap();
        // Enqueued and not even begun to settle: still there.
        let waiting = self.enqueued.difference(&self.settling).count();
        assert!(depth >= waiting, "{depth} of at least {waiting} messages");
        // Those on lease by the killed daemon are hidden; the others can be leased, and none that was settled.
        loop {
            let leased = queue.lease(&lane(), 100, LONG).await.unwrap().messages;
            if leased.is_empty() {
                break;
            }
            for m in leased {
                assert!(!self.settled.contains(&m.id), "{} was settled and is back", m.id);
                assert_eq!(&*m.payload, b"payload");
                queue.end(m.id, m.token, succeeded()).await.unwrap();
            }
        }
    }

    async fn check_files(&self, store: &Store) {
        let queue = &store.queue;
        for id in self.large.difference(&self.settling) {
            let record = queue.find(*id).await.unwrap().unwrap();
            assert!(record.payload == Some(large()), "the payload of {id}");
        }
        for id in &self.large_settled {
            let record = queue.find(*id).await.unwrap().unwrap();
            assert!(record.payload.is_none() && record.result == Some(large()), "{id}");
        }
        let listing = Listing { lane: Some(large_lane()), limit: 1_000, ..Listing::default() };
        for message in queue.list(listing).await.unwrap() {
            if !matches!(message.standing, Standing::Ended(..)) {
                queue.cancel(message.id, Bytes::new(), LONG).await.unwrap();
            }
            queue.forget(message.id).await.unwrap();
        }
    }

    async fn check_logs(&self, store: &Store) {
        for text in self.logged.iter().rev().step_by(20).take(20) {
            let query = LogQuery { contains: Some(text.clone()), ..LogQuery::newest(key("f"), 2) };
            assert_eq!(store.logs.query(query).await.unwrap().len(), 1, "line {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_changes_survive_kill_9() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap().to_owned();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut child = child(&[], "killed::writes_until_it_is_killed", &folder);
        let mut pipe = child.stdout.take().unwrap();
        let output = Arc::new(std::sync::Mutex::new(Vec::new()));
        let filled = Arc::clone(&output);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                filled.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        let started = Instant::now();
        while !output.lock().unwrap().windows(2).any(|w| w == b"@ ") {
            assert!(started.elapsed() < Duration::from_secs(30), "the child does not start");
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // From the first acknowledgement on to well into checkpoints, at no particular moment.
        let millis = 5 + SystemClock.now().0 % 37 + round * 13;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();

        let output = std::mem::take(&mut *output.lock().unwrap());
        let reported = Reported::parse(std::str::from_utf8(&output).unwrap());
        acknowledged += reported.deployed.len() + reported.enqueued.len() + reported.settled.len();
        let store = open_at(temp.path()).await.unwrap();
        reported.check(&store).await;
        // Those that nobody named when the child was killed go as well.
        let files = || fs::read_dir(temp.path().join("payloads")).unwrap().count();
        let until = Instant::now() + Duration::from_secs(30);
        while files() > 0 {
            assert!(Instant::now() < until, "{} files are left", files());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.close().await.unwrap();
    }
    assert!(acknowledged > 1000, "only {acknowledged} acknowledgements were tried");
}
