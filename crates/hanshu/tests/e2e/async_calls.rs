//! Asynchronous calls: accepted durably, run later.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Cli, Daemon, Start, eventually, hanshu};

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

/// Calls whose function is gone die. It comes back, and they are redriven at a rate; the daemon is killed meanwhile and started anew.
#[test]
fn dead_calls_are_redriven_at_a_rate_whatever_becomes_of_the_daemon() {
    const CALLS: u32 = 8;
    let mut daemon = Daemon::start();
    let (data, address) = (daemon.data.clone(), daemon.url().replace("http://", ""));
    daemon.node("later", SAYS, &json!({}));
    daemon.cli(&["config", "set", "later", "max_instances=0"]).ok();
    let ids: Vec<String> = (0..CALLS).map(|n| enqueue(&daemon, n)).collect();
    daemon.cli(&["delete", "later", "--yes"]).ok();
    let states = |daemon: &Daemon, state: &str| {
        let path = format!("/v1/namespaces/default/calls?state={state}");
        daemon.http.get(&path).json()["items"].as_array().unwrap().len()
    };
    let all = |daemon: &Daemon, state: &str| {
        eventually(state, Duration::from_secs(60), || {
            (states(daemon, state) == ids.len()).then_some(())
        });
    };
    all(&daemon, "dead");
    daemon.node("later", SAYS, &json!({}));
    let nothing = daemon.cli(&["redrive", "--all", "--reason", "timeout"]);
    assert!(nothing.err.ends_with("redriven 0 calls\n"), "{nothing:?}");

    let args =
        ["redrive", "--all", "--function", "later", "--reason", "not-found", "--rate", "3/s"];
    let mut command = daemon.command(&args);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("some are redriven", Duration::from_secs(20), || {
        (states(&daemon, "dead") < ids.len()).then_some(())
    });
    daemon.kill();
    thread::sleep(Duration::from_millis(300));
    let serve = ["serve", "--dev", "--listen", &address, "--data", data.to_str().unwrap()];
    let daemon = Start::by(hanshu(&serve), &data);
    let redriven = Cli::from(command.wait_with_output().unwrap());
    assert_eq!(redriven.code, 0, "{redriven:?}");
    assert!(redriven.err.contains("redriven "), "{redriven:?}");
    all(&daemon, "succeeded");
    assert_eq!(states(&daemon, "dead"), 0);

    // And what is of no more use is forgotten.
    daemon.cli(&["config", "set", "later", "max_instances=0"]).ok();
    let gone = enqueue(&daemon, 99);
    daemon.cli(&["delete", "later", "--yes"]).ok();
    eventually("it is dead", Duration::from_secs(60), || {
        (states(&daemon, "dead") == 1).then_some(())
    });
    let purged = daemon.cli(&["dead-letters", "purge", "--function", "later", "--yes"]);
    assert!(purged.err.ends_with("purged 1 call\n"), "{purged:?}");
    daemon.http.get(&format!("/v1/namespaces/default/calls/{gone}")).refused(404, "not-found");
}

/// Events and answers that are too large for the database.
#[test]
fn large_events_and_answers_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).start();
    daemon.node("echo", "exports.handler = async (e) => e;", &json!({}));
    daemon.cli(&["config", "set", "echo", "max_instances=0"]).ok();
    let text = "é".repeat(2_500_000);
    let event = format!("\"{text}\"");
    let reply = daemon.http.invoke("echo", event.as_bytes(), &LATER);
    assert_eq!(reply.status, 202, "{}", reply.text());
    let id = reply.json()["request_id"].as_str().unwrap().to_owned();
    daemon.kill();
    let daemon = Start::dev().on(&data).start();
    let path = format!("/v1/namespaces/default/calls/{id}");
    assert!(daemon.http.get(&path).json()["event"] == *text, "it waits, and is shown");
    daemon.cli(&["config", "set", "echo", "max_instances=1"]).ok();
    let call = daemon.http.get(&format!("{path}?wait=60")).json();
    assert_eq!(call["state"], "succeeded");
    assert!(call["result"] == *text && call.get("event").is_none());
    daemon.http.delete(&path);
    assert_eq!(std::fs::read_dir(data.join("payloads")).unwrap().count(), 0);
}
