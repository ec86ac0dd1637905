//! A daemon that dies: after every write of every change, made or not. The next one over the same store finds the old or the new state, a
//! history that says the same, and can go on.

use std::fmt;

use model::ports::Meta as _;
use serde_json::{Value, json};

use crate::world::{Reply, World, column, config, zipped};

const L: &str = "/v1/namespaces/default/layers/lib";
const F: &str = "/v1/namespaces/default/functions/f";

/// Most writes of one change; a change that needs more fails the test.
const WRITES: i64 = 30;

/// A change that is cut off.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Create,
    Deploy,
    Publish,
    PutAlias,
    RollbackAlias,
    DeleteAlias,
    PutShadow,
    StartShift,
    ShiftStep,
    ShiftDone,
    ShiftStop,
    RollbackFunction,
    DeleteVersion,
    DeleteFunction,
    MoveLayer,
    DeleteLayer,
    DeleteNamespace,
}

impl Deed {
    async fn prepare(self, world: &World) {
        match self {
            Self::Create => {}
            Self::MoveLayer => {
                for content in [b"1", b"2"] {
                    layer(world, content).await.expect(201);
                }
                point(world, 1).await.expect(200);
                put(world, "f", "1").await.expect(201);
                put(world, "g", "1").await.expect(201);
            }
            Self::DeleteLayer => drop(layer(world, b"1").await.expect(201)),
            Self::DeleteNamespace => {
                world.namespace("n", json!({}), json!({})).await;
                let code = world.package_in("n", "1").await;
                let body = json!({ "config": config("fixed.reply", "1"), "code": code });
                world.send("PUT", "/v1/namespaces/n/functions/f", body).await.expect(201);
            }
            _ => {
                world.versions(1).await;
                let fails = matches!(self, Self::ShiftStop);
                let handler = if fails { "fail.handler" } else { "fixed.reply" };
                world.version(2, handler, "\"2\"").await;
                world.send("PUT", "f/aliases/live", json!({ "version": "1" })).await.expect(201);
                world.send("PATCH", "f/config", json!({ "memory_mb": 256 })).await.expect(200);
            }
        }
        let shift = match self {
            Self::RollbackAlias => {
                world.send("PUT", "f/aliases/live", json!({ "version": "2" })).await.expect(200);
                return;
            }
            Self::ShiftStep => json!({ "to": "2", "canary": ["50%", "100%"], "every_ms": 1_000 }),
            Self::ShiftDone => json!({ "to": "2", "canary": ["100%"], "every_ms": 1_000 }),
            Self::ShiftStop => json!({ "to": "2", "canary": ["50%", "100%"], "min_calls": 1 }),
            _ => return,
        };
        world.send("PUT", "f/aliases/live/shift", shift).await.expect(200);
    }

    async fn act(self, world: &World) -> Reply {
        match self {
            Self::Create | Self::Deploy => put(world, "f", "new").await,
            Self::Publish => world.send("POST", "f/versions", json!({})).await,
            Self::PutAlias => world.send("PUT", "f/aliases/live", json!({ "version": "2" })).await,
            Self::StartShift => {
                world
                    .send("PUT", "f/aliases/live/shift", json!({ "to": "2", "every_ms": 600_000 }))
                    .await
            }
            Self::RollbackAlias => world.send("POST", "f/aliases/live/rollback", json!({})).await,
            Self::DeleteAlias => world.delete("f/aliases/live").await,
            Self::PutShadow => {
                let shadow = json!({ "version": "2", "share": "10%" });
                world.send("PUT", "f/aliases/live/shadow", shadow).await
            }
            // The daemon's own.
            Self::ShiftStep => alias_once(world, |alias| alias["shift"]["step"] != 1).await,
            Self::ShiftDone => alias_once(world, |alias| alias.get("shift").is_none()).await,
            Self::ShiftStop => {
                for _ in 0..30 {
                    world.send("POST", "f:live/invoke", json!({})).await;
                }
                alias_once(world, |alias| alias.get("shift").is_none()).await
            }
            Self::RollbackFunction => {
                world.send("POST", "f/rollback", json!({ "version": 1 })).await
            }
            Self::DeleteVersion => world.delete("f/versions/2").await,
            Self::DeleteFunction => world.delete("f").await,
            Self::MoveLayer => point(world, 2).await,
            Self::DeleteLayer => world.delete(L).await,
            Self::DeleteNamespace => world.delete("/v1/namespaces/n?everything=n").await,
        }
    }

    /// Another change of the same documents.
    async fn go_on(self, world: &World) {
        match self {
            Self::MoveLayer => drop(point(world, 1).await.expect(200)),
            Self::DeleteLayer => drop(layer(world, b"next").await.expect(201)),
            Self::DeleteNamespace => drop(world.namespace("n", json!({}), json!({})).await),
            _ => drop(world.function("f", "fixed.reply", "next").await),
        }
    }

