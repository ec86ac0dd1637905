//! The place of one call in an instance. The instance itself is one as well, and has others beside it ([`Instance::seat`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HeaderName;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind, Invocation, Outcome, StartTimings};
use model::limits;
use model::ports::{Instance, Later, Patience, Turn};
use model::stream::{BodyStream, StreamEnd, Taker};

use super::house::{House, InCall, response_too_large, timed_out, unanswered};
use crate::frame::FrameError;
use crate::http_event::{Asking, Form, prelude, request, whole};
use crate::process::flow::Flow;
use crate::process::life::{idle, micros};
use crate::web::{Connection, ERROR_TYPE, Piece, Sent, Unanswered, trailing_failure};

use super::websocket::{self, Closed, Socket};

/// Where events go that are no HTTP requests: the path that AWS Lambda Web Adapter has for them.
const EVENTS: &str = "/events";
/// Until when the call may run, in milliseconds since 1970.
const DEADLINE: HeaderName = HeaderName::from_static("x-hanshu-deadline-ms");
/// Longest answer that is handed on as one, in bytes, if all of it is there at once.
const WHOLE_BYTES: usize = 64 * 1024;

/// How long the news may take that a client is gone which has cut its body off.
const LEAVES_MOST: Duration = Duration::from_millis(100);

/// The place of one call.
#[derive(Debug)]
pub(super) struct WebInstance {
    house: Arc<House>,
    /// Whether it is one of several; the instance ends with the other one.
    seat: bool,
    call: Option<Handed>,
    thaw_us: u64,
}

/// The call that was handed over.
#[derive(Debug)]
struct Handed {
    invocation: Invocation,
    begun: Instant,
    /// Once its answer has begun to come in pieces.
    rest: Option<Rest>,
    in_call: InCall,
}

/// What comes behind the beginning of an answer.
#[derive(Debug)]
enum Rest {
    /// More of it.
    Flowing(Box<Flowing>),
    /// Whatever both sides say.
    Socket(Box<Socket>),
}

/// The rest of an answer.
#[derive(Debug)]
struct Flowing {
    connection: Connection,
    body: Incoming,
    /// What came with the head.
    first: Vec<Piece>,
    /// Whether it answers an event: the server goes on to its end, as functions do, whoever takes what it writes.
    is_event: bool,
}

/// How far an answer has come.
enum Answer {
    Whole(Bytes),
    Pieces { prelude: Bytes, rest: Rest },
}

/// How a call ends without an answer.
enum End {
    /// The server goes on.
    Failed(Failure),
    /// The processes have ended.
    Gone(Failure),
    /// It may have gone: what its connection said.
    Broken(String),
    /// The call has run over its deadline.
    Late,
    /// The answer is too large, and the server may be writing on.
    TooLarge(Failure),
}

impl WebInstance {
    pub(super) fn new(house: Arc<House>) -> Self {
        Self { house, seat: false, call: None, thaw_us: 0 }
    }

    /// The call is over.
    async fn over(&self, call: Handed, result: Result<Bytes, End>) -> Outcome {
        let Handed { invocation: Invocation { id, timeout, .. }, begun, in_call, .. } = call;
        let run_us = micros(begun, self.house.shared.clock.instant());
        // Before anything is decided: what was written before the answer belongs to this call.
        self.house.settle();
        let result = match result {
            Ok(answer) => Ok(answer),
            Err(end) => Err(self.failed(id, timeout, end).await),
        };
        let memory_peak_bytes = self.house.memory_peak_bytes();
        drop(in_call);
        Outcome { result, run_us, busy_us: None, memory_peak_bytes }
    }

    /// Lets a WebSocket's bytes pass, until it is closed. That it is open when the function's timeout is over is no failure: so it ends that is used to the last.
    async fn pass(
        &self,
        call: &Invocation,
        socket: Socket,
        handed: &mut Flow<'_>,
        deadline: Instant,
    ) -> Result<(), End> {
        let passing = self.house.beside(socket.pass(handed));
        match tokio::time::timeout_at(deadline.into(), passing).await {
            Ok(Closed::ByServer) => match self.house.closed_by_end().await {
                Some(end) => Err(End::Gone(end)),
                None => Ok(()),
            },
            Ok(Closed::ByClient) => Ok(()),
            Ok(Closed::TooLarge(error)) => Err(too_large(error)),
            Err(_) => {
                let seconds = call.timeout.as_secs_f64();
                let text = format!(
                    "the WebSocket was closed after {seconds:.2} seconds, the function's timeout"
                );
                self.house.say(call.id, text);
                Ok(())
            }
        }
    }

