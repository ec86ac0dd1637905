//! Asynchronous calls: accepted durably, run later.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Daemon, Start, eventually};

const LATER: [(&str, &str); 1] = [("x-hanshu-invocation", "async")];
const SAYS: &str =
    "exports.handler = async (e) => { console.log('ran ' + e.n); return 'nobody reads this'; };";

fn enqueue(daemon: &Daemon, n: u32) -> String {
    let reply = daemon.http.invoke("later", json!({ "n": n }).to_string().as_bytes(), &LATER);
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["request_id"].as_str().unwrap().to_owned()
}

#[test]
fn an_asynchronous_call_runs_and_is_in_the_log() {
    let daemon = Daemon::start();
    daemon.node("later", SAYS, &json!({}));
    let id = enqueue(&daemon, 1);
    eventually("the call runs", Duration::from_secs(15), || {
        let lines = daemon.logs("later", &format!("&request={id}"));
        lines.iter().any(|l| l["text"] == "ran 1").then_some(())
    });
    let id = daemon.cli(&["invoke", "later", "--async", "--payload", r#"{"n":2}"#]).ok();
    eventually("the call runs", Duration::from_secs(15), || {
        let lines = daemon.logs("later", &format!("&request={}", id.trim()));
        lines.iter().any(|l| l["text"] == "ran 2").then_some(())
    });
}

/// Long before leases are over: a daemon that starts again takes back what it was at.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn accepted_calls_outlive_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).start();
    daemon.node("later", SAYS, &json!({}));
    let slow = "exports.handler = () => new Promise((done) => setTimeout(() => done(7), 400));";
    daemon.node("slow", slow, &json!({}));
    let ask = |daemon: &Daemon, name: &str| {
        let reply = daemon.http.invoke(name, b"{}", &LATER);
        reply.json()["request_id"].as_str().unwrap().to_owned()
    };
    let mut ids = Vec::new();
    // Twice, as the third attempt at a call that is cut would be its last.
    for _ in 0..2 {
        let slow: Vec<String> = (0..4).map(|_| ask(&daemon, "slow")).collect();
        ids.extend((0..15).map(|n| enqueue(&daemon, n)).chain(slow));
        daemon.kill();
        daemon = Start::dev().on(&data).start();
    }
    let call = |id: &String| daemon.http.get(&format!("/v1/namespaces/default/calls/{id}")).json();
    let has_run = |id: &String| call(id)["state"] == "succeeded";
    eventually("all calls ran", SOON, || ids.iter().all(has_run).then_some(()));
    // What was cut is told, and counted once.
    let mut cut = 0;
    for id in &ids {
        let call = call(id);
        let attempts = call["history"].as_array().unwrap();
        let numbers = attempts.iter().map(|a| a["attempt"].as_u64().unwrap());
        assert!(numbers.eq(1..=attempts.len() as u64), "{call}");
        cut += attempts.iter().filter(|a| a["outcome"] == "cut").count();
    }
    assert!(cut > 0, "no call was running when its daemon was killed");
}

#[test]
fn what_cannot_run_is_not_accepted() {
    let daemon = Daemon::start();
    daemon.http.invoke("nowhere", b"{}", &LATER).refused(404, "not-found");
}

#[test]
fn what_became_of_a_call_is_shown_and_it_is_run_again_or_stopped() {
    let daemon = Daemon::start();
    daemon.node("later", SAYS, &json!({}));
    let id = daemon.cli(&["invoke", "later", "--async", "--payload", r#"{"n":1}"#]).ok();
    let id = id.trim();
    let shown = daemon.cli(&["calls", "show", id, "--wait"]).ok();
    assert!(shown.contains("succeeded") && shown.contains("nobody reads this"), "{shown}");
    let listed = daemon.cli(&["calls", "later", "--state", "succeeded"]).ok();
    assert!(listed.contains(id), "{listed}");
    let fields = ["async.attempts=1", "async.max_age=1h", "async.retry.pauses=1s,1m"];
    let set = daemon.cli(&[&["config", "set", "later"][..], &fields].concat()).ok();
    assert!(
        set.contains("async.max_age=3600s") && set.contains("async.retry.pauses=1s,60s"),
        "{set}"
    );
    let refused = daemon.cli(&["config", "set", "later", "async.attempts=101"]);
    assert!(
        refused.err.contains("async.attempts 101 is out of range: expected 1 to 100"),
        "{refused:?}"
    );
    daemon.node("later", SAYS, &json!({}));
    let kept = daemon.cli(&["config", "show", "later"]).ok();
    assert!(
        kept.contains("async.attempts=1"),
        "a deploy that says nothing of it changes nothing: {kept}"
    );
    let id = daemon.cli(&["invoke", "later", "--async", "--delay", "1h"]).ok();
    assert!(daemon.cli(&["calls", "show", id.trim()]).ok().contains("waiting"));
    daemon.cli(&["cancel", id.trim()]).ok();
    let dead = daemon.cli(&["dead-letters"]);
    assert!(dead.out.is_empty() && dead.err.contains("no dead calls"), "{dead:?}");

    daemon.node(
        "long",
        "exports.handler = () => new Promise(() => setTimeout(() => {}, 60000));",
        &json!({ "timeout_ms": 60_000 }),
    );
    let id = daemon.cli(&["invoke", "long", "--async"]).ok();
    let id = id.trim();
    eventually("the call runs", Duration::from_secs(15), || {
        daemon.cli(&["calls", "show", id]).ok().contains("running").then_some(())
    });
    daemon.cli(&["cancel", id]).ok();
    assert!(daemon.cli(&["calls", "show", id]).ok().contains("cancelled"));
    let again = daemon.cli(&["cancel", id]);
    assert!(again.err.contains("has ended"), "{again:?}");
}
