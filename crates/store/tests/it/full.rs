//! A full disk: what does not fit is refused whole, what was acknowledged stays, and once there is room the store goes on.
//!
//! The child lives in a mount namespace of its own, so its tiny disk goes away with it.

use std::fs;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use model::ids::{Digest, RequestId};
use model::ports::{Again, End, Enqueued, Expect, LogQuery};
use model::{Code, Error};
use rustix::mount::{MountFlags, mount};
use store::Store;
use tempfile::TempDir;

use crate::support::{child, child_input, key, lane, line, message, noise, open_at, succeeded};

const DISK: &str = "size=12m,mode=700";
const LONG: Duration = Duration::from_secs(3600);
/// Kept free for the test to remove.
const BALLAST_BYTES: usize = 3 << 20;

#[test]
fn a_full_disk_refuses_whole_and_the_store_goes_on() {
    on_a_tiny_disk("full::lives_on_a_tiny_disk");
}

#[test]
fn what_was_accepted_ends_on_a_full_disk() {
    on_a_tiny_disk("full::ends_on_a_tiny_disk");
}

/// Runs one ignored test where it may mount.
fn on_a_tiny_disk(test: &str) {
    let mut wrapper = vec!["unshare", "--mount", "--propagation", "private"];
    if !rustix::process::geteuid().is_root() {
        // Needs unprivileged user namespaces; without them the child fails and so does this test.
        wrapper.extend(["--user", "--map-root-user"]);
    }
    wrapper.push("--");
    let mut child = child(&wrapper, test, "inside");
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() && output.contains("1 passed"), "{status}: {output}");
}

/// What the store said yes to.
#[derive(Default)]
struct Accepted {
    documents: Vec<String>,
    messages: Vec<RequestId>,
    packages: Vec<Bytes>,
    lines: usize,
}

/// Which ports have said that the disk is full.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refused {
    document: bool,
    message: bool,
    package: bool,
    lines: bool,
}

fn refused<T>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(e) => {
            let source = std::error::Error::source(&e).map(ToString::to_string);
            assert_eq!(e.code(), Code::StorageFull, "{e}: {source:?}");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of a_full_disk_refuses_whole_and_the_store_goes_on"]
async fn lives_on_a_tiny_disk() {
    if child_input().is_none() {
        return;
    }
    let disk = tiny_disk();
    let data = disk.path().join("data");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![7; BALLAST_BYTES]).unwrap();

    let store = open_at(&data).await.unwrap();
    let mut accepted = Accepted::default();
    fill(&store, &mut accepted).await;
    check(&store, &accepted).await;
    assert_eq!(
        fs::read_dir(data.join("blobs/temp")).unwrap().count(),
        0,
        "unfinished files are left"
    );

    fs::remove_file(&ballast).unwrap();
    goes_on(&store, &mut accepted).await;
    check(&store, &accepted).await;
    store.close().await.unwrap();
    let store = open_at(&data).await.unwrap();
    check(&store, &accepted).await;
    store.close().await.unwrap();
}

fn tiny_disk() -> TempDir {
    let disk = tempfile::tempdir().unwrap();
    let options = std::ffi::CString::new(DISK).unwrap();
    mount("tmpfs", disk.path(), "tmpfs", MountFlags::empty(), Some(&*options)).unwrap();
    disk
}

