//! One call of a `wasi:http` component: the event as a request, the response as the answer.
//!
//! The guest and whoever takes its response go on beside each other, in one task: a body has room for a piece, then the guest waits. The call is over when the guest
//! has returned and its body has been taken.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use model::invocation::{Failure, FailureKind};
use model::limits;
use model::stream::PIECE_BYTES;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::alive::Alive;
use super::call::{Call, Ended, Stream};
use super::failure::{self, End};
use super::guests::Guests;
use super::host::Host;
use crate::http_event::{self, Asking, Form};

/// A body that is longer than a piece, or not over in so long, goes out in pieces.
const GATHER: Duration = Duration::from_millis(10);

/// How long a response may still be taken when its instance, which is to serve more calls, has returned. Then it is closed, as one that serves one call is at once, and serves
/// no more.
const TAKEN: Duration = Duration::from_millis(100);

/// A component that sets this field, to whatever, answers in pieces at once, and also to events that are no requests. Nobody sees the field.
const STREAM: &str = "x-hanshu-stream";

/// What comes of a response: it, or how the guest says that there is none.
type Told = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// Runs it.
pub(super) async fn run(
    program: &ProxyPre<Host>,
    call: &mut Call,
    (alive, guests): (Option<Box<Alive>>, &Guests),
    stream: Stream,
) -> Ended {
    let mut alive = match alive {
        Some(mut alive) => {
            alive.again();
            alive
        }
        None => match Alive::fresh(program, call).await {
            Ok(alive) => Box::new(alive),
            Err(e) => return Ended::of(Err(failure::no_files(&e)), 0),
        },
    };
    let answered = converse(program, &mut alive, call, stream).await;
    let bounds = &alive.store.data().bounds;
    let (denied, memory_bytes) = (bounds.denied(), bounds.used_bytes());
    let (result, goes_on) = match answered {
        Ok((answer, goes_on)) => (answer, goes_on),
        Err(error) => {
            let said = alive.errors.last_line();
            (Err(End::of(&error).failure(&said, denied, call.given.memory_mb)), false)
        }
    };
    let own = result.as_ref().err().is_none_or(|failure| failure.kind == FailureKind::Handler);
    let alive = if goes_on && own { alive.keep(call, guests) } else { None };
    Ended { result, memory_bytes, alive }
}

fn asking(call: &Call) -> Asking<'_> {
    Asking { id: call.id, trace: call.context.trace.as_deref(), host: "localhost", path: "/" }
}

/// What the guest answered, and whether it can go on with another call.
type Answered = (Result<Bytes, Failure>, bool);

/// An error is what ended the guest.
async fn converse(
    program: &ProxyPre<Host>,
    alive: &mut Alive,
    call: &Call,
    stream: Stream,
) -> wasmtime::Result<Answered> {
    let (request, form) = match http_event::request(&call.payload, &asking(call)) {
        Ok(request) => request,
        Err(failure) => return Ok((Err(failure), true)),
    };
    let request = request.map(Full::new);
    let (proxy, store) = alive.parts(program).await?;
    let (tell, told) = oneshot::channel();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let response = http.new_response_outparam(tell)?;
    let (serves_more, over) = (call.given.calls > 1, Notify::new());
    let guest = async {
        let handler = proxy.wasi_http_incoming_handler();
        let left = handler.call_handle(&mut *store, request, response).await;
        if serves_more && left.is_ok() && timeout(TAKEN, over.notified()).await.is_ok() {
            return Ok(true);
        }
        // A response that it has not set: nobody shall wait for it. A body that it holds still ends here.
        store.data_mut().close();
        left.map(|()| false)
    };
    let taken = async {
        let answer = take(told, form, stream).await;
        over.notify_one();
        answer
    };
    let (mut guest, mut taken) = (pin!(guest), pin!(taken));
    let mut left = None;
    let answer = loop {
        tokio::select! {
            biased;
            ended = &mut guest, if left.is_none() => left = Some(ended),
            // What it had written before it ended is taken first.
            answer = &mut taken => break answer,
        }
    };
    match (left, answer) {
        (Some(left), answer) => Ok((answer, left?)),
        // It has begun to answer, and what it says is not to be waited for.
        (None, Err(failure)) => Ok((Err(failure), false)),
        (None, answer) => Ok((answer, guest.await?)),
    }
}

