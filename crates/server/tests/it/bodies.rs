//! Bodies: too large, cut off, slow, chunked, announced.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::limits;
use server::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Reply, World};

const PATHS: [&str; 2] = ["/fn/default/f", "/v1/namespaces/default/functions/f/invoke"];

async fn world() -> World {
    let config =
        ServerConfig { dev: true, body_timeout: Duration::from_millis(400), ..Default::default() };
    let world = World::with(config).await;
    world.function("f", "fixed.reply", "1").await;
    world
}

#[tokio::test]
async fn an_announced_payload_over_the_limit_is_refused_before_it_is_sent() {
    let world = world().await;
    let over = (limits::SYNC_PAYLOAD_BYTES + 1).to_string();
    for path in PATHS {
        let message = world
            .ask_without_key("POST", path)
            .header("content-length", &over)
            .header("expect", "100-continue")
            .send()
            .await
            .refused(413, "payload-too-large");
        assert!(message.contains(&limits::SYNC_PAYLOAD_BYTES.to_string()), "{message}");
    }
    assert_eq!(world.sandbox.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_sends_it_anyway_sees_the_refusal() {
    let world = world().await;
    for path in PATHS {
        let body = vec![b'1'; limits::SYNC_PAYLOAD_BYTES + 1];
        let reply = world.ask_without_key("POST", path).body(body).send().await;
        reply.refused(413, "payload-too-large");
    }
    let async_call = world.ask_without_key("POST", PATHS[1]).header("x-hanshu-invocation", "async");
    let body = vec![b'1'; limits::ASYNC_PAYLOAD_BYTES + 1];
    async_call.body(body).send().await.refused(413, "payload-too-large");
}

#[tokio::test]
async fn a_chunked_payload_over_the_limit_is_refused_on_the_way() {
    let world = world().await;
    for path in PATHS {
        let mut stream = world.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        for _ in 0..=(limits::SYNC_PAYLOAD_BYTES / 0x10000) {
            stream.write_all(&chunk).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        Reply::read(&mut stream).await.refused(413, "payload-too-large");
    }
}

#[tokio::test]
async fn the_largest_payload_passes() {
    let world = world().await;
    let body = format!("\"{}\"", "x".repeat(limits::SYNC_PAYLOAD_BYTES - 2));
    let reply = world.ask_without_key("POST", PATHS[1]).body(body).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // As an event it has a frame around it, and is over the limit.
    let body = vec![b'x'; limits::SYNC_PAYLOAD_BYTES];
    let reply =
        world.ask_without_key("POST", PATHS[0]).header("content-type", "text/plain").body(body);
    reply.send().await.refused(413, "payload-too-large");
}

#[tokio::test]
async fn a_body_cut_off_half_way_invokes_nothing() {
    let world = world().await;
    for path in PATHS {
        for framing in
            ["content-length: 100\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n10\r\nabc"]
        {
            let mut stream = world.connect().await;
            let request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{framing}");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            if !answer.is_empty() {
                Reply::parse(&answer).refused(400, "invalid-body");
            }
        }
    }
    assert_eq!(world.sandbox.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_slow_body_times_out_without_an_instance() {
    let world = world().await;
    for path in PATHS {
        let start = Instant::now();
        let mut stream = world.connect().await;
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nab");
        stream.write_all(request.as_bytes()).await.unwrap();
        Reply::read(&mut stream).await.refused(408, "request-timeout");
        assert!(start.elapsed() >= Duration::from_millis(400));
    }
    assert_eq!(world.sandbox.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn chunked_bodies_and_100_continue_work() {
    let world = World::dev().await;
    world.function("f", "echo.event", "").await;
    let mut stream = world.connect().await;
    let head = "POST /v1/namespaces/default/functions/f/invoke HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.body, b"[1,2]");
}

#[tokio::test]
async fn control_bodies_have_their_own_limit() {
    let world = World::dev().await;
    let body = vec![b' '; limits::CONTROL_BODY_BYTES + 1];
    let reply = world.ask_without_key("POST", "/v1/namespaces").body(body).send().await;
    reply.refused(413, "payload-too-large");
}