    async fn failed(&self, id: RequestId, timeout: Duration, end: End) -> Failure {
        let failure = match end {
            End::Failed(failure) => failure,
            // The log has it.
            End::Gone(failure) => return failure,
            End::Broken(what) => match self.house.broke_off().await {
                // The log has it.
                Some(end) => return end,
                None => unanswered(&what),
            },
            End::Late => {
                self.house.condemn().await;
                timed_out(timeout)
            }
            End::TooLarge(failure) => {
                self.house.condemn().await;
                failure
            }
        };
        self.house.note(id, &failure);
        failure
    }
}

const CUT_OFF: &str = r#"{"statusCode":400,"body":"{\"message\":\"the body was cut off\"}"}"#;
const TOO_SLOW: &str =
    r#"{"statusCode":408,"body":"{\"message\":\"the body did not arrive in time\"}"}"#;

/// What is answered in place of the server where the request's body has not come, which is no fault of the function's. Nobody may be there to read it.
fn clients_fault(body: Option<&BodyStream>, end: &End) -> Option<Bytes> {
    let body = body?;
    let reply = match end {
        End::Broken(_) if body.is_cut() => CUT_OFF,
        End::Late if body.is_awaited() => TOO_SLOW,
        _ => return None,
    };
    Some(Bytes::from_static(reply.as_bytes()))
}

/// The same once the answer has begun, which has to break off for whoever still takes it.
async fn clients_fault_behind(
    body: &BodyStream,
    end: End,
    handed: &Flow<'_>,
    timeout: Duration,
) -> Result<(), End> {
    match end {
        End::Broken(_) if body.is_cut() => {
            // A client that is gone takes no answer either; one ending may be heard of before the other.
            match tokio::time::timeout(LEAVES_MOST, handed.abandoned()).await {
                Ok(()) => Ok(()),
                Err(_) => Err(End::Failed(unanswered("the request's body was cut off"))),
            }
        }
        End::Late if body.is_awaited() => Err(End::Failed(timed_out(timeout))),
        end => Err(end),
    }
}

/// Sends the call's request and takes the beginning of its answer.
async fn exchange(house: &House, call: &Invocation, begun: Instant) -> Result<Answer, End> {
    let left = (begun + call.timeout).saturating_duration_since(house.shared.clock.instant());
    let asking = Asking {
        id: call.id,
        trace: call.context.trace.as_deref(),
        host: &house.host,
        path: EVENTS,
    };
    let asked = request(&call.payload, &asking).map_err(End::Failed)?;
    let stream = match &call.context.body {
        Some(body) => Some(body.take().ok_or_else(|| End::Broken("its body is gone".into()))?),
        None => None,
    };
    let is_event = asked.1 == Form::Plain;
    let is_socket = call.context.body.as_ref().is_some_and(BodyStream::is_behind_upgrade);
    let (stream, mut socket) = if is_socket { (None, stream) } else { (stream, None) };
    let mut request = asked.0.map(|whole| stream.map_or_else(|| whole.into(), Sent::Stream));
    if is_socket {
        websocket::ask(request.headers_mut());
    }
    request.headers_mut().insert(DEADLINE, house.shared.clock.now().after(left).0.into());
    let (mut connection, response) = send(house, request).await?;
    let (parts, mut body) = response.into_parts();
    if parts.status.is_informational() {
        let socket = socket.take().filter(|_| websocket::is_agreed(&parts));
        let Some(sent) = socket else {
            let what = "it switches protocols, which nobody asked for";
            return Err(End::Broken(format!("{what} ({})", parts.status)));
        };
        let prelude = prelude(&parts).map_err(End::Failed)?;
        let socket = Socket { switched: connection.switched().await, sent };
        return Ok(Answer::Pieces { prelude, rest: Rest::Socket(Box::new(socket)) });
    }
    let in_pieces = parts.status.is_success() && body.size_hint().exact().is_none();
    if is_event && in_pieces {
        let prelude = prelude(&parts).map_err(End::Failed)?;
        let flowing = Flowing { connection, body, first: Vec::new(), is_event };
        return Ok(Answer::Pieces { prelude, rest: Rest::Flowing(Box::new(flowing)) });
    }
    if is_event {
        let all = collect(&mut connection, &mut body).await?;
        house.keep(connection);
        return whole(&parts, all, asked.1).map(Answer::Whole).map_err(End::Failed);
    }
    let (first, ended) = what_is_there(&mut connection, &mut body).await?;
    if ended {
        house.keep(connection);
        let body = joined(first);
        return whole(&parts, body, asked.1).map(Answer::Whole).map_err(End::Failed);
    }
    let prelude = prelude(&parts).map_err(End::Failed)?;
    let flowing = Box::new(Flowing { connection, body, first, is_event });
    Ok(Answer::Pieces { prelude, rest: Rest::Flowing(flowing) })
}

