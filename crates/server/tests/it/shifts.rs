//! Shifts of aliases: to their end, back by themselves, stopped by hand.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Reply, World, column};

const SHIFT: &str = "f/aliases/live/shift";
const ALIAS: &str = "f/aliases/live";

/// An alias on version 1, and a version 2 with this handler.
async fn world(handler: &str) -> World {
    let world = World::start().await;
    world.versions(1).await;
    let reply = if handler.starts_with("stream.") { "{}" } else { "\"2\"" };
    world.version(2, handler, reply).await;
    world.send("PUT", ALIAS, json!({ "version": "1" })).await.expect(201);
    world
}

async fn shift(world: &World, body: Value) -> Reply {
    world.send("PUT", SHIFT, body).await
}

/// Kinds of the alias's changes, oldest first.
async fn changes(world: &World) -> Vec<Value> {
    let mut whats = column(&world.get("f/history?alias=live").await.expect(200), "what");
    whats.reverse();
    whats
}

/// Calls the alias until its shift is over; answers with how long that took.
async fn call_until_over(world: &World, url: bool) -> Duration {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(15) {
        for _ in 0..20 {
            if url {
                world.ask_without_key("GET", "/fn/default/f:live/").send().await;
            } else {
                world.ran("f:live", json!({})).await;
            }
        }
        if world.get(ALIAS).await.expect(200).get("shift").is_none() {
            return began.elapsed();
        }
    }
    panic!("the shift goes on: {}", world.get(ALIAS).await.json());
}

#[tokio::test]
async fn a_good_version_goes_through_all_steps() {
    let world = world("fixed.reply").await;
    let body = json!({ "to": "2", "canary": ["10%", "50%", "100%"], "every_ms": 1_000, "stop_if": ["errors > 1%", "p99 > 100s"] });
    let begun = shift(&world, body).await;
    let view = begun.expect(200);
    assert_eq!(begun.header("etag"), format!("\"{}\"", view["revision"]));
    assert_eq!(
        view["targets"],
        json!([{ "version": "1", "weight": 900_000 }, { "version": "2", "weight": 100_000 }])
    );
    assert_eq!((&view["shift"]["step"], &view["shift"]["to"]), (&json!(1), &json!("2")));
    assert_eq!(view["shift"]["before"], json!([{ "version": "1", "weight": 1_000_000 }]));
    assert!(call_until_over(&world, false).await > Duration::from_millis(2_500));
    let view = world.get(ALIAS).await.expect(200);
    assert_eq!(view["targets"], json!([{ "version": "2", "weight": 1_000_000 }]));
    let whats = ["create", "shift-start", "shift-step", "shift-step", "shift-done"];
    assert_eq!(changes(&world).await, whats);
    let newest = world.get("f/history?alias=live&limit=1").await.expect(200)["items"][0].clone();
    assert_eq!(newest["who"], "hanshu");
    assert_eq!(newest.get("from"), None);
    // As one change, it is rolled back as one.
    let back = world.send("POST", &format!("{ALIAS}/rollback"), json!({})).await.expect(200);
    assert_eq!(back["targets"], json!([{ "version": "1", "weight": 1_000_000 }]));
}

/// A version that fails 5 % of its calls goes back within one window.
async fn is_taken_back(handler: &str, url: bool) {
    let world = world(handler).await;
    let body = json!({ "to": "2", "canary": ["50%", "100%"], "every_ms": 4_000 });
    shift(&world, body).await.expect(200);
    assert!(call_until_over(&world, url).await < Duration::from_millis(4_000));
    let view = world.get(ALIAS).await.expect(200);
    assert_eq!(view["targets"], json!([{ "version": "1", "weight": 1_000_000 }]));
    assert_eq!(changes(&world).await, ["create", "shift-start", "shift-stop"]);
    let stop = world.get("f/history?alias=live&limit=1").await.expect(200)["items"][0].clone();
    let reason = stop["reason"].as_str().unwrap();
    for part in ["errors of the new version is", "calls: stop if errors > 1%"] {
        assert!(reason.contains(part), "{reason}");
    }
    for _ in 0..50 {
        assert_eq!(world.ran("f:live", json!({})).await, "1");
    }
    // There is no way back into the middle of it.
    let back = world.send("POST", &format!("{ALIAS}/rollback"), json!({})).await.expect(200);
    assert_eq!(back["targets"], json!([{ "version": "1", "weight": 1_000_000 }]));
}