/// Messages until no more are taken. Each of them is leased, one has to wait again, all are ended with a note and a result; then there is room for as many.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of what_was_accepted_ends_on_a_full_disk"]
async fn ends_on_a_tiny_disk() {
    const PAYLOAD_BYTES: usize = 20_000;
    if child_input().is_none() {
        return;
    }
    let disk = tiny_disk();
    let store = open_at(&disk.path().join("data")).await.unwrap();
    let queue = &store.queue;
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let mut accepted = 0;
        while !refused(queue.enqueue(vec![message(noise(accepted, PAYLOAD_BYTES))]).await) {
            accepted += 1;
            assert!(accepted < 5000, "the disk does not get full");
        }
        rounds.push(accepted);
        let mut ended = 0;
        while ended < accepted {
            let batch = queue.lease(&lane(), 16, LONG).await.unwrap();
            assert!(!batch.messages.is_empty(), "{ended} of {accepted}");
            for leased in batch.messages {
                let note = Some(noise(ended, 300));
                if leased.deliveries == 1 && ended % 10 == 0 {
                    let again = Again { delay: Duration::ZERO, counted: true, note };
                    queue.again(leased.id, leased.token, again).await.unwrap();
                    continue;
                }
                let result = Some(noise(ended, 1_000));
                let end = End { note, result, ..succeeded() };
                queue.end(leased.id, leased.token, end).await.unwrap();
                ended += 1;
            }
        }
        assert_eq!(queue.depth(&lane()).messages, 0);
    }
    // What is kept of those that ended takes some.
    assert!(rounds[0] > 100 && rounds[2] > rounds[0] / 2, "{rounds:?}");
    store.close().await.unwrap();
}

/// Writes through every port until each has refused for want of room, several times.
async fn fill(store: &Store, accepted: &mut Accepted) {
    let mut said = Refused::default();
    let mut after = 0;
    for n in 0_u64.. {
        let document = format!("document/{n}");
        let put = store.meta.put_if(&document, Expect::Absent, noise(n, 20_000)).await;
        if refused(put) {
            said.document = true;
        } else {
            accepted.documents.push(document);
        }
        // Two at once: all or none.
        let batch = vec![message(noise(n, 30_000)), message(noise(n, 30_000))];
        let ids = [batch[0].id, batch[1].id];
        if refused(store.queue.enqueue(batch).await) {
            said.message = true;
        } else {
            accepted.messages.extend(ids);
        }
        let package = noise(1_000_000 + n, 100_000);
        if refused(store.blobs.put(package.clone()).await) {
            said.package = true;
            assert!(!store.blobs.contains(&Digest::of(&package)).await.unwrap());
        } else {
            accepted.packages.push(package);
        }
        // Past the point where the small things stopped fitting, only the logs may be left.
        let text: String = noise(n, 20_000).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(store.logs.append(vec![line("f", text)]), 0, "there is room in memory");
        accepted.lines += 1;
        said.lines |= refused(store.logs.flush().await);
        after += usize::from(
            said == Refused { document: true, message: true, package: true, lines: true },
        );
        if after == 5 {
            return;
        }
        assert!(n < 5000, "the disk does not get full: {said:?}");
    }
}

async fn check(store: &Store, accepted: &Accepted) {
    let documents = store.meta.list("document/", None, 10_000).await.unwrap();
    let mut expected = accepted.documents.clone();
    expected.sort();
    assert_eq!(documents.into_iter().map(|e| e.key).collect::<Vec<_>>(), expected);
    assert_eq!(store.queue.depth(&lane()).messages, accepted.messages.len() as u64);
    for package in &accepted.packages {
        assert!(store.blobs.get(&Digest::of(package)).await.unwrap().as_ref() == Some(package));
    }
    let lines = store.logs.query(LogQuery::newest(key("f"), 10_000)).await.unwrap();
    assert_eq!(lines.len(), accepted.lines, "what is not on disk yet is in memory");
}

/// There is room again: every port takes what it refused before.
async fn goes_on(store: &Store, accepted: &mut Accepted) {
    store.meta.put_if("document/new", Expect::Absent, noise(1, 20_000)).await.unwrap();
    accepted.documents.push("document/new".to_owned());
    let new = message(noise(1, 30_000));
    let id = new.id;
    assert_eq!(store.queue.enqueue(vec![new]).await.unwrap(), [Enqueued::New]);
    accepted.messages.push(id);
    let package = noise(9_999_999, 100_000);
    store.blobs.put(package.clone()).await.unwrap();
    accepted.packages.push(package);
    store.logs.flush().await.unwrap();
    // What was held back has filled the disk again; a start needs some room for itself.
    for gone in accepted.packages.drain(..10) {
        assert!(store.blobs.delete(&Digest::of(&gone)).await.unwrap());
    }
}
