//! Calls with a key, through the API and by a function's URL.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::world::{Reply, World};

async fn invoke(world: &World, key: &str, how: &str, event: &Value) -> Reply {
    let ask = world.ask("POST", "/v1/namespaces/default/functions/f/invoke");
    let ask = ask.header("idempotency-key", key).header("x-hanshu-invocation", how);
    ask.json(event).send().await
}

#[tokio::test]
async fn the_second_call_of_a_key_is_answered_with_the_first() {
    let world = World::start().await;
    world.function("f", "slow.reply", "x").await;
    let event = json!({ "n": 1 });
    let sync = || invoke(&world, "\"k\"", "sync", &event);
    let (one, two) = tokio::join!(sync(), sync());
    let id = one.header("x-hanshu-request-id");
    assert_eq!((one.status, id), (200, two.header("x-hanshu-request-id")));
    assert_eq!(one.body, two.body);
    let replayed = [&one, &two].map(|reply| reply.header("x-hanshu-replayed"));
    assert!(replayed.contains(&"") && replayed.contains(&"true"), "{replayed:?}");
    let later = invoke(&world, "k", "async", &event).await;
    assert_eq!((later.status, &later.json()["request_id"]), (202, &json!(id)));
    assert_eq!(later.header("x-hanshu-replayed"), "true");
    assert_eq!(world.sandbox.calls.load(Ordering::SeqCst), 1);

    let refusal = invoke(&world, "k", "sync", &json!(2)).await.refused(422, "key-reused");
    assert!(refusal.contains(id), "{refusal}");
    let refusal = invoke(&world, "a b", "sync", &event).await.refused(400, "invalid-parameter");
    assert!(refusal.contains("idempotency-key") && refusal.contains("255"), "{refusal}");
    let settings = json!({ "idempotency": { "required": true, "window_seconds": 59 } });
    let refusal = world.send("PATCH", "f/config", settings).await.refused(400, "invalid-parameter");
    assert!(refusal.contains("idempotency.window_seconds 59"), "{refusal}");
    world
        .send("PATCH", "f/config", json!({ "idempotency": { "required": true } }))
        .await
        .expect(200);
    let ask = world.ask("POST", "/v1/namespaces/default/functions/f/invoke");
    ask.json(&event).send().await.refused(400, "invalid-parameter");
}

#[tokio::test]
async fn a_url_takes_keys_where_the_function_says_so() {
    let world = World::start().await;
    let reply = r#"{"statusCode":201,"headers":{"x-made":"yes"},"body":"made"}"#;
    world.function("f", "fixed.reply", reply).await;
    let post = |key: &'static str, path: &str, body: &'static str| {
        let ask = world.ask("POST", &format!("/fn/default/f{path}"));
        ask.header("idempotency-key", key).body(body).send()
    };
    let calls = || world.sandbox.calls.load(Ordering::SeqCst);
    let (one, two) = (post("k", "/orders", "1").await, post("k", "/orders", "2").await);
    assert_eq!((one.status, two.status, calls()), (201, 201, 2), "it does not say so");
    let rules = json!({ "idempotency": { "key": "header.idempotency-key" } });
    world.send("PATCH", "f/config", rules.clone()).await.expect(200);
    let (one, two) = (post("k", "/orders", "1").await, post("\"k\"", "/orders", "1").await);
    assert_eq!((one.status, &one.body), (201, &two.body));
    assert_eq!((two.status, two.header("x-made"), calls()), (201, "yes", 3));
    let ids = [&one, &two].map(|reply| reply.header("x-hanshu-request-id"));
    assert_eq!((ids[0], two.header("x-hanshu-replayed")), (ids[1], "true"));
    post("k", "/orders", "2").await.refused(422, "key-reused");
    post("k", "/orders?x=1", "1").await.refused(422, "key-reused");
    assert_eq!(post("l", "/orders", "2").await.status, 201);
    assert_eq!(calls(), 4);

    // An answer in pieces is kept with its status.
    let head = r#"{"statusCode":202,"headers":{"content-type":"text/x"}}"#;
    world.function("f", "stream.reply", head).await;
    world.send("PATCH", "f/config", rules).await.expect(200);
    let (one, two) = (post("s", "/", "1").await, post("s", "/", "1").await);
    for reply in [&one, &two] {
        assert_eq!((reply.status, reply.header("content-type")), (202, "text/x"), "{reply:?}");
    }
    assert_eq!((&one.body, calls()), (&two.body, 5));
    assert!(!one.body.is_empty());
}
