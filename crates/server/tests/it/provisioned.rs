//! Provisioned instances: put, read, listed, removed, recorded; what they are for stays.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{Reply, World, config};

const FUNCTION: &str = "/v1/namespaces/default/functions/f";

/// A function with version 1 and the alias `live`.
async fn world() -> World {
    let world = World::start().await;
    world.function("f", "fixed.reply", "x").await;
    let body = json!({ "config": config("fixed.reply", "x"), "publish": true });
    assert_eq!(world.ask("PUT", FUNCTION).json(&body).send().await.status, 200);
    let alias = json!({ "version": "1" });
    let path = format!("{FUNCTION}/aliases/live");
    assert_eq!(world.ask("PUT", &path).json(&alias).send().await.status, 201);
    world
}

async fn put(world: &World, qualifier: &str, body: &Value) -> Reply {
    world.ask("PUT", &format!("{FUNCTION}/provisioned/{qualifier}")).json(body).send().await
}

#[tokio::test]
async fn they_are_put_read_listed_and_removed_and_every_change_is_kept() {
    let world = world().await;
    let five = json!({ "instances": 5 });
    let first = put(&world, "live", &five).await;
    assert_eq!(first.status, 201, "{first:?}");
    let revision = first.json()["revision"].as_u64().unwrap();
    assert_eq!(first.header("etag"), format!("\"{revision}\""));
    let again = put(&world, "live", &five).await;
    assert_eq!((again.status, again.json()["revision"].as_u64()), (200, Some(revision)));
    let scheduled =
        json!({ "instances": 2, "schedule": [{ "at": "0 0 8 * * MON-FRI", "instances": 9 }] });
    assert_eq!(put(&world, "1", &scheduled).await.status, 201);

    let path = format!("{FUNCTION}/provisioned/live");
    for _ in 0..50 {
        let view = world.ask("GET", &path).send().await.json();
        assert_eq!((&view["wanted"], &view["qualifier"]), (&json!(5), &json!("live")));
        if view["ready"] == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.ask("GET", &path).send().await.json()["ready"], 5);
    let all = world.ask("GET", &format!("{FUNCTION}/provisioned")).send().await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 2, "{all}");
    assert_eq!(all["items"][0]["schedule"][0]["at"], "0 0 8 * * MON-FRI");

    let old = world.ask("DELETE", &path).header("if-match", "1").send().await;
    old.refused(412, "precondition-failed");
    assert_eq!(world.ask("DELETE", &path).send().await.status, 204);
    world.ask("DELETE", &path).send().await.refused(404, "not-found");
    world.ask("GET", &path).send().await.refused(404, "not-found");
    let history = world.ask("GET", &format!("{FUNCTION}/history")).send().await.json();
    let newest = &history["items"][0];
    assert_eq!((&newest["what"], &newest["of"]), (&json!("delete"), &json!("provisioned/live")));
}

#[tokio::test]
async fn a_schedule_may_be_in_a_zones_own_time() {
    let world = world().await;
    let body = |zone: &str| {
        let schedule = json!([{ "at": "0 0 8 * * *", "instances": 2 }]);
        json!({ "instances": 1, "schedule": schedule, "timezone": zone })
    };
    assert_eq!(put(&world, "live", &body("Europe/Berlin")).await.status, 201);
    let view = world.ask("GET", &format!("{FUNCTION}/provisioned/live")).send().await.json();
    assert_eq!(view["timezone"], "Europe/Berlin");
    let message = put(&world, "live", &body("Mars/Olympus")).await.refused(400, "invalid-body");
    assert!(message.contains("timezone 'Mars/Olympus'"), "{message}");
    let none = json!({ "instances": 1 });
    assert_eq!(put(&world, "live", &none).await.json().get("timezone"), None);
}

#[tokio::test]
async fn what_they_are_for_stays() {
    let world = world().await;
    for qualifier in ["live", "1"] {
        assert_eq!(put(&world, qualifier, &json!({ "instances": 1 })).await.status, 201);
    }
    let alias = world.ask("DELETE", &format!("{FUNCTION}/aliases/live")).send().await;
    let message = alias.refused(409, "conflict");
    assert!(message.contains("instances are provisioned"), "{message}");
    world.ask("DELETE", &format!("{FUNCTION}/provisioned/live")).send().await;
    assert_eq!(world.ask("DELETE", &format!("{FUNCTION}/aliases/live")).send().await.status, 204);
    world.ask("DELETE", &format!("{FUNCTION}/versions/1")).send().await.refused(409, "conflict");
    world.ask("DELETE", &format!("{FUNCTION}/provisioned/1")).send().await;
    assert_eq!(world.ask("DELETE", &format!("{FUNCTION}/versions/1")).send().await.status, 204);
}

#[tokio::test]
async fn more_than_may_be_is_refused_in_words() {
    let world = world().await;
    for (qualifier, body, expected) in [
        ("live", json!({ "instances": 0 }), "0 at all times"),
        ("live", json!({ "instances": 21 }), "max_instances of the function"),
        ("live", json!({ "instances": 33 }), "the host's memory for functions"),
        ("live", json!({ "instances": 1001 }), "expected at most 1000"),
    ] {
        let message = put(&world, qualifier, &body).await.refused(400, "invalid-parameter");
        assert!(message.contains(expected), "{message}");
    }
    let bad = json!({ "instances": 1, "schedule": [{ "at": "0 0 25 * * *", "instances": 2 }] });
    let message = put(&world, "live", &bad).await.refused(400, "invalid-body");
    assert!(message.contains("expected a cron expression"), "{message}");
    for missing in ["2", "nobody"] {
        put(&world, missing, &json!({ "instances": 1 })).await.refused(404, "not-found");
    }
    assert_eq!(put(&world, "1", &json!({ "instances": 15 })).await.status, 201);
    let message = put(&world, "live", &json!({ "instances": 6 })).await;
    let message = message.refused(400, "invalid-parameter");
    assert!(message.contains("21 instances"), "all of them count: {message}");
    let quota = json!({ "quotas": { "instances": 3 } });
    let namespace = "/v1/namespaces/default";
    let reply = world.ask("PATCH", namespace).json(&quota).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    put(&world, "live", &json!({ "instances": 4 })).await.refused(403, "forbidden");
}
