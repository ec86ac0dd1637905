//! Changes that meet at the worst moment: one is held up between its look and its write while another is made.

use std::sync::atomic::Ordering;
use std::time::Duration;

use model::clock::UnixMillis;
use model::ids::{FunctionRef, Qualifier};
use model::ports::{LogLine, LogQuery, LogStream, Logs as _, Meta as _};
use serde_json::{Value, json};

use crate::ports::Held;
use crate::world::{Reply, World, column, config, zipped};

const F: &str = "function/default/f";
const L: &str = "/v1/namespaces/default/layers/lib";

async fn put(world: &World, path: &str, mut config: Value, layers: Value) -> Reply {
    config["layers"] = layers;
    let namespace = if path.starts_with("/v1/namespaces/n/") { "n" } else { "default" };
    let code = world.package_in(namespace, "code").await;
    world.send("PUT", path, json!({ "config": config, "code": code, "publish": true })).await
}

async fn bodies(world: &World) -> usize {
    world.meta.list("version/", None, 99).await.unwrap().len()
}

#[tokio::test]
async fn no_number_is_given_twice_when_a_creation_meets_one_and_its_deletion() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "1").await;
    world.delete("f").await.expect(204);
    let hold = world.seen.hold(Held::Write(F, 0));
    let (slow, ()) = tokio::join!(
        world.function("f", "fixed.reply", "slow"),
        hold.meanwhile(async {
            world.function("f", "fixed.reply", "2").await;
            world.delete("f").await.expect(204);
        }),
    );
    assert_eq!(slow["revision"], 5);
    let history = world.get("f/history").await.expect(200);
    assert_eq!(column(&history, "revision"), [5, 4, 3, 2, 1]);
    assert_eq!(column(&history, "what"), ["create", "delete", "create", "delete", "create"]);
}

#[tokio::test]
async fn an_answer_shows_what_was_published_though_a_layer_moved_meanwhile() {
    let world = World::start().await;
    for content in [b"1", b"2"] {
        let layer = world.ask("POST", &format!("{L}/versions")).body(zipped(&[("a", content)]));
        layer.send().await.expect(201);
    }
    let point = |to: u64| {
        world.send(
            "PUT",
            "/v1/namespaces/default/layers/lib/aliases/stable",
            json!({ "version": to }),
        )
    };
    point(1).await.expect(200);
    put(&world, "f", config("fixed.reply", "1"), json!(["lib:stable"])).await.expect(201);
    let hold = world.seen.hold(Held::Write(F, 0));
    let (deployed, moved) = tokio::join!(
        put(&world, "f", config("fixed.reply", "2"), json!(["lib:stable"])),
        hold.meanwhile(point(2)),
    );
    assert_eq!(moved.expect(200)["functions"], json!(["f"]));
    let deployed = deployed.expect(200);
    assert_eq!(deployed["version"], "2", "{deployed}");
    assert_eq!(deployed["layers"][0]["version"], 1, "{deployed}");
    assert_eq!(world.get("f").await.expect(200)["layers"][0]["version"], 2);
}

#[tokio::test]
async fn the_logs_of_a_namesake_stay() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "1").await;
    let key = FunctionRef::parse("default", "f").unwrap().key;
    let line = |text: &str| LogLine {
        time: UnixMillis(1),
        function: key.clone(),
        version: Qualifier::Latest,
        request: None,
        stream: LogStream::Stdout,
        text: text.into(),
    };
    world.logs.append(vec![line("old")]);
    world.logs.delete_ms.store(300, Ordering::SeqCst);
    let again = async {
        while world.get("f").await.status == 200 {
            tokio::task::yield_now().await;
        }
        world.function("f", "fixed.reply", "2").await;
        world.logs.append(vec![line("new")]);
    };
    let (deleted, ()) = tokio::join!(world.delete("f"), again);
    deleted.expect(204);
    let lines = world.logs.query(LogQuery::newest(key.clone(), 9)).await.unwrap();
    assert_eq!(lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["new"]);
}

#[tokio::test]
async fn no_body_is_left_of_a_publication_that_lost_its_function() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "1").await;
    let hold = world.seen.hold(Held::Write(F, 0));
    let (published, deleted) = tokio::join!(
        world.send("POST", "f/versions", json!({})),
        hold.meanwhile(world.delete("f")),
    );
    deleted.expect(204);
    published.refused(404, "not-found");
    assert_eq!(bodies(&world).await, 0);
    // A creation that lost to another.
    let hold = world.seen.hold(Held::Write(F, 0));
    let (second, first) = tokio::join!(
        put(&world, "f", config("fixed.reply", "1"), json!([])),
        hold.meanwhile(put(&world, "f", config("fixed.reply", "1"), json!([]))),
    );
    first.expect(201);
    second.expect(200);
    assert_eq!(bodies(&world).await, 1);
}

#[tokio::test]
async fn a_creation_is_undone_with_what_the_function_was() {
    let world = World::start().await;
    world.namespace("n", json!({}), json!({})).await;
    let f = "/v1/namespaces/n/functions/f";
    world.package_in("n", "code").await;
    // Before that it is read for the package, for its rules and before the creation.
    let hold = world.seen.hold(Held::Read("namespace/n", 3));
    let (refused, ()) = tokio::join!(
        put(&world, f, config("fixed.reply", "1"), json!([])),
        hold.meanwhile(async {
            world
                .send("PUT", &format!("{f}/aliases/live"), json!({ "version": "1" }))
                .await
                .expect(201);
            let namespace = world.meta.get("namespace/n").await.unwrap().unwrap();
            world.meta.delete_if("namespace/n", namespace.revision).await.unwrap();
        }),
    );
    refused.refused(404, "not-found");
    let undone = world.get(&format!("{f}/history/3")).await.expect(200);
    assert_eq!((&undone["what"], &undone["who"]), (&json!("delete"), &json!("hanshu")));
    assert_eq!(undone["before"]["config"]["handler"], "fixed.reply", "{undone}");
}

#[tokio::test]
async fn a_key_made_during_the_deletion_of_its_namespace_goes_with_it() {
    let world = World::start().await;
    world.namespace("n", json!({}), json!({})).await;
    let hold = world.seen.hold(Held::Write("key/late", 0));
    let new = json!({ "name": "late", "namespace": "n" });
    let gone = async {
        while world.get("/v1/namespaces/n").await.status == 200 {
            tokio::task::yield_now().await;
        }
        // Long enough for a deletion that waits for nobody.
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let (made, deleted, ()) = tokio::join!(
        world.send("POST", "/v1/keys", new),
        world.delete("/v1/namespaces/n"),
        hold.meanwhile(gone),
    );
    made.expect(201);
    deleted.expect(204);
    assert_eq!(column(&world.get("/v1/keys").await.expect(200), "name"), ["root"]);
    world.namespace("n", json!({}), json!({})).await;
    assert_eq!(column(&world.get("/v1/keys").await.expect(200), "name"), ["root"]);
}
