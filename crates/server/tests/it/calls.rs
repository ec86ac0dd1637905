//! Calls through the API.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::world::World;

const INVOKE: &str = "/v1/namespaces/default/functions/f/invoke";

#[tokio::test]
async fn the_payload_passes_as_it_is() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let reply = world.ask("POST", INVOKE).body("{\"a\" :  1}").send().await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"{\"a\" :  1}".as_slice()));
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("x-hanshu-version"), "$LATEST");
    assert_eq!(reply.header("x-hanshu-request-id").len(), 36);
    assert_eq!(reply.header("x-hanshu-timings"), "");
}

#[tokio::test]
async fn timings_come_when_asked_for() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    for cold in [true, false] {
        let reply = world.ask("POST", INVOKE).header("X-Hanshu-Timings", "1").send().await;
        let timings: Value = serde_json::from_str(reply.header("x-hanshu-timings")).unwrap();
        assert_eq!(timings["cold"], cold, "{timings}");
        assert!(timings["total_us"].is_u64());
    }
    let reply = world.ask("GET", "/fn/default/f").header("x-hanshu-timings", "1").send().await;
    assert!(reply.header("x-hanshu-timings").contains("handler_us"));
}

#[tokio::test]
async fn a_functions_failure_is_an_answer() {
    let world = World::start().await;
    for (handler, kind) in [("fail.handler", "handler"), ("fail.timeout", "timeout")] {
        world.function("f", handler, "").await;
        let reply = world.ask("POST", INVOKE).send().await;
        assert_eq!((reply.status, reply.header("x-hanshu-function-error")), (200, kind));
        assert!(reply.json()["errorMessage"].is_string());
    }
}

#[tokio::test]
async fn asynchronous_calls_are_accepted_and_run() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let reply =
        world.ask("POST", INVOKE).header("x-hanshu-invocation", "async").body("1").send().await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json(), json!({ "request_id": reply.header("x-hanshu-request-id") }));
    for _ in 0..100 {
        if world.sandbox.calls.load(std::sync::atomic::Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the call never ran");
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let dry = |path: &str| world.ask("POST", path).header("x-hanshu-invocation", "dry-run");
    assert_eq!(dry(INVOKE).send().await.status, 204);
    dry(&INVOKE.replace("/f/", "/g/")).send().await.refused(404, "not-found");
    assert_eq!(world.sandbox.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn bad_headers_are_refused() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let not_json = base64::engine::general_purpose::STANDARD.encode("{");
    for (name, value) in [
        ("x-hanshu-invocation", "later"),
        ("x-hanshu-client-context", "%%%"),
        ("x-hanshu-client-context", &not_json),
    ] {
        let message = world
            .ask("POST", INVOKE)
            .header(name, value)
            .send()
            .await
            .refused(400, "invalid-parameter");
        assert!(message.contains(name), "{message}");
    }
}

#[tokio::test]
async fn a_stopped_function_throttles() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let patch = json!({ "max_instances": 0 });
    world.ask("PATCH", "/v1/namespaces/default/functions/f/config").json(&patch).send().await;
    world.ask("POST", INVOKE).send().await.refused(429, "throttled");
    world.ask("GET", "/fn/default/f").send().await.refused(429, "throttled");
}

#[tokio::test]
async fn use_is_reported() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    world.ask("POST", INVOKE).send().await;
    let usage = "/v1/namespaces/default/functions/f/usage";
    for _ in 0..100 {
        let rows = world.ask("GET", usage).send().await.json();
        if let Some(row) = rows["items"].get(0) {
            assert_eq!((&row["requests"], &row["version"]), (&json!(1), &json!("$LATEST")));
            assert!(row["minute"].as_str().unwrap().ends_with(":00.000Z"), "{row}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no use was reported");
}
