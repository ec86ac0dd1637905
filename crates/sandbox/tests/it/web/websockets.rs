//! Connections that become WebSockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::invocation::{FailureKind, Invocation};
use model::ports::{Instance, Patience, Turn};
use model::stream::{BodyCut, BodySource, BodyStream, Part, StreamEnd, Taker};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::uploads::{Endless, Piece, fed};
use super::{AMPLE, SHORT, fails, get, image, reply, request, start};
use crate::support::{World, invocation, run};

fn asking(path: &str, within: Duration, source: impl BodySource + 'static) -> Invocation {
    let headers = json!({"host": "x", "sec-websocket-key": "a key", "sec-websocket-version": "13"});
    let event = request("GET", path, headers, json!({}));
    let mut call = invocation(event.to_string(), within);
    call.context.body = Some(BodyStream::behind_upgrade(Box::new(source)));
    call
}

/// What the server says to a call that it takes for a WebSocket.
async fn opened(instance: &mut dyn Instance, call: &Invocation) -> Value {
    assert!(instance.hand(call));
    let returned = &mut |_: &[_]| {};
    let Turn::Streams { prelude, .. } = instance.outcome(Patience { limit: AMPLE, returned }).await
    else {
        panic!("it is no WebSocket");
    };
    serde_json::from_slice(&prelude).unwrap()
}

/// A client: what it sends, and what comes to it.
struct Client {
    out: mpsc::Sender<Piece>,
    parts: mpsc::Receiver<Part>,
}

impl Client {
    async fn say(&self, text: impl Into<Bytes>) {
        self.out.send(Ok(text.into())).await.unwrap();
    }

    /// So many bytes.
    async fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < count {
            match self.parts.recv().await {
                Some(Part::Piece(piece)) => heard.extend_from_slice(&piece),
                end => panic!("it ended after {} of {count} bytes: {end:?}", heard.len()),
            }
        }
        heard
    }

    /// Whether the server has said its last.
    async fn is_over(&mut self) -> bool {
        self.parts.recv().await.is_none()
    }
}

/// Opens one at `/socket`, and has `client` do its part.
async fn with_client<T, F>(
    instance: &mut dyn Instance,
    within: Duration,
    client: impl FnOnce(Client) -> F,
) -> (StreamEnd, T)
where
    F: Future<Output = T>,
{
    let (out, source) = fed();
    let said = opened(instance, &asking("/socket", within, source)).await;
    assert_eq!(said, json!({"statusCode": 101, "headers": {"sec-websocket-accept": "a key"}}));
    let (pieces, parts) = mpsc::channel(4);
    let client = client(Client { out, parts });
    let stream = async {
        let pieces = pieces;
        instance.stream(Taker::Caller { pieces: &pieces, keep_bytes: 0 }).await
    };
    tokio::join!(stream, client)
}

pub(super) async fn bytes_pass_both_ways(world: &World) {
    const LARGE: usize = 8 << 20;
    const COUNT: usize = 1_000;
    let mut instance = start(world).await;
    let talk = |mut client: Client| async move {
        for n in 0..COUNT {
            let message = format!("message {n}");
            client.say(message.clone()).await;
            assert_eq!(client.hear(message.len()).await, message.as_bytes());
        }
        // Neither side has room for all of it.
        let large: Vec<u8> = (0..LARGE).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (out, copy) = (client.out.clone(), Bytes::from(large.clone()));
        let send = async move {
            for piece in copy.chunks(60_000) {
                out.send(Ok(copy.slice_ref(piece))).await.unwrap();
            }
        };
        let ((), heard) = tokio::join!(send, client.hear(LARGE));
        assert!(heard == large, "it is not what was sent");
        // Its end is the server's, which says goodbye.
        let Client { out, mut parts } = client;
        drop(out);
        assert_eq!(parts.recv().await, None);
    };
    let (end, ()) = with_client(&mut *instance, AMPLE, talk).await;
    assert!(end.outcome.result.is_ok(), "{end:?}");
    let words: usize = (0..COUNT).map(|n| format!("message {n}").len()).sum();
    assert_eq!(end.bytes, (words + LARGE) as u64);
    assert_eq!(reply(&mut *instance, &get("/")).await["statusCode"], 200);
}

