//! Table tests of the event.

use http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn event_of(request: Request<&[u8]>, target: &str, hide_authorization: bool) -> Value {
    let (parts, body) = request.into_parts();
    let target = FunctionRef::parse("default", target).unwrap();
    let event = Event {
        parts: &parts,
        raw_path: "/a/b%20c",
        target: &target,
        body,
        id: RequestId::from_bytes([1; 16]),
        peer: [192, 0, 2, 7].into(),
        // 2026-11-23T10:00:00.5Z
        now: UnixMillis(1_795_428_000_500),
        hide_authorization,
    };
    serde_json::from_slice(&event.to_json().unwrap()).unwrap()
}

fn event(request: Request<&[u8]>) -> Value {
    event_of(request, "hello", false)
}

fn post<'a>(content_type: &str, body: &'a [u8]) -> Request<&'a [u8]> {
    Request::post("/").header("content-type", content_type).body(body).unwrap()
}

#[test]
fn a_whole_event() {
    let request = Request::post("/fn/default/hello/a/b%20c?x=1&y=a+b&x=%32&flag")
        .header("Host", "api.example.org:9000")
        .header("User-Agent", "test/1")
        .header("Content-Type", "application/json")
        .header("X-Many", "one")
        .header("X-Many", "two")
        .header("Cookie", "a=1; b=2")
        .header("Cookie", "c=3")
        .body(br#"{"k":"v"}"#.as_slice())
        .unwrap();
    assert_eq!(
        event(request),
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/a/b%20c",
            "rawQueryString": "x=1&y=a+b&x=%32&flag",
            "cookies": ["a=1", "b=2", "c=3"],
            "headers": {
                "host": "api.example.org:9000",
                "user-agent": "test/1",
                "content-type": "application/json",
                "x-many": "one,two",
            },
            "queryStringParameters": { "x": "1,2", "y": "a b", "flag": "" },
            "requestContext": {
                "accountId": "000000000000",
                "apiId": "hello",
                "domainName": "api.example.org",
                "domainPrefix": "api",
                "http": {
                    "method": "POST",
                    "path": "/a/b%20c",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.7",
                    "userAgent": "test/1",
                },
                "requestId": "01010101-0101-0101-0101-010101010101",
                "routeKey": "$default",
                "stage": "$default",
                "time": "23/Nov/2026:10:00:00 +0000",
                "timeEpoch": 1_795_428_000_500_u64,
            },
            "pathParameters": null,
            "stageVariables": null,
            "body": "{\"k\":\"v\"}",
            "isBase64Encoded": false,
        })
    );
}

#[test]
fn what_is_empty_is_left_out() {
    let event = event(Request::get("/fn/default/hello").body([].as_slice()).unwrap());
    for field in ["cookies", "queryStringParameters", "body"] {
        assert_eq!(event.get(field), None, "{field}");
    }
    assert_eq!(event["isBase64Encoded"], false);
    assert_eq!(event["rawQueryString"], "");
    assert_eq!(event["headers"], json!({}));
}

#[test]
fn text_stays_text_and_the_rest_is_base64() {
    for content_type in [
        "text/plain",
        "TEXT/HTML; charset=utf-8",
        "application/json",
        "application/problem+json",
        "application/xml",
        "image/svg",
    ] {
        let event = event(post(content_type, "ä".as_bytes()));
        let text = content_type != "image/svg";
        assert_eq!(event["body"], if text { "ä" } else { "w6Q=" }, "{content_type}");
        assert_eq!(event["isBase64Encoded"], !text, "{content_type}");
    }
    let form = event(post("application/x-www-form-urlencoded", b"a=1"));
    assert_eq!((&form["body"], &form["isBase64Encoded"]), (&json!("YT0x"), &json!(true)));
    let lying = event(post("text/plain", &[0xff]));
    assert_eq!((&lying["body"], &lying["isBase64Encoded"]), (&json!("/w=="), &json!(true)));
    let untyped = event(Request::post("/").body(b"a".as_slice()).unwrap());
    assert_eq!(untyped["isBase64Encoded"], true);
}

