//! Routing at its edges, and the listener: limits, draining.

use std::time::{Duration, Instant};

use server::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Reply, World};

#[tokio::test]
async fn what_has_no_route_is_named() {
    let world = World::start().await;
    for path in ["/", "/v2/x", "/v1/namespaces/", "/fn"] {
        let message = world.ask("GET", path).send().await.refused(404, "no-route");
        assert!(message.contains(&format!("GET {path}")), "{message}");
    }
    for (method, path, allow) in [
        ("DELETE", "/v1/namespaces", "GET,HEAD,POST"),
        ("GET", "/v1/namespaces/default/functions/f/invoke", "POST"),
        ("POST", "/v1/health", "GET,HEAD"),
    ] {
        let reply = world.ask(method, path).send().await;
        let message = reply.refused(405, "no-route");
        assert!(message.contains(&format!("{method} {path}")), "{message}");
        assert_eq!(reply.header("allow"), allow);
    }
}

#[tokio::test]
async fn health_tells_what_runs_here() {
    let world = World::start().await;
    let reply = world.ask_without_key("GET", "/v1/health").send().await;
    let health = reply.json();
    assert_eq!((&health["status"], &health["dev"]), (&"ok".into(), &false.into()));
    assert_eq!(health["runtimes"][0]["name"], "nodejs20");
    assert_eq!(reply.header("x-hanshu-request-id").len(), 36);
    let runtimes = world.ask("GET", "/v1/runtimes").send().await.json();
    assert_eq!(runtimes["items"][0]["version"], "20.0.0");
    let head = world.ask_without_key("HEAD", "/v1/health").send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let world = World::start().await;
    let reply =
        world.ask_without_key("GET", "/v1/health").header("x", &"x".repeat(70_000)).send().await;
    assert_eq!(reply.status, 431);
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let world = World::dev().await;
    world.function("f", "fixed.reply", "1").await;
    let mut stream = world.connect().await;
    for path in ["/fn/default/f", "/v1/health", "/fn/default/none", "/fn/default/f"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The head tells how long the body is.
        loop {
            stream.read_buf(&mut answer).await.unwrap();
            if !answer.windows(4).any(|w| w == b"\r\n\r\n") {
                continue;
            }
            let reply = Reply::parse(&answer);
            if reply.body.len().to_string() == reply.header("content-length") {
                break;
            }
        }
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let config = ServerConfig { dev: true, connections_max: 1, ..ServerConfig::default() };
    let world = World::with(config).await;
    let first = world.connect().await;
    let waiting = world.ask_without_key("GET", "/v1/health").send();
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(200), waiting.as_mut()).await;
    assert!(early.is_err(), "served over the limit");
    drop(first);
    assert_eq!(waiting.await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let head_timeout = Duration::from_millis(200);
    let config = ServerConfig { dev: true, head_timeout, ..ServerConfig::default() };
    let world = World::with(config).await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET /v1/hea").await.unwrap();
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("still open").unwrap();
}

#[tokio::test]
async fn requests_in_flight_end_before_the_server_does() {
    let world = World::dev().await;
    world.function("f", "slow.reply", "1").await;
    let idle = world.connect().await;
    let call = world.ask_without_key("GET", "/fn/default/f").send();
    let shutdown = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.shutdown.cancel();
    };
    let (reply, ()) = tokio::join!(call, shutdown);
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"1".as_slice()));
    let start = Instant::now();
    world.serving.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "an idle connection held up the end");
    drop(idle);
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut_off() {
    let drain_grace = Duration::from_millis(50);
    let world = World::with(ServerConfig { dev: true, drain_grace, ..Default::default() }).await;
    world.function("f", "slow.reply", "1").await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET /fn/default/f HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.shutdown.cancel();
    world.serving.await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{:?}", String::from_utf8_lossy(&answer));
}
