//! Logs: searched and followed.

use std::time::Duration;

use model::clock::{Clock as _, SystemClock, UnixMillis};
use model::ids::{FunctionKey, Qualifier, RequestId};
use model::ports::{LogLine, LogQuery, LogStream, Logs as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::World;

const LOGS: &str = "/v1/namespaces/default/functions/f/logs";

fn line(time: UnixMillis, text: &str) -> LogLine {
    LogLine {
        time,
        function: FunctionKey { namespace: "default".parse().unwrap(), name: "f".parse().unwrap() },
        version: Qualifier::Version(1),
        request: Some(RequestId::from_bytes([1; 16])),
        stream: LogStream::Stdout,
        text: text.into(),
    }
}

#[tokio::test]
async fn lines_are_searched() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    let lines = ["one", "Two", "three"].into_iter().enumerate();
    world.logs.append(lines.map(|(i, text)| line(UnixMillis(1000 + i as u64), text)).collect());
    for (query, expected) in [
        ("", vec!["one", "Two", "three"]),
        ("?limit=2", vec!["Two", "three"]),
        ("?contains=tw", vec!["Two"]),
        ("?since=1001&until=1970-01-01T00:00:01.002Z", vec!["Two"]),
        ("?request=01010101-0101-0101-0101-010101010101&limit=1", vec!["three"]),
        ("?request=01010101-0101-0101-0101-010101010102", vec![]),
    ] {
        let page = world.ask("GET", &format!("{LOGS}{query}")).send().await.json();
        let items = page["items"].as_array().unwrap();
        let texts: Vec<_> = items.iter().map(|l| l["text"].as_str().unwrap()).collect();
        assert_eq!(texts, expected, "{query}");
    }
    let first = &world.ask("GET", LOGS).send().await.json()["items"][0];
    assert_eq!(
        (&first["time"], &first["version"]),
        (&"1970-01-01T00:00:01.000Z".into(), &"1".into())
    );
    for bad in
        ["limit=0", "limit=10001", "since=then", "request=x", "follow=maybe", "until=1&follow=true"]
    {
        let refused = world.ask("GET", &format!("{LOGS}?{bad}")).send().await;
        refused.refused(400, "invalid-parameter");
    }
    let missing = world.ask("GET", &LOGS.replace("/f/", "/g/")).send().await;
    missing.refused(404, "not-found");
}

#[tokio::test]
async fn a_deleted_functions_lines_are_gone() {
    let world = World::start().await;
    world.function("f", "echo.event", "").await;
    world.logs.append(vec![line(UnixMillis(1), "old")]);
    world.ask("DELETE", "/v1/namespaces/default/functions/f").send().await;
    world.function("f", "echo.event", "").await;
    assert_eq!(world.ask("GET", LOGS).send().await.json()["items"], serde_json::json!([]));
}

#[tokio::test]
async fn a_deletion_goes_on_when_its_client_goes_away() {
    let world = World::dev().await;
    world.function("f", "echo.event", "").await;
    world.logs.append(vec![line(UnixMillis(1), "old")]);
    world.logs.delete_ms.store(200, std::sync::atomic::Ordering::SeqCst);
    let mut stream = world.connect().await;
    let request = b"DELETE /v1/namespaces/default/functions/f HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let query = LogQuery::newest(line(UnixMillis(1), "").function, 9);
    assert_eq!(world.logs.query(query).await.unwrap(), []);
}

/// Reads until `text` has come, and answers with everything so far.
async fn until(stream: &mut TcpStream, seen: &mut String, text: &str) {
    let read = async {
        while !seen.contains(text) {
            let mut bytes = Vec::new();
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "ended: {seen}");
            seen.push_str(&String::from_utf8(bytes).unwrap());
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(5), read).await;
    assert!(waited.is_ok(), "no {text:?} came");
}

#[tokio::test]
async fn a_tail_shows_the_past_then_what_comes() {
    let world = World::dev().await;
    world.function("f", "echo.event", "").await;
    let now = SystemClock.now();
    world.logs.append(vec![line(now, "past 1"), line(now, "past 2"), line(now, "past 3")]);
    let mut stream = world.connect().await;
    let request = format!(
        "GET {LOGS}?limit=2 HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    until(&mut stream, &mut seen, "past 3").await;
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
    assert!(!seen.contains("past 1"), "{seen}");

    world.logs.append(vec![line(now, "live 1")]);
    until(&mut stream, &mut seen, "live 1").await;
    // More at once than the reader's buffer holds: what is skipped is said.
    world.logs.append((0..9).map(|i| line(now, &format!("flood {i}"))).collect());
    until(&mut stream, &mut seen, "flood 8").await;
    assert!(seen.contains("event: dropped\ndata: 5\n\n"), "{seen}");
    assert_eq!(seen.matches("past 3").count(), 1, "{seen}");

    // An endless answer does not hold up the end of the server.
    world.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), world.serving).await;
    ended.expect("still serving").unwrap();
}
