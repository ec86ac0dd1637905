//! Aliases: created, replaced, refused, brought back. Where calls go is tested in [`crate::routing`].

use serde_json::{Value, json};

use crate::world::{Reply, World, column};

async fn put(world: &World, body: Value) -> Reply {
    world.send("PUT", "f/aliases/live", body).await
}

fn to(version: &str) -> Value {
    json!({ "targets": [{ "version": version, "weight": 1 }] })
}

async fn rollback(world: &World, body: Value) -> Reply {
    world.send("POST", "f/aliases/live/rollback", body).await
}

#[tokio::test]
async fn an_alias_is_created_replaced_listed_and_deleted() {
    let world = World::start().await;
    world.versions(2).await;
    let made = put(&world, to("1")).await;
    let view = made.expect(201);
    assert_eq!(view["name"], "live");
    assert_eq!(view["function"], "f");
    assert_eq!(view["arn"], "arn:aws:lambda:local:000000000000:function:f:live");
    assert_eq!(view["url"], "http://127.0.0.1:9000/fn/default/f:live/");
    assert_eq!(view["targets"], json!([{ "version": "1", "weight": 1 }]));
    assert_eq!(made.header("etag"), format!("\"{}\"", view["revision"]));

    // Repeating it changes nothing.
    assert_eq!(put(&world, to("1")).await.expect(200), view);
    let second = put(&world, json!({ "description": "all", "version": "2" })).await.expect(200);
    assert_eq!(second["created_at"], view["created_at"]);
    assert_eq!(second["targets"], json!([{ "version": "2", "weight": 1_000_000 }]));
    assert_eq!(second["revision"], view["revision"].as_u64().unwrap() + 1);
    assert_eq!(world.get("f/aliases/live").await.expect(200), second);
    // The function itself did not change.
    let function = world.get("f").await.expect(200);
    assert!(function["revision"].as_u64() < view["revision"].as_u64(), "{function}");

    for name in ["b", "a", "c"] {
        world.send("PUT", &format!("f/aliases/{name}"), to("1")).await.expect(201);
    }
    let page = world.get("f/aliases?limit=2").await.expect(200);
    assert_eq!((column(&page, "name"), &page["next"]), (vec![json!("a"), json!("b")], &json!("b")));
    let rest = world.get("f/aliases?limit=2&after=b").await.expect(200);
    assert_eq!((column(&rest, "name"), rest.get("next")), (vec![json!("c"), json!("live")], None));

    world.delete("f/aliases/live").await.expect(204);
    world.delete("f/aliases/live").await.refused(404, "not-found");
    world.get("f/aliases/live").await.refused(404, "not-found");
    world.get("f?qualifier=live").await.refused(404, "not-found");
    world.send("POST", "f:live/invoke", json!({})).await.refused(404, "not-found");
    world.send("PUT", "none/aliases/live", to("1")).await.refused(404, "not-found");
}

/// A body, the code of its refusal, and what the message says.
type Bad = (Value, &'static str, &'static str);

fn bad_targets() -> Vec<Bad> {
    let target = json!([{ "version": "1", "weight": 1 }]);
    let many = |n: usize, item: Value| Value::from(vec![item; n]);
    vec![
        (json!({}), "invalid-parameter", "targets"),
        (json!({ "targets": [] }), "invalid-parameter", "targets are 0"),
        (
            json!({ "targets": target, "version": "1" }),
            "invalid-parameter",
            "targets are not clear",
        ),
        (
            json!({ "targets": many(101, target[0].clone()) }),
            "invalid-parameter",
            "targets are 101",
        ),
        (
            json!({ "targets": many(2, target[0].clone()) }),
            "invalid-parameter",
            "targets[1].version 1",
        ),
        (json!({ "targets": [{ "version": "1", "weight": 0 }] }), "invalid-parameter", "no weight"),
        (
            json!({ "targets": [{ "version": "1", "weight": 1_000_001 }] }),
            "invalid-parameter",
            "targets[0].weight 1000001",
        ),
        (
            json!({ "targets": [{ "version": "1", "weight": -1 }] }),
            "invalid-body",
            "targets[0].weight",
        ),
        (
            json!({ "targets": [{ "version": "live", "weight": 1 }] }),
            "invalid-body",
            "targets[0].version",
        ),
        (
            json!({ "version": "1", "additional_version_weights": { "2": 1.5 } }),
            "invalid-parameter",
            "AdditionalVersionWeights of version 2",
        ),
        (
            json!({ "version": "1", "additional_version_weights": { "1": 0.5 } }),
            "invalid-parameter",
            "names version 1",
        ),
    ]
}

