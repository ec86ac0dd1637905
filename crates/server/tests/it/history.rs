//! History: every change with who, from where, why, before and after; no secrets.

use serde_json::{Value, json};

use crate::world::{World, column, config};

const F: &str = "/v1/namespaces/default/functions/f";

/// One change of `f` whole.
async fn change(world: &World, revision: u64) -> Value {
    world.get(&format!("f/history/{revision}")).await.expect(200)
}

#[tokio::test]
async fn every_change_is_recorded() {
    let world = World::start().await;
    let ana = world.new_key("ana", Some("default")).await;
    let put = json!({ "config": config("fixed.reply", "1"), "code": world.package("one").await });
    let why = |method: &str, path: &str, reason: &str| {
        world.ask_as(&ana, method, &format!("{F}{path}")).header("x-hanshu-reason", reason)
    };
    why("PUT", "", "  first Größe  ").json(&put).send().await.expect(201);
    world.send("POST", "f/versions", json!({})).await.expect(201);
    let patch = json!({ "timeout_ms": 5_000, "tags": { "team": "a" } });
    why("PATCH", "/config", "slow").json(&patch).send().await.expect(200);
    why("PUT", "/code?filename=index.js", "").body("two").send().await.expect(200);
    why("PUT", "/aliases/live", "go").json(&json!({ "version": "1" })).send().await.expect(201);
    let targets = json!([{ "version": "1", "weight": 1 }, { "version": "$LATEST", "weight": 1 }]);
    why("PUT", "/aliases/live", "half")
        .json(&json!({ "targets": targets }))
        .send()
        .await
        .expect(200);
    why("POST", "/rollback", "no").json(&json!({ "version": 1 })).send().await.expect(200);
    why("PUT", "/aliases/live/shift", "on").json(&json!({ "to": "1" })).send().await.expect(200);
    why("DELETE", "/aliases/live/shift", "off").send().await.expect(200);
    why("POST", "/aliases/live/rollback", "back")
        .json(&json!({ "revision": 5 }))
        .send()
        .await
        .expect(200);
    why("DELETE", "/aliases/live", "done").send().await.expect(204);
    why("DELETE", "/versions/1", "old").send().await.expect(204);
    why("DELETE", "", "all").send().await.expect(204);

    are_recorded(&world).await;
    show_what_they_changed(&world).await;
}

