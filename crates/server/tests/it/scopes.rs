//! Keys: of everything, of one namespace; made, listed, deleted. Every operation of the document is tried with each.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::authorization::concrete;
use crate::contract::{document, operations};
use crate::world::{World, column, config};

/// Operations that only a key of everything may use.
const OPERATORS: &[&str] = &[
    "DELETE /v1/keys/{key}",
    "DELETE /v1/namespaces/{namespace}",
    "GET /v1/keys",
    "PATCH /v1/namespaces/{namespace}",
    "POST /v1/keys",
    "POST /v1/namespaces",
];

#[tokio::test]
async fn a_key_of_one_namespace_opens_that_one_only() {
    let world = World::start().await;
    for namespace in ["ours", "theirs"] {
        world.namespace(namespace, json!({}), json!({})).await;
        let put = json!({
            "config": config("echo.event", ""),
            "code": world.package_in(namespace, "one").await,
            "publish": true,
            "settings": { "url_auth": "key" },
        });
        let path = format!("/v1/namespaces/{namespace}/functions/hello");
        world.send("PUT", &path, put).await.expect(201);
        let alias = json!({ "version": "1" });
        world.send("PUT", &format!("{path}/aliases/live"), alias).await.expect(201);
    }
    let key = world.new_key("ours", Some("ours")).await;
    let mut operators = Vec::new();
    for (method, path, operation) in operations(&document(&world).await) {
        let at = format!("{method} {path}");
        if operation.get("security").is_some() || method == "HEAD" {
            continue;
        }
        if path.contains("{namespace}") {
            for namespace in ["theirs", "nowhere"] {
                let foreign = world.ask_as(&key, &method, &concrete(&path, namespace)).send().await;
                let message = foreign.refused(404, "not-found");
                assert!(message.contains(namespace), "{at}: {message}");
            }
        }
        let own = world.ask_as(&key, &method, &concrete(&path, "ours")).send().await;
        assert_ne!(own.status, 401, "{at}: {own:?}");
        if own.status == 403 {
            let message = own.refused(403, "forbidden");
            assert!(message.contains("opens namespace 'ours' only"), "{at}: {message}");
            operators.push(at);
        } else if own.status == 404 {
            // A thing of the namespace that the deletions before it took away, or that was never there.
            let message = own.refused(404, "not-found");
            assert!(!message.starts_with("namespace"), "{at}: {message}");
        }
    }
    operators.sort();
    assert_eq!(operators, OPERATORS);
    // Nothing came of what was refused.
    let all = column(&world.get("/v1/namespaces").await.expect(200), "name");
    assert_eq!(all, ["default", "ours", "theirs"]);
    world.get("/v1/namespaces/theirs/functions/hello/aliases/live").await.expect(200);
    let listed = world.ask_as(&key, "GET", "/v1/namespaces").send().await.expect(200);
    assert_eq!(column(&listed, "name"), ["ours"]);
    for (page, names) in [("after=nobody", vec![json!("ours")]), ("after=ours", vec![])] {
        let page = world.ask_as(&key, "GET", &format!("/v1/namespaces?{page}")).send().await;
        assert_eq!(column(&page.expect(200), "name"), names);
    }
    let none = world.ask_as(&key, "GET", "/v1/namespaces?limit=0").send().await;
    none.refused(400, "invalid-parameter");
    let escaped = world.ask_as(&key, "GET", "/v1/namespaces/%74heirs/functions").send().await;
    escaped.refused(404, "not-found");
}

#[tokio::test]
async fn a_key_goes_with_its_namespace() {
    let world = World::start().await;
    world.namespace("ours", json!({}), json!({})).await;
    let key = world.new_key("ours", Some("ours")).await;
    world.new_key("everything", None).await;
    world.delete("/v1/namespaces/ours").await.expect(204);
    world.namespace("ours", json!({}), json!({})).await;
    let world = world.restart().await;
    for path in ["/v1/namespaces", "/v1/namespaces/ours"] {
        world.ask_as(&key, "GET", path).send().await.refused(401, "unauthenticated");
    }
    let left = column(&world.get("/v1/keys").await.expect(200), "name");
    assert_eq!(left, ["everything", "root"]);
}

