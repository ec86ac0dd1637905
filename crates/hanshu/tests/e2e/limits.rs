//! Limits on instances, and what a call tells about itself.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Daemon, Start, eventually};

const SLEEPER: &str = "exports.handler = async (e) => { await new Promise(r => setTimeout(r, e.ms)); return process.pid; };";

#[test]
fn over_the_limit_is_429_with_retry_after() {
    let daemon = Start::dev().set("HANSHU_ENGINE_WAITERS_PER_VERSION", "0").start();
    daemon.node("one", SLEEPER, &json!({}));
    daemon.cli(&["config", "set", "one", "max_instances=1"]).ok();
    assert_eq!(daemon.invoke("one", r#"{"ms":0}"#).failure(), None);
    thread::scope(|scope| {
        let long = scope.spawn(|| daemon.invoke("one", r#"{"ms":3000}"#));
        thread::sleep(Duration::from_millis(700));
        let reply = daemon.invoke("one", r#"{"ms":0}"#);
        let message = reply.refused(429, "throttled");
        assert!(message.contains("instance") || message.contains("wait"), "{message}");
        let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!(after >= 1);
        assert_eq!(reply.json()["error"]["retryable"], true);
        let by_url = daemon.http.send("POST", "/fn/default/one/", &[], "{}");
        assert_eq!(by_url.status, 429, "{}", by_url.text());
        assert!(by_url.header("retry-after").is_some());
        long.join().unwrap().result();
    });
    assert_eq!(daemon.invoke("one", r#"{"ms":0}"#).failure(), None);
}

#[test]
fn zero_instances_stop_all_calls() {
    let daemon = Start::dev().set("HANSHU_ENGINE_QUEUE_WAIT_SECONDS", "1").start();
    daemon.node("off", SLEEPER, &json!({}));
    daemon.cli(&["config", "set", "off", "max_instances=0"]).ok();
    daemon.invoke("off", r#"{"ms":0}"#).refused(429, "throttled");
    daemon.cli(&["config", "set", "off", "max_instances=1"]).ok();
    daemon.invoke("off", r#"{"ms":0}"#).result();
}

#[test]
fn a_full_queue_refuses_and_says_which_quota_it_is() {
    let daemon = Daemon::start();
    daemon.node("later", SLEEPER, &json!({}));
    daemon.cli(&["config", "set", "later", "max_instances=0", "max_queued_calls=3"]).ok();
    let enqueue = |name: &str| daemon.cli(&["invoke", name, "--async", "--payload", r#"{"ms":0}"#]);
    let ids: Vec<String> = (0..3).map(|_| enqueue("later").ok().trim().to_owned()).collect();
    let refused = enqueue("later");
    assert!(refused.err.contains("its quota max_queued_calls is 3"), "{refused:?}");
    assert!(refused.err.contains("hanshu config set later max_queued_calls=N"), "{refused:?}");
    let reply = daemon.http.invoke("later", b"{}", &[("x-hanshu-invocation", "async")]);
    reply.refused(429, "queue-full");
    assert_eq!(reply.header("retry-after"), Some("1"));

    daemon.cli(&["config", "set", "later", "--unset", "max_queued_calls"]).ok();
    daemon.cli(&["namespaces", "set", "default", "--queued-calls", "4"]).ok();
    let last = enqueue("later").ok();
    let refused = enqueue("later");
    assert!(
        refused.err.contains("namespace 'default'") && refused.err.contains("queued_calls is 4")
    );
    let shown = daemon.cli(&["namespaces", "show", "default"]).ok();
    assert!(shown.lines().any(|l| l == "queued       4 of 4"), "{shown}");
    daemon.cli(&["cancel", &ids[0]]).ok();
    enqueue("later").ok();

    // Nothing that was accepted is lost.
    daemon.cli(&["config", "set", "later", "max_instances=1"]).ok();
    for id in ids[1..].iter().map(String::as_str).chain([last.trim()]) {
        assert!(daemon.cli(&["calls", "show", id, "--wait"]).ok().contains("succeeded"));
    }
}

#[test]
fn calls_over_the_limit_wait_their_turn() {
    let daemon = Daemon::start();
    daemon.node("two", SLEEPER, &json!({}));
    daemon.cli(&["config", "set", "two", "max_instances=2"]).ok();
    let pids: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| daemon.invoke("two", r#"{"ms":200}"#).result()))
            .collect();
        calls.into_iter().map(|c| c.join().unwrap()).collect()
    });
    assert_eq!(pids.len(), 8);
    let usage = daemon.http.get("/v1/namespaces/default/functions/two/usage").json();
    let cold: u64 = usage_sum(&usage, "cold_starts");
    assert!(cold <= 2, "{usage}");
}

fn usage_sum(usage: &serde_json::Value, field: &str) -> u64 {
    let rows = usage["items"].as_array().unwrap();
    rows.iter().map(|row| row[field].as_u64().unwrap()).sum()
}

#[test]
fn calls_are_metered() {
    let daemon = Daemon::start();
    daemon.node(
        "metered",
        "exports.handler = async (e) => { if (e.fail) throw new Error('x'); return 'y'; };",
        &json!({}),
    );
    for _ in 0..3 {
        daemon.invoke("metered", "{}").result();
    }
    daemon.invoke("metered", r#"{"fail":true}"#).failed("handler");
    eventually("the usage is written", Duration::from_secs(20), || {
        let usage = daemon.http.get("/v1/namespaces/default/functions/metered/usage").json();
        (usage_sum(&usage, "requests") == 4).then(|| {
            assert_eq!(usage_sum(&usage, "failures"), 1, "{usage}");
            assert_eq!(usage_sum(&usage, "cold_starts"), 1, "{usage}");
            assert!(usage_sum(&usage, "duration_ms") >= 4, "{usage}");
        })
    });
}

#[test]
fn every_answer_has_an_id_and_timings_when_asked() {
    let daemon = Daemon::start();
    daemon.node("timed", SLEEPER, &json!({}));
    let ask = [("x-hanshu-timings", "1")];
    let cold = daemon.http.invoke("timed", br#"{"ms":20}"#, &ask);
    let warm = daemon.http.invoke("timed", br#"{"ms":20}"#, &ask);
    for (reply, is_cold) in [(&cold, true), (&warm, false)] {
        reply.result();
        assert_eq!(reply.header("x-hanshu-request-id").unwrap().len(), 36);
        assert_eq!(reply.header("x-hanshu-version"), Some("$LATEST"));
        let timings: serde_json::Value =
            serde_json::from_str(reply.header("x-hanshu-timings").unwrap()).unwrap();
        let us = |field: &str| timings[field].as_u64().unwrap();
        assert_eq!(timings["cold"], is_cold, "{timings}");
        assert!(us("handler_us") >= 20_000 && us("total_us") >= us("handler_us"), "{timings}");
        assert_eq!(us("runtime_us") > 0, is_cold, "{timings}");
        let parts =
            us("queue_us") + us("sandbox_us") + us("runtime_us") + us("code_us") + us("handler_us");
        assert!(parts <= us("total_us") + 1_000, "{timings}");
    }
    assert_ne!(cold.header("x-hanshu-request-id"), warm.header("x-hanshu-request-id"));
    assert_eq!(daemon.invoke("timed", r#"{"ms":0}"#).header("x-hanshu-timings"), None);
    let by_url = daemon.http.send("POST", "/fn/default/timed/", &ask, "{}");
    assert!(by_url.header("x-hanshu-timings").is_some(), "{by_url:?}");
    assert!(by_url.header("x-hanshu-request-id").is_some(), "{by_url:?}");
}

#[test]
fn a_change_is_seen_by_the_next_call() {
    let daemon = Daemon::start();
    for n in 0..10 {
        daemon.node("changing", &format!("exports.handler = async () => {n};"), &json!({}));
        assert_eq!(daemon.invoke("changing", "{}").result(), json!(n));
    }
    daemon.cli(&["config", "set", "changing", "env.A=b"]).ok();
    daemon.cli(&["config", "set", "changing", "--unset", "env.A"]).ok();
    daemon.http.delete("/v1/namespaces/default/functions/changing");
    daemon.invoke("changing", "{}").refused(404, "not-found");
}

const F: &str = "/v1/namespaces/default/functions/f";

#[test]
fn memory_as_a_share_follows_the_host_and_is_shown_both_ways() {
    let mut first = Start::dev().set("HANSHU_ENGINE_HOST_MEMORY_MB", "1024").start();
    let daemon = &first;
    let size = "exports.handler = async () => process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE;";
    daemon.node("f", size, &json!({ "memory_share": "25%" }));
    let config = daemon.http.get(F).json()["config"].clone();
    assert_eq!((&config["memory_share"], &config["memory_mb"]), (&json!("25%"), &json!(256)));
    assert_eq!(daemon.invoke("f", "{}").result(), json!("256"));
    let shown = daemon.cli(&["show", "f"]).ok();
    assert!(shown.contains("25%") && shown.contains("256 MiB"), "{shown}");

    // What is published is the share; what is shown may be put back as it is.
    let put = json!({ "config": config, "publish": true });
    assert_eq!(daemon.http.json("PUT", F, &put).json()["version"], "1");
    let put = json!({ "config": daemon.http.get(F).json()["config"], "publish": true });
    assert_eq!(daemon.http.json("PUT", F, &put).json()["version"], "1");

    first.stop();
    let larger = Start::dev().set("HANSHU_ENGINE_HOST_MEMORY_MB", "2048");
    let daemon = larger.on(&first.data).start();
    assert_eq!(daemon.http.get(F).json()["config"]["memory_mb"], 512);
    assert_eq!(daemon.invoke("f", "{}").result(), json!("512"));
    assert_eq!(daemon.invoke("f?qualifier=1", "{}").result(), json!("512"));

    daemon.cli(&["config", "set", "f", "memory_mb=128"]).ok();
    let config = daemon.http.get(F).json()["config"].clone();
    assert_eq!((&config["memory_share"], &config["memory_mb"]), (&json!(null), &json!(128)));
    assert_eq!(daemon.invoke("f", "{}").result(), json!("128"));
}

#[test]
fn limits_are_set_shown_and_taken_back() {
    let daemon = Daemon::start();
    daemon.node("f", SLEEPER, &json!({}));
    let config = || daemon.http.get(F).json()["config"].clone();
    let defaults = config();
    for (field, value) in [
        ("processes", 1024),
        ("open_files", 1024),
        ("tmp_mb", 512),
        ("output_bytes_per_second", 4 << 20),
    ] {
        assert_eq!(defaults[field], value, "{defaults}");
    }
    let fields = "cpu_cores=0.5 cpu_weight=200 processes=64 open_files=256 tmp_mb=64 output_bytes_per_second=100000";
    let set: Vec<&str> = ["config", "set", "f"].into_iter().chain(fields.split(' ')).collect();
    daemon.cli(&set).ok();
    let changed = config();
    assert_eq!(
        (&changed["cpu_cores"], &changed["cpu_weight"], &changed["tmp_mb"]),
        (&json!(0.5), &json!(200), &json!(64))
    );
    let shown = daemon.cli(&["config", "show", "f"]).ok();
    assert!(fields.split(' ').all(|field| shown.lines().any(|line| line == field)), "{shown}");
    daemon.invoke("f", r#"{"ms":0}"#).result();
    daemon.cli(&["config", "set", "f", "--unset", "cpu_cores", "--unset", "cpu_weight"]).ok();
    assert_eq!(config()["cpu_cores"], json!(null));
}

#[test]
fn a_function_is_switched_off_and_on_and_has_instances_of_its_own() {
    let daemon = Daemon::start();
    daemon.node("f", "exports.handler = async () => 'here';", &json!({}));
    assert_eq!(daemon.http.invoke("f", b"{}", &[]).result(), "here");
    let set = |change: &[&str]| daemon.cli(&[&["config", "set", "f"], change].concat());
    set(&["reserved_instances=0"]).ok();
    let message = daemon.http.invoke("f", b"{}", &[]).refused(429, "throttled");
    assert!(message.contains("switched off"), "{message}");
    assert!(daemon.cli(&["show", "f"]).ok().contains("none: it is switched off"));
    assert!(set(&["reserved_instances=3"]).ok().contains("reserved_instances=3"));
    assert_eq!(daemon.http.invoke("f", b"{}", &[]).result(), "here");
    assert!(daemon.cli(&["show", "f"]).ok().contains("3 of its own"));
    let refused = set(&["reserved_instances=100000"]).refused();
    assert!(refused.contains("reserved_instances 100000 is out of range"), "{refused}");
    assert!(!set(&["--unset", "reserved_instances"]).ok().contains("reserved_instances"));
}
