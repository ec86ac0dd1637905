//! Functions, packages and versions over HTTP.

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::world::{Reply, World, config};

const F: &str = "/v1/namespaces/default/functions/f";

async fn put(world: &World, body: &Value) -> Reply {
    world.ask("PUT", F).json(body).send().await
}

#[tokio::test]
async fn a_function_is_created_read_changed_and_deleted() {
    let world = World::start().await;
    let code = world.package("one").await;
    let made = put(&world, &json!({ "config": config("echo.event", ""), "code": code })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let view = made.json();
    assert_eq!(view["version"], "$LATEST");
    assert_eq!(view["arn"], "arn:aws:lambda:local:000000000000:function:f");
    assert_eq!(view["url"], "http://127.0.0.1:9000/fn/default/f/");
    assert_eq!(view["code"]["digest"], *code);
    assert_eq!(view["config"]["timeout_ms"], 3000);
    assert_eq!(view["resolved_runtime"]["version"], "20.0.0");
    assert_eq!(made.header("etag"), format!("\"{}\"", view["revision"]));

    let patched =
        world.ask("PATCH", &format!("{F}/config")).json(&json!({ "memory_mb": 256 })).send().await;
    assert_eq!(patched.json()["config"]["memory_mb"], 256);
    let read = world.ask("GET", F).send().await.json();
    assert_eq!(read["config"]["memory_mb"], 256);
    assert_eq!(read["created_at"], view["created_at"]);

    assert_eq!(world.ask("DELETE", F).send().await.status, 204);
    world.ask("GET", F).send().await.refused(404, "not-found");
    world.ask("DELETE", F).send().await.refused(404, "not-found");
    world.ask("POST", &format!("{F}/invoke")).send().await.refused(404, "not-found");
}

#[tokio::test]
async fn networks_are_checked_when_they_are_set() {
    let world = World::start().await;
    let code = world.package("one").await;
    let with = |network: serde_json::Value| {
        let mut config = config("echo.event", "");
        config["network"] = network;
        json!({ "config": config, "code": code })
    };
    let plain = put(&world, &json!({ "config": config("echo.event", ""), "code": code })).await;
    assert_eq!(plain.json()["config"]["network"], "none");
    let table = json!({ "mode": "egress", "allow": ["10.1.2.3:5432/tcp"], "bandwidth": "10MB" });
    let made = put(&world, &with(table)).await.json();
    assert_eq!(
        made["config"]["network"],
        json!({ "mode": "egress", "allow": ["10.1.2.3/32:5432/tcp"], "bandwidth": 10_000_000 })
    );
    for (network, code, words) in [
        (json!("open"), "invalid-body", ["network", "none, egress or private"]),
        (json!({ "mode": "egress", "allow": ["db:1"] }), "invalid-body", ["network.allow", "CIDR"]),
        (json!({ "mode": "private" }), "invalid-parameter", ["network.allow", "at least one"]),
    ] {
        let message = put(&world, &with(network)).await.refused(400, code);
        for word in words {
            assert!(message.contains(word), "{message}");
        }
    }
    // What this host cannot give is refused at once, not at the first call.
    let private = json!({ "mode": "private", "allow": ["10.0.0.0/8"] });
    put(&world, &with(private.clone())).await.refused(501, "unsupported");
    let patch = |network: &serde_json::Value| {
        world.ask("PATCH", &format!("{F}/config")).json(&json!({ "network": network }))
    };
    patch(&private).send().await.refused(501, "unsupported");
    let patched = patch(&json!("egress")).send().await.json();
    assert_eq!(patched["config"]["network"], "egress");
}

#[tokio::test]
async fn repeating_a_deploy_changes_nothing() {
    let world = World::start().await;
    let body = json!({ "config": config("echo.event", ""), "code": world.package("one").await });
    let first = put(&world, &body).await.json();
    let again = put(&world, &body).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json(), first);
    // Without code the code stays.
    let kept = put(&world, &json!({ "config": config("echo.event", "new") })).await.json();
    assert_eq!(kept["code"], first["code"]);
    assert_ne!(kept["revision"], first["revision"]);
}

