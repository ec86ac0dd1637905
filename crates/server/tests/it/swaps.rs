//! Changes of functions in use: what cannot be loaded takes no calls.

use serde_json::{Value, json};

use crate::world::{Reply, World, config};

const FUNCTION: &str = "/v1/namespaces/default/functions/f";

async fn put(world: &World, handler: &str, reply: &str, force: bool) -> Reply {
    let body = json!({ "config": config(handler, reply), "publish": true, "force": force });
    world.ask("PUT", FUNCTION).json(&body).send().await
}

async fn call(world: &World, name: &str) -> String {
    let path = format!("/v1/namespaces/default/functions/{name}/invoke");
    String::from_utf8(world.ask("POST", &path).body("{}").send().await.body).unwrap()
}

async fn revisions(world: &World) -> usize {
    let history = world.ask("GET", &format!("{FUNCTION}/history")).send().await;
    history.json()["items"].as_array().unwrap().len()
}

fn refused(reply: &Reply) {
    let message = reply.refused(422, "init-failed");
    assert!(message.contains("SyntaxError: unexpected token"), "{message}");
}

/// A function in use with version 1.
async fn world() -> World {
    let world = World::start().await;
    world.function("f", "fixed.reply", "old").await;
    assert_eq!(put(&world, "fixed.reply", "old", false).await.status, 200);
    assert_eq!(call(&world, "f").await, "old");
    world
}

#[tokio::test]
async fn a_deploy_that_cannot_be_loaded_changes_nothing_unless_forced() {
    let world = world().await;
    let before = revisions(&world).await;
    refused(&put(&world, "fail.init", "new", false).await);
    let patch = json!({ "handler": "fail.init" });
    let patched =
        |query: &str| world.ask("PATCH", &format!("{FUNCTION}/config{query}")).json(&patch);
    refused(&patched("").send().await);
    assert_eq!(call(&world, "f").await, "old");
    assert_eq!(revisions(&world).await, before);
    let missing = world.ask("GET", &format!("{FUNCTION}/versions/2")).send().await;
    assert_eq!(missing.status, 404, "nothing was published");

    assert_eq!(patched("?force=true").send().await.status, 200);
    assert!(call(&world, "f").await.contains("SyntaxError"));
    // And on from there: what is broken has no instances that anything would be compared with.
    assert_eq!(put(&world, "fixed.reply", "new", false).await.status, 200);
    assert_eq!(call(&world, "f").await, "new");
}

#[tokio::test]
async fn code_refuses_and_forces_alike() {
    let world = world().await;
    let body = json!({ "handler": "fail.init" });
    let path = format!("{FUNCTION}/config?force=true");
    assert_eq!(world.ask("PATCH", &path).json(&body).send().await.status, 200);
    let code = |query: &str| {
        let path = format!("{FUNCTION}/code?filename=index.js{query}");
        world.ask("PUT", &path).body("other code")
    };
    // Nothing lives: nobody is asked.
    assert_eq!(code("").send().await.status, 200);
    assert_eq!(code("&force=true").send().await.status, 200);
}

#[tokio::test]
async fn a_function_that_nobody_calls_takes_any_code() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "old").await;
    assert_eq!(put(&world, "fail.init", "new", false).await.status, 200);
}

#[tokio::test]
async fn an_alias_goes_to_no_version_that_cannot_be_loaded() {
    let world = world().await;
    let alias = format!("{FUNCTION}/aliases/live");
    let ask = |method: &str, path: &str, body: &Value| world.ask(method, path).json(body);
    assert_eq!(ask("PUT", &alias, &json!({ "version": "1" })).send().await.status, 201);
    assert_eq!(call(&world, "f:live").await, "old");
    assert_eq!(put(&world, "fail.init", "new", true).await.status, 200);

    let to_broken = json!({ "version": "2" });
    refused(&ask("PUT", &alias, &to_broken).send().await);
    let shift = json!({ "to": "2", "canary": ["50%", "100%"], "every_ms": 60_000 });
    refused(&ask("PUT", &format!("{alias}/shift"), &shift).send().await);
    assert_eq!(call(&world, "f:live").await, "old");

    let forced = format!("{alias}/shift?force=true");
    let reply = ask("PUT", &forced, &shift).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // The way back needs no force.
    let reply = world.ask("DELETE", &format!("{alias}/shift")).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = ask("PUT", &format!("{alias}?force=true"), &to_broken).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(call(&world, "f:live").await.contains("SyntaxError"));
    let reply = ask("POST", &format!("{alias}/rollback"), &json!({})).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(call(&world, "f:live").await, "old");
}