/// An alias of version 1 with this rule.
fn ruled(rule: Value) -> Value {
    json!({ "version": "1", "rules": [rule] })
}

fn bad_rules_and_others() -> Vec<Bad> {
    let target = json!([{ "version": "1", "weight": 1 }]);
    let when = |condition: Value| ruled(json!({ "when": [condition], "to": "1" }));
    let many = |n: usize, item: Value| Value::from(vec![item; n]);
    let texts: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    vec![
        (json!({ "targets": target, "sticky": "path" }), "invalid-parameter", "sticky 'path'"),
        (json!({ "targets": target, "sticky": "body" }), "invalid-body", "sticky"),
        (
            ruled(json!({ "when": [], "to": "1" })),
            "invalid-parameter",
            "rules[0] has no conditions",
        ),
        (ruled(json!({ "to": "1" })), "invalid-body", "rules[0]"),
        (
            ruled(json!({ "when": many(11, json!({ "on": "path", "exact": "/" })), "to": "1" })),
            "invalid-parameter",
            "rules[0] has 11 conditions",
        ),
        (when(json!({ "on": "header.a" })), "invalid-body", "rules[0]"),
        (when(json!({ "on": "header.a", "range": "[5,1]" })), "invalid-body", "rules[0]"),
        (when(json!({ "on": "path", "exact": "a", "prefix": "b" })), "invalid-body", "rules[0]"),
        (when(json!({ "on": "path", "one_of": [] })), "invalid-parameter", "rules[0] has a one_of"),
        (
            when(json!({ "on": "path", "one_of": texts })),
            "invalid-parameter",
            "rules[0] has a one_of",
        ),
        (
            when(json!({ "on": "path", "exact": "x".repeat(1_025) })),
            "invalid-parameter",
            "rules[0] has a text of 1025 bytes",
        ),
        (
            ruled(
                json!({ "Version": "1", "Key": "headers.a", "Method": "exact", "Expression": "x" }),
            ),
            "invalid-body",
            "rules[0]",
        ),
        (
            json!({ "targets": target, "rules": many(101, json!({ "when": [{ "on": "path", "exact": "/" }], "to": "1" })) }),
            "invalid-parameter",
            "rules are too many: 101",
        ),
        (
            json!({ "targets": target, "environment": { "A=B": "" } }),
            "invalid-parameter",
            "environment key",
        ),
        (
            json!({ "targets": target, "environment": { "A": { "secret": true } } }),
            "invalid-parameter",
            "environment",
        ),
        (
            json!({ "targets": target, "shadow": { "version": "1", "share": "200%" } }),
            "invalid-body",
            "shadow.share",
        ),
        (
            json!({ "targets": target, "description": "d".repeat(1_001) }),
            "invalid-parameter",
            "description",
        ),
        (json!({ "targets": target, "colour": "red" }), "invalid-body", "colour"),
    ]
}

#[tokio::test]
async fn bad_aliases_are_refused_by_the_name_of_the_field() {
    let world = World::start().await;
    world.versions(1).await;
    for (body, code, part) in bad_targets().into_iter().chain(bad_rules_and_others()) {
        let message = put(&world, body.clone()).await.refused(400, code);
        assert!(message.contains(part), "{body}: {message}");
    }
    // Versions that do not exist, wherever they are named.
    for body in [
        to("9"),
        json!({ "version": "1", "additional_version_weights": { "9": 0.5 } }),
        ruled(json!({ "when": [{ "on": "path", "exact": "/" }], "to": "9" })),
        json!({ "version": "1", "shadow": { "version": "9", "share": "1%" } }),
    ] {
        let message = put(&world, body.clone()).await.refused(404, "not-found");
        assert!(message.contains("default/f:9"), "{body}: {message}");
    }
    world.get("f/aliases/live").await.refused(404, "not-found");
    for name in ["1", "a.b", "$LATEST", &"x".repeat(129)] {
        let path = format!("f/aliases/{name}");
        world.send("PUT", &path, to("1")).await.refused(400, "invalid-name");
    }
}

#[tokio::test]
async fn an_alias_of_another_form_is_shown_in_ours() {
    let world = World::start().await;
    world.versions(3).await;
    let body = json!({
        "version": "1",
        "additional_version_weights": { "2": 0.05, "3": 0.000_001 },
        "rules": [{ "Version": "3", "Key": "invoke.headers.User", "Method": "range", "Expression": "[1,10)" }],
    });
    put(&world, body).await.expect(201);
    let view = world.get("f/aliases/live").await.expect(200);
    assert_eq!(
        view["targets"],
        json!([
            { "version": "1", "weight": 949_999 },
            { "version": "2", "weight": 50_000 },
            { "version": "3", "weight": 1 },
        ])
    );
    let when = json!([{ "on": "header.user", "range": "[1,10)" }]);
    assert_eq!(view["rules"], json!([{ "when": when, "to": "3" }]));
    let called = world.ask("POST", "/v1/namespaces/default/functions/f:live/invoke");
    assert_eq!(called.header("user", "9.5").send().await.header("x-hanshu-version"), "3");
}

