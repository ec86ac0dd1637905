//! Payloads and results that are too large for the database: files that come and go with their messages.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use model::ids::RequestId;
use model::ports::{End, Ended, Enqueued, MESSAGE_BYTES, RESULT_BYTES};

use crate::support::{lane, message, noise, open_at, succeeded};

const LONG: Duration = Duration::from_secs(3600);

fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join("payloads")).unwrap().count()
}

/// Of the database and its write-ahead log.
fn database_bytes(folder: &Path) -> u64 {
    ["catalog.db", "catalog.db-wal"]
        .map(|f| fs::metadata(folder.join(f)).unwrap().len())
        .iter()
        .sum()
}

#[tokio::test]
async fn files_come_and_go_with_their_messages() {
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    let (queue, at) = (&store.queue, temp.path());
    let before = database_bytes(at);
    let (payload, result) = (noise(1, MESSAGE_BYTES), noise(2, RESULT_BYTES));
    let new = message(payload.clone());
    assert_eq!(queue.enqueue(vec![new.clone()]).await.unwrap(), [Enqueued::New]);
    assert_eq!(files(at), 1);
    let again = queue.enqueue(vec![new.clone()]).await.unwrap();
    assert_eq!((again, files(at)), (vec![Enqueued::Duplicate(new.id)], 1));
    assert!(queue.find(new.id).await.unwrap().unwrap().payload == Some(payload.clone()));

    let leased = queue.lease(&lane(), 1, LONG).await.unwrap().messages.remove(0);
    assert!(leased.payload == payload);
    // Dead, it keeps its payload.
    let dead = End { as_what: Ended::Dead, result: Some(result.clone()), ..succeeded() };
    queue.end(new.id, leased.token, dead).await.unwrap();
    assert_eq!(files(at), 2);
    queue
        .end(new.id, leased.token, End { result: Some(result.clone()), ..succeeded() })
        .await
        .unwrap_err();
    assert_eq!(files(at), 2, "what was refused leaves nothing");
    queue.redrive(new.id).await.unwrap();
    assert_eq!(files(at), 1);
    let leased = queue.lease(&lane(), 1, LONG).await.unwrap().messages.remove(0);
    assert!(leased.payload == payload);
    let end = End { result: Some(result.clone()), ..succeeded() };
    queue.end(new.id, leased.token, end).await.unwrap();
    let record = queue.find(new.id).await.unwrap().unwrap();
    assert!(record.payload.is_none() && record.result == Some(result));
    assert_eq!(files(at), 1);
    assert!(queue.forget(new.id).await.unwrap());
    let cancelled = message(payload.clone());
    queue.enqueue(vec![cancelled.clone()]).await.unwrap();
    queue.cancel(cancelled.id, Bytes::new(), LONG).await.unwrap();
    assert_eq!(files(at), 0);
    let grown = database_bytes(at) - before;
    assert!(grown < 300_000, "{grown} bytes in the database");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_start_clears_away_what_nobody_names() {
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    let (kept, payload) = (message(noise(1, 1_500_000)), noise(1, 1_500_000));
    store.queue.enqueue(vec![kept.clone()]).await.unwrap();
    store.close().await.unwrap();
    let stray = temp.path().join("payloads").join(RequestId::generate().to_string());
    fs::write(&stray, "half of a payload").unwrap();
    let store = open_at(temp.path()).await.unwrap();
    while stray.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A damaged one is handed out empty: whoever gets it gives it up, and it is not lost to sight.
    assert!(store.queue.find(kept.id).await.unwrap().unwrap().payload == Some(payload));
    let file = fs::read_dir(temp.path().join("payloads")).unwrap().next().unwrap().unwrap().path();
    fs::write(file, "damaged").unwrap();
    assert_eq!(store.queue.find(kept.id).await.unwrap().unwrap().payload, None);
    let leased = store.queue.lease(&lane(), 1, LONG).await.unwrap().messages.remove(0);
    assert_eq!((leased.id, leased.payload), (kept.id, Bytes::new()));
    store.close().await.unwrap();
}
