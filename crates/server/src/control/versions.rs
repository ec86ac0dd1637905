//! Published versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::api::{ErrorBody, FunctionView, Page, VersionDiff, VersionView};
use model::error::{Code, Error};
use model::ids::{FunctionRef, Qualifier, VersionRef};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, PageParams, created, function_answer, page, to_the_end, views};
use crate::App;
use crate::catalog::Intent;
use crate::extract::{FunctionPath, Params, VersionPath};
use crate::openapi::{ChangeHeaders, FunctionParams, Refusals, VersionParam};

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
    let after = number_after(&params)?;
    let (versions, more) = app.catalog.versions(&key, after, params.limit()?).await?;
    let views = versions.into_iter().map(views::version).collect();
    Ok(page(views, more, |v: &VersionView| v.version.to_string()))
}

/// The version that a page starts behind; 0 is none.
pub(super) fn number_after(params: &PageParams) -> Result<u64, Error> {
    params.after.as_ref().map_or(Ok(0), |after| {
        after.parse().map_err(|_| {
            Error::caller(Code::InvalidParameter, "after is not valid: expected a version's number")
        })
    })
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
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    intent: Intent,
) -> Answer<Response> {
    let put = to_the_end(&app, |app| async move { app.catalog.publish(&key, None, &intent).await })
        .await?;
    Ok(function_answer(created(put.published), app.view(put.function)))
}

/// One published version.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/versions/{version}", operation_id = "getVersion", tag = "versions",
    params(FunctionParams, VersionParam),
    responses((status = 200, body = FunctionView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    VersionPath(version): VersionPath,
) -> Answer<Response> {
    let target = FunctionRef { key, qualifier: Qualifier::Version(version) };
    Ok(function_answer(StatusCode::OK, app.view(app.catalog.function(&target).await?)))
}

/// Deletes a published version. Its number is not used again.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/functions/{function}/versions/{version}", operation_id = "deleteVersion", tag = "versions",
    params(FunctionParams, VersionParam, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 409, description = "`conflict`: an alias may lead to it", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: the function is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    VersionPath(version): VersionPath,
    intent: Intent,
) -> Answer<StatusCode> {
    to_the_end(&app, |app| async move { app.catalog.delete_version(&key, version, &intent).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Query parameters of a comparison.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffParams {
    /// A version's number, or `$LATEST`.
    #[param(value_type = String)]
    from: VersionRef,
    /// A version's number; absent: `$LATEST`.
    #[param(value_type = Option<String>)]
    to: Option<VersionRef>,
}

/// What differs between two versions: configuration, layers, files.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/diff", operation_id = "diffVersions", tag = "versions",
    params(FunctionParams, DiffParams),
    responses((status = 200, body = VersionDiff), Refusals),
)]
pub(crate) async fn diff(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    Params(params): Params<DiffParams>,
) -> Answer<Json<VersionDiff>> {
    let to = params.to.unwrap_or(VersionRef::Latest);
    Ok(Json(app.catalog.diff_versions(&key, params.from, to).await?))
}
