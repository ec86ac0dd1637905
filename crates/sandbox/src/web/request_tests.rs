//! Table tests of events, and arbitrary bytes.

use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::*;

fn read(event: &str) -> Result<Asked, String> {
    let extras = Extras {
        id: RequestId::generate(),
        deadline: UnixMillis(1_700_000_000_000),
        trace: None,
        port: 8080,
    };
    asked(&Bytes::copy_from_slice(event.as_bytes()), &extras)
}

fn body_of(request: Request<Full<Bytes>>) -> Bytes {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(request.into_body().collect()).unwrap().to_bytes()
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
        let Ok(Asked::Event(request)) = read(event) else { panic!("{event}") };
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, EVENTS));
        assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(request.headers()[header::HOST], "localhost:8080");
        assert_eq!(request.headers()[DEADLINE], "1700000000000");
        assert_eq!(body_of(request), event);
    }
}

#[test]
fn the_least_event_of_a_request_is_one() {
    let event = r#"{"version":"2.0","rawPath":"/a","requestContext":{"http":{"method":"GET"}},
        "cookies":null,"headers":null,"body":null,"more":{}}"#;
    let Ok(Asked::Http(request)) = read(event) else { panic!("it is a request") };
    assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/a"));
    assert!(!request.headers().contains_key(FORWARDED_FOR));
    assert!(body_of(request).is_empty());
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
        if let Ok(Asked::Http(request)) = read(&event.to_string()) {
            prop_assert!(request.uri().path().starts_with('/'));
            prop_assert!(request.method() != Method::CONNECT);
        }
    }
}
