//! Calls with a key, across kills of the daemon.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Start, eventually};

const SLOW: &str = "
let runs = 0;
exports.handler = async (event) => {
    runs += 1;
    await new Promise((done) => setTimeout(done, event.ms));
    return { runs, id: event.id };
};";

#[test]
fn one_effect_and_one_result_per_key_across_kills() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = || Start::dev().on(&data).start();
    let mut daemon = start();
    daemon.node("pay", SLOW, &json!({ "timeout_ms": 20_000 }));
    let keyed = |key| [("idempotency-key", key)];
    let quick = json!({ "id": 1, "ms": 0 }).to_string();
    let first = daemon.http.invoke("pay", quick.as_bytes(), &keyed("quick"));
    assert_eq!((first.status, first.json()["runs"].as_u64()), (200, Some(1)), "{}", first.text());

    // One is killed with the daemon at its work.
    let slow = json!({ "id": 2, "ms": 3_000 }).to_string();
    let cut = {
        let (http, slow) = (daemon.http.clone(), slow.clone());
        let path = "/v1/namespaces/default/functions/pay/invoke";
        let headers = [("idempotency-key", "slow")];
        thread::spawn(move || http.try_send("POST", path, &headers, slow.as_bytes()))
    };
    let id = eventually("the call runs", Duration::from_secs(15), || {
        let calls = daemon.http.get("/v1/namespaces/default/calls?state=running").json();
        calls["items"][0]["id"].as_str().map(str::to_owned)
    });
    daemon.kill();
    assert!(cut.join().unwrap().is_err(), "its caller heard nothing");

    let daemon = start();
    let again = daemon.http.invoke("pay", slow.as_bytes(), &keyed("slow"));
    assert_eq!((again.status, &again.json()["id"]), (200, &json!(2)), "{}", again.text());
    assert_eq!(again.header("x-hanshu-request-id"), Some(&*id));
    assert_eq!(again.header("x-hanshu-replayed"), Some("true"));
    let call = daemon.http.get(&format!("/v1/namespaces/default/calls/{id}")).json();
    assert_eq!((&call["state"], &call["attempts"]), (&json!("succeeded"), &json!(2)), "{call}");
    let known = daemon.http.invoke("pay", quick.as_bytes(), &keyed("quick"));
    assert_eq!((known.status, known.text()), (200, first.text()), "from before the kill");
    daemon.http.invoke("pay", b"{}", &keyed("quick")).refused(422, "key-reused");

    let shown = ["invoke", "pay", "--idempotency-key", "quick", "--payload", &quick];
    assert_eq!(daemon.cli(&shown).ok().trim(), first.text().trim());
    daemon.cli(&["config", "set", "pay", "idempotency.key=event.id", "idempotency.window=1h"]).ok();
    let by_field = || daemon.http.invoke("pay", quick.as_bytes(), &[]).text();
    assert_eq!(by_field(), by_field());
}