#[tokio::test]
async fn a_version_that_fails_is_taken_back() {
    is_taken_back("fail.some", false).await;
}

#[tokio::test]
async fn a_version_that_answers_with_errors_is_taken_back() {
    is_taken_back("fail.status", true).await;
}

#[tokio::test]
async fn a_version_whose_answers_break_off_is_taken_back() {
    is_taken_back("stream.cut", true).await;
}

#[tokio::test]
async fn a_shift_is_stopped_by_hand() {
    let world = world("fixed.reply").await;
    world.delete(SHIFT).await.refused(404, "not-found");
    let body = json!({ "to": "2", "every_ms": 60_000 });
    shift(&world, body.clone()).await.expect(200);
    let message = shift(&world, body.clone()).await.refused(409, "conflict");
    assert!(message.contains("shifts to version 2 already"), "{message}");
    let why = world.ask("DELETE", "/v1/namespaces/default/functions/f/aliases/live/shift");
    let view = why.header("x-hanshu-reason", "not today").send().await.expect(200);
    assert_eq!((&view["targets"][0]["version"], view.get("shift")), (&json!("1"), None));
    let newest = world.get("f/history?alias=live&limit=1").await.expect(200)["items"][0].clone();
    assert_eq!((&newest["what"], &newest["reason"]), (&json!("shift-stop"), &json!("not today")));

    // A new route ends a shift where it is, and is where a rollback leads from: not into the shift.
    shift(&world, body.clone()).await.expect(200);
    let put = world.send("PUT", ALIAS, json!({ "version": "2" })).await.expect(200);
    assert_eq!(put.get("shift"), None);
    world.delete(SHIFT).await.refused(404, "not-found");
    let back = world.send("POST", &format!("{ALIAS}/rollback"), json!({})).await.expect(200);
    assert_eq!(back["targets"], json!([{ "version": "1", "weight": 1_000_000 }]));

    // So does a rollback; a shadow does not.
    shift(&world, body).await.expect(200);
    let shadow = json!({ "version": "2", "share": "0%" });
    let view = world.send("PUT", "f/aliases/live/shadow", shadow).await.expect(200);
    assert_eq!(view["shift"]["to"], "2");
    let back = world.send("POST", &format!("{ALIAS}/rollback"), json!({})).await.expect(200);
    assert_eq!((&back["targets"][0]["version"], back.get("shift")), (&json!("1"), None));
}

#[tokio::test]
async fn bad_shifts_are_refused() {
    let world = world("fixed.reply").await;
    for (body, status, code, part) in [
        (json!({}), 400, "invalid-body", "to"),
        (json!({ "to": "9" }), 404, "not-found", "default/f:9"),
        (json!({ "to": "1" }), 400, "invalid-parameter", "to is 1"),
        (json!({ "to": "2", "canary": [] }), 400, "invalid-parameter", "canary has 0 steps"),
        (json!({ "to": "2", "canary": ["50%"] }), 400, "invalid-parameter", "canary is not valid"),
        (
            json!({ "to": "2", "canary": ["50%", "10%", "100%"] }),
            400,
            "invalid-parameter",
            "canary",
        ),
        (json!({ "to": "2", "canary": ["0%", "100%"] }), 400, "invalid-parameter", "canary"),
        (json!({ "to": "2", "canary": ["101%"] }), 400, "invalid-body", "canary[0]"),
        (
            json!({ "to": "2", "canary": ["100%"], "stop_if": ["errors > 1%", "p50 > 2x"] }),
            400,
            "invalid-parameter",
            "stop_if has 'p50 > 2x'",
        ),
        (json!({ "to": "2", "every_ms": 999 }), 400, "invalid-parameter", "every"),
        (json!({ "to": "2", "stop_if": ["errors"] }), 400, "invalid-body", "stop_if[0]"),
        (
            json!({ "to": "2", "stop_if": vec!["errors > 1%"; 11] }),
            400,
            "invalid-parameter",
            "stop_if",
        ),
    ] {
        let message = shift(&world, body.clone()).await.refused(status, code);
        assert!(message.contains(part), "{body}: {message}");
    }
    world.send("PUT", "f/aliases/none/shift", json!({ "to": "2" })).await.refused(404, "not-found");
    assert_eq!(changes(&world).await, ["create"]);
}

