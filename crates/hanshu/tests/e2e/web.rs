//! Web servers behind function URLs.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Daemon, eventually};

const SOON: Duration = Duration::from_secs(60);

const SERVER: &str = r"
const { createServer } = require('node:http');
const waiting = [];
createServer(async (request, response) => {
  if (request.url === '/mirror') return request.pipe(response);
  const { pathname, searchParams } = new URL(request.url, 'http://x');
  let body = '';
  for await (const piece of request) body += piece;
  switch (pathname) {
    case '/teapot':
      response.writeHead(418, [['set-cookie', 'a=1'], ['set-cookie', 'b=2'], ['x-file', 'gr\u00c3\u00bcn']]);
      return response.end(body);
    case '/meet':
      console.log('here');
      waiting.push(response);
      if (waiting.length === Number(searchParams.get('n'))) waiting.forEach((one) => one.end('all'));
      return;
    case '/stream':
      response.write('first');
      return response.on('close', () => console.log('gone'));
    case '/never':
      return;
    case '/exit':
      process.exit(7);
    case '/events':
      return response.end(JSON.stringify({ came: JSON.parse(body), pid: process.pid }));
    default:
      return response.end(JSON.stringify({ url: request.url, headers: request.headers, body }));
  }
}).listen(process.env.PORT);
";

fn deploy(daemon: &Daemon, extra: &Value) {
    let mut config = json!({
        "runtime": "web", "handler": "node server.js", "timeout_ms": 20_000, "memory_mb": 256,
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    let reply = daemon.put("site", &[("server.js", SERVER)], &config);
    assert!(reply.status == 200 || reply.status == 201, "{reply:?}");
}

#[test]
fn requests_and_answers_pass_as_they_are() {
    let daemon = Daemon::start();
    deploy(&daemon, &json!({}));
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        daemon.http.send(method, &format!("/fn/default/site{path}"), headers, body)
    };
    let came = send("POST", "/a%20b//c?x=%2F", &[("x-own", "1"), ("cookie", "a=1; b=2")], b"hello");
    assert_eq!(came.status, 200, "{came:?}");
    let told = came.json();
    assert_eq!((&told["url"], &told["body"]), (&json!("/a%20b//c?x=%2F"), &json!("hello")));
    let headers = &told["headers"];
    assert_eq!((&headers["x-own"], &headers["cookie"]), (&json!("1"), &json!("a=1; b=2")));
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-hanshu-request-id"], *came.header("x-hanshu-request-id").unwrap());

    let teapot = send("PUT", "/teapot", &[], "tée".as_bytes());
    assert_eq!((teapot.status, teapot.text()), (418, "tée".to_owned()));
    // Node.js writes its characters as bytes.
    assert_eq!(teapot.headers["x-file"].as_bytes(), "grün".as_bytes());
    let cookies: Vec<_> = teapot.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    // Longer than an event may be.
    let long = send("POST", "/long", &[], &vec![b'a'; 8 << 20]);
    assert_eq!(long.json()["body"].as_str().map(str::len), Some(8 << 20));
    assert_eq!(long.json()["headers"]["content-length"], (8 << 20).to_string());
    let called = daemon.invoke("site", r#"{"a":1}"#);
    assert_eq!(called.result()["came"], json!({"a": 1}));
}

#[test]
fn many_are_in_one_instance_and_pieces_arrive_at_once() {
    let daemon = Daemon::start();
    deploy(&daemon, &json!({}));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| daemon.http.get("/fn/default/site/meet?n=20").text()))
            .collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), "all");
        }
    });
    let mut stream = daemon.http.connect();
    write!(stream, "GET /fn/default/site/stream HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut read = String::new();
    let mut buffer = [0; 4096];
    while !read.contains("first") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "the answer ended: {read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    drop(stream);
    eventually("the server hears that its client is gone", SOON, || {
        daemon.http.get("/fn/default/site/");
        let lines = daemon.logs("site", "");
        lines.iter().any(|line| line["text"] == "gone").then_some(())
    });
}

#[test]
fn a_body_comes_in_while_its_answer_goes_out() {
    let daemon = Daemon::start();
    deploy(&daemon, &json!({ "readiness_path": "/" }));
    let mut stream = daemon.http.connect();
    let head =
        "POST /fn/default/site/mirror HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut read = String::new();
    let mut buffer = [0; 4096];
    for (sent, seen) in
        [("5\r\nhello\r\n", "hello"), ("5\r\nagain\r\n", "again"), ("0\r\n\r\n", "\r\n0\r\n")]
    {
        stream.write_all(sent.as_bytes()).unwrap();
        while !read.contains(seen) {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the answer ended: {read}");
            read.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }
    assert!(read.starts_with("HTTP/1.1 200"), "{read}");
}

#[test]
fn a_late_call_and_a_crash_are_answered_and_the_next_call_works() {
    let daemon = Daemon::start();
    deploy(&daemon, &json!({ "timeout_ms": 1_500 }));
    assert_eq!(daemon.http.get("/fn/default/site/").status, 200);
    let late = daemon.http.get("/fn/default/site/never");
    assert_eq!((late.status, late.failure()), (504, Some("timeout")));
    assert_eq!(daemon.http.get("/fn/default/site/").status, 200);
    let crash = daemon.http.get("/fn/default/site/exit");
    assert_eq!((crash.status, crash.failure()), (502, Some("exited")));
    assert_eq!(daemon.http.get("/fn/default/site/").status, 200);
    let refused = daemon.cli(&["config", "set", "site", "instance_concurrency=251"]).refused();
    assert!(refused.contains("1 to 250"), "{refused}");
}

/// With what npm, PyPI and crates.io have.
#[test]
fn the_example_apps_run() {
    let daemon = Daemon::start();
    for (name, stream) in [
        ("web-express", Some(("ticks", "data: 3\n\n"))),
        ("web-fastapi", Some(("lines", "line 2\n"))),
        ("web-axum", None),
    ] {
        let folder = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
        let view = daemon.cli(&["deploy", &folder, "--output", "json"]).json();
        assert_eq!(view["config"]["runtime"], "web");
        let hello = daemon.http.get(&format!("/fn/default/{name}/?name=Ada"));
        assert_eq!((hello.status, &hello.json()["message"]), (200, &json!("Hello, Ada")), "{name}");
        if let Some((path, end)) = stream {
            let stream = daemon.http.get(&format!("/fn/default/{name}/{path}")).text();
            assert!(stream.ends_with(end), "{stream:?}");
        }
        let event = format!("@{folder}/event.json");
        let answer = daemon.cli(&["invoke", name, "--payload", &event]).json();
        assert_eq!(answer, json!({ "message": "Hello, Ada" }));
        let missing = daemon.http.get(&format!("/fn/default/{name}/no/such/page"));
        assert_eq!(missing.status, 404);
        // With a client that knows how it should be: a handshake, frames, pings, a goodbye.
        let client =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/websockets/client.mjs").to_owned();
        let url = format!("{}/fn/default/{name}/echo", daemon.url().replace("http:", "ws:"));
        let talked =
            Command::new("node").args(["--experimental-websocket", &client, &url]).output();
        let talked = talked.expect("node is on the PATH");
        let said = String::from_utf8_lossy(&talked.stdout);
        let words = String::from_utf8_lossy(&talked.stderr);
        assert_eq!(
            said.trim(),
            r#"{"code":4000,"reason":"enough","wasClean":true}"#,
            "{name}: {words}"
        );
    }
}
