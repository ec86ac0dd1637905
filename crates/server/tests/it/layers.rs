//! Layers: published, named, attached, followed, deleted.

use serde_json::{Value, json};

use crate::world::{Reply, World, column, config, zipped};

const L: &str = "/v1/namespaces/default/layers";

async fn publish(world: &World, layer: &str, content: &str) -> Reply {
    let zip = zipped(&[("lib.js", content.as_bytes())]);
    world.ask("POST", &format!("{L}/{layer}/versions")).body(zip).send().await
}

async fn point(world: &World, alias: &str, version: u64) -> Value {
    let path = format!("{L}/{}", alias.replace(':', "/aliases/"));
    world.send("PUT", &path, json!({ "version": version })).await.expect(200)
}

/// Puts a function with these layers.
async fn put(world: &World, name: &str, layers: Value) -> Reply {
    let mut config = config("fixed.reply", "1");
    config["layers"] = layers;
    let put = json!({ "config": config, "code": world.package("one").await });
    world.send("PUT", name, put).await
}

fn attached(view: &Value) -> Vec<String> {
    let layers = view["layers"].as_array().unwrap().iter();
    layers.map(|l| format!("{}:{}", l["name"].as_str().unwrap(), l["version"])).collect()
}

#[tokio::test]
async fn a_layer_is_published_listed_shown_and_downloaded() {
    let world = World::start().await;
    let zip = zipped(&[("python/numpy.py", b"1")]);
    let path = format!("{L}/numpy/versions?description=arrays&runtimes=python3.11,%20python3.12");
    let first = world.ask("POST", &path).body(zip.clone()).send().await.expect(201);
    assert_eq!((&first["layer"], &first["version"]), (&json!("numpy"), &json!(1)));
    assert_eq!(first["runtimes"], json!(["python3.11", "python3.12"]));
    assert_eq!(first["description"], "arrays");
    let again = world.ask("POST", &path).body(zip.clone()).send().await.expect(200);
    assert_eq!(again, first);
    let other = world.ask("POST", &format!("{L}/numpy/versions")).body(zip.clone()).send().await;
    assert_eq!(other.expect(201)["version"], 2, "another description is another version");
    publish(&world, "aaa", "1").await.expect(201);

    let page = world.get(&format!("{L}?limit=1")).await.expect(200);
    assert_eq!((column(&page, "name"), &page["next"]), (vec![json!("aaa")], &json!("aaa")));
    let rest = world.get(&format!("{L}?after=aaa")).await.expect(200);
    assert_eq!(column(&rest, "name"), ["numpy"]);
    let shown = world.get(&format!("{L}/numpy")).await;
    assert_eq!(shown.header("etag"), "\"2\"");
    assert_eq!(shown.json()["latest"]["version"], 2);
    let versions = world.get(&format!("{L}/numpy/versions?limit=1")).await.expect(200);
    assert_eq!((column(&versions, "version"), &versions["next"]), (vec![json!(1)], &json!("1")));
    assert_eq!(world.get(&format!("{L}/numpy/versions/1")).await.expect(200), first);
    let code = world.get(&format!("{L}/numpy/versions/1/code")).await;
    assert_eq!((code.header("content-type"), &code.body), ("application/zip", &zip));
    let digest = format!("\"{}\"", first["code"]["digest"].as_str().unwrap());
    let known =
        world.ask("GET", &format!("{L}/numpy/versions/1/code")).header("if-none-match", &digest);
    assert_eq!(known.send().await.status, 304);

    for path in
        ["none", "numpy/versions/9", "numpy/versions/9/code", "none/versions", "none/history"]
    {
        world.get(&format!("{L}/{path}")).await.refused(404, "not-found");
    }
    let bad = |path: &str| world.ask("POST", &format!("{L}/{path}"));
    bad("l/versions").body("no zip").send().await.refused(400, "invalid-package");
    bad("a.b/versions").body(zipped(&[])).send().await.refused(400, "invalid-name");
    let long = "d".repeat(1_001);
    let message = bad(&format!("l/versions?description={long}")).body(zipped(&[])).send().await;
    assert!(message.refused(400, "invalid-parameter").contains("description"));
    let message = bad("l/versions?colour=red").body(zipped(&[])).send().await;
    assert!(message.refused(400, "invalid-parameter").contains("colour"));
    let nowhere = world.ask("POST", "/v1/namespaces/nowhere/layers/l/versions").body(zipped(&[]));
    nowhere.send().await.refused(404, "not-found");
}