#[tokio::test]
async fn a_shift_goes_on_under_another_daemon() {
    let world = world("fixed.reply").await;
    let body = json!({ "to": "2", "canary": ["50%", "100%"], "every_ms": 1_000 });
    shift(&world, body).await.expect(200);
    let world = world.restart().await;
    assert_eq!(world.get(ALIAS).await.expect(200)["shift"]["to"], "2");
    let over = |view: &Value| view.get("shift").is_none().then(|| view["targets"].clone());
    let targets = world.until(ALIAS, over).await;
    assert_eq!(targets, json!([{ "version": "2", "weight": 1_000_000 }]));
    assert_eq!(changes(&world).await, ["create", "shift-start", "shift-step", "shift-done"]);
}

#[tokio::test]
async fn the_last_step_knows_how_the_others_did_before() {
    let world = world("fixed.reply").await;
    let body = json!({ "to": "2", "canary": ["50%", "100%"], "every_ms": 2_000 });
    shift(&world, body).await.expect(200);
    for _ in 0..60 {
        world.ran("f:live", json!({})).await;
    }
    world.until(ALIAS, |view| (view["shift"]["step"] == 2).then_some(())).await;
    let step = world.get("f/history?alias=live&limit=1").await.expect(200)["items"][0].clone();
    let path = format!("f/history/{}", step["revision"]);
    let baseline = world.get(&path).await.expect(200)["after"]["shift"]["baseline"].clone();
    assert!(baseline["calls"].as_u64().unwrap() >= 20, "{baseline}");
    assert_eq!((&baseline["errors"], &baseline["p99_us"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn a_shift_goes_back_where_the_record_is_full() {
    use model::function::Function;
    use model::ports::{Expect, Meta as _};

    for by_hand in [false, true] {
        let world = world("fail.handler").await;
        let described = json!({ "version": "1", "description": "d".repeat(1_000) });
        world.send("PUT", ALIAS, described).await.expect(200);
        shift(&world, json!({ "to": "2", "canary": ["50%", "100%"] })).await.expect(200);
        world.send("PATCH", "f/config", json!({ "memory_mb": 256 })).await.expect(200);
        // Others fill the record: nothing of over 300 bytes goes in any more.
        let key = "function/default/f";
        let stored = world.meta.get(key).await.unwrap().unwrap();
        let mut function: Function = serde_json::from_slice(&stored.value).unwrap();
        let left =
            |function: &Function| 1024 * 1024 - 300 - serde_json::to_vec(function).unwrap().len();
        let mut filler = function.aliases.values().next().unwrap().clone();
        filler.rollout = None;
        filler.alias.description = "d".repeat(10_000);
        for n in 0..left(&function) / 11_000 {
            function.aliases.insert(format!("a{n}").parse().unwrap(), filler.clone());
        }
        let rest = "d".repeat(left(&function));
        let first = function.aliases.values_mut().next().unwrap();
        first.alias.description.push_str(&rest);
        assert_eq!(left(&function), 0);
        let value = serde_json::to_vec(&function).unwrap();
        world.meta.put_if(key, Expect::Revision(stored.revision), value.into()).await.unwrap();

        if by_hand {
            world.delete(SHIFT).await.expect(200);
        } else {
            for _ in 0..100 {
                world.send("POST", "f:live/invoke", json!({})).await;
            }
        }
        let over = |view: &Value| view.get("shift").is_none().then(|| view["targets"].clone());
        let targets = world.until(ALIAS, over).await;
        assert_eq!(targets, json!([{ "version": "1", "weight": 1_000_000 }]));
        let whats = ["create", "configure", "shift-start", "shift-stop"];
        assert_eq!(changes(&world).await, whats);
    }
}
