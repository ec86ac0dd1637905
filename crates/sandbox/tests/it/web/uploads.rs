//! Bodies of requests that come in pieces: how they reach a server, and whose fault it is when they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use model::invocation::{FailureKind, Invocation};
use model::ports::{Instance, Patience, Turn};
use model::stream::{BodyCut, BodySource, BodyStream, Part, Taker};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{AMPLE, SHORT, fails, get, image, reply, request, start};
use crate::support::{World, invocation, run};

pub(super) type Piece = Result<Bytes, BodyCut>;

/// What a test sends.
pub(super) struct Fed(mpsc::Receiver<Piece>);

impl BodySource for Fed {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.poll_recv(cx)
    }
}

/// Has no end, and counts.
pub(super) struct Endless(pub(super) Arc<AtomicUsize>);

const ENDLESS_PIECE: &[u8] = &[b'a'; 64 * 1024];

impl BodySource for Endless {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.fetch_add(ENDLESS_PIECE.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Bytes::from_static(ENDLESS_PIECE))))
    }
}

fn call(path: &str, within: Duration, source: impl BodySource + 'static) -> Invocation {
    let event = request("POST", path, json!({"host": "x", "content-length": "7"}), json!({}));
    let mut call = invocation(event.to_string(), within);
    call.context.body = Some(BodyStream::new(None, Box::new(source)));
    call
}

pub(super) fn fed() -> (mpsc::Sender<Piece>, Fed) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Fed(receiver))
}

pub(super) async fn a_body_comes_in_while_its_answer_goes_out(world: &World) {
    let mut instance = start(world).await;
    let (body, source) = fed();
    assert!(instance.hand(&call("/mirror", AMPLE, source)));
    let returned = &mut |_: &[_]| {};
    let Turn::Streams { .. } = instance.outcome(Patience { limit: AMPLE, returned }).await else {
        panic!("it does not stream");
    };
    let (pieces, mut parts) = mpsc::channel(4);
    let taker = Taker::Caller { pieces: &pieces, keep_bytes: 0 };
    let (end, ()) = tokio::join!(instance.stream(taker), async {
        for word in ["one", "two"] {
            body.send(Ok(word.into())).await.unwrap();
            assert_eq!(parts.recv().await, Some(Part::Piece(word.into())));
        }
        drop(body);
    });
    assert!(end.outcome.result.is_ok() && end.bytes == 6, "{end:?}");
    // What is short comes whole as ever, on a connection that is used again.
    assert_eq!(reply(&mut *instance, &get("/")).await["statusCode"], 200);
}

async fn answered(instance: &mut dyn Instance, call: &Invocation) -> Value {
    serde_json::from_slice(&run(instance, call).await.result.unwrap()).unwrap()
}

pub(super) async fn a_client_that_does_not_send_is_no_fault_of_the_functions(world: &World) {
    let mut instance = start(world).await;
    let (body, source) = fed();
    body.send(Ok("one".into())).await.unwrap();
    let feed = async {
        body.send(Err(BodyCut)).await.unwrap();
        body
    };
    let cut = call("/", AMPLE, source);
    let (reply_to_cut, _body) = tokio::join!(answered(&mut *instance, &cut), feed);
    assert_eq!(reply_to_cut["statusCode"], 400);

    let (body, source) = fed();
    body.send(Ok("one".into())).await.unwrap();
    assert_eq!(answered(&mut *instance, &call("/", SHORT, source)).await["statusCode"], 408);
    drop(body);
    assert!(instance.alive());
    assert_eq!(reply(&mut *instance, &get("/")).await["statusCode"], 200);
}

pub(super) async fn a_server_that_does_not_read_is_not_read_for(world: &World) {
    let raw = "head\nsleep 60000";
    let image = image(world, &[("raw", raw.as_bytes())], |_| {}).await;
    let mut instance = image.start().await.unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let call = call("/", SHORT, Endless(Arc::clone(&read)));
    fails(run(&mut *instance, &call).await, FailureKind::Timeout, "timed out");
    // As much as the kernel's sockets hold.
    let read = read.load(Ordering::Relaxed);
    assert!((1..32 << 20).contains(&read), "{read} bytes");
}