#[tokio::test]
async fn two_people_do_not_overwrite_each_other() {
    let world = World::start().await;
    let ana = world.new_key("ana", None).await;
    let path = "/v1/namespaces/default/functions/f/aliases/live";
    world.versions(2).await;
    let seen = put(&world, to("1")).await.expect(201)["revision"].to_string();
    world
        .ask("PUT", path)
        .header("if-none-match", "*")
        .json(&to("2"))
        .send()
        .await
        .refused(409, "already-exists");
    world
        .ask_as(&ana, "PUT", path)
        .header("if-match", &seen)
        .json(&to("2"))
        .send()
        .await
        .expect(200);
    // Changes of the function, or of other aliases, are none of this alias.
    world.send("PUT", "f/aliases/other", to("1")).await.expect(201);
    world.send("PATCH", "f/config", json!({ "memory_mb": 256 })).await.expect(200);

    for method in ["PUT", "DELETE"] {
        let stale =
            world.ask(method, path).header("if-match", &format!("\"{seen}\"")).json(&to("1"));
        let message = stale.send().await.refused(412, "precondition-failed");
        for part in ["expected revision", "configure by ana at 20", "(revision "] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(
            message.matches(" by ").count(),
            1,
            "only what changed of this alias: {message}"
        );
    }
    for (method, sub, body) in [
        ("POST", "rollback", json!({})),
        ("PUT", "shift", json!({ "to": "1" })),
        ("DELETE", "shift", json!({})),
        ("PUT", "shadow", json!({ "version": "1", "share": "1%" })),
        ("DELETE", "shadow", json!({})),
    ] {
        let stale = world.ask(method, &format!("{path}/{sub}")).header("if-match", &seen);
        stale.json(&body).send().await.refused(412, "precondition-failed");
    }
    let view = world.get("f/aliases/live").await;
    assert_eq!(view.json()["targets"][0]["version"], "2");
    let fresh = world.ask("PUT", path).header("if-match", view.header("etag"));
    fresh.json(&to("1")).send().await.expect(200);
}

#[tokio::test]
async fn a_stale_change_of_a_function_or_layer_hears_of_every_change_since() {
    let world = World::start().await;
    world.versions(1).await;
    let seen = world.get("f").await.header("etag").to_owned();
    world.send("PATCH", "f/config", json!({ "memory_mb": 256 })).await.expect(200);
    world.send("POST", "f/versions", json!({})).await.expect(201);
    world.delete("f/versions/1").await.expect(204);
    let path = "/v1/namespaces/default/functions/f/config";
    let stale =
        world.ask("PATCH", path).header("if-match", &seen).json(&json!({ "memory_mb": 64 }));
    let message = stale.send().await.refused(412, "precondition-failed");
    for what in ["configure by root", ": config.memory_mb", "publish by root", "delete by root"] {
        assert!(message.contains(what), "{message}");
    }

    let layer = "/v1/namespaces/default/layers/numpy";
    let versions = format!("{layer}/versions");
    let body = crate::world::zipped(&[("a", b"1")]);
    world.ask("POST", &versions).body(body).send().await.expect(201);
    let seen = world.get(layer).await.header("etag").to_owned();
    world
        .send("PUT", &format!("{layer}/aliases/stable"), json!({ "version": 1 }))
        .await
        .expect(200);
    let body = crate::world::zipped(&[("a", b"2")]);
    let stale = world.ask("POST", &versions).header("if-match", &seen).body(body);
    let message = stale.send().await.refused(412, "precondition-failed");
    assert!(message.contains("create by root"), "{message}");
}

