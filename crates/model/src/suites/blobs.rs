//! Contract of [`Blobs`].

#![expect(clippy::unwrap_used, reason = "a suite panics at a broken promise")]

use std::sync::Arc;

use bytes::Bytes;

use super::{Random, Subject};
use crate::ids::Digest;
use crate::ports::Blobs;
use crate::tasks::Tasks;

/// Runs the suite; `make` gives an empty store each time.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Blobs>>) {
    bytes_come_back_under_their_digest(make().await).await;
    unknown_digests_are_absent(&*make().await.port()).await;
    the_same_bytes_again_are_no_error(make().await.port()).await;
    deleted_blobs_are_gone(make().await).await;
}

fn samples() -> Vec<Bytes> {
    let mut random = Random(7);
    let mut noise = |n: usize| -> Bytes {
        (0..n).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect()
    };
    vec![
        Bytes::new(),
        Bytes::from_static(b"x"),
        Bytes::from(b"compressible ".repeat(10_000)),
        noise(10_000),
        // Larger than any buffer on the way.
        noise(8 << 20),
        Bytes::from(vec![0; 8 << 20]),
    ]
}

async fn bytes_come_back_under_their_digest(mut subject: Box<dyn Subject<dyn Blobs>>) {
    let samples = samples();
    let blobs = subject.port();
    for bytes in &samples {
        let digest = blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(digest, Digest::of(bytes), "the digest is the SHA-256 of the bytes");
        assert!(blobs.contains(&digest).await.unwrap());
        let back = blobs.get(&digest).await.unwrap();
        assert!(back.as_ref() == Some(bytes), "{} bytes did not come back", bytes.len());
    }
    subject.reopen().await;
    let blobs = subject.port();
    for bytes in &samples {
        let back = blobs.get(&Digest::of(bytes)).await.unwrap();
        assert!(back.as_ref() == Some(bytes), "{} bytes were lost by a restart", bytes.len());
    }
}

async fn unknown_digests_are_absent(blobs: &dyn Blobs) {
    blobs.put(Bytes::from_static(b"known")).await.unwrap();
    let unknown = Digest::of(b"unknown");
    assert_eq!(blobs.get(&unknown).await.unwrap(), None);
    assert!(!blobs.contains(&unknown).await.unwrap());
    assert!(!blobs.delete(&unknown).await.unwrap());
}

async fn the_same_bytes_again_are_no_error(blobs: Arc<dyn Blobs>) {
    let bytes = Bytes::from(b"same ".repeat(50_000));
    let tasks = Tasks::new();
    let puts: Vec<_> = (0..8)
        .map(|_| {
            let (blobs, bytes) = (Arc::clone(&blobs), bytes.clone());
            tasks.spawn("put", async move { blobs.put(bytes).await })
        })
        .collect();
    for put in puts {
        assert_eq!(put.await.unwrap().unwrap(), Digest::of(&bytes));
    }
    blobs.put(bytes.clone()).await.unwrap();
    assert!(blobs.get(&Digest::of(&bytes)).await.unwrap() == Some(bytes));
}

async fn deleted_blobs_are_gone(mut subject: Box<dyn Subject<dyn Blobs>>) {
    let blobs = subject.port();
    let gone = blobs.put(Bytes::from_static(b"gone")).await.unwrap();
    let kept = blobs.put(Bytes::from_static(b"kept")).await.unwrap();
    assert!(blobs.delete(&gone).await.unwrap(), "there was one to delete");
    assert!(!blobs.delete(&gone).await.unwrap(), "it was deleted twice");
    subject.reopen().await;
    let blobs = subject.port();
    assert_eq!(blobs.get(&gone).await.unwrap(), None);
    assert!(blobs.contains(&kept).await.unwrap());
    // And it may come again.
    blobs.put(Bytes::from_static(b"gone")).await.unwrap();
    assert!(blobs.contains(&gone).await.unwrap());
}
