//! Namespaces over HTTP, and their deletion racing with the creation of functions.

use std::sync::Arc;

use serde_json::json;

use crate::world::{World, config};

#[tokio::test]
async fn namespaces_live_and_die() {
    let world = World::start().await;
    let new = json!({ "name": "team-a", "description": "ours", "quotas": { "instances": 3 } });
    let made = world.ask("POST", "/v1/namespaces").json(&new).send().await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["quotas"], json!({ "instances": 3 }));
    assert_eq!(made.header("etag"), "\"1\"");
    world.ask("POST", "/v1/namespaces").json(&new).send().await.refused(409, "already-exists");
    assert_eq!(
        world.ask("GET", "/v1/namespaces/team-a").send().await.json()["description"],
        "ours"
    );

    let all = world.ask("GET", "/v1/namespaces").send().await.json();
    let names: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|n| n["name"].clone()).collect();
    assert_eq!(names, ["default", "team-a"]);

    assert_eq!(world.ask("DELETE", "/v1/namespaces/team-a").send().await.status, 204);
    world.ask("DELETE", "/v1/namespaces/team-a").send().await.refused(404, "not-found");
    world.ask("DELETE", "/v1/namespaces/default").send().await.refused(400, "invalid-parameter");
}

#[tokio::test]
async fn bad_namespaces_are_refused() {
    let world = World::start().await;
    for (body, code) in [
        (json!({ "name": "9x" }), "invalid-name"),
        (json!({ "name": "x", "description": "d".repeat(1001) }), "invalid-parameter"),
        (json!({ "name": "x", "colour": "red" }), "invalid-body"),
        (json!({}), "invalid-body"),
        (json!([]), "invalid-body"),
    ] {
        world.ask("POST", "/v1/namespaces").json(&body).send().await.refused(400, code);
    }
    world.ask("POST", "/v1/namespaces").body("{").send().await.refused(400, "invalid-body");
    world.ask("GET", "/v1/namespaces/a.b").send().await.refused(400, "invalid-name");
}

