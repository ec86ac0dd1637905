use std::time::Duration;

use bytes::Bytes;
use engine::SHADOW_WHOLE_BYTES;
use model::clock::{Clock as _, SystemClock, UnixMillis};
use model::ids::{FunctionRef, RequestId, VersionRef};
use model::invocation::FailureKind;

use super::*;

type Result = std::result::Result<Bytes, Failure>;

fn run(answer: Result, shadow: Result) -> Compared {
    let id = RequestId::from_bytes([1; 16]);
    let identical = answer == shadow;
    let of = |version, result| Answer::new(VersionRef::Number(version), result, 1).cut();
    compare(&ShadowPair {
        function_id: id,
        function: FunctionRef::parse("default", "f").unwrap().key,
        alias: "live".parse().unwrap(),
        time: UnixMillis(1),
        request: id,
        shadow_request: id,
        answer: of(7, answer),
        shadow: of(8, shadow),
        identical,
        skipped: 0,
        room: engine::Room::default(),
    })
}

fn ok(text: impl Into<Bytes>) -> Result {
    Ok(text.into())
}

fn failed(kind: FailureKind, message: &str, line: u32) -> Result {
    let payload = json!({"errorType": "Error", "errorMessage": message, "stackTrace": [line]});
    Err(Failure { kind, payload: payload.to_string().into() })
}

/// Whether status and body differ, and where.
fn found(answer: Result, shadow: Result) -> (bool, bool, Vec<String>) {
    let Compared { status, body, differences } = run(answer, shadow);
    (status, body, differences.into_iter().map(|d| d.path).collect())
}

fn same() -> (bool, bool, Vec<String>) {
    (false, false, Vec::new())
}

fn paths(status: bool, body: bool, paths: &[&str]) -> (bool, bool, Vec<String>) {
    (status, body, paths.iter().map(|path| (*path).to_owned()).collect())
}

#[test]
fn failures_are_compared_by_kind_and_error() {
    use FailureKind::{Handler, Timeout};
    assert_eq!(found(failed(Handler, "m", 1), failed(Handler, "m", 2)), same());
    let other = found(failed(Handler, "m", 1), failed(Handler, "n", 1));
    assert_eq!(other, paths(false, true, &["error.errorMessage"]));
    let kind = found(failed(Handler, "m", 1), failed(Timeout, "m", 1));
    assert_eq!(kind, paths(true, false, &["failure"]));

    let compared = run(ok("1"), failed(Handler, "m", 1));
    assert!(compared.status && !compared.body);
    assert_eq!(
        compared.differences,
        [
            Difference { path: "failure".into(), before: None, after: Some(json!("handler")) },
            Difference {
                path: "error".into(),
                before: None,
                after: Some(json!({"errorType": "Error", "errorMessage": "m"})),
            },
        ]
    );
    assert!(found(failed(Handler, "m", 1), ok("1")).0);
}