    /// Everything that shows of what is changed.
    async fn state(self, world: &World) -> State {
        let mut state = Vec::new();
        if matches!(self, Self::ShiftStep | Self::ShiftDone) {
            // The shift goes on meanwhile: only what the change is about.
            let alias = world.get("f/aliases/live").await.expect(200);
            let over = matches!(self, Self::ShiftDone) && alias.get("shift").is_none();
            return State(vec![alias["targets"].clone(), json!(over)]);
        }
        let paths: &[&str] = match self {
            Self::MoveLayer => &[L, "f", "g"],
            Self::DeleteLayer => &[L],
            Self::DeleteNamespace => &["/v1/namespaces/n"],
            _ => &["f", "f/versions", "f/aliases"],
        };
        for path in paths {
            let reply = world.get(path).await;
            state.push(if reply.status == 200 { without_times(reply.json()) } else { Value::Null });
        }
        // Each listed version is there whole.
        if let Some(Value::Object(versions)) = state.get(1)
            && versions.contains_key("items")
        {
            for number in column(&state[1], "version") {
                world.get(&format!("f/versions/{number}")).await.expect(200);
            }
        }
        State(state)
    }

    /// Documents whose history must be whole.
    fn documents(self) -> &'static [&'static str] {
        match self {
            Self::MoveLayer => &["layer/default/lib", "function/default/f", "function/default/g"],
            Self::DeleteLayer => &["layer/default/lib"],
            Self::DeleteNamespace => &["namespace/n", "function/n/f"],
            _ => &["function/default/f"],
        }
    }
}

#[derive(PartialEq)]
struct State(Vec<Value>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|value| writeln!(f, "{value}"))
    }
}

/// What two runs have in common.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            for name in
                ["created_at", "modified_at", "published_at", "step_since", "started_at", "used"]
            {
                members.remove(name);
            }
            members.values_mut().for_each(|member| *member = without_times(member.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_times(item.take())),
        _ => {}
    }
    value
}

async fn put(world: &World, name: &str, reply: &str) -> Reply {
    let mut config = config("fixed.reply", reply);
    if world.get(&format!("{L}/versions/1")).await.status == 200 {
        config["layers"] = json!(["lib:stable"]);
    }
    let package =
        world.ask("POST", "/v1/namespaces/default/packages?filename=index.js").body(reply);
    let package = package.send().await;
    if package.status != 201 {
        return package;
    }
    let body = json!({ "config": config, "code": package.json()["digest"], "publish": true });
    world.send("PUT", name, body).await
}

async fn layer(world: &World, content: &[u8]) -> Reply {
    world.ask("POST", &format!("{L}/versions")).body(zipped(&[("a", content)])).send().await
}

async fn point(world: &World, version: u64) -> Reply {
    world.send("PUT", &format!("{L}/aliases/stable"), json!({ "version": version })).await
}

