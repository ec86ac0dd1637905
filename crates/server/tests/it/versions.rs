//! Published versions: numbers, content, differences.

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::world::{World, column, config, zipped};

const F: &str = "/v1/namespaces/default/functions/f";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_at_once_get_gapless_numbers_and_whole_versions() {
    let world = Arc::new(World::start().await);
    let code = world.package("one").await;
    // Four of each content, told apart only by what is no part of a version.
    let deploys = (0..32).map(|i| {
        let (world, code) = (world.clone(), code.clone());
        async move {
            let reply = (i / 4).to_string();
            let body = json!({
                "config": config("fixed.reply", &reply),
                "settings": { "tags": { "of": i.to_string() } },
                "code": code,
                "publish": true,
            });
            (reply, world.send("PUT", "f", body).await)
        }
    });
    let mut published = Vec::new();
    for (content, reply) in futures_util::future::join_all(deploys).await {
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        let view = reply.json();
        assert_eq!(view["config"]["environment"]["REPLY"], *content);
        published.push((view["version"].as_str().unwrap().to_owned(), content));
    }
    published.sort();
    published.dedup();
    assert_eq!(published.len(), 8, "one number for each content: {published:?}");
    let listed = column(&world.get("f/versions").await.expect(200), "version");
    assert_eq!(listed, (1..=8).collect::<Vec<u64>>());
    for (number, content) in published {
        let view = world.get(&format!("f/versions/{number}")).await.expect(200);
        assert_eq!(view["config"]["environment"]["REPLY"], *content);
        let called = world.send("POST", &format!("f:{number}/invoke"), json!({})).await;
        assert_eq!(called.body, content.as_bytes());
    }
    // The history has every change once.
    let history = world.get("f/history?limit=500").await.expect(200);
    let revisions = column(&history, "revision");
    let newest = revisions[0].as_u64().unwrap();
    assert_eq!(revisions, (1..=newest).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_number_is_never_used_again() {
    let world = World::start().await;
    world.versions(3).await;
    world.delete("f/versions/3").await.expect(204);
    world.delete("f/versions/2").await.expect(204);
    world.get("f/versions/3").await.refused(404, "not-found");
    world.send("POST", "f:3/invoke", json!({})).await.refused(404, "not-found");
    // The same content again is another version.
    assert_eq!(world.send("POST", "f/versions", json!({})).await.expect(201)["version"], "4");
    let listed = world.get("f/versions").await.expect(200);
    assert_eq!(column(&listed, "version"), [1, 4]);

    world.delete("f").await.expect(204);
    let world = world.restart().await;
    let gone = world.function("f", "fixed.reply", "x").await;
    assert_eq!(gone["revision"].as_u64(), Some(11), "{gone}");
    assert_eq!(world.send("POST", "f/versions", json!({})).await.expect(201)["version"], "5");
    world.get("f/versions/1").await.refused(404, "not-found");
}

#[tokio::test]
async fn a_version_that_is_named_wrongly_is_refused() {
    let world = World::start().await;
    world.versions(1).await;
    for (path, status, code) in [
        ("f/versions/0", 400, "invalid-parameter"),
        ("f/versions/$LATEST", 400, "invalid-parameter"),
        ("f/versions/live", 400, "invalid-parameter"),
        ("f/versions/2", 404, "not-found"),
        ("f/versions?after=x", 400, "invalid-parameter"),
    ] {
        world.get(path).await.refused(status, code);
    }
    world.delete("f/versions/2").await.refused(404, "not-found");
    let page = world.get("f/versions?limit=1&after=0").await.expect(200);
    assert_eq!((column(&page, "version"), page.get("next")), (vec![json!(1)], None));
}

#[tokio::test]
async fn a_function_may_publish_every_change() {
    let world = World::start().await;
    let put = json!({
        "config": config("fixed.reply", "1"),
        "settings": { "publish": "always" },
        "code": world.package("one").await,
    });
    assert_eq!(world.send("PUT", "f", put.clone()).await.expect(201)["version"], "1");
    assert_eq!(world.send("PUT", "f", put).await.expect(200)["version"], "$LATEST");
    let patched = world.send("PATCH", "f/config", json!({ "memory_mb": 256 })).await.expect(200);
    assert_eq!(patched["version"], "2");
    let code = world.ask("PUT", &format!("{F}/code?filename=index.js")).body("two");
    assert_eq!(code.send().await.expect(200)["version"], "3");
    let back = world.send("POST", "f/rollback", json!({ "version": 1 })).await.expect(200);
    assert_eq!(back["version"], "1", "what was published before is not published again");
    let manual = json!({ "publish": "on-request", "memory_mb": 512 });
    world.send("PATCH", "f/config", manual).await.expect(200);
    let listed = world.get("f/versions").await.expect(200);
    assert_eq!(column(&listed, "version"), [1, 2, 3]);
}

#[tokio::test]
async fn latest_goes_back_to_any_version() {
    let world = World::start().await;
    world.versions(2).await;
    let code = world.ask("PUT", &format!("{F}/code?filename=index.js")).body("two");
    let before = code.send().await.expect(200);
    let back = world.send("POST", "f/rollback", json!({ "version": 1 })).await.expect(200);
    assert_eq!(back["version"], "$LATEST");
    assert_eq!(back["revision"], before["revision"].as_u64().unwrap() + 1);
    assert_eq!(back["config"]["environment"]["REPLY"], "\"1\"");
    assert_ne!(back["code"], before["code"]);
    assert_eq!(world.send("POST", "f/versions", json!({})).await.expect(200)["version"], "1");
    // Again it changes nothing.
    let again = world.send("POST", "f/rollback", json!({ "version": 1 })).await.expect(200);
    assert_eq!(again["revision"], back["revision"]);
    let history = world.get("f/history").await.expect(200);
    assert_eq!(history["items"][0]["what"], "rollback");
    world.send("POST", "f/rollback", json!({ "version": 9 })).await.refused(404, "not-found");
}

#[tokio::test]
async fn versions_are_downloaded_and_compared() {
    let world = World::start().await;
    let upload = |files: Vec<u8>| {
        world.ask("PUT", "/v1/namespaces/default/functions/f/code?publish=true").body(files)
    };
    world.function("f", "echo.event", "").await;
    let environment = json!({ "environment": { "TOKEN": { "secret": "hunter2" }, "MODE": "a" } });
    world.send("PATCH", "f/config", environment).await.expect(200);
    let first = zipped(&[
        ("same.js", b"s"),
        ("old.js", b"o"),
        ("index.js", b"a\nb\nc\n"),
        ("logo.png", b"\0\xff1"),
    ]);
    upload(first.clone()).send().await.expect(200);
    let environment = json!({ "timeout_ms": 9_000, "environment": { "TOKEN": { "secret": "hunter3" }, "MODE": "b" } });
    world.send("PATCH", "f/config", environment).await.expect(200);
    let second = zipped(&[
        ("same.js", b"s"),
        ("new.js", b"n\n"),
        ("index.js", b"a\nB\nc\n"),
        ("logo.png", b"\0\xff2"),
    ]);
    upload(second).send().await.expect(200);

    let got = world.get("f/code?qualifier=1").await;
    assert_eq!(got.body, first);
    let mut zip = zip::ZipArchive::new(Cursor::new(got.body)).unwrap();
    let mut text = String::new();
    zip.by_name("old.js").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "o");

    let reply = world.get("f/diff?from=1&to=2").await;
    let diff = reply.expect(200);
    assert_eq!(
        (&diff["from"], &diff["to"], &diff["more_files"]),
        (&json!("1"), &json!("2"), &json!(0))
    );
    let files: Vec<(&Value, &Value)> =
        diff["files"].as_array().unwrap().iter().map(|f| (&f["path"], &f["change"])).collect();
    assert_eq!(
        files,
        [
            (&json!("index.js"), &json!("modified")),
            (&json!("logo.png"), &json!("modified")),
            (&json!("new.js"), &json!("added")),
            (&json!("old.js"), &json!("removed")),
        ]
    );
    let unified = diff["files"][0]["unified"].as_str().unwrap();
    assert!(unified.contains("-b\n+B\n"), "{unified}");
    assert_eq!(diff["files"][1].get("unified"), None, "no text");
    let config = column(&diff["config"], "path");
    for path in ["timeout_ms", "environment.MODE", "environment.TOKEN"] {
        assert!(config.iter().any(|p| p.as_str().unwrap().ends_with(path)), "{path}: {diff}");
    }
    assert!(!String::from_utf8_lossy(&reply.body).contains("hunter"), "{diff}");

    let same = world.get("f/diff?from=2").await.expect(200);
    assert_eq!(
        (&same["to"], &same["config"], &same["files"]),
        (&json!("$LATEST"), &json!([]), &json!([]))
    );
    world.get("f/diff?from=1&to=9").await.refused(404, "not-found");
    world.get("f/diff?to=1").await.refused(400, "invalid-parameter");
    world.get("f/diff?from=live").await.refused(400, "invalid-parameter");
}