#[test]
fn json_is_compared_by_value() {
    assert_eq!(found(ok(r#"{"a":1,"b":[2]}"#), ok(r#"{ "b": [2], "a": 1 }"#)), same());
    let prices = |price: u32| format!(r#"{{"items":[{{}},{{}},{{"price":{price}}}]}}"#);
    assert_eq!(found(ok(prices(1)), ok(prices(2))), paths(false, true, &["body.items[2].price"]));
    assert_eq!(found(ok("1"), ok("2")), paths(false, true, &["body"]));
    // A reply with a status and one without are different documents.
    assert_eq!(
        found(ok(r#"{"statusCode":200}"#), ok("{}")),
        paths(false, true, &["body.statusCode"])
    );
}

#[test]
fn what_is_no_json_is_compared_by_its_bytes() {
    assert_eq!(found(ok("<a>"), ok("<a>")), same());
    let long = "ä".repeat(300);
    let compared = run(ok(b"\xff".to_vec()), ok(long));
    assert!(!compared.status && compared.body);
    let [difference] = &*compared.differences else { panic!("{compared:?}") };
    assert_eq!((difference.path.as_str(), &difference.before), ("body", &Some(json!("\u{fffd}"))));
    assert_eq!(difference.after, Some(json!(format!("{}…", "ä".repeat(200)))));
}

#[test]
fn large_answers_are_compared_by_their_bytes() {
    let long = |end: &str| format!("[{}0]{end}", "0,".repeat(SHADOW_WHOLE_BYTES));
    assert_eq!(found(ok(long("")), ok(long(""))), same());
    let compared = run(ok(long("")), ok(long(" ")));
    assert!(!compared.status && compared.body);
    let [body, length] = &*compared.differences else { panic!("{compared:?}") };
    assert_eq!((body.path.as_str(), &body.before), ("body", &body.after));
    let bytes = json!(2 * SHADOW_WHOLE_BYTES + 3);
    assert_eq!((length.path.as_str(), &length.before), ("length", &Some(bytes)));
}

#[test]
fn http_replies_are_compared_as_they_are_answered() {
    let reply = |json: Value| ok(json.to_string());
    let plain = || reply(json!({"statusCode": 200, "body": "x"}));
    for alike in [
        json!({"statusCode": 200, "body": "x", "headers": null, "isBase64Encoded": false}),
        json!({"statusCode": 200, "body": "x", "headers": {"Date": "today"}, "cookies": []}),
    ] {
        assert_eq!(found(plain(), reply(alike)), same());
    }
    assert_eq!(
        found(plain(), reply(json!({"statusCode": 500, "body": "x"}))),
        paths(true, false, &["statusCode"])
    );
    assert_eq!(
        found(plain(), reply(json!({"statusCode": 500, "body": "y", "cookies": ["a=b"]}))),
        paths(true, true, &["statusCode", "body", "cookies[0]"])
    );
    let with = |headers: Value| reply(json!({"statusCode": 200, "headers": headers}));
    assert_eq!(found(with(json!({"X-N": 7, "date": 1})), with(json!({"x-n": "7"}))), same());
    assert_eq!(
        found(with(json!({"ETag": "a"})), with(json!({"etag": "b", "X-New": "1"}))),
        paths(false, true, &["headers.etag", "headers.x-new"])
    );
    let body = |body: &str| reply(json!({"statusCode": 200, "body": body}));
    assert_eq!(found(body(r#"{"a":1}"#), body(r#"{ "a": 1 }"#)), same());
    assert_eq!(
        found(body(r#"{"items":[1]}"#), body(r#"{"items":[2]}"#)),
        paths(false, true, &["body.items[0]"])
    );
    assert_eq!(found(body(r#"{"a":1}"#), body("a")), paths(false, true, &["body"]));
}

#[test]
fn what_is_shown_is_bounded() {
    let values = |n: u32| json!((0..1_000).map(|_| n).collect::<Vec<_>>()).to_string();
    assert_eq!(run(ok(values(1)), ok(values(2))).differences.len(), DIFFERENCES);
    let name = "n".repeat(500);
    let long = |n: u32| ok(format!(r#"{{"{name}":[{n},"{name}",["short"]]}}"#));
    let mut found = run(long(1), ok("[]")).differences;
    found.extend(run(long(1), long(2)).differences);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].after, Some(json!([])));
    let before = found[0].before.as_ref().and_then(Value::as_str).unwrap();
    for text in [before, &found[1].path] {
        assert_eq!(text.chars().count(), SHOWN_CHARS + 1);
    }
}

#[test]
fn no_answer_takes_long_to_compare() {
    let most = SHADOW_WHOLE_BYTES;
    let name = "n".repeat(most / 2);
    let named = |last: u32| format!(r#"{{"{name}":[{}{last}]}}"#, "0,".repeat(most / 4 - 10));
    let steps = |last: u32| {
        let open = format!(r#"{{"{}":"#, "\\u0001".repeat(100)).repeat(100);
        let elements = "0,".repeat(most / 2 - 40_000);
        format!("{open}[{elements}{last}]{}", "}".repeat(100))
    };
    let nested = |n: u32| format!("{}{n}{}", "[".repeat(most / 3), "]".repeat(most / 3));
    let huge = |n: u32| format!("[{}{n}]", "0,".repeat(most));
    for (at, make) in [&named as &dyn Fn(u32) -> String, &steps, &nested, &huge].iter().enumerate()
    {
        let begun = SystemClock.instant();
        let compared = run(ok(make(1)), ok(make(2)));
        let took = SystemClock.instant() - begun;
        assert!(compared.body && !compared.differences.is_empty());
        assert!(took < Duration::from_secs(10), "{at}: {took:?}");
    }
}