/// The answer about the alias once it is so, or the daemon is dead.
async fn alias_once(world: &World, so: impl Fn(&Value) -> bool) -> Reply {
    for _ in 0..800 {
        let reply = world.get("f/aliases/live").await;
        if reply.status != 200 {
            return reply;
        }
        if so(&reply.json()) {
            // The change is seen before it is in the history.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            return reply;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("it never became so");
}

/// Asserts that a document's history has every revision up to the newest once, and that the newest is the document's own.
async fn history_is_whole(world: &World, document: &str, at: &str) {
    let (kind, name) = document.split_once('/').unwrap();
    let path = match (kind, name.split_once('/')) {
        ("namespace", _) => format!("/v1/namespaces/{name}/history"),
        (kind, Some((namespace, name))) => {
            format!("/v1/namespaces/{namespace}/{kind}s/{name}/history")
        }
        _ => panic!("{document}"),
    };
    let stored = world.meta.get(document).await.unwrap();
    let store_revision = stored.as_ref().map(|stored| stored.revision);
    let newest = match &stored {
        Some(stored) => {
            let stored: Value = serde_json::from_slice(&stored.value).unwrap();
            let tombstone = stored["change"].is_null();
            let newest = if tombstone { &stored } else { &stored["change"] };
            newest["revision"].as_u64().unwrap()
        }
        None => {
            assert_eq!(
                world.meta.list(&format!("history/{document}/"), None, 9).await.unwrap(),
                [],
                "{at}"
            );
            return;
        }
    };
    let shown = world.get(&path).await;
    let now = world.meta.get(document).await.unwrap().map(|stored| stored.revision);
    if now != store_revision {
        // A shift went on in between.
        return Box::pin(history_is_whole(world, document, at)).await;
    }
    // Where a namespace is gone, nobody may ask for what was in it.
    if shown.status == 404 && name.contains('/') {
        return;
    }
    let revisions = column(&shown.expect(200), "revision");
    assert_eq!(revisions, (1..=newest).rev().collect::<Vec<_>>(), "{at}: {document}");
}

/// Cuts `deed` off after every write.
async fn dies(deed: Deed) {
    let prepared = World::start().await;
    deed.prepare(&prepared).await;
    // What is prepared stays so.
    prepared.seen.die_after(0, false);
    let (old, new) = {
        let world = prepared.copied().await;
        let old = deed.state(&world).await;
        let done = deed.act(&world).await;
        assert!([200, 201, 204].contains(&done.status), "{deed:?}: {done:?}");
        (old, deed.state(&world).await)
    };
    assert_ne!(old, new, "{deed:?} changes something");
    let mut seen = [false, false];
    for lose_answer in [false, true] {
        for writes in 0..=WRITES {
            assert!(writes < WRITES, "{deed:?} needs more than {WRITES} writes");
            let world = prepared.copied().await;
            // Once it answers, its start needs the store no more.
            world.get("/v1/health").await.expect(200);
            world.seen.die_after(writes, lose_answer);
            let reply = deed.act(&world).await;
            if !world.seen.died() {
                break;
            }
            let at = format!(
                "{deed:?}, dead after {writes} writes, answer lost: {lose_answer}, {reply:?}"
            );
            let world = world.restart().await;
            settled(&world, deed).await;
            let found = deed.state(&world).await;
            assert!(
                found == old || found == new,
                "{at}\nfound {found:?}\nold {old:?}\nnew {new:?}"
            );
            seen[usize::from(found == new)] = true;
            let succeeded = [200, 201, 204].contains(&reply.status);
            assert!(!succeeded || found == new, "{at}: acknowledged, and gone");
            for document in deed.documents() {
                history_is_whole(&world, document, &at).await;
            }
            // Again: what is not done yet can be done, and what is done is no trouble.
            let again = deed.act(&world).await;
            if found == old {
                assert!([200, 201, 204].contains(&again.status), "{at}: {again:?}");
                let end = deed.state(&world).await;
                assert!(end == new, "{at}\nfound {end:?}\nnew {new:?}");
            } else {
                assert!([200, 201, 404, 409].contains(&again.status), "{at}: {again:?}");
            }
            deed.go_on(&world).await;
            for document in deed.documents() {
                history_is_whole(&world, document, &at).await;
            }
        }
    }
    assert_eq!(seen, [true, true], "{deed:?}: not both states were seen");
}

/// Waits until what the daemon before left half done is finished.
async fn settled(world: &World, deed: Deed) {
    if !matches!(deed, Deed::MoveLayer) {
        return;
    }
    for _ in 0..200 {
        let at = world.get(L).await.expect(200)["aliases"][0]["version"].clone();
        let mut following = 0;
        for function in ["f", "g"] {
            let layers = world.get(function).await.expect(200)["layers"].clone();
            following += usize::from(layers[0]["version"] == at);
        }
        if following == 2 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("not every function follows the layer");
}

macro_rules! deaths {
    ($($name:ident: $deed:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            dies(Deed::$deed).await;
        }
    )*};
}

deaths! {
    while_it_creates_a_function: Create;
    while_it_deploys: Deploy;
    while_it_publishes: Publish;
    while_it_changes_an_alias: PutAlias;
    while_it_rolls_an_alias_back: RollbackAlias;
    while_it_deletes_an_alias: DeleteAlias;
    while_it_gives_an_alias_a_shadow: PutShadow;
    while_it_starts_a_shift: StartShift;
    while_it_takes_the_next_step_of_a_shift: ShiftStep;
    while_it_ends_a_shift: ShiftDone;
    while_it_takes_a_shift_back: ShiftStop;
    while_it_rolls_a_function_back: RollbackFunction;
    while_it_deletes_a_version: DeleteVersion;
    while_it_deletes_a_function: DeleteFunction;
    while_it_moves_the_alias_of_a_layer: MoveLayer;
    while_it_deletes_a_layer: DeleteLayer;
    while_it_deletes_a_namespace: DeleteNamespace;
}

#[tokio::test]
async fn numbers_go_on_after_a_deletion_that_was_cut_off() {
    for writes in 1..6 {
        let world = World::start().await;
        world.versions(2).await;
        world.seen.die_after(writes, false);
        world.ask("DELETE", F).send().await;
        let world = world.restart().await;
        if world.get("f").await.status == 200 {
            continue;
        }
        world.function("f", "fixed.reply", "new").await;
        let published = world.send("POST", "f/versions", json!({})).await.expect(201);
        assert_eq!(
            (&published["version"], &published["revision"]),
            (&json!("3"), &json!(7)),
            "{writes}"
        );
        history_is_whole(&world, "function/default/f", &format!("{writes}")).await;
        // Of the namesake before nothing is left.
        let mut bodies = world.meta.list("version/", None, 99).await.unwrap();
        for _ in 0..100 {
            if bodies.len() == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            bodies = world.meta.list("version/", None, 99).await.unwrap();
        }
        assert_eq!(bodies.len(), 1, "{writes}");
    }
}