/// The changes of [`every_change_is_recorded`], in the list.
async fn are_recorded(world: &World) {
    let expected = [
        ("create", None, "ana", Some("first Größe")),
        ("publish", Some("1"), "root", None),
        ("configure", None, "ana", Some("slow")),
        ("deploy", None, "ana", None),
        ("create", Some("live"), "ana", Some("go")),
        ("configure", Some("live"), "ana", Some("half")),
        ("rollback", None, "ana", Some("no")),
        ("shift-start", Some("live"), "ana", Some("on")),
        ("shift-stop", Some("live"), "ana", Some("off")),
        ("rollback", Some("live"), "ana", Some("back")),
        ("delete", Some("live"), "ana", Some("done")),
        ("delete", Some("1"), "ana", Some("old")),
        ("delete", None, "ana", Some("all")),
    ];
    let history = world.get("f/history").await.expect(200);
    assert_eq!(history.get("next"), None);
    let items = history["items"].as_array().unwrap();
    assert_eq!(items.len(), expected.len(), "{history}");
    for (item, (at, (what, of, who, reason))) in items.iter().rev().zip(expected.iter().enumerate())
    {
        assert_eq!(item["revision"], at + 1);
        assert_eq!(item["what"], *what);
        assert_eq!(item["of"].as_str(), *of, "{item}");
        assert_eq!((item["who"].as_str(), item["from"].as_str()), (Some(*who), Some("127.0.0.1")));
        assert_eq!(item["reason"].as_str(), *reason, "{item}");
        assert!(item["at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(
            (item.get("before"), item.get("after")),
            (None, None),
            "only one change is shown whole"
        );
    }
}

/// The same, one by one.
async fn show_what_they_changed(world: &World) {
    let created = change(world, 1).await;
    assert_eq!(created.get("before"), None);
    assert_eq!(created["after"]["config"]["handler"], "fixed.reply", "{created}");
    let patched = change(world, 3).await;
    let paths = column(&patched["differences"], "path");
    for path in ["timeout_ms", "tags.team"] {
        assert!(paths.iter().any(|p| p.as_str().unwrap().ends_with(path)), "{patched}");
    }
    assert_eq!(paths.len(), 2, "{patched}");
    let timeouts = |state: &str| patched[state]["config"]["timeout_ms"].clone();
    assert_eq!((timeouts("before"), timeouts("after")), (json!(3_000), json!(5_000)), "{patched}");
    let half = change(world, 6).await;
    assert!(half["differences"].to_string().contains("targets[1]"), "{half}");
    let gone = change(world, 11).await;
    assert_eq!(gone.get("after"), None);
    assert_ne!(gone.get("before"), None);
    world.get("f/history/14").await.refused(404, "not-found");
    world.get("f/history/0").await.refused(404, "not-found");
    world.get("f/history/x").await.refused(400, "invalid-parameter");
}

#[tokio::test]
async fn the_history_of_what_was_deleted_goes_on() {
    let world = World::start().await;
    world.versions(1).await;
    world.delete("f").await.expect(204);
    let history = world.get("f/history").await.expect(200);
    assert_eq!(column(&history, "what"), ["delete", "publish", "create"]);
    let world = world.restart().await;
    assert_eq!(world.function("f", "fixed.reply", "1").await["revision"], 4);
    let history = world.get("f/history").await.expect(200);
    assert_eq!(column(&history, "revision"), [4, 3, 2, 1]);
    assert_eq!(change(&world, 2).await["what"], "publish");
    world.get("none/history").await.refused(404, "not-found");
    world.get("none/history/1").await.refused(404, "not-found");
}

#[tokio::test]
async fn a_history_comes_in_pages_newest_first() {
    let world = World::start().await;
    world.versions(1).await;
    world.send("PUT", "f/aliases/live", json!({ "version": "1" })).await.expect(201);
    // More than are read at once.
    for n in 0..120 {
        world.send("PATCH", "f/config", json!({ "timeout_ms": 100 + n })).await.expect(200);
    }
    let mut after = String::new();
    let mut revisions = Vec::new();
    loop {
        let page = world.get(&format!("f/history?limit=50{after}")).await.expect(200);
        revisions.extend(column(&page, "revision"));
        let Some(next) = page.get("next") else { break };
        after = format!("&after={}", next.as_str().unwrap());
    }
    assert_eq!(revisions, (1..=123).rev().collect::<Vec<u64>>());
    let of_alias = world.get("f/history?alias=live").await.expect(200);
    assert_eq!((column(&of_alias, "revision"), of_alias.get("next")), (vec![json!(3)], None));
    assert_eq!(column(&world.get("f/history?alias=none").await.expect(200), "revision"), [0; 0]);
    let default = world.get("f/history").await.expect(200);
    assert_eq!((column(&default, "revision").len(), &default["next"]), (50, &json!("74")));
    for bad in ["limit=0", "limit=501", "after=x", "colour=1"] {
        world.get(&format!("f/history?{bad}")).await.refused(400, "invalid-parameter");
    }
    world.get("f/history?alias=a.b").await.refused(400, "invalid-name");
}

#[tokio::test]
async fn secrets_are_nowhere_in_the_history() {
    use model::ports::Meta as _;

    let world = World::start().await;
    let mut with_secret = config("fixed.reply", "1");
    with_secret["environment"] = json!({ "REPLY": "1", "TOKEN": { "secret": "hunter2" } });
    let put = json!({ "config": with_secret, "code": world.package("one").await, "publish": true });
    world.send("PUT", "f", put).await.expect(201);
    let patch = |value: Value| {
        world.send("PATCH", "f/config", json!({ "environment": { "TOKEN": value } }))
    };
    patch(json!({ "secret": "hunter3" })).await.expect(200);
    let alias =
        |secret: &str| json!({ "version": "1", "environment": { "KEY": { "secret": secret } } });
    world.send("PUT", "f/aliases/live", alias("hunter4")).await.expect(201);
    world.send("PUT", "f/aliases/live", alias("hunter5")).await.expect(200);
    patch(json!(null)).await.expect(200);
    world.delete("f/aliases/live").await.expect(204);
    world.delete("f").await.expect(204);
    let history = world.get("f/history").await;
    let count = column(&history.json(), "revision").len() as u64;
    assert_eq!(count, 7);
    let mut shown = String::from_utf8(history.body).unwrap();
    for revision in 1..=count {
        shown.push_str(&change(&world, revision).await.to_string());
    }
    assert!(!shown.contains("hunter"), "{shown}");
    // Neither is what they are sealed to; that one changed is.
    for entry in world.meta.list("", None, 1_000).await.unwrap() {
        assert!(!String::from_utf8_lossy(&entry.value).contains("hunter"), "{}", entry.key);
    }
    for field in ["nonce", "sealed", "cipher"] {
        assert!(!shown.contains(&format!("\"{field}")), "{field}: {shown}");
    }
    for revision in [2, 4] {
        let differences = change(&world, revision).await["differences"].clone();
        assert_eq!(differences.as_array().unwrap().len(), 1, "{differences}");
    }
}

#[tokio::test]
async fn bad_reasons_are_refused() {
    let world = World::start().await;
    world.versions(1).await;
    let long = "x".repeat(501);
    for bad in [long.as_str(), "a\tb"] {
        let ask = world.ask("PATCH", &format!("{F}/config")).header("x-hanshu-reason", bad);
        let message =
            ask.json(&json!({ "memory_mb": 256 })).send().await.refused(400, "invalid-parameter");
        assert!(message.contains("reason"), "{message}");
    }
    let fits = "ä".repeat(500);
    let ask = world.ask("PATCH", &format!("{F}/config")).header("x-hanshu-reason", &fits);
    ask.json(&json!({ "memory_mb": 256 })).send().await.expect(200);
    assert_eq!(change(&world, 3).await["reason"], fits);
}

#[tokio::test]
async fn in_dev_mode_nobody_has_a_name() {
    let world = World::dev().await;
    world.function("f", "fixed.reply", "1").await;
    assert_eq!(change(&world, 1).await["who"], "dev");
    let namespace = world.get("/v1/namespaces/default/history").await.expect(200);
    let made = &namespace["items"][0];
    assert_eq!((&made["who"], made.get("from")), (&json!("hanshu"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_is_undone_leaves_no_change_to_another() {
    let world = World::start().await;
    let path = "/v1/namespaces/n/functions/f";
    let create = |reason: &str, code: &str| {
        let put = json!({ "config": config("fixed.reply", "1"), "code": code });
        world.ask("PUT", path).header("x-hanshu-reason", reason).json(&put)
    };
    let config = format!("{path}/config");
    let patch = |memory: u32| world.send("PATCH", &config, json!({ "memory_mb": memory }));
    for round in 0..40 {
        world.namespace("n", json!({}), json!({})).await;
        let code = world.package_in("n", "one").await;
        let mut patches = Vec::new();
        for memory in 300..306 {
            patches.push(patch(memory));
        }
        tokio::join!(
            create("undone", &code).send(),
            world.delete("/v1/namespaces/n"),
            futures_util::future::join_all(patches),
        );
        if world.get("/v1/namespaces/n").await.status == 200 {
            world.delete("/v1/namespaces/n?everything=n").await.expect(204);
        }
        world.namespace("n", json!({}), json!({})).await;
        let code = world.package_in("n", "one").await;
        let made = create("done", &code).send().await.expect(201)["revision"].clone();
        patch(999).await.expect(200);
        let change = world.get(&format!("{path}/history/{made}")).await.expect(200);
        assert_eq!(
            (&change["what"], &change["reason"]),
            (&json!("create"), &json!("done")),
            "{round}"
        );
        world.delete("/v1/namespaces/n?everything=n").await.expect(204);
    }
}