pub(super) async fn a_server_may_refuse(world: &World) {
    let mut instance = start(world).await;
    for _ in 0..3 {
        let (_out, source) = fed();
        let outcome = run(&mut *instance, &asking("/", AMPLE, source)).await;
        let reply: Value = serde_json::from_slice(&outcome.result.unwrap()).unwrap();
        assert_eq!(reply["statusCode"], 200);
        let came: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
        let headers = &came["headers"];
        assert_eq!(
            (&headers["Connection"], &headers["Upgrade"], &headers["Sec-Websocket-Key"]),
            (&json!(["Upgrade"]), &json!(["websocket"]), &json!(["a key"]))
        );
    }
    // Nobody else is asked, whatever the event says.
    let event =
        request("GET", "/", json!({"connection": "upgrade", "upgrade": "websocket"}), json!({}));
    let came = super::echoed(&mut *instance, &event).await;
    assert!(came["headers"].get("Upgrade").is_none(), "{came}");
    // What the server agrees to has to be what it was asked for.
    for head in ["Upgrade: h2c\\r\\n", ""] {
        let raw = format!(
            "head\nsend \"HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\n{head}\\r\\n\"\nhang"
        );
        let image = image(world, &[("raw", raw.as_bytes())], |_| {}).await;
        let mut instance = image.start().await.unwrap();
        let (_out, source) = fed();
        let outcome = run(&mut *instance, &asking("/", AMPLE, source)).await;
        fails(outcome, FailureKind::Protocol, "switches protocols");
        assert!(instance.alive());
    }
}

pub(super) async fn whoever_ends_it_ends_it_for_both(world: &World) {
    let mut instance = start(world).await;
    let ends = [
        // The server closes.
        ("close", AMPLE),
        // The client is gone: what it sends, or what it takes.
        ("cut", AMPLE),
        ("leave", AMPLE),
        // Nobody does, until its time is over.
        ("stay", SHORT),
    ];
    for (how, within) in ends {
        let act = |mut client: Client| async move {
            client.say("hello").await;
            assert_eq!(client.hear(5).await, b"hello");
            match how {
                "close" => client.say("close").await,
                "cut" => client.out.send(Err(BodyCut)).await.unwrap(),
                "leave" => return,
                _ => {}
            }
            assert!(client.is_over().await, "{how}");
            // What it sends is heard to the last.
            drop(client.out);
        };
        let (end, ()) = with_client(&mut *instance, within, act).await;
        assert!(end.outcome.result.is_ok() && end.bytes == 5, "{how}: {end:?}");
        assert!(instance.alive(), "{how}");
        assert_eq!(reply(&mut *instance, &get("/")).await["statusCode"], 200, "{how}");
    }
    let text = "the WebSocket was closed after 0.70 seconds, the function's timeout";
    assert!(world.logs.find(text).is_some(), "the log says so");

    let exit = |mut client: Client| async move {
        client.say("exit").await;
        assert!(client.is_over().await);
    };
    let (end, ()) = with_client(&mut *instance, AMPLE, exit).await;
    fails(end.outcome, FailureKind::Exited, "7");
    assert!(!instance.alive());
}

pub(super) async fn a_server_may_say_what_it_wants_and_no_more_is_read_than_is_taken(
    world: &World,
) {
    const AGREED: &str = "head\nsend \"HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: WebSocket\\r\\n\\r\\n";
    for (what, steps, heard) in [
        ("with its head", "first\"\nclose", "first"),
        ("another head", "HTTP/1.1 200 OK\\r\\n\\r\\n\"\nclose", "HTTP/1.1 200 OK\r\n\r\n"),
        ("an end at once", "\"\nclose", ""),
        ("a reset", "\"\nreset", ""),
    ] {
        let raw = format!("{AGREED}{steps}");
        let image = image(world, &[("raw", raw.as_bytes())], |_| {}).await;
        let mut instance = image.start().await.unwrap();
        for _ in 0..3 {
            let (_out, source) = fed();
            opened(&mut *instance, &asking("/", AMPLE, source)).await;
            let end = instance.stream(Taker::Whole).await;
            assert_eq!(end.outcome.result.expect(what), heard, "{what}");
        }
        instance.stop().await;
    }
    // A flood that nobody takes, and one that nobody reads.
    let flood = format!("{AGREED}\"\nrepeat 100000000 \"{}\"", "x".repeat(1_000));
    let deaf = format!("{AGREED}\"\nsleep 60000");
    for (what, raw) in [("a flood", flood), ("no reader", deaf)] {
        let image = image(world, &[("raw", raw.as_bytes())], |_| {}).await;
        let mut instance = image.start().await.unwrap();
        let read = Arc::new(AtomicUsize::new(0));
        let call = asking("/", SHORT, Endless(Arc::clone(&read)));
        opened(&mut *instance, &call).await;
        let (pieces, parts) = mpsc::channel(4);
        let end = instance.stream(Taker::Caller { pieces: &pieces, keep_bytes: 0 }).await;
        drop(parts);
        assert!(end.outcome.result.is_ok() && end.bytes <= 5 << 16, "{what}: {end:?}");
        // As much as the kernel's sockets hold.
        assert!(read.load(Ordering::Relaxed) < 32 << 20, "{what}");
        assert!(instance.alive(), "{what}");
        instance.stop().await;
    }
}
