//! The REST API under `/v1`: one file a resource. A handler reads the request, asks the catalogue or the engine, and words the answer.

pub(crate) mod aliases;
pub(crate) mod calls;
pub(crate) mod code;
pub(crate) mod daemon;
pub(crate) mod dead_letters;
pub(crate) mod functions;
pub(crate) mod history;
pub(crate) mod invoke;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod logs;
pub(crate) mod maps;
pub(crate) mod namespaces;
pub(crate) mod packages;
pub(crate) mod provisioned;
pub(crate) mod tail;
pub(crate) mod usage;
pub(crate) mod versions;
mod views;

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::api::{FunctionView, Page};
use model::error::Error;
use model::limits;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::App;
use crate::error::Refusal;
use crate::extract;

/// What a handler answers.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// Query parameters of a listing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// Start behind this entry: `next` of the page before.
    after: Option<String>,
    /// Most entries on the page: 1 to 1 000, which is also what an absent limit means.
    limit: Option<usize>,
}

impl PageParams {
    fn limit(&self) -> Result<usize, Error> {
        extract::limit(self.limit, limits::PAGE_ENTRIES, limits::PAGE_ENTRIES)
    }
}

/// Query parameters of a change that calls may feel.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForceParams {
    /// Make the change even if what calls would reach cannot be loaded.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Runs a change to its end, also if the client goes away half-way and its connection's work is dropped: the steps belong together.
pub(crate) async fn to_the_end<T, F>(
    app: &Arc<App>,
    change: impl FnOnce(Arc<App>) -> F,
) -> model::Result<T>
where
    F: Future<Output = model::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    app.tasks.spawn("change", change(Arc::clone(app))).await.map_err(Error::internal)?
}

/// A page whose entries are called by `name`.
fn page<T>(items: Vec<T>, more: bool, name: impl Fn(&T) -> String) -> Json<Page<T>> {
    let next = if more { items.last().map(name) } else { None };
    Json(Page { items, next })
}

/// A function as an answer.
fn function_answer(status: StatusCode, view: FunctionView) -> Response {
    revised(status, view.revision, view)
}

/// A thing with a revision as an answer: the revision is the entity tag, so that it can be sent back as `If-Match`.
fn revised<T: Serialize>(status: StatusCode, revision: u64, view: T) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{revision}\""));
    let mut response = (status, Json(view)).into_response();
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// 201 for what is new, 200 for what was there.
fn created(new: bool) -> StatusCode {
    if new { StatusCode::CREATED } else { StatusCode::OK }
}
