//! Function URLs: `/fn/{namespace}/{function}/…`. The hot path.
//!
//! A request becomes an event ([`event`]), the function's reply becomes the response ([`reply`]); in between is one call of the
//! engine. Nothing is locked on the way, and the body is copied once, into the event; or it goes beside the event as it comes ([`upload`]), where it is long and
//! the function takes it so. A connection that becomes a WebSocket leaves here ([`websocket`]).

mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod headers;
mod reply;
mod upload;
mod websocket;

pub(crate) use event::decoded_query;
pub(crate) use websocket::Tunnel;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{Reply, Stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Body;
use model::Result;
use model::api::{HEADER_FUNCTION_ERROR, HEADER_REQUEST_ID, HEADER_TIMINGS};
use model::error::{Code, Error};
use model::function::{FunctionSettings, UrlAuth};
use model::ids::{FunctionRef, RequestId};
use model::invocation::{Call, CallContext, Completed, Failure, FailureKind};
use model::stream::BodyStream;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::App;
use crate::body::{self, Limit};
use crate::control::invoke::{timings_value, trace, wants_timings};
use crate::error::{Refusal, request_id_value};
use crate::keyed;
use crate::parameters::RequestParameters;
use crate::pieces::Pieces;
use event::Event;
use websocket::Offer;

/// What every function URL starts with.
const PREFIX: &str = "/fn/";

/// The body of a response: whole, or in pieces.
pub(crate) type Answer = Either<Full<Bytes>, Pieces>;

/// A response, and what its connection becomes behind it: a WebSocket, if that is what was asked for and agreed to.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) response: Response<Answer>,
    pub(crate) tunnel: Option<Tunnel>,
}

impl From<Response<Answer>> for Served {
    fn from(response: Response<Answer>) -> Self {
        Self { response, tunnel: None }
    }
}

/// Whether a path is a function URL.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The operation's place in the OpenAPI document; the router never sees it.
#[derive(Debug, utoipa::OpenApi)]
#[openapi(paths(serve))]
pub(crate) struct Documented;

/// Calls a function by its URL: any method, any path behind the function's name.
///
/// The function gets the request as an HTTP event 2.0 and answers with `statusCode`, `headers`, `multiValueHeaders`, `cookies`, `body`,
/// `isBase64Encoded`; a reply without `statusCode` is answered as it stands. A function that answers in pieces is heard as it writes: status, headers and
/// cookies come first, and a body that breaks off, without its last chunk, is that of a function that failed on the way. A key is asked for unless the function's setting
/// `url_auth` is `none`.
#[utoipa::path(
    method(get, post, put, patch, delete, head, options),
    path = "/fn/{namespace}/{function}/{path}", operation_id = "callUrl", tag = "calls",
    params(
        ("namespace" = String, Path, description = "the namespace's name"),
        ("function" = String, Path, description = "the function's name, or `NAME:QUALIFIER`"),
        ("path" = String, Path, description = "anything, slashes included; may be absent"),
    ),
    responses(
        (status = 101, description = "a function of runtime `web` has agreed to a WebSocket"),
        (status = 408, description = "`request-timeout`", body = model::api::ErrorBody),
        (status = 413, description = "`payload-too-large`", body = model::api::ErrorBody),
        (status = 429, description = "`throttled`", body = model::api::ErrorBody),
        (status = 502, description = "the function failed, or its reply cannot be used"),
        (status = 504, description = "the function timed out"),
        crate::openapi::Refusals,
    ),
)]
pub(crate) async fn serve<B>(app: &App, peer: SocketAddr, request: Request<B>) -> Served
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Send
        + Unpin
        + 'static,
{
    let id = RequestId::generate();
    match call(app, peer, id, request).await {
        Ok(mut served) => {
            let headers = served.response.headers_mut();
            if !headers.contains_key(HEADER_REQUEST_ID) {
                headers.insert(HEADER_REQUEST_ID, request_id_value(id));
            }
            served
        }
        Err(error) => Refusal::from(error).render(id).map(Either::Left).into(),
    }
}

async fn call<B>(
    app: &App,
    peer: SocketAddr,
    id: RequestId,
    mut request: Request<B>,
) -> Result<Served>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Send
        + Unpin
        + 'static,
{
    let offered = websocket::is_asked(&request).then(|| Offer::new(&mut request));
    let (parts, body) = request.into_parts();
    let address = Address::parse(parts.uri.path())?;
    let (keyed, settings) = admit(app, &address.target, &parts.headers).await?;
    let parameters = RequestParameters::of_url(&parts, address.rest, peer.ip(), keyed);
    let event = Event {
        parts: &parts,
        raw_path: address.rest,
        target: &address.target,
        body: &[],
        id,
        peer: peer.ip(),
        now: app.clock.now(),
        hide_authorization: keyed,
    };
    let once = !settings.idempotency.is_default();
    let (call, offer) = take_in(app, event, (body, offered), &parameters, once).await?;
    let (mut served, timings) = match app.engine.invoke_in_pieces(call, &parameters).await? {
        Reply::Whole(completed) => {
            let (first, timings) = (completed.id, completed.timings);
            let mut response = whole(completed, first, app.config.dev);
            if first != id {
                keyed::say_replayed(response.headers_mut(), first);
            }
            (response.map(Either::Left).into(), timings)
        }
        Reply::Stream(stream) => {
            let timings = stream.timings;
            (in_pieces(*stream, offer, app.config.websocket_idle), timings)
        }
    };
    if wants_timings(&parts.headers)
        && let Some(value) = timings_value(&timings)
    {
        served.response.headers_mut().insert(HEADER_TIMINGS, value);
    }
    Ok(served)
}

