//! Published versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use model::api::{ErrorBody, FunctionView, Page, VersionView};
use model::error::{Code, Error};

use super::functions::refusal;
use super::{Answer, PageParams, created, function_answer, page, to_the_end, views};
use crate::App;
use crate::catalog::Precondition;
use crate::extract::{FunctionPath, Params};
use crate::openapi::{ChangeHeaders, FunctionParams, Refusals};

/// Published versions by number.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/versions", operation_id = "listVersions", tag = "versions",
    params(FunctionParams, PageParams),
    responses((status = 200, body = Page<VersionView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    Params(params): Params<PageParams>,
) -> Answer<Json<Page<VersionView>>> {
    let after = match &params.after {
        None => 0,
        Some(after) => after.parse().map_err(|_| {
            Error::caller(Code::InvalidParameter, "after is not valid: expected a version's number")
        })?,
    };
    let (versions, more) = app.catalog.versions(&key, after, params.limit()?).await?;
    let views = versions.iter().map(views::version).collect();
    Ok(page(views, more, |v: &VersionView| v.version.to_string()))
}

/// Publishes `$LATEST` as a numbered, immutable version.
///
/// An unchanged `$LATEST` gives the version that already has its content, with status 200.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/functions/{function}/versions", operation_id = "publishVersion", tag = "versions",
    params(FunctionParams, ChangeHeaders),
    responses(
        (status = 200, description = "it was published before", body = FunctionView),
        (status = 201, description = "published", body = FunctionView),
        (status = 412, description = "`conflict`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    precondition: Precondition,
) -> Answer<Response> {
    let own = app.clone();
    let change = async move { own.catalog.publish(&key, precondition).await };
    let published = to_the_end(&app, change).await.map_err(refusal(precondition))?;
    Ok(function_answer(created(published.created), app.view(published.function)))
}
