//! Every port passes its suite.

use std::sync::Arc;

use model::clock::SystemClock;
use model::ports::{Blobs, Meta, Queue, Usage};
use model::suites;
use model::suites::memory::{MemoryBlobs, MemoryMeta, MemoryQueue, MemoryUsage};

use crate::support::{Embedded, InMemory};

#[tokio::test(flavor = "multi_thread")]
async fn meta() {
    suites::meta::run(async || Embedded::make(|s| Arc::clone(&s.meta)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs() {
    suites::blobs::run(async || Embedded::make(|s| Arc::clone(&s.blobs)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue() {
    suites::queue::run(async || Embedded::make(|s| Arc::clone(&s.queue)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bus() {
    suites::bus::run(async || Embedded::make(|s| Arc::clone(&s.bus)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease() {
    suites::lease::run(async || Embedded::make(|s| Arc::clone(&s.lease)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs() {
    suites::logs::run(async || Embedded::make(|s| Arc::clone(&s.logs)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage() {
    suites::usage::run(async || Embedded::make(|s| Arc::clone(&s.usage)).await).await;
}

#[tokio::test]
async fn clock() {
    suites::clock::run(&SystemClock).await;
}

/// The stand-ins that other crates test with promise the same.
#[tokio::test(flavor = "multi_thread")]
async fn stand_ins() {
    suites::meta::run(async || InMemory::<dyn Meta>::make(Arc::new(MemoryMeta::default()))).await;
    suites::usage::run(async || InMemory::<dyn Usage>::make(Arc::new(MemoryUsage::default())))
        .await;
    suites::blobs::run(async || InMemory::<dyn Blobs>::make(Arc::new(MemoryBlobs::default())))
        .await;
    let queue = || Arc::new(MemoryQueue::new(Arc::new(SystemClock)));
    suites::queue::run(async || InMemory::<dyn Queue>::make(queue())).await;
}
