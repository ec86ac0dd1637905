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

#[test]
fn accepted_calls_outlive_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).start();
    daemon.node("later", SAYS, &json!({}));
    let ids: Vec<String> = (0..30).map(|n| enqueue(&daemon, n)).collect();
    daemon.kill();
    let daemon = Start::dev().on(&data).start();
    // Calls that were running when it died are free again when their lease ends. What the first daemon ran may have ended before its lines were on disk: the calls
    // themselves say what became of them.
    let has_run = |id: &String| {
        let call = daemon.http.get(&format!("/v1/namespaces/default/calls/{id}")).json();
        call["state"] == "succeeded" && call["result"] == "nobody reads this"
    };
    eventually("all calls ran", Duration::from_secs(90), || ids.iter().all(has_run).then_some(()));
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
