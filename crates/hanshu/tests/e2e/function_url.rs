//! Function URLs: the event a function gets, and what becomes of its reply.

use serde_json::{Value, json};

use crate::harness::Daemon;

const ECHO: &str =
    "exports.handler = async (event) => ({ statusCode: 200, body: JSON.stringify(event) });";

#[test]
fn the_plain_hello_runs_unchanged() {
    let daemon = Daemon::start();
    let hello = "exports.handler = function (event, context, callback) {
  var response = { isBase64Encoded: false, headers: {}, statusCode: 200, body: 'Hello world' };
  callback(null, response);
};
";
    daemon.node("hello", hello, &json!({}));
    let reply = daemon.http.get("/fn/default/hello/");
    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello world"));
    assert_eq!(daemon.http.get("/fn/default/hello").text(), "Hello world");
    assert_eq!(daemon.http.get("/fn/default/hello:$LATEST/any/path?x=1").text(), "Hello world");
}

#[test]
fn the_event_is_an_http_event_2_0() {
    let daemon = Daemon::start();
    daemon.node("echo", ECHO, &json!({}));
    let headers = [
        ("content-type", "application/json"),
        ("cookie", "a=1; b=2"),
        ("x-many", "one"),
        ("x-many", "two"),
        ("user-agent", "e2e"),
    ];
    let reply = daemon.http.send(
        "POST",
        "/fn/default/echo/some/p%20ath?name=Ada&tag=x&tag=y+z&empty=",
        &headers,
        r#"{"text":"ünï"}"#,
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    let event = reply.json();
    assert_eq!(event["version"], "2.0");
    assert_eq!(event["routeKey"], "$default");
    assert_eq!(event["rawPath"], "/some/p%20ath");
    assert_eq!(event["rawQueryString"], "name=Ada&tag=x&tag=y+z&empty=");
    assert_eq!(
        event["queryStringParameters"],
        json!({ "name": "Ada", "tag": "x,y z", "empty": "" })
    );
    assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
    assert_eq!(event["headers"]["x-many"], "one,two");
    assert_eq!(event["headers"].get("cookie"), None);
    assert_eq!(event["body"], r#"{"text":"ünï"}"#);
    assert_eq!(event["isBase64Encoded"], false);
    let context = &event["requestContext"];
    assert_eq!(context["http"]["method"], "POST");
    assert_eq!(context["http"]["path"], "/some/p%20ath");
    assert_eq!(context["http"]["protocol"], "HTTP/1.1");
    assert_eq!(context["http"]["sourceIp"], "127.0.0.1");
    assert_eq!(context["http"]["userAgent"], "e2e");
    assert_eq!(context["accountId"], "000000000000");
    assert_eq!(context["apiId"], "echo");
    assert_eq!(context["stage"], "$default");
    assert_eq!(context["requestId"], reply.header("x-hanshu-request-id").unwrap());
    assert!(context["timeEpoch"].as_u64().unwrap() > 1_700_000_000_000, "{context}");
}

#[test]
fn binary_bodies_travel_in_base64_both_ways() {
    let daemon = Daemon::start();
    let mirror = "exports.handler = async (event) => ({
        statusCode: 200, headers: { 'content-type': 'application/octet-stream' },
        isBase64Encoded: event.isBase64Encoded, body: event.body,
    });";
    daemon.node("mirror", mirror, &json!({}));
    let bytes: Vec<u8> = (0..=255).collect();
    let headers = [("content-type", "application/octet-stream")];
    let reply = daemon.http.send("PUT", "/fn/default/mirror/x", &headers, bytes.as_slice());
    assert_eq!((reply.status, &reply.body), (200, &bytes));
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn a_reply_object_says_what_to_answer() {
    let daemon = Daemon::start();
    let code = "exports.handler = async () => ({
        statusCode: 201, headers: { 'X-One': 'a', 'content-type': 'text/plain' },
        multiValueHeaders: { 'x-two': ['b', 'c'] }, cookies: ['s=1; Path=/', 't=2'], body: 'made',
    });";
    daemon.node("made", code, &json!({}));
    let reply = daemon.http.get("/fn/default/made/");
    assert_eq!((reply.status, reply.text().as_str()), (201, "made"));
    assert_eq!(reply.header("x-one"), Some("a"));
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    let all = |name: &str| {
        reply
            .headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(all("x-two"), ["b", "c"]);
    assert_eq!(all("set-cookie"), ["s=1; Path=/", "t=2"]);
}

#[test]
fn any_other_json_is_the_body_of_a_200() {
    let daemon = Daemon::start();
    for (value, expected) in [
        ("({ a: [1] })", json!({ "a": [1] })),
        ("[1, 2]", json!([1, 2])),
        ("'text'", json!("text")),
        ("null", Value::Null),
        ("({ body: 'no status' })", json!({ "body": "no status" })),
    ] {
        daemon.node("plain", &format!("exports.handler = async () => {value};"), &json!({}));
        let reply = daemon.http.get("/fn/default/plain/");
        assert_eq!((reply.status, reply.json()), (200, expected));
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[test]
fn failures_are_502_and_timeouts_504() {
    let daemon = Daemon::start();
    daemon.node(
        "broken",
        "exports.handler = async () => { throw new Error('inside'); };",
        &json!({}),
    );
    let reply = daemon.http.get("/fn/default/broken/");
    assert_eq!((reply.status, reply.failure()), (502, Some("handler")));
    assert!(reply.text().contains("inside"), "a dev daemon tells: {}", reply.text());
    assert!(reply.header("x-hanshu-request-id").is_some());
    daemon.node("slow", "exports.handler = () => { for (;;) {} };", &json!({ "timeout_ms": 500 }));
    let reply = daemon.http.get("/fn/default/slow/");
    assert_eq!((reply.status, reply.failure()), (504, Some("timeout")));
    daemon.node("odd", "exports.handler = async () => ({ statusCode: 'many' });", &json!({}));
    let reply = daemon.http.get("/fn/default/odd/");
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("statusCode"), "{}", reply.text());
}

#[test]
fn a_version_has_a_url_of_its_own() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    for text in ["one", "two"] {
        let code = format!("exports.handler = async () => '{text}';");
        crate::harness::packages::write(dir.path(), &[("index.js", &code)]);
        daemon.cli(&["deploy", dir.path().to_str().unwrap(), "--name", "v", "--publish"]).ok();
    }
    assert_eq!(daemon.http.get("/fn/default/v:1/").json(), "one");
    assert_eq!(daemon.http.get("/fn/default/v:2/").json(), "two");
    assert_eq!(daemon.http.get("/fn/default/v/").json(), "two");
    assert_eq!(daemon.http.get("/fn/default/v:3/").status, 404);
}
