//! Reserved instances over REST: set, refused in words, taken back, counted.

use serde_json::{Value, json};

use crate::world::{Reply, World, config};

const FUNCTIONS: &str = "/v1/namespaces/default/functions";

async fn set(world: &World, name: &str, patch: Value) -> Reply {
    world.send("PATCH", &format!("{FUNCTIONS}/{name}/config"), patch).await
}

async fn reserved(world: &World) -> Value {
    world.get("/v1/namespaces/default").await.expect(200)["used"]["reserved_instances"].clone()
}

async fn call(world: &World, name: &str) -> Reply {
    world.ask("POST", &format!("{FUNCTIONS}/{name}/invoke")).send().await
}

async fn world() -> World {
    let world = World::start().await;
    for name in ["f", "g"] {
        world.function(name, "fixed.reply", "x").await;
    }
    world
}

#[tokio::test]
async fn they_are_set_shown_counted_and_taken_back() {
    let world = world().await;
    let view = set(&world, "f", json!({ "reserved_instances": 5 })).await.expect(200);
    assert_eq!(view["settings"]["reserved_instances"], 5);
    assert_eq!(reserved(&world).await, 5);
    assert_eq!(call(&world, "f").await.status, 200);
    // What is not named stays.
    let view = set(&world, "f", json!({ "timeout_ms": 4000 })).await.expect(200);
    assert_eq!(view["settings"]["reserved_instances"], 5);
    let view = set(&world, "f", json!({ "reserved_instances": null })).await.expect(200);
    assert_eq!(view["settings"].get("reserved_instances"), None);
    assert_eq!(reserved(&world).await, 0);
    let history = world.get(&format!("{FUNCTIONS}/f/history")).await.expect(200);
    assert!(history["items"][0].to_string().contains("configure"), "{history}");
}

#[tokio::test]
async fn zero_switches_a_function_off() {
    let world = world().await;
    assert_eq!(call(&world, "f").await.status, 200);
    set(&world, "f", json!({ "reserved_instances": 0 })).await.expect(200);
    let refused = call(&world, "f").await;
    assert!(!refused.header("retry-after").is_empty());
    let message = refused.refused(429, "throttled");
    assert!(
        message.contains("switched off") && message.contains("reserved_instances"),
        "{message}"
    );
    assert_eq!(call(&world, "g").await.status, 200);
    set(&world, "f", json!({ "reserved_instances": null })).await.expect(200);
    assert_eq!(call(&world, "f").await.status, 200);
}

#[tokio::test]
async fn more_than_there_is_is_refused_by_the_fields_name() {
    let world = world().await;
    for (patch, expected) in [
        (json!({ "reserved_instances": 1001 }), "expected at most 900"),
        (json!({ "reserved_instances": 10_001 }), "expected 0 to 10000"),
        (json!({ "reserved_instances": 4, "max_instances": 3 }), "expected 0 to 3, max_instances"),
        (json!({ "reserved_instances": 29 }), "on the host: expected at most 3686"),
    ] {
        let message = set(&world, "f", patch).await.refused(400, "invalid-parameter");
        assert!(message.contains("reserved_instances") && message.contains(expected), "{message}");
    }
    set(&world, "f", json!({ "reserved_instances": 20 })).await.expect(200);
    let message = set(&world, "g", json!({ "reserved_instances": 9 }))
        .await
        .refused(400, "invalid-parameter");
    assert!(message.contains("3712 MiB"), "{message}");
    // Larger instances reserve more.
    let message =
        set(&world, "f", json!({ "memory_mb": 256 })).await.refused(400, "invalid-parameter");
    assert!(message.contains("5120 MiB"), "{message}");
    // So does a deployment.
    let mut wanted = config("fixed.reply", "x");
    wanted["memory_mb"] = json!(256);
    let body = json!({ "config": wanted, "settings": { "reserved_instances": 20 } });
    world.send("PUT", &format!("{FUNCTIONS}/f"), body).await.refused(400, "invalid-parameter");
    set(&world, "g", json!({ "reserved_instances": 8 })).await.expect(200);
    assert_eq!(reserved(&world).await, 28);
    // Beside it nothing is provisioned that could not be there.
    let path = format!("{FUNCTIONS}/g/provisioned/$LATEST");
    let message = world.send("PUT", &path, json!({ "instances": 9 })).await;
    let message = message.refused(400, "invalid-parameter");
    assert!(message.contains("at most 8, reserved_instances"), "{message}");
    world.delete(&format!("{FUNCTIONS}/f")).await.expect(204);
    assert_eq!(reserved(&world).await, 8);
}
