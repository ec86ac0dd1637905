//! The whole URL map.
//!
//! | path | methods | |
//! |---|---|---|
//! | `/v1/health` | GET | no key |
//! | `/v1/openapi.json` | GET | no key |
//! | `/v1/runtimes` | GET | |
//! | `/v1/namespaces` | GET POST | |
//! | `/v1/namespaces/{namespace}` | GET DELETE | |
//! | `…/packages` | POST | |
//! | `…/functions` | GET | |
//! | `…/functions/{function}` | PUT GET DELETE | |
//! | `…/functions/{function}/code` | PUT GET | |
//! | `…/functions/{function}/config` | PATCH | |
//! | `…/functions/{function}/versions` | POST GET | |
//! | `…/functions/{function}/invoke` | POST | |
//! | `…/functions/{function}/logs` | GET | |
//! | `…/functions/{function}/usage` | GET | |
//! | `/fn/{namespace}/{function}/…` | any | [`gateway`], before this router: the hot path |

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, body::Body};
use http::{Method, StatusCode, header};
use model::api::HEADER_REQUEST_ID;
use model::error::{Code, Error};
use model::ids::RequestId;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::auth;
use crate::control::{
    code, daemon, functions, invoke, logs, namespaces, packages, usage, versions,
};
use crate::error::{Refusal, Refused, request_id_value};
use crate::gateway;
use crate::openapi;

type Api = OpenApiRouter<Arc<App>>;

/// Routes that ask for no key.
fn open() -> Api {
    Api::default().routes(routes!(daemon::health)).routes(routes!(daemon::openapi))
}

/// Routes that ask for a key outside dev mode.
fn keyed() -> Api {
    Api::default()
        .routes(routes!(daemon::runtimes))
        .routes(routes!(namespaces::list, namespaces::create))
        .routes(routes!(namespaces::get, namespaces::delete))
        .routes(routes!(packages::upload))
        .routes(routes!(functions::list))
        .routes(routes!(functions::put, functions::get, functions::delete))
        .routes(routes!(code::put, code::get))
        .routes(routes!(functions::patch))
        .routes(routes!(versions::publish, versions::list))
        .routes(routes!(invoke::invoke))
        .routes(routes!(logs::get))
        .routes(routes!(usage::get))
}

/// The document of all routes.
pub(crate) fn documented() -> OpenApi {
    let mut document = openapi::head();
    document.merge(open().into_openapi());
    document.merge(keyed().into_openapi());
    document.merge(gateway::Documented::openapi());
    document
}

/// The router of everything under `/v1`, and of what no route has.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let (open, _) = open().split_for_parts();
    let (keyed, _) = keyed().split_for_parts();
    let keyed = keyed.route_layer(middleware::from_fn_with_state(app.clone(), authenticate));
    open.merge(keyed).fallback(no_route).layer(middleware::from_fn(edge)).with_state(app.clone())
}

async fn authenticate(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if app.config.dev {
        auth::check_local(request.headers())?;
    } else {
        app.keys.check(request.headers()).await?;
    }
    Ok(next.run(request).await)
}

async fn no_route(request: Request) -> Refusal {
    let (method, path) = (request.method(), request.uri().path());
    Error::caller(Code::NoRoute, format!("there is no route {method} {path}"))
        .with_hint("GET /v1/openapi.json lists the routes")
        .into()
}

/// The outermost layer: gives the request its id, and words every refusal with it.
async fn edge(mut request: Request, next: Next) -> Response {
    let id = RequestId::generate();
    request.extensions_mut().insert(id);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = method_not_allowed(&method, &path, &response);
    }
    if let Some(Refused(refusal)) = response.extensions_mut().remove::<Refused>() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = refusal.render(id).map(Body::new);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    if !response.headers().contains_key(HEADER_REQUEST_ID) {
        response.headers_mut().insert(HEADER_REQUEST_ID, request_id_value(id));
    }
    response
}

/// The router's bare 405, with a body like every other refusal.
fn method_not_allowed(method: &Method, path: &str, bare: &Response) -> Response {
    let allow = bare.headers().get(header::ALLOW);
    let methods = allow.and_then(|a| a.to_str().ok()).unwrap_or_default();
    let message = format!("there is no route {method} {path}: expected {methods}");
    let mut response =
        Refusal::method_not_allowed(Error::caller(Code::NoRoute, message)).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    response
}
