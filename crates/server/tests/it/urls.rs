//! Function URLs: events in, replies out.

use base64::Engine as _;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_request_arrives_as_an_event() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let path = "/fn/default/f/a/b%20c?x=1";
    let reply = world
        .ask_without_key("POST", path)
        .header("content-type", "text/plain")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body("hi")
        .send()
        .await;
    assert_eq!(reply.status, 200);
    let event = reply.json();
    assert_eq!(event["rawPath"], "/a/b%20c");
    assert_eq!(event["body"], "hi");
    assert_eq!(event["headers"].get("x-hop"), None);
    assert_eq!(event["requestContext"]["http"]["method"], "POST");
    assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.0.0.1");
    assert_eq!(event["requestContext"]["domainName"], "127.0.0.1");
    assert_eq!(event["requestContext"]["requestId"], reply.header("x-hanshu-request-id"));
}

#[tokio::test]
async fn every_method_reaches_the_function() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let reply = world.ask_without_key(method, "/fn/default/f").send().await;
        assert_eq!(reply.json()["requestContext"]["http"]["method"], method);
    }
    let head = world.ask_without_key("HEAD", "/fn/default/f").send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_ne!(head.header("content-length"), "0");
}

#[tokio::test]
async fn a_reply_becomes_the_response() {
    let world = World::start().await;
    let reply = json!({
        "statusCode": 418,
        "headers": { "X-A": "1", "Content-Length": "99", "Connection": "x-a" },
        "cookies": ["a=1", "b=2"],
        "body": base64::engine::general_purpose::STANDARD.encode([0, 159]),
        "isBase64Encoded": true,
    });
    world.function("f", "fixed.reply", &reply.to_string()).await;
    let response = world.ask_without_key("GET", "/fn/default/f").send().await;
    assert_eq!((response.status, response.body.as_slice()), (418, [0, 159].as_slice()));
    assert_eq!(response.header("x-a"), "1");
    assert_eq!(response.headers["set-cookie"], ["a=1", "b=2"]);
}

#[tokio::test]
async fn a_bad_reply_is_a_bad_gateway() {
    let world = World::start().await;
    world.function("f", "fixed.reply", r#"{"statusCode":"many"}"#).await;
    let response = world.ask_without_key("GET", "/fn/default/f").send().await;
    assert_eq!(response.status, 502);
    let body = response.json();
    assert!(body["message"].as_str().unwrap().contains("statusCode"), "{body}");
    assert_eq!(body["requestId"], response.header("x-hanshu-request-id"));
}

#[tokio::test]
async fn failures_show_their_details_in_dev_mode_only() {
    for (world, dev) in [(World::start().await, false), (World::dev().await, true)] {
        world.function("f", "fail.handler", "").await;
        let response = world.ask_without_key("GET", "/fn/default/f").send().await;
        assert_eq!(response.status, 502);
        assert_eq!(response.json().get("errorMessage").is_some(), dev);
        world.function("f", "fail.timeout", "").await;
        assert_eq!(world.ask_without_key("GET", "/fn/default/f").send().await.status, 504);
    }
}

#[tokio::test]
async fn unknown_functions_and_paths_are_refused() {
    let world = World::start().await;
    world.ask("GET", "/fn/default/none").send().await.refused(404, "not-found");
    world.ask_without_key("GET", "/fn/default/none").send().await.refused(401, "unauthenticated");
    world.ask("GET", "/fn/default").send().await.refused(404, "no-route");
    world.ask("GET", "/fn/default/a.b/").send().await.refused(400, "invalid-name");
}

#[tokio::test]
async fn a_version_has_its_own_url() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "1").await;
    world.ask("POST", "/v1/namespaces/default/functions/f/versions").send().await;
    world.function("f", "fixed.reply", "2").await;
    for (path, body) in
        [("/fn/default/f:1/x", "1"), ("/fn/default/f", "2"), ("/fn/default/f%3A1", "1")]
    {
        let response = world.ask_without_key("GET", path).send().await;
        assert_eq!(response.body, body.as_bytes(), "{path}");
    }
}
