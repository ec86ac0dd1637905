//! Functions: their records and configurations.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::api::{ErrorBody, FunctionView, Page, PatchConfig, PutFunction, RollbackFunction};

use super::{Answer, ForceParams, PageParams, created, function_answer, to_the_end, views};
use crate::App;
use crate::catalog::{FunctionAt, Intent};
use crate::extract::{FunctionPath, JsonBody, NamespacePath, Params, QualifierParam, TargetPath};
use crate::openapi::{ChangeHeaders, FunctionParams, Refusals};

impl App {
    /// What the API shows of a function.
    pub(super) fn view(&self, mut at: FunctionAt) -> FunctionView {
        at.version.config.resolve_memory(self.engine.host_memory_mb());
        views::function(at, &self.config.public_url)
    }
}

/// Functions of a namespace by name, at `$LATEST`.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions", operation_id = "listFunctions", tag = "functions",
    params(("namespace" = String, Path, description = "the namespace's name"), PageParams),
    responses((status = 200, body = Page<FunctionView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    NamespacePath(namespace): NamespacePath,
    Params(params): Params<PageParams>,
) -> Answer<Json<Page<FunctionView>>> {
    let (functions, next) =
        app.catalog.functions(&namespace, params.after.as_deref(), params.limit()?).await?;
    let items = functions.into_iter().map(|at| app.view(at)).collect();
    Ok(Json(Page { items, next }))
}

/// Creates a function, or replaces code, configuration and settings of an existing one in one step.
///
/// Repeating it changes nothing. With `publish` the answer shows the published version.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/functions/{function}", operation_id = "putFunction", tag = "functions",
    params(FunctionParams, ChangeHeaders),
    request_body = PutFunction,
    responses(
        (status = 200, description = "replaced", body = FunctionView),
        (status = 201, description = "created", body = FunctionView),
        (status = 409, description = "`already-exists`, or `conflict` with the namespace's deletion", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        (status = 422, description = "`init-failed`: the function is in use and what calls would reach cannot be loaded; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    intent: Intent,
    JsonBody(put): JsonBody<PutFunction>,
) -> Answer<Response> {
    let put = to_the_end(&app, |app| async move {
        Box::pin(app.catalog.put_function(&key, put, &intent)).await
    })
    .await?;
    Ok(function_answer(created(put.created), app.view(put.function)))
}

/// One function, at `$LATEST` or another version; at an alias, the first of its versions. The path may also say `NAME:QUALIFIER`.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}", operation_id = "getFunction", tag = "functions",
    params(FunctionParams, QualifierParam),
    responses((status = 200, body = FunctionView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    TargetPath(target): TargetPath,
) -> Answer<Response> {
    let at = app.catalog.function(&target).await?;
    Ok(function_answer(StatusCode::OK, app.view(at)))
}

/// Deletes a function with its versions, aliases and logs. Its history stays.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/functions/{function}", operation_id = "deleteFunction", tag = "functions",
    params(FunctionParams, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    intent: Intent,
) -> Answer<StatusCode> {
    to_the_end(&app, |app| async move { app.catalog.delete_function(&key, &intent).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes some fields of a function's configuration and settings.
#[utoipa::path(
    patch, path = "/v1/namespaces/{namespace}/functions/{function}/config", operation_id = "patchConfig", tag = "functions",
    params(FunctionParams, ChangeHeaders, ForceParams),
    request_body = PatchConfig,
    responses(
        (status = 200, body = FunctionView),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        (status = 422, description = "`init-failed`: the function is in use and what calls would reach cannot be loaded; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    intent: Intent,
    Params(forced): Params<ForceParams>,
    JsonBody(patch): JsonBody<PatchConfig>,
) -> Answer<Response> {
    let intent = intent.forced(forced.force);
    let put =
        to_the_end(
            &app,
            |app| async move { app.catalog.patch_config(&key, &patch, &intent).await },
        )
        .await?;
    Ok(function_answer(StatusCode::OK, app.view(put.function)))
}

/// Brings `$LATEST` back to what a published version is: its code, configuration and layers, as one new revision.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/functions/{function}/rollback", operation_id = "rollbackFunction", tag = "functions",
    params(FunctionParams, ChangeHeaders, ForceParams),
    request_body = RollbackFunction,
    responses(
        (status = 200, body = FunctionView),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        (status = 422, description = "`init-failed`: the function is in use and what calls would reach cannot be loaded; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    intent: Intent,
    Params(forced): Params<ForceParams>,
    JsonBody(to): JsonBody<RollbackFunction>,
) -> Answer<Response> {
    let intent = intent.forced(forced.force);
    let put = to_the_end(&app, |app| async move {
        app.catalog.rollback_function(&key, to.version, &intent).await
    })
    .await?;
    Ok(function_answer(StatusCode::OK, app.view(put.function)))
}