/// The call of a request: with its body in the event, or beside it. The offer of a WebSocket is for a function that takes one; any other is asked as if it were none.
async fn take_in<B>(
    app: &App,
    event: Event<'_>,
    (body, offered): (B, Option<(Offer, BodyStream)>),
    parameters: &RequestParameters<'_>,
    once: bool,
) -> Result<(Call, Option<Offer>)>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Send
        + Unpin
        + 'static,
{
    let headers = &event.parts.headers;
    let context = CallContext { trace: trace(headers), ..CallContext::default() };
    let mut call =
        Call { id: event.id, target: event.target.clone(), payload: Bytes::new(), context };
    let timeout = app.config.body_timeout;
    // What decides whether it is another call's repetition is all of it.
    if offered.is_some() || !once && upload::is_long(&body) {
        call.payload = event.to_json()?;
        if app.engine.takes_body_stream(&call, parameters).await? {
            let (offer, beside) = match offered {
                Some((offer, beside)) => (Some(offer), beside),
                None => (None, upload::stream(body, timeout)),
            };
            call.context.body = Some(beside);
            return Ok((call, offer));
        }
    }
    let body = body::collect(headers, body, Limit::SYNC_PAYLOAD, timeout, &app.tasks).await?;
    if once {
        call.context.key = Some(keyed::of_url(event.parts, event.raw_path, &body));
    }
    call.payload = Event { body: &body, ..event }.to_json()?;
    if call.payload.len() > model::limits::SYNC_PAYLOAD_BYTES {
        return Err(Limit::SYNC_PAYLOAD.exceeded().with_hint(
            "the event carries the body as JSON: binary content grows by a third, text by its escapes",
        ));
    }
    Ok((call, None))
}

/// The response to a call that is over.
fn whole(completed: Completed, id: RequestId, dev: bool) -> Response<Full<Bytes>> {
    match completed.outcome.result {
        Ok(payload) => {
            let response = match &completed.prelude {
                None => reply::response(&payload),
                Some(said) => reply::prelude(said, false).map(|head| {
                    let bodiless = reply::is_bodiless(head.status());
                    head.map(|()| if bodiless { Full::default() } else { Full::new(payload) })
                }),
            };
            let response = response.unwrap_or_else(|what| bad_reply(&what, id));
            if let (Some(errors), true) = (&completed.errors, response.status().is_server_error()) {
                errors.count();
            }
            response
        }
        Err(failure) => failed(&failure, id, dev),
    }
}

/// The response to a call whose answer has begun. If its status and headers cannot be used, the pieces are dropped.
fn in_pieces(stream: Stream, offer: Option<Offer>, idle: Duration) -> Served {
    let mut response = match reply::prelude(&stream.prelude, offer.is_some()) {
        Ok(response) => response,
        Err(what) => return bad_reply(&what, stream.id).map(Either::Left).into(),
    };
    if reply::is_bodiless(response.status()) {
        let offer = offer.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
        let tunnel = offer.map(|offer| offer.agreed(&mut response, stream.parts, idle));
        return Served { response: response.map(|()| Either::Left(Full::default())), tunnel };
    }
    let errors = stream.errors.filter(|_| response.status().is_server_error());
    response.map(|()| Either::Right(Pieces::new(stream.parts, errors))).into()
}

/// What a function said before an answer in pieces, as a response; if that cannot be used, as if it had said nothing.
pub(crate) fn prelude(said: &[u8]) -> Response<()> {
    reply::prelude(said, false).unwrap_or_default()
}

/// Checks the key where the function's URL asks for one. Returns whether the request's authorization is the platform's business, and
/// the function must not see it; and what applies to the function.
async fn admit(
    app: &App,
    target: &FunctionRef,
    headers: &http::HeaderMap,
) -> Result<(bool, Arc<FunctionSettings>)> {
    let settings = match app.engine.settings(target) {
        Ok(settings) => settings,
        Err(error) => {
            // Without a key nobody learns which functions there are.
            if !app.config.dev && error.code() == Code::NotFound {
                app.keys.check(headers).await?.may_call(&target.key)?;
            }
            return Err(error);
        }
    };
    let keyed = !app.config.dev && settings.url_auth == UrlAuth::Key;
    if keyed {
        app.keys.check(headers).await?.may_call(&target.key)?;
    }
    Ok((keyed, settings))
}

