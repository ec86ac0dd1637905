//! The daemon itself: its state, its runtimes, the description of its API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use model::api::{Health, Page};
use model::function::RuntimeInfo;
use model::isolation::ZYGOTE;

use crate::App;
use crate::openapi::{Refusals, openapi_json};

/// State of the daemon. Asks for no key.
#[utoipa::path(
    get, path = "/v1/health", operation_id = "health", tag = "daemon", security(()),
    responses((status = 200, body = Health), Refusals),
)]
pub(crate) async fn health(State(app): State<Arc<App>>) -> Json<Health> {
    let status = if app.draining.is_cancelled() { "draining" } else { "ok" };
    let starts = app.sandbox.starts();
    let mut isolation = app.config.isolation.clone();
    if !starts.not_forked.is_empty() {
        isolation.lose(ZYGOTE, starts.not_forked.join("; "));
    }
    Json(Health {
        status: status.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        runtimes: app.sandbox.runtimes(),
        dev: app.config.dev,
        isolation,
        starts,
        instances: app.engine.stats().instances,
    })
}

/// This document. Asks for no key.
#[utoipa::path(
    get, path = "/v1/openapi.json", operation_id = "openapi", tag = "daemon", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value), Refusals),
)]
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi_json())
}

/// The runtimes that functions can name here.
#[utoipa::path(
    get, path = "/v1/runtimes", operation_id = "listRuntimes", tag = "daemon",
    responses((status = 200, body = Page<RuntimeInfo>), Refusals),
)]
pub(crate) async fn runtimes(State(app): State<Arc<App>>) -> Json<Page<RuntimeInfo>> {
    Json(Page { items: app.sandbox.runtimes(), next: None })
}