#[tokio::test]
async fn bad_functions_are_refused() {
    let world = World::start().await;
    let code = world.package("one").await;
    let unknown = "0".repeat(64);
    for (body, status, code) in [
        (json!({ "config": config("a.b", "") }), 400, "invalid-body"),
        (json!({ "config": config("a b", ""), "code": code }), 400, "invalid-parameter"),
        (json!({ "config": config("a.b", ""), "code": unknown }), 404, "not-found"),
        (json!({ "config": config("a.b", ""), "code": "zz" }), 400, "invalid-parameter"),
        (
            json!({ "config": { "runtime": "cobol", "handler": "a.b" }, "code": code }),
            400,
            "unknown-runtime",
        ),
        (
            json!({ "config": { "runtime": "nodejs20", "handler": "a.b", "colour": 1 }, "code": code }),
            400,
            "invalid-body",
        ),
        (
            json!({ "config": config("a.b", ""), "code": code, "settings": { "max_instances": 1_000_000 } }),
            400,
            "invalid-parameter",
        ),
    ] {
        put(&world, &body).await.refused(status, code);
    }
    let body = json!({ "config": config("a.b", ""), "code": code });
    let path = "/v1/namespaces/default/functions/bad%20name";
    world.ask("PUT", path).json(&body).send().await.refused(400, "invalid-name");
    let path = "/v1/namespaces/nowhere/functions/f";
    world.ask("PUT", path).json(&body).send().await.refused(404, "not-found");
    world.ask("GET", F).send().await.refused(404, "not-found");
}

#[tokio::test]
async fn conditions_are_kept() {
    let world = World::start().await;
    let body = json!({ "config": config("echo.event", ""), "code": world.package("one").await });
    let first = put(&world, &body).await.json()["revision"].to_string();
    let changed = json!({ "config": config("echo.event", "2") });
    let ask = |condition: &str, value: &str| world.ask("PUT", F).header(condition, value);
    ask("if-none-match", "*").json(&body).send().await.refused(409, "already-exists");
    assert_eq!(ask("if-match", &first).json(&changed).send().await.status, 200);
    let message =
        ask("if-match", &first).json(&body).send().await.refused(412, "precondition-failed");
    assert!(message.contains("is at revision"), "{message}");
    let stale = world.ask("DELETE", F).header("if-match", &format!("\"{first}\""));
    stale.send().await.refused(412, "precondition-failed");
    let stale = world.ask("PATCH", &format!("{F}/config")).header("if-match", &first);
    stale.json(&json!({ "memory_mb": 64 })).send().await.refused(412, "precondition-failed");
    ask("if-match", "x").json(&body).send().await.refused(400, "invalid-parameter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploys_at_once_all_succeed() {
    let world = Arc::new(World::start().await);
    let code = world.package("one").await;
    put(&world, &json!({ "config": config("echo.event", ""), "code": code })).await;
    let deploys = (0..16).map(|i| {
        let (world, code) = (world.clone(), code.clone());
        async move {
            let body = json!({ "config": config("echo.event", &i.to_string()), "code": code, "publish": true });
            put(&world, &body).await
        }
    });
    let mut numbers = Vec::new();
    for (i, reply) in futures_util::future::join_all(deploys).await.into_iter().enumerate() {
        assert_eq!(reply.status, 200, "{reply:?}");
        let view = reply.json();
        assert_eq!(view["config"]["environment"]["REPLY"], i.to_string());
        numbers.push(view["version"].as_str().unwrap().parse::<u64>().unwrap());
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 16);
    let listed = world.ask("GET", &format!("{F}/versions")).send().await.json();
    let listed: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["version"].as_u64().unwrap())
        .collect();
    assert_eq!(listed, numbers);
}

#[tokio::test]
async fn an_unchanged_function_is_not_published_twice() {
    let world = World::start().await;
    put(
        &world,
        &json!({ "config": config("fixed.reply", "1"), "code": world.package("one").await }),
    )
    .await;
    let versions = format!("{F}/versions");
    let first = world.ask("POST", &versions).send().await;
    assert_eq!((first.status, &first.json()["version"]), (201, &json!("1")));
    assert_eq!(first.json()["url"], "http://127.0.0.1:9000/fn/default/f:1/");
    let again = world.ask("POST", &versions).send().await;
    assert_eq!((again.status, &again.json()["version"]), (200, &json!("1")));

    let patch = json!({ "environment": { "REPLY": "2" } });
    world.ask("PATCH", &format!("{F}/config")).json(&patch).send().await;
    let second = world.ask("POST", &versions).send().await;
    assert_eq!((second.status, &second.json()["version"]), (201, &json!("2")));

    for (path, version, reply) in [
        (format!("{F}?qualifier=1"), "1", "1"),
        (format!("{F}:2"), "2", "2"),
        (format!("{F}:2?qualifier=2"), "2", "2"),
        (F.to_owned(), "$LATEST", "2"),
        (format!("{F}?qualifier=$LATEST"), "$LATEST", "2"),
    ] {
        let view = world.ask("GET", &path).send().await.json();
        assert_eq!(view["version"], version, "{path}");
        assert_eq!(view["config"]["environment"]["REPLY"], reply, "{path}");
        let invoke = path.replace(F, &format!("{F}/invoke")).replace("/invoke:2", ":2/invoke");
        let called = world.ask("POST", &invoke).send().await;
        assert_eq!(called.header("x-hanshu-version"), version, "{invoke}");
        assert_eq!(called.body, reply.as_bytes(), "{invoke}");
    }
    world.ask("GET", &format!("{F}:1?qualifier=2")).send().await.refused(400, "invalid-parameter");
    world.ask("GET", &format!("{F}?qualifier=9")).send().await.refused(404, "not-found");
    world.ask("GET", &format!("{F}?qualifier=live")).send().await.refused(404, "not-found");
    world.ask("GET", &format!("{F}?qualifier=a.b")).send().await.refused(400, "invalid-name");
    world.ask("GET", &format!("{F}?version=1")).send().await.refused(400, "invalid-parameter");

    // Going back to old content gives the old version.
    let patch = json!({ "environment": { "REPLY": "1" } });
    world.ask("PATCH", &format!("{F}/config")).json(&patch).send().await;
    assert_eq!(world.ask("POST", &versions).send().await.json()["version"], "1");
}

