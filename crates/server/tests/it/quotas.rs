//! Quotas and policy of namespaces, their history, and their deletion with everything in them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::world::{Reply, World, column, config, zipped};

const N: &str = "/v1/namespaces/n";

async fn body(world: &World, content: &str) -> Value {
    json!({ "config": config("echo.event", ""), "code": world.package_in("n", content).await })
}

async fn put(world: &World, name: &str, body: &Value) -> Reply {
    world.send("PUT", &format!("{N}/functions/{name}"), body.clone()).await
}

async fn used(world: &World) -> Value {
    world.get(N).await.expect(200)["used"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_are_counted_exactly_also_at_once() {
    let world = Arc::new(World::start().await);
    world.namespace("n", json!({ "functions": 5 }), json!({})).await;
    let body = body(&world, "one").await;
    let creations = (0..16).map(|i| {
        let (world, body) = (world.clone(), body.clone());
        async move { put(&world, &format!("f{i}"), &body).await }
    });
    let replies = futures_util::future::join_all(creations).await;
    let (made, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|r| r.status == 201);
    assert_eq!((made.len(), refused.len()), (5, 11));
    for reply in refused {
        let message = reply.refused(403, "forbidden");
        assert!(message.contains("quota of functions: 6, expected at most 5"), "{message}");
    }
    assert_eq!(used(&world).await["functions"], 5);
    // What there is may change; what goes makes room.
    let there = made[0].json()["name"].as_str().unwrap().to_owned();
    put(&world, &there, &json!({ "config": config("echo.event", "2") })).await.expect(200);
    world.delete(&format!("{N}/functions/{there}")).await.expect(204);
    put(&world, "another", &body).await.expect(201);
    put(&world, "more", &body).await.refused(403, "forbidden");
    world.send("PATCH", N, json!({ "quotas": {} })).await.expect(200);
    put(&world, "more", &body).await.expect(201);
    assert_eq!(used(&world).await["functions"], 6);
}

#[tokio::test]
async fn code_is_counted_with_versions_and_layers() {
    let world = World::start().await;
    world.namespace("n", json!({}), json!({})).await;
    let body = body(&world, "one").await;
    let size = {
        let view = put(&world, "f", &body).await.expect(201);
        view["code"]["size_bytes"].as_u64().unwrap()
    };
    let layer = zipped(&[("lib.js", b"1")]);
    let most = 2 * size + layer.len() as u64;
    world.send("PATCH", N, json!({ "quotas": { "code_bytes": most } })).await.expect(200);
    let publish = || world.send("POST", "/v1/namespaces/n/functions/f/versions", json!({}));
    publish().await.expect(201);
    let layers = format!("{N}/layers/l/versions");
    world.ask("POST", &layers).body(layer).send().await.expect(201);
    assert_eq!(used(&world).await["code_bytes"], most);

    let message = put(&world, "g", &body).await.refused(403, "forbidden");
    assert!(message.contains(&format!("code_bytes: {}", most + size)), "{message}");
    let another = world.ask("POST", &layers).body(zipped(&[("lib.js", b"2")])).send().await;
    another.refused(403, "forbidden");
    world
        .send("PATCH", &format!("{N}/functions/f/config"), json!({ "memory_mb": 256 }))
        .await
        .expect(200);
    publish().await.refused(403, "forbidden");
    world.delete(&format!("{N}/functions/f/versions/1")).await.expect(204);
    publish().await.expect(201);
    world.delete(&format!("{N}/layers/l")).await.expect(204);
    assert_eq!(used(&world).await["code_bytes"], 2 * size);
}

#[tokio::test]
async fn calls_are_throttled_by_the_second() {
    let world = World::start().await;
    world.namespace("n", json!({ "calls_per_second": 2 }), json!({})).await;
    put(&world, "f", &body(&world, "one").await).await.expect(201);
    let mut throttled = 0;
    for _ in 0..20 {
        let reply = world.send("POST", &format!("{N}/functions/f/invoke"), json!({})).await;
        if reply.status != 200 {
            let message = reply.refused(429, "throttled");
            assert!(message.contains("calls"), "{message}");
            assert_ne!(reply.header("retry-after"), "");
            throttled += 1;
        }
    }
    assert!(throttled >= 10, "{throttled} of 20 were refused");
    // Calls of other namespaces are not.
    world.function("f", "echo.event", "").await;
    for _ in 0..5 {
        world.ran("f", json!({})).await;
    }
    world.send("PATCH", N, json!({ "quotas": { "calls_per_second": 0 } })).await.expect(200);
    let call = world.send("POST", &format!("{N}/functions/f/invoke"), json!({})).await;
    call.refused(429, "throttled");
}

#[tokio::test]
async fn instances_and_memory_are_bounded_together() {
    let world = World::start().await;
    for quotas in [json!({ "instances": 1 }), json!({ "memory_mb": 128 })] {
        let name = if quotas.get("instances").is_some() { "n" } else { "m" };
        world.namespace(name, quotas, json!({})).await;
        let code = world.package_in(name, "one").await;
        let put = json!({ "config": config("slow.reply", "\"1\""), "code": code });
        let functions = format!("/v1/namespaces/{name}/functions");
        for function in ["f", "g"] {
            world.send("PUT", &format!("{functions}/{function}"), put.clone()).await.expect(201);
        }
        let call = |function: &str| {
            let path = format!("{functions}/{function}/invoke");
            let world = &world;
            async move { world.send("POST", &path, json!({})).await }
        };
        let began = std::time::Instant::now();
        let (first, second) = tokio::join!(call("f"), call("g"));
        let view = world.get(&format!("/v1/namespaces/{name}")).await.expect(200);
        assert!(view["used"]["instances"].as_u64() <= Some(1), "{view}");
        assert!(view["used"]["memory_mb"].as_u64() <= Some(128), "{view}");
        // One after the other, or the second is refused: never both at once.
        let both = first.status == 200 && second.status == 200;
        assert!(!both || began.elapsed().as_millis() >= 600, "{first:?} {second:?}");
        for reply in [first, second] {
            assert!(
                reply.status == 200 || reply.refused(429, "throttled").contains(name),
                "{reply:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_policy_forbids_field_by_field() {
    let world = World::start().await;
    world.namespace("n", json!({}), json!({})).await;
    put(&world, "old", &body(&world, "one").await).await.expect(201);
    let with = |config: Value, settings: Value| json!({ "config": config, "settings": settings });
    let more = |name: &str, value: Value| {
        let mut config = config("echo.event", "");
        config[name] = value;
        config
    };
    for (policy, bad, good, part) in [
        (
            json!({ "runtimes": ["python3.11"] }),
            with(config("echo.event", ""), json!({})),
            None,
            "runtime nodejs20: expected one of python3.11",
        ),
        (
            json!({ "networks": ["none"] }),
            with(more("network", json!("egress")), json!({})),
            Some(with(config("echo.event", ""), json!({}))),
            "network egress: expected one of none",
        ),
        (
            json!({ "timeout_max_ms": 3_000 }),
            with(more("timeout_ms", json!(3_001)), json!({})),
            Some(with(config("echo.event", ""), json!({}))),
            "timeout_ms 3001: expected at most 3000",
        ),
        (
            json!({ "memory_max_mb": 128 }),
            with(more("memory_mb", json!(129)), json!({})),
            Some(with(config("echo.event", ""), json!({}))),
            "memory_mb 129: expected at most 128",
        ),
        (
            json!({ "url_auth": "key" }),
            with(config("echo.event", ""), json!({ "url_auth": "none" })),
            Some(with(config("echo.event", ""), json!({ "url_auth": "key" }))),
            "url_auth none: expected key",
        ),
    ] {
        world.send("PATCH", N, json!({ "policy": policy })).await.expect(200);
        let message = put(&world, "old", &bad).await.refused(403, "forbidden");
        assert!(message.contains(part), "{message}");
        let mut new = bad.clone();
        new["code"] = json!(world.package_in("n", "one").await);
        put(&world, "new", &new).await.refused(403, "forbidden");
        if let Some(good) = good {
            put(&world, "old", &good).await.expect(200);
        }
        // What is there already still runs.
        world.send("POST", &format!("{N}/functions/old/invoke"), json!({})).await.expect(200);
    }
    for (patch, part) in [
        (json!({ "policy": { "networks": ["lan"] } }), "policy.networks"),
        (json!({ "policy": { "runtimes": [""] } }), "policy.runtimes"),
        (json!({ "policy": { "colour": 1 } }), "colour"),
        (json!({ "quotas": { "calls_per_second": 1_000_001 } }), "quotas.calls_per_second"),
        (json!({ "quotas": { "functions": -1 } }), "quotas.functions"),
        (json!({ "description": "d".repeat(1_001) }), "description"),
        (json!({ "name": "m" }), "name"),
    ] {
        let reply = world.send("PATCH", N, patch.clone()).await;
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(reply.status == 400 && message.contains(part), "{patch}: {message}");
    }
}

#[tokio::test]
async fn changes_of_a_namespace_are_conditional_and_kept() {
    let world = World::start().await;
    let made = world.namespace("n", json!({ "functions": 3 }), json!({})).await;
    assert_eq!(made["revision"], 1);
    assert_eq!(
        made["used"],
        json!({
            "functions": 0, "instances": 0, "memory_mb": 0, "code_bytes": 0, "reserved_instances": 0,
            "queued_calls": 0, "queued_bytes": 0
        })
    );
    let ask = |revision: &str| {
        world.ask("PATCH", N).header("if-match", revision).header("x-hanshu-reason", "more people")
    };
    let patch = json!({ "quotas": { "functions": 9 } });
    let patched = ask("1").json(&patch).send().await;
    assert_eq!(
        (patched.header("etag"), patched.json()["quotas"]["functions"].as_u64()),
        ("\"2\"", Some(9))
    );
    let message = ask("1")
        .json(&json!({ "description": "x" }))
        .send()
        .await
        .refused(412, "precondition-failed");
    assert!(message.contains("configure by root"), "{message}");
    // The same again is no change.
    assert_eq!(ask("2").json(&patch).send().await.expect(200)["revision"], 2);
    let history = world.get(&format!("{N}/history")).await.expect(200);
    assert_eq!(column(&history, "what"), ["configure", "create"]);
    let newest = &history["items"][0];
    assert_eq!((&newest["reason"], &newest["from"]), (&json!("more people"), &json!("127.0.0.1")));
    assert_eq!(
        newest["differences"],
        json!([{ "path": "quotas.functions", "before": 3, "after": 9 }])
    );
    let one = world.get(&format!("{N}/history/1")).await.expect(200);
    assert_eq!((one.get("before"), &one["after"]["quotas"]["functions"]), (None, &json!(3)));

    world.ask("DELETE", N).header("if-match", "1").send().await.refused(412, "precondition-failed");
    world.delete(N).await.expect(204);
    assert_eq!(
        column(&world.get(&format!("{N}/history")).await.expect(200), "revision"),
        [3, 2, 1]
    );
    let again = world.namespace("n", json!({}), json!({})).await;
    assert_eq!(again["revision"], 4);
    let whats = column(&world.get(&format!("{N}/history")).await.expect(200), "what");
    assert_eq!(whats, ["create", "delete", "configure", "create"]);
    world.get("/v1/namespaces/never/history").await.refused(404, "not-found");
}

#[tokio::test]
async fn a_namespace_goes_with_everything_only_when_it_is_named_twice() {
    let world = World::start().await;
    world.namespace("n", json!({}), json!({})).await;
    let body = body(&world, "one").await;
    for name in ["f", "g"] {
        put(&world, name, &body).await.expect(201);
    }
    world
        .ask("POST", &format!("{N}/layers/l/versions"))
        .body(zipped(&[("a", b"1")]))
        .send()
        .await
        .expect(201);
    let message = world.delete(N).await.refused(409, "not-empty");
    assert!(message.contains("functions or layers"), "{message}");
    for wrong in ["m", "", "N"] {
        let reply = world.delete(&format!("{N}?everything={wrong}")).await;
        let message = reply.refused(400, "invalid-parameter");
        assert!(message.contains("everything"), "{message}");
    }
    world
        .delete("/v1/namespaces/default?everything=default")
        .await
        .refused(400, "invalid-parameter");
    // A condition that does not hold spares everything, and leaves nothing that keeps functions out.
    let stale = world.ask("DELETE", &format!("{N}?everything=n")).header("if-match", "9");
    stale.send().await.refused(412, "precondition-failed");
    assert_eq!(used(&world).await["functions"], 2);
    put(&world, "h", &body).await.expect(201);

    world.delete(&format!("{N}?everything=n")).await.expect(204);
    world.get(N).await.refused(404, "not-found");
    world.get(&format!("{N}/functions/f")).await.refused(404, "not-found");
    world.ask("GET", "/fn/n/f/").send().await.refused(404, "not-found");
    world.namespace("n", json!({}), json!({})).await;
    assert_eq!(column(&world.get(&format!("{N}/functions")).await.expect(200), "name").len(), 0);
    assert_eq!(column(&world.get(&format!("{N}/layers")).await.expect(200), "name").len(), 0);
    assert_eq!(used(&world).await["code_bytes"], 0);
    let body = self::body(&world, "one").await;
    assert_eq!(put(&world, "f", &body).await.expect(201)["revision"], 3, "numbers go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_with_everything_and_creations_at_once_leave_no_orphans() {
    let world = Arc::new(World::start().await);
    for _ in 0..20 {
        world.namespace("n", json!({}), json!({})).await;
        let body = body(&world, "one").await;
        put(&world, "there", &body).await.expect(201);
        let layers = format!("{N}/layers/l/versions");
        let (deleted, function, layer) = tokio::join!(
            world.delete("/v1/namespaces/n?everything=n"),
            put(&world, "new", &body),
            world.ask("POST", &layers).body(zipped(&[("a", b"1")])).send(),
        );
        assert!([204, 409].contains(&deleted.status), "{deleted:?}");
        let stands = world.get(N).await.status == 200;
        assert_eq!(stands, deleted.status != 204, "{deleted:?}");
        let there = world.get(&format!("{N}/functions/new")).await.status == 200;
        let layered = world.get(&format!("{N}/layers/l")).await.status == 200;
        assert!(stands || !there && !layered, "{function:?} {layer:?}");
        if stands {
            world.delete(&format!("{N}?everything=n")).await.expect(204);
        }
    }
}
