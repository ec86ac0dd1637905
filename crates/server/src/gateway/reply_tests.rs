//! Table tests of the reply, and arbitrary bytes.

use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::*;

fn run(reply: &str) -> Result<Response<Full<Bytes>>, String> {
    response(&Bytes::copy_from_slice(reply.as_bytes()))
}

fn body_of(response: Response<Full<Bytes>>) -> Bytes {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(response.into_body().collect()).unwrap().to_bytes()
}

#[test]
fn json_that_says_no_status_is_the_body() {
    for reply in [
        "null",
        "\"hello\"",
        "1.5",
        " [1, 2]",
        "{}",
        r#"{"message":"hi"}"#,
        r#"{"headers":5,"body":{"a":1},"cookies":"x"}"#,
        r#"{"statusCode":null,"body":"b"}"#,
    ] {
        let response = run(reply).unwrap();
        assert_eq!(response.status(), 200, "{reply}");
        assert_eq!(response.headers()["content-type"], "application/json", "{reply}");
        assert_eq!(body_of(response), reply, "{reply}");
    }
}

#[test]
fn a_whole_reply() {
    let response =
        run(r#"{"statusCode":201,"headers":{"Content-Type":"text/plain","X-N":7,"X-B":true},
            "multiValueHeaders":{"X-Many":["a","b"]},"cookies":["s=1; HttpOnly","t=2"],
            "body":"h\u00e4llo\n","isBase64Encoded":false,"more":{}}"#)
        .unwrap();
    assert_eq!(response.status(), 201);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/plain");
    assert_eq!(
        (&headers["x-n"], &headers["x-b"]),
        (&"7".parse().unwrap(), &"true".parse().unwrap())
    );
    assert_eq!(headers.get_all("x-many").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["s=1; HttpOnly", "t=2"]);
    assert_eq!(body_of(response), "hällo\n");
}

#[test]
fn the_classic_hello_world() {
    let reply = r#"{"isBase64Encoded":false,"headers":{},"statusCode":200,"body":"Hello world"}"#;
    let response = run(reply).unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(body_of(response), "Hello world");
}

