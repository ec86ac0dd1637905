//! Maps: by the command line, over real files, and over the death of the daemon.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cli, Daemon, Start, eventually};

/// Adds up items, or results, and takes its time; what is no number fails.
const SUM: &str = "exports.handler = async (e) => {
  await new Promise((go) => setTimeout(go, 100));
  const numbers = (e.items ?? e.results).map(Number);
  if (numbers.some(Number.isNaN)) throw new Error('not a number');
  console.log(`summed ${e.map.level}/${e.map.chunk}`);
  return numbers.reduce((a, b) => a + b, 0);
};";

fn map(daemon: &Daemon, input: &Path, options: &[&str]) -> Cli {
    let mut arguments = vec!["map", "sum", "--input", input.to_str().unwrap()];
    arguments.extend(options);
    daemon.cli(&arguments)
}

fn shown(daemon: &Daemon, id: &str) -> Value {
    daemon.cli(&["maps", "show", id, "--output", "json"]).json()
}

fn results(daemon: &Daemon, id: &str) -> Vec<Value> {
    let lines = daemon.cli(&["maps", "results", id]).ok();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_map_goes_on_where_a_killed_daemon_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, input) = (dir.path().join("data"), dir.path().join("numbers.json"));
    let numbers: Vec<u32> = (1..=60).collect();
    fs::write(&input, serde_json::to_vec_pretty(&numbers).unwrap()).unwrap();
    let mut daemon = Start::dev().on(&data).start();
    daemon.node("sum", SUM, &json!({}));
    let options = ["--chunk", "2", "--concurrency", "3", "--reduce", "sum", "--detach"];
    let id = map(&daemon, &input, &options).ok();
    let id = id.trim();
    eventually("some chunks are done", Duration::from_secs(30), || {
        let done = shown(&daemon, id)["chunks"]["done"].as_u64().unwrap();
        (done >= 6).then_some(())
    });
    daemon.kill();
    let daemon = Start::dev().on(&data).start();
    let ended = eventually("the map ends", Duration::from_secs(120), || {
        let now = shown(&daemon, id);
        (now["state"] != "running" && now["state"] != "reducing").then_some(now)
    });
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!((&ended["result"], &ended["items"]["ended"]), (&json!(1830), &json!(60)));
    let sums: Vec<Value> = (0..30).map(|i| json!({ "chunk": i, "result": 4 * i + 3 })).collect();
    assert_eq!(results(&daemon, id), sums, "each chunk is there once, in order");
    // Only what ran when it died, three chunks, may have run twice.
    let lines = daemon.logs("sum", "");
    let ran = lines.iter().filter(|l| l["text"].as_str().unwrap().starts_with("summed 0/")).count();
    assert!(ran <= 33, "{ran}");
    assert_eq!(daemon.http.get("/v1/namespaces/default/calls").json()["items"], json!([]));
}

#[test]
fn maps_are_started_shown_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let daemon = Daemon::start();
    daemon.node("sum", SUM, &json!({}));
    let lines = file("numbers.txt", "1\n2\n3\n4\n5\n");
    let ran = map(&daemon, &lines, &["--chunk", "2", "--reduce", "sum"]);
    assert_eq!((ran.code, ran.out.trim()), (0, "15"), "{ran:?}");
    assert!(ran.err.contains("5 items in 3 chunks") && ran.err.contains("succeeded"), "{ran:?}");
    // One chunk of three fails.
    let values = file("values.jsonl", "1\n\"two\"\n3\n");
    let ran = map(
        &daemon,
        &values,
        &["--chunk", "1", "--attempts", "1", "--tolerate", "40%", "--output", "json"],
    );
    let ended = ran.json();
    let chunks = json!({ "total": 3, "done": 2, "running": 0, "failed": 1 });
    assert_eq!((&ended["state"], &ended["chunks"]), (&json!("succeeded"), &chunks), "{ended}");
    let failed = &ended["failures"][0];
    assert!(failed["message"].as_str().unwrap().contains("not a number"), "{failed}");
    let id = ended["id"].as_str().unwrap();
    assert_eq!(results(&daemon, id)[2], json!({ "chunk": 2, "result": 3 }));
    // It is a dead letter of its own.
    let call =
        daemon.cli(&["calls", "show", failed["call"].as_str().unwrap(), "--output", "json"]).json();
    assert_eq!(
        (&call["function"], &call["map"], &call["state"]),
        (&json!("sum"), &json!(id), &json!("dead"))
    );
    assert_eq!(call["event"]["items"], json!(["two"]));
    let ran = map(&daemon, &values, &["--chunk", "1", "--attempts", "1"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("chunk 1: ") && ran.err.contains("not a number"), "{ran:?}");
    let listed = daemon.cli(&["maps"]).ok();
    assert!(listed.contains(id) && listed.contains("failed"), "{listed}");
    daemon.cli(&["maps", "delete", id]).noted();
    daemon.cli(&["maps", "show", id]).refused();
    // What is no input.
    let broken = file("broken.json", "[1, 2, nil]");
    let said = map(&daemon, &broken, &[]).refused();
    assert!(said.contains("item 2 of the input"), "{said}");
    let said = daemon.cli(&["map", "nowhere", "--input", lines.to_str().unwrap()]).refused();
    assert!(said.contains("nowhere"), "{said}");
    let said = map(&daemon, &lines, &["--concurrency", "5000"]).refused();
    assert!(said.contains("concurrency is 5000: expected 1 to 1000"), "{said}");
    assert_eq!(daemon.cli(&["maps", "--output", "json"]).json().as_array().unwrap().len(), 2);
}