#[tokio::test]
async fn layers_are_attached_in_their_order() {
    let world = World::start().await;
    for layer in ["a", "b", "c", "d", "e", "g"] {
        publish(&world, layer, "1").await.expect(201);
    }
    publish(&world, "a", "2").await.expect(201);
    point(&world, "a:stable", 1).await;
    let view = put(&world, "f", json!(["c:1", "a:stable", "b:1"])).await.expect(201);
    assert_eq!(attached(&view), ["c:1", "a:1", "b:1"]);
    assert_eq!(view["config"]["layers"], json!(["c:1", "a:stable", "b:1"]));
    let swapped =
        world.send("PATCH", "f/config", json!({ "layers": ["a:2", "c:1"] })).await.expect(200);
    assert_eq!(attached(&swapped), ["a:2", "c:1"]);
    put(&world, "f", json!(["a:1", "b:1", "c:1", "d:1", "e:1"])).await.expect(200);

    for (layers, status, code, part) in [
        (json!(["none:1"]), 404, "not-found", "none"),
        (json!(["a:9"]), 404, "not-found", "default/a:9"),
        (json!(["a:canary"]), 404, "not-found", "default/a:canary"),
        (json!(["a"]), 400, "invalid-body", "layer 'a'"),
        (json!(["a:1", "a:2"]), 400, "invalid-parameter", "layers"),
        (json!(["a:1", "b:1", "c:1", "d:1", "e:1", "g:1"]), 400, "invalid-parameter", "layers"),
    ] {
        let put = put(&world, "f", layers.clone()).await.refused(status, code);
        let patch = world.send("PATCH", "f/config", json!({ "layers": layers })).await;
        for message in [put, patch.refused(status, code)] {
            assert!(message.contains(part), "{layers}: {message}");
        }
    }
    assert_eq!(world.get("f").await.expect(200)["layers"].as_array().unwrap().len(), 5);
    // Layers of other namespaces are not to be had.
    world.namespace("n", json!({}), json!({})).await;
    let mut config = config("fixed.reply", "1");
    config["layers"] = json!(["a:1"]);
    let body = json!({ "config": config, "code": world.package_in("n", "one").await });
    let message =
        world.send("PUT", "/v1/namespaces/n/functions/f", body).await.refused(404, "not-found");
    assert!(message.contains("n/a"), "{message}");
    world.get("/v1/namespaces/n/layers/a").await.refused(404, "not-found");
}

#[tokio::test]
async fn code_and_layers_have_250_megabytes_together() {
    let world = World::start().await;
    let big = |n: u8| zipped(&[("big.bin", &[n])]);
    for (layer, n) in [("a", 1), ("b", 2)] {
        world.ask("POST", &format!("{L}/{layer}/versions")).body(big(n)).send().await.expect(201);
    }
    publish(&world, "b", "small").await.expect(201);
    put(&world, "f", json!(["a:1"])).await.expect(201);
    let message = put(&world, "f", json!(["a:1", "b:1"])).await.refused(413, "package-too-large");
    assert!(message.contains("expected at most 262144000 together"), "{message}");
    let code =
        world.ask("PUT", "/v1/namespaces/default/functions/f/code").body(big(3)).send().await;
    code.refused(413, "package-too-large");
    put(&world, "f", json!(["a:1", "b:2"])).await.expect(200);

    // A function that would be over it stays behind, and is named; the others move.
    point(&world, "b:stable", 2).await;
    put(&world, "f", json!(["a:1", "b:stable"])).await.expect(200);
    put(&world, "g", json!(["b:stable"])).await.expect(201);
    let moved = world.send("PUT", &format!("{L}/b/aliases/stable"), json!({ "version": 1 })).await;
    let moved = moved.expect(200);
    assert_eq!((&moved["functions"], &moved["not_moved"][0]["name"]), (&json!(["g"]), &json!("f")));
    let why = moved["not_moved"][0]["why"].as_str().unwrap();
    assert!(why.contains("expected at most 262144000 together"), "{why}");
    assert_eq!(attached(&world.get("g").await.json()), ["b:1"]);
    assert_eq!(attached(&world.get("f").await.json()), ["a:1", "b:2"]);
}