#[tokio::test]
async fn a_url_that_asks_for_a_key_does_not_take_that_of_another_namespace() {
    let world = World::start().await;
    world.namespace("theirs", json!({}), json!({})).await;
    world.function("f", "fixed.reply", "1").await;
    world.send("PATCH", "f/config", json!({ "url_auth": "key" })).await.expect(200);
    let own = world.new_key("own", Some("default")).await;
    let foreign = world.new_key("foreign", Some("theirs")).await;
    let url = |key: &str, path: &str| world.ask_as(key, "GET", path).send();
    assert_eq!(url(&own, "/fn/default/f/").await.status, 200);
    let there = url(&foreign, "/fn/default/f/").await;
    let message = there.refused(404, "not-found");
    // Whether there is such a function does not show.
    let not_there = url(&foreign, "/fn/default/g/").await.refused(404, "not-found");
    assert_eq!(message, not_there.replace("default/g", "default/f"));
    for path in ["/fn/default/f:9/", "/fn/default/f:live/"] {
        assert_eq!(url(&foreign, path).await.refused(404, "not-found"), message);
    }
    url("hsk_wrong", "/fn/default/f/").await.refused(401, "unauthenticated");
    // An open URL is open to everybody.
    world.send("PATCH", "f/config", json!({ "url_auth": "none" })).await.expect(200);
    assert_eq!(url(&foreign, "/fn/default/f/").await.status, 200);
}

#[tokio::test]
async fn keys_are_made_shown_once_and_deleted() {
    let world = World::start().await;
    let new = json!({ "name": "ci", "namespace": "default" });
    let made = world.send("POST", "/v1/keys", new.clone()).await.expect(201);
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("hsk_") && key.len() == 47, "{key}");
    assert_eq!((&made["namespace"], &made["created_by"]), (&json!("default"), &json!("root")));
    world.send("POST", "/v1/keys", new).await.refused(409, "already-exists");
    for reserved in ["hanshu", "dev"] {
        let new = json!({ "name": reserved });
        world.send("POST", "/v1/keys", new).await.refused(400, "invalid-name");
    }
    let listed = world.get("/v1/keys").await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(&key));
    assert_eq!(column(&listed.json(), "name"), ["ci", "root"]);

    // It is its maker in the history, and survives a restart.
    let world = world.restart().await;
    let put = json!({ "config": config("echo.event", ""), "code": world.package("one").await });
    let path = "/v1/namespaces/default/functions/f";
    world.ask_as(&key, "PUT", path).json(&put).send().await.expect(201);
    assert_eq!(world.get("f/history").await.json()["items"][0]["who"], "ci");

    world.delete("/v1/keys/ci").await.expect(204);
    world.ask_as(&key, "GET", path).send().await.refused(401, "unauthenticated");
    world.delete("/v1/keys/ci").await.refused(404, "not-found");
    let world = world.restart().await;
    world.ask_as(&key, "GET", path).send().await.refused(401, "unauthenticated");
    world.get(path).await.expect(200);

    for (body, status, code, part) in [
        (json!({}), 400, "invalid-body", "name"),
        (json!({ "name": "" }), 400, "invalid-name", "key"),
        (json!({ "name": "a b" }), 400, "invalid-name", "key"),
        (json!({ "name": "a/b" }), 400, "invalid-name", "key"),
        (json!({ "name": "x".repeat(65) }), 400, "invalid-name", "key"),
        (json!({ "name": "k", "namespace": "a.b" }), 400, "invalid-name", "namespace"),
        (json!({ "name": "k", "namespace": "nowhere" }), 404, "not-found", "nowhere"),
        (json!({ "name": "k", "admin": true }), 400, "invalid-body", "admin"),
    ] {
        let message = world.send("POST", "/v1/keys", body.clone()).await.refused(status, code);
        assert!(message.contains(part), "{body}: {message}");
    }
    assert_eq!(column(&world.get("/v1/keys").await.json(), "name"), ["root"]);
}

#[tokio::test]
async fn the_last_key_of_everything_stays() {
    let world = World::start().await;
    world.new_key("scoped", Some("default")).await;
    let message = world.delete("/v1/keys/root").await.refused(403, "forbidden");
    assert!(message.contains("'root' is the last one"), "{message}");
    let other = world.new_key("other", None).await;
    // Each of two deletes the other one: only one of them may.
    let (first, second) = tokio::join!(
        world.delete("/v1/keys/other"),
        world.ask_as(&other, "DELETE", "/v1/keys/root").send(),
    );
    let gone = [&first, &second].iter().filter(|reply| reply.status == 204).count();
    assert_eq!(gone, 1, "{first:?} {second:?}");
    let left = if first.status == 204 { &world.key } else { &other };
    world.ask_as(left, "GET", "/v1/keys").send().await.expect(200);
}

#[tokio::test]
async fn a_deletion_whose_client_went_away_deletes_the_key_all_the_same() {
    let world = World::start().await;
    let key = world.new_key("gone", None).await;
    world.seen.delete_ms.store(300, std::sync::atomic::Ordering::SeqCst);
    let mut connection = world.connect().await;
    let request = format!(
        "DELETE /v1/keys/gone HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
        world.address, world.key
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(connection);
    for _ in 0..100 {
        if column(&world.get("/v1/keys").await.json(), "name") == [Value::from("root")] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    world.ask_as(&key, "GET", "/v1/keys").send().await.refused(401, "unauthenticated");
}