/// What has come of an answer's body already, and whether that is all of it.
async fn what_is_there(
    connection: &mut Connection,
    body: &mut Incoming,
) -> Result<(Vec<Piece>, bool), End> {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while !body.is_end_stream() {
        match futures_util::FutureExt::now_or_never(connection.next(body)) {
            Some(Ok(Some(piece))) => {
                if let Piece::Bytes(some) = &piece {
                    bytes += some.len();
                }
                pieces.push(piece);
                if bytes > WHOLE_BYTES {
                    return Ok((pieces, false));
                }
            }
            Some(Ok(None)) => break,
            Some(Err(error)) => return Err(broken(&error)),
            None => return Ok((pieces, false)),
        }
    }
    Ok((pieces, true))
}

/// Sends a request: once more by a new connection if the one that was kept turns out to have ended, and it cannot have been seen or may be repeated.
async fn send(
    house: &House,
    request: Request<Sent>,
) -> Result<(Connection, Response<Incoming>), End> {
    let connection = match request.body() {
        Sent::Whole(_) => house.connection().await,
        // It cannot be sent again on another one.
        Sent::Stream(_) => house.fresh_connection().await.map(|fresh| (fresh, false)),
    };
    let (mut connection, used) = connection.map_err(|e| unconnected(&e))?;
    let copy = if used { Sent::again(&request) } else { None };
    let again = match connection.send(request).await {
        Ok(response) => return Ok((connection, response)),
        Err(Unanswered::NotSent(request)) => Some(*request),
        Err(Unanswered::Broken(error)) => {
            let answered = error.is_parse() || error.is_parse_too_large();
            let again = copy.filter(|_| !answered);
            if again.is_none() {
                return Err(broken(&error));
            }
            again
        }
    };
    drop(connection);
    let mut connection = house.new_connection().await.map_err(|e| unconnected(&e))?;
    let Some(request) = again else { return Err(End::Broken("it is not sent".into())) };
    match connection.send(request).await {
        Ok(response) => Ok((connection, response)),
        Err(Unanswered::NotSent(_)) => Err(End::Broken("it closed the connection".into())),
        Err(Unanswered::Broken(error)) => Err(broken(&error)),
    }
}

fn unconnected(error: &std::io::Error) -> End {
    End::Broken(format!("it takes no connection: {error}"))
}

fn broken(error: &hyper::Error) -> End {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    End::Broken(format!("{error}{}", cause.unwrap_or_default()))
}

fn joined(pieces: Vec<Piece>) -> Bytes {
    let bytes = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Bytes(bytes) => Some(bytes),
        Piece::Trailers(_) => None,
    });
    let pieces: Vec<Bytes> = bytes.collect();
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([piece]) => piece,
        Err(pieces) => pieces.concat().into(),
    }
}