#[tokio::test]
async fn a_namespace_with_functions_stays() {
    let world = World::start().await;
    world.ask("POST", "/v1/namespaces").json(&json!({ "name": "n" })).send().await;
    let code = world.package_in("n", "code").await;
    let put = json!({ "config": config("echo.event", ""), "code": code });
    let path = "/v1/namespaces/n/functions/f";
    assert_eq!(world.ask("PUT", path).json(&put).send().await.status, 201);
    world.ask("DELETE", "/v1/namespaces/n").send().await.refused(409, "not-empty");
    // The refused deletion leaves nothing behind that would keep functions out.
    let second = "/v1/namespaces/n/functions/g";
    assert_eq!(world.ask("PUT", second).json(&put).send().await.status, 201);
    for path in [path, second] {
        assert_eq!(world.ask("DELETE", path).send().await.status, 204);
    }
    assert_eq!(world.ask("DELETE", "/v1/namespaces/n").send().await.status, 204);
    world.ask("PUT", path).json(&put).send().await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_function_loses_its_namespace() {
    let world = Arc::new(World::start().await);
    let mut made = 0;
    for round in 0..100 {
        let name = format!("n{round}");
        world.ask("POST", "/v1/namespaces").json(&json!({ "name": name })).send().await;
        let code = world.package_in(&name, "code").await;
        let put = json!({ "config": config("echo.event", ""), "code": code });
        let function = format!("/v1/namespaces/{name}/functions/f");
        let namespace = format!("/v1/namespaces/{name}");
        let (created, deleted) = tokio::join!(
            world.ask("PUT", &function).json(&put).send(),
            world.ask("DELETE", &namespace).send(),
        );
        let stands = world.ask("GET", &namespace).send().await.status == 200;
        let there = world.ask("GET", &function).send().await.status == 200;
        assert_eq!(created.status == 201, there, "{created:?}");
        assert!(stands || !there, "a function without a namespace: {created:?} {deleted:?}");
        assert_eq!(deleted.status == 204, !stands, "{deleted:?}");
        made += usize::from(there);
    }
    assert!(made > 0, "every creation was refused");
}

#[tokio::test]
async fn a_package_is_there_for_the_namespaces_that_it_was_uploaded_to() {
    let world = World::start().await;
    let digest = world.package("code").await;
    world.namespace("n", json!({}), json!({})).await;
    let put = json!({ "config": config("echo.event", ""), "code": digest });
    let path = "/v1/namespaces/n/functions/f";
    world.send("PUT", path, put.clone()).await.refused(404, "not-found");
    assert_eq!(world.package_in("n", "code").await, digest);
    world.send("PUT", path, put.clone()).await.expect(201);
    // A later namespace of the name is another.
    world.delete("/v1/namespaces/n?everything=n").await.expect(204);
    world.namespace("n", json!({}), json!({})).await;
    world.send("PUT", path, put).await.refused(404, "not-found");
}

#[tokio::test]
async fn what_was_created_in_a_namespace_that_died_goes_at_the_next_start() {
    use model::ports::Meta as _;

    let world = World::start().await;
    world.namespace("n", json!({}), json!({})).await;
    let put =
        json!({ "config": config("echo.event", ""), "code": world.package_in("n", "1").await });
    world.send("PUT", "/v1/namespaces/n/functions/f", put).await.expect(201);
    let entry = world.meta.get("namespace/n").await.unwrap().unwrap();
    world.meta.delete_if("namespace/n", entry.revision).await.unwrap();
    let world = world.restart().await;
    for _ in 0..200 {
        let left = world.meta.get("function/n/f").await.unwrap().unwrap();
        if left.value.starts_with(br#"{"deleted":true"#) {
            let history = world.get("/v1/namespaces/n/functions/f/history").await;
            assert_eq!(history.json()["items"][0]["what"], "delete", "{history:?}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a function without a namespace stays");
}

#[tokio::test]
async fn what_deleted_functions_leave_is_passed_over() {
    use model::change::Tombstone;
    use model::ports::{Expect, Meta as _};

    let world = World::start().await;
    world.namespace("n", json!({}), json!({})).await;
    let tombstone = serde_json::to_vec(&Tombstone::new(2, 1)).unwrap();
    for n in 0..3_000 {
        let key = format!("function/n/f{n:05}");
        world.meta.put_if(&key, Expect::Absent, tombstone.clone().into()).await.unwrap();
    }
    let put =
        json!({ "config": config("echo.event", ""), "code": world.package_in("n", "1").await });
    let there = ["a", "f00007", "f02000", "z"];
    for name in there {
        let path = format!("/v1/namespaces/n/functions/{name}");
        world.send("PUT", &path, put.clone()).await.expect(201);
    }
    for limit in [1, 3, 4, 1_000] {
        let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let path = format!("/v1/namespaces/n/functions?limit={limit}{after}");
            let page = world.get(&path).await.expect(200);
            found.extend(crate::world::column(&page, "name"));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(found, there, "{limit}");
        assert!(pages <= 4 + 2, "{limit}: {pages} pages");
    }
    for name in there {
        world.delete(&format!("/v1/namespaces/n/functions/{name}")).await.expect(204);
    }
    world.delete("/v1/namespaces/n").await.expect(204);
}

#[tokio::test]
async fn the_mark_of_a_dead_deletion_does_not_stay() {
    use model::ports::{Expect, Meta as _};

    let world = World::start().await;
    let record = |since: &str| {
        format!(
            r#"{{"name":"n","description":"","created_at":0,"max_instances":null,"deleting_since":{since}}}"#
        )
    };
    let revision =
        world.meta.put_if("namespace/n", Expect::Absent, record("1").into()).await.unwrap();
    let code = world.package_in("n", "code").await;
    let put = json!({ "config": config("echo.event", ""), "code": code });
    assert_eq!(
        world.ask("PUT", "/v1/namespaces/n/functions/f").json(&put).send().await.status,
        201
    );
    let now = world.meta.get("namespace/n").await.unwrap().unwrap();
    assert!(now.revision > revision && !now.value.windows(8).any(|w| w == b"deleting"));

    // A fresh mark is respected.
    let fresh = record(&u64::MAX.to_string());
    world.meta.put_if("namespace/n", Expect::Revision(now.revision), fresh.into()).await.unwrap();
    let refused = world.ask("PUT", "/v1/namespaces/n/functions/g").json(&put).send().await;
    refused.refused(409, "conflict");
}
