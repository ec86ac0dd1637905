//! Requests that break a rule: the right status and code, and a message that names the field.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use serde_json::{Value, json};

use crate::harness::Daemon;

const FUNCTIONS: &str = "/v1/namespaces/default/functions";

fn config(extra: &Value) -> Value {
    let mut config = json!({ "runtime": "nodejs20", "handler": "index.handler" });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn names_outside_the_rules() {
    let daemon = Daemon::start();
    let code = daemon.upload(&[("index.js", "")]);
    let body = json!({ "config": config(&json!({})), "code": code });
    for name in ["a.b", "a%20b", "%C3%A4", &"x".repeat(65), "a%00b", "%2e%2e"] {
        let message = daemon
            .http
            .json("PUT", &format!("{FUNCTIONS}/{name}"), &body)
            .refused(400, "invalid-name");
        assert!(message.contains("function name"), "{name}: {message}");
    }
    for name in ["9a", "-a", "a.b", "ä", &"x".repeat(61), ""] {
        let message = daemon
            .http
            .json("POST", "/v1/namespaces", &json!({ "name": name }))
            .refused(400, "invalid-name");
        assert!(message.contains("namespace"), "{name}: {message}");
    }
    let message = daemon.http.invoke("f?qualifier=a%20b", b"{}", &[]).refused(400, "invalid-name");
    assert!(message.contains("qualifier"), "{message}");
}

#[test]
fn configurations_outside_the_rules() {
    let daemon = Daemon::start();
    let code = daemon.upload(&[("index.js", "")]);
    let cases = [
        (json!({ "timeout_ms": 0 }), "invalid-parameter", "timeout_ms"),
        (json!({ "timeout_ms": 900_001 }), "invalid-parameter", "timeout_ms"),
        (json!({ "memory_mb": 1 }), "invalid-parameter", "memory_mb"),
        (json!({ "memory_mb": 10_241 }), "invalid-parameter", "memory_mb"),
        (json!({ "memory_share": "101%" }), "invalid-body", "memory_share"),
        (json!({ "memory_share": 25 }), "invalid-body", "memory_share"),
        (json!({ "cpu_weight": 0 }), "invalid-parameter", "cpu_weight"),
        (json!({ "cpu_cores": 0.01 }), "invalid-parameter", "cpu_cores"),
        (json!({ "cpu_cores": "all" }), "invalid-body", "cpu_cores"),
        (json!({ "processes": 1 }), "invalid-parameter", "processes"),
        (json!({ "open_files": 2_000_000 }), "invalid-parameter", "open_files"),
        (json!({ "tmp_mb": 0 }), "invalid-parameter", "tmp_mb"),
        (json!({ "output_bytes_per_second": 1 }), "invalid-parameter", "output_bytes_per_second"),
        (json!({ "handler": "a b" }), "invalid-parameter", "handler"),
        (json!({ "handler": "" }), "invalid-parameter", "handler"),
        (json!({ "description": "x".repeat(1_001) }), "invalid-parameter", "description"),
        (json!({ "environment": { "A=B": "" } }), "invalid-parameter", "environment"),
        (json!({ "environment": { "_HANDLER": "x" } }), "invalid-parameter", "_HANDLER"),
        (json!({ "environment": { "A": "x".repeat(33_000) } }), "invalid-parameter", "environment"),
        (json!({ "memory": 128 }), "invalid-body", "memory"),
        (json!({ "network": "open" }), "invalid-body", "none, egress or private"),
        (json!({ "network": { "mode": "private" } }), "invalid-parameter", "network.allow"),
        (json!({ "timeout_ms": "3s" }), "invalid-body", "timeout_ms"),
        (json!({ "runtime": "cobol85" }), "unknown-runtime", "cobol85"),
    ];
    for (extra, expected, part) in cases {
        let body = json!({ "config": config(&extra), "code": code });
        let message =
            daemon.http.json("PUT", &format!("{FUNCTIONS}/f"), &body).refused(400, expected);
        assert!(message.contains(part), "{extra}: {message}");
    }
    let unknown = json!({ "config": config(&json!({ "runtime": "cobol85" })), "code": code });
    let reply = daemon.http.json("PUT", &format!("{FUNCTIONS}/f"), &unknown).text();
    assert!(
        reply.contains("nodejs20") && reply.contains("python3.11"),
        "names those there are: {reply}"
    );
    // None of them left anything behind.
    daemon.http.get(&format!("{FUNCTIONS}/f")).refused(404, "not-found");
}

#[test]
fn things_that_do_not_exist() {
    let daemon = Daemon::start();
    daemon.node("there", "exports.handler = async () => 1;", &json!({}));
    daemon.http.invoke("nowhere", b"{}", &[]).refused(404, "not-found");
    daemon.http.invoke("there?qualifier=7", b"{}", &[]).refused(404, "not-found");
    daemon.http.invoke("there?qualifier=live", b"{}", &[]).refused(404, "not-found");
    daemon.http.get("/v1/namespaces/nowhere/functions").refused(404, "not-found");
    daemon.http.get("/fn/default/nowhere/").refused(404, "not-found");
    daemon.http.get("/v2/anything").refused(404, "no-route");
    let code = "0".repeat(64);
    let body = json!({ "config": config(&json!({})), "code": code });
    let message =
        daemon.http.json("PUT", &format!("{FUNCTIONS}/f"), &body).refused(404, "not-found");
    assert!(message.contains(&code), "{message}");
    let kept = daemon.http.delete("/v1/namespaces/default");
    assert!((400..500).contains(&kept.status), "{}", kept.text());
}

#[test]
fn a_body_cut_off_half_way_changes_nothing() {
    let daemon = Daemon::start();
    daemon.node("f", "exports.handler = async () => 'whole';", &json!({}));
    let whole = json!({ "config": config(&json!({ "description": "cut" })) }).to_string();
    let (half, _) = whole.split_at(whole.len() / 2);
    for (method, path) in [
        ("PUT", format!("{FUNCTIONS}/f")),
        ("POST", "/v1/namespaces/default/packages".to_owned()),
        ("POST", format!("{FUNCTIONS}/f/invoke")),
        ("POST", "/fn/default/f/".to_owned()),
    ] {
        let mut stream = daemon.http.connect();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{half}",
            whole.len()
        )
        .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_default();
        // The client may be gone for good, so no answer is fine; a success is not.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{method} {path}: {answer}"
        );
        if !answer.is_empty() {
            assert!(
                answer.contains("invalid-body") || answer.contains("invalid-package"),
                "{answer}"
            );
        }
    }
    let view = daemon.http.get(&format!("{FUNCTIONS}/f")).json();
    assert_eq!(view["config"]["description"], "");
    assert_eq!(daemon.invoke("f", "{}").result(), json!("whole"));
}

