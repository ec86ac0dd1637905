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
use model::ports::LogStream;
use tokio::sync::{mpsc, oneshot};
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::call::{Call, Ended, Stream};
use super::failure::{self, End};
use super::host::{self, Host};
use super::printed::Printed;
use crate::http_event::{self, Asking, Form};

/// A body that is longer goes out in pieces, in bytes; so long is a piece at most.
const PIECE_BYTES: usize = 64 << 10;
/// A body that is not over in so long goes out in pieces.
const GATHER: Duration = Duration::from_millis(10);

/// A component that sets this field, to whatever, answers in pieces at once, and also to events that are no requests. Nobody sees the field.
const STREAM: &str = "x-hanshu-stream";

/// Why there is no answer.
enum Stop {
    /// The function's failure, as it stands.
    Failure(Failure),
    /// What ended the guest.
    Guest(wasmtime::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What comes of a response: it, or how the guest says that there is none.
type Told = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// Runs it.
pub(super) async fn run(program: &ProxyPre<Host>, call: &Call, stream: Stream) -> Ended {
    let errors = Printed::new(&call.output, LogStream::Stderr);
    let output = Printed::new(&call.output, LogStream::Stdout);
    let streams = (Bytes::new(), output, errors.clone());
    let trace = call.context.trace.as_deref();
    let mut wasi = host::wasi(&call.function, &call.environment, trace, streams);
    let mut store = host::store(program.engine(), Host::new(wasi.build(), call.memory_mb));
    let answered = converse(program, &mut store, call, stream).await;
    let bounds = &store.data().bounds;
    let (denied, memory_bytes) = (bounds.denied(), bounds.used_bytes());
    let result = answered.map_err(|stop| match stop {
        Stop::Failure(failure) => failure,
        Stop::Guest(error) => End::of(&error).failure(&errors.last_line(), denied, call.memory_mb),
    });
    Ended { result, memory_bytes }
}

fn asking(call: &Call) -> Asking<'_> {
    Asking { id: call.id, trace: call.context.trace.as_deref(), host: "localhost", path: "/" }
}

async fn converse(
    program: &ProxyPre<Host>,
    store: &mut Store<Host>,
    call: &Call,
    stream: Stream,
) -> Result<Bytes, Stop> {
    let (request, form) = http_event::request(&call.payload, &asking(call))?;
    let request = request.map(Full::new);
    let proxy = program.instantiate_async(&mut *store).await.map_err(Stop::Guest)?;
    let (tell, told) = oneshot::channel();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request).map_err(Stop::Guest)?;
    let response = http.new_response_outparam(tell).map_err(Stop::Guest)?;
    let guest = async {
        let handler = proxy.wasi_http_incoming_handler();
        let left = handler.call_handle(&mut *store, request, response).await;
        // A response that it has not set: nobody shall wait for it. A body that it holds still ends here.
        store.data_mut().close();
        left.map_err(Stop::Guest)
    };
    let (mut guest, mut taken) = (pin!(guest), pin!(take(told, form, stream)));
    let mut left = None;
    let answer = loop {
        tokio::select! {
            biased;
            ended = &mut guest, if left.is_none() => left = Some(ended),
            // What it had written before it ended is taken first.
            answer = &mut taken => break answer,
        }
    };
    match left {
        Some(Err(stop)) => Err(stop),
        Some(Ok(())) => answer,
        None => {
            let answer = answer?;
            guest.await?;
            Ok(answer)
        }
    }
}

/// Takes the response: as one answer; or in pieces where it asks for that, or is long or comes slowly and whoever asked did so by HTTP.
async fn take(told: oneshot::Receiver<Told>, form: Form, stream: Stream) -> Result<Bytes, Stop> {
    let response = match told.await {
        Ok(Ok(response)) => response,
        Ok(Err(code)) => return Err(own_error(&code).into()),
        Err(_) => return Err(failure::protocol("the component returned without a response").into()),
    };
    let (mut head, mut body) = response.into_parts();
    let asks = head.headers.remove(STREAM).is_some();
    let mut gathered = BytesMut::new();
    if form == Form::Plain && !asks {
        if !gather(&mut body, &mut gathered, limits::RESPONSE_BYTES).await? {
            return Err(failure::too_large(gathered.len()).into());
        }
        return Ok(http_event::whole(&head, gathered.freeze(), form)?);
    }
    if !asks && gather_soon(&mut body, &mut gathered).await? {
        return Ok(http_event::whole(&head, gathered.freeze(), form)?);
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
    tokio::time::timeout(GATHER, soon).await.unwrap_or(Ok(false))
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