#[test]
fn compressed_text_is_not_text() {
    let request = Request::post("/")
        .header("content-type", "text/plain")
        .header("content-encoding", "gzip")
        .body(b"abc".as_slice())
        .unwrap();
    assert_eq!(event(request)["isBase64Encoded"], true);
}

#[test]
fn headers_about_the_connection_do_not_pass() {
    let request = Request::get("/")
        .header("Connection", "keep-alive, X-Secret")
        .header("Keep-Alive", "timeout=5")
        .header("Transfer-Encoding", "chunked")
        .header("TE", "trailers")
        .header("Upgrade", "websocket")
        .header("Proxy-Authorization", "x")
        .header("X-Secret", "1")
        .header("X-Open", "2")
        .body([].as_slice())
        .unwrap();
    assert_eq!(event(request)["headers"], json!({ "x-open": "2" }));
}

#[test]
fn the_platforms_key_never_reaches_the_function() {
    let request =
        || Request::get("/").header("Authorization", "Bearer hsk_x").body([].as_slice()).unwrap();
    assert_eq!(event_of(request(), "hello", true)["headers"], json!({}));
    let own = event_of(request(), "hello", false);
    assert_eq!(own["headers"]["authorization"], "Bearer hsk_x");
}

#[test]
fn header_values_that_are_no_utf_8_are_replaced() {
    let mut request = Request::get("/").body([].as_slice()).unwrap();
    let value = HeaderValue::from_bytes(b"a\xffb").unwrap();
    request.headers_mut().insert("x-bytes", value);
    assert_eq!(event(request)["headers"]["x-bytes"], "a\u{fffd}b");
}

#[test]
fn addresses_are_their_own_prefix() {
    for (host, domain, prefix) in [
        ("127.0.0.1:9000", "127.0.0.1", "127.0.0.1"),
        ("[::1]:9000", "[::1]", "[::1]"),
        ("localhost", "localhost", "localhost"),
        ("a.b.c", "a.b.c", "a"),
    ] {
        let event = event(Request::get("/").header("host", host).body([].as_slice()).unwrap());
        assert_eq!(event["requestContext"]["domainName"], domain);
        assert_eq!(event["requestContext"]["domainPrefix"], prefix);
    }
}

#[test]
fn query_strings_of_all_kinds_are_read() {
    let cases = [
        ("a=b=c", json!({ "a": "b=c" })),
        ("&&a&", json!({ "a": "" })),
        ("%C3%A4=%2B+%zz", json!({ "ä": "+ %zz" })),
        ("a=%ff", json!({ "a": "\u{fffd}" })),
        ("b=2&a=1&b=1", json!({ "a": "1", "b": "2,1" })),
    ];
    for (query, expected) in cases {
        let request = Request::get(format!("/?{query}")).body([].as_slice()).unwrap();
        assert_eq!(event(request)["queryStringParameters"], expected, "{query}");
    }
}

proptest! {
    #[test]
    fn arbitrary_requests_become_json(
        query in "[!-~&&[^#<>\"`]]{0,60}",
        value in proptest::collection::vec(b' '..=b'\xff', 0..40),
        body in proptest::collection::vec(any::<u8>(), 0..60),
        content_type in "text/plain|application/json|\\PC{0,8}",
    ) {
        let mut request = Request::post(format!("/?{query}")).body(body.as_slice()).unwrap();
        let value: Vec<u8> = value.into_iter().filter(|b| *b != 0x7f).collect();
        let value = HeaderValue::from_bytes(&value).unwrap();
        request.headers_mut().insert(header::COOKIE, value.clone());
        request.headers_mut().append("x", value.clone());
        request.headers_mut().append("x", value);
        if let Ok(content_type) = content_type.parse() {
            request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        let event = event(request);
        prop_assert_eq!(&event["rawQueryString"], &query);
        let sent = event["body"].as_str().unwrap_or_default();
        if event["isBase64Encoded"] == true {
            use base64::Engine as _;
            prop_assert_eq!(STANDARD.decode(sent).unwrap(), body);
        } else {
            prop_assert_eq!(sent.as_bytes(), body);
        }
    }
}
