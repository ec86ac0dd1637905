//! `kill -9` during a stream of deploys: every acknowledged change is there afterwards.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::http::Http;
use crate::harness::{Start, packages};

const ROUNDS: u64 = 5;
const WRITERS: u64 = 4;

/// What was sent and what was acknowledged of one function: counters in its description.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    sent: u64,
    acknowledged: u64,
}

#[test]
fn every_acknowledged_change_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let changes: Mutex<BTreeMap<String, Change>> = Mutex::default();
    for round in 0..ROUNDS {
        let mut daemon = Start::dev().on(&data).start();
        check(&daemon.http, &changes.lock().unwrap());
        let http = daemon.http.clone();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (http, changes) = (&http, &changes);
                scope.spawn(move || write(http, round, writer, changes));
            }
            // Each round is cut at another moment.
            thread::sleep(Duration::from_millis(300 + 170 * round));
            daemon.kill();
        });
    }
    let daemon = Start::dev().on(&data).start();
    let changes = changes.into_inner().unwrap();
    let acknowledged: u64 = changes.values().map(|c| c.acknowledged).sum();
    assert!(acknowledged > ROUNDS * WRITERS, "hardly anything was tested: {acknowledged}");
    check(&daemon.http, &changes);
    // What survived also runs.
    let name = changes.iter().find(|(_, c)| c.acknowledged > 0).map(|(n, _)| n).unwrap();
    daemon.http.invoke(name, b"{}", &[]).result();
}

/// Deploys until the daemon is gone: new functions, and changes of the one before.
fn write(http: &Http, round: u64, writer: u64, changes: &Mutex<BTreeMap<String, Change>>) {
    for n in 1_u64.. {
        let name = format!("f{writer}-{}", n % 3);
        let value = round * 1_000_000 + n;
        let code = format!("exports.handler = async () => {value};");
        let zip = packages::zip(&[("index.js", &code)]);
        let headers = [("content-type", "application/zip")];
        let uploaded =
            http.try_send("POST", "/v1/namespaces/default/packages", &headers, zip.as_slice());
        let Ok(uploaded) = uploaded else { return };
        assert_eq!(uploaded.status, 201, "{}", uploaded.text());
        let body = json!({
            "config": { "runtime": "nodejs20", "handler": "index.handler", "description": value.to_string() },
            "code": uploaded.json()["digest"],
        });
        changes.lock().unwrap().entry(name.clone()).or_default().sent = value;
        let path = format!("/v1/namespaces/default/functions/{name}");
        let headers = [("content-type", "application/json")];
        let Ok(put) = http.try_send("PUT", &path, &headers, body.to_string()) else { return };
        assert!([200, 201].contains(&put.status), "{}", put.text());
        changes.lock().unwrap().entry(name).or_default().acknowledged = value;
    }
}

/// Each function is at its last acknowledged change, or at one that was sent later and whose answer was lost.
#[track_caller]
fn check(http: &Http, changes: &BTreeMap<String, Change>) {
    for (name, change) in changes {
        let path = format!("/v1/namespaces/default/functions/{name}");
        let reply = http.get(&path);
        if change.acknowledged == 0 {
            assert!([200, 404].contains(&reply.status), "{}", reply.text());
            continue;
        }
        assert_eq!(reply.status, 200, "{name} is lost: {change:?}");
        let view = reply.json();
        let kept: u64 = view["config"]["description"].as_str().unwrap().parse().unwrap();
        assert!(
            kept == change.acknowledged || kept == change.sent,
            "{name} is at {kept}: {change:?}"
        );
        // Its package is whole as well.
        let code = http.get(&format!("{path}/code"));
        assert_eq!(code.status, 200, "{}", code.text());
        let digest = view["code"]["digest"].as_str().unwrap();
        assert_eq!(model::ids::Digest::of(&code.body).to_string(), digest, "{name}");
    }
}