#[tokio::test]
async fn a_deleted_functions_versions_are_gone() {
    use model::ports::Meta as _;

    let world = World::start().await;
    let body = json!({ "config": config("echo.event", ""), "code": world.package("one").await, "publish": true });
    assert_eq!(put(&world, &body).await.json()["version"], "1");
    assert_eq!(world.meta.list("version/", None, 9).await.unwrap().len(), 1);
    assert_eq!(world.ask("DELETE", F).send().await.status, 204);
    assert!(world.meta.list("version/", None, 9).await.unwrap().is_empty());
    // A namesake's numbers go on, so that none means two things.
    assert_eq!(put(&world, &body).await.json()["version"], "2");
    assert_eq!(world.meta.list("version/", None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn listings_come_in_pages() {
    let world = World::start().await;
    for name in ["c", "a", "b"] {
        world.function(name, "echo.event", "").await;
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = "/v1/namespaces/default/functions";
    let first = world.ask("GET", &format!("{list}?limit=2")).send().await.json();
    assert_eq!((names(&first), &first["next"]), (vec!["a".into(), "b".into()], &json!("b")));
    let rest = world.ask("GET", &format!("{list}?limit=2&after=b")).send().await.json();
    assert_eq!((names(&rest), rest.get("next")), (vec!["c".into()], None));
    for bad in ["limit=0", "limit=1001", "limit=x", "colour=red"] {
        world.ask("GET", &format!("{list}?{bad}")).send().await.refused(400, "invalid-parameter");
    }
    let missing = world.ask("GET", "/v1/namespaces/none/functions").send().await;
    missing.refused(404, "not-found");
}

#[tokio::test]
async fn code_is_replaced_and_downloaded() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let path = format!("{F}/code?filename=index.js&publish=true");
    let put = world.ask("PUT", &path).body("exports.handler = 2").send().await;
    assert_eq!((put.status, &put.json()["version"]), (200, &json!("1")), "{put:?}");

    let got = world.ask("GET", &format!("{F}/code")).send().await;
    assert_eq!(got.header("content-type"), "application/zip");
    let digest = put.json()["code"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(got.header("etag"), format!("\"{digest}\""));
    assert_eq!(model::ids::Digest::of(&got.body).to_string(), digest);
    let mut zip = zip::ZipArchive::new(Cursor::new(got.body)).unwrap();
    let mut text = String::new();
    zip.by_name("index.js").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "exports.handler = 2");

    let known =
        world.ask("GET", &format!("{F}/code")).header("if-none-match", &format!("\"{digest}\""));
    assert_eq!(known.send().await.status, 304);
}

#[tokio::test]
async fn bad_packages_are_refused() {
    let world = World::start().await;
    let packages = "/v1/namespaces/default/packages";
    world.ask("POST", packages).body("no zip").send().await.refused(400, "invalid-package");
    let path = format!("{packages}?filename=..%2Fx.js");
    world.ask("POST", &path).body("x").send().await.refused(400, "invalid-parameter");
    let path = "/v1/namespaces/none/packages?filename=x.js";
    world.ask("POST", path).body("x").send().await.refused(404, "not-found");
    let code = format!("{F}/code?filename=x.js");
    world.ask("PUT", &code).body("x").send().await.refused(404, "not-found");
    let huge = world
        .ask("POST", packages)
        .header("content-length", "104857601")
        .header("expect", "100-continue");
    let message = huge.send().await.refused(413, "package-too-large");
    assert!(message.contains("104857600"), "{message}");
}
