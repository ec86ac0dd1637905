//! Shadows: copies of calls, whose answers are compared and reach nobody.

use serde_json::{Value, json};

use crate::world::World;

const SHADOW: &str = "f/aliases/live/shadow";

/// An alias on a version that answers `answer`, with a shadow of a version that answers `shadow`.
async fn world(answer: &str, shadow: &str) -> World {
    let world = World::start().await;
    world.version(1, "fixed.reply", answer).await;
    world.version(2, "fixed.reply", shadow).await;
    world.send("PUT", "f/aliases/live", json!({ "version": "1" })).await.expect(201);
    let view =
        world.send("PUT", SHADOW, json!({ "version": "2", "share": "100%" })).await.expect(200);
    assert_eq!(view["shadow"], json!({ "version": "2", "share": "100%" }));
    world
}

/// The report, once it has so many pairs.
async fn compared(world: &World, pairs: u64) -> Value {
    world.until(SHADOW, |report| (report["compared"] == pairs).then(|| report.clone())).await
}

#[tokio::test]
async fn answers_are_compared_by_what_they_mean() {
    for (answer, shadow, [same, status, body], path) in [
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, [1, 0, 0], None),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, [0, 0, 1], Some("body.b")),
        (
            r#"{"statusCode":200,"body":"x"}"#,
            r#"{"statusCode":500,"body":"x"}"#,
            [0, 1, 0],
            Some("statusCode"),
        ),
        (
            r#"{"statusCode":200,"body":"{\"a\":1,\"b\":2}","headers":{"A":"1"}}"#,
            r#"{"statusCode":200,"body":"{\"b\":2,\"a\":1}","headers":{"a":"1"}}"#,
            [1, 0, 0],
            None,
        ),
    ] {
        let world = world(answer, shadow).await;
        let called = world.send("POST", "f:live/invoke", json!({})).await;
        assert_eq!((called.header("x-hanshu-version"), &*called.body), ("1", answer.as_bytes()));
        let report = compared(&world, 1).await;
        assert_eq!((&report["version"], &report["shadow"]), (&json!("1"), &json!("2")));
        let found = [&report["same"], &report["status"], &report["body"]];
        assert_eq!(
            found,
            [&json!(same), &json!(status), &json!(body)],
            "{answer} {shadow}: {report}"
        );
        let example = report["examples"].get(0);
        assert_eq!(example.is_some(), path.is_some(), "{report}");
        if let (Some(example), Some(path)) = (example, path) {
            assert_eq!(example["differences"][0]["path"], path, "{report}");
            assert_eq!(example["request_id"], called.header("x-hanshu-request-id"));
        }
    }
}

#[tokio::test]
async fn a_failing_shadow_is_nobodys_trouble() {
    let world = World::start().await;
    world.versions(1).await;
    world.version(2, "fail.handler", "").await;
    let alias = json!({ "version": "1", "shadow": { "version": "2", "share": "100%" } });
    world.send("PUT", "f/aliases/live", alias).await.expect(201);
    for _ in 0..3 {
        assert_eq!(world.ran("f:live", json!({})).await, "1");
    }
    let by_url = world.ask_without_key("GET", "/fn/default/f:live/").send().await;
    assert_eq!((by_url.status, &*by_url.body), (200, b"\"1\"".as_slice()));
    let report = compared(&world, 4).await;
    assert_eq!((&report["status"], &report["same"]), (&json!(4), &json!(0)));
    assert_eq!(report["examples"][0]["differences"][0]["path"], "failure", "{report}");

    // Without a shadow nothing is copied; what was recorded stays, also for the next daemon.
    let view = world.delete(SHADOW).await.expect(200);
    assert_eq!(view.get("shadow"), None);
    world.ran("f:live", json!({})).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let world = world.restart().await;
    assert_eq!(world.get(SHADOW).await.expect(200)["compared"], 4);
    world.delete("f/aliases/live").await.expect(204);
    world.get(SHADOW).await.refused(404, "not-found");
    world.send("PUT", "f/aliases/live", json!({ "version": "1" })).await.expect(201);
    assert_eq!(world.get(SHADOW).await.expect(200)["compared"], 0, "another alias of that name");
}

#[tokio::test]
async fn that_nothing_is_copied_is_told() {
    let world = world("1", "2").await;
    // There is one instance, and it is the first version's.
    world.send("PATCH", "f/config", json!({ "max_instances": 1 })).await.expect(200);
    assert_eq!(world.ran("f:1", json!({})).await, "1");
    for _ in 0..3 {
        assert_eq!(world.ran("f:live", json!({})).await, "1");
    }
    let all = |report: &Value| (report["skipped"] == 3).then(|| report.clone());
    let report = world.until(SHADOW, all).await;
    assert_eq!((&report["compared"], &report["shadow"]), (&json!(0), &json!("2")));
}

#[tokio::test]
async fn bad_shadows_are_refused() {
    let world = world("1", "2").await;
    for (body, status, code, part) in [
        (json!({ "version": "9", "share": "1%" }), 404, "not-found", "default/f:9"),
        (json!({ "version": "2", "share": "101%" }), 400, "invalid-body", "share"),
        (json!({ "version": "2" }), 400, "invalid-body", "share"),
    ] {
        let message = world.send("PUT", SHADOW, body.clone()).await.refused(status, code);
        assert!(message.contains(part), "{body}: {message}");
    }
    let missing =
        world.send("PUT", "f/aliases/none/shadow", json!({ "version": "2", "share": "1%" })).await;
    missing.refused(404, "not-found");
    world.get("f/aliases/none/shadow").await.refused(404, "not-found");
    // None of it was copied.
    world.send("PUT", SHADOW, json!({ "version": "2", "share": "0%" })).await.expect(200);
    world.ran("f:live", json!({})).await;
    assert_eq!(world.get(SHADOW).await.expect(200)["compared"], 0);
}
