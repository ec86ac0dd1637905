//! Which endpoint a request is for.

use http::Method;
use hyper::Request;
use hyper::body::Incoming;

use super::answers::{Reply, not_found, reply, wrong_method};
use super::desk::Desk;
use super::extensions::{self, Phase};
use super::{error, init_error, next, response, telemetry};

/// Answers a request.
pub(super) async fn route(desk: &Desk, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let endpoint = match parts.as_slice() {
        ["2018-06-01", "ping"] => Endpoint::Ping,
        ["2018-06-01", "runtime", "init", "error"] => Endpoint::InitError,
        ["2018-06-01", "runtime", "invocation", "next"] => Endpoint::Next,
        ["2018-06-01", "runtime", "invocation", id, "response"] => Endpoint::Response(id),
        ["2018-06-01", "runtime", "invocation", id, "error"] => Endpoint::Error(id),
        ["2020-01-01", "extension", "register"] => Endpoint::Register,
        ["2020-01-01", "extension", "event", "next"] => Endpoint::NextEvent,
        ["2020-01-01", "extension", "init", "error"] => Endpoint::Extension(Phase::InitError),
        ["2020-01-01", "extension", "exit", "error"] => Endpoint::Extension(Phase::ExitError),
        ["2022-07-01", "telemetry"] => Endpoint::Telemetry,
        ["2020-08-15", "logs"] => Endpoint::Logs,
        _ => return not_found(),
    };
    if request.method() != endpoint.method() {
        return wrong_method();
    }
    match endpoint {
        Endpoint::Ping => {
            let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
            reply(http::StatusCode::OK, text, &b"pong"[..])
        }
        Endpoint::InitError => init_error::handle(desk, request).await,
        Endpoint::Next => next::handle(desk).await,
        Endpoint::Response(id) => response::handle(desk, id, request).await,
        Endpoint::Error(id) => error::handle(desk, id, request).await,
        Endpoint::Register => extensions::register::handle(desk, request).await,
        Endpoint::NextEvent => extensions::event::handle(desk, request.headers()).await,
        Endpoint::Extension(to) => extensions::failure::handle(desk, to, request).await,
        Endpoint::Telemetry => telemetry::telemetry(),
        Endpoint::Logs => telemetry::logs(),
    }
}

/// What there is.
#[derive(Clone, Copy, Debug)]
enum Endpoint<'a> {
    Ping,
    InitError,
    Next,
    Response(&'a str),
    Error(&'a str),
    Register,
    NextEvent,
    /// It cannot go on.
    Extension(Phase),
    Telemetry,
    Logs,
}

impl Endpoint<'_> {
    fn method(self) -> Method {
        match self {
            Self::Ping | Self::Next | Self::NextEvent => Method::GET,
            Self::InitError | Self::Response(_) | Self::Error(_) => Method::POST,
            Self::Register | Self::Extension(_) => Method::POST,
            Self::Telemetry | Self::Logs => Method::PUT,
        }
    }
}
