//! What reaches the server, and what comes back.

use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::invocation::FailureKind;
use model::network::NetworkPolicy;
use model::ports::{Instance, Patience, Turn};
use model::stream::{Part, Taker};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{AMPLE, call, echoed, fails, get, image, reply, request, start};
use crate::support::{World, invocation};

pub(super) async fn a_request_arrives_as_it_was_sent(world: &World) {
    let mut instance = start(world).await;
    let body: Vec<u8> = (0..=255).collect();
    let headers = json!({
        "host": "example.org:8443", "x-one": "a,b", "user-agent": "test/1", "content-length": "9",
        "connection": "x-own", "te": "trailers", "upgrade": "h2c", "x-umlaut": "grün",
        "x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "https", "expect": "100-continue",
    });
    let more = json!({
        "rawQueryString": "q=1&q=%2F+",
        "cookies": ["a=1", "b=2"],
        "body": STANDARD.encode(&body),
        "isBase64Encoded": true,
    });
    let event = request("PUT", "/a%20b//c;d=1", headers, more);
    let came = echoed(&mut *instance, &event).await;
    assert_eq!(came["method"], "PUT");
    assert_eq!(came["target"], "/a%20b//c;d=1?q=1&q=%2F+");
    assert_eq!(came["host"], "example.org:8443");
    assert_eq!(STANDARD.decode(came["body"].as_str().unwrap()).unwrap(), body);
    assert_eq!(came["length"], 256);
    let headers = &came["headers"];
    for (name, value) in [
        ("X-One", "a,b"),
        ("User-Agent", "test/1"),
        ("Cookie", "a=1; b=2"),
        ("X-Umlaut", "grün"),
        ("X-Forwarded-For", "198.51.100.1, 192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "example.org:8443"),
    ] {
        assert_eq!(headers[name], json!([value]), "{name}: {headers}");
    }
    for name in ["Te", "Upgrade", "Expect", "Connection"] {
        assert!(headers.get(name).is_none(), "{name}: {headers}");
    }
    for method in ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let came = echoed(&mut *instance, &request(method, "/", json!({}), json!({}))).await;
        assert_eq!((&came["method"], &came["length"]), (&json!(method), &json!(0)));
        assert_eq!(came["host"], "localhost:8080");
    }
}

pub(super) async fn nobody_else_says_who_asks(world: &World) {
    let mut instance = start(world).await;
    let lies = json!({
        "x-hanshu-request-id": "mine", "x-hanshu-deadline-ms": "1", "x-amzn-trace-id": "mine",
    });
    let event = request("GET", "/", lies, json!({}));
    let mut call = invocation(event.to_string(), AMPLE);
    call.context.trace = Some("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2".into());
    let outcome = crate::support::run(&mut *instance, &call).await;
    let reply: Value = serde_json::from_slice(&outcome.result.unwrap()).unwrap();
    let came: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
    let headers = &came["headers"];
    assert_eq!(headers["X-Hanshu-Request-Id"], json!([call.id.to_string()]));
    assert_eq!(headers["X-Amzn-Trace-Id"], json!(["Root=1-5f35ae12-0c0fec141ab77a00bc047aa2"]));
    let deadline: u128 = headers["X-Hanshu-Deadline-Ms"][0].as_str().unwrap().parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!(deadline > now && deadline <= now + AMPLE.as_millis(), "{deadline} at {now}");
}

pub(super) async fn an_answer_comes_back_as_it_was(world: &World) {
    let raw = r#"head
send "HTTP/1.1 418 I'm a teapot\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\nSet-Cookie: a=1; HttpOnly\r\nSet-Cookie: b=2\r\nConnection: x-own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 4\r\n\r\n\xff\x00te""#;
    let image = image(world, &[("raw", raw.as_bytes())], |_| {}).await;
    let mut instance = image.start().await.unwrap();
    let reply = reply(&mut *instance, &get("/")).await;
    assert_eq!(
        reply,
        json!({
            "statusCode": 418,
            "headers": {"x-a": "1", "x-b": "2,3"},
            "cookies": ["a=1; HttpOnly", "b=2"],
            "body": STANDARD.encode(b"\xff\0te"),
            "isBase64Encoded": true,
        })
    );
}

pub(super) async fn an_event_that_cannot_be_sent_is_refused(world: &World) {
    let mut instance = start(world).await;
    for (event, word) in [
        (request("GET", "no-path", json!({}), json!({})), "rawPath"),
        (request("G T", "/", json!({}), json!({})), "method"),
        (request("CONNECT", "/", json!({}), json!({})), "method"),
        (request("GET", "/", json!({"a b": "c"}), json!({})), "header"),
        (request("GET", "/", json!({"a": "b\r\nc: d"}), json!({})), "header"),
        (request("GET", "/", json!({}), json!({"body": "%", "isBase64Encoded": true})), "base64"),
    ] {
        fails(call(&mut *instance, &event).await, FailureKind::Handler, word);
    }
    echoed(&mut *instance, &get("/")).await;
}