/// All of a body, up to the limit of an answer.
async fn collect(connection: &mut Connection, body: &mut Incoming) -> Result<Bytes, End> {
    let mut all = Vec::new();
    while let Some(piece) = connection.next(body).await.map_err(|e| broken(&e))? {
        let Piece::Bytes(piece) = piece else { continue };
        let bytes = all.len() + piece.len();
        if bytes > limits::RESPONSE_BYTES {
            return Err(End::TooLarge(response_too_large(bytes, limits::RESPONSE_BYTES)));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}

/// Hands pieces on until the answer's end, or until nobody wants them any more: then the server finds its connection closed, as behind any proxy.
async fn flow(house: &House, flowing: Box<Flowing>, flow: &mut Flow<'_>) -> Result<(), End> {
    let Flowing { mut connection, mut body, first, is_event } = *flowing;
    let mut first = first.into_iter();
    loop {
        let room = flow.reserve().await;
        let next = match first.next() {
            Some(piece) => Some(piece),
            None => tokio::select! {
                biased;
                next = connection.next(&mut body) => next.map_err(|e| broken(&e))?,
                () = flow.abandoned(), if !is_event => return Ok(()),
            },
        };
        match next {
            Some(Piece::Bytes(piece)) => flow.take(piece, room).map_err(too_large)?,
            Some(Piece::Trailers(trailers)) if is_event => {
                if let Some(failure) = trailing_failure(&trailers) {
                    return Err(End::Failed(failure));
                }
            }
            Some(Piece::Trailers(_)) => {}
            None => break,
        }
    }
    house.keep(connection);
    Ok(())
}

fn too_large(error: FrameError) -> End {
    End::TooLarge(match error {
        FrameError::TooLarge { bytes, limit } => response_too_large(bytes, limit),
        error => Failure::new(FailureKind::Protocol, ERROR_TYPE, &error.to_string()),
    })
}

#[async_trait]
impl Instance for WebInstance {
    fn seat(&self) -> Option<Box<dyn Instance>> {
        let house = Arc::clone(&self.house);
        Some(Box::new(Self { house, seat: true, call: None, thaw_us: 0 }))
    }

    fn hand(&mut self, invocation: &Invocation) -> bool {
        if self.call.is_some() {
            return false;
        }
        let begun = self.house.shared.clock.instant();
        let Some((in_call, thaw_us)) = self.house.enter(invocation.id) else { return false };
        self.thaw_us = thaw_us;
        let invocation = invocation.clone();
        self.call = Some(Handed { invocation, begun, rest: None, in_call });
        true
    }

    fn take_back(&mut self) -> Vec<RequestId> {
        Vec::new()
    }

    async fn outcome(&mut self, _: Patience<'_>) -> Turn {
        let Some(mut call) = self.call.take() else { return Turn::Over(idle()) };
        let Handed { invocation, begun, .. } = &call;
        let deadline = *begun + invocation.timeout;
        let answer = self.house.beside(exchange(&self.house, invocation, *begun));
        let result = match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(Answer::Pieces { prelude, rest })) => {
                let run_us = micros(*begun, self.house.shared.clock.instant());
                call.rest = Some(rest);
                self.call = Some(call);
                return Turn::Streams { prelude, run_us };
            }
            Ok(Ok(Answer::Whole(reply))) => Ok(reply),
            Ok(Err(end)) => Err(end),
            Err(_) => Err(End::Late),
        };
        let body = call.invocation.context.body.as_ref();
        let result = result.or_else(|end| clients_fault(body, &end).ok_or(end));
        Turn::Over(self.over(call, result).await)
    }

    async fn stream(&mut self, taker: Taker<'_>) -> StreamEnd {
        let Some(mut call) = self.call.take() else {
            return StreamEnd { outcome: idle(), bytes: 0 };
        };
        let mut handed = Flow::new(taker);
        let deadline = call.begun + call.invocation.timeout;
        let ended = match call.rest.take() {
            Some(Rest::Flowing(flowing)) => {
                let flowing = self.house.beside(flow(&self.house, flowing, &mut handed));
                let ended = tokio::time::timeout_at(deadline.into(), flowing).await;
                let ended = ended.unwrap_or(Err(End::Late));
                match (ended, &call.invocation.context.body) {
                    (Err(end), Some(body)) => {
                        clients_fault_behind(body, end, &handed, call.invocation.timeout).await
                    }
                    (ended, _) => ended,
                }
            }
            Some(Rest::Socket(socket)) => {
                self.pass(&call.invocation, *socket, &mut handed, deadline).await
            }
            None => Ok(()),
        };
        let Flow { kept, bytes, .. } = handed;
        let outcome = self.over(call, ended.map(|()| kept.into())).await;
        StreamEnd { outcome, bytes }
    }

    fn alive(&self) -> bool {
        self.house.alive()
    }

    fn start_timings(&self) -> StartTimings {
        self.house.timings
    }

    fn freeze(&mut self) -> Option<Later> {
        self.house.freeze()
    }

    fn is_frozen(&self) -> bool {
        self.house.is_frozen()
    }

    fn thaw_us(&mut self) -> u64 {
        std::mem::take(&mut self.thaw_us)
    }

    async fn stop(self: Box<Self>) {
        if !self.seat {
            self.house.stop().await;
        }
    }
}