#[tokio::test]
async fn functions_follow_an_alias_and_versions_do_not() {
    let world = World::start().await;
    for content in ["1", "2"] {
        publish(&world, "lib", content).await.expect(201);
    }
    let moved = point(&world, "lib:stable", 1).await;
    assert_eq!(moved, json!({ "name": "stable", "version": 1, "functions": [] }));
    put(&world, "f", json!(["lib:stable"])).await.expect(201);
    put(&world, "g", json!(["lib:1"])).await.expect(201);
    put(&world, "h", json!(["lib:stable"])).await.expect(201);
    world.send("POST", "f/versions", json!({})).await.expect(201);
    world.send("PATCH", "h/config", json!({ "publish": "always" })).await.expect(200);
    // What a policy forbids by now follows all the same: it is not the layer that it forbids.
    let policy = json!({ "policy": { "timeout_max_ms": 1 } });
    world.send("PATCH", "/v1/namespaces/default", policy).await.expect(200);
    assert_eq!(point(&world, "lib:stable", 2).await["functions"], json!(["f", "h"]));
    world.send("PATCH", "/v1/namespaces/default", json!({ "policy": {} })).await.expect(200);
    assert_eq!(point(&world, "lib:stable", 2).await["functions"], json!([]), "moved already");

    for (function, version, layers) in [
        ("f", "$LATEST", "lib:2"),
        ("f", "1", "lib:1"),
        ("g", "$LATEST", "lib:1"),
        ("h", "2", "lib:2"),
    ] {
        let view = world.get(&format!("{function}?qualifier={version}")).await.expect(200);
        assert_eq!(attached(&view), [layers], "{function}:{version}");
    }
    let change = world.get("f/history?limit=1").await.expect(200)["items"][0].clone();
    assert_eq!((&change["what"], &change["who"]), (&json!("follow-layer"), &json!("hanshu")));
    assert_eq!(change["reason"], "alias stable of layer lib moved on");
    assert_eq!(world.send("POST", "f/versions", json!({})).await.expect(201)["version"], "2");

    for (body, status, code) in [
        (json!({ "version": 9 }), 404, "not-found"),
        (json!({ "version": 0 }), 400, "invalid-parameter"),
        (json!({}), 400, "invalid-body"),
    ] {
        world.send("PUT", &format!("{L}/lib/aliases/stable"), body).await.refused(status, code);
    }
    world
        .send("PUT", &format!("{L}/lib/aliases/1"), json!({ "version": 1 }))
        .await
        .refused(400, "invalid-name");
    let history = world.get(&format!("{L}/lib/history?alias=stable")).await.expect(200);
    assert_eq!(column(&history, "what"), ["configure", "create"]);
    let all = world.get(&format!("{L}/lib/history")).await.expect(200);
    assert_eq!(column(&all, "revision"), [4, 3, 2, 1]);
    let one = world.get(&format!("{L}/lib/history/4")).await.expect(200);
    assert_eq!((&one["before"], &one["after"]), (&json!({ "alias": 1 }), &json!({ "alias": 2 })));
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let world = World::start().await;
    for content in ["1", "2"] {
        publish(&world, "lib", content).await.expect(201);
    }
    point(&world, "lib:stable", 1).await;
    point(&world, "lib:unused", 2).await;
    put(&world, "f", json!(["lib:stable"])).await.expect(201);
    put(&world, "g", json!(["lib:2"])).await.expect(201);
    let message = world.delete(&format!("{L}/lib/versions/1")).await.refused(409, "conflict");
    assert!(message.contains("alias 'stable' points to it"), "{message}");
    let message = world.delete(&format!("{L}/lib/aliases/stable")).await.refused(409, "conflict");
    assert!(message.contains("function 'default/f' follows it"), "{message}");
    let message = world.delete(&format!("{L}/lib")).await.refused(409, "conflict");
    assert!(message.contains("function 'default/f' follows"), "{message}");
    world.delete(&format!("{L}/lib/aliases/none")).await.refused(404, "not-found");

    // A version that functions have may go; they keep it.
    world.delete(&format!("{L}/lib/aliases/unused")).await.expect(204);
    world.delete(&format!("{L}/lib/versions/2")).await.expect(204);
    world.delete(&format!("{L}/lib/versions/2")).await.refused(404, "not-found");
    let patched = world.send("PATCH", "g/config", json!({ "memory_mb": 256 })).await.expect(200);
    assert_eq!(attached(&patched), ["lib:2"]);
    assert_eq!(world.send("POST", "g/versions", json!({})).await.expect(201)["version"], "1");
    let code = world.ask("PUT", "/v1/namespaces/default/functions/g/code?filename=a.js").body("2");
    assert_eq!(attached(&code.send().await.expect(200)), ["lib:2"]);
    assert_eq!(
        attached(&world.send("POST", "g/rollback", json!({ "version": 1 })).await.expect(200)),
        ["lib:2"]
    );
    assert_eq!(publish(&world, "lib", "2").await.expect(201)["version"], 3, "no number twice");

    world.send("PATCH", "f/config", json!({ "layers": ["lib:1"] })).await.expect(200);
    world.delete(&format!("{L}/lib")).await.expect(204);
    world.get(&format!("{L}/lib")).await.refused(404, "not-found");
    assert_eq!(world.ran("f", json!({})).await, "$LATEST");
    world.send("PATCH", "f/config", json!({ "memory_mb": 512 })).await.expect(200);
    assert_eq!(
        column(&world.get(&format!("{L}/lib/history?limit=1")).await.json(), "what"),
        ["delete"]
    );
    assert_eq!(publish(&world, "lib", "1").await.expect(201)["version"], 4);
    let revision = world.get(&format!("{L}/lib")).await.expect(200)["revision"].as_u64().unwrap();
    assert_eq!(
        column(&world.get(&format!("{L}/lib/history")).await.json(), "revision").len() as u64,
        revision
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_while_an_alias_moves_ends_with_what_the_alias_means() {
    let world = World::start().await;
    for content in ["1", "2"] {
        publish(&world, "lib", content).await.expect(201);
    }
    point(&world, "lib:stable", 1).await;
    for round in 0..20 {
        let version = 1 + (round + 1) % 2;
        let (deployed, moved) = tokio::join!(
            put(&world, "f", json!(["lib:stable"])),
            point(&world, "lib:stable", version),
        );
        assert!([200, 201].contains(&deployed.status), "{deployed:?} {moved}");
        assert_eq!(attached(&world.get("f").await.json()), [format!("lib:{version}")], "{moved}");
        if round % 3 == 0 {
            world.delete("f").await.expect(204);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_end_where_the_alias_does() {
    let world = World::start().await;
    for content in ["1", "2", "3"] {
        publish(&world, "lib", content).await.expect(201);
    }
    point(&world, "lib:stable", 1).await;
    put(&world, "f", json!(["lib:stable"])).await.expect(201);
    for _ in 0..20 {
        tokio::join!(
            point(&world, "lib:stable", 1),
            point(&world, "lib:stable", 2),
            point(&world, "lib:stable", 3),
        );
        let layer = world.get(&format!("{L}/lib")).await.expect(200);
        let at = layer["aliases"][0]["version"].to_string();
        assert_eq!(attached(&world.get("f").await.json()), [format!("lib:{at}")]);
    }
}

#[tokio::test]
async fn a_rollback_keeps_the_layers_of_the_version() {
    let world = World::start().await;
    publish(&world, "a", "1").await.expect(201);
    publish(&world, "a", "2").await.expect(201);
    point(&world, "a:stable", 1).await;
    put(&world, "f", json!(["a:stable"])).await.expect(201);
    world.send("POST", "f/versions", json!({})).await.expect(201);
    point(&world, "a:stable", 2).await;
    let before = world.get("f").await.expect(200);
    assert_eq!(attached(&before), ["a:2"]);
    let back = world.send("POST", "f/rollback", json!({ "version": 1 })).await.expect(200);
    assert_eq!((attached(&back), &back["config"]["layers"]), (vec!["a:1".into()], &json!(["a:1"])));
    let one_more = before["revision"].as_u64().unwrap() + 1;
    assert_eq!(world.get("f").await.expect(200)["revision"], one_more);
    // An alias that still means the same stays one.
    point(&world, "a:stable", 1).await;
    let back = world.send("POST", "f/rollback", json!({ "version": 1 })).await.expect(200);
    assert_eq!(back["config"]["layers"], json!(["a:stable"]));
}
