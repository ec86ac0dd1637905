//! Namespaces: what their functions may use and be, who sees them, and how they go.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Cli, Daemon, Start, eventually, packages};

const SLEEPER: &str = "exports.handler = async (e) => {
  console.log(e.say ?? 'called');
  await new Promise((done) => setTimeout(done, e.ms ?? 0));
  return process.pid;
};";

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("index.js", SLEEPER)]);
    dir
}

/// Deploys `name` into `team` with more options.
fn deploy(daemon: &Daemon, folder: &TempDir, name: &str, more: &[&str]) -> Cli {
    let path = folder.path().to_str().unwrap();
    let args = ["deploy", path, "--name", name, "-n", "team", "--timeout", "20s"];
    daemon.cli(&args.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
}

fn set(daemon: &Daemon, more: &[&str]) {
    let args = ["namespaces", "set", "team"].into_iter().chain(more.iter().copied());
    daemon.cli(&args.collect::<Vec<_>>()).ok();
}

fn call(daemon: &Daemon, name: &str, payload: &str) -> crate::harness::http::Reply {
    let path = format!("/v1/namespaces/team/functions/{name}/invoke");
    daemon.http.send("POST", &path, &[], payload)
}

fn used(daemon: &Daemon) -> Value {
    daemon.http.get("/v1/namespaces/team").json()["used"].clone()
}

#[test]
fn functions_and_code_are_counted() {
    let (daemon, folder) = (Daemon::start(), folder());
    daemon.cli(&["namespaces", "create", "team", "--functions", "2"]).noted();
    deploy(&daemon, &folder, "a", &[]).ok();
    deploy(&daemon, &folder, "b", &[]).ok();
    let refused = deploy(&daemon, &folder, "c", &[]).refused();
    for part in ["quota of functions: 3, expected at most 2", "(forbidden)", "hint: "] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    deploy(&daemon, &folder, "a", &["--env", "A=b"]).ok();
    daemon.cli(&["delete", "b", "-n", "team", "--yes"]).noted();
    deploy(&daemon, &folder, "c", &[]).ok();

    let size = used(&daemon)["code_bytes"].as_u64().unwrap() / 2;
    // One more, and half of another.
    let most = (size * 7 / 2).to_string();
    set(&daemon, &["--functions", "none", "--code-bytes", &most]);
    daemon.cli(&["versions", "publish", "a", "-n", "team"]).ok();
    daemon.cli(&["config", "set", "a", "-n", "team", "env.A=c"]).ok();
    let refused = daemon.cli(&["versions", "publish", "a", "-n", "team"]).refused();
    assert!(
        refused.contains(&format!("quota of code_bytes: {}, expected at most {most}", size * 4)),
        "{refused}"
    );
    deploy(&daemon, &folder, "d", &[]).refused();
    let layer = daemon
        .cli(&["layer", "publish", "l", folder.path().to_str().unwrap(), "-n", "team"])
        .refused();
    assert!(layer.contains("code_bytes"), "{layer}");
    daemon.cli(&["versions", "delete", "a:1", "-n", "team", "--yes"]).noted();
    daemon.cli(&["layer", "publish", "l", folder.path().to_str().unwrap(), "-n", "team"]).ok();
    let shown = daemon.cli(&["namespaces", "show", "team"]).ok();
    assert!(shown.contains("functions    2, no limit"), "{shown}");
    let changes =
        daemon.cli(&["history", "--of-namespace", "-n", "team", "--output", "json"]).json();
    assert_eq!(changes.as_array().unwrap().len(), 2, "{changes}");
    let paths = changes[0]["differences"].as_array().unwrap().iter().map(|d| d["path"].clone());
    assert_eq!(paths.collect::<Vec<_>>(), ["quotas.functions", "quotas.code_bytes"]);
}

#[test]
fn calls_over_the_rate_are_429() {
    let (daemon, folder) = (Daemon::start(), folder());
    daemon.cli(&["namespaces", "create", "team", "--calls-per-second", "3"]).noted();
    daemon.node("elsewhere", SLEEPER, &json!({}));
    deploy(&daemon, &folder, "f", &[]).ok();
    let mut refused = None;
    // So fast that an allowance comes in between now and then.
    for _ in 0..200 {
        let reply = call(&daemon, "f", "{}");
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
        reply.result();
    }
    let refused = refused.expect("200 calls at once are more than 3 a second");
    let message = refused.refused(429, "throttled");
    assert!(message.contains("team") && message.contains('3'), "{message}");
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(after >= 1);
    let by_url = eventually("the URL is refused", Duration::from_secs(10), || {
        let reply = daemon.http.send("POST", "/fn/team/f/", &[], "{}");
        (reply.status == 429).then_some(reply)
    });
    assert!(by_url.header("retry-after").is_some(), "{by_url:?}");
    for _ in 0..20 {
        daemon.invoke("elsewhere", "{}").result();
    }
    thread::sleep(Duration::from_secs(after));
    call(&daemon, "f", "{}").result();
    set(&daemon, &["--calls-per-second", "none"]);
    for _ in 0..20 {
        call(&daemon, "f", "{}").result();
    }
}

#[test]
fn instances_and_memory_are_shared() {
    let folder = folder();
    let daemon = Start::dev().set("HANSHU_ENGINE_QUEUE_WAIT_SECONDS", "1").start();
    daemon.cli(&["namespaces", "create", "team", "--instances", "1"]).noted();
    for name in ["a", "b"] {
        deploy(&daemon, &folder, name, &["--memory", "128"]).ok();
    }
    let both = |say: &str| {
        thread::scope(|scope| {
            let long = json!({ "ms": 2_500, "say": say }).to_string();
            let long = scope.spawn(|| call(&daemon, "a", &{ long }));
            let said = format!("/v1/namespaces/team/functions/a/logs?contains={say}");
            eventually("the first one runs", Duration::from_secs(10), || {
                (daemon.http.get(&said).json()["items"] != json!([])).then_some(())
            });
            let second = call(&daemon, "b", "{}");
            (long.join().unwrap(), second)
        })
    };
    let (first, second) = both("one");
    first.result();
    assert!(second.refused(429, "throttled").contains("team"));
    assert!(second.header("retry-after").is_some());
    // One after the other they fit: an idle instance makes room.
    call(&daemon, "b", "{}").result();
    assert_eq!(used(&daemon)["instances"], 1);

    set(&daemon, &["--instances", "none", "--memory-mb", "200"]);
    let (first, second) = both("two");
    first.result();
    assert!(second.refused(429, "throttled").contains("team"));
    set(&daemon, &["--memory-mb", "256"]);
    let (first, second) = both("three");
    first.result();
    second.result();
    assert_eq!(used(&daemon)["memory_mb"], 256);
}

#[test]
fn a_policy_is_told_where_it_forbids() {
    let (daemon, folder) = (Daemon::start(), folder());
    daemon.cli(&["namespaces", "create", "team"]).noted();
    deploy(&daemon, &folder, "old", &["--memory", "512"]).ok();
    daemon.cli(&["config", "set", "old", "-n", "team", "url_auth=none"]).ok();
    let policy = [
        "--allow-runtime",
        "nodejs20",
        "--allow-network",
        "none",
        "--timeout-max",
        "30s",
        "--memory-max",
        "256",
        "--require-key",
        "--reason",
        "house rules",
    ];
    set(&daemon, &policy);
    call(&daemon, "old", "{}").result();
    let config = |field: &str| daemon.cli(&["config", "set", "old", "-n", "team", field]);
    let refused = config("env.A=b").refused();
    assert!(
        refused.contains("the namespace's policy forbids memory_mb 512: expected at most 256"),
        "{refused}"
    );
    let fit = ["config", "set", "old", "-n", "team", "memory_mb=256", "url_auth=key"];
    daemon.cli(&fit).ok();
    for (field, part) in [
        ("timeout_ms=30001", "timeout_ms 30001: expected at most 30000"),
        ("memory_mb=257", "memory_mb 257: expected at most 256"),
        ("url_auth=none", "url_auth none: expected key"),
        ("runtime=python3.11", "runtime python3.11: expected one of nodejs20"),
        ("network=egress", "network egress: expected one of none"),
    ] {
        let refused = config(field).refused();
        assert!(
            refused.contains(&format!("policy forbids {part} (forbidden)")),
            "{field}: {refused}"
        );
        assert!(refused.contains("hint: see it with"), "{refused}");
    }
    deploy(&daemon, &folder, "new", &["--memory", "1024"]).refused();
    deploy(&daemon, &folder, "new", &["--memory", "128"]).ok();
    let shown = daemon.cli(&["namespaces", "show", "team"]).ok();
    for line in ["runtimes     nodejs20", "timeout      at most 30.0 s", "url access   key only"] {
        assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    let newest =
        &daemon.cli(&["history", "--of-namespace", "-n", "team", "--output", "json"]).json()[0];
    assert_eq!(newest["reason"], "house rules");
    set(&daemon, &["--policy-none"]);
    config("memory_mb=512").ok();
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    let (daemon, folder) = (Daemon::start(), folder());
    daemon.cli(&["namespaces", "create", "team"]).noted();
    deploy(&daemon, &folder, "f", &["--publish"]).ok();
    daemon.cli(&["alias", "set", "f:live", "--to", "1", "-n", "team"]).ok();
    daemon.cli(&["layer", "publish", "l", folder.path().to_str().unwrap(), "-n", "team"]).ok();
    let refused = daemon.cli(&["namespaces", "delete", "team", "--yes"]).refused();
    assert!(refused.contains("(not-empty)") && refused.contains("hint: "), "{refused}");
    let unasked = daemon.cli(&["namespaces", "delete", "team", "--everything"]).refused();
    assert!(unasked.contains("pass --yes") && unasked.contains("1 function"), "{unasked}");
    let wrong = daemon.http.delete("/v1/namespaces/team?everything=tame");
    assert!(wrong.refused(400, "invalid-parameter").contains("'tame'"));
    call(&daemon, "f", "{}").result();
    let args = ["namespaces", "delete", "team", "--everything", "--yes", "--reason", "over"];
    assert_eq!(daemon.cli(&args).noted().trim(), "deleted namespace team with everything in it");
    call(&daemon, "f", "{}").refused(404, "not-found");
    assert_eq!(daemon.http.get("/fn/team/f:live/").status, 404);
    for path in ["", "/functions", "/layers", "/functions/f", "/layers/l"] {
        assert_eq!(daemon.http.get(&format!("/v1/namespaces/team{path}")).status, 404, "{path}");
    }
    // What was recorded stays, and goes on.
    let newest =
        &daemon.cli(&["history", "--of-namespace", "-n", "team", "--output", "json"]).json()[0];
    assert_eq!(
        (&newest["what"], &newest["reason"], &newest["revision"]),
        (&json!("delete"), &json!("over"), &json!(2))
    );
    daemon.cli(&["namespaces", "create", "team"]).noted();
    assert_eq!(daemon.http.get("/v1/namespaces/team").json()["revision"], 3);
    assert_eq!(
        used(&daemon),
        json!({
            "functions": 0, "instances": 0, "memory_mb": 0, "code_bytes": 0, "reserved_instances": 0,
            "queued_calls": 0, "queued_bytes": 0
        })
    );
    deploy(&daemon, &folder, "f", &["--publish"]).ok();
    let versions = daemon.cli(&["versions", "f", "-n", "team", "--output", "json"]).json();
    assert_eq!(versions[0]["version"], 2, "numbers go on");
    let default =
        daemon.cli(&["namespaces", "delete", "default", "--everything", "--yes"]).refused();
    assert!(default.contains("always exists"), "{default}");
}
