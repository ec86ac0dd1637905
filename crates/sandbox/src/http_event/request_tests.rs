//! Table tests of events, and arbitrary bytes.

use proptest::prelude::*;

use super::*;

fn read(event: &str) -> Result<(Request<Bytes>, Form), String> {
    let asking = Asking {
        id: RequestId::generate(),
        trace: Some("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2"),
        host: "localhost:8080",
        path: "/events",
    };
    asked(&Bytes::copy_from_slice(event.as_bytes()), &asking)
}

#[test]
fn what_is_no_request_is_sent_as_it_is() {
    for event in [
        "null",
        "not even JSON",
        "[1]",
        r#"{"version":"2.0"}"#,
        r#"{"version":"1.0","rawPath":"/","requestContext":{"http":{"method":"GET"}}}"#,
        r#"{"version":"2.0","rawPath":7,"requestContext":{"http":{"method":"GET"}}}"#,
        r#"{"Records":[{"messageId":"1"}]}"#,
    ] {
        let (request, form) = read(event).unwrap();
        assert_eq!(form, Form::Plain, "{event}");
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/events"));
        assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(request.headers()[header::HOST], "localhost:8080");
        assert_eq!(request.headers()[TRACE], "Root=1-5f35ae12-0c0fec141ab77a00bc047aa2");
        assert_eq!(request.body(), event);
    }
}

#[test]
fn an_event_becomes_the_request_that_it_was_made_of() {
    let event = serde_json::json!({
        "version": "2.0", "rawPath": "/a%20b", "rawQueryString": "x=1&x=2",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "x-many": "1,2", "x-hanshu-request-id": "mine", "x-forwarded-for": "1.1.1.1",
            "connection": "close, x-own", "x-own": "1", "te": "trailers", "expect": "100-continue",
            "content-length": "999", "upgrade": "h2c",
        },
        "requestContext": {
            "domainName": "f.example:81",
            "http": {"method": "PUT", "path": "/a b", "sourceIp": "2.2.2.2"},
        },
        "body": "aGVsbG8=", "isBase64Encoded": true,
    });
    let (request, form) = read(&event.to_string()).unwrap();
    assert_eq!((form, request.method()), (Form::Http, &Method::PUT));
    assert_eq!(request.uri(), "/a%20b?x=1&x=2");
    assert_eq!(&request.body()[..], b"hello");
    let mut headers = request.headers().clone();
    assert_ne!(headers.remove(REQUEST_ID).unwrap(), "mine");
    assert!(headers.remove(TRACE).is_some());
    let mut left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    left.sort_unstable();
    let expected = [
        ("cookie", "a=1; b=2"),
        ("host", "f.example:81"),
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("x-forwarded-host", "f.example:81"),
        ("x-forwarded-proto", "http"),
        ("x-many", "1,2"),
    ];
    assert_eq!(left, expected);
}

#[test]
fn what_no_request_can_hold_is_refused() {
    let whole = serde_json::json!({
        "version": "2.0", "rawPath": "/", "headers": {"host": "f.example", "x-many": "1,2"},
        "requestContext": {"http": {"method": "PUT"}}, "body": "", "isBase64Encoded": true,
    });
    assert!(read(&whole.to_string()).is_ok());
    for (field, value) in [
        ("/headers/host", "a b"),
        ("/headers/x-many", "line\nbreak"),
        ("/requestContext/http/method", "G T"),
        ("/requestContext/http/method", "CONNECT"),
        ("/rawPath", "no slash"),
        ("/body", "not base64!"),
    ] {
        let mut event = whole.clone();
        *event.pointer_mut(field).unwrap() = value.into();
        assert!(read(&event.to_string()).is_err(), "{field}");
    }
}

#[test]
fn the_least_event_of_a_request_is_one() {
    let event = r#"{"version":"2.0","rawPath":"/a","requestContext":{"http":{"method":"GET"}},
        "cookies":null,"headers":null,"body":null,"more":{}}"#;
    let (request, form) = read(event).unwrap();
    assert_eq!(form, Form::Http);
    assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/a"));
    assert!(!request.headers().contains_key(FORWARDED_FOR));
    assert!(request.body().is_empty());
}

#[test]
fn a_plain_body_is_not_copied() {
    let event = r#"{"version":"2.0","rawPath":"/","body":"hello","requestContext":{"http":{"method":"POST"}}}"#;
    let event = Bytes::from_static(event.as_bytes());
    let http: HttpEvent<'_> = serde_json::from_slice(&event).unwrap();
    let body = http.body_bytes(&event).unwrap();
    assert!(event.as_ptr_range().contains(&body.as_ptr()));
}

proptest! {
    #[test]
    fn arbitrary_fields_are_answered(
        method in "\\PC{0,6}",
        path in "/?\\PC{0,20}",
        query in "\\PC{0,20}",
        name in "\\PC{0,12}",
        value in "\\PC{0,12}",
        body in "\\PC{0,40}",
        base64 in any::<bool>(),
    ) {
        let event = serde_json::json!({
            "version": "2.0", "rawPath": path, "rawQueryString": query, "headers": {name: value},
            "requestContext": {"http": {"method": method, "sourceIp": value}},
            "body": body, "isBase64Encoded": base64,
        });
        if let Ok((request, Form::Http)) = read(&event.to_string()) {
            prop_assert!(request.uri().path().starts_with('/'));
            prop_assert!(request.method() != Method::CONNECT);
        }
    }
}