/// Takes the response: as one answer; or in pieces where it asks for that, or is long or comes slowly and whoever asked did so by HTTP.
async fn take(told: oneshot::Receiver<Told>, form: Form, stream: Stream) -> Result<Bytes, Failure> {
    let response = match told.await {
        Ok(Ok(response)) => response,
        Ok(Err(code)) => return Err(own_error(&code)),
        Err(_) => return Err(failure::protocol("the component returned without a response")),
    };
    let (mut head, mut body) = response.into_parts();
    let asks = head.headers.remove(STREAM).is_some();
    let mut gathered = BytesMut::new();
    if form == Form::Plain && !asks {
        if !gather(&mut body, &mut gathered, limits::RESPONSE_BYTES).await? {
            return Err(failure::too_large(gathered.len()));
        }
        return http_event::whole(&head, gathered.freeze(), form);
    }
    if !asks && gather_soon(&mut body, &mut gathered).await? {
        return http_event::whole(&head, gathered.freeze(), form);
    }
    // Whoever asked may have gone: the function goes on all the same.
    let Stream { prelude, pieces } = stream;
    drop(prelude.send(http_event::prelude(&head)?));
    hand_on(&mut gathered, &pieces).await;
    let mut more = true;
    while more {
        more = next(&mut body, &mut gathered).await?;
        hand_on(&mut gathered, &pieces).await;
    }
    Ok(Bytes::new())
}

/// Takes what is written next, and whatever follows at once up to a piece; whether more may come.
async fn next(body: &mut HyperOutgoingBody, gathered: &mut BytesMut) -> Result<bool, Failure> {
    let mut frame = body.frame().await;
    loop {
        let Some(bytes) = frame else { return Ok(false) };
        if let Ok(bytes) = bytes.map_err(|e| unfinished(&e))?.into_data() {
            gathered.extend_from_slice(&bytes);
        }
        if gathered.len() >= PIECE_BYTES {
            return Ok(true);
        }
        frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            // The guest, which waited for room, has had its turn.
            () = tokio::task::yield_now() => return Ok(true),
        };
    }
}

/// Takes a body's bytes until there are more than `most`; whether that was all of it. Cancel-safe: what was taken is in `gathered`.
async fn gather(
    body: &mut HyperOutgoingBody,
    gathered: &mut BytesMut,
    most: usize,
) -> Result<bool, Failure> {
    while gathered.len() <= most {
        let Some(frame) = body.frame().await else { return Ok(true) };
        // Trailers have no place in an answer.
        if let Ok(bytes) = frame.map_err(|e| unfinished(&e))?.into_data() {
            gathered.extend_from_slice(&bytes);
        }
    }
    Ok(false)
}

/// Whether that was all of it, and came at once.
async fn gather_soon(
    body: &mut HyperOutgoingBody,
    gathered: &mut BytesMut,
) -> Result<bool, Failure> {
    let soon = gather(body, gathered, PIECE_BYTES);
    timeout(GATHER, soon).await.unwrap_or(Ok(false))
}

async fn hand_on(bytes: &mut BytesMut, pieces: &mpsc::Sender<Bytes>) {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES)).freeze();
        // As above.
        drop(pieces.send(piece).await);
    }
}

fn unfinished(error: &wasmtime_wasi_http::Error) -> Failure {
    failure::protocol(&format!("the component did not finish its response: {error}"))
}

/// The component set an error in place of a response.
fn own_error(code: &ErrorCode) -> Failure {
    Failure::new(FailureKind::Handler, "Function.HttpError", &format!("{code:?}"))
}