#[test]
fn a_plain_body_is_not_copied() {
    let reply = Bytes::from_static(br#"{"statusCode":200,"body":"Hello world"}"#);
    let body = body_of(response(&reply).unwrap());
    assert!(reply.as_ptr_range().contains(&body.as_ptr()));
}

#[test]
fn binary_bodies_come_as_base64() {
    let response = run(r#"{"statusCode":200,"body":"AP8=","isBase64Encoded":true}"#).unwrap();
    assert_eq!(body_of(response), [0, 255].as_slice());
}

#[test]
fn statuses_may_be_strings_and_bodies_absent() {
    for reply in [r#"{"statusCode":"404"}"#, r#"{"statusCode":404,"headers":null,"body":null}"#] {
        let response = run(reply).unwrap();
        assert_eq!(response.status(), 404);
        assert!(response.headers().is_empty(), "{reply}");
        assert!(body_of(response).is_empty());
    }
    let response = run(r#"{"statusCode":204,"body":"x"}"#).unwrap();
    assert!(body_of(response).is_empty());
}

#[test]
fn headers_and_multi_value_headers_are_merged() {
    let response = run(
        r#"{"statusCode":200,"headers":{"a":"1","b":"2","B":"3"},"multiValueHeaders":{"A":["1","2"]}}"#,
    )
    .unwrap();
    let headers = response.headers();
    assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(headers.get_all("b").iter().collect::<Vec<_>>(), ["3"]);
}

#[test]
fn the_servers_own_headers_are_not_the_functions() {
    let response =
        run(r#"{"statusCode":200,"headers":{"content-length":"9999","transfer-encoding":"chunked",
            "Connection":"close","x":"y"}}"#)
        .unwrap();
    let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x"]);
}

#[test]
fn what_is_wrong_is_named() {
    let many: Vec<_> = (0..300).map(|i| format!("\"h{i}\":\"v\"")).collect();
    let many = format!(r#"{{"statusCode":200,"headers":{{{}}}}}"#, many.join(","));
    let long = format!(r#"{{"statusCode":200,"headers":{{"h":"{}"}}}}"#, "x".repeat(70_000));
    for (reply, named) in [
        (r#"{"statusCode":99}"#, "statusCode \"99\""),
        (r#"{"statusCode":101}"#, "expected 200 to 599"),
        (r#"{"statusCode":600}"#, "statusCode"),
        (r#"{"statusCode":200.5}"#, "statusCode"),
        (r#"{"statusCode":-200}"#, "statusCode"),
        (r#"{"statusCode":"ok"}"#, "statusCode"),
        (r#"{"statusCode":[200]}"#, "statusCode"),
        (r#"{"statusCode":200,"headers":[]}"#, "headers"),
        (r#"{"statusCode":200,"headers":{"x":{}}}"#, "'x'"),
        (r#"{"statusCode":200,"headers":{"x":"a\nb"}}"#, "value of 'x'"),
        (r#"{"statusCode":200,"headers":{"a b":"c"}}"#, "\"a b\" is not a header's name"),
        (r#"{"statusCode":200,"multiValueHeaders":{"x":"y"}}"#, "multiValueHeaders"),
        (r#"{"statusCode":200,"cookies":"a=b"}"#, "cookies"),
        (r#"{"statusCode":200,"cookies":["a\r\nb"]}"#, "cookies"),
        (r#"{"statusCode":200,"body":{"a":1}}"#, "body"),
        (r#"{"statusCode":200,"body":"%","isBase64Encoded":true}"#, "isBase64Encoded"),
        (r#"{"statusCode":200,"body":"","isBase64Encoded":"yes"}"#, "isBase64Encoded"),
        (&many, "headers"),
        (&long, "too large"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("hello", "not JSON"),
        ("1 2", "not JSON"),
    ] {
        let wrong = run(reply).unwrap_err();
        assert!(wrong.contains(named), "{reply}: {wrong}");
        assert!(wrong.len() < 1_000, "{wrong}");
    }
}

#[test]
fn values_without_end_are_refused_as_they_are_read() {
    // Three bytes of reply each; held in memory they would be dozens.
    let many = "\"\",".repeat(1_000_000);
    let unended = format!("{many}!");
    for (field, named) in [
        (format!(r#""cookies":[{unended}"#), "cookies: more than 200 lines"),
        (format!(r#""multiValueHeaders":{{"x":[{unended}"#), "'x': more than 200 lines"),
    ] {
        // Refused for the number, long before the end that is no JSON.
        let reply = format!(r#"{{"statusCode":200,{field}"#);
        let wrong = serde_json::from_slice::<Reply<'_>>(reply.as_bytes()).err().unwrap();
        assert!(wrong.to_string().contains(named), "{wrong}");
    }
    let most = format!(r#"{{"statusCode":200,"cookies":[{}"x=1"]}}"#, "\"\",".repeat(199));
    assert_eq!(run(&most).unwrap().headers().len(), 200);
}

#[test]
fn an_explanation_does_not_repeat_the_reply_whole() {
    for reply in [
        format!(r#"{{"statusCode":"{}"}}"#, "9".repeat(100_000)),
        format!(r#"{{"statusCode":200,"headers":{{"{} ":1}}}}"#, "é".repeat(100_000)),
        format!(r#"{{"statusCode":200,"cookies":["{}\n"]}}"#, "x".repeat(100_000)),
    ] {
        let wrong = run(&reply).unwrap_err();
        assert_eq!(wrong.chars().count(), EXPLANATION_CHARS + 1, "{wrong}");
        assert!(wrong.ends_with('…'), "{wrong}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(response(&bytes.into()));
    }

    #[test]
    fn arbitrary_fields_are_answered(
        status in "[0-9]{1,4}|\"[0-9a-z]{0,3}\"|null|true|\\{\\}",
        name in "\\PC{0,12}",
        value in "\\PC{0,12}",
        body in "\\PC{0,40}",
        base64 in any::<bool>(),
    ) {
        let text = |s: &str| serde_json::to_string(s).unwrap();
        let reply = format!(
            r#"{{"statusCode":{status},"headers":{{{}:{}}},"cookies":[{}],"body":{},"isBase64Encoded":{base64}}}"#,
            text(&name), text(&value), text(&value), text(&body),
        );
        if let Ok(response) = response(&reply.into()) {
            prop_assert!(response.status().as_u16() >= 200);
        }
    }
}

#[test]
fn what_stands_before_pieces_is_read_as_a_reply_is() {
    let plain = prelude(b"{}", false).unwrap();
    assert_eq!(plain.status(), StatusCode::OK);
    assert_eq!(plain.headers()[header::CONTENT_TYPE], "application/octet-stream");
    let json = br#"{"statusCode":"418","headers":{"X-A":1,"content-type":"text/plain","connection":"x"},"cookies":["a=1","b=2"]}"#;
    let full = prelude(json, false).unwrap();
    assert_eq!(full.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(full.headers()["x-a"], "1");
    assert_eq!(full.headers()[header::CONTENT_TYPE], "text/plain");
    assert_eq!(full.headers().get_all(header::SET_COOKIE).iter().count(), 2);
    assert!(!full.headers().contains_key(header::CONNECTION));
    assert!(prelude(br#"{"statusCode":204}"#, false).unwrap().headers().is_empty());
    for (bad, word) in [
        (&b"[]"[..], "object"),
        (b"", "object"),
        (b"{", "EOF"),
        (br#"{"statusCode":99}"#, "statusCode"),
        (br#"{"headers":{"a b":"c"}}"#, "header"),
    ] {
        assert!(prelude(bad, false).unwrap_err().contains(word), "{:?}", prelude(bad, false));
    }
    let switches = br#"{"statusCode":101,"headers":{"sec-websocket-accept":"a"}}"#;
    assert!(prelude(switches, false).unwrap_err().contains("expected 200 to 599"));
    assert!(run(std::str::from_utf8(switches).unwrap()).unwrap_err().contains("200 to 599"));
    let switched = prelude(switches, true).unwrap();
    assert_eq!((switched.status(), switched.headers().len()), (StatusCode::SWITCHING_PROTOCOLS, 1));
    assert_eq!(prelude(br#"{"statusCode":426}"#, true).unwrap().status(), 426);
    assert!(prelude(br#"{"statusCode":100}"#, true).is_err());
}