/// A function URL's path, taken apart.
#[derive(Debug)]
struct Address<'a> {
    target: FunctionRef,
    /// What is behind the function's name, as it was sent; at least `/`.
    rest: &'a str,
}

impl<'a> Address<'a> {
    fn parse(path: &'a str) -> Result<Self> {
        let unknown = || {
            Error::caller(Code::NoRoute, format!("there is no route {path}"))
                .with_hint("a function URL is /fn/NAMESPACE/FUNCTION/…")
        };
        let path_of = path.strip_prefix(PREFIX).ok_or_else(unknown)?;
        let (namespace, behind) = path_of.split_once('/').ok_or_else(unknown)?;
        if behind.is_empty() {
            return Err(unknown());
        }
        let (function, rest) = match behind.find('/').and_then(|at| behind.split_at_checked(at)) {
            Some(split) => split,
            None => (behind, "/"),
        };
        let target = FunctionRef::parse(&decoded(namespace), &decoded(function))?;
        Ok(Self { target, rest })
    }
}

fn decoded(segment: &str) -> Cow<'_, str> {
    // What is no UTF-8 becomes U+FFFD, which no name may have.
    percent_decode_str(segment).decode_utf8_lossy()
}

/// The answer when the function failed. What it was is for the owner: outside dev mode strangers only learn the id.
fn failed(failure: &Failure, id: RequestId, dev: bool) -> Response<Full<Bytes>> {
    let timeout = matches!(failure.kind, FailureKind::Timeout | FailureKind::InitTimeout);
    let (status, message) = if timeout {
        (StatusCode::GATEWAY_TIMEOUT, "the function timed out")
    } else {
        (StatusCode::BAD_GATEWAY, "the function failed")
    };
    let mut body = json!({ "message": message, "requestId": id.to_string() });
    if dev
        && let (Some(body), Ok(error)) =
            (body.as_object_mut(), serde_json::from_slice(&failure.payload))
    {
        add_details(body, error);
    }
    let mut response = json_response(status, &body);
    let kind = HeaderValue::from_static(failure.kind.as_str());
    response.headers_mut().insert(HEADER_FUNCTION_ERROR, kind);
    response
}

fn add_details(body: &mut Map<String, Value>, mut error: Map<String, Value>) {
    for field in ["errorType", "errorMessage"] {
        if let Some(value) = error.remove(field) {
            body.insert(field.to_owned(), value);
        }
    }
    // Node.js says `trace`, Python `stackTrace`.
    if let Some(trace) = error.remove("trace").or_else(|| error.remove("stackTrace")) {
        body.insert("trace".to_owned(), trace);
    }
}

fn bad_reply(what: &str, id: RequestId) -> Response<Full<Bytes>> {
    let message = format!("the function's reply cannot be used: {what}");
    json_response(
        StatusCode::BAD_GATEWAY,
        &json!({ "message": message, "requestId": id.to_string() }),
    )
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        for (path, target, rest) in [
            ("/fn/default/hello", "default/hello:$LATEST", "/"),
            ("/fn/default/hello/", "default/hello:$LATEST", "/"),
            ("/fn/default/hello/a/b%20c", "default/hello:$LATEST", "/a/b%20c"),
            ("/fn/default/hello//", "default/hello:$LATEST", "//"),
            ("/fn/default/hello:3/x", "default/hello:3", "/x"),
            ("/fn/default/hello%3A%24LATEST/x", "default/hello:$LATEST", "/x"),
        ] {
            let address = Address::parse(path).unwrap();
            assert_eq!(address.target.to_string(), target, "{path}");
            assert_eq!(address.rest, rest, "{path}");
        }
        for path in ["/fn/", "/fn/default", "/fn/default/"] {
            assert_eq!(Address::parse(path).unwrap_err().code(), Code::NoRoute, "{path}");
        }
        for path in ["/fn//hello", "/fn/default/he%2Fllo", "/fn/default/%ff", "/fn/default/a:b:c"] {
            assert_eq!(Address::parse(path).unwrap_err().code(), Code::InvalidName, "{path}");
        }
    }

    async fn body(response: Response<Full<Bytes>>) -> Value {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn strangers_learn_nothing_of_a_failure() {
        let failure = Failure {
            kind: FailureKind::Handler,
            payload: r#"{"errorType":"E","errorMessage":"secret","stackTrace":["at x"],"more":1}"#
                .into(),
        };
        let id = RequestId::generate();
        let response = failed(&failure, id, false);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()[HEADER_FUNCTION_ERROR], "handler");
        assert_eq!(
            body(response).await,
            json!({"message": "the function failed", "requestId": id.to_string()})
        );

        let shown = body(failed(&failure, id, true)).await;
        assert_eq!(shown["errorMessage"], "secret");
        assert_eq!(shown["trace"], json!(["at x"]));
        assert_eq!(shown.get("more"), None);
    }

    #[tokio::test]
    async fn timeouts_are_gateway_timeouts() {
        let failure = Failure { kind: FailureKind::Timeout, payload: "no json".into() };
        let response = failed(&failure, RequestId::generate(), true);
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(body(response).await["message"], "the function timed out");
    }
}
