//! Table tests of replies.

use serde_json::{Value, json};

use super::*;

fn head(status: u16, headers: &[(&'static str, &'static str)]) -> Parts {
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

fn answered(head: &Parts, body: &'static [u8], form: Form) -> Result<Value, Failure> {
    let answer = whole(head, Bytes::from_static(body), form)?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

#[test]
fn a_request_is_answered_with_all_there_is() {
    let head = head(
        201,
        &[
            ("x-a", "1"),
            ("x-a", "2"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("content-length", "2"),
        ],
    );
    let expected = json!({
        "statusCode": 201, "headers": {"x-a": "1,2"}, "cookies": ["a=1", "b=2"], "body": "hi",
        "isBase64Encoded": false,
    });
    assert_eq!(answered(&head, b"hi", Form::Http).unwrap(), expected);
    let binary = answered(&head, b"\xff\0", Form::Http).unwrap();
    assert_eq!((&binary["body"], &binary["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    let before: Value = serde_json::from_slice(&prelude(&head).unwrap()).unwrap();
    assert_eq!(before["headers"], json!({"x-a": "1,2"}));
    assert!(before.get("body").is_none());
}

#[test]
fn other_events_are_answered_with_the_body() {
    let ok = head(200, &[]);
    for (body, value) in [
        (&b""[..], json!(null)),
        (b" \n", json!(null)),
        (b"{\"a\":1}", json!({"a": 1})),
        (b"hi", json!("hi")),
        (b"\xff\0", json!("/wA=")),
    ] {
        assert_eq!(answered(&ok, body, Form::Plain).unwrap(), value);
    }
}

#[test]
fn other_events_know_errors_only() {
    let failure = answered(&head(500, &[]), b"no more", Form::Plain).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Handler);
    let told: Value = serde_json::from_slice(&failure.payload).unwrap();
    let words = "the event was answered with 500 Internal Server Error: no more";
    assert_eq!(told["errorMessage"], words);
    let own = br#"{"errorType":"E","errorMessage":"mine"}"#;
    let failure = answered(&head(400, &[]), own, Form::Plain).unwrap_err();
    assert_eq!(failure.payload, &own[..]);
    for other in ["", "null", "{}", "[1]", "errorMessage", r#"["errorMessage"]"#] {
        let failure = answered(&head(400, &[]), other.as_bytes(), Form::Plain).unwrap_err();
        let told: Value = serde_json::from_slice(&failure.payload).unwrap();
        assert_eq!(told["errorType"], STATUS_ERROR, "{other}");
    }
}

#[test]
fn an_answer_that_grows_over_the_limit_is_too_large() {
    // Each byte of these takes six in JSON.
    let body = vec![1; limits::RESPONSE_BYTES / 5];
    for form in [Form::Http, Form::Plain] {
        let failure = whole(&head(200, &[]), body.clone().into(), form).unwrap_err();
        assert_eq!(failure.kind, FailureKind::ResponseTooLarge);
    }
}
