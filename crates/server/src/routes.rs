//! The whole URL map.
//!
//! | path | methods | |
//! |---|---|---|
//! | `/v1/health` | GET | no key |
//! | `/v1/openapi.json` | GET | no key |
//! | `/v1/runtimes` | GET | |
//! | `/v1/keys` | GET POST | a key that opens everything, as for the next |
//! | `/v1/keys/{key}` | DELETE | |
//! | `/v1/namespaces` | GET POST | |
//! | `/v1/namespaces/{namespace}` | GET PATCH DELETE | |
//! | `…/history`, `…/history/{revision}` | GET | |
//! | `…/packages` | POST | |
//! | `…/layers` | GET | |
//! | `…/layers/{layer}` | GET DELETE | |
//! | `…/layers/{layer}/versions` | POST GET | |
//! | `…/layers/{layer}/versions/{version}` | GET DELETE | |
//! | `…/layers/{layer}/versions/{version}/code` | GET | |
//! | `…/layers/{layer}/aliases/{alias}` | PUT DELETE | |
//! | `…/layers/{layer}/history`, `…/history/{revision}` | GET | |
//! | `…/functions` | GET | |
//! | `…/functions/{function}` | PUT GET DELETE | |
//! | `…/functions/{function}/code` | PUT GET | |
//! | `…/functions/{function}/config` | PATCH | |
//! | `…/functions/{function}/rollback` | POST | |
//! | `…/functions/{function}/versions` | POST GET | |
//! | `…/functions/{function}/versions/{version}` | GET DELETE | |
//! | `…/functions/{function}/diff` | GET | |
//! | `…/functions/{function}/history`, `…/history/{revision}` | GET | |
//! | `…/functions/{function}/aliases` | GET | |
//! | `…/functions/{function}/aliases/{alias}` | PUT GET DELETE | |
//! | `…/aliases/{alias}/rollback`, `…/resolve` | POST | |
//! | `…/aliases/{alias}/shift` | PUT DELETE | |
//! | `…/aliases/{alias}/shadow` | PUT GET DELETE | |
//! | `…/functions/{function}/provisioned` | GET | |
//! | `…/functions/{function}/provisioned/{qualifier}` | PUT GET DELETE | |
//! | `…/functions/{function}/invoke` | POST | |
//! | `…/calls` | GET | |
//! | `…/calls/{call}` | GET DELETE | |
//! | `…/calls/{call}/cancel`, `…/redrive` | POST | |
//! | `…/dead-letters/redrive`, `…/purge` | POST | |
//! | `…/maps` | POST GET | |
//! | `…/maps/{map}` | GET DELETE | |
//! | `…/maps/{map}/cancel` | POST | |
//! | `…/maps/{map}/results` | GET | |
//! | `…/functions/{function}/logs` | GET | |
//! | `…/functions/{function}/usage` | GET | |
//! | `/2015-03-31/functions/…` and other dates | as AWS Lambda has them | [`crate::lambda`], before this router |
//! | `/fn/{namespace}/{function}/…` | any | [`gateway`], before this router: the hot path |

use std::sync::Arc;

use axum::extract::{RawPathParams, Request, State};
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
use crate::auth::{self, Caller};
use crate::control::{
    aliases, calls, code, daemon, dead_letters, functions, history, invoke, keys, layers, logs,
    maps, namespaces, packages, provisioned, usage, versions,
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
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::delete))
        .routes(routes!(namespaces::list, namespaces::create))
        .routes(routes!(namespaces::get, namespaces::patch, namespaces::delete))
        .routes(routes!(history::of_namespace))
        .routes(routes!(history::one_of_namespace))
        .routes(routes!(packages::upload))
        .routes(routes!(layers::list))
        .routes(routes!(layers::get, layers::delete))
        .routes(routes!(layers::publish, layers::versions))
        .routes(routes!(layers::version, layers::delete_version))
        .routes(routes!(layers::code))
        .routes(routes!(layers::put_alias, layers::delete_alias))
        .routes(routes!(history::of_layer))
        .routes(routes!(history::one_of_layer))
        .routes(routes!(functions::list))
        .routes(routes!(functions::put, functions::get, functions::delete))
        .routes(routes!(code::put, code::get))
        .routes(routes!(functions::patch))
        .routes(routes!(functions::rollback))
        .routes(routes!(versions::publish, versions::list))
        .routes(routes!(versions::get, versions::delete))
        .routes(routes!(versions::diff))
        .routes(routes!(history::of_function))
        .routes(routes!(history::one_of_function))
        .routes(routes!(aliases::list))
        .routes(routes!(aliases::put, aliases::get, aliases::delete))
        .routes(routes!(aliases::rollback))
        .routes(routes!(aliases::resolve))
        .routes(routes!(aliases::shift, aliases::stop_shift))
        .routes(routes!(aliases::shadow, aliases::shadow_report, aliases::stop_shadow))
        .routes(routes!(provisioned::list))
        .routes(routes!(provisioned::put, provisioned::get, provisioned::delete))
        .routes(routes!(invoke::invoke))
        .routes(routes!(calls::list))
        .routes(routes!(calls::get, calls::delete))
        .routes(routes!(calls::cancel))
        .routes(routes!(calls::redrive))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(dead_letters::purge))
        .routes(routes!(maps::start, maps::list))
        .routes(routes!(maps::get, maps::delete))
        .routes(routes!(maps::cancel))
        .routes(routes!(maps::results))
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

/// Finds out whose key the request shows. What lies in a namespace that the key does not open is not there.
async fn authenticate(
    State(app): State<Arc<App>>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let caller = if app.config.dev {
        auth::check_local(request.headers())?;
        Caller::dev()
    } else {
        app.keys.check(request.headers()).await?
    };
    if let Some((_, namespace)) = params.iter().find(|(name, _)| *name == "namespace") {
        caller.may_see(&namespace.parse()?)?;
    }
    request.extensions_mut().insert(caller);
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
