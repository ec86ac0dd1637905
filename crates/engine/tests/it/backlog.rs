//! Quotas of queued calls and bytes: never passed, refused with what they are, made room in by whatever ends.

use std::time::Duration;

use engine::EngineConfig;
use futures_util::future::join_all;
use model::Code;
use model::ids::NamespaceName;
use model::namespace::Quotas;
use model::ports::{Depth, Lane, Listing, Queue as _};

use crate::scripted::{World, bare, call, key, sleep_ms};

/// A function whose calls wait.
async fn stopped(world: &World, name: &str, change: impl FnOnce(&mut model::function::Function)) {
    world
        .deploy_with(name, "echo", |f| {
            f.settings.max_instances = Some(0);
            change(f);
        })
        .await;
}

/// So many enqueue at once; how many were accepted, and what the others heard.
async fn enqueue(world: &World, name: &str, n: usize) -> (usize, Vec<model::Error>) {
    let all =
        (0..n).map(|_| async { world.engine.enqueue(call(name, "0123456789"), &bare()).await });
    let (accepted, refused): (Vec<_>, Vec<_>) =
        join_all(all).await.into_iter().partition(Result::is_ok);
    (accepted.len(), refused.into_iter().map(Result::unwrap_err).collect())
}

#[tokio::test(start_paused = true)]
async fn a_function_s_queue_takes_what_its_quota_says() {
    let world = World::new(EngineConfig::default()).await;
    stopped(&world, "f", |f| f.settings.max_queued_calls = Some(7)).await;
    stopped(&world, "g", |_| {}).await;
    let (accepted, refused) = enqueue(&world, "f", 64).await;
    assert_eq!(accepted, 7);
    let error = &refused[0];
    assert_eq!((error.code(), error.retry_hint()), (Code::QueueFull, Some(Duration::from_secs(1))));
    let (message, hint) = (error.message(), error.hint().unwrap());
    assert!(
        message.contains("'default/f'") && message.contains("7 calls wait or run"),
        "{message}"
    );
    assert!(message.contains("max_queued_calls is 7"), "{message}");
    assert!(hint.contains("hanshu config set f max_queued_calls=N"), "{hint}");
    assert_eq!(enqueue(&world, "g", 64).await.0, 64, "others are not held up");
    // What ends gives its place to another.
    let of_f = Lane::from(&key("f"));
    let ids: Vec<_> = world
        .engine
        .calls(Listing { limit: 1, lane: Some(of_f.clone()), ..Listing::default() })
        .await
        .unwrap();
    world.engine.cancel_call(&ids[0]).await.unwrap();
    assert_eq!(enqueue(&world, "f", 3).await.0, 1);
    // By bytes: each message is its event and an envelope.
    let depth = world.queue.depth(&of_f);
    let each = depth.bytes / depth.messages;
    let bytes = Some(depth.bytes + each);
    stopped(&world, "f", |f| {
        (f.settings.max_queued_calls, f.settings.max_queued_bytes) = (None, bytes);
    })
    .await;
    let (accepted, refused) = enqueue(&world, "f", 8).await;
    assert_eq!(accepted, 1, "{}", refused[0]);
    let message = refused[0].message();
    assert!(
        message.contains(&format!("this one has {each}"))
            && message.contains("max_queued_bytes is"),
        "{message}"
    );
    // A lower limit throws nothing away; with room again they run.
    stopped(&world, "f", |f| f.settings.max_queued_calls = Some(0)).await;
    assert_eq!(enqueue(&world, "f", 1).await.0, 0);
    world.deploy_with("f", "echo", |f| f.settings.max_instances = None).await;
    sleep_ms(300_000).await;
    assert_eq!(world.queue.depth(&of_f), Depth::default());
    assert_eq!(world.finished(), 8);
}

#[tokio::test(start_paused = true)]
async fn functions_of_a_namespace_share_its_quota_and_a_redrive_keeps_to_it() {
    let default = Depth { messages: 5, bytes: u64::MAX };
    let config = EngineConfig { queued_per_namespace: default, ..EngineConfig::default() };
    let world = World::new(config).await;
    for name in ["f", "g"] {
        stopped(&world, name, |_| {}).await;
    }
    assert_eq!(enqueue(&world, "f", 3).await.0, 3);
    let (accepted, refused) = enqueue(&world, "g", 64).await;
    assert_eq!(accepted, 2, "the daemon's default");
    let message = refused[0].message();
    assert!(
        message.contains("namespace 'default'") && message.contains("queued_calls is 5"),
        "{message}"
    );
    assert!(refused[0].hint().unwrap().contains("hanshu namespaces set default --queued-calls N"));
    world.quotas("default", Quotas { queued_calls: Some(6), ..Quotas::default() }).await;
    assert_eq!(enqueue(&world, "g", 64).await.0, 1, "its own");
    let used = world.engine.namespace_use(&NamespaceName::default_namespace());
    assert_eq!(used.queued_calls, 6);

    world.quotas("default", Quotas { queued_calls: Some(7), ..Quotas::default() }).await;
    world.deploy("fails", "fail").await;
    let dies = call("fails", "x");
    world.engine.enqueue(dies.clone(), &bare()).await.unwrap();
    sleep_ms(200_000).await;
    assert_eq!(world.queued().await, (6, 1), "dead, it waits no more");
    world.quotas("default", Quotas { queued_calls: Some(6), ..Quotas::default() }).await;
    let error = world.redrive(dies.id).await.unwrap_err();
    assert_eq!(error.code(), Code::QueueFull);
    assert_eq!(world.queued().await, (6, 1), "it stays dead");
    world.quotas("default", Quotas { queued_calls: Some(7), ..Quotas::default() }).await;
    world.redrive(dies.id).await.unwrap();
    assert_eq!(world.queued().await.1, 0);
}
