//! Asynchronous calls: listed, shown, waited for, cancelled, redriven, forgotten; none of it across namespaces.

use serde_json::{Value, json};

use crate::world::{Reply, World};

const CALLS: &str = "/v1/namespaces/default/calls";

async fn enqueue(world: &World, function: &str, event: &Value) -> String {
    let path = format!("/v1/namespaces/default/functions/{function}/invoke");
    let ask = world.ask("POST", &path).header("x-hanshu-invocation", "async");
    let reply = ask.json(event).send().await;
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json()["request_id"].as_str().unwrap().to_owned()
}

async fn get(world: &World, id: &str, query: &str) -> Reply {
    world.ask("GET", &format!("{CALLS}/{id}{query}")).send().await
}

async fn post(world: &World, id: &str, what: &str) -> Reply {
    world.ask("POST", &format!("{CALLS}/{id}/{what}")).send().await
}

#[tokio::test]
async fn a_call_is_waited_for_shown_and_forgotten() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "x").await;
    let id = enqueue(&world, "f", &json!({ "n": 1 })).await;
    let call = get(&world, &id, "?wait=30").await.json();
    assert_eq!((&call["state"], &call["function"]), (&json!("succeeded"), &json!("f")), "{call}");
    assert_eq!(
        (&call["attempts"], &call["history"][0]["outcome"]),
        (&json!(1), &json!("succeeded"))
    );
    assert!(call["result"] != Value::Null && call["event"] == Value::Null, "{call}");
    post(&world, &id, "cancel").await.refused(409, "conflict");
    post(&world, &id, "redrive").await.refused(409, "conflict");
    let path = format!("{CALLS}/{id}");
    assert_eq!(world.ask("DELETE", &path).send().await.status, 204);
    get(&world, &id, "").await.refused(404, "not-found");
    world.ask("DELETE", &path).send().await.refused(404, "not-found");
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "x").await;
    world.function("g", "fixed.reply", "x").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let id = enqueue(&world, if n == 2 { "g" } else { "f" }, &json!(n)).await;
        get(&world, &id, "?wait=30").await;
        ids.insert(0, id);
    }
    let list = async |query: &str| world.ask("GET", &format!("{CALLS}{query}")).send().await;
    let ids_of = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|c| c["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = list("?limit=3").await.json();
    let next = first["next"].as_str().unwrap();
    let second = list(&format!("?limit=3&after={next}")).await.json();
    assert_eq!([ids_of(&first), ids_of(&second)].concat(), ids);
    assert_eq!(second["next"], Value::Null);
    assert_eq!(ids_of(&list("?function=g").await.json()), [ids[2].clone()]);
    assert_eq!(ids_of(&list("?state=succeeded").await.json()).len(), 5);
    assert_eq!(ids_of(&list("?state=dead").await.json()).len(), 0);
    assert_eq!(ids_of(&list("?since=2100-01-01T00:00:00Z").await.json()).len(), 0);
    for (bad, word) in [
        ("?state=done", "waiting"),
        ("?limit=0", "limit"),
        ("?since=yesterday", "since"),
        ("?colour=red", "colour"),
        ("?after=x", "UUID"),
    ] {
        let refusal = list(bad).await.refused(400, "invalid-parameter");
        assert!(refusal.contains(word), "{bad}: {refusal}");
    }
    let late = get(&world, &ids[0], "?wait=61").await.refused(400, "invalid-parameter");
    assert!(late.contains("60"), "{late}");
}

#[tokio::test]
async fn another_namespace_sees_none_of_it() {
    let world = World::start().await;
    world.function("f", "fixed.reply", "x").await;
    let id = enqueue(&world, "f", &json!({})).await;
    let body = json!({ "name": "other" });
    assert_eq!(world.ask("POST", "/v1/namespaces").json(&body).send().await.status, 201);
    let there = format!("/v1/namespaces/other/calls/{id}");
    for (method, path) in [
        ("GET", there.clone()),
        ("DELETE", there.clone()),
        ("POST", format!("{there}/cancel")),
        ("POST", format!("{there}/redrive")),
    ] {
        world.ask(method, &path).send().await.refused(404, "not-found");
    }
    let list = world.ask("GET", "/v1/namespaces/other/calls").send().await.json();
    assert_eq!(list["items"], json!([]));
}