#[tokio::test]
async fn an_alias_goes_back_to_any_earlier_state() {
    let world = World::start().await;
    world.versions(3).await;
    let target = |view: &Value| view["targets"][0]["version"].clone();
    let first = put(&world, to("1")).await.expect(201)["revision"].as_u64().unwrap();
    rollback(&world, json!({})).await.refused(400, "invalid-parameter");
    put(&world, to("2")).await.expect(200);
    put(&world, to("3")).await.expect(200);

    let back = rollback(&world, json!({})).await.expect(200);
    assert_eq!((target(&back), &back["revision"]), (json!("2"), &json!(first + 3)));
    let back = rollback(&world, json!({ "revision": first })).await.expect(200);
    assert_eq!((target(&back), &back["revision"]), (json!("1"), &json!(first + 4)));
    let history = world.get("f/history?alias=live").await.expect(200);
    let whats = column(&history, "what");
    assert_eq!(whats, ["rollback", "rollback", "configure", "configure", "create"]);

    // A deleted alias comes back; a state that is none of this alias, or lost its version, does not.
    world.delete("f/aliases/live").await.expect(204);
    assert_eq!(target(&rollback(&world, json!({})).await.expect(200)), "1");
    let message =
        rollback(&world, json!({ "revision": 1 })).await.refused(400, "invalid-parameter");
    assert!(message.contains("revision 1 is no state of alias"), "{message}");
    rollback(&world, json!({ "revision": 999 })).await.refused(404, "not-found");
    world.delete("f/versions/3").await.expect(204);
    let message =
        rollback(&world, json!({ "revision": first + 2 })).await.refused(404, "not-found");
    assert!(message.contains("default/f:3"), "{message}");
    assert_eq!(world.ran("f:live", json!({})).await, "1");
}

#[tokio::test]
async fn a_version_stays_while_an_alias_leads_to_it() {
    let world = World::start().await;
    world.versions(4).await;
    let rule = json!([{ "when": [{ "on": "path", "exact": "/" }], "to": "4" }]);
    let target = json!([{ "version": "1", "weight": 1 }]);
    let aliases = [
        (
            "target",
            json!({ "targets": [{ "version": "1", "weight": 1 }, { "version": "4", "weight": 0 }] }),
        ),
        ("rule", json!({ "targets": target, "rules": rule })),
        ("shadow", json!({ "targets": target, "shadow": { "version": "4", "share": "0%" } })),
        ("shift", to("1")),
    ];
    for (name, body) in &aliases {
        world.send("PUT", &format!("f/aliases/{name}"), body.clone()).await.expect(201);
    }
    let shift = json!({ "to": "4", "every_ms": 60_000 });
    world.send("PUT", "f/aliases/shift/shift", shift).await.expect(200);
    let message = world.delete("f/versions/4").await.refused(409, "conflict");
    for (name, _) in &aliases {
        assert!(message.contains(&format!("'{name}'")), "{message}");
    }
    let listed = world.get("f/versions").await.expect(200);
    assert_eq!(listed["items"][3]["aliases"], json!(["rule", "shadow", "shift", "target"]));
    // A shift may go back to where it came from.
    world.send("PUT", "f/aliases/shift", to("2")).await.expect(200);
    let shift = json!({ "to": "3", "canary": ["100%"], "every_ms": 60_000 });
    let view = world.send("PUT", "f/aliases/shift/shift", shift).await.expect(200);
    assert_eq!(view["targets"], json!([{ "version": "3", "weight": 1_000_000 }]));
    // It is no matter of the condition, which holds.
    let now = world.get("f").await.header("etag").to_owned();
    let path = "/v1/namespaces/default/functions/f/versions/2";
    let used = world.ask("DELETE", path).header("if-match", &now).send().await;
    used.refused(409, "conflict");

    for (name, _) in &aliases {
        world.delete(&format!("f/aliases/{name}")).await.expect(204);
    }
    for number in [2, 4] {
        world.delete(&format!("f/versions/{number}")).await.expect(204);
    }
    world.delete("f/versions/4").await.refused(404, "not-found");
}

#[tokio::test]
async fn aliases_have_a_limit() {
    use model::function::Function;
    use model::ports::{Expect, Meta as _};

    let world = World::start().await;
    world.versions(1).await;
    put(&world, to("1")).await.expect(201);
    // A thousand requests take long: the document is filled by hand.
    let entry = world.meta.get("function/default/f").await.unwrap().unwrap();
    let mut function: Function = serde_json::from_slice(&entry.value).unwrap();
    let record = function.aliases.values().next().unwrap().clone();
    for n in 1..model::limits::ALIASES {
        function.aliases.insert(format!("a{n}").parse().unwrap(), record.clone());
    }
    let filled = serde_json::to_vec(&function).unwrap().into();
    world.meta.put_if(&entry.key, Expect::Revision(entry.revision), filled).await.unwrap();
    let one_more = world.send("PUT", "f/aliases/more", to("1")).await;
    let message = one_more.refused(400, "invalid-parameter");
    assert!(message.contains("1000 aliases: expected at most 1000"), "{message}");
    put(&world, json!({ "version": "$LATEST" })).await.expect(200);
    world.delete("f/aliases/a1").await.expect(204);
    world.send("PUT", "f/aliases/more", to("1")).await.expect(201);
}
