//! A catalogue whose watch breaks: what was changed meanwhile is learnt afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use engine::EngineConfig;
use model::api::NamespaceUse;
use model::error::{Code, Error};
use model::ids::NamespaceName;
use model::keys;
use model::namespace::Quotas;
use model::ports::{Change, Entry, Expect, Meta, Revision, Watch};
use model::suites::memory::MemoryMeta;
use tokio::sync::Notify;

use crate::namespaces::layer;
use crate::scripted::{World, sleep_ms};

/// While it is blind, every watch breaks and none begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blindness {
    on: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl Blindness {
    fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn check(&self) -> model::Result<()> {
        if self.on.load(Ordering::SeqCst) {
            return Err(Error::platform(Code::Unavailable, "blind"));
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct BlindMeta {
    pub(crate) inner: Arc<MemoryMeta>,
    pub(crate) blindness: Blindness,
}

#[async_trait]
impl Meta for BlindMeta {
    async fn get(&self, key: &str) -> model::Result<Option<Entry>> {
        self.inner.get(key).await
    }

    async fn put_if(&self, key: &str, expect: Expect, value: Bytes) -> model::Result<Revision> {
        self.inner.put_if(key, expect, value).await
    }

    async fn delete_if(&self, key: &str, revision: Revision) -> model::Result<Revision> {
        self.inner.delete_if(key, revision).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, n: usize) -> model::Result<Vec<Entry>> {
        self.inner.list(prefix, after, n).await
    }

    async fn watch(&self, prefix: &str, revision: Revision) -> model::Result<Box<dyn Watch>> {
        self.blindness.check()?;
        let inner = self.inner.watch(prefix, revision).await?;
        Ok(Box::new(BlindWatch { inner, blindness: self.blindness.clone() }))
    }

    async fn revision(&self) -> model::Result<Revision> {
        self.inner.revision().await
    }
}

#[derive(Debug)]
struct BlindWatch {
    inner: Box<dyn Watch>,
    blindness: Blindness,
}

#[async_trait]
impl Watch for BlindWatch {
    async fn next(&mut self) -> model::Result<Option<Change>> {
        self.blindness.check()?;
        tokio::select! {
            change = self.inner.next() => change,
            () = self.blindness.changed.notified() => Err(Error::platform(Code::Unavailable, "blind")),
        }
    }
}

async fn delete(world: &World, key: &str) {
    let entry = world.meta.get(key).await.unwrap().unwrap();
    world.meta.delete_if(key, entry.revision).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_went_while_nobody_watched_is_gone() {
    let world = World::new(EngineConfig::default()).await;
    let name = NamespaceName::default_namespace();
    world.deploy("f", "echo").await;
    world.deploy("g", "echo").await;
    world.invoke("f").await.unwrap();
    world.quotas("default", Quotas { calls_per_second: Some(1), ..Quotas::default() }).await;
    let layer = layer(&[100]);
    let value = serde_json::to_vec(&layer).unwrap().into();
    let at = keys::layer(&layer.key);
    let revision = world.meta.put_if(&at, Expect::Absent, value).await.unwrap();
    world.engine.caught_up(revision).await.unwrap();
    let used = world.engine.namespace_use(&name);
    assert_eq!((used.functions, used.instances, used.code_bytes), (2, 1, 120));

    world.blindness.set(true);
    sleep_ms(10).await;
    for key in [&keys::function(&crate::scripted::key("f")), &at, &keys::namespace(&name)] {
        delete(&world, key).await;
    }
    sleep_ms(1_000).await;
    assert_eq!(world.engine.namespace_use(&name), used, "it does not know yet");
    world.blindness.set(false);
    sleep_ms(1_000).await;
    let left = NamespaceUse { functions: 1, code_bytes: 10, ..NamespaceUse::default() };
    assert_eq!(world.engine.namespace_use(&name), left);
    assert_eq!(world.invoke("f").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.stopped(), 1);
    for _ in 0..5 {
        world.invoke("g").await.unwrap();
    }
}