pub(super) async fn a_server_that_goes_on_hears_that_its_client_is_gone(world: &World) {
    let raw = r#"head
send "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
hang"#;
    let image = image(world, &[("raw", raw.as_bytes())], |_| {}).await;
    let mut instance = image.start().await.unwrap();
    assert!(instance.hand(&invocation(get("/").to_string(), AMPLE)));
    let returned = &mut |_: &[_]| {};
    let Turn::Streams { prelude, .. } = instance.outcome(Patience { limit: AMPLE, returned }).await
    else {
        panic!("it does not stream");
    };
    let prelude: Value = serde_json::from_slice(&prelude).unwrap();
    let said = json!({"statusCode": 200, "headers": {"content-type": "text/event-stream"}});
    assert_eq!(prelude, said);
    let (pieces, mut parts) = mpsc::channel(4);
    let taker = Taker::Caller { pieces: &pieces, keep_bytes: 0 };
    let (end, first) = tokio::join!(instance.stream(taker), async {
        let first = parts.recv().await;
        drop(parts);
        first
    });
    assert_eq!(first, Some(Part::Piece("hello".into())));
    assert!(end.outcome.result.is_ok() && end.bytes == 5, "{end:?}");
    assert!(instance.alive());
    let end = std::time::Instant::now() + AMPLE;
    while world.logs.find("hung up").is_none() {
        assert!(std::time::Instant::now() < end, "the connection goes on");
        // What it prints is taken while it has a call.
        reply_or_not(&mut *instance).await;
    }
}

/// A call whose answer nobody waits for.
async fn reply_or_not(instance: &mut dyn Instance) {
    assert!(instance.hand(&invocation(get("/").to_string(), AMPLE)));
    let returned = &mut |_: &[_]| {};
    drop(instance.outcome(Patience { limit: AMPLE, returned }).await);
    let (pieces, parts) = mpsc::channel(4);
    drop(parts);
    instance.stream(Taker::Caller { pieces: &pieces, keep_bytes: 0 }).await;
}

pub(super) async fn connections_are_used_again_and_again(world: &World) {
    // By a server that keeps them, and by one that ends each; there are three sockets.
    let raw = b"head\nsend \"HTTP/1.0 200 OK\\r\\n\\r\\nbye\"\nclose";
    for files in [&[][..], &[("raw", &raw[..])]] {
        let image = image(world, files, |config| config.instance_concurrency = Some(1)).await;
        let mut instance = image.start().await.unwrap();
        for _ in 0..100 {
            assert_eq!(reply(&mut *instance, &get("/")).await["statusCode"], 200);
        }
        instance.stop().await;
    }
}

pub(super) async fn a_connection_that_ended_meanwhile_loses_no_request(world: &World) {
    // It promises to keep the connection, and ends it a moment later.
    let raw =
        b"head\nsend \"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok\"\nsleep 1\nclose";
    let image = image(world, &[("raw", &raw[..])], |_| {}).await;
    let mut instance = image.start().await.unwrap();
    for n in 0..200 {
        tokio::time::sleep(std::time::Duration::from_micros(n * 20)).await;
        assert_eq!(reply(&mut *instance, &get("/")).await["body"], "ok");
    }
}

pub(super) async fn the_server_is_in_the_functions_network_alone(world: &World) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = free.port().to_string();
    let set = |port: String| {
        move |config: &mut model::function::FunctionConfig| {
            config.environment.insert("PORT".into(), port.as_str().into());
        }
    };
    let mut one = image(world, &[], set(port.clone())).await.start().await.unwrap();
    let mut other = image(world, &[], set(port)).await.start().await.unwrap();
    for instance in [&mut one, &mut other] {
        echoed(&mut **instance, &get("/")).await;
    }
    TcpStream::connect(free).expect_err("nobody listens there on the host");
}

pub(super) async fn a_function_with_a_network_has_it_as_well(world: &World) {
    let egress = |config: &mut model::function::FunctionConfig| {
        config.network = serde_json::from_value::<NetworkPolicy>(json!("egress")).unwrap();
    };
    let mut instance = image(world, &[], egress).await.start().await.unwrap();
    echoed(&mut *instance, &get("/")).await;
    instance.stop().await;
}

pub(super) async fn nothing_is_inherited(world: &World) {
    let mut instance = start(world).await;
    let given = call(&mut *instance, &json!({"op": "inherited"})).await.result.unwrap();
    assert_eq!(given, "[]");
}