#[test]
fn a_body_that_never_comes_times_out() {
    let daemon =
        crate::harness::Start::dev().set("HANSHU_SERVER_BODY_TIMEOUT_SECONDS", "1").start();
    let mut stream = daemon.http.connect();
    write!(
        stream,
        "POST /v1/namespaces HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    )
    .unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
}

#[test]
fn bodies_that_are_no_json() {
    let daemon = Daemon::start();
    for body in ["", "{", "[]", "\"x\"", r#"{"name":1}"#, r#"{"name":"a","nmae":"b"}"#] {
        let headers = [("content-type", "application/json")];
        let reply = daemon.http.send("POST", "/v1/namespaces", &headers, body);
        reply.refused(400, "invalid-body");
    }
}

#[test]
fn a_payload_over_the_limit() {
    let daemon = Daemon::start();
    daemon.node("size", "exports.handler = async (e) => e.length;", &json!({}));
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let limit = 6 * 1024 * 1024;
    assert_eq!(daemon.invoke("size", &text(limit)).result(), json!(limit - 2));
    let message = daemon.invoke("size", &text(limit + 1)).refused(413, "payload-too-large");
    assert!(message.contains("payload") && message.contains("6291456"), "{message}");
    let asynchronous = [("x-hanshu-invocation", "async")];
    let reply = daemon.http.invoke("size", text(limit + 1).as_bytes(), &asynchronous);
    reply.refused(413, "payload-too-large");
    let reply = daemon.http.send("POST", "/fn/default/size/", &[], text(limit + 1));
    assert_eq!(reply.status, 413, "{}", reply.text());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("big.json");
    std::fs::write(&file, text(limit + 1)).unwrap();
    let refused = daemon.cli(&["invoke", "size", "--payload", &format!("@{}", file.display())]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("payload-too-large"), "{refused:?}");
}

#[test]
fn headers_and_parameters_outside_the_rules() {
    let daemon = Daemon::start();
    daemon.node("f", "exports.handler = async () => 1;", &json!({}));
    let bad = [("x-hanshu-invocation", "later")];
    let message = daemon.http.invoke("f", b"{}", &bad).refused(400, "invalid-parameter");
    assert!(message.contains("x-hanshu-invocation"), "{message}");
    for query in ["limit=0", "limit=10001", "since=yesterday", "request=nope", "colour=red"] {
        let reply = daemon.http.get(&format!("{FUNCTIONS}/f/logs?{query}"));
        let (name, _) = query.split_once('=').unwrap();
        let message = reply.refused(400, "invalid-parameter");
        assert!(message.contains(name), "{query}: {message}");
    }
}
