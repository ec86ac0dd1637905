//! Namespaces: quotas, and what is used of them.

use engine::EngineConfig;
use model::Code;
use model::api::NamespaceUse;
use model::change::{Author, Change, What};
use model::clock::UnixMillis;
use model::function::CodeRef;
use model::ids::{Digest, NamespaceName, RequestId};
use model::keys;
use model::layer::{Layer, LayerKey, LayerState, LayerVersion};
use model::namespace::Quotas;
use model::ports::{Expect, Meta};

use crate::scripted::{World, bare, call, sleep_ms};

#[tokio::test(start_paused = true)]
async fn calls_per_second_are_a_second_s_worth_at_once_then_steady() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "echo").await;
    world.quotas("default", Quotas { calls_per_second: Some(10), ..Quotas::default() }).await;
    world.invoke("f").await.unwrap();
    sleep_ms(1_000).await;
    for n in 0..10 {
        // Both doors draw from the same.
        if n % 2 == 0 {
            world.invoke("f").await.unwrap();
        } else {
            world.engine.enqueue(call("f", "x"), &bare()).await.unwrap();
        }
    }
    let refused = world.invoke("f").await.unwrap_err();
    assert_eq!(refused.code(), Code::Throttled);
    assert_eq!(refused.message(), "namespace 'default' is over its quota of 10 calls_per_second");
    let wait = refused.retry_hint().unwrap();
    assert!(wait.as_millis() <= 100, "{wait:?}");
    let refused = world.engine.enqueue(call("f", "x"), &bare()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Throttled);
    tokio::time::sleep(wait).await;
    world.invoke("f").await.unwrap();
    sleep_ms(50).await;
    assert_eq!(world.queued().await, (0, 0), "messages that were accepted run whatever the rate");
    world.quotas("default", Quotas::default()).await;
    for _ in 0..100 {
        world.invoke("f").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn memory_of_a_namespace_goes_to_whoever_needs_it() {
    let world = World::new(EngineConfig::default()).await;
    world.quotas("default", Quotas { memory_mb: Some(256), ..Quotas::default() }).await;
    for name in ["a", "b", "c"] {
        world.deploy(name, "echo").await;
        world.invoke(name).await.unwrap();
    }
    assert_eq!((world.started(), world.stopped()), (3, 1));
    let used = world.engine.namespace_use(&NamespaceName::default_namespace());
    assert_eq!((used.instances, used.memory_mb), (2, 256));
}

#[tokio::test(start_paused = true)]
async fn what_can_never_run_is_refused_at_once() {
    let world = World::new(EngineConfig::default()).await;
    world.deploy("f", "echo").await;
    let begin = tokio::time::Instant::now();
    for (quotas, part) in [
        (Quotas { memory_mb: Some(100), ..Quotas::default() }, "memory_mb of namespace 'default'"),
        (Quotas { instances: Some(0), ..Quotas::default() }, "instances of namespace 'default'"),
        (Quotas { calls_per_second: Some(0), ..Quotas::default() }, "0 calls_per_second"),
    ] {
        world.quotas("default", quotas).await;
        let refused = world.invoke("f").await.unwrap_err();
        assert_eq!(refused.code(), Code::Throttled);
        assert!(refused.message().contains(part), "{refused}");
    }
    assert_eq!(begin.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn instances_of_a_namespace_are_limited_by_its_quota() {
    let world = World::new(EngineConfig::default()).await;
    world.quotas("default", Quotas { instances: Some(1), ..Quotas::default() }).await;
    world.deploy("a", "echo").await;
    world.deploy("b", "echo").await;
    world.invoke("a").await.unwrap();
    world.invoke("b").await.unwrap();
    assert_eq!((world.started(), world.stopped()), (2, 1));
}

/// A layer whose versions have packages of these sizes.
pub(crate) fn layer(sizes: &[u64]) -> Layer {
    let code = |size_bytes| CodeRef { digest: Digest::of(b""), size_bytes, unpacked_bytes: 0 };
    let version = |(number, size)| LayerVersion {
        number,
        code: code(size),
        description: String::new(),
        runtimes: Vec::new(),
        published_at: UnixMillis(0),
    };
    Layer {
        key: LayerKey { namespace: NamespaceName::default_namespace(), name: "l".parse().unwrap() },
        id: RequestId::generate(),
        created_at: UnixMillis(0),
        versions: (1..).zip(sizes.iter().copied()).map(version).collect(),
        next_version: 9,
        aliases: std::collections::BTreeMap::new(),
        change: Some(Change {
            revision: 1,
            at: UnixMillis(0),
            author: Author::daemon("test"),
            what: What::Publish,
            of: None,
            before: None,
            after: Some(LayerState::Alias(1)),
        }),
        deleted: false,
    }
}

#[tokio::test(start_paused = true)]
async fn use_is_counted_as_documents_come_and_go() {
    let world = World::new(EngineConfig::default()).await;
    let name = NamespaceName::default_namespace();
    let used = || {
        let NamespaceUse { functions, code_bytes, .. } = world.engine.namespace_use(&name);
        (functions, code_bytes)
    };
    assert_eq!(used(), (0, 0));
    // Each package has 10 bytes.
    world.versions("f", &["echo", "who"]).await;
    world.deploy("g", "echo").await;
    assert_eq!(used(), (2, 40));
    world.change("f", |f| f.versions.retain(|v| v.number != 1)).await;
    assert_eq!(used(), (2, 30));
    world.change("g", |f| f.deleted = true).await;
    assert_eq!(used(), (1, 20));

    let mut expect = Expect::Absent;
    let at = keys::layer(&layer(&[]).key);
    for (sizes, deleted, bytes) in [
        (&[100][..], false, 120),
        (&[100, 200], false, 320),
        (&[200], false, 220),
        (&[200], true, 20),
    ] {
        let value = serde_json::to_vec(&Layer { deleted, ..layer(sizes) }).unwrap();
        let revision = world.meta.put_if(&at, expect, value.into()).await.unwrap();
        world.engine.caught_up(revision).await.unwrap();
        expect = Expect::Revision(revision);
        assert_eq!(used(), (1, bytes), "{sizes:?} {deleted}");
    }
    let Expect::Revision(revision) = expect else { panic!("{expect:?}") };
    let revision = world.meta.delete_if(&at, revision).await.unwrap();
    world.engine.caught_up(revision).await.unwrap();
    assert_eq!(used(), (1, 20));
    let other = "other".parse().unwrap();
    assert_eq!(world.engine.namespace_use(&other), NamespaceUse::default());
}
