//! Where the calls of an alias go: rules, sticky keys, weights, and the environment they meet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, column};

const INVOKE: &str = "/v1/namespaces/default/functions/f:live/invoke";

/// An alias of version 1 with one rule to version 2.
async fn rule(world: &World, when: Value) {
    let alias = json!({ "version": "1", "rules": [{ "when": when, "to": "2" }] });
    let reply = world.send("PUT", "f/aliases/live", alias).await;
    assert!([200, 201].contains(&reply.status), "{reply:?}");
}

/// What the version that a request to the alias's URL reaches answers: its number.
async fn by_url(
    world: &World,
    method: &str,
    rest: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let ask = world.ask_without_key(method, &format!("/fn/default/f:live{rest}")).body(body);
    let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
    let reply = ask.send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    String::from_utf8(reply.body).unwrap().trim_matches('"').to_owned()
}

/// Method, rest of the URL, headers, body.
type Called = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// A condition, a call that meets it, and one that does not.
fn conditions() -> Vec<(Value, Called, Called)> {
    vec![
        (
            json!({ "on": "header.X-Beta", "exact": "yes" }),
            ("GET", "/", &[("x-beta", "yes")], ""),
            ("GET", "/", &[("x-beta", "Yes")], ""),
        ),
        (
            json!({ "on": "query.a b", "one_of": ["1 2", "3"] }),
            ("GET", "/?x=1&a+b=1%202", &[], ""),
            ("GET", "/?x=1&a+b=12", &[], ""),
        ),
        (
            json!({ "on": "query.age", "range": "[18,)" }),
            ("GET", "/?age=18.5", &[], ""),
            ("GET", "/?age=old", &[], ""),
        ),
        (
            json!({ "on": "cookie.session", "prefix": "beta-" }),
            ("GET", "/", &[("cookie", "a=1; session=beta-7")], ""),
            ("GET", "/", &[("cookie", "xsession=beta-7")], ""),
        ),
        (
            json!({ "on": "path", "prefix": "/v2/" }),
            ("GET", "/v2/a", &[], ""),
            ("GET", "/v1/v2/", &[], ""),
        ),
        (json!({ "on": "path", "exact": "/" }), ("GET", "", &[], ""), ("GET", "/a", &[], "")),
        (
            json!({ "on": "method", "exact": "DELETE" }),
            ("DELETE", "/", &[], ""),
            ("POST", "/", &[], ""),
        ),
        (
            json!({ "on": "header.x-beta", "present": false }),
            ("GET", "/", &[], ""),
            ("GET", "/", &[("x-beta", "")], ""),
        ),
        (
            json!({ "on": "event.body.user", "exact": "ana" }),
            ("POST", "/", JSON, r#"{"user":"ana"}"#),
            ("POST", "/", JSON, r#"{"user":"bob"}"#),
        ),
        (
            json!({ "on": "event.body.items.1.price", "range": "(,10]" }),
            ("POST", "/", JSON, r#"{"items":[{},{"price":10}]}"#),
            ("POST", "/", JSON, r#"{"items":[{"price":1}]}"#),
        ),
        (
            json!({ "on": "event.requestContext.http.method", "exact": "PUT" }),
            ("PUT", "/", &[], ""),
            ("GET", "/", &[], ""),
        ),
        (
            json!({ "on": "event/headers/x-a.b", "exact": "1" }),
            ("GET", "/", &[("x-a.b", "1")], ""),
            ("GET", "/", &[], ""),
        ),
    ]
}

#[tokio::test]
async fn rules_read_what_a_url_is_called_with() {
    let world = World::start().await;
    world.versions(2).await;
    for (condition, meets, not) in conditions() {
        rule(&world, json!([condition])).await;
        for ((method, rest, headers, body), version) in [(meets, "2"), (not, "1")] {
            let reached = by_url(&world, method, rest, headers, body).await;
            assert_eq!(reached, version, "{condition}: {method} {rest} {headers:?} {body}");
        }
    }
    for (block, version) in [("127.0.0.0/8", "2"), ("127.0.0.1", "2"), ("10.0.0.0/8", "1")] {
        rule(&world, json!([{ "on": "source", "exact": block }])).await;
        assert_eq!(by_url(&world, "GET", "/", &[], "").await, version, "{block}");
    }
    // All conditions of a rule have to hold.
    rule(&world, json!([{ "on": "method", "exact": "GET" }, { "on": "path", "exact": "/a" }]))
        .await;
    assert_eq!(by_url(&world, "GET", "/a", &[], "").await, "2");
    assert_eq!(by_url(&world, "PUT", "/a", &[], "").await, "1");
    assert_eq!(by_url(&world, "GET", "/", &[], "").await, "1");
}

#[tokio::test]
async fn rules_do_not_see_the_key() {
    let world = World::start().await;
    world.versions(2).await;
    rule(&world, json!([{ "on": "header.authorization", "present": true }])).await;
    assert_eq!(world.ran("f:live", json!({})).await, "1");
    world.send("PATCH", "f/config", json!({ "url_auth": "key" })).await.expect(200);
    assert_eq!(world.get("/fn/default/f:live/").await.body, b"\"1\"");
}

#[tokio::test]
async fn rules_read_what_the_api_is_called_with() {
    let world = World::start().await;
    world.versions(3).await;
    let rules = json!([
        { "when": [{ "on": "header.x-beta", "exact": "yes" }], "to": "2" },
        { "when": [{ "on": "event.user.plan", "one_of": ["pro", "7", "true", "null"] }], "to": "3" },
        { "when": [{ "on": "path", "present": true }], "to": "2" },
    ]);
    let alias = json!({ "version": "1", "rules": rules });
    world.send("PUT", "f/aliases/live", alias).await.expect(201);
    for (event, version) in [
        (json!({ "user": { "plan": "pro" } }), "3"),
        (json!({ "user": { "plan": 7 } }), "3"),
        (json!({ "user": { "plan": true } }), "3"),
        (json!({ "user": { "plan": "free" } }), "1"),
        (json!({ "user": "pro" }), "1"),
        (json!([]), "1"),
        (json!("pro"), "1"),
    ] {
        assert_eq!(world.ran("f:live", event.clone()).await, version, "{event}");
    }
    // No JSON is no event that has fields.
    let odd = world.ask("POST", INVOKE).body("{\"user\":").send().await;
    assert_eq!(odd.header("x-hanshu-version"), "1");
    let first =
        world.ask("POST", INVOKE).header("x-beta", "yes").body(r#"{"user":{"plan":"pro"}}"#);
    assert_eq!(
        first.send().await.header("x-hanshu-version"),
        "2",
        "the first rule that matches decides"
    );
}

#[tokio::test]
async fn a_queued_call_goes_where_its_parameters_lead() {
    let world = World::start().await;
    world.versions(1).await;
    world.version(2, "fail.handler", "").await;
    rule(&world, json!([{ "on": "header.x-beta", "exact": "yes" }])).await;
    let call = world.ask("POST", INVOKE).header("x-hanshu-invocation", "async");
    call.header("x-beta", "yes").body("{}").send().await.expect(202);
    let used = |rows: &Value| {
        let row = rows["items"].as_array()?.first()?.clone();
        Some(row["version"].as_str()?.to_owned())
    };
    assert_eq!(world.until("f/usage", used).await, "2");
}

#[tokio::test]
async fn a_dry_run_and_a_resolution_say_why() {
    let world = World::start().await;
    world.versions(3).await;
    let alias = json!({
        "targets": [{ "version": "1", "weight": 3 }, { "version": "2", "weight": 1 }],
        "rules": [
            { "when": [{ "on": "header.x-beta", "exact": "yes" }], "to": "3" },
            { "when": [{ "on": "method", "exact": "PUT" }, { "on": "query.n", "range": "[1,5]" }], "to": "2" },
        ],
        "sticky": "cookie.session",
    });
    world.send("PUT", "f/aliases/live", alias).await.expect(201);
    let dry =
        world.ask("POST", INVOKE).header("x-hanshu-invocation", "dry-run").header("x-beta", "yes");
    let dry = dry.send().await;
    assert_eq!((dry.status, dry.header("x-hanshu-version")), (204, "3"));

    let resolve =
        async |call: Value| world.send("POST", "f/aliases/live/resolve", call).await.expect(200);
    let ruled = resolve(json!({ "headers": { "X-Beta": "yes" } })).await;
    assert_eq!((&ruled["version"], &ruled["rule"]), (&json!("3"), &json!(1)));
    assert_eq!(ruled["why"], "all conditions of rule 1 hold");
    assert_eq!(ruled["rules"], json!([{ "rule": 1, "matched": true }]));

    let second = resolve(json!({ "method": "PUT", "query": { "n": "5" } })).await;
    assert_eq!((&second["version"], &second["rule"]), (&json!("2"), &json!(2)));
    assert_eq!(second["rules"][0]["failed"], "header.x-beta is 'yes': the call has none");

    let chance = resolve(json!({ "method": "PUT", "query": { "n": "6" } })).await;
    assert_eq!(chance.get("version"), None);
    assert_eq!(chance["rules"][1]["failed"], "query.n lies in [1,5]: the call has '6'");
    assert_eq!(
        chance["why"],
        "no rule matches, and the weights decide, as the call has no cookie.session"
    );
    assert_eq!(
        chance["chances"],
        json!([{ "version": "1", "percent": 75.0 }, { "version": "2", "percent": 25.0 }])
    );

    let sticky = resolve(json!({ "cookies": { "session": "s7" } })).await;
    assert_eq!((&sticky["sticky"], &sticky["chances"]), (&json!("s7"), &json!([])));
    let reached = by_url(&world, "GET", "/", &[("cookie", "session=s7")], "").await;
    assert_eq!(sticky["version"], reached, "{sticky}");
    assert_eq!(world.sandbox.calls.load(std::sync::atomic::Ordering::SeqCst), 1);

    world.send("POST", "f/aliases/none/resolve", json!({})).await.refused(404, "not-found");
    let odd = world.send("POST", "f/aliases/live/resolve", json!({ "colour": 1 })).await;
    odd.refused(400, "invalid-body");
}

#[tokio::test]
async fn equal_keys_reach_the_same_version() {
    let world = World::start().await;
    world.versions(2).await;
    for sticky in ["header.x-user", "cookie.user", "event.user.id"] {
        let targets = json!([{ "version": "1", "weight": 1 }, { "version": "2", "weight": 1 }]);
        let alias = json!({ "targets": targets, "sticky": sticky });
        world.send("PUT", "f/aliases/live", alias).await;
        let mut reached = BTreeMap::<usize, BTreeSet<String>>::new();
        for call in 0..60 {
            let user = call % 20;
            let ask = match sticky {
                "header.x-user" => world.ask("POST", INVOKE).header("x-user", &format!("u{user}")),
                "cookie.user" => {
                    world.ask("POST", INVOKE).header("cookie", &format!("user=u{user}"))
                }
                _ => world.ask("POST", INVOKE).json(&json!({ "user": { "id": user } })),
            };
            let version = ask.send().await.header("x-hanshu-version").to_owned();
            reached.entry(user).or_default().insert(version);
        }
        assert!(reached.values().all(|versions| versions.len() == 1), "{sticky}: {reached:?}");
        let all: BTreeSet<_> = reached.into_values().flatten().collect();
        assert_eq!(all.len(), 2, "{sticky}: twenty users on one version are no chance");
    }
}

#[tokio::test]
async fn weights_are_shares() {
    let world = World::start().await;
    world.versions(3).await;
    let alias = json!({ "targets": [
        { "version": "1", "weight": 70 }, { "version": "2", "weight": 30 }, { "version": "3", "weight": 0 },
    ] });
    world.send("PUT", "f/aliases/live", alias).await.expect(201);
    let mut second = 0;
    for _ in 0..1_000 {
        match world.ran("f:live", json!({})).await.as_str() {
            "1" => {}
            "2" => second += 1,
            other => panic!("version {other} has no weight"),
        }
    }
    // Six standard deviations.
    assert!((213..=387).contains(&second), "{second} of 1 000");
}

#[tokio::test]
async fn an_alias_has_an_environment_of_its_own() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "version").await;
    world.send("POST", "f/versions", json!({})).await.expect(201);
    for (name, environment) in [
        ("live", json!({})),
        ("staging", json!({ "REPLY": "staging", "TOKEN": { "secret": "hunter2" } })),
    ] {
        let alias = json!({ "version": "1", "environment": environment });
        let made = world.send("PUT", &format!("f/aliases/{name}"), alias).await;
        assert!(!String::from_utf8_lossy(&made.body).contains("hunter2"), "{made:?}");
        made.expect(201);
    }
    let answer = async |target: &str| {
        let called = world.send("POST", &format!("{target}/invoke"), json!({})).await;
        assert_eq!(called.status, 200, "{called:?}");
        String::from_utf8(called.body).unwrap()
    };
    assert_eq!(answer("f:live").await, "version");
    assert_eq!(answer("f:staging").await, "staging");
    assert_eq!(answer("f:1").await, "version");
    // What is secret stays what it is while it is sent back as it is shown.
    let shown = world.get("f/aliases/staging").await.expect(200);
    assert_eq!(shown["environment"]["TOKEN"]["secret"], true);
    let again =
        json!({ "version": "1", "environment": { "REPLY": "other", "TOKEN": { "secret": true } } });
    let changed = world.send("PUT", "f/aliases/staging", again).await.expect(200);
    assert_eq!(changed["environment"]["TOKEN"]["secret"], true);
    assert_eq!(answer("f:staging").await, "other");
    let ids = column(&world.get("f/history?alias=staging").await.expect(200), "what");
    assert_eq!(ids, ["configure", "create"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_an_alias_moves_calls_reach_the_old_or_the_new_version() {
    let world = std::sync::Arc::new(World::start().await);
    world.versions(3).await;
    world.send("PUT", "f/aliases/live", json!({ "version": "1" })).await.expect(201);
    let moved = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (calling, done) = (world.clone(), moved.clone());
    let calls = async move {
        let mut reached = BTreeSet::new();
        for _ in 0..200 {
            let began_after = done.load(std::sync::atomic::Ordering::SeqCst);
            let version = calling.ran("f:live", json!({})).await;
            assert!(
                !began_after || version == "2",
                "version {version} after the change was answered"
            );
            reached.insert(version);
        }
        reached
    };
    let change = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        world.send("PUT", "f/aliases/live", json!({ "version": "2" })).await.expect(200);
        moved.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let (reached, ()) = tokio::join!(calls, change);
    assert_eq!(reached, ["1", "2"].map(str::to_owned).into(), "both, and nothing else");
}
